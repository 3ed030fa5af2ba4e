"""Language runtimes again and again under Kiln: compilers, JIT compilers, collectors, preemptive schedulers.

Each case is a shell text over a file of tests/programs/runtimes; what it prints must equal the case's .expected file there, which was
written by the same Debian programs run natively (amd64). A case passes when every repetition does.
"""
import glob, os, shutil, signal, subprocess, sys, tempfile, time

SELF = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = os.path.join(SELF, "../../tests/programs/runtimes")
PACKAGES = ("golang-go nodejs default-jdk-headless rustc ruby guile-3.0 sbcl ghc gdb gcc libc6-dev binutils systemd coreutils "
            "bash dash sed").split()
TIMEOUT_S = 600  # for a case; a loaded machine is no failure, a hang is

# name: (files, shell text). $KILN runs a guest's program, $BIN is the guest's /usr/bin, $JAVA its JDK's bin.
CASES = {
    "go": ("timers.go", "$KILN $BIN/go build -o timers timers.go && $KILN ./timers"),
    "node": ("load.js", "$KILN $BIN/node load.js 5"),
    "node-e": ("", "$KILN $BIN/node -e 'const {Worker}=require(\"worker_threads\"); new Worker(\"require(\\\"worker_threads\\\")"
                   ".parentPort.postMessage(6*7)\",{eval:true}).on(\"message\",m=>console.log(m,/(a+)+b/.test(\"aaab\")))'"),
    "java": ("Pressure.java", "$KILN $JAVA/javac -d . Pressure.java && $KILN $JAVA/java -Xmx96m -cp . Pressure"),
    "rust": ("hello.rs", "$KILN $BIN/rustc -o hello hello.rs && $KILN ./hello 2>/dev/null"),
    "ruby": ("work.rb", "$KILN $BIN/ruby work.rb"),
    "ghc": ("hello.hs", "$KILN $BIN/ghc -v0 -threaded hello.hs && $KILN ./hello"),
    "sbcl": ("work.lisp", "$KILN $BIN/sbcl --noinform --no-sysinit --no-userinit --disable-debugger --load work.lisp 2>/dev/null; echo $?"),
    "guile": ("work.scm", "$KILN $BIN/guile-3.0 work.scm 2>/dev/null"),
    "gdb": ("ack.c", "$KILN $BIN/gcc -g -O1 -o ack ack.c && $KILN $BIN/gdb -nx -batch -ex 'info line ack' -ex 'list main' -ex 'ptype main' ack "
                     "| sed 's/ at address.*//'; $KILN ./ack"),
    "systemctl": ("", "$KILN $ROOT/bin/systemctl --version | head -1 | cut -d' ' -f1,2"),
}


def root_of(guest):
    return os.path.join(os.environ.get("KILN_GUESTS", os.path.expanduser("~/.cache/kiln/guests")), f"runtimes-{guest}", f"root-{guest}")


def fetch(guest):
    """The guest's sysroot; what the packages' maintainer scripts would do is done here as far as a case needs it."""
    root = root_of(guest)
    if not os.path.exists(f"{root}/.complete"):
        subprocess.run([f"{SELF}/../debian-fetch", guest, "bookworm", os.path.dirname(root), *PACKAGES], check=True)
        for deb in glob.glob(f"{os.path.dirname(root)}/apt-*/cache/archives/*.deb"):
            os.unlink(deb)
        for link, target in (("usr/bin/cc", "gcc"), ("bin/sh", "dash")):
            if not os.path.lexists(f"{root}/{link}"):
                os.symlink(target, f"{root}/{link}")
        open(f"{root}/.complete", "w").close()
    return root


