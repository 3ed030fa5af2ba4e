// Atomics and fences. The old value comes back in t, zero-extended.
#include "jit/stencil/stencils/frame.h"

namespace kiln::stencil::source {

template <int K>
using Access = std::conditional_t<K == 0, u8, std::conditional_t<K == 1, u16, std::conditional_t<K == 2, u32, u64>>>;

template <ir::RmwKind R, class T>
T combine(T old, T b) {
  using S = std::make_signed_t<T>;
  switch (R) {
    case ir::RmwKind::And: return old & b;
    case ir::RmwKind::AndNot: return old & static_cast<T>(~b);
    case ir::RmwKind::Or: return old | b;
    case ir::RmwKind::Xor: return old ^ b;
    case ir::RmwKind::SMax: return static_cast<S>(old) > static_cast<S>(b) ? old : b;
    case ir::RmwKind::SMin: return static_cast<S>(old) < static_cast<S>(b) ? old : b;
    case ir::RmwKind::UMax: return old > b ? old : b;
    default: return old < b ? old : b;
  }
}
struct rmw {
  template <int R, int K, int A, int B> static void run(Frame& f) {
    using T = Access<K>;
    constexpr auto kind = static_cast<ir::RmwKind>(R);
    auto* p = reinterpret_cast<T __seg_gs*>(f.r[A]);
    const T b = static_cast<T>(f.r[B]);
    T old;
    if constexpr (kind == ir::RmwKind::Add) {
      old = __atomic_fetch_add(p, b, __ATOMIC_SEQ_CST);
    } else if constexpr (kind == ir::RmwKind::Swap) {
      old = __atomic_exchange_n(p, b, __ATOMIC_SEQ_CST);
    } else {
      old = *p;
      bool done;
      do {  // asm: the compiler would keep `old` in a second register
        asm volatile("lock cmpxchg %2,%%gs:(%3)" : "=@ccz"(done), "+a"(old) : "r"(combine<kind, T>(old, b)), "r"(f.r[A]) : "memory");
      } while (!done);
    }
    f.t = old;
  }
};
FAMILY(rmw, 10, 4, 10, 10)

// t: expected in, old out.
struct cas {
  template <int K, int A, int B> static void run(Frame& f) {
    using T = Access<K>;
    auto* p = reinterpret_cast<T __seg_gs*>(f.r[A]);
    T old = static_cast<T>(f.t);
    __atomic_compare_exchange_n(p, &old, static_cast<T>(f.r[B]), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    f.t = old;
  }
};
FAMILY(cas, 4, 10, 10)

struct mfence { template <int...> static void run(Frame&) { asm volatile("lock orl $0,-8(%%rsp)" : : : "memory"); } };
FAMILY(mfence)

}  // namespace kiln::stencil::source
