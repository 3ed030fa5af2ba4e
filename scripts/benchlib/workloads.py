"""What scripts/bench runs. A workload is a program (guest tool name, or a kernel), arguments, and input files made on demand.

Add one: a Workload in programs(). {in}, {text16} … in arguments are replaced by generated files; `scale` below 1 (--quick) shrinks
inputs and loop counts. Output goes to standard output and must be the same natively and under every engine.
"""
import os
import random


class Workload:
    def __init__(self, name, tool, arguments, repeat=1, note=""):
        self.name, self.tool, self.arguments, self.repeat, self.note = name, tool, arguments, repeat, note
        self.native = self.guest = None  # paths, set by the caller for kernels


class Inputs:
    """Deterministic input files, kept between runs."""

    def __init__(self, folder, scale):
        self.folder, self.scale = folder, scale
        os.makedirs(folder, exist_ok=True)

    def file(self, name, make):
        path = os.path.join(self.folder, f"{name}-{self.scale:g}")
        if not os.path.exists(path):
            data = make()
            with open(path + ".new", "wb") as out:
                out.write(data)
            os.rename(path + ".new", path)
        return path

    def text(self, megabytes):
        """Prose-like text: words of a skewed vocabulary, sentences, lines."""
        def make():
            r = random.Random(1)
            words = ["".join(r.choice("etaoinshrdlcumwfgypbvk") for _ in range(r.randint(1, 10))) for _ in range(4000)]
            size, parts, length = int(megabytes * (1 << 20) * self.scale), [], 0
            while length < size:
                line = " ".join(words[min(int(r.expovariate(0.004)), 3999)] for _ in range(r.randint(6, 14)))
                parts.append(line + (".\n" if r.random() < 0.3 else "\n"))
                length += len(parts[-1])
            return "".join(parts).encode()[:size]
        return self.file(f"text{megabytes}", make)

    def source(self):
        """A C file of 120 different functions: much compiler code, each part run few times."""
        def make():
            r = random.Random(2)
            out = ["struct s { int a, b; double d; char name[16]; };\n"]
            for i in range(max(1, int(120 * self.scale))):
                body = "".join(f"    if (p[i].a {r.choice(['<', '>', '==', '!='])} {r.randrange(100)}) t {r.choice(['+=', '^=', '-='])} "
                               f"p[i].b {r.choice(['*', '+', '/', '%', '<<'])} {r.randint(1, 9)};\n" for _ in range(r.randint(1, 4)))
                cases = "".join(f"    case {c}: return t * {r.randint(2, 99)} + f{i and r.randrange(i)}_(n, p);\n" for c in range(r.randint(2, 5)))
                out.append(f"long f{i}_(int n, struct s *p);\nlong f{i}(int n, struct s *p) {{\n  long t = {r.randrange(1000)};\n"
                           f"  for (int i = 0; i < n; i++) {{\n{body}    p[i].d = p[i].d * {r.random():.3f} + t;\n  }}\n"
                           f"  switch (t & 7) {{\n{cases}  }}\n  return t;\n}}\n")
            return "".join(out).encode()
        return self.file("functions.c", make)


PYTHON = """
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)
print(fib({fib}))
d = {{}}
for i in range({n}):
    k = str(i * 7919 % 10007)
    d[k] = d.get(k, 0) + i
print(len(d), sum(d.values()) % 1000003)
s = []
for i in range({n}):
    s.append("%d:%s" % (i, "ab"[i & 1] * 3))
print(len("".join(s).replace("a", "xy").split(":")))
"""

