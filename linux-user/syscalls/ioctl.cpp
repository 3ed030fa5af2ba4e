// ioctl by table: what the third argument is. The generic ABI's numbers and structs are the host's own for all 64-bit guests.
#include <asm/termbits.h>
#include <linux/cdrom.h>
#include <linux/fb.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/hdreg.h>
#include <linux/if.h>
#include <linux/kd.h>
#include <linux/if_tun.h>
#include <linux/loop.h>
#include <linux/nsfs.h>
#include <linux/random.h>
#include <linux/rtc.h>
#include <linux/sockios.h>
#include <linux/vm_sockets.h>
#include <linux/vt.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "linux-user/syscalls/syscall.h"

namespace kiln::user {
namespace {

enum class Arg : u8 { None, Value, Pointer };  // Value: an int, not to be translated

struct Ioctl {
  u32 request;
  Arg arg;
};

constexpr Ioctl kIoctls[] = {
    // terminals
    {TCGETS, Arg::Pointer},
    {TCSETS, Arg::Pointer},
    {TCSETSW, Arg::Pointer},
    {TCSETSF, Arg::Pointer},
    {TCGETS2, Arg::Pointer},
    {TCSETS2, Arg::Pointer},
    {TCSETSW2, Arg::Pointer},
    {TCSETSF2, Arg::Pointer},
    {TCGETA, Arg::Pointer},
    {TCSETA, Arg::Pointer},
    {TCSETAW, Arg::Pointer},
    {TCSETAF, Arg::Pointer},
    {TCSBRK, Arg::Value},
    {TCSBRKP, Arg::Value},
    {TCXONC, Arg::Value},
    {TCFLSH, Arg::Value},
    {TIOCEXCL, Arg::None},
    {TIOCNXCL, Arg::None},
    {TIOCSCTTY, Arg::Value},
    {TIOCNOTTY, Arg::None},
    {TIOCGPGRP, Arg::Pointer},
    {TIOCSPGRP, Arg::Pointer},
    {TIOCGSID, Arg::Pointer},
    {TIOCOUTQ, Arg::Pointer},
    {TIOCSTI, Arg::Pointer},
    {TIOCGWINSZ, Arg::Pointer},
    {TIOCSWINSZ, Arg::Pointer},
    {TIOCMGET, Arg::Pointer},
    {TIOCMSET, Arg::Pointer},
    {TIOCMBIS, Arg::Pointer},
    {TIOCMBIC, Arg::Pointer},
    {TIOCGSOFTCAR, Arg::Pointer},
    {TIOCSSOFTCAR, Arg::Pointer},
    {FIONREAD, Arg::Pointer},
    {TIOCLINUX, Arg::Pointer},
    {TIOCCONS, Arg::None},
    {TIOCPKT, Arg::Pointer},
    {FIONBIO, Arg::Pointer},
    {TIOCSETD, Arg::Pointer},
    {TIOCGETD, Arg::Pointer},
    {TIOCSBRK, Arg::None},
    {TIOCCBRK, Arg::None},
    {TIOCGPTN, Arg::Pointer},
    {TIOCSPTLCK, Arg::Pointer},
    {TIOCGPTPEER, Arg::Value},
    {TIOCGLCKTRMIOS, Arg::Pointer},
    {TIOCSLCKTRMIOS, Arg::Pointer},
    {TIOCGICOUNT, Arg::Pointer},
    {TIOCGPTLCK, Arg::Pointer},
    {TIOCGPKT, Arg::Pointer},
    {TIOCSIG, Arg::Value},
    {TIOCVHANGUP, Arg::None},
    {TIOCGDEV, Arg::Pointer},
    {TIOCGEXCL, Arg::Pointer},
    {TIOCGSERIAL, Arg::Pointer},
    {TIOCSSERIAL, Arg::Pointer},
    // any descriptor
    {FIOCLEX, Arg::None},
    {FIONCLEX, Arg::None},
    {FIOASYNC, Arg::Pointer},
    {FIOQSIZE, Arg::Pointer},
    {FIOSETOWN, Arg::Pointer},
    {FIOGETOWN, Arg::Pointer},
    {SIOCSPGRP, Arg::Pointer},
    {SIOCGPGRP, Arg::Pointer},
    {SIOCATMARK, Arg::Pointer},
    // file systems and block devices
    {FS_IOC_GETFLAGS, Arg::Pointer},
    {FS_IOC_SETFLAGS, Arg::Pointer},
    {FS_IOC_GETVERSION, Arg::Pointer},
    {FS_IOC_FSGETXATTR, Arg::Pointer},
    {FS_IOC_FSSETXATTR, Arg::Pointer},
    {FS_IOC_FIEMAP, Arg::Pointer},
    {FIBMAP, Arg::Pointer},
    {FIGETBSZ, Arg::Pointer},
    {FIFREEZE, Arg::Pointer},
    {FITHAW, Arg::Pointer},
    {FITRIM, Arg::Pointer},
    {FICLONE, Arg::Value},
    {FICLONERANGE, Arg::Pointer},
    {FIDEDUPERANGE, Arg::Pointer},
    {BLKROSET, Arg::Pointer},
    {BLKROGET, Arg::Pointer},
    {BLKRRPART, Arg::None},
    {BLKGETSIZE, Arg::Pointer},
    {BLKFLSBUF, Arg::None},
    {BLKRASET, Arg::Value},
    {BLKRAGET, Arg::Pointer},
    {BLKSSZGET, Arg::Pointer},
    {BLKBSZGET, Arg::Pointer},
    {BLKBSZSET, Arg::Pointer},
    {BLKGETSIZE64, Arg::Pointer},
    {BLKDISCARD, Arg::Pointer},
    {BLKIOMIN, Arg::Pointer},
    {BLKIOOPT, Arg::Pointer},
    {BLKPBSZGET, Arg::Pointer},
    {BLKALIGNOFF, Arg::Pointer},
    {BLKROTATIONAL, Arg::Pointer},
    {BLKDISCARDZEROES, Arg::Pointer},
    {BLKSECDISCARD, Arg::Pointer},
    {BLKZEROOUT, Arg::Pointer},
    {HDIO_GETGEO, Arg::Pointer},
    {LOOP_SET_FD, Arg::Value},
    {LOOP_CLR_FD, Arg::None},
    {LOOP_SET_STATUS64, Arg::Pointer},
    {LOOP_GET_STATUS64, Arg::Pointer},
    {LOOP_CHANGE_FD, Arg::Value},
    {LOOP_SET_CAPACITY, Arg::None},
    {LOOP_SET_DIRECT_IO, Arg::Value},
    {LOOP_SET_BLOCK_SIZE, Arg::Value},
    {LOOP_CONFIGURE, Arg::Pointer},
    {FS_IOC_GETFSLABEL, Arg::Pointer},
    {FS_IOC_SETFSLABEL, Arg::Pointer},
    {BLKGETDISKSEQ, Arg::Pointer},
    {LOOP_CTL_ADD, Arg::Value},
    {LOOP_CTL_REMOVE, Arg::Value},
    {LOOP_CTL_GET_FREE, Arg::None},
    // network interfaces
    {SIOCGIFNAME, Arg::Pointer},
    {SIOCGIFFLAGS, Arg::Pointer},
    {SIOCSIFFLAGS, Arg::Pointer},
    {SIOCGIFADDR, Arg::Pointer},
    {SIOCSIFADDR, Arg::Pointer},
    {SIOCGIFDSTADDR, Arg::Pointer},
    {SIOCSIFDSTADDR, Arg::Pointer},
    {SIOCGIFBRDADDR, Arg::Pointer},
    {SIOCSIFBRDADDR, Arg::Pointer},
    {SIOCGIFNETMASK, Arg::Pointer},
    {SIOCSIFNETMASK, Arg::Pointer},
    {SIOCGIFMETRIC, Arg::Pointer},
    {SIOCGIFMTU, Arg::Pointer},
    {SIOCSIFMTU, Arg::Pointer},
    {SIOCGIFHWADDR, Arg::Pointer},
    {SIOCSIFHWADDR, Arg::Pointer},
    {SIOCGIFINDEX, Arg::Pointer},
    {SIOCGIFTXQLEN, Arg::Pointer},
    {SIOCSIFTXQLEN, Arg::Pointer},
    {SIOCGIFMAP, Arg::Pointer},
    {SIOCADDRT, Arg::Pointer},
    {SIOCDELRT, Arg::Pointer},
    {SIOCDARP, Arg::Pointer},
    {SIOCGARP, Arg::Pointer},
    {SIOCSARP, Arg::Pointer},
    {SIOCGIFPFLAGS, Arg::Pointer},
    {SIOCSIFPFLAGS, Arg::Pointer},
    {SIOCSIFMETRIC, Arg::Pointer},
    {SIOCSIFNAME, Arg::Pointer},
    {SIOCADDMULTI, Arg::Pointer},
    {SIOCDELMULTI, Arg::Pointer},
    {SIOCBRADDBR, Arg::Pointer},
    {SIOCBRDELBR, Arg::Pointer},
    {SIOCBRADDIF, Arg::Pointer},
    {SIOCBRDELIF, Arg::Pointer},
    {TUNSETIFF, Arg::Pointer},
    {TUNGETIFF, Arg::Pointer},
    {TUNGETFEATURES, Arg::Pointer},
    {TUNSETPERSIST, Arg::Value},
    {TUNSETOWNER, Arg::Value},
    {TUNSETGROUP, Arg::Value},
    {TUNSETOFFLOAD, Arg::Value},
    {TUNGETVNETHDRSZ, Arg::Pointer},
    {TUNSETVNETHDRSZ, Arg::Pointer},
    // descriptors of namespaces
    {NS_GET_USERNS, Arg::None},
    {NS_GET_PARENT, Arg::None},
    {NS_GET_NSTYPE, Arg::None},
    {NS_GET_OWNER_UID, Arg::Pointer},
    // devices that programs meet
    {RNDADDENTROPY, Arg::Pointer},
    {RNDZAPENTCNT, Arg::None},
    {RNDCLEARPOOL, Arg::None},
    {RNDRESEEDCRNG, Arg::None},
    {RNDGETENTCNT, Arg::Pointer},
    {RNDADDTOENTCNT, Arg::Pointer},
    {RTC_RD_TIME, Arg::Pointer},
    {RTC_SET_TIME, Arg::Pointer},
    {VT_OPENQRY, Arg::Pointer},
    {VT_GETSTATE, Arg::Pointer},
    {VT_ACTIVATE, Arg::Value},
    {VT_WAITACTIVE, Arg::Value},
    {VT_GETMODE, Arg::Pointer},
    {VT_SETMODE, Arg::Pointer},
    {KDGETMODE, Arg::Pointer},
    {KDSETMODE, Arg::Value},
    {KDGKBTYPE, Arg::Pointer},
    {KDGKBMODE, Arg::Pointer},
    {KDSKBMODE, Arg::Value},
    {KDGKBENT, Arg::Pointer},
    {KDSIGACCEPT, Arg::Value},
    {FBIOGET_VSCREENINFO, Arg::Pointer},
    {FBIOGET_FSCREENINFO, Arg::Pointer},
    {IOCTL_VM_SOCKETS_GET_LOCAL_CID, Arg::Pointer},
    {CDROMEJECT, Arg::None},
    {CDROM_DRIVE_STATUS, Arg::Value},
};

/// evdev's requests carry a length, an axis or a kind of event in their number: their type tells them. None has pointers or longs,
/// but for input_event's time, which only reads and writes have.
bool is_evdev(u32 request) { return _IOC_TYPE(request) == 'E' && _IOC_DIR(request) != _IOC_NONE; }
/// Those whose argument is a number though the direction says write: EVIOCRMFF, EVIOCGRAB, EVIOCREVOKE.
bool is_evdev_value(u32 request) {
  return request == _IOW('E', 0x81, int) || request == _IOW('E', 0x90, int) || request == _IOW('E', 0x91, int);
}

/// SIOCGIFCONF's struct holds a pointer.
s64 ifconf_ioctl(Call& c) {
  struct {
    s32 length;
    u32 pad;
    u64 buffer;
  } guest;
  if (!c.memory.read(c.a[2], guest)) return -EFAULT;
  struct ifconf host{};
  host.ifc_len = guest.length;
  host.ifc_buf = static_cast<char*>(c.memory.out_pointer(guest.buffer, static_cast<u32>(guest.length)));
  const s64 r = c.host(SYS_ioctl, c.a[0], c.a[1], &host);
  if (r < 0) return r;
  guest.length = host.ifc_len;
  return c.memory.write(c.a[2], guest) ? r : -EFAULT;
}

}  // namespace

s64 sys_ioctl(Call& c) {
  const u32 request = c.u(1);
  if (request == SIOCGIFCONF) return ifconf_ioctl(c);
  for (const Ioctl& row : kIoctls) {
    if (row.request != request) continue;
    return c.host(SYS_ioctl, c.a[0], u64{request}, row.arg == Arg::Pointer ? Call::to_u64(c.out(2)) : c.a[2]);
  }
  // EVIOCSFF (0x80) holds a pointer.
  if (is_evdev(request) && _IOC_NR(request) != 0x80)
    return c.host(SYS_ioctl, c.a[0], u64{request}, is_evdev_value(request) ? c.a[2] : Call::to_u64(c.out(2)));
  char name[48];
  std::snprintf(name, sizeof name, "unimplemented ioctl %#x", request);
  say_once(c.process, name);
  return -ENOTTY;
}

}  // namespace kiln::user
