#!/usr/bin/env python3
"""Makes instruction test lines from the decode tables, with the oracle's answers (a64_oracle.c under qemu-aarch64).

  make_cases.py [--count N] [--seed S] [--rows REGEX] TABLE.decode…
  make_cases.py base_*.decode > a64_base.txt
  make_cases.py fp_*.decode simd_*.decode crypto.decode > a64_simd.txt
  make_cases.py --words FILE > …          # lines "WORD name=value …" instead of random words

Needs aarch64-linux-gnu-{gcc,as,objdump} and qemu-aarch64-static. The output is committed; the tests do not need these tools.
"""
import argparse, os, random, re, struct, subprocess, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SKIP = re.compile(r'^(b_imm|b_cond|cbz|tbz|br|blr|ret|braa|blraa|retaa|svc|brk|hlt|udf|hint|mrs|msr|ic_ivau|pac_aut|ldraa|xpac|dc_.*)$')
BOUNDARY = [0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000,
            0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff, 0xffffffff80000000, 0xaaaaaaaaaaaaaaaa]


def parse(path):
    for line in open(path):
        tokens = line.split('#')[0].split()
        if not tokens:
            continue
        items, where = [], ''
        rest = iter(tokens[1:])
        in_where = False
        for t in rest:
            if t == 'where':
                in_where = True
            elif t.startswith('needs='):
                pass
            elif in_where:
                where += t
            elif ':' in t:
                name, width = t.split(':')
                items.append((name, int(width)))
            else:
                items += [(c, 1) for c in t]
        yield tokens[0], items, where


def value(rng):
    r = rng.random()
    if r < 0.4:
        return rng.choice(BOUNDARY)
    if r < 0.6:
        return (rng.choice(BOUNDARY) + rng.randrange(-3, 4)) % 2**64
    if r < 0.8:
        return rng.getrandbits(rng.randrange(1, 64))
    return rng.getrandbits(64)


F32 = [0, 0x80000000, 1, 0x80000001, 0x7fffff, 0x800000, 0x3f800000, 0xbf800000, 0x3f000000, 0x3fc00000, 0x4effffff, 0x4f000000,
       0xcf000000, 0x4f800000, 0x5f000000, 0x7f7fffff, 0x7f800000, 0xff800000, 0x7f800001, 0x7fc00000, 0xffc12345, 0x33800000]
F64 = [0, 1 << 63, 1, 0xfffffffffffff, 0x10000000000000, 0x3ff0000000000000, 0xbff0000000000000, 0x3fe0000000000000,
       0x41dfffffffc00000, 0x41e0000000000000, 0x43e0000000000000, 0xc3e0000000000000, 0x7fefffffffffffff, 0x7ff0000000000000,
       0xfff0000000000000, 0x7ff0000000000001, 0x7ff8000000000000, 0xfff8000000012345, 0x3810000000000000, 0x36a0000000000000]
F16 = [0, 0x8000, 1, 0x3ff, 0x400, 0x3c00, 0xbc00, 0x3800, 0x7bff, 0x7c00, 0xfc00, 0x7c01, 0x7e00, 0xfe12]


