#include "jit/engine/block_store.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <bit>
#include <cstdlib>
#include <cstring>
#include <type_traits>

namespace kiln::jit {
namespace {

constexpr char kMagic[8] = {'k', 'i', 'l', 'n', 't', 'b', '0', '1'};
static_assert(std::is_trivially_copyable_v<Tier1Relocation> && sizeof(Tier1Relocation) == 8);
static_assert(std::is_trivially_copyable_v<FallbackRecord> && alignof(FallbackRecord) == 8);

constexpr std::size_t padded(std::size_t n) { return align_up(n, std::size_t{8}); }

// Against files cut short or not written out, not against malice: whoever may write the file may run as the user anyway.
u64 checksum(const u8* data, std::size_t size) {
  constexpr u64 kMultiplier = 0x9e3779b97f4a7c15;
  u64 lane[4] = {size, kMultiplier, ~u64{size}, kMultiplier << 7};
  std::size_t i = 0;
  for (; i + 32 <= size; i += 32)
    for (unsigned n = 0; n < 4; ++n) {
      u64 word;
      std::memcpy(&word, data + i + 8 * n, 8);
      lane[n] = std::rotl((lane[n] ^ word) * kMultiplier, 29);
    }
  for (; i < size; i += 8) {
    u64 word = 0;
    std::memcpy(&word, data + i, std::min<std::size_t>(8, size - i));
    lane[0] = std::rotl((lane[0] ^ word) * kMultiplier, 29);
  }
  const u64 all = (lane[0] ^ std::rotl(lane[1], 17)) * kMultiplier + (lane[2] ^ std::rotl(lane[3], 31));
  return (all ^ all >> 32) * kMultiplier;
}

std::size_t slot_of(GuestAddr pc, u32 mode) { return ((pc >> 1) ^ u64{mode} << 40) * 0x9e3779b97f4a7c15u >> 24; }

bool write_all(int fd, const u8* data, std::size_t size) {
  while (size != 0) {
    const ssize_t n = ::write(fd, data, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    data += n;
    size -= static_cast<std::size_t>(n);
  }
  return true;
}

}  // namespace

struct BlockStore::Header {
  char magic[8];
  u64 check;        // of what follows, up to the first record
  u64 file_bytes;
  u64 key_bytes;    // the key's text, padded to 8, follows the header; then the index
  u64 slots;        // a power of two
  u64 count;
};

struct BlockStore::Record {
  u64 check;        // of the rest of the record
  u64 bytes;        // of the whole record
  u64 pc, return_to, targets[2];
  u32 patches[2], stubs[2];
  u32 mode, guest_bytes, guest_insns, kept_bytes, code_bytes, relocations, fallbacks;
  u8 exits, end, masked, pad;
  // fallbacks, relocations, the guest's code, the code; padded to 8

  std::size_t payload() const {
    return u64{fallbacks} * sizeof(FallbackRecord) + u64{relocations} * sizeof(Tier1Relocation) + kept_bytes + u64{code_bytes};
  }
};

BlockStore::~BlockStore() {
  if (file_ != nullptr) munmap(const_cast<u8*>(file_), bytes_);
}

std::unique_ptr<BlockStore> BlockStore::open(const std::string& path, std::string_view key) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) return nullptr;
  struct stat st;
  constexpr s64 kMost = s64{1} << 30;
  const bool trusted = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & 022) == 0 &&
                       st.st_size >= static_cast<s64>(sizeof(Header)) && st.st_size <= kMost;
  void* map = trusted ? mmap(nullptr, static_cast<std::size_t>(st.st_size), PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0) : MAP_FAILED;
  if (map != MAP_FAILED && st.st_mtim.tv_sec + 3600 < time(nullptr)) futimens(fd, nullptr);  // "used lately", for whoever makes room
  close(fd);
  if (map == MAP_FAILED) return nullptr;
  std::unique_ptr<BlockStore> store(new BlockStore);
  store->file_ = static_cast<const u8*>(map);
  store->bytes_ = static_cast<std::size_t>(st.st_size);
  const auto& header = *reinterpret_cast<const Header*>(store->file_);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0 || header.file_bytes != store->bytes_ || header.key_bytes != key.size() ||
      !std::has_single_bit(header.slots) || header.slots > store->bytes_ / 4)
    return nullptr;
  const std::size_t front = sizeof(Header) + padded(key.size()) + header.slots * 4;
  if (front > store->bytes_ || std::memcmp(store->file_ + sizeof(Header), key.data(), key.size()) != 0) return nullptr;
  constexpr std::size_t kUnchecked = sizeof header.magic + sizeof header.check;
  if (checksum(store->file_ + kUnchecked, front - kUnchecked) != header.check) return nullptr;
  store->index_ = reinterpret_cast<const u32*>(store->file_ + sizeof(Header) + padded(key.size()));
  store->slots_ = header.slots;
  store->count_ = header.count;
  return store;
}

