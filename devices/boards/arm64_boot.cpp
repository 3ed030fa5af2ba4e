#include "devices/boards/arm64_boot.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace kiln::devices {

namespace {
constexpr u64 kMegabyte = 1 << 20;
constexpr u64 kLargestKernel = 1024 * kMegabyte;

u64 little(const std::vector<u8>& bytes, std::size_t offset, unsigned count) {
  u64 value = 0;
  for (unsigned i = 0; i < count; ++i) value |= static_cast<u64>(bytes[offset + i]) << (8 * i);
  return value;
}

bool starts_with(const std::vector<u8>& bytes, std::size_t offset, std::string_view text) {
  return bytes.size() >= offset + text.size() && std::memcmp(bytes.data() + offset, text.data(), text.size()) == 0;
}

Result<std::vector<u8>> gunzip(const u8* data, std::size_t size, const std::string& name) {
  z_stream stream{};
  if (inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK) return Error{"cannot decompress " + name};
  std::vector<u8> out;
  stream.next_in = const_cast<u8*>(data);
  stream.avail_in = static_cast<uInt>(size);
  int status = Z_OK;
  while (status == Z_OK && out.size() < kLargestKernel) {
    const std::size_t had = out.size();
    out.resize(had + 16 * kMegabyte);
    stream.next_out = out.data() + had;
    stream.avail_out = static_cast<uInt>(out.size() - had);
    status = inflate(&stream, Z_NO_FLUSH);
    out.resize(out.size() - stream.avail_out);
  }
  inflateEnd(&stream);
  if (status != Z_STREAM_END) return Error{"cannot decompress " + name + ": its gzip data is damaged or incomplete"};
  return out;
}
}  // namespace

Result<std::vector<u8>> read_whole_file(const std::string& name, u64 limit) {
  const auto failed = [&](const char* why) { return Error{"cannot read " + name + ": " + why}; };
  const int fd = open(name.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return failed(std::strerror(errno));
  std::vector<u8> bytes;
  for (;;) {
    const std::size_t had = bytes.size();
    bytes.resize(had + std::max<std::size_t>(had, kMegabyte));
    const ssize_t got = ::read(fd, bytes.data() + had, bytes.size() - had);
    const int error = errno;
    bytes.resize(had + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    if (got < 0 && error == EINTR) continue;
    if (got <= 0 || bytes.size() > limit) {
      close(fd);
      if (got < 0) return failed(std::strerror(error));
      if (bytes.size() > limit) return failed("it is too large");
      return bytes;
    }
  }
}

Result<Arm64Image> parse_arm64_image(std::vector<u8> file, const std::string& name) {
  if (starts_with(file, 0, "MZ") && starts_with(file, 4, "zimg") && file.size() >= 64) {
    // EFI zboot: a program that unpacks the real image; payload's offset and size, and the name of the method at 24.
    const u64 offset = little(file, 8, 4), size = little(file, 12, 4);
    if (!starts_with(file, 24, std::string_view("gzip\0", 5)))
      return Error{name + " is an EFI zboot image compressed with something other than gzip, which is not supported"};
    if (offset > file.size() || size > file.size() - offset) return Error{name + " is a damaged EFI zboot image"};
    auto inner = gunzip(file.data() + offset, size, name);
    if (!inner) return Error{inner.error()};
    file = std::move(*inner);
  } else if (starts_with(file, 0, "\x1f\x8b")) {
    auto inner = gunzip(file.data(), file.size(), name);
    if (!inner) return Error{inner.error()};
    file = std::move(*inner);
  }
  if (file.size() < 64 || !starts_with(file, 56, "ARM\x64")) return Error{name + " is no arm64 Linux kernel (Image, Image.gz)"};
  Arm64Image image;
  image.text_offset = little(file, 8, 8);
  image.memory_bytes = little(file, 16, 8);
  if (bit(little(file, 24, 8), 0)) return Error{name + " is a big-endian kernel, which is not supported"};
  // Kernels before 3.17 left both fields zero.
  if (image.memory_bytes == 0) image.text_offset = 0x80000;
  image.memory_bytes = std::max<u64>(image.memory_bytes, file.size());
  if (image.text_offset >= 2 * kMegabyte || image.memory_bytes > kLargestKernel)
    return Error{name + " has a damaged arm64 kernel header"};
  image.bytes = std::move(file);
  return image;
}

Result<Arm64Layout> lay_out_arm64(const Arm64Image& image, u64 initrd_bytes, u64 tree_bytes, u64 memory_base,
                                  u64 memory_bytes) {
  Arm64Layout layout;
  layout.kernel = memory_base + image.text_offset;
  layout.initrd = align_up(layout.kernel + image.memory_bytes, 2 * kMegabyte);
  layout.device_tree = align_up(layout.initrd + initrd_bytes, 2 * kMegabyte);
  const u64 end = layout.device_tree + tree_bytes - memory_base;
  if (end > memory_bytes) {
    return Error{"kernel and initrd need " + std::to_string(align_up(end, kMegabyte) / kMegabyte) +
                 " MiB of memory, the machine has " + std::to_string(memory_bytes / kMegabyte) + " (-m)"};
  }
  return layout;
}

}  // namespace kiln::devices
