// What the generator writes and the stitcher reads: stencils as bytes and holes.
#pragma once
#include "ir/support/bits.h"

namespace kiln::stencil {

enum class Hole : u8 {
  A32,     // 4 bytes: Holes::a
  B32,     // 4 bytes: Holes::b
  B16,     // 2 bytes: Holes::b
  Imm8,    // 1 byte: Holes::b
  Imm64,   // 8 bytes: Holes::a
  Imm64b,  // 8 bytes: Holes::b
  Taken,   // rel32 to a label
  Cold,    // rel32 to the stencil's out-of-line continuation
  Pool,    // rel32 to the 16-byte constant of the block numbered Holes::a
  Const,   // rel32 to a 16-byte constant; `constant` is its index
};

struct Relocation {
  u8 offset;
  Hole hole;
  s16 addend;
  u16 constant;  // Const: see there. A32: if not 0, a displacement that ends the stencil, with its ModRM byte so far in front
                 // of it
};

/// `size` bytes at kBytes + offset; falls through at the end to whatever comes next.
struct Record {
  u32 offset;
  u16 relocations;  // index of the first
  u8 size;
  u8 relocation_count;
};
inline constexpr u8 kMissing = 0xff;  // Record::size of an index tuple that has no stencil

extern const u8 kBytes[];
extern const Record kRecords[];
extern const Relocation kRelocations[];
extern const V128 kConstants[];

}  // namespace kiln::stencil
