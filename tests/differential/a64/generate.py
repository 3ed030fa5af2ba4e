"""Random A64 sequences from the decode tables (frontends/arm/*.decode).

The tables say which words are instructions; constrain() keeps them harmless and their results defined: destinations leave the
harness's registers alone, bases point into the scratch memory, branches go forward within the sequence, and what the architecture
leaves to the implementation is not generated. It looks at the word's bits, not at row names, so a new row is fuzzed by being there.
"""
import glob
import os
import random
import re

NOP = 0xD503201F
UNMAPPED_BASE = 0xD2C00000 | 0x2222 << 5 | 22  # MOVZ X22, #0x2222, LSL #32: nothing is mapped there
RESERVED = range(24, 29)  # see harness.c
REGISTERS = ("rd", "rn", "rm", "ra", "rt", "rt2", "rs")


class Row:
    """One line of a decode table."""

    def __init__(self, line, table):
        head, _, where = line.partition(" where ")
        self.table = table
        self.mask = self.value = 0
        self.fields, self.unequal = {}, []
        self.name, *tokens = head.split()
        left = 32
        for token in tokens:
            if token.startswith("needs="):
                continue
            if ":" in token:
                name, width = token.split(":")
                left -= int(width)
                self.fields[name] = (left, int(width))
                continue
            for bit in token:
                left -= 1
                if bit in "01":
                    self.mask |= 1 << left
                    self.value |= int(bit) << left
        if left:
            raise SystemExit(f"{table}: {self.name}: not 32 bits")
        for clause in re.sub(r"needs=\S+", "", where).split("&&"):
            match = re.match(r"\s*(\w+)\s*(==|!=)\s*(\w+)\s*$", clause)
            if not match:
                continue
            low, width = self.fields[match.group(1)]
            mask, value = ((1 << width) - 1) << low, int(match.group(3), 0) << low
            if match.group(2) == "==":
                self.mask |= mask
                self.value |= value
            else:
                self.unequal.append((mask, value))
        self.registers = [self.fields[f][0] for f in REGISTERS if f in self.fields and self.fields[f][1] == 5]
        # Rows that hold many operations get more of the draws.
        operation_bits = sum(w for f, (_, w) in self.fields.items() if f not in REGISTERS and not re.match("imm|crm|hw|nzcv|cond|s$", f))
        self.weight = 1 << min(operation_bits, 5)

    def matches(self, word):
        return word & self.mask == self.value and all(word & m != v for m, v in self.unequal)


def load_rows(tables, pattern=""):
    rows = []
    for path in sorted(glob.glob(os.path.join(tables, "*.decode"))):
        table = os.path.basename(path)
        if table.startswith(("a32", "t32", "arm", "thumb")):
            continue
        for line in open(path):
            line = line.partition("#")[0].strip()
            if line:
                rows.append(Row(line, table[:-7]))
    return [row for row in rows if re.search(pattern, f"{row.table}:{row.name}")]


def row_of(rows, word):
    """The row that decodes a word: of those that match, the one with most fixed bits."""
    return max((r for r in rows if r.matches(word)), key=lambda r: bin(r.mask).count("1"), default=None)


def bits(word, low, width):
    return (word >> low) & ((1 << width) - 1)


def put(word, low, width, value):
    mask = ((1 << width) - 1) << low
    return word & ~mask | (value << low) & mask


def keep(word, *lows):
    """General registers written by the word: never the harness's own."""
    for low in lows:
        if bits(word, low, 5) in RESERVED:
            word ^= 16 << low
    return word


class Sequence:
    def __init__(self, words=(), memory=False, seed=0):
        self.words, self.memory, self.seed = list(words), memory, seed


