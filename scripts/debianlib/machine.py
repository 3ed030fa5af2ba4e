"""scripts/acceptance-system: the disk image, and one run of a machine that is driven over its serial line."""
import argparse, functools, glob, hashlib, http.server, os, re, select, shutil, subprocess, sys, threading, time
from .roots import Cache, Root, run
from .steps import Step, ends_with

STORE = os.environ.get("KILN_SYSTEM", os.path.expanduser("~/.cache/kiln/system"))
INSTALLED = ("systemd-sysv udev dbus login ifupdown isc-dhcp-client iproute2 gcc libc6-dev python3-minimal stress-ng curl "
             "linux-image-arm64 initramfs-tools e2fsprogs").split()
LATER = "bc patch".split()  # what the machine itself installs
PASSWORD = "kiln"

# 99-default.link → /dev/null: the interface is eth0 on every board and bus (systemd.link(5)).
BUILD = r"""
set -e
echo 'deb [trusted=yes] file:/repository ./' >/etc/apt/sources.list
mkdir -p /etc/systemd/network; ln -sf /dev/null /etc/systemd/network/99-default.link
echo '/dev/vda / ext4 errors=remount-ro 0 1' >/etc/fstab
echo kiln >/etc/hostname; printf '127.0.0.1 localhost\n127.0.1.1 kiln\n' >/etc/hosts
apt-get update; apt-get install -y --no-install-recommends """ + " ".join(INSTALLED) + r"""
printf 'auto lo\niface lo inet loopback\nauto eth0\niface eth0 inet dhcp\n' >/etc/network/interfaces
echo root:""" + PASSWORD + r""" | chpasswd
# A timer that looks for upgrades would take apt's lock whenever it likes, and the network is this test's alone.
systemctl mask apt-daily.timer apt-daily-upgrade.timer
apt-get clean; rm -rf /var/lib/apt/lists/*; dpkg --audit; ls -l /boot/vmlinuz-* /boot/initrd.img-*
echo done
"""


class Image:
    """STORE/debian-arm64: repository, disk.img, linux, initrd.gz."""

    def __init__(self, options):
        self.options, self.base = options, f"{STORE}/debian-arm64"
        self.disk, self.kernel, self.initrd = f"{self.base}/disk.img", f"{self.base}/linux", f"{self.base}/initrd.img"
        self.cache = Cache("arm64", self.base, INSTALLED + LATER, ())

    def prepare(self):
        stamp = f"{self.base}/recipe"
        recipe = hashlib.sha256(repr((BUILD, INSTALLED, LATER)).encode()).hexdigest()
        if not self.options.rebuild and os.path.exists(stamp) and open(stamp).read() == recipe:
            return
        if os.geteuid() != 0:
            sys.exit(f"{sys.argv[0]}: making the root needs root (chroot, mount namespaces)")
        begin = time.monotonic()
        root = Root("arm64", argparse.Namespace(kiln=self.options.kiln, tier="", how="wrap", work=f"{self.base}/build"), self.cache)
        os.makedirs(self.cache.sources, exist_ok=True)
        second = Step("", "second-stage", "", "/debootstrap/debootstrap --second-stage", 3600,
                      ends_with("I: Base system installed successfully."), True, True)
        for step in (second, Step("", "install", "", BUILD, 3600)):
            if problem := root.step(step):
                sys.exit(f"{sys.argv[0]}: {step.name}: {problem} (see {root.work}/{step.name}.log)")
        for inside, outside in (("vmlinuz", self.kernel), ("initrd.img", self.initrd)):
            shutil.copy(glob.glob(f"{root.path}/boot/{inside}-*")[0], outside)
        for left in (".kiln", "repository", "sources"):
            run(["rm", "-rf", "--one-file-system", f"{root.path}/{left}"])
        if os.path.exists(self.disk):
            os.unlink(self.disk)
        run(["mkfs.ext4", "-q", "-L", "root", "-d", root.path, self.disk, "3G"])
        run(["e2fsck", "-fn", self.disk])
        run(["rm", "-rf", "--one-file-system", root.path])
        with open(stamp, "w") as f:
            f.write(recipe)
        print(f"{self.disk} made in {time.monotonic() - begin:.0f} s", flush=True)


