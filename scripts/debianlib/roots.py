"""Debian roots for scripts/acceptance-debian and acceptance-system: the package repository, debootstrap's first stage, and running things in the chroot."""
import glob, hashlib, os, shutil, subprocess, sys, threading, time

SELF = os.path.dirname(os.path.abspath(__file__))
CACHE = os.environ.get("KILN_DEBIAN", os.path.expanduser("~/.cache/kiln/debian"))
SUITE, MIRROR = "bookworm", "http://deb.debian.org/debian"
KILN_GUEST = {"arm64": "aarch64", "amd64": "x86_64", "i386": "i386"}
# What the steps install; libraries follow.
PACKAGES = ("build-essential git redis-server redis-tools postgresql postgresql-contrib nginx wrk stress-ng curl "
            "procps iproute2 pkg-config libreadline-dev").split()
SOURCES = ("hello", "zlib", "lua5.4")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def run(command, log=None, **more):
    p = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)
    if p.returncode:
        sys.exit(f"{sys.argv[0]}: {' '.join(command)}: status {p.returncode}\n{p.stdout[-2000:].decode(errors='replace')}")
    return p.stdout


class Cache:
    """Under CACHE/GUEST: first (debootstrap's first stage), and, there or under `base`, repository (.debs and an index); CACHE/sources."""

    def __init__(self, guest, base=None, packages=PACKAGES, sources=SOURCES):
        self.guest, self.shared, self.packages, self.wanted_sources = guest, f"{CACHE}/{guest}", packages, sources
        self.base = base or self.shared
        self.first, self.repository, self.sources = f"{self.shared}/first", f"{self.base}/repository", f"{CACHE}/sources"
        os.makedirs(self.shared, exist_ok=True)
        os.makedirs(self.base, exist_ok=True)

    def prepare(self):
        if not os.path.isdir(self.first):
            shutil.rmtree(f"{self.first}.new", ignore_errors=True)
            archives = f"{self.shared}/archives"
            os.makedirs(archives, exist_ok=True)
            run(["debootstrap", "--foreign", f"--arch={self.guest}", f"--cache-dir={archives}", SUITE, f"{self.first}.new", MIRROR])
            os.rename(f"{self.first}.new", self.first)
        wanted = " ".join(self.packages)
        stamp = f"{self.repository}/packages"
        if not os.path.exists(stamp) or open(stamp).read() != wanted:
            self.fill_repository()
            with open(stamp, "w") as f:
                f.write(wanted)
        if not all(glob.glob(f"{self.sources}/{s}_*.dsc") for s in self.wanted_sources):
            self.fetch_sources()

    def apt(self, *command, source=False):
        base = f"{self.base}/apt"
        for d in ("lists/partial", "cache/archives/partial", "state"):
            os.makedirs(f"{base}/{d}", exist_ok=True)
        open(f"{base}/state/status", "a").close()
        with open(f"{base}/sources.list", "w") as f:
            f.write(f"deb [signed-by={KEYRING}] {MIRROR} {SUITE} main\n" +
                    (f"deb-src [signed-by={KEYRING}] {MIRROR} {SUITE} main\n" if source else ""))
        return run(["apt-get", f"-oAPT::Architecture={self.guest}", f"-oAPT::Architectures={self.guest}", f"-oDir::State={base}",
                    f"-oDir::State::Lists={base}/lists", f"-oDir::State::status={base}/state/status", f"-oDir::Cache={base}/cache",
                    f"-oDir::Etc::sourcelist={base}/sources.list", "-oDir::Etc::sourceparts=/dev/null",
                    "-oAPT::Install-Recommends=false", "-oAPT::Sandbox::User=root", *command], cwd=self.sources if source else None)

    def fill_repository(self):
        self.apt("update", "-qq")
        self.apt("install", "-y", "-qq", "--download-only", *self.packages)
        os.makedirs(self.repository, exist_ok=True)
        stanzas = []
        # A bookworm that has moved on since the first stage must not mix: its own packages are in the repository as well.
        for deb in sorted(glob.glob(f"{self.base}/apt/cache/archives/*.deb") + glob.glob(f"{self.first}/var/cache/apt/archives/*.deb")):
            name = os.path.basename(deb)
            target = f"{self.repository}/{name}"
            if not os.path.exists(target):
                shutil.copy(deb, target)
            data = open(target, "rb").read()
            control = run(["dpkg-deb", "-f", target]).decode().rstrip("\n")
            stanzas.append(f"{control}\nFilename: ./{name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n")
        with open(f"{self.repository}/Packages", "w") as f:
            f.write("\n".join(stanzas))

    def fetch_sources(self):
        os.makedirs(self.sources, exist_ok=True)
        self.apt("update", "-qq", source=True)
        self.apt("source", "-qq", "--download-only", *self.wanted_sources, source=True)


