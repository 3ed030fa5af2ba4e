"""Batch files for harness.c, and running them under an engine."""
import os
import struct
import subprocess
import tempfile

MAGIC = 0x4B46555A
CODE = 0x20000000
EXIT = (0xF940039B, 0xD61F0360)  # ldr x27, [x28]; br x27
NAMES = (["nzcv", "fpcr", "fpsr", "sp", "signal", "fault_pc", "fault_address"] + [f"x{i}" for i in range(32)])
STATE_BYTES = 832  # sizeof(struct context) - 24
SCRATCH_BYTES = 32768


def write(path, sequences, executions, fpsr_mask):
    table, code = [], []
    for s in sequences:
        table.append(struct.pack("<IIQ", 4 * len(code), 1 if s.memory else 0, s.seed))
        code.extend(s.words)
        code.extend(EXIT)
    code.extend([0xD4200000] * 16)  # literals of the last sequence read here
    table = b"".join(table)
    offset = (64 + len(table) + 4095) & ~4095
    body = struct.pack(f"<{len(code)}I", *code)
    body += b"\0" * (-len(body) % 4096)
    with open(path, "wb") as out:
        out.write(struct.pack("<6I40x", MAGIC, len(sequences), executions, offset, len(body), fpsr_mask))
        out.write(table)
        out.write(b"\0" * (offset - 64 - len(table)))
        out.write(body)


def run(command, harness, path, first, count, mode, timeout):
    """(output, how it ended: "" for well)."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(command + [harness, path, str(first), str(count), mode], stdout=out, stderr=err,
                                 stdin=subprocess.DEVNULL)
        try:
            status = child.wait(timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            status = None
        out.seek(0)
        err.seek(0)
        last = err.read().decode(errors="replace").strip().splitlines()
        text = last[-1][:160] if last else ""
        ended = "" if status == 0 else "hang" if status is None else f"status {status}: {text}"
        return out.read(), ended


def hashes(command, harness, path, count, executions, timeout, crash_limit=20):
    """One entry a sequence: its hashes, or a string saying how the engine died in it."""
    results = []
    crashes = 0
    while len(results) < count:
        first = len(results)
        out, ended = run(command, harness, path, first, count - first, "h", timeout)
        whole = len(out) // 8 // executions
        results += [out[8 * executions * i:8 * executions * (i + 1)] for i in range(whole)]
        if not ended and len(results) == count:
            break
        # It died: go on from there one result at a time to learn in which sequence.
        out, again = run(command, harness, path, len(results), 520, "s", timeout)
        whole = len(out) // 8 // executions
        results += [out[8 * executions * i:8 * executions * (i + 1)] for i in range(whole)]
        if len(results) < count and again:
            results.append(again)
        elif not again and whole == 0:
            results.append(f"died, but not when run alone: {ended}")
        crashes += 1
        if crashes >= crash_limit:
            results += ["not run: too many crashes"] * (count - len(results))
    return results[:count]


def state(data):
    """One dumped state as {register: value}."""
    values = struct.unpack(f"<{STATE_BYTES // 8}Q", data[:STATE_BYTES])
    named = dict(zip(NAMES, values))
    vectors = values[len(NAMES):]
    for i in range(32):
        named[f"v{i}"] = vectors[2 * i] | vectors[2 * i + 1] << 64
    named["memory"] = values[-1]
    del named["x27"], named["x28"], named["x31"]
    return named


def states(command, harness, path, index, executions, memory, timeout):
    out, ended = run(command, harness, path, index, 1, "d", timeout)
    size = STATE_BYTES + (SCRATCH_BYTES if memory else 0)
    found = []
    for k in range(min(executions, len(out) // size)):
        entry = state(out[k * size:(k + 1) * size])
        if memory:
            entry["scratch"] = out[k * size + STATE_BYTES:(k + 1) * size]
        found.append(entry)
    return found, ended


def disassemble(words, folder):
    """objdump's text, one line a word."""
    path = os.path.join(folder, "words.bin")
    with open(path, "wb") as out:
        out.write(struct.pack(f"<{len(words)}I", *words))
    text = subprocess.run(["aarch64-linux-gnu-objdump", "-D", "-b", "binary", "-m", "aarch64", "-z", f"--adjust-vma={CODE}", path],
                          capture_output=True, text=True, check=True).stdout
    lines = [line.split("\t") for line in text.splitlines() if ":\t" in line]
    return [" ".join(part.strip() for part in line[2:]) for line in lines]
