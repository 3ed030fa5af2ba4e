// 32-bit layer: the ioctls whose number or argument differs. All others take the same structs and go through sys_ioctl's table.
#include <linux/fs.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/route.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "linux-user/syscalls/compat32.h"

namespace kiln::user {
namespace {

constexpr Layout kLong{"l"}, kUnsignedLong{"L"}, kGeometry{"2chL"}, kIfreq{"16c16c"}, kIfmap{"16c2Lh3c"};

/// How the third argument of a request goes to the host.
enum class How : u8 {
  Renumbered,  // same bytes behind another number (the size in it says long)
  In,
  Out,
  InOut
};
struct Ioctl32 {
  u32 guest, host;
  How how;
  const Layout* layout;
};

/// A request number with the size replaced.
constexpr u32 sized(u32 request, u32 bytes) { return (request & ~(u32{0x3fff} << 16)) | bytes << 16; }

constexpr Ioctl32 kIoctls[] = {
    {sized(FS_IOC_GETFLAGS, 4), FS_IOC_GETFLAGS, How::Renumbered, nullptr},
    {sized(FS_IOC_SETFLAGS, 4), FS_IOC_SETFLAGS, How::Renumbered, nullptr},
    {sized(FS_IOC_GETVERSION, 4), FS_IOC_GETVERSION, How::Renumbered, nullptr},
    {sized(FS_IOC_SETVERSION, 4), FS_IOC_SETVERSION, How::Renumbered, nullptr},
    {sized(BLKBSZGET, 4), BLKBSZGET, How::Renumbered, nullptr},
    {sized(BLKBSZSET, 4), BLKBSZSET, How::Renumbered, nullptr},
    {sized(BLKGETSIZE64, 4), BLKGETSIZE64, How::Renumbered, nullptr},
    {BLKGETSIZE, BLKGETSIZE, How::Out, &kUnsignedLong},
    {BLKRAGET, BLKRAGET, How::Out, &kLong},
    {0x0301 /* HDIO_GETGEO */, 0x0301, How::Out, &kGeometry},
    // struct ifreq: 32 bytes instead of 40, the rest of the host's stays zero
    {SIOCGIFNAME, SIOCGIFNAME, How::InOut, &kIfreq},
    {SIOCGIFFLAGS, SIOCGIFFLAGS, How::InOut, &kIfreq},
    {SIOCSIFFLAGS, SIOCSIFFLAGS, How::In, &kIfreq},
    {SIOCGIFADDR, SIOCGIFADDR, How::InOut, &kIfreq},
    {SIOCSIFADDR, SIOCSIFADDR, How::In, &kIfreq},
    {SIOCGIFDSTADDR, SIOCGIFDSTADDR, How::InOut, &kIfreq},
    {SIOCSIFDSTADDR, SIOCSIFDSTADDR, How::In, &kIfreq},
    {SIOCGIFBRDADDR, SIOCGIFBRDADDR, How::InOut, &kIfreq},
    {SIOCSIFBRDADDR, SIOCSIFBRDADDR, How::In, &kIfreq},
    {SIOCGIFNETMASK, SIOCGIFNETMASK, How::InOut, &kIfreq},
    {SIOCSIFNETMASK, SIOCSIFNETMASK, How::In, &kIfreq},
    {SIOCGIFMETRIC, SIOCGIFMETRIC, How::InOut, &kIfreq},
    {SIOCGIFMTU, SIOCGIFMTU, How::InOut, &kIfreq},
    {SIOCSIFMTU, SIOCSIFMTU, How::In, &kIfreq},
    {SIOCGIFHWADDR, SIOCGIFHWADDR, How::InOut, &kIfreq},
    {SIOCSIFHWADDR, SIOCSIFHWADDR, How::In, &kIfreq},
    {SIOCGIFINDEX, SIOCGIFINDEX, How::InOut, &kIfreq},
    {SIOCGIFTXQLEN, SIOCGIFTXQLEN, How::InOut, &kIfreq},
    {SIOCSIFTXQLEN, SIOCSIFTXQLEN, How::In, &kIfreq},
    {SIOCGIFMAP, SIOCGIFMAP, How::InOut, &kIfmap},
    {SIOCGIFPFLAGS, SIOCGIFPFLAGS, How::InOut, &kIfreq},
    {SIOCSIFPFLAGS, SIOCSIFPFLAGS, How::In, &kIfreq},
    {SIOCSIFMETRIC, SIOCSIFMETRIC, How::In, &kIfreq},
    {SIOCSIFNAME, SIOCSIFNAME, How::In, &kIfreq},
    {SIOCADDMULTI, SIOCADDMULTI, How::In, &kIfreq},
    {SIOCDELMULTI, SIOCDELMULTI, How::In, &kIfreq},
    {SIOCBRADDIF, SIOCBRADDIF, How::In, &kIfreq},
    {SIOCBRDELIF, SIOCBRDELIF, How::In, &kIfreq},
    {TUNSETIFF, TUNSETIFF, How::InOut, &kIfreq},
    {TUNGETIFF, TUNGETIFF, How::Out, &kIfreq},
};

/// Requests of sys_ioctl's table whose structs hold pointers or longs and are not converted yet.
constexpr u32 kUnconverted[] = {SIOCADDRT, SIOCDELRT, TIOCGSERIAL, TIOCSSERIAL, 0x4602 /* FBIOGET_FSCREENINFO */};

/// struct ifconf: a length and a pointer to ifreqs, whose sizes differ too.
s64 interfaces(Call& c) {
  s32 length;
  u32 buffer;
  if (!get_word(c, c.a[2], length) || !get_word(c, c.a[2] + 4, buffer)) return -EFAULT;
  const std::size_t each = kIfreq.guest_size(c.abi);
  std::vector<struct ifreq> entries(buffer && length > 0 ? std::min<std::size_t>(static_cast<std::size_t>(length) / each, 4096)
                                                         : 0);
  struct ifconf conf{};
  conf.ifc_len = static_cast<int>(entries.size() * sizeof(struct ifreq));
  conf.ifc_req = buffer ? entries.data() : nullptr;
  const s64 r = c.host(SYS_ioctl, c.a[0], u64{SIOCGIFCONF}, &conf);
  if (r < 0) return r;
  const std::size_t count = static_cast<std::size_t>(conf.ifc_len) / sizeof(struct ifreq);
  for (std::size_t k = 0; buffer && k < count; ++k)
    if (!c.memory.write(buffer + k * each, &entries[k], each)) return -EFAULT;
  return put_word<s32>(c, c.a[2], static_cast<s32>(count * each)) ? r : -EFAULT;
}

}  // namespace

s64 c32_ioctl(Call& c) {
  const u32 request = c.u(1);
  if (request == SIOCGIFCONF) return interfaces(c);
  for (const u32 unconverted : kUnconverted)
    if (request == unconverted) {
      char name[64];
      std::snprintf(name, sizeof name, "unimplemented ioctl %#x of a 32-bit program", request);
      say_once(c.process, name);
      return -ENOTTY;
    }
  for (const Ioctl32& row : kIoctls) {
    if (row.guest != request) continue;
    if (row.how == How::Renumbered) return c.host(SYS_ioctl, c.a[0], u64{row.host}, c.out(2, 8));
    alignas(8) u8 host[kLayoutBytes] = {};
    if (row.how != How::Out) {
      if (const int r = get_struct(c, c.a[2], *row.layout, host[0]); r < 0) return r;
    }
    const s64 r = c.host(SYS_ioctl, c.a[0], u64{row.host}, host);
    if (r < 0 || row.how == How::In) return r;
    const int e = put_struct(c, c.a[2], *row.layout, host[0]);
    return e < 0 ? e : r;
  }
  return sys_ioctl(c);
}

}  // namespace kiln::user
