// A processor of a full system with nothing around it but flat memory and a port that writes down what it is asked.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <vector>

#include "frontends/arm/system.h"
#include "frontends/arm/system_internal.h"
#include "ir/interpreter.h"

namespace kiln::arm {

class FakeMachine : public ir::VcpuPort, public ir::PhysicalMemory {
 public:
  static constexpr u64 kBase = 0x40000000, kBytes = 1 << 20;

  explicit FakeMachine(const CpuConfig& config = {.model = "max", .psci = PsciConduit::Hvc}, GuestAddr entry = kBase) {
    const std::size_t below = ir::kTlbBytes + ir::kJumpCacheBytes;
    raw_ = static_cast<char*>(std::aligned_alloc(64, align_up(below + sizeof(A64SystemState), 64)));
    std::memset(raw_, 0, below + sizeof(A64SystemState));
    s = reinterpret_cast<A64SystemState*>(raw_ + below);
    for (unsigned i = 0; i < ir::kTlbIndices; ++i)
      for (std::size_t k = 0; k < ir::kTlbEntries; ++k) s->tlb(i)[k].read_tag = s->tlb(i)[k].write_tag = ir::kNoTag;
    s->user_data = static_cast<ir::VcpuPort*>(this);
    s->guest_pointer = [](ir::CpuState* state, u64 address, u32 desc, const void*) -> void* {
      auto& self = static_cast<FakeMachine&>(ir::port(state));
      ir::Translation to;
      const auto access = desc & ir::kStoreAccess ? ir::Access::Store : ir::Access::Load;
      if (!translate(state, self, address, access, ir::MemOp::unpack(desc).mmu_index, to)) return nullptr;
      if (to.physical >= kBase && to.physical < kBase + kBytes) return self.memory_.data() + (to.physical - kBase);
      bus_error(state, address, access, false);
      return nullptr;
    };
    EXPECT_TRUE(configure(s, config));
    kA64System.system->reset(s, entry);
    s->memory_base = reinterpret_cast<u64>(memory_.data()) - kBase;
  }
  ~FakeMachine() { std::free(raw_); }
  FakeMachine(const FakeMachine&) = delete;

  u64& at(u64 physical) { return *reinterpret_cast<u64*>(memory_.data() + (physical - kBase)); }

  /// Puts words at a physical address.
  void put(u64 physical, const std::vector<u32>& words) {
    std::memcpy(memory_.data() + (physical - kBase), words.data(), words.size() * 4);
  }
  /// Lifts and interprets one block at pc, and lets what comes of it happen.
  void block() {
    struct Code : ir::CodeSource {
      FakeMachine& m;
      explicit Code(FakeMachine& m) : m(m) {}
      std::size_t fetch(GuestAddr pc, u8* out, std::size_t size) override {
        ir::Translation to;
        if (!translate(m.s, m, pc, ir::Access::Fetch, kA64System.system->fetch_index(m.s), to)) return 0;
        if (to.physical < kBase || to.physical >= kBase + kBytes) return 0;
        std::memcpy(out, m.memory_.data() + (to.physical - kBase), size);
        return size;
      }
    } code(*this);
    ir::Block lifted;
    s->exit_aux = 0;
    kA64System.lift(code, s->pc, s->mode, {.max_insns = max_insns}, lifted);
    s->exit_aux = 0;
    ASSERT_EQ(ir::verify(lifted), "") << ir::print(lifted);
    ir::interpret(lifted, s);
    last_exit = static_cast<ir::ExitKind>(s->exit_kind);
    if (last_exit == ir::ExitKind::Interrupt || s->interrupt != 0) {
      s->interrupt = 0;
      kA64System.system->interrupt(s);
    } else if (last_exit != ir::ExitKind::None) {
      kA64System.system->exception(s, last_exit);
    }
  }
  /// Runs words at pc, a block each time until the last one is behind or something else happened.
  void run(const std::vector<u32>& words) {
    const GuestAddr first = s->pc;
    put(first, words);
    max_insns = 1;
    while (s->pc >= first && s->pc < first + 4 * words.size()) {
      block();
      if (last_exit != ir::ExitKind::None) return;
    }
  }

