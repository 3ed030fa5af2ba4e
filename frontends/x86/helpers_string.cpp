// REP-prefixed string instructions.
#include <emmintrin.h>

#include <cstring>

#include "frontends/x86/helpers.h"
#include "ir/interpreter.h"

namespace kiln::x86 {

using ir::CpuState;
using ir::ExitKind;
using ir::Helper;
using ir::Type;

namespace {

constexpr u64 kPage = 4096;
X86State& x86(CpuState* s) { return *static_cast<X86State*>(s); }

using Slot32 [[gnu::may_alias]] = u32;

/// One access each, at any alignment; the first element of a chunk may fault here.
template <class T>
struct [[gnu::packed]] Loose {
  T value;
};
template <class T>
T load(const u8* p) {
  return reinterpret_cast<const volatile Loose<T>*>(p)->value;
}
template <class T>
void store(u8* p, T v) {
  reinterpret_cast<volatile Loose<T>*>(p)->value = v;
}

/// Copies upwards in pieces of 16 bytes and less, each read before it is written: what single bytes give, too, if the
/// destination does not begin in the 15 bytes behind the source's beginning.
void copy_up(u8* to, const u8* from, u64 bytes) {
  for (; bytes >= 16; bytes -= 16, to += 16, from += 16)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  const auto piece = [&]<class T>(T) {
    if ((bytes & sizeof(T)) == 0) return;
    store<T>(to, load<T>(from));
    to += sizeof(T);
    from += sizeof(T);
  };
  piece(u64{});
  piece(u32{});
  piece(u16{});
  piece(u8{});
}
/// The same downwards; `to` and `from` are the ends.
void copy_down(u8* to, const u8* from, u64 bytes) {
  for (; bytes >= 16; bytes -= 16) {
    to -= 16;
    from -= 16;
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  const auto piece = [&]<class T>(T) {
    if ((bytes & sizeof(T)) == 0) return;
    to -= sizeof(T);
    from -= sizeof(T);
    store<T>(to, load<T>(from));
  };
  piece(u64{});
  piece(u32{});
  piece(u16{});
  piece(u8{});
}

// The host's REP instructions take some 30 cycles to begin, and with DF set one or two a byte: they serve long operands
// upwards.
constexpr u64 kLong = 512;

/// MOVS: element by element from the first on, `to` and `from` being its place.
template <class T>
void move(u8* to, const u8* from, u64 n, bool down) {
  store<T>(to, load<T>(from));  // the element that may fault
  const u64 rest = (n - 1) * sizeof(T);
  if (rest == 0) return;
  const u64 ahead =
      down ? static_cast<u64>(from - to) : static_cast<u64>(to - from);  // of the source, in the direction; wraps if behind
  // Where what has been written is read again; and short ones, since what has just been written by the element is forwarded
  // from the store buffer to loads of the element only.
  constexpr u64 kShort = sizeof(T) >= 4 ? 32 * sizeof(T) : 0;
  if ((ahead < 16 && ahead != 0) || rest <= kShort) {
    const s64 step = down ? -static_cast<s64>(sizeof(T)) : static_cast<s64>(sizeof(T));
    while (--n) {
      to += step;
      from += step;
      store<T>(to, load<T>(from));
    }
    return;
  }
  if (down) return copy_down(to, from, rest);
  to += sizeof(T);
  from += sizeof(T);
  if (rest < kLong || ahead < rest) return copy_up(to, from, rest);
  u64 count = rest;
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count)::"memory");
}

/// STOS.
template <class T>
void fill(u8* to, T v, u64 n, bool down) {
  store<T>(to, v);  // the element that may fault
  u64 rest = (n - 1) * sizeof(T);
  if (rest == 0) return;
  to = down ? to - rest : to + sizeof(T);
  if (rest >= kLong) {
    u64 count = rest / sizeof(T);
    if constexpr (sizeof(T) == 1) asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(v) : "memory");
    else if constexpr (sizeof(T) == 2) asm volatile("rep stosw" : "+D"(to), "+c"(count) : "a"(v) : "memory");
    else if constexpr (sizeof(T) == 4) asm volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(v) : "memory");
    else asm volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(v) : "memory");
    return;
  }
  const u64 all = sizeof(T) == 8 ? u64{v} : u64{v} * (~u64{0} / static_cast<T>(~T{0}));
  for (; rest >= 8; rest -= 8, to += 8) store<u64>(to, all);
  for (; rest != 0; rest -= sizeof(T), to += sizeof(T)) store<T>(to, v);
}

/// One REP-prefixed string instruction. Work goes in chunks that stay on the pages of their first element: only a chunk's first
/// access can fault, and registers are up to date when a chunk begins.
template <StringOp op_, class T>
class Strings {
  static constexpr unsigned bytes_ = sizeof(T);

 public:
  Strings(X86State& s, u32 descriptor)
      : s_(s),
        address_bytes_(descriptor >> 8 & 15),
        source_(static_cast<Seg>(descriptor >> 12 & 15)),
        repne_((descriptor >> 17 & 1) != 0),
        step_((descriptor >> 18 & 1) != 0) {
    const CodeSize code = code_size(s.mode);
    is64_ = code == CodeSize::Bits64;
    mask_ = address_bytes_ == 8 ? ~u64{0} : mask_low(8 * address_bytes_);
  }

  /// True: the instruction is complete.
  bool run() {
    for (unsigned chunks = 0; chunks < (step_ ? 1 : 64); ++chunks) {
      const u64 count = get(RCX) & mask_;
      if (count == 0) return true;
      if (chunk(count)) return true;
    }
    return (get(RCX) & mask_) == 0;
  }