def lane64(rng):
    """64 bits of vector data: floating-point or integer lanes of one size, boundary values preferred."""
    bits, special = rng.choice([(8, BOUNDARY), (16, BOUNDARY), (16, F16), (32, F32), (32, BOUNDARY), (64, F64), (64, F64), (64, BOUNDARY)])
    out = 0
    for _ in range(64 // bits):
        if special is BOUNDARY or rng.random() < .6:
            lane = rng.choice(special)
        elif bits == 16:
            lane = rng.getrandbits(16)
        else:  # an ordinary number
            lane = int.from_bytes(struct.pack('>f' if bits == 32 else '>d', rng.uniform(-1, 1) * 10 ** rng.randrange(-6, 12)), 'big')
        out = out << bits | (lane & (1 << bits) - 1)
    return out


def make(rng, name, items, where, memory, vector=False):
    """One random word of the row and an input state; None if the where clause says no."""
    regs, fields, word = {}, {}, 0
    for item, width in items:
        if item in '01':
            bits = int(item)
        elif item == '-':
            bits = 1
        else:
            bits = rng.getrandbits(width)
            if width == 5 and item in ('rn', 'rd', 'rm', 'ra', 'rt', 'rt2', 'rs'):
                while bits == 30 or (memory and bits in regs.values()) or (memory and item == 'rn' and bits == 31 and rng.random() < .7):
                    bits = rng.getrandbits(5)
                if name == 'casp' and item in ('rs', 'rt'):
                    bits &= 0x1e
                    if bits >= 28:
                        bits -= 8
                regs[item] = bits
            fields[item] = bits
        word = word << width | bits
    for clause in filter(None, where.split('&&')):
        field, op, number = re.match(r'(\w+)(==|!=)(\w+)', clause).groups()
        if (fields[field] == int(number, 0)) != (op == '=='):
            return None
    state = {}
    for item, reg in regs.items():
        if vector:
            state[f'v{reg}'] = lane64(rng) << 64 | lane64(rng)
            if item == 'rn' and re.search('gpr|xcvtf|dup|ins', name) and reg != 31:
                state[f'x{reg}'] = value(rng)
            continue
        if reg == 31 and not (memory and item == 'rn'):
            continue
        if memory and item == 'rn':
            address = 0x100800 + rng.choice([0, 0, 16, 64, 48]) + (0 if reg == 31 or 'x' in name else rng.randrange(16))
            state['sp' if reg == 31 else f'x{reg}'] = address
        elif memory and item == 'rm':
            state[f'x{reg}'] = rng.choice([0, 8, 16, 0xfffffffffffffff0, 0xfffffff0, 0x100000010])
        else:
            state[f'x{reg}'] = value(rng)
    if not vector or 'c' in name[:2]:
        state['nzcv'] = rng.getrandbits(4)
    if vector and rng.random() < .25:
        state['fpcr'] = rng.choice([1, 2, 3]) << 22 | rng.choice([0, 0, 1]) << 25
    return word, state


def text_of(name, v):
    return f'{v >> 64:x}:{v & 2**64 - 1:x}' if name[0] == 'v' else f'{v:x}'


def disassemble(words):
    with tempfile.TemporaryDirectory() as tmp:
        source, elf = f'{tmp}/w.s', f'{tmp}/w.o'
        open(source, 'w').write(''.join(f'.inst {w:#x}\n' for w in words))
        subprocess.run(['aarch64-linux-gnu-as', source, '-o', elf], check=True)
        text = subprocess.run(['aarch64-linux-gnu-objdump', '-d', '-z', elf], check=True, capture_output=True, text=True)
    out = []
    for line in text.stdout.splitlines():
        m = re.match(r'\s*[0-9a-f]+:\s+[0-9a-f]{8}\s+(.*)', line)
        if m:
            out.append(re.sub(r'\s+', ' ', m.group(1).split('//')[0].split('<')[0]).strip())
    return out


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--count', type=int, default=10)
    p.add_argument('--seed', type=int, default=1)
    p.add_argument('--rows', default='.')
    p.add_argument('--words')
    p.add_argument('--oracle', help='a built a64_oracle')
    p.add_argument('tables', nargs='*')
    a = p.parse_args()
    rng = random.Random(a.seed)
    cases = []
    if a.words:
        for line in open(a.words):
            t = line.split('#')[0].split()
            if t:
                cases.append((int(t[0], 16), dict(x.split('=') for x in t[1:])))
    for table in a.tables:
        memory = bool(re.search('mem|atomic|structure', table))
        vector = bool(re.search('/?(fp|simd|crypto)[^/]*$', table))
        for name, items, where in parse(table):
            if SKIP.match(name) or not re.search(a.rows, name):
                continue
            variable = sum(width for item, width in items if len(item) > 1)  # rows of many forms get more
            for _ in range(a.count * max(1, variable - 12) // 6 + 1):
                made = make(rng, name, items, where, memory, vector)
                if made:
                    word, state = made
                    cases.append((word, {k: text_of(k, v) for k, v in state.items()}))
    with tempfile.TemporaryDirectory() as tmp:
        oracle = a.oracle
        if not oracle:
            oracle = f'{tmp}/oracle'
            subprocess.run(['aarch64-linux-gnu-gcc', '-O1', '-static', '-march=armv8.5-a', f'{HERE}/a64_oracle.c', '-o', oracle], check=True)
        text = ''.join(f'{w:08x} ' + ' '.join(f'{k}={v}' for k, v in s.items()) + '\n' for w, s in cases)
        answers = subprocess.run(['qemu-aarch64-static', '-cpu', 'max', oracle], input=text, capture_output=True, text=True,
                                 check=True, timeout=300).stdout.splitlines()
    assert len(answers) == len(cases), (len(answers), len(cases))
    names = disassemble([w for w, _ in cases])
    assert len(names) == len(cases), (len(names), len(cases))
    for (w, s), n, answer in zip(cases, names, answers):
        if n.startswith('stgp'):  # memory tagging is not in our CPU model
            continue
        if re.match(r'fcvtzs h\d+, h\d+, #', n) and 'ffff' in answer:  # QEMU 7.2 sign-extends beyond the half
            continue
        # Reserved encodings are many; one in eight of them is enough. Bad addresses say nothing about the instruction.
        if answer == 'signal=segv' or (answer == 'signal=ill' and not a.words and rng.random() < 7 / 8):
            continue
        print(f'{w:08x} {n} | ' + ' '.join(f'{k}={v}' for k, v in s.items()) + f' | {answer}')


main()