C_PROGRAM = r"""
cat >/tmp/t.c <<'END'
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
static void* sum(void* of) { double s = 0; for (int i = 1; i <= 1000000; ++i) s += 1.0 / i; *(double*)of = s; return of; }
int main(void) {
  pthread_t t[4]; double part[4];
  for (int i = 0; i < 4; ++i) pthread_create(&t[i], 0, sum, &part[i]);
  for (int i = 0; i < 4; ++i) pthread_join(t[i], 0);
  int status, all = 0;
  for (int i = 0; i < 20; ++i) { if (!fork()) _exit(i); wait(&status); all += WEXITSTATUS(status); }
  char* p = malloc(64 << 20); memset(p, 7, 64 << 20);
  printf("%.9f %.6f %d %d\n", part[0] + part[3], sqrt(2), all, p[12345678]);
}
END
gcc -O2 -Wall -pthread /tmp/t.c -o /tmp/t -lm && /tmp/t"""

PYTHON = r"""python3 -c 'import math
s = sum(i * i % 7 for i in range(300000)); d = {str(i): i for i in range(50000)}
print(s, sum(d.values()), math.factorial(300) % 1000003, "%.12f" % math.fsum(1 / i for i in range(1, 10001)))'"""


def python_says():
    import math
    return (f"{sum(i * i % 7 for i in range(300000))} {sum(range(50000))} {math.factorial(300) % 1000003} "
            f"{math.fsum(1 / i for i in range(1, 10001)):.12f}")


def checks(port, sha, seconds):
    """(name, shell text, what its output must have, limit in seconds)"""
    host = f"http://10.0.2.2:{port}"
    return [
        ("services", "systemctl is-system-running --wait; systemctl --failed --no-legend --plain; cat /proc/version; systemd-analyze time | cat", r"^running$", 600),
        ("network", "ip -4 -o address show dev eth0; ip route", r"inet 10\.0\.2\.15/24.*default via 10\.0\.2\.2 ", 60),
        ("apt", f"echo 'deb [trusted=yes] {host}/repository ./' >/etc/apt/sources.list; apt-get -qq update && DEBIAN_FRONTEND=noninteractive "
                "apt-get -y -qq install bc patch && echo '2^200 % 1000007' | bc && patch --version | head -1", rf"^{2 ** 200 % 1000007}$.*^GNU patch", 900),
        ("gcc", C_PROGRAM, r"^28\.785453446 1\.414214 190 7$", 600),
        ("python3", PYTHON, "^" + re.escape(python_says()) + "$", 300),
        ("fetch", f"curl -sS -o /root/data {host}/data && sync && echo 3 >/proc/sys/vm/drop_caches && sha256sum /root/data", "^" + sha, 600),
        ("stress-ng", f"cd /tmp && stress-ng --vm 1 --vm-bytes 128m --fork 2 --timer 1 --timeout {seconds} --verify --metrics-brief 2>&1", r"successful run completed", seconds + 600),
        ("verify", "dpkg --verify; dpkg --audit; dmesg --level=emerg,alert,crit,err; echo end", r"\Aend$", 900),
    ]


TROUBLE = re.compile(r"Kernel panic|Oops|BUG: |Unable to handle kernel|rcu: INFO|soft lockup|EXT4-fs error|I/O error|segfault|Internal error|blocked for more than|unhandled ")