LUA = """
local function body(x, y, z, a, b, c, m) return {x = x, y = y, z = z, vx = a, vy = b, vz = c, m = m} end
local b = {body(0, 0, 0, 0, 0, 0, 39.47), body(4.84, -1.16, -0.10, 0.606, 2.81, -0.02, 0.037), body(8.34, 4.12, -0.4, -1.01, 1.82, 0.008, 0.011),
  body(12.89, -15.11, -0.22, 1.08, 0.868, -0.01, 0.0017), body(15.37, -25.9, 0.179, 0.979, 0.594, -0.034, 0.002)}
for step = 1, STEPS do
  for i = 1, #b do
    local p = b[i]
    for j = i + 1, #b do
      local q = b[j]
      local dx, dy, dz = p.x - q.x, p.y - q.y, p.z - q.z
      local d2 = dx * dx + dy * dy + dz * dz
      local mag = 0.01 / (d2 * math.sqrt(d2))
      p.vx, p.vy, p.vz = p.vx - dx * q.m * mag, p.vy - dy * q.m * mag, p.vz - dz * q.m * mag
      q.vx, q.vy, q.vz = q.vx + dx * p.m * mag, q.vy + dy * p.m * mag, q.vz + dz * p.m * mag
    end
  end
  for i = 1, #b do local p = b[i]; p.x, p.y, p.z = p.x + 0.01 * p.vx, p.y + 0.01 * p.vy, p.z + 0.01 * p.vz end
end
for i = 1, #b do print(string.format("%a %a", b[i].x, b[i].vy)) end
"""

PERL = """
my (%h, $n); my @w = map { my $x = $_; join "", map { chr(97 + ($x * $_ * 7) % 26) } 1 .. 6 } 1 .. 500;
for my $i (1 .. COUNT) { my $w = $w[$i * 31 % 500]; $h{$w . $i % 97}++; $n += length $1 if $w =~ /([aeiou][^aeiou]+)/; $n++ if "$w$i" =~ /^(?:a|b|[k-p])\\w*?[13579]$/ }
my $s = join ",", map { "$_=$h{$_}" } sort keys %h; print scalar(keys %h), " $n ", unpack("%32C*", $s), "\\n";
"""

SQL = """create table t(a integer primary key, b text, c integer);
with recursive n(i) as (select 1 union all select i + 1 from n where i < {rows}) insert into t select i, 'name' || (i * 7919 % 5003), i * 31 % 1009 from n;
create index x on t(b, c); select count(*), sum(c) from t; select b, count(*), sum(c) from t group by b order by 3 desc, b limit 5;
select sum(u.c * v.c) from t u join t v on v.a = u.c + 1 where u.a % 7 = 0; update t set c = c + 1 where b like 'name1%'; select sum(c) from t;"""


def programs(inputs):
    """Debian's programs, at the sizes of our baseline table when scale is 1."""
    n = lambda count: str(max(1, int(count * inputs.scale)))
    fib = 27 if inputs.scale >= 1 else 20
    return [
        Workload("openssl", "openssl", ["dgst", "-sha256", "-r", inputs.text(16)], note="sha256 of 16 MB"),
        Workload("gzip", "gzip", ["-6", "-n", "-c", inputs.text(16)], note="-6, 16 MB text"),
        Workload("xz", "xz", ["-3", "-T1", "-c", inputs.text(4)], note="-3, 4 MB"),
        Workload("zstd", "zstd", ["-9", "-q", "--single-thread", "-c", inputs.text(16)], note="-9, 16 MB"),
        Workload("bzip2", "bzip2", ["-c", inputs.text(4)], note="4 MB"),
        Workload("python", "python3", ["-c", PYTHON.format(fib=fib, n=n(100000))], note="fib 27, dict and str loops"),
        Workload("lua", "lua5.4", ["-e", LUA.replace("STEPS", n(150000))], note="n-body, 150k steps"),
        Workload("sqlite", "sqlite3", [":memory:", SQL.format(rows=n(120000))], note="120k rows, index, group"),
        Workload("perl", "perl", ["-e", PERL.replace("COUNT", n(250000))], note="hash and regex loop"),
        Workload("cc1", "cc1", ["-O2", "-quiet", "-fno-ident", inputs.source(), "-o", "/dev/stdout"], note="-O2, 120 functions: cold code"),
        Workload("start-up", "bash", ["-c", "true"], repeat=10, note="10 x bash -c true"),
    ]


def kernels(folder, scale, guest):
    """tests/kernels, as built by CMake under `folder`: native/ (which is amd64's, too), arm64/, i386/."""
    found = []
    native = os.path.join(folder, "native")
    for name in sorted(os.listdir(native)) if os.path.isdir(native) else []:
        w = Workload(f"k:{name}", None, [str(max(1, int(100 * scale)))], note="kernel")
        w.native, w.guest = os.path.join(native, name), os.path.join(folder, "native" if guest == "amd64" else guest, name)
        if os.path.exists(w.guest):
            found.append(w)
    return found
