"""The steps of scripts/acceptance-debian: shell text that runs in the chroot, and what its output must say."""
import re
from dataclasses import dataclass
from typing import Callable, Optional


def ends_with(line):
    """The last line of the output (Kiln's own remarks left out)."""
    def check(text):
        lines = [l for l in text.strip().splitlines() if not l.startswith("kiln: unimplemented")]
        return None if lines and lines[-1] == line else f"wanted \"{line}\" at the end, got \"{lines[-1] if lines else ''}\""
    return check


@dataclass
class Step:
    set: str
    name: str
    text: str    # for --list
    shell: str
    timeout: int
    expect: Optional[Callable[[str], Optional[str]]] = ends_with("done")
    needed: bool = False  # nothing after it makes sense without it
    fresh: bool = False   # begins with a new root


CXX = r"""
cat >t.cc <<'END'
#include <algorithm>
#include <future>
#include <iostream>
#include <map>
#include <numeric>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <thread>
#include <vector>
struct Thrower { ~Thrower() noexcept(false) { throw std::runtime_error("from a destructor"); } };
int main() {
  std::vector<double> v(100000);
  std::iota(v.begin(), v.end(), 1.0);
  std::vector<std::future<double>> parts;
  for (int i = 0; i < 8; ++i)
    parts.push_back(std::async(std::launch::async, [&, i] { double s = 0; for (size_t n = i; n < v.size(); n += 8) s += 1 / v[n]; return s; }));
  double sum = 0;
  for (auto& p : parts) sum += p.get();
  std::cout.precision(12);
  std::cout << sum << "\n";
  std::map<std::string, int> words;
  const std::string text = "the quick brown fox jumps over the lazy dog the end";
  std::regex word("[a-z]+");
  for (std::sregex_iterator i(text.begin(), text.end(), word), end; i != end; ++i) ++words[i->str()];
  std::cout << words["the"] << " " << words.size() << "\n";
  int caught = 0;
  for (int i = 0; i < 1000; ++i) try { Thrower t; } catch (const std::exception& e) { caught += e.what()[0] == 'f'; }
  std::thread([&] { try { throw 1; } catch (int) { ++caught; } }).join();
  std::cout << caught << "\n" << sizeof(void*) * 8 << " bits done\n";
}
END
"""

# Lua: upstream's own Makefile, Debian's patch wants libtool.
SOURCE = "rm -rf /tmp/b; mkdir /tmp/b; cd /tmp/b; dpkg-source --no-check {1} -x /sources/{0}_*.dsc src >/dev/null; cd src; "

POSTGRES = """
set -e
bin=$(echo /usr/lib/postgresql/*/bin)
rm -rf /tmp/pg; mkdir /tmp/pg; chown postgres /tmp/pg
su postgres -s /bin/sh -c "$bin/initdb -D /tmp/pg/data -A trust >/dev/null"
su postgres -s /bin/sh -c "$bin/pg_ctl -w -t 120 -D /tmp/pg/data -o '-k /tmp -c listen_addresses=127.0.0.1' -l /tmp/pg/log start"
su postgres -s /bin/sh -c "createdb -h /tmp bench; pgbench -q -h /tmp -i -s 5 bench; pgbench -h /tmp -c 4 -T 10 bench"
su postgres -s /bin/sh -c "psql -h /tmp -At bench -c 'select sum(abalance) = (select sum(bbalance) from pgbench_branches) from pgbench_accounts'"
su postgres -s /bin/sh -c "$bin/pg_ctl -w -t 120 -D /tmp/pg/data -m fast stop"
grep -E 'PANIC|FATAL|terminated by signal' /tmp/pg/log | grep -v 'the database system is starting up' && exit 1
rm -rf /tmp/pg; echo done
"""

REDIS = """
set -e
rm -rf /tmp/redis; mkdir /tmp/redis; cd /tmp/redis
redis-server --port 6379 --save '' --appendonly no --daemonize no >log 2>&1 &
for i in $(seq 100); do redis-cli ping 2>/dev/null | grep -q PONG && break; sleep 0.2; done
redis-cli ping || { cat log; exit 1; }
redis-benchmark -q -n 20000 -c 50 -t ping,set,get,incr,lpush,lpop,sadd,hset,zadd,mset
redis-cli eval "local s=0 for i=1,100000 do s=s+i end return s" 0
redis-cli bgsave; sleep 1
redis-cli shutdown nosave || true
wait; grep -E 'BUG REPORT|Guru' log && exit 1
echo done
"""

NGINX = """
set -e
rm -rf /tmp/ng; mkdir -p /tmp/ng/html; cd /tmp/ng; chmod 777 /tmp/ng; head -c 20000 /dev/urandom | base64 >html/index.html; chmod -R a+rX html
cat >conf <<END
worker_processes 2; pid /tmp/ng/pid; error_log /tmp/ng/error;
events { worker_connections 512; }
http { access_log off; sendfile on; gzip on; gzip_types text/html; server { listen 127.0.0.1:8080; root /tmp/ng/html; } }
END
nginx -c /tmp/ng/conf
cmp html/index.html - <<END
$(curl -s http://127.0.0.1:8080/)
END
wrk -t2 -c16 -d5s http://127.0.0.1:8080/ | tee wrk.out
curl -s --compressed http://127.0.0.1:8080/ | cmp - html/index.html
nginx -c /tmp/ng/conf -s reload; sleep 1; curl -s http://127.0.0.1:8080/ | cmp - html/index.html
nginx -c /tmp/ng/conf -s quit
! grep -E 'Socket errors|Non-2xx' wrk.out
grep -E 'exited on signal|alert|emerg' error && exit 1
echo done
"""

