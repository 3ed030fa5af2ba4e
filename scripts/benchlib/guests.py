"""Guest programs, their native twins, and the engines that run guests.

An engine is a name and a command prefix; adding a rival or an option of ours is a line in engine().
"""
import os
import shlex
import shutil

# Native programs that do the guest tool's very work under another name: Debian's cross compiler is the same GCC for the same target.
TWINS = {
    "cc1": "/usr/lib/gcc-cross/aarch64-linux-gnu/12/cc1",
    "as": "/usr/bin/aarch64-linux-gnu-as",
    "ld": "/usr/bin/aarch64-linux-gnu-ld",
    "objdump": "/usr/bin/aarch64-linux-gnu-objdump",
    "readelf": "/usr/bin/aarch64-linux-gnu-readelf",
    "nm": "/usr/bin/aarch64-linux-gnu-nm",
    "python3": "/usr/bin/python3.11",
}
GUEST_FOLDERS = ["usr/bin", "bin", "usr/sbin", "sbin", "usr/lib/gcc/aarch64-linux-gnu/12"]


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
    return path if os.path.exists(os.path.join(path, "lib/ld-linux-aarch64.so.1")) else None


def guest_path(tree, tool):
    special = {"python3": "usr/bin/python3.11"}.get(tool)
    for candidate in [special] if special else [os.path.join(folder, tool) for folder in GUEST_FOLDERS]:
        path = os.path.join(tree, candidate)
        if os.path.exists(path):
            return path
    return None


def native_path(tool):
    return TWINS.get(tool) or shutil.which(tool, path="/usr/bin:/bin:/usr/sbin:/sbin")


def engine(name, kiln, tree):
    """Engine by name: qemu interp tier1 tier2 auto, or NAME=COMMAND for anything else. `tree` may be None (static guests)."""
    sysroot = ["-L", tree] if tree else []
    if "=" in name:
        label, command = name.split("=", 1)
        return Engine(label, shlex.split(command) + sysroot)
    if name == "qemu":
        return Engine(name, [shutil.which("qemu-aarch64-static") or "/usr/bin/qemu-aarch64-static"] + sysroot)
    tiers = {"interp": "interp", "tier1": "1", "tier2": "2", "auto": "auto"}
    if name not in tiers:
        raise SystemExit(f"unknown engine '{name}' (have: native qemu interp tier1 tier2 auto NAME=COMMAND)")
    return Engine(name, [kiln, f"--tier={tiers[name]}"] + sysroot)


def environment():
    """The same small environment for every run: nothing of the caller's locale, Python or Git settings."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0", "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "Kiln", "GIT_AUTHOR_EMAIL": "kiln@example.org",
            "GIT_COMMITTER_NAME": "Kiln", "GIT_COMMITTER_EMAIL": "kiln@example.org", "GIT_AUTHOR_DATE": "1700000000 +0000",
            "GIT_COMMITTER_DATE": "1700000000 +0000", "PERL_HASH_SEED": "0"}
