#include "devices/intc/gicv3.h"

#include <algorithm>

namespace kiln::devices {

namespace {
enum DistributorOffset : u64 {
  kCTLR = 0x0000,
  kTYPER = 0x0004,
  kIIDR = 0x0008,
  kIPRIORITYR = 0x0400,
  kITARGETSR = 0x0800,
  kICFGR = 0x0c00,
  kIGRPMODR = 0x0d00,
  kIROUTER = 0x6000,
  kPIDR4 = 0xffd0,
  kPIDR0 = 0xffe0,
};
enum RedistributorOffset : u64 {
  kR_CTLR = 0x0000,
  kR_IIDR = 0x0004,
  kR_TYPER = 0x0008,
  kR_WAKER = 0x0014,
};
constexpr u64 kSgiFrame = 0x10000;
enum Ctlr : u32 { kEnableGrp0 = 1, kEnableGrp1 = 2, kARE = 0x10, kDS = 0x40 };
enum Waker : u32 { kProcessorSleep = 2, kChildrenAsleep = 4 };
enum IccCtlr : u32 { kCBPR = 1, kEOImode = 2, kPRIbits = 4 << 8, kA3V = 1 << 15 };
constexpr u32 kSgis = 0x0000ffff;
constexpr u64 kRouteAny = u64{1} << 31;  // IROUTER.Interrupt_Routing_Mode
constexpr u64 kRouteBits = 0xff80ffffff;
constexpr u32 kImplementer = 0x0000043b;
constexpr u8 kMinimumBinaryPoint = 2;
constexpr u32 kNoInterrupt = 1020;

constexpr u32 icc(u32 op0, u32 op1, u32 crn, u32 crm, u32 op2) {
  return (op0 & 1) << 14 | op1 << 11 | crn << 7 | crm << 3 | op2;
}
enum Icc : u32 {
  kPMR = icc(3, 0, 4, 6, 0),
  kIAR0 = icc(3, 0, 12, 8, 0),
  kEOIR0 = icc(3, 0, 12, 8, 1),
  kHPPIR0 = icc(3, 0, 12, 8, 2),
  kBPR0 = icc(3, 0, 12, 8, 3),
  kAP0R0 = icc(3, 0, 12, 8, 4),
  kAP1R0 = icc(3, 0, 12, 9, 0),
  kDIR = icc(3, 0, 12, 11, 1),
  kRPR = icc(3, 0, 12, 11, 3),
  kSGI1R = icc(3, 0, 12, 11, 5),
  kASGI1R = icc(3, 0, 12, 11, 6),
  kSGI0R = icc(3, 0, 12, 11, 7),
  kIAR1 = icc(3, 0, 12, 12, 0),
  kEOIR1 = icc(3, 0, 12, 12, 1),
  kHPPIR1 = icc(3, 0, 12, 12, 2),
  kBPR1 = icc(3, 0, 12, 12, 3),
  kICC_CTLR = icc(3, 0, 12, 12, 4),
  kICC_SRE = icc(3, 0, 12, 12, 5),
  kIGRPEN0 = icc(3, 0, 12, 12, 6),
  kIGRPEN1 = icc(3, 0, 12, 12, 7),
  kSRE_EL2 = icc(3, 4, 12, 9, 5),
  kCTLR_EL3 = icc(3, 6, 12, 12, 4),
  kSRE_EL3 = icc(3, 6, 12, 12, 5),
  kIGRPEN1_EL3 = icc(3, 6, 12, 12, 7),
};

/// TargetList addressing: Aff3.Aff2.Aff1 of an affinity value, without Aff0.
constexpr u64 cluster(u64 affinity) { return affinity & 0xff00ffff00; }
}  // namespace

struct Gicv3::Cpu : Stateful {
  Cpu(unsigned index, CpuOutputs outputs) : index(index), lines(outputs) {}
  unsigned index;
  CpuOutputs lines;
  GicBank bank;  // interrupts 0..31
  u32 waker = 0;
  u32 control = 0;
  u8 priority_mask = 0;
  u8 binary_point[2] = {};
  bool enabled[2] = {};  // IGRPEN0, IGRPEN1
  GicActivePriorities active[2];

