// What the engine must know of the host machine: entering generated code, its exits, stubs, ucontext. One file per host.
#pragma once
#include <string>

#include "ir/cpu_state.h"

namespace kiln::jit::host {

/// Runs generated code on `state` until it leaves.
void enter_code(ir::CpuState* state, HostAddr code);
/// Runs a C++ function as if it were a helper of generated code: a memory fault inside it leaves it without unwinding.
void call_in_code(ir::CpuState* state, void (*function)(ir::CpuState*, const void*), const void* argument);
HostAddr leave_address();
HostAddr fault_leave_address();   // like leave, with the stack pointer taken from CpuState::host_sp
HostAddr lookup_miss_address();
/// See RuntimeEntries.
HostAddr leave_chain_address();
HostAddr leave_hot_address();
HostAddr leave_poll_address();
/// Like lookup_miss, but asks kiln_find_code() first and goes there without leaving.
HostAddr lookup_quick_address();
/// The engine's: code for the state's pc and mode, or 0. Called from generated code, so it takes no lock and does not fault.
extern "C" HostAddr kiln_find_code(ir::CpuState* state);

/// Bytes of a self-chaining exit stub and where things stand in it.
inline constexpr std::size_t kExitStubBytes = 80;
inline constexpr std::size_t kExitStubPatch = 4;   // offset of the 4-byte displacement to patch (aligned)
/// Writes the stub for a direct exit: a patchable jump that at first falls into code setting pc, Chain and the exit id.
void write_exit_stub(u8* out, HostAddr executable, GuestAddr target, u64 exit_id);
/// Full system: a stub that looks `target` up in the jump cache, under the state's jump_key, and asks at `miss` (pc is set then).
void write_probe_stub(u8* out, HostAddr executable, GuestAddr target, HostAddr miss);
inline constexpr std::size_t kExitStubSlow = 8;    // where the unchained path begins

/// Atomically replaces a rel32 displacement whose field is at `field` (executable address) so that it leads to `target`.
void patch_displacement(u8* writable, HostAddr field, HostAddr target);
bool reachable(HostAddr field, HostAddr target);
/// Atomically turns the 8-byte aligned 5-byte nop at a block's start into a jump, and back.
void patch_entry_jump(u8* writable, HostAddr entry, HostAddr target);
void patch_entry_nop(u8* writable);

/// Says which processor this is, as far as generated code may depend on it.
std::string processor_identity();

/// The registers that hold cached values at a fault in tier-1 code.
struct FaultRegisters {
  HostAddr pc;
  u64 integer[10];
  u64 temporary;   // rax
  V128 vector[8];
};
HostAddr fault_pc(const void* ucontext);
void save_registers(const void* ucontext, FaultRegisters& out);
/// Makes the thread continue at `pc` with the state register set when the signal handler returns.
void resume_at(void* ucontext, HostAddr pc, ir::CpuState* state);

}  // namespace kiln::jit::host
