#include "devices/intc/gicv2.h"

#include <algorithm>

namespace kiln::devices {

namespace {
enum DistributorOffset : u64 {
  kCTLR = 0x000,
  kTYPER = 0x004,
  kIIDR = 0x008,
  kIPRIORITYR = 0x400,
  kITARGETSR = 0x800,
  kICFGR = 0xc00,
  kPPISR = 0xd00,
  kSPISR = 0xd04,
  kSGIR = 0xf00,
  kCPENDSGIR = 0xf10,
  kSPENDSGIR = 0xf20,
  kPIDR4 = 0xfd0,
  kPIDR0 = 0xfe0,
};
enum InterfaceOffset : u64 {
  kC_CTLR = 0x00,
  kC_PMR = 0x04,
  kC_BPR = 0x08,
  kC_IAR = 0x0c,
  kC_EOIR = 0x10,
  kC_RPR = 0x14,
  kC_HPPIR = 0x18,
  kC_ABPR = 0x1c,
  kC_AIAR = 0x20,
  kC_AEOIR = 0x24,
  kC_AHPPIR = 0x28,
  kC_APR0 = 0xd0,
  kC_NSAPR0 = 0xe0,
  kC_IIDR = 0xfc,
  kC_DIR = 0x1000,
};
enum CCtlr : u32 { kEnableGrp0 = 1, kEnableGrp1 = 2, kAckCtl = 4, kFIQEn = 8, kCBPR = 0x10, kEOImode = 0x200 };
constexpr u32 kSgis = 0x0000ffff;
constexpr u8 kMinimumBinaryPoint = 2;  // five priority bits
}  // namespace

struct Gicv2::Cpu : Stateful {
  explicit Cpu(CpuOutputs outputs) : lines(outputs) {}
  CpuOutputs lines;
  GicBank bank;                      // interrupts 0..31
  std::array<u8, 16> sgi_sources{};  // which processors sent it, a bit each
  u32 control = 0;
  u8 priority_mask = 0, binary_point = kMinimumBinaryPoint, alias_binary_point = kMinimumBinaryPoint + 1;
  GicActivePriorities active[2];  // by group

  void clear() {
    bank.clear(kSgis);
    bank.enabled = kSgis;  // SGIs are always enabled
    sgi_sources = {};
    control = 0;
    priority_mask = 0;
    binary_point = kMinimumBinaryPoint;
    alias_binary_point = kMinimumBinaryPoint + 1;
    active[0].bits = active[1].bits = 0;
  }
  void state(StateVisitor& v) override {
    v.version(1);
    v("bank", bank);
    v("sgi_sources", sgi_sources);
    v("control", control);
    v("priority_mask", priority_mask);
    v.below("binary_point", binary_point, 8);
    v.below("alias_binary_point", alias_binary_point, 8);
    v("active0", active[0].bits);
    v("active1", active[1].bits);
  }
};

class Gicv2::Distributor : public MmioDevice {
 public:
  explicit Distributor(Gicv2& gic) : gic_(gic) {}
  u64 read(u64 offset, unsigned bytes) override {
    const unsigned cpu = gic_.bus_.current_cpu();
    u64 value = 0;
    if (bytes < 4) {
      for (unsigned i = 0; i < bytes; ++i) value |= static_cast<u64>(gic_.distributor_read_byte(offset + i, cpu)) << (8 * i);
    } else {
      for (unsigned i = 0; i < bytes; i += 4) value |= static_cast<u64>(gic_.distributor_read(offset + i, cpu)) << (8 * i);
    }
    return value;
  }
  void write(u64 offset, u64 value, unsigned bytes) override {
    const unsigned cpu = gic_.bus_.current_cpu();
    if (bytes < 4) {
      for (unsigned i = 0; i < bytes; ++i) gic_.distributor_write_byte(offset + i, static_cast<u8>(value >> (8 * i)), cpu);
    } else {
      for (unsigned i = 0; i < bytes; i += 4) gic_.distributor_write(offset + i, static_cast<u32>(value >> (8 * i)), cpu);
    }
    gic_.update();
  }

