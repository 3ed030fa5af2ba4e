#include "devices/pci/host.h"

namespace kiln::devices {

/// Several slots drive one line: it is high while one of them is.
class PcieHost::SharedLine : public IrqLine {
 public:
  SharedLine(PcieHost& host, unsigned slot) : host_(host), slot_(slot) {}
  void set(bool level) override {
    u32& asserted = host_.asserted_[slot_ % 4];
    asserted = (asserted & ~(u32{1} << slot_)) | (level ? u32{1} << slot_ : 0);
    host_.intx_[slot_ % 4]->set(asserted != 0);
  }

 private:
  PcieHost& host_;
  unsigned slot_;
};

class PcieHost::Bridge final : public PciFunction {
 public:
  Bridge() : PciFunction(0x1b36, 0x0008, 0x060000, 0) {}
};

PcieHost::PcieHost(MemoryBus& bus, MsiTarget& msi, std::array<IrqLine*, 4> intx, u64 window_base, u64 window_bytes)
    : bus_(bus),
      msi_(msi),
      window_base_(window_base),
      window_bytes_(window_bytes),
      intx_(intx),
      bridge_(std::make_unique<Bridge>()) {
  for (unsigned i = 0; i < kSlots; ++i) lines_[i] = std::make_unique<SharedLine>(*this, i);
  bridge_->insert({bus_, msi_, *lines_[0], window_base_, window_bytes_}, "pci-host-bridge");
  slots_[0] = bridge_.get();
}

PcieHost::~PcieHost() = default;

unsigned PcieHost::insert(PciFunction& function, std::string name, unsigned number) {
  if (number == 0)
    while (number < kSlots && slots_[number] != nullptr) number += 1;
  if (number >= kSlots || slots_[number] != nullptr) return 0;
  slots_[number] = &function;
  function.insert({bus_, msi_, *lines_[number], window_base_, window_bytes_}, std::move(name));
  return number;
}

PciFunction* PcieHost::find(u64 offset) const {
  const u64 bus_and_function = offset >> 20 << 3 | bits(offset, 12, 3);
  return bus_and_function == 0 ? slots_[bits(offset, 15, 5)] : nullptr;
}

u64 PcieHost::read(u64 offset, unsigned bytes) {
  PciFunction* function = find(offset);
  if (function == nullptr) return mask_low(8 * bytes);
  const unsigned reg = static_cast<unsigned>(offset & 0xfff);
  if (bytes == 8) return function->read_config(reg, 4) | static_cast<u64>(function->read_config(reg + 4, 4)) << 32;
  return function->read_config(reg, bytes);
}

void PcieHost::write(u64 offset, u64 value, unsigned bytes) {
  PciFunction* function = find(offset);
  if (function == nullptr) return;
  const unsigned reg = static_cast<unsigned>(offset & 0xfff);
  if (bytes == 8) {
    function->write_config(reg, static_cast<u32>(value), 4);
    function->write_config(reg + 4, static_cast<u32>(value >> 32), 4);
  } else {
    function->write_config(reg, static_cast<u32>(value), bytes);
  }
}

void PcieHost::reset() {
  for (PciFunction* function : slots_)
    if (function != nullptr) function->reset();
}

void PcieHost::state(StateVisitor& v) {
  v.version(1);
  for (unsigned i = 0; i < kSlots; ++i) {
    if (slots_[i] == nullptr) continue;
    v("function" + std::to_string(i), static_cast<Stateful&>(*slots_[i]));
  }
}

}  // namespace kiln::devices