 private:
  /// A register slot is as wide as the code: 8 bytes of one that has just been written as 4 would wait for the store to be
  /// done.
  u64 get(Gpr r) const {
    if (is64_) return s_.r[r];
    return *reinterpret_cast<const volatile Slot32*>(&s_.r[r]);
  }
  u64 linear(Seg seg, u64 offset) const {
    offset &= mask_;
    if (is64_) return offset + (seg == FS || seg == GS ? s_.seg_base[seg] : 0);
    return (offset + s_.seg_base[seg]) & 0xffffffff;
  }
  /// Elements from `at` on that lie on one page in the direction of DF; at least 1.
  u64 on_page(u64 at) const {
    const u64 in_page = at % kPage;
    if (s_.df) return in_page + bytes_ > kPage ? 1 : in_page / bytes_ + 1;
    return in_page + bytes_ > kPage ? 1 : (kPage - in_page) / bytes_;
  }
  void set(Gpr r, u64 v) {
    if (address_bytes_ == 2) s_.r[r] = (s_.r[r] & ~mask_) | (v & mask_);
    else s_.r[r] = v & mask_;
  }
  void advance(Gpr r, u64 n) { set(r, get(r) + (s_.df ? 0 - n * bytes_ : n * bytes_)); }
  void compare(u64 a, u64 b) {
    const u32 width = bytes_ == 1 ? 0 : bytes_ == 2 ? 1 : bytes_ == 4 ? 2 : 3;
    s_.flags_kind = static_cast<u32>(ir::FlagsKind::ESub8) + width;
    s_.flags_a = a;
    s_.flags_b = b;
  }

  bool chunk(u64 count) {
    constexpr bool uses_source = op_ == StringOp::Movs || op_ == StringOp::Cmps || op_ == StringOp::Lods;
    constexpr bool uses_destination = op_ != StringOp::Lods;
    const u64 from = uses_source ? linear(source_, get(RSI)) : 0, to = uses_destination ? linear(ES, get(RDI)) : 0;
    u64 n = step_ ? 1 : count;
    // An offset that would wrap inside the chunk goes element by element.
    const auto limit = [&](u64 at, u64 offset) {
      u64 most = on_page(at);
      if (address_bytes_ != 8 && !s_.df && (offset & mask_) + most * bytes_ > mask_) most = 1;
      if (most < n) n = most;
    };
    if (uses_source) limit(from, get(RSI));
    if (uses_destination) limit(to, get(RDI));
    u8* source = reinterpret_cast<u8*>(s_.memory_base + from);
    if ((s_.mode & kModeAlignmentCheck) && ((from | to) & (bytes_ - 1))) {
      if (uses_source && (from & (bytes_ - 1)) == 0) (void)*static_cast<volatile const u8*>(source);  // is read first
      ir::raise(&s_, ExitKind::Trap, trap_value(kAC));
    }
    u8* destination = reinterpret_cast<u8*>(s_.memory_base + to);
    bool found = false;
    const u64 done = elements(destination, source, n, found);
    if (uses_source) advance(RSI, done);
    if (uses_destination) advance(RDI, done);
    set(RCX, count - done);
    return found;
  }

  /// `n` elements, or fewer if one is found; says how many.
  u64 elements(u8* destination, u8* source, u64 n, bool& found) {
    const s64 step = s_.df ? -static_cast<s64>(sizeof(T)) : static_cast<s64>(sizeof(T));
    switch (op_) {
      case StringOp::Movs: move<T>(destination, source, n, s_.df); return n;
      case StringOp::Stos: fill<T>(destination, static_cast<T>(get(RAX)), n, s_.df); return n;
      case StringOp::Lods: {
        (void)load<T>(source);  // the first element is the one that faults
        const u64 v = load<T>(source + step * static_cast<s64>(n - 1));
        if constexpr (sizeof(T) >= 4) s_.r[RAX] = v;
        else s_.r[RAX] = (s_.r[RAX] & ~mask_low(8 * sizeof(T))) | v;
        return n;
      }
      default: break;
    }
    T a = static_cast<T>(get(RAX)), b = 0;
    u64 done = 0;
    while (done < n && !found) {
      if (op_ == StringOp::Cmps) {
        a = load<T>(source);
        source += step;
      }
      b = load<T>(destination);
      destination += step;
      ++done;
      found = (a == b) == repne_;
    }
    compare(a, b);
    return done;
  }

  X86State& s_;
  unsigned address_bytes_;
  Seg source_;
  bool repne_, step_, is64_;
  u64 mask_;
};

template <StringOp kOp, class T>
u32 string(CpuState* state, u32 descriptor) {
  return Strings<kOp, T>(x86(state), descriptor).run();
}

constexpr u32 kEffects = ir::READS_STATE | ir::WRITES_STATE | ir::READS_MEM | ir::WRITES_MEM | ir::MAY_FAULT;

}  // namespace

namespace {
template <StringOp kOp, class T>
const Helper kStringOf{"string", reinterpret_cast<const void*>(string<kOp, T>), Type::I32, {Type::I32}, kEffects};
template <StringOp kOp>
const Helper& of_width(unsigned bytes) {
  return bytes == 1   ? kStringOf<kOp, u8>
         : bytes == 2 ? kStringOf<kOp, u16>
         : bytes == 4 ? kStringOf<kOp, u32>
                      : kStringOf<kOp, u64>;
}
}  // namespace

const Helper& string_helper(StringOp op, unsigned bytes) {
  switch (op) {
    case StringOp::Movs: return of_width<StringOp::Movs>(bytes);
    case StringOp::Cmps: return of_width<StringOp::Cmps>(bytes);
    case StringOp::Stos: return of_width<StringOp::Stos>(bytes);
    case StringOp::Lods: return of_width<StringOp::Lods>(bytes);
    default: return of_width<StringOp::Scas>(bytes);
  }
}

}  // namespace kiln::x86
