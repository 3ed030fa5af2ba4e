// Passes over one Block, in place. All keep the guest-visible state at every instruction that may fault or call out exact.
#pragma once
#include "ir/guest_desc.h"

namespace kiln::ir {

/// The standard pipeline: forward slots (get_reg after set_reg/get_reg), fold constants and copies, lower flags
/// (cond of flags_sub becomes icmp …), drop dead values, dead set_reg and set_flags. Linear in the block's size.
void optimise(Block& block);

void forward_slots(Block& block);
void fold(Block& block);
void lower_flags(Block& block);
void drop_dead(Block& block);

}  // namespace kiln::ir
