// The differential tester of x86: what a case is and who does what with it.
//   generate.cpp   rows of frontends/x86 → instruction sequences and states to run them from
//   native.cpp     runs a batch on this machine's processor, in a child process
//   emulated.cpp   runs a case under the interpreter or a tier
//   compare.cpp    says where two results differ that should not
//   minimise.cpp   shrinks a find
//   main.cpp       options, the loop, coverage
// Invariants: (1) native and emulated runs see the same addresses, code and memory; (2) whatever is random comes from the
// printed seed; (3) what manuals leave undefined is masked by the rows' u= lists and by the list in compare.cpp, nowhere else.
#pragma once
#include <array>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "frontends/x86/insn.h"

namespace kiln::test::x86diff {

// Guest addresses, the same on the processor. The pages around each area are not mapped.
inline constexpr u64 kPage = 4096;
inline constexpr u64 kScratch = 0x10000000, kScratchBytes = 2 * kPage;
inline constexpr u64 kLow = 0x5000, kLowBytes = 2 * kPage;  // within reach of 16-bit addresses, not of the states' usual values
inline constexpr u64 kCode = 0x20000000, kSlotBytes = 128, kSlots = 1024;
inline constexpr u64 kFsBase = 0x0f000000, kGsBase = 0x0e800000;
inline constexpr u32 kDataSelector = 0x2b;
inline constexpr u32 kFsSelector = 0x07, kGsSelector = 0x0f;  // of the LDT
inline constexpr unsigned kMemoryImages = 8;

class Random {
 public:
  explicit Random(u64 seed) : s_(seed * 0x9e3779b97f4a7c15 + 0x853c49e6748fea9b) { next(); }
  u64 next() {  // splitmix64
    u64 z = s_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  /// 0 … n-1.
  u64 below(u64 n) { return next() % n; }
  bool percent(unsigned p) { return below(100) < p; }

 private:
  u64 s_;
};

/// Everything an instruction of user mode can see. x87 registers are the physical ones, R0..R7.
struct State {
  u64 r[16];
  u64 rip;
  u64 rflags;
  V128 xmm[16];
  V128 ymm_high[16];
  V128 st[8];
  u32 mxcsr;
  u16 fcw, fsw;
  u8 ftw;           // abridged: bit i set = Ri not empty
  u16 selector[6];  // ES CS SS DS FS GS
  u64 fs_base, gs_base;
};

/// How a case ended: an exception as the processor numbers them.
struct Exit {
  static constexpr u8 kSyscall = 0x80, kHung = 0x81, kUnknown = 0x82;
  u8 vector = 0;
  u32 error = 0;
  u64 address = 0;  // of a page fault
};

struct Memory {
  u8 scratch[kScratchBytes];
  u8 low[kLowBytes];
};

struct Result {
  State state;
  Exit exit;
  Memory memory;  // `low` only if the case uses it
};

/// Where a memory operand should lie: turned into register values when a state is drawn.
struct MemoryUse {
  s8 base = -1, index = -1;
  u8 scale_log2 = 0, address_bytes = 8;
  bool vector_index = false;
  u64 add = 0;        // displacement and segment base
  u16 bytes = 1;      // of the access
  u16 alignment = 1;  // that the instruction wants
};

struct Piece {
  const x86::Row* row = nullptr;  // null: undefined, as far as Kiln knows
  std::vector<u8> bytes;
  u8 target = 0xff;        // forward branch: the piece it goes to
  u8 displacement_at = 0;  // where its relative operand stands, and how long it is
  u8 displacement_bytes = 0;
  s64 rip_disp_target = 0;  // RIP-relative operand: the address; its disp32 stands at rip_disp_at
  u8 rip_disp_at = 0;
};

/// An instruction sequence, independent of where it stands.
struct Sequence {
  x86::CodeSize mode = x86::CodeSize::Bits64;
  std::vector<Piece> pieces;
  std::vector<MemoryUse> uses;
  bool uses_low = false;
  bool small_counter = false;  // rCX should be small (REP, LOOP)
  bool divides = false;
  bool double_shift = false;  // 16-bit SHLD or SHRD by CL: the result of counts above 16 is undefined
  bool xsave = false;         // rDX:rAX chooses among the components that Kiln has
  bool wild = false;          // random bytes
  bool changes_segments = false;
  bool ends = false;        // nothing may come behind
  s8 faulting_use = -1;     // index into `uses`: should lie outside more often than not
  bool selectors = false;   // registers should hold selectors
  u64 small_registers = 0;  // bit per register: bit offsets of BT and its like
};

struct Case {
  const Sequence* sequence = nullptr;
  unsigned slot = 0;
  unsigned image = 0;  // memory at the start
  State state{};
};

/// The sequence's code for `slot`, padded with INT3 to kSlotBytes.
std::array<u8, kSlotBytes> assemble(const Sequence& sequence, unsigned slot);
inline u64 slot_address(unsigned slot) { return kCode + slot * kSlotBytes; }
/// Length of the code before the padding.
unsigned code_bytes(const Sequence& sequence);

// --- generate.cpp -----------------------------------------------------------------------------------------------------------

struct RowStatistics {
  u64 drawn = 0, failed_to_draw = 0;
};

class Generator {
 public:
  /// Rows whose name or group is `select` (empty: all).
  Generator(x86::CodeSize mode, const std::string& select, unsigned max_length);
  Sequence draw(Random& random, std::vector<RowStatistics>& statistics);
  /// A state for `sequence` standing in `slot`.
  State draw_state(Random& random, const Sequence& sequence, unsigned slot) const;
  /// Where in the order of rows the next first instructions are.
  void seek(u64 position) { next_ = position; }
  std::size_t rows() const { return rows_.size(); }
  bool can_draw(const x86::Row& row) const;
  const std::vector<u16>& selected() const { return rows_; }

