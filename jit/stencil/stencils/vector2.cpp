// Lane-wise vector stencils of two operands: A = A op B.
#include "ir/semantics_vector.h"
#include "jit/stencil/stencils/frame.h"

namespace kiln::stencil::source {

template <int N>
using Lane = std::conditional_t<N == 0, u8, std::conditional_t<N == 1, u16, std::conditional_t<N == 2, u32, u64>>>;

#define BINARY(name)                                                                                                          \
  struct name { template <int L, int A, int B> static void run(Frame& f) { f.v[A] = ir::op_##name<Lane<L>>(f.v[A], f.v[B]); } }; \
  FAMILY(name, 4, 8, 8)
BINARY(v_add)
BINARY(v_sub)
BINARY(v_mul)
BINARY(v_cmpeq)
BINARY(v_cmpgt_s)
BINARY(v_cmpge_s)
BINARY(v_cmpgt_u)
BINARY(v_cmpge_u)
BINARY(v_min_s)
BINARY(v_max_s)
BINARY(v_min_u)
BINARY(v_max_u)
BINARY(v_zip_lo)
BINARY(v_zip_hi)
BINARY(v_uzp_even)
BINARY(v_uzp_odd)
BINARY(v_trn_even)
BINARY(v_trn_odd)

}  // namespace kiln::stencil::source