  // PhysicalMemory
  bool load(u64 physical, unsigned bytes, u64& value) override {
    if (physical < kBase || physical + bytes > kBase + kBytes) return false;
    value = 0;
    std::memcpy(&value, memory_.data() + (physical - kBase), bytes);
    return true;
  }
  bool compare_exchange(u64 physical, unsigned bytes, u64 expected, u64 desired) override {
    u64 now;
    if (!load(physical, bytes, now) || now != expected) return false;
    std::memcpy(memory_.data() + (physical - kBase), &desired, bytes);
    return true;
  }

  // VcpuPort
  void flush_tlb(const ir::TlbFlush& flush, bool broadcast) override { flushes.push_back(flush), broadcasts += broadcast; }
  void space_changed() override { ++space_changes; }
  bool device_register(u32 number, bool write, u64& value) override {
    if (!device_registers.contains(number)) return false;
    if (write) device_registers[number] = value;
    else value = device_registers[number];
    return true;
  }
  u64 clock_ns() override { return clock; }
  void set_alarm(u64 when_ns) override { alarm = when_ns; }
  void set_output(unsigned line, bool level) override { outputs = (outputs & ~(1u << line)) | u32{level} << line; }
  u32 inputs() override { return lines; }
  void halt() override { ++halts; }
  void power(Power request) override { power_request = static_cast<int>(request); }
  int start_cpu(u64 target, GuestAddr entry, u64 context) override {
    started = {target, entry, context};
    return target == 1 ? 0 : -2;
  }
  void stop_cpu() override { ++stops; }
  int cpu_status(u64 target) override { return target == 0 ? 0 : target == 1 ? 1 : -1; }
  ir::PhysicalMemory& memory() override { return *this; }
  void guest_error(const std::string& text) override { errors.push_back(text); }

  A64SystemState* s;
  unsigned max_insns = 64;
  ir::ExitKind last_exit = ir::ExitKind::None;
  std::vector<ir::TlbFlush> flushes;
  unsigned broadcasts = 0, space_changes = 0, halts = 0, stops = 0;
  std::map<u32, u64> device_registers;
  u64 clock = 0, alarm = ~u64{0};
  u32 outputs = 0, lines = 0;
  int power_request = -1;
  std::vector<u64> started;
  std::vector<std::string> errors;

 private:
  char* raw_;
  std::vector<u8> memory_ = std::vector<u8>(kBytes);
};

// Instructions.
constexpr u32 kNopWord = 0xd503201f, kEret = 0xd69f03e0, kWfi = 0xd503207f;
constexpr u32 mrs(u32 rt, u32 reg) { return 0xd5300000 | (reg & 0x7fff) << 5 | rt; }
constexpr u32 msr(u32 reg, u32 rt) { return 0xd5100000 | (reg & 0x7fff) << 5 | rt; }
constexpr u32 sys(u32 op1, u32 crn, u32 crm, u32 op2, u32 rt = 31) {
  return 0xd5080000 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5 | rt;
}
constexpr u32 svc(u32 imm) { return 0xd4000001 | imm << 5; }
constexpr u32 hvc(u32 imm) { return 0xd4000002 | imm << 5; }
constexpr u32 smc(u32 imm) { return 0xd4000003 | imm << 5; }
constexpr u32 brk(u32 imm) { return 0xd4200000 | imm << 5; }
constexpr u32 daif_set(u32 imm) { return 0xd50340df | imm << 8; }
constexpr u32 daif_clear(u32 imm) { return 0xd50340ff | imm << 8; }
constexpr u32 sp_select(u32 imm) { return 0xd50040bf | imm << 8; }
constexpr u32 pan(u32 imm) { return 0xd500409f | imm << 8; }

}  // namespace kiln::arm
