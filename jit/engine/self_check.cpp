// Self-check: every block is run by the reference interpreter on the lifted IR first, its stores are undone, and then by the tier;
// states and stored bytes must agree. Stops at the first difference with a reproducer (guest code, state before, both states after).
// Blocks whose helpers write guest memory are run by the tier alone and counted; so is everything once a second thread exists.
#include <fmt/format.h>
#include <fcntl.h>
#include <unistd.h>

#include "ir/interpreter.h"
#include "ir/passes/passes.h"
#include "jit/engine/impl.h"

namespace kiln::jit {

using ir::CpuState;
using ir::ExitKind;

namespace {

/// Remembers what accesses found and stores overwrote. A fault in here (unmapped memory) leaves through the fault path, as the access
/// itself would.
class Journal final : public ir::AccessObserver {
 public:
  struct Entry {
    char* host;
    unsigned bytes;
    bool store;
    V128 before, after;
  };
  void before_access(void* host, unsigned bytes, bool store) override {
    if (count_ == std::size(entries_)) {
      overflow = true;
      return;
    }
    Entry& e = entries_[count_];
    e.host = static_cast<char*>(host);
    e.bytes = bytes;
    e.store = store;
    std::memcpy(&e.before, host, bytes);
    ++count_;
  }
  void capture() {
    for (std::size_t i = 0; i < count_; ++i) std::memcpy(&entries_[i].after, entries_[i].host, entries_[i].bytes);
  }
  /// Newest first. A store that faulted wrote nothing; undoing writes only where the bytes differ, so that a read-only page stays alone.
  void undo() {
    for (std::size_t i = count_; i-- > 0;)
      if (entries_[i].store && std::memcmp(entries_[i].host, &entries_[i].before, entries_[i].bytes) != 0)
        std::memcpy(entries_[i].host, &entries_[i].before, entries_[i].bytes);
  }
  const Entry* difference() const {
    for (std::size_t i = 0; i < count_; ++i)
      if (entries_[i].store && std::memcmp(entries_[i].host, &entries_[i].after, entries_[i].bytes) != 0) return &entries_[i];
    return nullptr;
  }
  /// One line an access, oldest first: "memory ADDRESS BYTES" with the bytes found before the block ran (later accesses to the same
  /// place show what earlier stores wrote; whoever replays takes the first).
  std::string text(HostAddr base) const {
    std::string out;
    for (std::size_t i = 0; i < count_; ++i) {
      out += fmt::format("memory {:#x} ", reinterpret_cast<HostAddr>(entries_[i].host) - base);
      for (unsigned b = 0; b < entries_[i].bytes; ++b) out += fmt::format("{:02x}", entries_[i].before.b[b]);
      out += '\n';
    }
    return out;
  }
  void clear() {
    count_ = 0;
    overflow = false;
  }
  bool overflow = false;

