use std::collections::BTreeMap;
use std::thread;
fn main() {
    let handles: Vec<_> = (0..4u64).map(|i| thread::spawn(move || (0..100000u64).fold(i, |a, x| a.wrapping_mul(31).wrapping_add(x)))).collect();
    let map: BTreeMap<usize, u64> = handles.into_iter().enumerate().map(|(i, h)| (i, h.join().unwrap())).collect();
    println!("Hello from rust {:?}", map);
    let caught = std::panic::catch_unwind(|| { let v: Vec<i32> = Vec::new(); v[std::env::args().count()] });
    println!("{}", caught.is_err());
}