  void clear() {
    bank.clear(kSgis);
    waker = kProcessorSleep | kChildrenAsleep;
    control = 0;
    priority_mask = 0;
    binary_point[0] = kMinimumBinaryPoint;
    binary_point[1] = kMinimumBinaryPoint + 1;
    enabled[0] = enabled[1] = false;
    active[0].bits = active[1].bits = 0;
  }
  void state(StateVisitor& v) override {
    v.version(1);
    v("bank", bank);
    v("waker", waker);
    v("control", control);
    v("priority_mask", priority_mask);
    v.below("binary_point0", binary_point[0], 8);
    v.below("binary_point1", binary_point[1], 8);
    v("enabled", enabled);
    v("active0", active[0].bits);
    v("active1", active[1].bits);
  }
};

class Gicv3::Distributor : public MmioDevice {
 public:
  explicit Distributor(Gicv3& gic) : gic_(gic) {}
  u64 read(u64 offset, unsigned bytes) override {
    if (bytes == 8) return gic_.distributor_read(offset) | static_cast<u64>(gic_.distributor_read(offset + 4)) << 32;
    return (gic_.distributor_read(offset & ~u64{3}) >> (8 * (offset & 3))) & mask_low(8 * bytes);
  }
  void write(u64 offset, u64 value, unsigned bytes) override {
    if (bytes < 4) {
      // IPRIORITYR alone is byte accessible.
      if (offset < kIPRIORITYR || offset >= kITARGETSR) return;
      const unsigned shift = 8 * (offset & 3);
      const u32 old = gic_.distributor_read(offset & ~u64{3}), mask = static_cast<u32>(mask_low(8 * bytes)) << shift;
      value = (old & ~mask) | (static_cast<u32>(value << shift) & mask);
      gic_.distributor_write(offset & ~u64{3}, static_cast<u32>(value));
    } else {
      for (unsigned i = 0; i < bytes; i += 4) gic_.distributor_write(offset + i, static_cast<u32>(value >> (8 * i)));
    }
    gic_.update();
  }

 private:
  Gicv3& gic_;
};

class Gicv3::Redistributors : public MmioDevice {
 public:
  explicit Redistributors(Gicv3& gic) : gic_(gic) {}
  u64 read(u64 offset, unsigned bytes) override {
    const unsigned cpu = static_cast<unsigned>(offset / kRedistributorBytes);
    offset %= kRedistributorBytes;
    if (cpu >= gic_.cpus_.size()) return 0;
    if (bytes == 8)
      return gic_.redistributor_read(cpu, offset) | static_cast<u64>(gic_.redistributor_read(cpu, offset + 4)) << 32;
    return (gic_.redistributor_read(cpu, offset & ~u64{3}) >> (8 * (offset & 3))) & mask_low(8 * bytes);
  }
  void write(u64 offset, u64 value, unsigned bytes) override {
    const unsigned cpu = static_cast<unsigned>(offset / kRedistributorBytes);
    offset %= kRedistributorBytes;
    if (cpu >= gic_.cpus_.size()) return;
    if (bytes < 4) {
      if (offset < kSgiFrame + kIPRIORITYR || offset >= kSgiFrame + kIPRIORITYR + 32) return;
      for (unsigned i = 0; i < bytes; ++i)
        gic_.cpus_[cpu]->bank.priority[offset - kSgiFrame - kIPRIORITYR + i] =
            static_cast<u8>(value >> (8 * i)) & kGicPriorityMask;
    } else {
      for (unsigned i = 0; i < bytes; i += 4) gic_.redistributor_write(cpu, offset + i, static_cast<u32>(value >> (8 * i)));
    }
    gic_.update();
  }

 private:
  Gicv3& gic_;
};

class Gicv3::Line : public IrqLine {
 public:
  Line(Gicv3& gic, unsigned cpu, unsigned id) : gic_(gic), cpu_(cpu), id_(id) {}
  void set(bool level) override { gic_.set_line(cpu_, id_, level); }

