#include "devices/char/mux.h"

namespace kiln::devices {

namespace {
constexpr u8 kCtrlA = 1;
constexpr std::string_view kHelp =
    "\r\n"
    "C-a h    print this help\r\n"
    "C-a x    exit emulator\r\n"
    "C-a b    send break\r\n"
    "C-a c    switch between console and monitor\r\n"
    "C-a C-a  sends C-a\r\n";
}  // namespace

class CharMux::Port : public CharBackend {
 public:
  Port(CharMux& mux, std::string name) : mux_(mux), name_(std::move(name)) {}
  void attach(Callbacks callbacks) override {
    callbacks_ = std::move(callbacks);
    deliver();
  }
  void send(std::span<const u8> bytes) override { mux_.outer_.send(bytes); }
  void room_changed() override { deliver(); }
  std::string describe() const override { return name_ + " on " + mux_.outer_.describe(); }

  void typed(u8 byte) {
    if (waiting_.size() < kMostKept) waiting_.push_back(byte);
    deliver();
  }
  void line_break() const {
    if (callbacks_.line_break) callbacks_.line_break();
  }

 private:
  void deliver() {
    // A receiver that makes room while it receives comes back here: the bytes stay in order because each is taken off first.
    while (!waiting_.empty() && callbacks_.room && callbacks_.room() != 0) {
      const u8 byte = waiting_.front();
      waiting_.pop_front();
      callbacks_.receive({&byte, 1});
    }
  }
  CharMux& mux_;
  std::string name_;
  Callbacks callbacks_;
  std::deque<u8> waiting_;
};

CharMux::CharMux(CharBackend& outer, Actions actions) : outer_(outer), actions_(std::move(actions)) {
  outer_.attach({[] { return u64{4096}; },
                 [this](std::span<const u8> bytes) {
                   for (const u8 byte : bytes) typed(byte);
                 },
                 [this] {
                   if (!ports_.empty()) ports_[focus_]->line_break();
                 }});
}

CharMux::~CharMux() { outer_.attach({}); }

CharBackend& CharMux::add_port(std::string name) {
  ports_.push_back(std::make_unique<Port>(*this, std::move(name)));
  return *ports_.back();
}

void CharMux::typed(u8 byte) {
  if (escaped_) {
    escaped_ = false;
    escape(byte);
  } else if (byte == kCtrlA) {
    escaped_ = true;
  } else if (!ports_.empty()) {
    ports_[focus_]->typed(byte);
  }
}

void CharMux::escape(u8 byte) {
  switch (byte) {
    case 'x':
      say("\r\nKiln: terminated\r\n");
      if (actions_.exit) actions_.exit();
      break;
    case 'c':
      if (ports_.size() < 2) break;
      focus_ = (focus_ + 1) % static_cast<unsigned>(ports_.size());
      if (actions_.focused) actions_.focused(focus_);
      break;
    case 'b':
      if (!ports_.empty()) ports_[focus_]->line_break();
      break;
    case 'h':
    case '?': say(kHelp); break;
    case kCtrlA:
      if (!ports_.empty()) ports_[focus_]->typed(kCtrlA);
      break;
    default: break;
  }
}

void CharMux::say(std::string_view text) { outer_.send({reinterpret_cast<const u8*>(text.data()), text.size()}); }

}  // namespace kiln::devices
