// The files that the guest has mapped, as addresses → ELF symbols and unwind tables. For crash reports and core dumps.
#pragma once
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "linux-user/process.h"

namespace kiln::user {

struct FileMapping {
  GuestAddr start, end;
  u64 offset;  // of `start` in the file
  std::string path;  // on the host
};
/// In ascending order.
std::vector<FileMapping> file_mappings(const Process& process);

/// An ELF file, read where it lies on disk. Never trusts it: what is out of bounds is not there.
class ElfFile {
 public:
  explicit ElfFile(const std::string& path);
  ~ElfFile();
  ElfFile(const ElfFile&) = delete;
  ElfFile& operator=(const ElfFile&) = delete;
  bool valid() const { return !segments_.empty(); }
  /// Address in the file's own terms for a file offset; false: in no segment.
  bool address_of(u64 offset, u64& address) const;
  /// Name of the function around `address` and how far in; empty: none known.
  std::string function(u64 address, u64& distance) const;
  /// Bytes from an address on to the end of the file's part of the segment; empty: not in the file.
  std::span<const u8> bytes_at(u64 address) const;
  /// .eh_frame: its address and bytes.
  std::span<const u8> eh_frame(u64& address) const;
  bool wide() const { return wide_; }

 private:
  struct Segment {
    u64 offset, address, file_size;
  };
  struct Section {
    u32 type, link;
    u64 address, offset, size, entry_size;
    std::string name;
  };
  template <class T>
  bool read(u64 offset, T& out) const;
  u64 word(u64 offset) const;
  void parse();

  std::span<const u8> data_;
  bool wide_ = false;
  std::vector<Segment> segments_;
  std::vector<Section> sections_;
};

/// Where a guest address lies.
struct CodePlace {
  const ElfFile* file = nullptr;
  std::string path;
  u64 address = 0;  // in the file's own terms
  u64 bias = 0;     // guest address - address
};

class GuestFiles {
 public:
  explicit GuestFiles(const Process& process) : mappings_(file_mappings(process)) {}
  const std::vector<FileMapping>& mappings() const { return mappings_; }
  CodePlace place(GuestAddr pc);
  /// "0x… function+0x… (file)". is_return: the call before the address is meant.
  std::string describe(GuestAddr pc, bool is_return);

 private:
  std::vector<FileMapping> mappings_;
  std::map<std::string, std::unique_ptr<ElfFile>> files_;
};

}  // namespace kiln::user
