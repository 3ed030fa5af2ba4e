// Interrupt lines.
#pragma once

namespace kiln::devices {

/// One wire from a device to an interrupt controller, or from there to a processor; given to the device at construction. It
/// starts low. Level is what the device drives; setting the same level again does nothing. Machine lock held. A processor's
/// line may be set from any thread that holds the lock; softmmu notes the level and breaks into the vCPU.
class IrqLine {
 public:
  virtual ~IrqLine() = default;
  virtual void set(bool level) = 0;
};

/// A line that leads nowhere.
class NoLine : public IrqLine {
 public:
  void set(bool) override {}
};

}  // namespace kiln::devices
