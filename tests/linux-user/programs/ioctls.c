// ioctls by table: namespaces' descriptors, network interfaces, tun, evdev's shape, file systems.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/input.h>
#include <linux/nsfs.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

int main(void) {
  int ns = open("/proc/self/ns/net", O_RDONLY);
  CHECK(ns >= 0 && ioctl(ns, NS_GET_NSTYPE) == CLONE_NEWNET);
  int user = ioctl(ns, NS_GET_USERNS);
  unsigned uid = 99;
  CHECK(user >= 0 ? ioctl(user, NS_GET_NSTYPE) == CLONE_NEWUSER && ioctl(user, NS_GET_OWNER_UID, &uid) == 0 && uid != 99 : errno == EPERM);
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  struct ifreq request = {0};
  strcpy(request.ifr_name, "lo");
  CHECK(ioctl(s, SIOCGIFINDEX, &request) == 0 && request.ifr_ifindex == 1);
  CHECK(ioctl(s, SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_LOOPBACK));
  CHECK(ioctl(s, SIOCGIFMTU, &request) == 0 && request.ifr_mtu > 1000);
  struct ifreq list[8];
  struct ifconf conf = {.ifc_len = sizeof list, .ifc_req = list};
  CHECK(ioctl(s, SIOCGIFCONF, &conf) == 0 && conf.ifc_len % (int)sizeof(struct ifreq) == 0);
  char name[256];
  int null = open("/dev/null", O_RDWR);
  CHECK(ioctl(null, EVIOCGNAME(sizeof name), name) == -1 && errno == ENOTTY);
  CHECK(ioctl(s, EVIOCGBIT(EV_KEY, 64), name) == -1 && errno == ENOTTY);
  int size = 0;
  char path[] = "/tmp/kiln-ioctls-XXXXXX";
  int fd = mkstemp(path);
  unlink(path);
  CHECK(ioctl(fd, FIGETBSZ, &size) == 0 && size >= 512);
  CHECK(write(fd, "12345", 5) == 5 && lseek(fd, 1, SEEK_SET) == 1 && ioctl(fd, FIONREAD, &size) == 0 && size == 4);
  return done();
}
