"""Guest programs, their native twins, and the engines that run guests.

An engine is a name and a command prefix; adding a rival or an option of ours is a line in engine().
"""
import os
import shlex
import shutil
import subprocess

class Architecture:
    """What differs between guests: Debian's names of it, and where its compiler lives here and there."""

    def __init__(self, triplet, loader, qemu, cc1, binutils):
        self.triplet, self.loader, self.qemu = triplet, loader, qemu
        # Native programs that do the guest tool's very work under another name: the (cross) compiler for the same target.
        self.twins = {tool: binutils + tool for tool in ("as", "ld", "objdump", "readelf", "nm")}
        self.twins |= {"cc1": cc1, "python3": "/usr/bin/python3.11"}
        self.folders = ["usr/bin", "bin", "usr/sbin", "sbin", f"usr/lib/gcc/{triplet}/12"]


ARCHITECTURES = {
    "arm64": Architecture("aarch64-linux-gnu", "lib/ld-linux-aarch64.so.1", "qemu-aarch64-static",
                          "/usr/lib/gcc-cross/aarch64-linux-gnu/12/cc1", "/usr/bin/aarch64-linux-gnu-"),
    "amd64": Architecture("x86_64-linux-gnu", "lib64/ld-linux-x86-64.so.2", "qemu-x86_64-static",
                          "/usr/lib/gcc/x86_64-linux-gnu/12/cc1", "/usr/bin/x86_64-linux-gnu-"),
    "i386": Architecture("i686-linux-gnu", "lib/ld-linux.so.2", "qemu-i386-static",
                         "/usr/lib/gcc-cross/i686-linux-gnu/12/cc1", "/usr/bin/i686-linux-gnu-"),
}


class Engine:
    def __init__(self, name, argv):
        self.name, self.argv = name, argv

    def command(self, program):
        """Shell text that runs a guest program."""
        return " ".join(shlex.quote(word) for word in self.argv + [program])


def root(arch="arm64"):
    """The unpacked guest packages, or None."""
    top = os.environ.get("KILN_GUESTS", os.path.expanduser("~/.cache/kiln/guests"))
    path = os.path.join(top, arch, f"root-{arch}")
    return path if os.path.lexists(os.path.join(path, ARCHITECTURES[arch].loader)) else None


def guest_path(tree, tool, arch="arm64"):
    special = {"python3": "usr/bin/python3.11"}.get(tool)
    for candidate in [special] if special else [os.path.join(folder, tool) for folder in ARCHITECTURES[arch].folders]:
        path = os.path.join(tree, candidate)
        if os.path.exists(path):
            return path
    return None


def native_path(tool, arch="arm64"):
    return ARCHITECTURES[arch].twins.get(tool) or shutil.which(tool, path="/usr/bin:/bin:/usr/sbin:/sbin")


def native_i386(tree):
    """A function program → shell text that runs an i386 guest program on the host itself, or None if its kernel does not. A closer
    twin than the amd64 program: x87 arithmetic prints other last digits."""
    loader = os.path.join(tree, ARCHITECTURES["i386"].loader)
    libraries = ":".join(os.path.join(tree, folder) for folder in ("lib/i386-linux-gnu", "usr/lib/i386-linux-gnu"))
    try:
        subprocess.run([loader, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None

    def command(program):
        with open(program, "rb") as file:
            dynamic = b"/lib/ld-linux.so.2" in file.read(4096)
        return " ".join(shlex.quote(word) for word in ([loader, "--library-path", libraries] if dynamic else []) + [program])

    return command


def engine(name, kiln, tree, arch="arm64"):
    """Engine by name: qemu interp tier1 tier2 auto warm, or NAME=COMMAND for anything else. `tree` may be None (static guests)."""
    sysroot = ["-L", tree] if tree else []
    if "=" in name:
        label, command = name.split("=", 1)
        return Engine(label, shlex.split(command) + sysroot)
    if name == "qemu":
        return Engine(name, [shutil.which(ARCHITECTURES[arch].qemu) or "/usr/bin/" + ARCHITECTURES[arch].qemu] + sysroot)
    tiers = {"interp": "interp", "tier1": "1", "tier2": "2", "auto": "auto"}
    if name == "warm":  # auto, with the translated code of earlier runs
        return Engine(name, [kiln, "--tier=auto", "--cache=rw"] + sysroot)
    if name not in tiers:
        raise SystemExit(f"unknown engine '{name}' (have: native qemu interp tier1 tier2 auto warm NAME=COMMAND)")
    return Engine(name, [kiln, f"--tier={tiers[name]}", "--cache=off"] + sysroot)


def environment():
    """The same small environment for every run: nothing of the caller's locale, Python or Git settings."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
            "KILN_CACHE_DIR": os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "kiln/bench/code"), "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "Kiln", "GIT_AUTHOR_EMAIL": "kiln@example.org",
            "GIT_COMMITTER_NAME": "Kiln", "GIT_COMMITTER_EMAIL": "kiln@example.org", "GIT_AUTHOR_DATE": "1700000000 +0000",
            "GIT_COMMITTER_DATE": "1700000000 +0000", "PERL_HASH_SEED": "0"}
