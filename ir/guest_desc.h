// GuestDesc: everything ir/ and jit/ know about a guest. A guest is this data plus a lifter.
#pragma once
#include <span>
#include <string>

#include "ir/block.h"

namespace kiln::ir {

/// A register slot in the guest state. A slot is read and written whole, always as `type`.
struct Slot {
  const char* name;  // the manual's name
  u32 offset;        // from the start of CpuState
  Type type;         // I32, I64 or V128
};

/// Where the lifter reads guest code.
class CodeSource {
 public:
  virtual ~CodeSource() = default;
  /// Copies up to `size` executable bytes at `pc` to `out`; returns how many (0: not executable).
  virtual std::size_t fetch(GuestAddr pc, u8* out, std::size_t size) = 0;
};

struct LiftLimits {
  unsigned max_insns = 64;
};

struct SystemDesc;

struct GuestDesc {
  const char* name;               // "aarch64"
  bool big_endian;
  unsigned pointer_bits;          // 32 or 64
  unsigned insn_alignment;        // bytes
  std::size_t state_size;         // bytes, CpuState included
  std::span<const Slot> slots;
  u64 nzcv_mask;                  // reserved for other flag layouts; 0 = N Z C V
  const char* llvm_triple;        // for disassembly in logs
  const char* llvm_features;

  /// Sets the state to the architecture's reset values for user mode.
  void (*reset)(CpuState* state);
  /// Recomputes state->mode from system registers.
  u32 (*mode_of)(const CpuState* state);
  /// Lifts one block at pc under `mode` into `out` (cleared first). Blocks do not cross a 4 KiB page. When nothing can be
  /// fetched at pc, the block is a single exit_exception(FetchFault). Undefined words become exit_exception(Undefined).
  void (*lift)(CodeSource& code, GuestAddr pc, u32 mode, const LiftLimits& limits, Block& out);
  /// Register dump, several lines, for logs and crash reports.
  std::string (*dump)(const CpuState* state);
  /// Stores to code are seen by the next instruction fetched, without notice (x86). False: the guest must say so (A64's IC IVAU).
  bool coherent_icache = false;
  /// Not 0: the bits of an address that count, for loads, stores and fetches (A64: top byte ignored). Helpers that access guest memory
  /// (effects READS_MEM or WRITES_MEM, and MAY_FAULT) then take the address as their first argument.
  u64 address_mask = 0;
  /// What the processor of a whole machine adds; null for guests of user mode.
  const SystemDesc* system = nullptr;
};

}  // namespace kiln::ir
