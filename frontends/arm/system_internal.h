// What the files of the system level share among themselves.
#pragma once
#include <span>

#include "frontends/arm/system.h"
#include "frontends/arm/system_state.h"
#include "ir/guest_desc.h"

namespace kiln::arm {

/// What follows a write of a register.
enum class After : u8 {
  Nothing,
  Context,  // mode word or address space may have changed (the write function says so to the machine): the block ends
};

/// A row of the table. A register is read and written in its slot, inline, unless it has functions of its own.
struct SystemRegister {
  const char* name;
  u32 encoding;          // register_number()
  u8 read_el, write_el;  // least exception level that may; kNever
  u32 offset = 0;        // slot in A64SystemState; 0: none
  struct Behaviour {
    u64 mask = ~u64{0};  // bits that writes change
    u64 reset = 0;
    u64 (*read)(A64SystemState&, u32 access) = nullptr;
    void (*write)(A64SystemState&, u64 value, u32 access) = nullptr;
    After after = After::Nothing;
  } does{};
};
inline constexpr u8 kNever = 4;
/// What a register's functions are told: its encoding, and the general register of the instruction from bit 16.
constexpr u32 register_access(u32 encoding, u32 rt) { return encoding | rt << 16; }

std::span<const SystemRegister> system_registers();
/// Null: no such register.
const SystemRegister* find_register(u32 encoding);
/// Is it a register of the GIC's CPU interface?
bool is_device_register(u32 encoding);
void reset_registers(A64SystemState& s);
std::span<const SystemRegister> core_registers();
std::span<const SystemRegister> debug_registers();
std::span<const SystemRegister> timer_registers();

/// The trap of an MRS or MSR, as EC 0x18 says it.
u32 register_trap(u32 access, bool read);
/// Of a helper: leaves with the exception.
[[noreturn]] void raise_register_trap(A64SystemState& s, u32 access, bool read);
[[noreturn]] void raise_undefined(A64SystemState& s);
/// "write of S3_0_C15_C2_1", once each.
void report_unknown_register(A64SystemState& s, u32 encoding, bool read);

u32 system_mode(const A64SystemState& s, u32 mxcsr);
bool debug_exceptions_enabled(const A64SystemState& s);
void renew_timers(A64SystemState& s);
// TLBs hold the pages of one ASID beside the global ones, EL0's and EL1's each of their own: a kernel that changes the ASID at
// each of its doors (page-table isolation) finds its pages again. EL0's are dropped when it is entered with another ASID, EL1's
// with the first access that it makes.
u64 current_asid(const A64SystemState& s);
void use_user_asid(A64SystemState& s);
void use_kernel_asid(A64SystemState& s);
/// TTBR0_EL1 or TTBR1_EL1 or TCR_EL1 has been written.
void address_space_written(A64SystemState& s);
void ttbr0_written(A64SystemState& s);
inline constexpr u64 kHcrRegisterTraps =
    u64{1} << 26 | u64{1} << 30 | 1 << 18 | 1 << 20 | 1 << 21 | 1 << 16 | 1 << 15 | 1 << 17;

// SystemDesc
bool translate(ir::CpuState*, ir::PhysicalMemory&, GuestAddr, ir::Access, unsigned mmu_index, ir::Translation&);
void bus_error(ir::CpuState*, GuestAddr, ir::Access, bool misaligned);
void enter_exception(ir::CpuState*, ir::ExitKind);
bool take_interrupt(ir::CpuState*);
bool wakes(const ir::CpuState*, u32 inputs);

/// CpuState::exit_aux of a memory fault: ISS of an abort, with these bits beside.
inline constexpr u32 kAuxFault = 1u << 31;   // always
inline constexpr u32 kAuxStage2 = 1u << 30;  // goes to EL2
inline constexpr u32 kIssWrite = 1 << 6, kIssStage1Walk = 1 << 7, kIssCache = 1 << 8;
/// Fault status codes, without a level.
enum FaultStatus : u32 {
  kAddressSize = 0x00,
  kTranslationFault = 0x04,
  kAccessFlag = 0x08,
  kPermission = 0x0c,
  kExternalAbort = 0x10,
  kExternalAbortOnWalk = 0x14,
  kAlignmentFault = 0x21,
  kDebugEvent = 0x22,
};

/// What a walk finds. `status` is 0x3f: no fault.
struct Walk {
  ir::Translation to;
  u32 status = 0x3f;  // fault status code with its level
  bool stage2 = false, on_walk = false;
  u64 ipa = 0;        // stage 2 faults
  u8 attributes = 0;  // MAIR's byte, 0 device
  u8 shareability = 0;
  bool ok() const { return status == 0x3f; }
};
/// Stage 1 of `el`'s regime for an access from `el` (0..3), then stage 2 if `both` (and EL2 has switched it on).
Walk walk(A64SystemState& s, ir::PhysicalMemory& memory, GuestAddr address, ir::Access access, unsigned el, bool pan,
          bool both = true);
/// Does the top byte of an address mean nothing to accesses from `el`?
bool tag_ignored(const A64SystemState& s, GuestAddr address, unsigned el);

// Called from lifted code (lift_privileged.cpp); each is a helper there.
GuestAddr take_supervisor_call(ir::CpuState*, u64 immediate);
GuestAddr exception_return(ir::CpuState*);
void enter(A64SystemState& s, unsigned target_el, u32 offset, GuestAddr return_to);
u64 pstate_of(const A64SystemState& s);
/// PSCI. False: x0 names no function of it.
bool psci_call(A64SystemState& s);

}  // namespace kiln::arm