 private:
  bool draw_piece(Random& random, const x86::Row& row, Sequence& sequence, u32& undefined);
  void draw_wild(Random& random, Sequence& sequence);
  void note_uses(Random& random, const x86::Insn& insn, Sequence& sequence) const;
  u32 mode_word() const { return static_cast<u32>(mode_); }

  x86::CodeSize mode_;
  unsigned max_length_;
  std::vector<u16> rows_, float_rows_;
  std::size_t next_ = 0;
};
/// Status flags that an instruction looks at.
u32 flags_read(const x86::Row& row, unsigned param);
/// No instruction looks at flags that an earlier one leaves undefined.
bool well_defined(const Sequence& sequence);
/// Makes the x87 status word's summary bits follow from its exceptions and the masks, as the processor does on loading it.
void normalise(State& state);
/// Segment registers as every case begins with them (CS follows from the mode).
void start_segments(State& state);
/// "general", "x87", "mmx", "sse" or "avx".
const char* group_of(const x86::Row& row);
void fill_memory_image(Random& random, Memory& image);

// --- native.cpp -------------------------------------------------------------------------------------------------------------

class Native {
 public:
  /// Maps the areas at their addresses and starts the child.
  explicit Native(const std::vector<Memory>& images);
  ~Native();
  /// Writable view of the code.
  u8* code() const;
  static constexpr unsigned kMaxCases = 1024;
  /// Starts running cases on the processor; the code must be in place.
  void start(std::span<const Case> cases);
  /// Waits for the results of start().
  const Result* finish();
  /// The first result of the last finish().
  const Result& finished() const;
  u64 restarts() const { return restarts_; }
  /// The file that holds the code.
  int descriptor() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  u64 restarts_ = 0;
};

// --- emulated.cpp -----------------------------------------------------------------------------------------------------------

enum class Tier : u8 { Interp, InterpOptimised, One, Two };

/// What happened to undefined status flags in a case that jumped into code other than its own.
struct Trace {
  bool elsewhere = false;      // an instruction was carried out that is none of the sequence's pieces
  u32 undefined = 0;           // flags that are undefined at the end
  bool looked_at_one = false;  // an instruction depends on a flag that an earlier one left undefined
};

class Emulator {
 public:
  static std::unique_ptr<Emulator> make(Tier tier, x86::CodeSize mode, int code_fd, const std::vector<Memory>& images);
  virtual ~Emulator() = default;
  /// The code in the slots is new.
  virtual void new_code() = 0;
  virtual void run(const Case& c, Result& out) = 0;
  /// Runs it instruction by instruction.
  virtual Trace trace(const Case& c) = 0;
  /// The same for a case that stands alone: run again until it is in the tier's own code.
  void run_warm(const Case& c, Result& out) {
    for (unsigned n = 0; n < runs_until_hot(); ++n) run(c, out);
  }

 protected:
  virtual unsigned runs_until_hot() const { return 1; }
};

// --- compare.cpp ------------------------------------------------------------------------------------------------------------

/// Empty if equal; else lines "what: processor … Kiln …". `first` names the first thing that differs. `undefined`: status flags
/// that nobody defines, instead of those that the sequence's rows say.
std::string difference(const Case& c, const Result& native, const Result& kiln, std::string* first = nullptr,
                       const u32* undefined = nullptr);
/// Shifts and repeated string instructions with a count of 0 leave all flags alone.
bool may_write_nothing(const x86::Row& row);
std::string describe(const Case& c);

// --- minimise.cpp -----------------------------------------------------------------------------------------------------------

/// Runs one case on both sides; the difference, empty if there is none.
class Judge {
 public:
  virtual ~Judge() = default;
  virtual std::string judge(const Case& c, std::string* first) = 0;
};
/// Drops instructions and simplifies the state as long as the case still differs. `sequence` is what the result points to.
Case minimise(Judge& judge, const Case& found, Sequence& sequence);

// --- case_file.cpp ----------------------------------------------------------------------------------------------------------

/// The memory image that files begin with; image 0 of the tester.
void pattern(Memory& memory);
/// A case that began with pattern() and stands in slot 0, with what the processor made of it.
std::string case_line(const Case& c, const Result& native);
struct FileCase {
  Sequence sequence;
  State start;
  Memory memory;
  Result expected;
};
/// Empty, or what is wrong with the line.
std::string parse_case(const std::string& line, FileCase& out);

}  // namespace kiln::test::x86diff
