// `-M virt`: a generic arm64 machine that exists in no hardware; guests find everything by its device tree.
#pragma once
#include "devices/boards/board.h"

namespace kiln::devices {

/// The interrupt inputs and outputs of its processors, by number.
namespace virt_cpu {
enum Input : unsigned { Irq = 0, Fiq = 1, VirtualIrq = 2, VirtualFiq = 3 };
enum Output : unsigned { TimerPhysical = 0, TimerVirtual = 1, TimerHypervisor = 2, TimerSecure = 3, Pmu = 4 };
/// The affinity value (MPIDR_EL1) of vCPU `index`: softmmu must give it to the processor, the device tree names it.
constexpr u64 affinity(unsigned index) { return (index & 15) | (index >> 4) << 8; }
}  // namespace virt_cpu

/// Maps everything into services.bus and loads what `options` name. An error is one line for the user. Machine options:
/// gic-version=2|3, psci=hvc|smc|none (what firmware the processors give; default hvc).
Result<std::unique_ptr<Board>> make_virt(const BoardServices& services, const BoardOptions& options);

}  // namespace kiln::devices