class Files(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass


class Run:
    def __init__(self, image, options, tier, turn, told):
        self.image, self.options, self.told, self.tier = image, options, told, tier
        self.is_qemu = "qemu" in os.path.basename(options.system)
        self.folder = f"{options.work}/{os.path.basename(options.system)}-{tier}-{turn}"
        self.said, self.failures, self.fetched = b"", 0, False

    def command(self):
        devices = {"pci": "virtio-net-pci,netdev=n", "mmio": "virtio-net-device,netdev=n"}[self.options.transport]
        disk = f"file={self.folder}/disk.img,format=raw," + ("if=virtio" if self.options.transport == "pci" else "if=none,id=d")
        return [self.options.system, *([] if self.is_qemu else ["-tier", self.tier]), "-M", "virt", "-cpu", "cortex-a72", "-m", "1024", "-nographic",
                "-no-reboot", "-kernel", self.image.kernel, "-initrd", self.image.initrd, "-append", "root=/dev/vda console=ttyAMA0",
                "-drive", disk, *(["-device", "virtio-blk-device,drive=d"] if self.options.transport == "mmio" else []),
                "-netdev", "user,id=n", "-device", devices]

    def read_until(self, pattern, limit, begin):
        """Reads on; the match in what was said since `begin`, or None: the machine ended, or the limit passed."""
        end = time.monotonic() + limit
        while True:
            if match := re.search(pattern, self.said[begin:]):
                return match
            if time.monotonic() > end or not select.select([self.process.stdout], [], [], 1)[0]:
                if time.monotonic() > end:
                    return None
                continue
            piece = os.read(self.process.stdout.fileno(), 65536)
            if not piece:
                return None
            self.log.write(piece)
            self.log.flush()
            self.said += piece

    def send(self, text):
        self.process.stdin.write(text.encode() + b"\r")
        self.process.stdin.flush()

    def shell(self, text, limit):
        """Output and status of the shell text."""
        begin = len(self.said)
        for line in f"{{ {text}\n}}; echo KILN-END-$?".split("\n"):
            self.send(line)
        match = self.read_until(rb"KILN-END-(\d+)\r?\n", limit, begin)
        said = self.said[begin:].decode(errors="replace").replace("\r", "")
        return (said[:said.rindex("KILN-END-")], int(match[1])) if match else (said, None)

    def step(self, name, action):
        begin = time.monotonic()
        problem = action()
        self.failures += self.told(name, problem, time.monotonic() - begin)
        return problem is None

    def log_in(self):
        for pattern, answer in ((rb"kiln login: ", "root"), (rb"Password: ", PASSWORD), (rb"root@kiln:~# ", "exec sh")):
            limit = 900 if answer == "root" else 120
            if not self.read_until(pattern, limit, 0):
                return f"no \"{pattern.decode()}\" after {limit} s (see {self.folder}.log)"
            if answer == "root":
                self.boot = time.monotonic() - self.start
            self.send(answer)
        # What bash's line editing gets while it gives the terminal back would be lost.
        if not self.read_until(rb"exec sh\r\n[^#]*# ", 60, 0):
            return "no shell"
        self.send("stty -echo cols 200; PS1=; PS2=; export LC_ALL=C PAGER=cat HISTFILE=")
        return None if self.shell("true", 60)[1] == 0 else "no shell"

    def check(self, text, wanted, limit):
        said, status = self.shell(text, limit)
        if status is None:
            return f"no answer in {limit} s: {said[-200:]!r}"
        if not re.search(wanted, said, re.M | re.S) or status != 0:
            return f"status {status}: {said.strip()[-300:]!r}"
        return None

    def power_off(self):
        self.send("exec systemctl poweroff")
        self.read_until(rb"(?!)", 300, len(self.said))  # until it ends
        try:
            status = self.process.wait(10)
        except subprocess.TimeoutExpired:
            return f"still there: {self.said[-200:]!r}"
        return None if status == 0 else f"exit status {status}: {self.said[-300:]!r}"

    def fsck(self):
        p = subprocess.run(["e2fsck", "-fn", f"{self.folder}/disk.img"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if p.returncode:
            return p.stdout.decode(errors="replace")[-300:]
        data = subprocess.run(["debugfs", "-R", "cat /root/data", f"{self.folder}/disk.img"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        return "what was fetched is not on the disk" if self.fetched and hashlib.sha256(data).hexdigest() != self.sha else None

    def trouble(self):
        lines = [l for l in self.said.decode(errors="replace").splitlines() if TROUBLE.search(l)]
        return "; ".join(lines[:3])[:400] or None

    def go(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(f"{self.folder}/www")
        run(["cp", "--sparse=always", self.image.disk, f"{self.folder}/disk.img"])
        os.symlink(self.image.cache.repository, f"{self.folder}/www/repository")
        data = os.urandom(32 << 20)
        with open(f"{self.folder}/www/data", "wb") as f:
            f.write(data)
        self.sha = hashlib.sha256(data).hexdigest()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=f"{self.folder}/www"))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.log = open(f"{self.folder}.log", "wb")
        self.start = time.monotonic()
        self.process = subprocess.Popen(self.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            self.drive(checks(server.server_port, self.sha, 10 if self.options.quick else 60))
        finally:
            self.process.kill()
            self.process.wait()
            server.shutdown()
            self.log.close()
            if not self.failures:
                shutil.rmtree(self.folder)
        return self.failures

    def drive(self, all_checks):
        only = self.options.only.split(",") if self.options.only else None
        if not self.step("login", self.log_in):
            return
        for name, text, wanted, limit in all_checks:
            if only and name not in only:
                continue
            self.fetched |= name == "fetch"
            if not self.step(name, lambda: self.check(text, wanted, limit)) and self.process.poll() is not None:
                return
        self.step("poweroff", self.power_off)
        self.step("fsck", self.fsck)
        self.step("messages", self.trouble)
