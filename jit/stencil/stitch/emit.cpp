// Bytes: copying stencils, patching holes, constants.
#include "jit/stencil/stitch/stitcher.h"

namespace kiln::jit {

using stencil::Hole;
using stencil::kRecords;
using stencil::Record;
using stencil::Relocation;

void stitch_failure(const char* what, const char* name) {
  std::fprintf(stderr, "kiln: tier 1: %s: %s\n", what, name);
  std::abort();
}

void Stitcher::reserve() {
  // No instruction's code, its share of cold parts and stubs included, comes near this.
  constexpr std::size_t kMargin = 4096;
  if (static_cast<std::size_t>(limit_ - out_) >= kMargin) return;
  const std::size_t used = here();
  buffer_.resize(std::max<std::size_t>(buffer_.size() * 2, 64 * 1024));
  begin_ = buffer_.data();
  out_ = begin_ + used;
  limit_ = begin_ + buffer_.size();
}

void Stitcher::emit(u32 stencil, u64 a, u64 b) {
  const Record& r = kRecords[stencil];
  if (r.size == stencil::kMissing) [[unlikely]]
    stitch_failure("internal error", "stencil for impossible registers");
  const u8* from = stencil::kBytes + r.offset;
  std::memcpy(out_, from, 16);
  if (r.size > 16) [[unlikely]]
    std::memcpy(out_ + 16, from + 16, r.size - 16u);
  for (unsigned i = 0; i < r.relocation_count; ++i) {
    const Relocation& x = stencil::kRelocations[r.relocations + i];
    u8* at = out_ + x.offset;
    switch (x.hole) {
      case Hole::A32: {
        const u32 value = static_cast<u32>(a + static_cast<u64>(s64{x.addend}));
        std::memcpy(at, &value, 4);
        if (x.constant && static_cast<s32>(value) == static_cast<s8>(value)) {
          // mod 10 -> 01 with one byte, or 00 with none (rbp and r13 have no such form)
          u8& modrm = at[-static_cast<int>(x.constant)];
          const bool none = value == 0 && x.constant == 1 && (modrm & 7) != 5;
          modrm = static_cast<u8>((modrm & 0x3f) | (none ? 0 : 0x40));
          out_ -= none ? 4 : 3;
        }
        break;
      }
      case Hole::B32: {
        const u32 value = static_cast<u32>(b + static_cast<u64>(s64{x.addend}));
        std::memcpy(at, &value, 4);
        break;
      }
      case Hole::B16: {
        const u16 value = static_cast<u16>(b);
        std::memcpy(at, &value, 2);
        break;
      }
      case Hole::Imm8: *at = static_cast<u8>(b); break;
      case Hole::Imm64: std::memcpy(at, &a, 8); break;
      case Hole::Imm64b: std::memcpy(at, &b, 8); break;
      case Hole::Taken: last_taken_ = here() + x.offset; break;
      case Hole::Cold: last_cold_ = here() + x.offset; break;
      case Hole::Const: pool_uses_.push_back({here() + x.offset, pool(stencil::kConstants[x.constant]), x.addend}); break;
      case Hole::Pool: pool_uses_.push_back({here() + x.offset, static_cast<u32>(a), x.addend}); break;
    }
  }
  out_ += r.size;
}

void Stitcher::emit_ri(u32 stencil, u64 imm) {
  emit(stencil, imm);
  const s32 value = static_cast<s32>(imm);
  if (value == static_cast<s8>(value) && out_[-6] == 0x81) {  // [rex] 81 /n id -> 83 /n ib
    out_[-6] = 0x83;
    out_[-4] = static_cast<u8>(value);
    out_ -= 3;
  }
}

void Stitcher::nops(unsigned count) {
  static constexpr u8 kNops[4][3] = {{}, {0x90}, {0x66, 0x90}, {0x0f, 0x1f, 0x00}};
  for (; count; count -= std::min(count, 3u)) {
    const unsigned n = std::min(count, 3u);
    std::memcpy(out_, kNops[n], n);
    out_ += n;
  }
}

void Stitcher::patch_rel32(u32 fixup, u32 target) {
  const u32 distance = target - (fixup + 4);
  std::memcpy(begin_ + fixup, &distance, 4);
}

u32 Stitcher::pool(const V128& value) {
  for (u32 i = 0; i < pool_.size(); ++i)
    if (pool_[i].d[0] == value.d[0] && pool_[i].d[1] == value.d[1]) return i;
  pool_.push_back(value);
  return static_cast<u32>(pool_.size() - 1);
}

// The block's code can be used in another run if the field has the form that it would have there too.
void Stitcher::note_field(bool in_form, u32 offset, Kind kind) {
  code_.relocatable &= in_form;
  if (in_form) code_.relocations.push_back({offset, kind});
}

u32 Stitcher::hole_offset(u32 stencil, Hole hole) const {
  const Record& r = kRecords[stencil];
  for (unsigned i = 0; i < r.relocation_count; ++i)
    if (stencil::kRelocations[r.relocations + i].hole == hole) return stencil::kRelocations[r.relocations + i].offset;
  stitch_failure("internal error", "stencil without that hole");
}

void Stitcher::jump_to(HostAddr target, Kind kind) {
  const s64 distance = static_cast<s64>(target - (options_->code_address + here() + 5));
  const bool near = distance == static_cast<s32>(distance);
  if (near) {
    emit(id::jmp_taken);
    const s32 field = static_cast<s32>(distance);
    std::memcpy(begin_ + last_taken_, &field, 4);
  } else {
    emit(id::jmp_far, target);
  }
  note_field(near, last_taken_, kind);
}

void Stitcher::store_imm(u32 offset, u64 value, bool is64) {
  if (!is64 || fits32(value)) {
    emit(id::slot_st_imm + (is64 ? 1 : 0), offset, value);
    if (offset < 128) {  // [49|41] c7 84 24 disp32 imm32 -> [..] c7 44 24 disp8 imm32
      out_[-10] = 0x44;
      out_[-8] = static_cast<u8>(offset);
      std::memmove(out_ - 7, out_ - 4, 4);
      out_ -= 3;
    }
    return;
  }
  if (value >> 32 == 0) emit(id::mov_ti32, value);
  else emit(id::mov_ti64, value);
  emit(id::slot_st_t + 1, offset);
}

void Stitcher::load_imm(u8 reg, u64 value) {
  if (value == 0) emit(id::zero + reg);
  else if (value >> 32 == 0) emit(id::mov_i32 + reg, value);
  else if (fits32(value)) emit(id::mov_i32s + reg, value);
  else emit(id::mov_i64 + reg, value);
}

bool relocate(std::span<u8> code, std::span<const Tier1Relocation> relocations, std::span<const FallbackRecord* const> fallbacks,
              const Tier1Options& options) {
  for (const Tier1Relocation& x : relocations) {
    using Kind = Tier1Relocation::Kind;
    const bool wide = x.kind == Kind::Fallback;
    const bool relative = x.kind == Kind::Leave || x.kind == Kind::LookupMiss || x.kind >= Kind::LeaveChain;
    if (x.offset > code.size() || code.size() - x.offset < (wide ? 8 : 4)) return false;
    u64 value = 0;
    switch (x.kind) {
      case Kind::Leave: value = options.runtime.leave; break;
      case Kind::LookupMiss: value = options.runtime.lookup_miss; break;
      case Kind::Counter: value = reinterpret_cast<u64>(options.counter); break;
      case Kind::BlockId: value = options.block_id; break;
      case Kind::Exit0: value = options.exit_ids[0]; break;
      case Kind::Exit1: value = options.exit_ids[1]; break;
      case Kind::Targets: value = reinterpret_cast<u64>(options.targets); break;
      case Kind::LeaveChain: value = options.runtime.leave_chain; break;
      case Kind::LeaveHot: value = options.runtime.leave_hot; break;
      case Kind::LeavePoll: value = options.runtime.leave_poll; break;
      case Kind::Fallback:
        if (x.index >= fallbacks.size()) return false;
        value = reinterpret_cast<u64>(fallbacks[x.index]);
        std::memcpy(code.data() + x.offset, &value, 8);
        continue;
    }
    if (relative) {
      value -= options.code_address + x.offset + 4;
      if (!fits32(value)) return false;
    } else if (value > 0x7fffffff) {
      return false;
    }
    std::memcpy(code.data() + x.offset, &value, 4);
  }
  return true;
}

}  // namespace kiln::jit