class Generator:
    HINTS = (0, 1, 4, 5, 16, 20, 32, 34, 36, 38)  # NOP YIELD SEV SEVL ESB CSDB BTI; not WFE, WFI nor pointer authentication
    SYSTEM_REGISTERS = (0x5A10, 0x5A20, 0x5A21)   # NZCV FPCR FPSR as op0<0>:op1:CRn:CRm:op2

    def __init__(self, rows, seed):
        self.rows = rows
        self.weights = [row.weight for row in rows]
        self.random = random.Random(seed)
        self.reset(1)
        self.pool = []

    def reset(self, length):
        r = self.random
        self.few = [r.randrange(24) for _ in range(5)] + [29, 30, 31]
        self.sp_changed = False
        self.length = length

    def candidates(self, count):
        """Rows with random words; refill() keeps those that are instructions."""
        found = []
        while len(found) < count:
            row = self.random.choices(self.rows, self.weights)[0]
            for _ in range(20):
                word = row.value | self.random.getrandbits(32) & ~row.mask
                if all(word & m != v for m, v in row.unequal):
                    break
            else:
                continue
            self.reset(1)
            made = self.constrain(word)
            if made is not None and None not in made[0]:
                s = Sequence(made[0], made[1], 1)
                self.aim_branches(s)
                found.append((row, word, s))
        return found

    def refill(self, candidates, verdicts):
        """The pool that sequences draw from: words that the oracle executes, and a few that it calls undefined."""
        self.pool = [(row, word) for (row, word, _), signal in zip(candidates, verdicts)
                     if signal != 4 or self.random.random() < 0.02]

    def sequence(self):
        r = self.random
        s = Sequence(seed=r.getrandbits(64))
        self.reset(r.choice((1, 1, 2, 2, 3, 3, 4, 5, 6, 8)))
        while len(s.words) < self.length:
            words, memory = self.instruction()
            s.words += words
            s.memory |= memory
        self.aim_branches(s)
        return s

    def instruction(self):
        r = self.random
        while True:
            row, word = r.choice(self.pool)
            for low in row.registers:
                word = put(word, low, 5, r.choice(self.few) if r.random() < 0.7 else r.getrandbits(5))
            if any(word & m == v for m, v in row.unequal):
                continue
            made = self.constrain(word)
            if made is not None and None not in made[0]:
                return made

    def constrain(self, word):
        """([words], touches memory), or None for a word that is not generated."""
        group = bits(word, 25, 4)
        if group in (8, 9):
            return [self.immediate(word)], False
        if group in (10, 11):
            return self.branch_or_system(word)
        if group in (4, 6, 12, 14):
            words = self.memory(word)
            return words and (words, True)
        if group in (5, 13):
            return [self.register(word)], False
        if group in (7, 15):
            return [self.vector(word)], False
        if word >> 16 == 0:
            return ([word], False) if self.random.random() < 0.2 else None  # UDF
        return None  # SVE, SME, reserved

    def immediate(self, word):
        if bits(word, 24, 5) == 0b10001 and not bits(word, 29, 1) and bits(word, 0, 5) == 31:
            self.sp_changed = True
        if bits(word, 23, 6) == 0b100100 and bits(word, 29, 2) != 3 and bits(word, 0, 5) == 31:
            self.sp_changed = True
        return keep(word, 0)

    def register(self, word):
        if bits(word, 21, 8) == 0b11010110 and bits(word, 29, 2) == 2 and bits(word, 16, 5) == 1:
            return None  # pointer authentication
        if bits(word, 21, 8) == 0b11010110 and bits(word, 30, 1) == 0 and bits(word, 12, 4) in (0, 1, 3):
            return None if bits(word, 10, 6) not in (2, 3) else keep(word, 0)  # MTE, PACGA; not UDIV, SDIV
        if bits(word, 24, 5) == 0b01011 and bits(word, 21, 1) and not bits(word, 29, 1) and bits(word, 0, 5) == 31:
            self.sp_changed = True
        return keep(word, 0)

    def vector(self, word):
        if word & 0xBFF8FC00 == 0x2F00FC00:
            return None  # unallocated modified immediate (op = o2 = 1); QEMU 7.2 executes it
        if word & 0xFFF0FC00 == 0x5F10FC00:
            return None  # FCVTZS Hd, Hn, #fbits: QEMU 7.2 leaves sign bits above the half
        to_general = (word & 0x5F000000 == 0x1E000000 and (not bits(word, 21, 1) or bits(word, 10, 6) == 0)
                      or word & 0x9FE08400 == 0x0E000400)
        return keep(word, 0) if to_general else word

    def branch_or_system(self, word):
        r = self.random
        top = word >> 24
        if word & 0x7C000000 == 0x14000000 or word & 0xFF000010 == 0x54000000:  # B BL B.cond
            return [word], False
        if word & 0x7C000000 == 0x34000000:  # CBZ CBNZ TBZ TBNZ
            return [word], False
        if top == 0xD6:
            if word & 0xFF9FFC1F != 0xD61F0000 or bits(word, 21, 2) == 3:
                return None
            register = r.randrange(24)
            return [0x10000000 | register, put(word, 5, 5, register)], False  # ADR register, then the branch
        if top == 0xD4:
            return ([word], False) if word & 0xFFE0001F == 0xD4200000 and r.random() < 0.3 else None  # BRK
        if word & 0xFFFFF01F == 0xD503201F:
            return [put(word, 5, 7, r.choice(self.HINTS))], False
        if word & 0xFFFFF01F == 0xD503301F:
            if bits(word, 5, 3) == 7:
                return [put(word, 8, 4, 0)], False  # SB
            return ([word], False) if bits(word, 5, 3) in (2, 4, 5, 6) else None  # CLREX DSB DMB ISB
        if word & 0xFFF8F01F == 0xD500401F:
            if bits(word, 16, 3) == 0 and bits(word, 5, 3) < 3:
                return [put(word, 8, 4, 0)], False  # CFINV XAFLAG AXFLAG
            return None
        if word & 0xFFFFF000 == 0xD50B7000 and bits(word, 8, 4) not in (4, 12, 13):
            return [put(word, 0, 5, 26)], True  # IC and DC by address; not DC ZVA (block size), DC CVAP, CVADP (optional)
        if word & 0xFFD00000 == 0xD5100000:
            read = bits(word, 21, 1)
            which = r.choice(self.SYSTEM_REGISTERS)
            word = put(word, 5, 15, which)
            if read:
                word = keep(word, 0)
                return [word], False
            if which == 0x5A20:
                return [put(word, 0, 5, 24)], False  # FPCR gets a value that sets defined bits only
            return ([word], False) if which == 0x5A10 else None  # FPSR has reserved bits
        return None

    def base(self, word, aligned=False):
        """Bits 5-9 name the base: x26 (any alignment) or the stack pointer (aligned, not written back)."""
        if aligned:
            return None if self.sp_changed else put(word, 5, 5, 31)
        if not self.sp_changed and self.random.random() < 0.3 and not self.writes_back(word):
            return put(word, 5, 5, 31)
        if self.random.random() < 0.01:
            self.fault = True
            return put(word, 5, 5, 22)
        return put(word, 5, 5, 26)

    @staticmethod
    def writes_back(word):
        if bits(word, 27, 3) == 5:
            return bits(word, 23, 2) in (1, 3)
        if bits(word, 27, 3) == 7:
            return not bits(word, 24, 1) and not bits(word, 21, 1) and bits(word, 10, 1)
        return bits(word, 24, 6) in (0x0C, 0x0D) and bits(word, 23, 1)

    def memory(self, word):
        self.fault = False
        word = self.memory_word(word)
        if word is None:
            return None
        if self.fault:  # x22 = an address where nothing is mapped
            return [UNMAPPED_BASE, word]
        return word if isinstance(word, list) else [word]

    def memory_word(self, word):
        r = self.random
        fp, size, top = bits(word, 26, 1), bits(word, 30, 2), bits(word, 24, 6)
        guard = (lambda w, *lows: w) if fp else keep
        if top in (0x0C, 0x0D):  # LD1-LD4, ST1-ST4
            if size > 1:
                return None
            if bits(word, 23, 1):
                word = put(word, 16, 5, r.choice((25, 31)))
            return self.base(word)
        if top == 0x08:
            ordered, load, one = bits(word, 23, 1), bits(word, 22, 1), bits(word, 21, 1)
            if ordered:  # LDAR STLR LDLAR STLLR CAS
                return self.base(keep(word, 0, 16), aligned=True)
            if one and size < 2:  # CASP: even register pairs
                word = word & ~(1 << 16 | 1)
                return self.base(keep(word, 0, 16), aligned=True) if bits(word, 0, 5) < 22 and bits(word, 16, 5) < 22 else None
            # Exclusives: a load and the store of the same size and address. Others' outcome is the implementation's choice.
            data, second, status, old, older = r.sample(range(24), 5)
            word = put(put(put(word, 16, 5, 31), 22, 1, 1), 0, 5, old)
            word = put(word, 10, 5, older if one else 31)
            store = put(put(put(put(word, 22, 1, 0), 0, 5, data), 16, 5, status), 10, 5, second if one else 31)
            word, store = self.base(word, aligned=True), self.base(store, aligned=True)
            return None if word is None else [word, store]
        if bits(word, 27, 3) == 3 and not bits(word, 24, 1):  # literals: this very code
            return guard(put(word, 5, 19, r.randrange(6)), 0)
        if top == 0x19:
            if bits(word, 21, 1) or bits(word, 10, 2):
                return None  # MTE, memory copy
            # LDAPUR, STLUR: whether an unaligned one faults is the implementation's choice.
            return self.base(put(keep(word, 0), 12, 4, 0), aligned=True)
        if bits(word, 27, 3) == 5:
            if not fp and size == 1 and not bits(word, 22, 1):
                return None  # STGP
            word = guard(word, 0, 10)
            if bits(word, 0, 5) == bits(word, 10, 5) and bits(word, 22, 1):
                return None  # unpredictable
            return self.base(word)
        if bits(word, 27, 3) == 7:
            word = guard(word, 0)
            if bits(word, 24, 1):
                return self.base(put(word, 10, 12, bits(word, 10, 7)))
            if not bits(word, 21, 1):
                return self.base(word)
            kind = bits(word, 10, 2)
            if kind == 2:
                return self.base(put(word, 16, 5, 25))
            if kind == 0 and not fp:
                if bits(word, 12, 4) in (9, 10, 11, 13):
                    return None  # LD64B, ST64B
                return self.base(word, aligned=True)
        return None

    def aim_branches(self, s):
        """Branches and ADR before an indirect branch get a target further down in the sequence, or its end; never one between an
        indirect branch and its ADR, or between a faulting access and what loads its base."""
        count = len(s.words)
        bound = {i for i in range(1, count) if s.words[i] >> 24 == 0xD6 or s.words[i - 1] == UNMAPPED_BASE}

        def target(after):
            return self.random.choice([t for t in range(after + 1, count + 1) if t not in bound])

        for i, word in enumerate(s.words):
            if word & 0x7C000000 == 0x14000000:
                s.words[i] = put(word, 0, 26, target(i) - i)
            elif word & 0xFF000010 == 0x54000000 or word & 0x7E000000 == 0x34000000:
                s.words[i] = put(word, 5, 19, target(i) - i)
            elif word & 0x7E000000 == 0x36000000:
                s.words[i] = put(word, 5, 14, target(i) - i)
            elif word >> 24 == 0xD6 and i and s.words[i - 1] >> 24 == 0x10:
                s.words[i - 1] = put(s.words[i - 1], 5, 19, target(i) - (i - 1))
