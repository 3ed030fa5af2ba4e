// The persistent cache's file: tier-1 blocks of one program, kept from earlier runs for later ones.
//
// One file a key; the key's text (guest, CPU models, program, Kiln's build) stands in it and must be the reader's. A file is never
// changed, only replaced whole by rename(): any number of processes may read and write at once, the last writer's file stays.
// Nothing in it is believed: owner and rights are looked at when it is opened, header and index are checked then, a block when it is
// found; and whoever uses a block compares the guest's code with the bytes it was made from.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "jit/stencil/tier1.h"

namespace kiln::jit {

/// How a block ends, as far as look-ups and heat want to know.
enum class BlockEnd : u8 { Other, Jump, Call, Branch };

/// A block in the file, or on its way there. The spans are the file's or the caller's.
struct StoredBlock {
  struct Exit {
    GuestAddr target;
    u32 patch, stub;                       // offsets in the code
  };
  GuestAddr pc = 0;
  u32 mode = 0;
  u32 guest_bytes = 0, guest_insns = 0;
  bool masked = false;                     // see Impl::masks_addresses
  BlockEnd end = BlockEnd::Other;
  GuestAddr return_to = 0;                 // of a call, direct or not; 0: none
  u32 exit_count = 0;
  Exit exits[2] = {};
  std::span<const u8> guest_code;          // what the lifter read, from pc
  std::span<const u8> code;
  std::span<const Tier1Relocation> relocations;
  std::span<const FallbackRecord> fallbacks;
};

class BlockStore {
 public:
  ~BlockStore();
  BlockStore(const BlockStore&) = delete;
  BlockStore& operator=(const BlockStore&) = delete;

  /// Null if there is no such file, or none of this key that this user may trust.
  static std::unique_ptr<BlockStore> open(const std::string& path, std::string_view key);

  /// False if there is none, or a damaged one.
  bool find(GuestAddr pc, u32 mode, StoredBlock& out) const;
  std::size_t size() const { return count_; }

  /// Writes a file of `fresh` and of those in `old` (null: none) that they do not replace, as far as `max_bytes` goes. False, with nothing
  /// changed, if that cannot be done.
  static bool write(const std::string& path, std::string_view key, const BlockStore* old, std::span<const StoredBlock> fresh,
                    std::size_t max_bytes);

 private:
  struct Header;
  struct Record;
  BlockStore() = default;
  const Record* record_at(u32 slot) const;
  const Record* lookup(GuestAddr pc, u32 mode) const;

  const u8* file_ = nullptr;
  std::size_t bytes_ = 0;
  const u32* index_ = nullptr;             // open addressing; a record's offset / 8, 0: none
  std::size_t slots_ = 0, count_ = 0;
};

}  // namespace kiln::jit
