// User networking through libslirp: no privileges, the guest sees 10.0.2.0/24 with a gateway, DHCP and DNS.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "devices/bus/event_loop.h"
#include "devices/net/net_backend.h"
#include "ir/support/result.h"

namespace kiln::devices {

/// Properties as in -netdev user,…: net=ADDRESS[/BITS], host=, dhcpstart=, dns=, hostname=, domainname=, restrict=on|off,
/// ipv4=, ipv6=on|off, and any number of hostfwd=(tcp|udp):[HOSTADDRESS]:PORT-[GUESTADDRESS]:PORT. Failures are one line.
/// Machine lock held.
Result<std::unique_ptr<NetBackend>> open_user_net(EventLoop& loop,
                                                  const std::vector<std::pair<std::string, std::string>>& properties);

}  // namespace kiln::devices
