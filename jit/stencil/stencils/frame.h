// What every stencil source includes: the register frame, the holes, and the machinery that instantiates a stencil for
// every combination of cache registers.
//
// A stencil is `struct name { template <int... I> static void run(Frame& f); };` plus a line FAMILY(name, dims...) that makes
// one function per index tuple and a table of their addresses called kiln_family_name, in row-major order. The generator
// (../generate.cpp) follows that table's relocations. A struct may have `static constexpr bool valid(I...)` to leave tuples out.
//
// Stencils whose name begins with cmp/test/bt leave the host's flags for the next one (jcc, cmov, setcc, …): machine code is
// contiguous once stitched, and the stitcher puts only flag-preserving stencils in between.
#pragma once
#include <immintrin.h>

#include <array>
#include <utility>

#include "ir/cpu_state.h"

namespace kiln::stencil {

using ir::CpuState;
using V = __m128i;
#define KILN_PN __attribute__((preserve_none))

struct Frame {
  CpuState* st;
  u64 r[10];
  u64 t;
  V v[8];
};

#define KILN_SIGNATURE                                                                                                   \
  CpuState *st, u64 r0, u64 r1, u64 r2, u64 r3, u64 r4, u64 r5, u64 r6, u64 r7, u64 r8, u64 r9, u64 t, V v0, V v1, V v2, \
      V v3, V v4, V v5, V v6, V v7
#define KILN_PASS                                                                                                         \
  f.st, f.r[0], f.r[1], f.r[2], f.r[3], f.r[4], f.r[5], f.r[6], f.r[7], f.r[8], f.r[9], f.t, f.v[0], f.v[1], f.v[2], f.v[3], \
      f.v[4], f.v[5], f.v[6], f.v[7]

extern "C" {
KILN_PN void HOLE_NEXT(KILN_SIGNATURE);
KILN_PN void HOLE_TAKEN(KILN_SIGNATURE);
KILN_PN void HOLE_COLD(KILN_SIGNATURE);
// 32-bit holes (displacements, sign-extended immediates), one byte hole, 64-bit hole (inline asm movabs only).
extern char HOLE_A[], HOLE_B[], HOLE_8[], HOLE_64[];
}

/// A stencil with cold() instead of run() goes to the out-of-line continuation where that gives true.
template <class S, int... I>
KILN_PN void stencil(KILN_SIGNATURE) {
  Frame f{st, {r0, r1, r2, r3, r4, r5, r6, r7, r8, r9}, t, {v0, v1, v2, v3, v4, v5, v6, v7}};
  if constexpr (requires { S::template cold<I...>(f); }) {
    if (S::template cold<I...>(f)) [[unlikely]]
      __attribute__((musttail)) return HOLE_COLD(KILN_PASS);
  } else {
    S::template run<I...>(f);
  }
  // `using kills_t`: t carries nothing across the stencil, rax is one more scratch register.
  if constexpr (requires { typename S::kills_t; }) asm volatile("" : "=a"(f.t));
  __attribute__((musttail)) return HOLE_NEXT(KILN_PASS);
}

using Function = KILN_PN void (*)(KILN_SIGNATURE);

template <class S, int... I>
consteval Function address() {
  if constexpr (requires { S::valid(I...); }) {
    if constexpr (!S::valid(I...)) return nullptr;
    else return &stencil<S, I...>;
  } else {
    return &stencil<S, I...>;
  }
}

template <class S, std::size_t... N>
consteval auto table0(std::index_sequence<N...>) {
  return std::array<Function, 1>{address<S>()};
}
template <class S, int D0, std::size_t... N>
consteval auto table1(std::index_sequence<N...>) {
  return std::array<Function, sizeof...(N)>{address<S, int(N)>()...};
}
template <class S, int D0, int D1, std::size_t... N>
consteval auto table2(std::index_sequence<N...>) {
  return std::array<Function, sizeof...(N)>{address<S, int(N / D1), int(N % D1)>()...};
}
template <class S, int D0, int D1, int D2, std::size_t... N>
consteval auto table3(std::index_sequence<N...>) {
  return std::array<Function, sizeof...(N)>{address<S, int(N / (D1 * D2)), int(N / D2 % D1), int(N % D2)>()...};
}
template <class S, int D0, int D1, int D2, int D3, std::size_t... N>
consteval auto table4(std::index_sequence<N...>) {
  return std::array<Function, sizeof...(N)>{
      address<S, int(N / (D1 * D2 * D3)), int(N / (D2 * D3) % D1), int(N / D3 % D2), int(N % D3)>()...};
}
template <class S, int... D>
consteval auto family() {
  using Count = std::make_index_sequence<(1 * ... * D)>;
  if constexpr (sizeof...(D) == 0) return table0<S>(Count{});
  else if constexpr (sizeof...(D) == 1) return table1<S, D...>(Count{});
  else if constexpr (sizeof...(D) == 2) return table2<S, D...>(Count{});
  else if constexpr (sizeof...(D) == 3) return table3<S, D...>(Count{});
  else return table4<S, D...>(Count{});
}

#define FAMILY(name, ...) \
  extern "C" __attribute__((used)) const auto kiln_family_##name = kiln::stencil::family<name __VA_OPT__(, ) __VA_ARGS__>();

/// Width index of integer stencils: 0 = 32 bits, 1 = 64.
template <int W>
using Int = std::conditional_t<W == 0, u32, u64>;
template <int W>
using SInt = std::conditional_t<W == 0, s32, s64>;

template <class T>
T& at(CpuState* st) {
  return *reinterpret_cast<T*>(reinterpret_cast<char*>(st) + reinterpret_cast<u64>(HOLE_A));
}

}  // namespace kiln::stencil