// Of a slot that is not 0; null if it is damaged.
const BlockStore::Record* BlockStore::record_at(u32 slot) const {
  const std::size_t at = std::size_t{slot} * 8;
  if (at > bytes_ || bytes_ - at < sizeof(Record)) return nullptr;
  const auto* record = reinterpret_cast<const Record*>(file_ + at);
  if (record->bytes > bytes_ - at || record->bytes < sizeof(Record) || padded(sizeof(Record) + record->payload()) != record->bytes ||
      record->exits > 2 || record->end > static_cast<u8>(BlockEnd::Branch))
    return nullptr;
  return checksum(file_ + at + 8, record->bytes - 8) == record->check ? record : nullptr;
}

const BlockStore::Record* BlockStore::lookup(GuestAddr pc, u32 mode) const {
  for (std::size_t i = slot_of(pc, mode), tries = 0; tries < slots_; ++i, ++tries) {
    const u32 slot = index_[i & (slots_ - 1)];
    if (slot == 0) return nullptr;
    const std::size_t at = std::size_t{slot} * 8;
    if (at > bytes_ || bytes_ - at < sizeof(Record)) return nullptr;
    const auto* record = reinterpret_cast<const Record*>(file_ + at);
    if (record->pc == pc && record->mode == mode) return record_at(slot);
  }
  return nullptr;
}

bool BlockStore::find(GuestAddr pc, u32 mode, StoredBlock& out) const {
  const Record* r = lookup(pc, mode);
  if (r == nullptr) return false;
  out.pc = pc;
  out.mode = mode;
  out.guest_bytes = r->guest_bytes;
  out.guest_insns = r->guest_insns;
  out.masked = r->masked != 0;
  out.end = static_cast<BlockEnd>(r->end);
  out.return_to = r->return_to;
  out.exit_count = r->exits;
  for (unsigned i = 0; i < r->exits; ++i) out.exits[i] = {r->targets[i], r->patches[i], r->stubs[i]};
  const u8* at = reinterpret_cast<const u8*>(r + 1);
  out.fallbacks = {reinterpret_cast<const FallbackRecord*>(at), r->fallbacks};
  at += out.fallbacks.size_bytes();
  out.relocations = {reinterpret_cast<const Tier1Relocation*>(at), r->relocations};
  at += out.relocations.size_bytes();
  out.guest_code = {at, r->kept_bytes};
  out.code = {at + r->kept_bytes, r->code_bytes};
  return true;
}

