// Flags records whose kind is known at run time only, for generated code on an x86-64 host: the host's own flags or an image, by
// a jump on the kind, in a few nanoseconds. What ir::flags_value() and cond_holds() say in C++.
#pragma once
#include "ir/cpu_state.h"

namespace kiln::ir {

extern "C" {
/// For tier 1: the record of the state in r12 as the host's flags, CF ZF SF OF PF = C Z N V P. Changes rax, rbx and r10 only.
void kiln_flags_thunk();
/// For tier 1: the record's image in eax. Changes rax, rbx and r10 only.
void kiln_image_thunk();
/// The record's image, for callers that take it for a preserve_all function: changes rax, r11 and the host's flags only.
u32 kiln_image_of(u32 kind, u64 a, u64 b);
}

}  // namespace kiln::ir