 private:
  Gicv2& gic_;
};

class Gicv2::CpuInterface : public MmioDevice {
 public:
  explicit CpuInterface(Gicv2& gic) : gic_(gic) {}
  u64 read(u64 offset, unsigned bytes) override {
    return gic_.interface_read(offset & ~u64{3}, gic_.bus_.current_cpu()) & mask_low(8 * bytes);
  }
  void write(u64 offset, u64 value, unsigned bytes) override {
    gic_.interface_write(offset & ~u64{3}, static_cast<u32>(value), gic_.bus_.current_cpu());
    gic_.update();
  }

 private:
  Gicv2& gic_;
};

class Gicv2::Line : public IrqLine {
 public:
  Line(Gicv2& gic, unsigned cpu, unsigned id) : gic_(gic), cpu_(cpu), id_(id) {}
  void set(bool level) override { gic_.set_line(cpu_, id_, level); }

 private:
  Gicv2& gic_;
  unsigned cpu_, id_;
};

Gicv2::Gicv2(const MemoryBus& bus, std::vector<CpuOutputs> cpus, unsigned spis)
    : bus_(bus), shared_(spis / 32), targets_(spis), target_masks_(cpus.size(), std::vector<u32>(spis / 32)) {
  for (const CpuOutputs& outputs : cpus) cpus_.push_back(std::make_unique<Cpu>(outputs));
  distributor_ = std::make_unique<Distributor>(*this);
  interface_ = std::make_unique<CpuInterface>(*this);
  for (unsigned i = 0; i < spis; ++i) lines_.push_back(std::make_unique<Line>(*this, 0, 32 + i));
  for (unsigned cpu = 0; cpu < cpus_.size(); ++cpu)
    for (unsigned i = 0; i < 16; ++i) lines_.push_back(std::make_unique<Line>(*this, cpu, 16 + i));
  reset();
}

Gicv2::~Gicv2() = default;
MmioDevice& Gicv2::distributor() { return *distributor_; }
MmioDevice& Gicv2::cpu_interface() { return *interface_; }
IrqLine& Gicv2::spi(unsigned index) { return *lines_.at(index); }
IrqLine& Gicv2::ppi(unsigned cpu, unsigned index) { return *lines_.at(targets_.size() + 16 * cpu + index); }

void Gicv2::reset() {
  control_ = 0;
  for (auto& cpu : cpus_) cpu->clear();
  for (GicBank& bank : shared_) bank.clear(0);
  // With one processor ITARGETSR reads as zero and everything goes there (4.3.12).
  for (unsigned i = 0; i < targets_.size(); ++i) set_targets(i, cpus_.size() == 1 ? 1 : 0);
  update();
}

GicBank& Gicv2::bank(unsigned cpu, unsigned number) { return number == 0 ? cpus_[cpu]->bank : shared_[number - 1]; }

void Gicv2::set_line(unsigned cpu, unsigned id, bool level) {
  bank(cpu, id / 32).set_line(id % 32, level);
  update();
}

void Gicv2::set_targets(unsigned spi, u8 targets) {
  targets_[spi] = targets;
  for (unsigned cpu = 0; cpu < cpus_.size(); ++cpu) {
    u32& mask = target_masks_[cpu][spi / 32];
    mask = (mask & ~(u32{1} << (spi % 32))) | (u32{bit(targets, cpu)} << (spi % 32));
  }
}

// --- distributor

u8 Gicv2::distributor_read_byte(u64 offset, unsigned cpu) {
  const u64 id = offset & 0x3ff;
  const bool exists = id / 32 <= shared_.size();
  if (offset >= kIPRIORITYR && offset < kITARGETSR)
    return exists ? bank(cpu, static_cast<unsigned>(id / 32)).priority[id % 32] : 0;
  if (offset >= kITARGETSR && offset < kICFGR) {
    if (!exists || cpus_.size() == 1) return 0;
    return id < 32 ? static_cast<u8>(1u << cpu) : targets_[id - 32];
  }
  if (offset >= kCPENDSGIR && offset < kSPENDSGIR + 0x10) return cpus_[cpu]->sgi_sources[offset & 15];
  return static_cast<u8>(distributor_read(offset & ~u64{3}, cpu) >> (8 * (offset & 3)));
}

u32 Gicv2::distributor_read(u64 offset, unsigned cpu) {
  const bool bytes = (offset >= kIPRIORITYR && offset < kICFGR) || (offset >= kCPENDSGIR && offset < kSPENDSGIR + 0x10);
  if (bytes) {
    u32 value = 0;
    for (unsigned i = 0; i < 4; ++i) value |= u32{distributor_read_byte(offset + i, cpu)} << (8 * i);
    return value;
  }
  if (offset >= kGicIGROUPR && offset < kIPRIORITYR) {
    const unsigned number = static_cast<unsigned>((offset & 0x7f) / 4);
    return number <= shared_.size() ? bank(cpu, number).read(offset & ~u64{0x7f}) : 0;
  }
  if (offset >= kICFGR && offset < kPPISR) {
    const unsigned word = static_cast<unsigned>((offset - kICFGR) / 4);
    return word / 2 <= shared_.size() ? bank(cpu, word / 2).read_config(word % 2) : 0;
  }
  if (offset >= kPIDR0) return ((offset < 0xff0 ? 0x002bb490u : 0xb105f00du) >> (8 * ((offset & 15) / 4))) & 0xff;
  switch (offset) {
    case kCTLR: return control_;
    case kTYPER: return static_cast<u32>(shared_.size()) | static_cast<u32>(cpus_.size() - 1) << 5;
    case kIIDR: return 0x0200143b;
    case kPPISR: return cpus_[cpu]->bank.line >> 16;
    case kPIDR4: return 4;
    default: break;
  }
  if (offset >= kSPISR && (offset - kSPISR) / 4 < shared_.size()) return shared_[(offset - kSPISR) / 4].line;
  return 0;
}

void Gicv2::distributor_write_byte(u64 offset, u8 value, unsigned cpu) {
  const u64 id = offset & 0x3ff;
  const bool exists = id / 32 <= shared_.size();
  if (offset >= kIPRIORITYR && offset < kITARGETSR) {
    if (exists) bank(cpu, static_cast<unsigned>(id / 32)).priority[id % 32] = value & kGicPriorityMask;
  } else if (offset >= kITARGETSR && offset < kICFGR) {
    if (exists && id >= 32 && cpus_.size() > 1)
      set_targets(static_cast<unsigned>(id - 32), value & static_cast<u8>(mask_low(static_cast<unsigned>(cpus_.size()))));
  } else if (offset >= kCPENDSGIR && offset < kSPENDSGIR) {
    set_sgi(cpu, offset & 15, cpus_[cpu]->sgi_sources[offset & 15] & ~value);
  } else if (offset >= kSPENDSGIR && offset < kSPENDSGIR + 0x10) {
    set_sgi(cpu, offset & 15,
            cpus_[cpu]->sgi_sources[offset & 15] | (value & static_cast<u8>(mask_low(static_cast<unsigned>(cpus_.size())))));
  }
  // The other registers take whole words only.
}

void Gicv2::distributor_write(u64 offset, u32 value, unsigned cpu) {
  if (offset >= kGicIGROUPR && offset < kIPRIORITYR) {
    const unsigned number = static_cast<unsigned>((offset & 0x7f) / 4);
    const u64 block = offset & ~u64{0x7f};
    if (number > shared_.size()) return;
    // SGIs: always enabled, pending only through SGIR and SPENDSGIR.
    const bool fixed = number == 0 && block >= kGicISENABLER && block <= kGicICPENDR;
    bank(cpu, number).write(block, value, fixed ? ~kSgis : ~u32{0});
  } else if (offset >= kICFGR && offset < kPPISR) {
    const unsigned word = static_cast<unsigned>((offset - kICFGR) / 4);
    if (word >= 2 && word / 2 <= shared_.size()) bank(cpu, word / 2).write_config(word % 2, value, ~u32{0});
    if (word == 1) cpus_[cpu]->bank.write_config(1, value, ~kSgis);
  } else if (offset == kCTLR) {
    control_ = value & 3;
  } else if (offset == kSGIR) {
    send_sgi(value, cpu);
  } else {
    for (unsigned i = 0; i < 4; ++i) distributor_write_byte(offset + i, static_cast<u8>(value >> (8 * i)), cpu);
  }
}

void Gicv2::set_sgi(unsigned cpu, unsigned id, u8 sources) {
  Cpu& target = *cpus_[cpu];
  target.sgi_sources[id] = sources;
  target.bank.latch = (target.bank.latch & ~(u32{1} << id)) | u32{sources != 0} << id;
}

void Gicv2::send_sgi(u32 value, unsigned cpu) {
  const u32 all = static_cast<u32>(mask_low(static_cast<unsigned>(cpus_.size())));
  u32 targets = 0;
  switch (bits(value, 24, 2)) {
    case 0: targets = static_cast<u32>(bits(value, 16, 8)) & all; break;
    case 1: targets = all & ~(u32{1} << cpu); break;
    case 2: targets = u32{1} << cpu; break;
    default: break;
  }
  for (unsigned target = 0; target < cpus_.size(); ++target)
    if (bit(targets, target)) set_sgi(target, value & 15, cpus_[target]->sgi_sources[value & 15] | static_cast<u8>(1u << cpu));
}

// --- CPU interface

GicCandidate Gicv2::best(unsigned cpu) const {
  GicCandidate found;
  const Cpu& c = *cpus_[cpu];
  const u32 disabled0 = (control_ & 1) != 0 ? 0 : ~u32{0}, disabled1 = (control_ & 2) != 0 ? 0 : ~u32{0};
  const auto forwarded = [&](const GicBank& bank) { return ~((bank.group & disabled1) | (~bank.group & disabled0)); };
  c.bank.best(forwarded(c.bank), 0, found);
  for (unsigned i = 0; i < shared_.size(); ++i)
    shared_[i].best(forwarded(shared_[i]) & target_masks_[cpu][i], 32 * (i + 1), found);
  return found;
}

u8 Gicv2::running(const Cpu& cpu) const { return std::min(cpu.active[0].running(), cpu.active[1].running()); }

u8 Gicv2::group_priority(const Cpu& cpu, const GicCandidate& candidate) const {
  // The alias's point counts one more than BPR's (4.4.3).
  const bool own = candidate.group1 && (cpu.control & kCBPR) == 0;
  return gic_group_priority(candidate.priority, own ? cpu.alias_binary_point - 1u : cpu.binary_point);
}

void Gicv2::update() {
  for (unsigned i = 0; i < cpus_.size(); ++i) {
    Cpu& cpu = *cpus_[i];
    const GicCandidate found = best(i);
    const bool on = (cpu.control & (found.group1 ? kEnableGrp1 : kEnableGrp0)) != 0;
    const bool signalled =
        on && found.id != kGicSpurious && found.priority < cpu.priority_mask && group_priority(cpu, found) < running(cpu);
    const bool fiq = signalled && !found.group1 && (cpu.control & kFIQEn) != 0;
    cpu.lines.irq.set(signalled && !fiq);
    cpu.lines.fiq.set(fiq);
  }
}

/// What IAR or AIAR (`alias`: group 1 only) would return for the most urgent pending interrupt, 4.4.4 and 4.4.11.
u32 Gicv2::highest_pending(unsigned cpu, bool alias) const {
  const Cpu& c = *cpus_[cpu];
  const GicCandidate found = best(cpu);
  if (found.id == kGicSpurious || (c.control & (found.group1 ? kEnableGrp1 : kEnableGrp0)) == 0) return kGicSpurious;
  if (alias) return found.group1 ? found.id : kGicSpurious;
  return found.group1 && (c.control & kAckCtl) == 0 ? 1022 : found.id;
}

u32 Gicv2::acknowledge(unsigned cpu, bool alias) {
  Cpu& c = *cpus_[cpu];
  const GicCandidate found = best(cpu);
  if (found.priority >= c.priority_mask || group_priority(c, found) >= running(c)) return kGicSpurious;
  const u32 id = highest_pending(cpu, alias);
  if (id >= 1022) return id;
  c.active[found.group1 ? 1 : 0].raise(group_priority(c, found));
  if (id >= 16) {
    bank(cpu, id / 32).acknowledge(id % 32);
    return id;
  }
  const unsigned source = static_cast<unsigned>(std::countr_zero(c.sgi_sources[id]));
  c.bank.acknowledge(id);
  set_sgi(cpu, id, c.sgi_sources[id] & static_cast<u8>(~(1u << source)));
  return id | source << 10;
}

void Gicv2::end_of_interrupt(unsigned cpu, u32 value, bool alias) {
  Cpu& c = *cpus_[cpu];
  const u32 id = value & 0x3ff;
  if (id >= 32 * (shared_.size() + 1)) return;
  // The priority drops for the group that runs; a store for the other group is not for this interrupt.
  const bool group1 = c.active[1].running() < c.active[0].running();
  if ((c.active[0].bits | c.active[1].bits) == 0 || (alias && !group1)) return;
  c.active[group1 ? 1 : 0].drop();
  if ((c.control & kEOImode) == 0) deactivate(cpu, id);
}

void Gicv2::deactivate(unsigned cpu, u32 id) {
  if (id < 32 * (shared_.size() + 1)) bank(cpu, id / 32).active &= ~(u32{1} << (id % 32));
}

u32 Gicv2::interface_read(u64 offset, unsigned cpu) {
  Cpu& c = *cpus_[cpu];
  switch (offset) {
    case kC_CTLR: return c.control;
    case kC_PMR: return c.priority_mask;
    case kC_BPR: return c.binary_point;
    case kC_ABPR: return c.alias_binary_point;
    case kC_IAR:
    case kC_AIAR: {
      const u32 id = acknowledge(cpu, offset == kC_AIAR);
      update();
      return id;
    }
    case kC_RPR: return running(c);
    case kC_HPPIR:
    case kC_AHPPIR: {
      const u32 id = highest_pending(cpu, offset == kC_AHPPIR);
      return id < 16 ? id | static_cast<u32>(std::countr_zero(c.sgi_sources[id])) << 10 : id;
    }
    case kC_APR0: return c.active[0].bits;
    case kC_NSAPR0: return c.active[1].bits;
    case kC_IIDR: return 0x0202143b;
    default: return 0;
  }
}

void Gicv2::interface_write(u64 offset, u32 value, unsigned cpu) {
  Cpu& c = *cpus_[cpu];
  switch (offset) {
    case kC_CTLR: c.control = value & (kEnableGrp0 | kEnableGrp1 | kAckCtl | kFIQEn | kCBPR | kEOImode); break;
    case kC_PMR: c.priority_mask = value & kGicPriorityMask; break;
    case kC_BPR: c.binary_point = std::max<u8>(value & 7, kMinimumBinaryPoint); break;
    case kC_ABPR: c.alias_binary_point = std::max<u8>(value & 7, kMinimumBinaryPoint + 1); break;
    case kC_EOIR: end_of_interrupt(cpu, value, false); break;
    case kC_AEOIR: end_of_interrupt(cpu, value, true); break;
    case kC_APR0: c.active[0].bits = value; break;
    case kC_NSAPR0: c.active[1].bits = value; break;
    case kC_DIR:
      if ((c.control & kEOImode) != 0) deactivate(cpu, value & 0x3ff);
      break;
    default: break;
  }
}

void Gicv2::state(StateVisitor& v) {
  v.version(1);
  v("control", control_);
  for (auto& cpu : cpus_) v("cpu", *cpu);
  for (GicBank& bank : shared_) v("shared", bank);
  std::vector<u8> targets = targets_;
  v("targets", targets, 1024);
  if (!v.restoring()) return;
  if (targets.size() != targets_.size()) return v.fail("another number of interrupts");
  for (unsigned i = 0; i < targets.size(); ++i) set_targets(i, targets[i]);
  update();
}

}  // namespace kiln::devices