class Case:
    def __init__(self, name, guest, tier, kiln, root):
        self.name, self.root = name, root
        self.files, self.text = CASES[name]
        jdk = next((d for d in os.listdir(f"{root}/usr/lib/jvm") if d.startswith("java-17-openjdk-")), "none") \
            if os.path.isdir(f"{root}/usr/lib/jvm") else "none"
        self.env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "ROOT": root, "BIN": f"{root}/usr/bin", "JAVA": f"{root}/usr/lib/jvm/{jdk}/bin",
                    "KILN": f"{kiln} --tier={tier} -L {root}" if kiln else "", "GOROOT": "/usr/lib/go-1.19", "CGO_ENABLED": "0",
                    "GO111MODULE": "off"}
        with open(f"{PROGRAMS}/{name}.expected", "rb") as f:
            self.expected = f.read()

    def run(self):
        """(passed, seconds, what went wrong)"""
        with tempfile.TemporaryDirectory(prefix=f"kiln-{self.name}-") as work:
            for file in self.files.split():
                shutil.copy(f"{PROGRAMS}/{file}", work)
            begin = time.time()
            # A session of its own: a hang is ended with all its children.
            process = subprocess.Popen(["bash", "-c", self.text], cwd=work, env=dict(self.env, HOME=work, TMPDIR=work), stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
            try:
                out, err = process.communicate(timeout=TIMEOUT_S)
                trouble = "" if out == self.expected else \
                    f"status {process.returncode}\n--- output\n{text(out)}\n--- expected\n{text(self.expected)}\n--- errors\n{text(err)}"
            except subprocess.TimeoutExpired:
                trouble = f"no end after {TIMEOUT_S} s\n{threads_of(process.pid)}"
                os.killpg(process.pid, signal.SIGKILL)
                out, err = process.communicate()
                trouble += f"--- output\n{text(out)}\n--- errors\n{text(err)}"
            return not trouble, time.time() - begin, trouble


def text(data):
    return data[-4000:].decode(errors="replace")


def threads_of(session):
    """Every thread of a session: name, state, the call it sleeps in."""
    lines = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as f:
                if int(f.read().rsplit(")", 1)[1].split()[3]) != session:
                    continue
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                lines.append(f"{pid}: {f.read().replace(b'%c' % 0, b' ').decode(errors='replace')[-200:]}")
            for tid in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{tid}/stat") as f:
                    state = f.read().rsplit(")", 1)[1].split()[0]
                with open(f"/proc/{pid}/task/{tid}/syscall") as f:
                    lines.append(f"  {tid} {state} {f.read().strip()}")
        except OSError:
            pass  # it went away
    return "\n".join(lines) + "\n"


def run(options, tiers, only):
    """Runs the cases, prints a table, returns the number of failures."""
    root = fetch(options.guest)
    kiln = os.path.abspath(options.kiln)
    packages = f"{root}/var/lib/ghc/package.conf.d"
    if os.path.isdir(packages) and not os.path.exists(f"{packages}/package.cache"):
        subprocess.run([kiln, "-L", root, f"{root}/usr/bin/ghc-pkg", "recache", f"--global-package-db={packages}"], check=True)
    os.makedirs(options.log, exist_ok=True)
    failures = 0
    for tier in tiers:
        for name in CASES:
            if only and name not in only:
                continue
            case = Case(name, options.guest, tier, kiln, root)
            passed, seconds = 0, []
            for k in range(options.repeat):
                good, took, trouble = case.run()
                passed += good
                seconds.append(took)
                if sys.stdout.isatty():
                    print(f"  {options.guest} {tier} {name} {passed}/{k + 1}", end="\r", flush=True)
                if not good:
                    log = f"{options.log}/{options.guest}-{tier}-{name}-{k}.log"
                    with open(log, "w") as f:
                        f.write(trouble)
                    print(f"  FAILS {options.guest} {tier} {name}: {trouble.splitlines()[0]}; {log}", flush=True)
            failures += options.repeat - passed
            print(f"  {options.guest:6} {tier:6} {name:10} {passed:>3}/{options.repeat} passed, median {sorted(seconds)[len(seconds) // 2]:.1f} s, "
                  f"longest {max(seconds):.1f} s", flush=True)
    return failures