class Watcher(threading.Thread):
    """Looks at the processes whose root directory is `root`: all must be Kiln's."""

    def __init__(self, root):
        super().__init__(daemon=True)
        self.root, self.seen, self.strangers, self.stop = root, 0, set(), threading.Event()

    def run(self):
        while not self.stop.wait(0.5):
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    if os.readlink(f"/proc/{pid}/root") != self.root:
                        continue
                    exe = os.path.basename(os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)"))
                except OSError:
                    continue
                self.seen += 1
                if exe not in ("kiln", ".kiln", "chroot", "unshare"):
                    self.strangers.add(exe)


class Root:
    def __init__(self, guest, options, cache=None):
        self.guest, self.kiln, self.tier = guest, os.path.abspath(options.kiln), options.tier
        self.cache = cache or Cache(guest)
        self.cache.prepare()
        self.work = f"{options.work}/{guest}"
        self.path = f"{self.work}/root"
        os.makedirs(self.work, exist_ok=True)
        foreign = f"{KILN_GUEST[guest]} foreign " in run([self.kiln, "--list-binfmt"]).decode()
        self.how = options.how or ("binfmt" if foreign else "wrap")
        if self.how == "binfmt":
            run([f"{SELF}/../binfmt", "register", "--kiln", self.kiln, KILN_GUEST[guest]])

    def fresh(self):
        """debootstrap's first stage, and what our steps need beside it."""
        run(["rm", "-rf", "--one-file-system", self.path])
        run(["cp", "-a", self.cache.first, self.path])
        os.makedirs(f"{self.path}/repository", exist_ok=True)

    def command(self, text):
        """The shell text in the chroot, in namespaces of its own: nothing of it survives, its ports are nobody else's."""
        shutil.copy(self.kiln, f"{self.path}/.kiln.new")
        os.rename(f"{self.path}/.kiln.new", f"{self.path}/.kiln")
        wrap = "/.kiln " + (f"--tier={self.tier} " if self.tier else "") if self.how == "wrap" else ""
        outside = (f'set -e; ip link set lo up; r={self.path}; mkdir -p $r/repository $r/sources; mount -t proc proc $r/proc; '
                   f'mount --bind {self.cache.repository} $r/repository; mount --bind {self.cache.sources} $r/sources; '
                   f'[ -e $r/dev/null ] || mount --rbind /dev $r/dev; mkdir -p $r/dev/shm $r/dev/pts; mount -t tmpfs shm $r/dev/shm; '
                   # Stressors fill what they find: not the machine's disk.
                   f'mount -t devpts -o newinstance,ptmxmode=666 devpts $r/dev/pts; mount -t tmpfs -o size=1g,mode=1777 tmp $r/tmp; '
                   f'exec chroot $r {wrap}/bin/sh -c "$STEP"')
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C",
               "DEBIAN_FRONTEND": "noninteractive", "STEP": text, "TERM": "dumb"}
        if self.tier and self.how == "binfmt":
            env["KILN_TIER"] = self.tier
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "--ipc", "--uts", "bash", "-c", outside], env

    def step(self, step):
        """None, or what went wrong."""
        if step.fresh:
            self.fresh()
        elif not os.path.exists(f"{self.path}/var/lib/dpkg/status"):
            return "no Debian here: run --set debian first"
        command, env = self.command(step.shell)
        watcher = Watcher(self.path)
        watcher.start()
        log = f"{self.work}/{step.name}.log"
        with open(log, "wb") as out:
            p = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
            try:
                status = p.wait(timeout=step.timeout)
            except subprocess.TimeoutExpired:
                p.kill()  # --kill-child: the whole namespace goes
                p.wait()
                status = None
        watcher.stop.set()
        watcher.join()
        text = open(log, "rb").read().decode(errors="replace")
        tail = text.strip().splitlines()[-1:] or [""]
        if status is None:
            return f"timed out after {step.timeout} s: {tail[0]}"
        if status != 0:
            return f"status {status}: {tail[0]}"
        if step.expect is not None and (problem := step.expect(text)):
            return problem
        if watcher.strangers:
            return f"ran without Kiln: {' '.join(sorted(watcher.strangers))}"
        for line in text.splitlines():
            if line.startswith("kiln: internal error"):
                return line
        return None
