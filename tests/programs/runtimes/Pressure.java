// Threads that allocate, lock, throw and hit null checks while the collector runs: safepoint polls, implicit null checks, monitors, deoptimisation.
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;

public class Pressure {
  static final Object lock = new Object();
  static int shared;
  static final class Node { Node next; int[] data; Node(Node n, int k) { next = n; data = new int[k]; data[k - 1] = k; } }

  static long work(int seed, AtomicInteger nulls) {
    Random random = new Random(seed);
    long sum = 0;
    Node list = null;
    Map<String, Integer> map = new HashMap<>();
    for (int i = 0; i < 30000; i++) {
      list = new Node(i % 500 == 0 ? null : list, 1 + random.nextInt(200));
      map.merge("k" + random.nextInt(1000), 1, Integer::sum);
      if (i % 100 == 0) synchronized (lock) { shared++; }
      try {
        Node n = i % 1000 == 7 ? null : list;
        sum += n.data[n.data.length - 1];
      } catch (NullPointerException e) { nulls.incrementAndGet(); }
    }
    for (int v : map.values()) sum += (long) v * v;
    for (Node n = list; n != null; n = n.next) sum += n.data.length;
    return sum;
  }

  public static void main(String[] arguments) throws Exception {
    ExecutorService pool = Executors.newFixedThreadPool(8);
    AtomicInteger nulls = new AtomicInteger();
    List<Future<Long>> futures = new ArrayList<>();
    for (int t = 0; t < 16; t++) { final int seed = t; futures.add(pool.submit(() -> work(seed, nulls))); }
    long total = 0;
    for (Future<Long> f : futures) total = total * 31 + f.get();
    pool.shutdown();
    System.out.println(total + " " + nulls + " " + shared + " " + pool.awaitTermination(10, TimeUnit.SECONDS));
    long parallel = java.util.stream.LongStream.range(0, 2000000).parallel().map(x -> x * x % 7).sum();
    System.out.println(parallel);
    try { recurse(0); } catch (StackOverflowError e) { System.out.println("stack overflow"); }
  }
  static int recurse(int n) { return recurse(n + 1) + 1; }
}
