// PSCI 1.0 as firmware would answer it (Arm DEN 0022), when the board has none of its own: see PsciConduit.
#include "frontends/arm/system.h"
#include "frontends/arm/system_internal.h"

namespace kiln::arm {

namespace {

enum Function : u32 {  // without the bit that says "64-bit arguments"
  kVersion = 0x84000000,
  kCpuSuspend = 0x84000001,
  kCpuOff = 0x84000002,
  kCpuOn = 0x84000003,
  kAffinityInfo = 0x84000004,
  kMigrateInfoType = 0x84000006,
  kSystemOff = 0x84000008,
  kSystemReset = 0x84000009,
  kFeatures = 0x8400000a,
};
constexpr u32 kWide = 1u << 30;
constexpr u64 kSuccess = 0, kNotSupported = ~u64{0}, kInvalidParameters = ~u64{1};

bool known(u32 function) {
  switch (function & ~kWide) {
    case kCpuSuspend:
    case kCpuOn:
    case kAffinityInfo: return true;
    case kVersion:
    case kCpuOff:
    case kMigrateInfoType:
    case kSystemOff:
    case kSystemReset:
    case kFeatures: return !(function & kWide);
    default: return false;
  }
}

}  // namespace

bool psci_call(A64SystemState& s) {
  const u32 function = static_cast<u32>(s.x[0]);
  if (!known(function)) return false;
  const u64 narrow = function & kWide ? ~u64{0} : mask_low(32);
  const u64 a = s.x[1] & narrow, b = s.x[2] & narrow, c = s.x[3] & narrow;
  ir::VcpuPort& port = ir::port(&s);
  switch (function & ~kWide) {
    case kVersion: s.x[0] = 0x10000; break;
    case kCpuSuspend:  // every state is a standby that keeps the context
      s.x[0] = kSuccess;
      port.halt();
      break;
    case kCpuOff: port.stop_cpu(); break;
    case kCpuOn: s.x[0] = b & 3 ? kInvalidParameters : static_cast<u64>(static_cast<s64>(port.start_cpu(a, b, c))); break;
    case kAffinityInfo: {
      const int status = b == 0 ? port.cpu_status(a) : -1;
      s.x[0] = status < 0 ? kInvalidParameters : static_cast<u64>(status);
      break;
    }
    case kMigrateInfoType: s.x[0] = 2; break;  // no trusted system that would have to move
    case kSystemOff: port.power(ir::VcpuPort::Power::Off); break;
    case kSystemReset: port.power(ir::VcpuPort::Power::Reset); break;
    default: s.x[0] = known(static_cast<u32>(a)) ? kSuccess : kNotSupported; break;
  }
  return true;
}

}  // namespace kiln::arm
