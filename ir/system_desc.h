// SystemDesc: what a guest's frontend tells softmmu about the processor of a whole machine; VcpuPort: what system instructions ask of the
// machine around the processor. Both are called on the vCPU's own thread, VcpuPort from helpers as well.
#pragma once
#include <span>
#include <string>

#include "ir/cpu_state.h"

namespace kiln::ir {

enum class Access : u8 { Load, Store, Fetch };

/// Guest-physical memory as page-table walks see it: naturally aligned accesses of 4 or 8 bytes, little-endian values.
class PhysicalMemory {
 public:
  virtual ~PhysicalMemory() = default;
  /// False: nothing answers at that address.
  virtual bool load(u64 physical, unsigned bytes, u64& value) = 0;
  /// Writes `desired` if memory still holds `expected`. False: it does not, or nothing can be written there.
  virtual bool compare_exchange(u64 physical, unsigned bytes, u64 expected, u64 desired) = 0;
};

/// Where a virtual page leads, for one MMU index.
struct Translation {
  u64 physical = 0;          // of the address that was asked for
  u64 page_bytes = 4096;     // size of the naturally aligned piece around it with the same answer, 4096 or more
  bool readable = false, writable = false, executable = false;  // as an access would find it now: writable only once the page is marked dirty
  bool global = false;       // the same in every address space
  bool device = false;       // the guest forbids unaligned and speculative accesses
};

/// Which translations a TLB maintenance instruction or a change of a translation register makes invalid.
struct TlbFlush {
  /// Space: nothing was invalidated, but translations of pages that are not global were those of another address space, which space_of()
  /// tells from the present one. They may come back (a return to that space), so they are not to be found, but what is kept by space_of() is
  /// still right.
  enum class Scope : u8 { All, NonGlobal, Page, Space };
  Scope scope = Scope::All;
  GuestAddr address = 0;     // Page
  u64 bytes = 4096;          // Page: from `address`
  u32 indices = ~u32{0};     // Space: of these MMU indices alone
};

class VcpuPort {
 public:
  virtual ~VcpuPort() = default;
  /// On this vCPU at once; `broadcast`: on all others before the next barrier completes.
  virtual void flush_tlb(const TlbFlush& flush, bool broadcast) = 0;
  /// The mode word or the address space (SystemDesc::space_of) may have changed: recomputes state->jump_key. The block must end with
  /// an indirect exit of hint NewMode.
  virtual void space_changed() = 0;
  /// Reads or writes a system register that a device owns (GIC CPU interface, timers if the machine keeps them); `number` is the
  /// frontend's encoding. False: there is none, the instruction is undefined.
  virtual bool device_register(u32 number, bool write, u64& value) = 0;
  /// The machine's clock in nanoseconds, as guests may see it (stands still while the machine is stopped).
  virtual u64 clock_ns() = 0;
  /// Wakes the vCPU (interrupt set, pending lines re-examined) when clock_ns() reaches `when`; ~0: never. One alarm, the last call counts.
  virtual void set_alarm(u64 when_ns) = 0;
  /// An output line of the processor to the interrupt controller (timers): `line` is the frontend's number.
  virtual void set_output(unsigned line, bool level) = 0;
  /// Interrupt inputs that are asserted now: a bit set of the frontend's InterruptInput numbers.
  virtual u32 inputs() = 0;
  /// Stops the vCPU until an input is asserted or the alarm goes off (WFI, HLT). Takes effect when the helper has left.
  virtual void halt() = 0;
  enum class Power : u8 { Off, Reset };
  virtual void power(Power request) = 0;
  /// Starts vCPU `target` (by its affinity value) at a physical address (SystemDesc::reset, then `context` as its first argument); an
  /// error number of PSCI, 0 for success.
  virtual int start_cpu(u64 target, GuestAddr entry, u64 context) = 0;
  /// Switches this vCPU off until another one starts it. Takes effect when the helper or exception() has left.
  virtual void stop_cpu() = 0;
  /// PSCI AFFINITY_INFO of a vCPU: 0 on, 1 off, 2 starting; below 0: there is none.
  virtual int cpu_status(u64 target) = 0;
  /// Guest-physical memory, for instructions that walk page tables themselves (AT, cache maintenance).
  virtual PhysicalMemory& memory() = 0;
  /// One line for -d guest_errors,unimp: the guest used what is not there. Callers say each thing once.
  virtual void guest_error(const std::string& text) = 0;
};
/// The port of a vCPU: CpuState::user_data in a full system.
inline VcpuPort& port(CpuState* state) { return *static_cast<VcpuPort*>(state->user_data); }

struct SystemDesc {
  /// Power-on reset at `entry`.
  void (*reset)(CpuState* state, GuestAddr entry);
  /// After reset(): what a loader or start_cpu() hands over in the first argument registers.
  void (*set_arguments)(CpuState* state, std::span<const u64> values);
  /// Translates `address` (as the access named it, tag bits included) for an access under `mmu_index`. False: fault; then exit_kind,
  /// exit_value (the address) and exit_aux (the frontend's syndrome) are set for exception().
  bool (*translate)(CpuState* state, PhysicalMemory& memory, GuestAddr address, Access access, unsigned mmu_index, Translation& out);
  /// An access that was translated found nothing at its physical address (external abort, machine check), or may not be unaligned
  /// there: sets exit_kind, exit_value and exit_aux.
  void (*bus_error)(CpuState* state, GuestAddr address, Access access, bool misaligned);
  /// MMU index of fetches in the current state.
  unsigned (*fetch_index)(const CpuState* state);
  /// Identity of what (pc, mode) means in the state: equal values, equal translation of fetches until a flush. Any 64 bits.
  u64 (*space_of)(const CpuState* state);
  /// The same for data accesses, whatever their MMU index: equal values, equal translations until a flush (but of Scope::Space).
  u64 (*data_space_of)(const CpuState* state);
  /// run() left with `kind`; exit_value and exit_aux say more. Enters the guest's handler: pc, state and mode are changed (and
  /// space_changed() called). FetchFault: the reason is found by another walk, unless bus_error() said it; if that walk succeeds,
  /// nothing is changed and the fetch is to be tried again.
  void (*exception)(CpuState* state, ExitKind kind);
  /// Inputs changed, or something unmasked them: enters the handler of the most urgent one that may be taken. False: none may.
  /// To be called whenever run() leaves with ExitKind::Interrupt: lifted code leaves so, too, when it unmasks an input that this
  /// function has seen masked.
  bool (*interrupt)(CpuState* state);
  /// Would an asserted input end WFI now (masked ones too, where the architecture says so)?
  bool (*wakes)(const CpuState* state, u32 inputs);
  /// The alarm went off: timers are to be looked at.
  void (*alarm)(CpuState* state);
};

}  // namespace kiln::ir