 private:
  Entry entries_[4096];
  std::size_t count_ = 0;
};

bool repeatable(const ir::Block& block) {
  for (const ir::Inst& inst : block.insts)
    if (inst.op == ir::Op::call_ && (ir::effects_of(inst) & ir::WRITES_MEM) != 0) return false;
  return true;
}

struct InterpretArgument {
  const ir::Block* block;
  Journal* journal;
};

}  // namespace

ExitKind Engine::Impl::run_self_check(CpuState* cpu) {
  ThreadRecord& thread = *thread_of(cpu);
  static thread_local Journal journal;
  const std::size_t bytes = guest.state_size;
  std::vector<char> before(bytes), expected(bytes);
  for (;;) {
    if (__atomic_load_n(&cpu->interrupt, __ATOMIC_RELAXED) != 0) {
      cpu->exit_kind = static_cast<u32>(ExitKind::Interrupt);
      return ExitKind::Interrupt;
    }
    TranslatedBlock* block;
    bool alone;
    {
      std::unique_lock lock(mutex);
      block = find_or_translate(thread, lock);
      if (block == nullptr) {
        if (cannot_fetch(cpu, fetch_fault) != ExitKind::None) return static_cast<ExitKind>(cpu->exit_kind);
        continue;
      }
      if (config.tier == TierChoice::Two && !block->queued && !block->checked) request_tier2(block, lock);
      if (block->ir == nullptr) {
        block->ir = std::make_unique<ir::Block>();
        lift_again(*block, *block->ir);
      }
      alone = threads.size() == 1;
    }
    const bool check = alone && repeatable(*block->ir);
    const GuestAddr pc = cpu->pc;
    ExitKind expected_kind = ExitKind::None;
    if (check) {
      std::memcpy(before.data(), cpu, bytes);
      journal.clear();
      const InterpretArgument argument{block->ir.get(), &journal};
      host::call_in_code(
          cpu,
          [](CpuState* state, const void* a) {
            const auto& in = *static_cast<const InterpretArgument*>(a);
            ir::interpret(*in.block, state, in.journal);
          },
          &argument);
      expected_kind = static_cast<ExitKind>(cpu->exit_kind);
      journal.capture();
      journal.undo();
      std::memcpy(expected.data(), cpu, bytes);
      std::memcpy(cpu, before.data(), bytes);
      if (expected_kind == ExitKind::CodeChanged) {
        cpu->exit_value = reinterpret_cast<const CpuState*>(expected.data())->exit_value;
        if (const ExitKind kind = pass_changed_code(cpu); kind != ExitKind::None) return kind;
        continue;
      }
    }
    cpu->exit_kind = static_cast<u32>(ExitKind::None);
    host::enter_code(cpu, block->code);
    ExitKind kind = static_cast<ExitKind>(cpu->exit_kind);
    if (kind == ExitKind::Fault || kind == ExitKind::CodeChanged) {
      std::unique_lock lock(mutex);
      recover(thread);
      kind = static_cast<ExitKind>(cpu->exit_kind);
    }
    if (kind == ExitKind::CodeChanged) {
      if (kind = pass_changed_code(cpu); kind != ExitKind::None) return kind;
      continue;
    }
    const bool internal = kind == ExitKind::Chain || kind == ExitKind::Miss || kind == ExitKind::Hot || kind == ExitKind::None;
    if (check && !journal.overflow && kind != ExitKind::Interrupt && kind != ExitKind::Hot) {
      ++checked_blocks;
      std::string what;
      const auto* want = reinterpret_cast<const CpuState*>(expected.data());
      if (internal ? expected_kind != ExitKind::None : kind != expected_kind)
        what = fmt::format("exit {} where the interpreter has {}", static_cast<u32>(kind), static_cast<u32>(expected_kind));
      else if (cpu->pc != want->pc) what = fmt::format("pc {:#x} where the interpreter has {:#x}", cpu->pc, want->pc);
      else if (ir::flags_value(static_cast<ir::FlagsKind>(cpu->flags_kind), cpu->flags_a, cpu->flags_b) !=
               ir::flags_value(static_cast<ir::FlagsKind>(want->flags_kind), want->flags_a, want->flags_b))
        what = "condition flags";
      else if (const auto* entry = journal.difference())
        what = fmt::format("memory at guest {:#x}", reinterpret_cast<HostAddr>(entry->host) - memory.base());
      else if (((cpu->mxcsr ^ want->mxcsr) & ~u32{2}) != 0)  // DE: nobody looks at it without FZ
         what = fmt::format("MXCSR {:#x} where the interpreter has {:#x}", cpu->mxcsr, want->mxcsr);
      for (const ir::Slot& slot : guest.slots)
        if (what.empty() && std::memcmp(reinterpret_cast<char*>(cpu) + slot.offset, expected.data() + slot.offset,
                                        ir::type_bits(slot.type) / 8) != 0)
          what = fmt::format("register {}", slot.name);
      if (!what.empty()) report_difference(*block, pc, what, before.data(), expected.data(), cpu, journal.text(memory.base()));
    } else {
      ++unchecked_blocks;
    }
    if (!internal && pass_fault(cpu) != ExitKind::None) return static_cast<ExitKind>(cpu->exit_kind);
  }
}

void Engine::Impl::report_difference(const TranslatedBlock& block, GuestAddr pc, const std::string& what, const char* before,
                                     const char* expected, const CpuState* got, const std::string& accesses) {
  std::vector<u8> code(block.guest_bytes);
  memory.fetch(block.pc, code.data(), code.size());
  std::string text = fmt::format("# kiln self-check reproducer: {} differs after the block at {:#x}\nguest {}\npc {:#x}\nmode {:#x}\ncode", what,
                                 pc, guest.name, block.pc, block.mode);
  for (u8 b : code) text += fmt::format(" {:02x}", b);
  text += "\n" + accesses;
  const auto dump = [&](const char* title, const char* state) {
    const auto* s = reinterpret_cast<const CpuState*>(state);
    text += fmt::format("{} cpu pc {:#x} flags {} {:#x} {:#x} mxcsr {:#x} exit {}\n", title, s->pc, s->flags_kind, s->flags_a, s->flags_b,
                        s->mxcsr, s->exit_kind);
    for (const ir::Slot& slot : guest.slots) {
      V128 v{};
      std::memcpy(&v, state + slot.offset, ir::type_bits(slot.type) / 8);
      if (v.d[0] != 0 || v.d[1] != 0) text += fmt::format("{} {} {:#x} {:#x}\n", title, slot.name, v.d[0], v.d[1]);
    }
  };
  dump("before", before);
  dump("interpreter", expected);
  dump("tier", reinterpret_cast<const char*>(got));
  const std::string path = config.reproducer_path.empty() ? fmt::format("kiln-reproducer-{}.repro", getpid()) : config.reproducer_path;
  if (std::FILE* file = std::fopen(path.c_str(), "w")) {
    std::fwrite(text.data(), 1, text.size(), file);
    std::fclose(file);
  }
  std::fprintf(stderr, "kiln: self-check: %s differs after the block at %#lx; reproducer in %s\n%s", what.c_str(), pc, path.c_str(),
               disassemble(guest.llvm_triple, guest.llvm_features, code, block.pc).c_str());
  std::exit(121);
}

}  // namespace kiln::jit
