// Guest accesses in LLVM: how an access carries the guest state at it from the IR to the fault table.
//
// In the IR an access is a volatile load or store in address space 256 (%gs) with a stackmap call before it, whose operands are
// the dirty slots. After instruction selection FuseAccesses makes one PATCHPOINT of the two: the only instruction whose
// operands the register allocator may leave wherever they are, and which nothing moves. After everything else RestoreAccesses
// turns it back into the selected instruction and notes where the operands ended up. So an access costs no cold code, no block
// of its own and no move.
#pragma once
#include <llvm/CodeGen/MachineOperand.h>
#include <llvm/Pass.h>

#include <string>
#include <vector>

#include "jit/llvm/tier2.h"

namespace kiln::jit {

struct FaultSlot {
  u32 offset;
  ir::Type type;
};

struct FaultSites {
  /// An access as lowered; its index is the stackmap's id. The stackmap's operands are the values of `slots`.
  struct Site {
    GuestAddr pc;
    std::vector<FaultSlot> slots;
  };
  /// An access as selected: what the PATCHPOINT must become again.
  struct Selected {
    unsigned site;
    unsigned opcode;
    llvm::SmallVector<llvm::MachineOperand, 8> operands;  // registers that were virtual are placeholders
  };
  /// An access as emitted, at symbol kFaultSymbol + index.
  struct Emitted {
    GuestAddr pc;
    std::vector<FaultValue> values;
  };
  std::vector<Site> sites;
  std::vector<Selected> selected;
  std::vector<Emitted> emitted;
  std::string failure;
};
inline constexpr unsigned kGuestSpace = 256;  // LLVM's address space for %gs
inline constexpr const char* kFaultSymbol = "kiln_access_";

/// Both are machine-function passes; `sites` must outlive them.
llvm::Pass* create_fuse_accesses(FaultSites& sites);
llvm::Pass* create_restore_accesses(FaultSites& sites);

}  // namespace kiln::jit