bool BlockStore::write(const std::string& path, std::string_view key, const BlockStore* old, std::span<const StoredBlock> fresh,
                       std::size_t max_bytes) {
  const std::size_t most = fresh.size() + (old != nullptr ? old->count_ : 0);
  const std::size_t slots = std::bit_ceil(most * 2 + 2);
  const std::size_t index_at = sizeof(Header) + padded(key.size()), front = index_at + slots * 4;
  std::vector<u8> file(padded(front));
  std::vector<u32> index(slots);
  std::size_t count = 0;
  // The record was appended at `at`; false if its block is there already.
  const auto enter = [&](GuestAddr pc, u32 mode, std::size_t at) {
    for (std::size_t i = slot_of(pc, mode);; ++i) {
      u32& slot = index[i & (slots - 1)];
      if (slot != 0) {
        const auto* other = reinterpret_cast<const Record*>(file.data() + std::size_t{slot} * 8);
        if (other->pc == pc && other->mode == mode) return false;
        continue;
      }
      slot = static_cast<u32>(at / 8);
      ++count;
      return true;
    }
  };
  for (const StoredBlock& block : fresh) {
    Record r{};
    r.pc = block.pc;
    r.mode = block.mode;
    r.return_to = block.return_to;
    r.guest_bytes = block.guest_bytes;
    r.guest_insns = block.guest_insns;
    r.kept_bytes = static_cast<u32>(block.guest_code.size());
    r.code_bytes = static_cast<u32>(block.code.size());
    r.relocations = static_cast<u32>(block.relocations.size());
    r.fallbacks = static_cast<u32>(block.fallbacks.size());
    r.exits = static_cast<u8>(block.exit_count);
    r.end = static_cast<u8>(block.end);
    r.masked = block.masked;
    for (unsigned i = 0; i < block.exit_count; ++i) {
      r.targets[i] = block.exits[i].target;
      r.patches[i] = block.exits[i].patch;
      r.stubs[i] = block.exits[i].stub;
    }
    const std::size_t at = file.size();
    r.bytes = padded(sizeof r + r.payload());
    if (at + r.bytes > max_bytes) break;
    file.resize(at + r.bytes);
    u8* out = file.data() + at + sizeof r;
    const auto put = [&](const auto& span) {
      if (!span.empty()) std::memcpy(out, span.data(), span.size_bytes());
      out += span.size_bytes();
    };
    put(block.fallbacks);
    put(block.relocations);
    put(block.guest_code);
    put(block.code);
    std::memcpy(file.data() + at, &r, sizeof r);
    reinterpret_cast<Record*>(file.data() + at)->check = checksum(file.data() + at + 8, r.bytes - 8);
    if (!enter(r.pc, r.mode, at)) file.resize(at);
  }
  for (std::size_t i = 0; old != nullptr && i < old->slots_; ++i) {
    if (old->index_[i] == 0) continue;
    const Record* r = old->record_at(old->index_[i]);
    const std::size_t at = file.size();
    if (r == nullptr || at + r->bytes > max_bytes) continue;
    const auto* bytes = reinterpret_cast<const u8*>(r);
    file.insert(file.end(), bytes, bytes + r->bytes);
    if (!enter(r->pc, r->mode, at)) file.resize(at);
  }
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.file_bytes = file.size();
  header.key_bytes = key.size();
  header.slots = slots;
  header.count = count;
  std::memcpy(file.data() + sizeof header, key.data(), key.size());
  std::memcpy(file.data() + index_at, index.data(), slots * 4);
  std::memcpy(file.data(), &header, sizeof header);
  constexpr std::size_t kUnchecked = sizeof header.magic + sizeof header.check;
  header.check = checksum(file.data() + kUnchecked, front - kUnchecked);
  std::memcpy(file.data(), &header, sizeof header);

  rlimit most_bytes;  // which may be the guest's own wish; beyond it there are signals
  if (getrlimit(RLIMIT_FSIZE, &most_bytes) != 0 || most_bytes.rlim_cur < file.size()) return false;
  std::string fresh_path = path + ".XXXXXX";
  const int fd = mkostemp(fresh_path.data(), O_CLOEXEC);
  if (fd < 0) return false;
  const bool done = write_all(fd, file.data(), file.size());
  close(fd);
  if (done && rename(fresh_path.c_str(), path.c_str()) == 0) return true;
  unlink(fresh_path.c_str());
  return false;
}

}  // namespace kiln::jit