SERVICES = """
set -e
service redis-server start; for i in $(seq 50); do redis-cli ping 2>/dev/null | grep -q PONG && break; sleep 0.2; done; redis-cli ping
service nginx start; for i in $(seq 50); do curl -sf http://127.0.0.1/ >/dev/null && break; sleep 0.2; done; curl -sf http://127.0.0.1/ | grep -q nginx
pidof nginx; pgrep -fa '^nginx: master process'; pgrep -fa '^nginx: worker process'
service nginx stop; service redis-server stop
! redis-cli ping 2>/dev/null; ! pidof nginx redis-server
echo done
"""

# The stressors of stress-ng's classes os, scheduler and pipe, but for those that reach beyond a chroot or eat the machine's memory or
# disk, that no bare machine runs, and that wait for a tracer (ptrace is not there: vm-segv would wait for ever).
STRESS = """
skip=" bad-ioctl bigheap binderfs brk cpu-online dev efivar klog kvm memhotplug oom-pipe reboot watchdog swap loop pageswap pci ramfs
sysfs resources rtc hdd tun netlink-proc mmaphuge apparmor bind-mount mlockmany sysinval ptrace vm-segv "
skip=$(echo $skip); n=0; bad=0; cd /tmp
for name in $(for c in os scheduler pipe; do stress-ng --class $c'?' 2>&1 | sed 's/.*://'; done | tr ' ' '\\n' | sort -u); do
  case " $skip " in *" $name "*) continue;; esac
  out=$(timeout 60 stress-ng --$name 1 --timeout 1 --verify --oom-avoid 2>&1); status=$?; n=$((n + 1))
  # 3, 4: this kernel or container does not have what the stressor wants
  case $status in 0|3|4) ;; *) bad=$((bad + 1)); echo "FAILED $name: status $status"; echo "$out" | grep -E 'fail|kiln|terminated' | head -3;; esac
  case $status in 3|4) echo "no resource: $name: $(echo "$out" | grep -E 'fail|kiln' | head -1)";; esac
done
echo "$n stressors, $bad failed"; [ $bad = 0 ] && echo done
"""

STEPS = [
    Step("debian", "second-stage", "debootstrap --second-stage",
         "/debootstrap/debootstrap --second-stage", 3600, ends_with("I: Base system installed successfully."), True, True),
    Step("debian", "apt", "apt-get update && apt-get install -y build-essential git",
         "set -e; echo 'deb [trusted=yes] file:/repository ./' >/etc/apt/sources.list; apt-get update && "
         "apt-get install -y build-essential git && dpkg --audit && echo done", 3600, needed=True),
    Step("debian", "c++", "compile and run a C++ program",
         "set -e; cd /tmp" + CXX + "g++ -O2 -pthread t.cc -o t && ./t", 600,
         lambda t: None if re.search(r"12\.090146129\d*\n3 9\n1001\n(64|32) bits done\n$", t) else "wrong output"),
    Step("debian", "git-clone", "git clone of a local repository",
         "set -e; rm -rf /tmp/g; mkdir /tmp/g; cd /tmp/g; git init -q -b main a; cd a; git config user.email a@b; git config user.name a; "
         "for i in $(seq 20); do cp -r /etc/apt d$i; seq $i 5000 >f$i; git add .; git commit -qm $i; done; git gc -q; cd ..; git clone -q a b; "
         "git clone -q --no-local --depth 5 file:///tmp/g/a c; cd b; git fsck --strict; [ $(git log --oneline | wc -l) = 20 ]; "
         "[ $(git -C ../c log --oneline | wc -l) = 5 ]; git diff --quiet HEAD; echo done", 600),
    Step("debian", "cpan", "perl -MCPAN -e 1", "perl -MCPAN -e 1 && echo done", 300),
    Step("debian", "verify", "dpkg --verify", "dpkg --verify && echo done", 600, lambda t: None if t.strip() == "done" else t[:200]),
    Step("builds", "hello", "GNU hello: configure, make -j4, make check",
         "set -e; " + SOURCE.format("hello", "") + "./configure -q && make -s -j4 && make -s check && ./hello && echo done", 1800),
    Step("builds", "zlib", "zlib: configure, make -j4, make test",
         "set -e; " + SOURCE.format("zlib", "") + "./configure && make -j4 && make test && echo done", 1200),
    Step("builds", "lua5.4", "Lua 5.4: make -j4, make test, a program",
         "set -e; " + SOURCE.format("lua5.4", "--skip-patches") + ""
         "make -C src -j4 linux && make -C src test && "
         "src/lua -e 'local t={} for i=1,1e5 do t[i]=tostring(i*i) end assert(#table.concat(t) == 953761)' && "
         "echo 'return 6*7' >x.lua && src/luac -o x.out x.lua && src/lua x.out && echo done", 900),
    Step("servers", "install", "apt-get install of the servers",
         "set -e; dpkg --configure -a; apt-get install -y redis-server redis-tools postgresql postgresql-contrib nginx wrk stress-ng curl procps && "
         "dpkg --audit && echo done", 3600, needed=True),
    Step("servers", "redis", "redis-server, redis-benchmark, a fork for bgsave", REDIS, 600),
    Step("servers", "postgres", "initdb, pgbench -c4 -T10, sums compared", POSTGRES, 900),
    Step("servers", "nginx", "nginx and wrk on loopback, gzip, reload", NGINX, 300),
    Step("servers", "services", "service redis-server and nginx: start, found by pidof and pgrep, stop", SERVICES, 300),
    Step("servers", "stress-ng", "stress-ng: classes os, scheduler, pipe, one after the other", STRESS, 5400),
]
