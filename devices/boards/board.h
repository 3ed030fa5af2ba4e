// A board: which devices a machine has, where, and on which interrupts; what softmmu gives it and asks of it.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "devices/block/block_backend.h"
#include "devices/bus/clock.h"
#include "devices/bus/dma.h"
#include "devices/bus/event_loop.h"
#include "devices/bus/irq.h"
#include "devices/bus/mmio.h"
#include "devices/bus/state.h"
#include "devices/char/char_backend.h"
#include "devices/net/net_backend.h"
#include "ir/support/result.h"

namespace kiln::devices {

/// The interrupt inputs of one vCPU, in the order of its frontend. On arm64: IRQ, FIQ, virtual IRQ, virtual FIQ.
struct CpuLines {
  std::vector<IrqLine*> inputs;
};

/// What surrounds a board. All of it outlives the board.
struct BoardServices {
  MemoryBus& bus;
  DmaPort& dma;
  Clock& clock;
  EventLoop& loop;
  std::vector<CpuLines> cpus;  // one entry a vCPU
  /// A device asks for this (never returns to a half-done state: softmmu does it later, outside of the device).
  enum class Request : u8 { PowerOff, Reset };
  std::function<void(Request)> request;
  /// One line about a guest's mistake or something that is not there (-d guest_errors,unimp). May be empty.
  std::function<void(const std::string&)> guest_error;
};

/// `-device MODEL,key=value,…`, and what boards make of other options (-drive if=virtio, -nic).
struct DeviceOption {
  std::string model;
  std::map<std::string, std::string> properties;
};

/// `-drive if=pflash` or -bios: content of a flash bank.
struct FlashOption {
  std::string file;
  bool read_only = true;  // else what the guest programs is written to the file
};

/// Back-ends by id, owned by the caller, alive as long as the board.
struct BackEnds {
  std::map<std::string, BlockBackend*> drives;
  std::map<std::string, NetBackend*> nets;
  std::map<std::string, CharBackend*> chars;
};

/// What the user asked for.
struct BoardOptions {
  u64 ram_bytes = 0;
  std::string cpu_model;                          // as in -cpu; names the processor in the device tree
  std::map<std::string, std::string> machine;     // -M virt,KEY=VALUE
  std::string kernel, initrd, append, dtb, bios;  // file names, "" if not given; append is text
  std::string dump_dtb;                           // -M dumpdtb=FILE
  std::vector<CharBackend*> serial;               // -serial, in order; nullptr: none
  std::vector<FlashOption> flash;                 // -drive if=pflash, in order; an empty file name: an empty bank
  std::vector<DeviceOption> devices;
  BackEnds back_ends;
};

/// Where the first vCPU begins after a reset, and what its first argument registers hold. The others wait for start_cpu.
struct CpuStart {
  u64 entry = 0;
  u64 arguments[4] = {};
};

/// All calls with the machine lock held.
class Board : public Stateful {
 public:
  /// Power-on or system_reset: resets all devices and puts kernel, initrd and device tree into memory again.
  virtual CpuStart reset() = 0;
  /// VcpuPort::device_register: a processor's system register that a device owns. False: there is none.
  virtual bool cpu_register(unsigned cpu, u32 number, bool write, u64& value) = 0;
  /// VcpuPort::set_output: an output of a processor (timers).
  virtual void cpu_output(unsigned cpu, unsigned line, bool level) = 0;
  /// system_powerdown: asks the guest to shut down.
  virtual void power_button() = 0;
  /// The monitor's `info qtree`: a line a device, indented.
  virtual std::string describe() const = 0;
};

}  // namespace kiln::devices
