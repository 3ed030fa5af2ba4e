"""One measured run of a command: wall and CPU seconds, peak memory, and its output's digest."""
import atexit
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile


class Sample:
    def __init__(self, wall, cpu, rss_mb, status, digest, error):
        self.wall, self.cpu, self.rss_mb, self.status, self.digest, self.error = wall, cpu, rss_mb, status, digest, error

    def as_dict(self):
        return {"wall": round(self.wall, 4), "cpu": round(self.cpu, 4), "rss_mb": round(self.rss_mb, 1), "status": self.status}


class Meter:
    """Runs commands through measure.c, built once per bench run. CPU and memory are of the process and the children it waited for."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="kiln-bench-")
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        self.program = os.path.join(self.folder, "measure")
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "measure.c")
        subprocess.run(["gcc", "-O1", "-static", "-o", self.program, source], check=True)

    def once(self, argv, environment, timeout):
        figures = os.path.join(self.folder, "figures")
        if os.path.exists(figures):
            os.unlink(figures)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = subprocess.Popen([self.program, figures] + argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment,
                                     start_new_session=True)
            try:
                child.wait(timeout)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)  # the session that we made: the meter, the command and its children
                child.wait()
                return Sample(timeout, 0, 0, "timeout", "", f"after {timeout:g} s")
            out.seek(0)
            digest = hashlib.file_digest(out, "sha256").hexdigest()
            err.seek(0)
            lines = err.read().decode(errors="replace").strip().splitlines()
        with open(figures) as text:
            wall, cpu, peak, status = text.read().split()
        return Sample(float(wall), float(cpu), int(peak) / 1024, os.waitstatus_to_exitcode(int(status)), digest,
                      lines[-1][:120] if lines else "")

    def repeated(self, argv, environment, timeout, repeat):
        """`repeat` runs in a row as one sample (start-up is too short to be timed alone)."""
        total = self.once(argv, environment, timeout)
        for _ in range(repeat - 1):
            if total.status != 0:
                break
            s = self.once(argv, environment, timeout)
            total = Sample(total.wall + s.wall, total.cpu + s.cpu, max(total.rss_mb, s.rss_mb), s.status, s.digest, s.error)
        return total


def median(values):
    values = sorted(values)
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2