 private:
  Gicv3& gic_;
  unsigned cpu_, id_;
};

Gicv3::Gicv3(std::vector<CpuOutputs> cpus, unsigned spis)
    : shared_(spis / 32), routes_(spis), route_masks_(cpus.size(), std::vector<u32>(spis / 32)) {
  for (unsigned i = 0; i < cpus.size(); ++i) cpus_.push_back(std::make_unique<Cpu>(i, cpus[i]));
  distributor_ = std::make_unique<Distributor>(*this);
  redistributors_ = std::make_unique<Redistributors>(*this);
  for (unsigned i = 0; i < spis; ++i) lines_.push_back(std::make_unique<Line>(*this, 0, 32 + i));
  for (unsigned cpu = 0; cpu < cpus_.size(); ++cpu)
    for (unsigned i = 0; i < 16; ++i) lines_.push_back(std::make_unique<Line>(*this, cpu, 16 + i));
  reset();
}

Gicv3::~Gicv3() = default;
MmioDevice& Gicv3::distributor() { return *distributor_; }
MmioDevice& Gicv3::redistributors() { return *redistributors_; }
IrqLine& Gicv3::spi(unsigned index) { return *lines_.at(index); }
IrqLine& Gicv3::ppi(unsigned cpu, unsigned index) { return *lines_.at(routes_.size() + 16 * cpu + index); }

void Gicv3::reset() {
  control_ = kARE | kDS;
  for (auto& cpu : cpus_) cpu->clear();
  for (GicBank& bank : shared_) bank.clear(0);
  for (unsigned i = 0; i < routes_.size(); ++i) set_route(i, 0);
  update();
}

void Gicv3::set_line(unsigned cpu, unsigned id, bool level) {
  (id < 32 ? cpus_[cpu]->bank : shared_[id / 32 - 1]).set_line(id % 32, level);
  update();
}

/// An interrupt routed to "any" processor goes to the first one; one whose target is not there goes nowhere.
void Gicv3::set_route(unsigned spi, u64 route) {
  routes_[spi] = route & kRouteBits;
  for (unsigned cpu = 0; cpu < cpus_.size(); ++cpu) {
    const bool here = (route & kRouteAny) != 0 ? cpu == 0 : (route & 0xff00ffffff) == cpus_[cpu]->lines.affinity;
    u32& mask = route_masks_[cpu][spi / 32];
    mask = (mask & ~(u32{1} << (spi % 32))) | (u32{here} << (spi % 32));
  }
}

// --- distributor: interrupts 0..31 are the redistributors' and read as zero here

u32 Gicv3::distributor_read(u64 offset) {
  if (offset >= kGicIGROUPR && offset < kIPRIORITYR) {
    const u64 number = (offset & 0x7f) / 4;
    return number >= 1 && number <= shared_.size() ? shared_[number - 1].read(offset & ~u64{0x7f}) : 0;
  }
  if (offset >= kIPRIORITYR && offset < kITARGETSR) {
    const u64 id = offset - kIPRIORITYR;
    u32 value = 0;
    if (id >= 32 && id / 32 <= shared_.size())
      for (unsigned i = 0; i < 4; ++i) value |= u32{shared_[id / 32 - 1].priority[id % 32 + i]} << (8 * i);
    return value;
  }
  if (offset >= kICFGR && offset < kIGRPMODR) {
    const u64 word = (offset - kICFGR) / 4;
    return word >= 2 && word / 2 <= shared_.size() ? shared_[word / 2 - 1].read_config(word % 2) : 0;
  }
  if (offset >= kIROUTER + 8 * 32 && offset < kIROUTER + 8 * 1020) {
    const u64 spi = (offset - kIROUTER) / 8 - 32;
    return spi < routes_.size() ? static_cast<u32>(routes_[spi] >> (8 * (offset & 4))) : 0;
  }
  if (offset >= kPIDR0) return ((offset < 0xfff0 ? 0x003bb492u : 0xb105f00du) >> (8 * ((offset & 15) / 4))) & 0xff;
  switch (offset) {
    case kCTLR: return control_;
    // A3V, No1N (nothing is routed to one of many), ten bits of interrupt numbers.
    case kTYPER: return static_cast<u32>(shared_.size()) | 1u << 25 | 1u << 24 | 9u << 19;
    case kIIDR: return kImplementer;
    case kPIDR4: return 4;
    default: return 0;
  }
}

void Gicv3::distributor_write(u64 offset, u32 value) {
  if (offset >= kGicIGROUPR && offset < kIPRIORITYR) {
    const u64 number = (offset & 0x7f) / 4;
    if (number >= 1 && number <= shared_.size()) shared_[number - 1].write(offset & ~u64{0x7f}, value, ~u32{0});
  } else if (offset >= kIPRIORITYR && offset < kITARGETSR) {
    const u64 id = offset - kIPRIORITYR;
    if (id >= 32 && id / 32 <= shared_.size())
      for (unsigned i = 0; i < 4; ++i)
        shared_[id / 32 - 1].priority[id % 32 + i] = static_cast<u8>(value >> (8 * i)) & kGicPriorityMask;
  } else if (offset >= kICFGR && offset < kIGRPMODR) {
    const u64 word = (offset - kICFGR) / 4;
    if (word >= 2 && word / 2 <= shared_.size()) shared_[word / 2 - 1].write_config(word % 2, value, ~u32{0});
  } else if (offset >= kIROUTER + 8 * 32 && offset < kIROUTER + 8 * 1020) {
    const unsigned spi = static_cast<unsigned>((offset - kIROUTER) / 8 - 32);
    if (spi >= routes_.size()) return;
    const u64 old = routes_[spi], wide = value;
    set_route(spi, (offset & 4) != 0 ? (old & 0xffffffff) | wide << 32 : (old & ~u64{0xffffffff}) | wide);
  } else if (offset == kCTLR) {
    control_ = (value & (kEnableGrp0 | kEnableGrp1)) | kARE | kDS;
  }
}

// --- redistributors

u32 Gicv3::redistributor_read(unsigned index, u64 offset) {
  Cpu& cpu = *cpus_[index];
  if (offset >= kSgiFrame) {
    offset -= kSgiFrame;
    if (offset >= kGicIGROUPR && offset < kIPRIORITYR) return (offset & 0x7f) == 0 ? cpu.bank.read(offset & ~u64{0x7f}) : 0;
    if (offset >= kIPRIORITYR && offset < kIPRIORITYR + 32) {
      u32 value = 0;
      for (unsigned i = 0; i < 4; ++i) value |= u32{cpu.bank.priority[offset - kIPRIORITYR + i]} << (8 * i);
      return value;
    }
    if (offset == kICFGR || offset == kICFGR + 4) return cpu.bank.read_config((offset - kICFGR) / 4);
    return 0;
  }
  if (offset >= kPIDR0) return ((offset < 0xfff0 ? 0x003bb493u : 0xb105f00du) >> (8 * ((offset & 15) / 4))) & 0xff;
  const u64 affinity = cpu.lines.affinity;
  switch (offset) {
    case kR_IIDR: return kImplementer;
    // Last, Processor_Number; the upper word is the affinity value.
    case kR_TYPER: return (index + 1 == cpus_.size() ? 0x10u : 0u) | index << 8;
    case kR_TYPER + 4: return static_cast<u32>((affinity & 0xffffff) | (affinity >> 32) << 24);
    case kR_WAKER: return cpu.waker;
    case kPIDR4: return 4;
    default: return 0;
  }
}

void Gicv3::redistributor_write(unsigned index, u64 offset, u32 value) {
  Cpu& cpu = *cpus_[index];
  if (offset == kR_WAKER) {
    // The interface follows at once.
    cpu.waker = (value & kProcessorSleep) != 0 ? kProcessorSleep | kChildrenAsleep : 0u;
    return;
  }
  if (offset < kSgiFrame) return;
  offset -= kSgiFrame;
  if (offset >= kGicIGROUPR && offset < kIPRIORITYR) {
    if ((offset & 0x7f) == 0) cpu.bank.write(offset, value, ~u32{0});
  } else if (offset >= kIPRIORITYR && offset < kIPRIORITYR + 32) {
    for (unsigned i = 0; i < 4; ++i)
      cpu.bank.priority[offset - kIPRIORITYR + i] = static_cast<u8>(value >> (8 * i)) & kGicPriorityMask;
  } else if (offset == kICFGR + 4) {
    cpu.bank.write_config(1, value, ~kSgis);
  }
}

// --- CPU interfaces

GicCandidate Gicv3::best(const Cpu& cpu) const {
  GicCandidate found;
  const u32 disabled0 = (control_ & kEnableGrp0) != 0 ? 0 : ~u32{0}, disabled1 = (control_ & kEnableGrp1) != 0 ? 0 : ~u32{0};
  const auto forwarded = [&](const GicBank& bank) { return ~((bank.group & disabled1) | (~bank.group & disabled0)); };
  if ((cpu.waker & kProcessorSleep) != 0) return found;
  cpu.bank.best(forwarded(cpu.bank), 0, found);
  for (unsigned i = 0; i < shared_.size(); ++i)
    shared_[i].best(forwarded(shared_[i]) & route_masks_[cpu.index][i], 32 * (i + 1), found);
  return found;
}

u8 Gicv3::running(const Cpu& cpu) const { return std::min(cpu.active[0].running(), cpu.active[1].running()); }

u8 Gicv3::group_priority(const Cpu& cpu, const GicCandidate& candidate) const {
  const bool own = candidate.group1 && (cpu.control & kCBPR) == 0;
  return gic_group_priority(candidate.priority, own ? cpu.binary_point[1] - 1u : cpu.binary_point[0]);
}

bool Gicv3::signalled(const Cpu& cpu, const GicCandidate& found) const {
  return found.id != kGicSpurious && cpu.enabled[found.group1 ? 1 : 0] && found.priority < cpu.priority_mask &&
         group_priority(cpu, found) < running(cpu);
}

void Gicv3::update() {
  for (auto& cpu : cpus_) {
    const GicCandidate found = best(*cpu);
    const bool on = signalled(*cpu, found);
    cpu->lines.irq.set(on && found.group1);
    cpu->lines.fiq.set(on && !found.group1);
  }
}

GicBank* Gicv3::bank_of(Cpu& cpu, u32 id) {
  if (id < 32) return &cpu.bank;
  return id / 32 <= shared_.size() ? &shared_[id / 32 - 1] : nullptr;
}

u32 Gicv3::acknowledge(Cpu& cpu, bool group1) {
  const GicCandidate found = best(cpu);
  if (!signalled(cpu, found) || found.group1 != group1) return kGicSpurious;
  cpu.active[group1 ? 1 : 0].raise(group_priority(cpu, found));
  bank_of(cpu, found.id)->acknowledge(found.id % 32);
  return found.id;
}

void Gicv3::end_of_interrupt(Cpu& cpu, u32 id, bool group1) {
  if (id >= kNoInterrupt) return;
  // Only the group that runs at the highest priority can end.
  if ((cpu.active[0].bits | cpu.active[1].bits) == 0 || (cpu.active[1].running() < cpu.active[0].running()) != group1) return;
  cpu.active[group1 ? 1 : 0].drop();
  if ((cpu.control & kEOImode) == 0) deactivate(cpu, id);
}

void Gicv3::deactivate(Cpu& cpu, u32 id) {
  if (GicBank* bank = bank_of(cpu, id)) bank->active &= ~(u32{1} << (id % 32));
}

void Gicv3::send_sgi(const Cpu& from, u64 value, bool group1) {
  const unsigned id = static_cast<unsigned>(bits(value, 24, 4));
  const u64 target = bits(value, 16, 8) << 8 | bits(value, 32, 8) << 16 | bits(value, 48, 8) << 32;
  const u64 first = 16 * bits(value, 44, 4);
  for (auto& cpu : cpus_) {
    const u64 affinity0 = cpu->lines.affinity & 0xff;
    const bool listed = cluster(cpu->lines.affinity) == target && affinity0 >= first && affinity0 < first + 16 &&
                        bit(value, static_cast<unsigned>(affinity0 - first));
    const bool wanted = bit(value, 40) ? cpu->index != from.index : listed;
    if (wanted && bit(cpu->bank.group, id) == group1) cpu->bank.latch |= u32{1} << id;
  }
}

bool Gicv3::cpu_register(unsigned index, u32 number, bool write, u64& value) {
  if (index >= cpus_.size()) return false;
  Cpu& cpu = *cpus_[index];
  number &= 0x7fff;
  const bool there = write ? write_register(cpu, number, value) : read_register(cpu, number, value);
  if (there) update();
  return there;
}

bool Gicv3::read_register(Cpu& cpu, u32 number, u64& value) {
  const auto pending = [&](bool group1) {
    const GicCandidate found = best(cpu);
    return found.group1 == group1 ? found.id : kGicSpurious;
  };
  switch (number) {
    case kPMR: value = cpu.priority_mask; break;
    case kIAR0: value = acknowledge(cpu, false); break;
    case kIAR1: value = acknowledge(cpu, true); break;
    case kHPPIR0: value = pending(false); break;
    case kHPPIR1: value = pending(true); break;
    case kBPR0: value = cpu.binary_point[0]; break;
    case kBPR1: value = (cpu.control & kCBPR) != 0 ? std::min(cpu.binary_point[0] + 1, 7) : cpu.binary_point[1]; break;
    case kAP0R0: value = cpu.active[0].bits; break;
    case kAP1R0: value = cpu.active[1].bits; break;
    case kRPR: value = running(cpu); break;
    case kICC_CTLR:
    case kCTLR_EL3: value = cpu.control | kPRIbits | kA3V; break;
    case kICC_SRE: value = 7; break;
    case kSRE_EL2:
    case kSRE_EL3: value = 15; break;
    case kIGRPEN0: value = cpu.enabled[0]; break;
    case kIGRPEN1: value = cpu.enabled[1]; break;
    case kIGRPEN1_EL3: value = cpu.enabled[1] ? 3 : 0; break;
    default: return false;
  }
  return true;
}

bool Gicv3::write_register(Cpu& cpu, u32 number, u64 value) {
  switch (number) {
    case kPMR: cpu.priority_mask = static_cast<u8>(value) & kGicPriorityMask; break;
    case kEOIR0: end_of_interrupt(cpu, static_cast<u32>(value & 0xffffff), false); break;
    case kEOIR1: end_of_interrupt(cpu, static_cast<u32>(value & 0xffffff), true); break;
    case kDIR:
      if ((cpu.control & kEOImode) != 0) deactivate(cpu, static_cast<u32>(value & 0xffffff));
      break;
    case kBPR0: cpu.binary_point[0] = std::max<u8>(value & 7, kMinimumBinaryPoint); break;
    case kBPR1:
      if ((cpu.control & kCBPR) == 0) cpu.binary_point[1] = std::max<u8>(value & 7, kMinimumBinaryPoint + 1);
      break;
    case kAP0R0: cpu.active[0].bits = static_cast<u32>(value); break;
    case kAP1R0: cpu.active[1].bits = static_cast<u32>(value); break;
    case kSGI1R: send_sgi(cpu, value, true); break;
    case kASGI1R: break;  // the other security state's group 1: there is none
    case kSGI0R: send_sgi(cpu, value, false); break;
    case kICC_CTLR:
    case kCTLR_EL3: cpu.control = static_cast<u32>(value) & (kCBPR | kEOImode); break;
    case kICC_SRE:
    case kSRE_EL2:
    case kSRE_EL3: break;
    case kIGRPEN0: cpu.enabled[0] = bit(value, 0); break;
    case kIGRPEN1: cpu.enabled[1] = bit(value, 0); break;
    case kIGRPEN1_EL3: cpu.enabled[1] = (value & 3) != 0; break;
    default: return false;
  }
  return true;
}

void Gicv3::state(StateVisitor& v) {
  v.version(1);
  v("control", control_);
  for (auto& cpu : cpus_) v("cpu", *cpu);
  for (GicBank& bank : shared_) v("shared", bank);
  std::vector<u64> routes = routes_;
  v("routes", routes, 1024);
  if (!v.restoring()) return;
  if (routes.size() != routes_.size()) return v.fail("another number of interrupts");
  for (unsigned i = 0; i < routes.size(); ++i) set_route(i, routes[i]);
  update();
}

}  // namespace kiln::devices
