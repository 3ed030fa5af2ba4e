// The guest side of the A64 differential fuzzer: a static program without libc that runs the sequences of a batch file, each from
// several pseudo-random register states, and writes a hash of each resulting state (or the state itself).
//   harness BATCH FIRST COUNT MODE
// MODE: h hashes, written by the 512; s hashes, written one by one (to find a crash); d states; v the signal, or 0 (is it an instruction?)
// It is the oracle's and the candidate's program alike: what it prints must be equal under every emulator.
//
// A sequence may change anything but x24-x28: x25 is a small index, x26 a base in the middle of the scratch memory, x27/x28 lead back
// (`ldr x27, [x28]; br x27` ends every sequence), x24 a valid FPCR value. A signal ends the sequence too; it, its pc and its address
// are then part of the result. Addresses are fixed, so that pointers compare equal.
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef long i64;

enum { kCode = 0x20000000, kScratch = 0x30000000, kScratchSize = 32768, kResults = 512 };

struct header {
  u32 magic, sequences, executions, code_offset, code_bytes, fpsr_mask, pad[10];
};
struct sequence {
  u32 offset;  // into the code
  u32 flags;   // 1: touches memory
  u64 seed;
};
struct context {  // laid out for the assembly below
  u64 exit;       // 0: where `ldr x27, [x28]; br x27` goes
  u64 host_sp;    // 8
  u64 entry;      // 16
  u64 nzcv, fpcr, fpsr, sp;  // 24 32 40 48
  u64 signal, fault_pc, fault_address;  // 56 64 72
  u64 x[32];      // 80
  u64 v[64];      // 336, 16-byte aligned
  u64 memory_hash;
};
_Static_assert(__builtin_offsetof(struct context, v) == 336, "assembly");

__attribute__((aligned(16))) static struct context context;
__attribute__((aligned(16))) static u8 signal_stack[65536];
static u64 pattern[kScratchSize / 8];
static u64 results[kResults];

void run_sequence(struct context*);
void sequence_exit(void);
void signal_return(void);

__asm__(
    ".text\n.global _start\n_start: mov x0, sp\n b main_program\n"
    ".global signal_return\nsignal_return: mov x8, #139\n svc #0\n"
    ".global run_sequence\nrun_sequence:\n"
    " stp x29, x30, [sp, #-176]!\n stp x19, x20, [sp, #16]\n stp x21, x22, [sp, #32]\n stp x23, x24, [sp, #48]\n"
    " stp x25, x26, [sp, #64]\n stp x27, x28, [sp, #80]\n stp d8, d9, [sp, #96]\n stp d10, d11, [sp, #112]\n"
    " stp d12, d13, [sp, #128]\n stp d14, d15, [sp, #144]\n"
    " mov x28, x0\n mov x1, sp\n str x1, [x28, #8]\n"
    " add x2, x28, #336\n"
    " ldp q0, q1, [x2]\n ldp q2, q3, [x2, #32]\n ldp q4, q5, [x2, #64]\n ldp q6, q7, [x2, #96]\n ldp q8, q9, [x2, #128]\n"
    " ldp q10, q11, [x2, #160]\n ldp q12, q13, [x2, #192]\n ldp q14, q15, [x2, #224]\n ldp q16, q17, [x2, #256]\n"
    " ldp q18, q19, [x2, #288]\n ldp q20, q21, [x2, #320]\n ldp q22, q23, [x2, #352]\n ldp q24, q25, [x2, #384]\n"
    " ldp q26, q27, [x2, #416]\n ldp q28, q29, [x2, #448]\n ldp q30, q31, [x2, #480]\n"
    " ldp x3, x4, [x28, #24]\n ldp x5, x6, [x28, #40]\n msr nzcv, x3\n msr fpcr, x4\n msr fpsr, x5\n mov sp, x6\n clrex\n"
    " add x27, x28, #80\n"
    " ldp x0, x1, [x27]\n ldp x2, x3, [x27, #16]\n ldp x4, x5, [x27, #32]\n ldp x6, x7, [x27, #48]\n ldp x8, x9, [x27, #64]\n"
    " ldp x10, x11, [x27, #80]\n ldp x12, x13, [x27, #96]\n ldp x14, x15, [x27, #112]\n ldp x16, x17, [x27, #128]\n"
    " ldp x18, x19, [x27, #144]\n ldp x20, x21, [x27, #160]\n ldp x22, x23, [x27, #176]\n ldp x24, x25, [x27, #192]\n"
    " ldr x26, [x27, #208]\n ldp x29, x30, [x27, #232]\n ldr x27, [x28, #16]\n br x27\n"
    ".global sequence_exit\nsequence_exit:\n"
    " add x27, x28, #80\n"
    " stp x0, x1, [x27]\n stp x2, x3, [x27, #16]\n stp x4, x5, [x27, #32]\n stp x6, x7, [x27, #48]\n stp x8, x9, [x27, #64]\n"
    " stp x10, x11, [x27, #80]\n stp x12, x13, [x27, #96]\n stp x14, x15, [x27, #112]\n stp x16, x17, [x27, #128]\n"
    " stp x18, x19, [x27, #144]\n stp x20, x21, [x27, #160]\n stp x22, x23, [x27, #176]\n stp x24, x25, [x27, #192]\n"
    " str x26, [x27, #208]\n stp x29, x30, [x27, #232]\n"
    " mrs x3, nzcv\n mrs x4, fpcr\n mrs x5, fpsr\n mov x6, sp\n stp x3, x4, [x28, #24]\n stp x5, x6, [x28, #40]\n"
    " add x2, x28, #336\n"
    " stp q0, q1, [x2]\n stp q2, q3, [x2, #32]\n stp q4, q5, [x2, #64]\n stp q6, q7, [x2, #96]\n stp q8, q9, [x2, #128]\n"
    " stp q10, q11, [x2, #160]\n stp q12, q13, [x2, #192]\n stp q14, q15, [x2, #224]\n stp q16, q17, [x2, #256]\n"
    " stp q18, q19, [x2, #288]\n stp q20, q21, [x2, #320]\n stp q22, q23, [x2, #352]\n stp q24, q25, [x2, #384]\n"
    " stp q26, q27, [x2, #416]\n stp q28, q29, [x2, #448]\n stp q30, q31, [x2, #480]\n"
    " ldr x1, [x28, #8]\n mov sp, x1\n msr fpcr, xzr\n"
    " ldp x19, x20, [sp, #16]\n ldp x21, x22, [sp, #32]\n ldp x23, x24, [sp, #48]\n ldp x25, x26, [sp, #64]\n"
    " ldp x27, x28, [sp, #80]\n ldp d8, d9, [sp, #96]\n ldp d10, d11, [sp, #112]\n ldp d12, d13, [sp, #128]\n"
    " ldp d14, d15, [sp, #144]\n ldp x29, x30, [sp], #176\n ret\n");

static i64 syscall6(u64 number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f) {
  register u64 x8 __asm__("x8") = number;
  register u64 x0 __asm__("x0") = a;
  register u64 x1 __asm__("x1") = b;
  register u64 x2 __asm__("x2") = c;
  register u64 x3 __asm__("x3") = d;
  register u64 x4 __asm__("x4") = e;
  register u64 x5 __asm__("x5") = f;
  __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  return (i64)x0;
}
enum { kOpenat = 56, kWrite = 64, kRead = 63, kExit = 93, kMmap = 222, kSigaltstack = 132, kSigaction = 134 };

static void die(const char* text) {
  u64 n = 0;
  while (text[n]) n++;
  syscall6(kWrite, 2, (u64)text, n, 0, 0, 0);
  syscall6(kExit, 99, 0, 0, 0, 0, 0);
  for (;;) {
  }
}

static void on_signal(int number, void* info, void* user_context) {
  // struct ucontext of arm64 Linux: mcontext at 176, its pc at 440. Only x28 and the pc matter here: the exit code saves the rest.
  u64* pc = (u64*)((u8*)user_context + 440);
  if (*pc - kCode >= 0x8000000) die("harness: signal outside of the sequences\n");
  context.signal = (u64)number;
  context.fault_pc = *pc;
  context.fault_address = number == 11 || number == 7 ? *(u64*)((u8*)info + 16) : 0;
  *pc = (u64)&sequence_exit;
}

static u64 random_state;
static u64 next(void) {  // splitmix64
  u64 z = random_state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// Values at which integer instructions change their mind.
static u64 integer_value(void) {
  u64 r = next();
  switch (r >> 60) {
    case 0: return 0;
    case 1: return ~0ul;
    case 2: return 1ul << ((r >> 8) & 63);
    case 3: return ~(1ul << ((r >> 8) & 63));
    case 4: return r & 0xff;
    case 5: return 0 - (r & 0xff);
    case 6: return (r & 1) ? 0x7fffffff : 0x80000000;
    case 7: return (r & 1) ? 0x7ffffffffffffffful : 0x8000000000000000ul;
    case 8: return r & 0xffffffff;
    default: return r;
  }
}

// An operand of `size` bits for floating point: every class, and random mantissas near each other so that sums cancel.
static u64 float_value(u32 size) {
  const u32 fraction = size == 64 ? 52 : size == 32 ? 23 : 10, exponent = size - 1 - fraction;
  const u64 top = (1ul << exponent) - 1, bias = top >> 1, all = (1ul << fraction) - 1;
  u64 r = next(), e, f = (r >> 1) & all;
  switch ((r >> 56) & 15) {
    case 0: e = 0, f = 0; break;
    case 1: e = top, f = 0; break;
    case 2: e = top, f |= 1ul << (fraction - 1); break;           // quiet NaN
    case 3: e = top, f = (f & (all >> 1)) | 1; break;             // signalling NaN
    case 4: e = 0, f = f | 1; break;                              // denormal
    case 5: e = 0, f = 1; break;
    case 6: e = top - 1, f = all; break;
    case 7: e = 1, f = 0; break;
    case 8: e = bias, f = 0; break;
    case 9: e = bias + ((r >> 61) & 7) + fraction - 4, f &= ~0ul << (fraction - 3); break;  // halves of large integers
    case 10: e = bias + (r >> 58) % (size == 16 ? 15 : 63), f &= all; break;                // around conversions' limits
    case 11: e = bias + ((r >> 61) & 7) - 4; break;
    case 12: f = f & 1 ? all : 0, e = (r >> 40) & top; break;
    default: e = (r >> 40) & top; break;
  }
  return (r & 1) << (size - 1) | e << fraction | f;
}

static u64 vector_half(void) {
  u64 r = next();
  switch (r >> 61) {
    case 0: return float_value(64);
    case 1: case 2: return float_value(32) | float_value(32) << 32;
    case 3: return float_value(16) | float_value(16) << 16 | float_value(16) << 32 | float_value(16) << 48;
    case 4: return float_value(64);
    case 5: return integer_value();
    case 6: return (r & 0x80808080) * 0x1ffffff01ul ^ ((r >> 32) & 0x7f7f) * 0x100010001ul;  // lanes at their limits
    default: return next();
  }
}

static void prepare(struct context* c, u64 seed) {
  random_state = seed;
  for (int i = 0; i < 31; i++) c->x[i] = integer_value();
  for (int i = 0; i < 32; i++) {
    if ((next() & 7) == 0) {  // scalar operands: upper part clear
      c->v[2 * i] = next() & 1 ? float_value(64) : float_value(32);
      c->v[2 * i + 1] = 0;
    } else {
      c->v[2 * i] = vector_half();
      c->v[2 * i + 1] = vector_half();
    }
  }
  u64 r = next();
  c->nzcv = r & 0xf0000000;
  u64 rounding = (next() & 3) << 22, other = next();
  // Half of the states have the default FPCR; of the rest a quarter each flush, default NaN, alternative half precision.
  c->fpcr = 0;
  if (r & 1) c->fpcr = rounding | ((other & 3) == 0) << 24 | ((other >> 2 & 3) == 0) << 25 | ((other >> 4 & 7) == 0) << 26 |
                       ((other >> 7 & 7) == 0) << 19;
  c->fpsr = (r >> 1 & 7) == 0 ? 0x08000000 : 0;
  c->x[24] = rounding;
  c->x[25] = other >> 56;
  c->x[26] = kScratch + 12288 + (other >> 48 & 0xff);
  c->x[27] = c->x[28] = 0;
  c->sp = kScratch + 12288 + 1024 + (other >> 40 & 15) * 16;
  c->signal = c->fault_pc = c->fault_address = c->memory_hash = 0;
}

static u64 mix(u64 h, u64 v) {
  h = (h ^ v) * 0x9e3779b97f4a7c15u;
  return h ^ (h >> 32);
}

static u64 hash_words(const u64* words, u64 count) {  // four lanes: the emulated multiply's latency would dominate otherwise
  u64 a = 1, b = 2, c = 3, d = 4;
  for (u64 i = 0; i < count; i += 4) {
    a = mix(a, words[i]);
    b = mix(b, words[i + 1]);
    c = mix(c, words[i + 2]);
    d = mix(d, words[i + 3]);
  }
  return mix(mix(a, b), mix(c, d));
}

static u64 number(const char* s) {
  u64 n = 0;
  for (; *s >= '0' && *s <= '9'; s++) n = n * 10 + (u64)(*s - '0');
  return n;
}

static void put(const void* data, u64 size) {
  for (u64 done = 0; done < size;) {
    i64 n = syscall6(kWrite, 1, (u64)data + done, size - done, 0, 0, 0);
    if (n <= 0) die("harness: cannot write\n");
    done += (u64)n;
  }
}

__attribute__((used)) void main_program(u64* stack) {
  char** argv = (char**)(stack + 1);
  if (stack[0] != 5) die("usage: harness BATCH FIRST COUNT h|s|d|v\n");
  i64 file = syscall6(kOpenat, (u64)-100, (u64)argv[1], 0, 0, 0, 0);
  if (file < 0) die("harness: cannot open the batch\n");
  // PROT_READ, MAP_PRIVATE; the table first, to learn where the code lies.
  const struct header* h = (const struct header*)syscall6(kMmap, 0, 64 << 20, 1, 2, (u64)file, 0);
  if ((u64)h > -4096ul || h->magic != 0x4b46555a) die("harness: not a batch\n");
  const struct sequence* sequences = (const struct sequence*)(h + 1);
  // PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED
  if ((u64)syscall6(kMmap, kCode, (h->code_bytes + 4095) & ~4095u, 5, 0x12, (u64)file, h->code_offset) != kCode) die("harness: cannot map the code\n");
  if ((u64)syscall6(kMmap, kScratch, kScratchSize, 3, 0x32, (u64)-1, 0) != kScratch) die("harness: cannot map the scratch memory\n");
  u64 alternative[3] = {(u64)signal_stack, 0, sizeof signal_stack};
  syscall6(kSigaltstack, (u64)alternative, 0, 0, 0, 0, 0);
  u64 action[4] = {(u64)&on_signal, 0x4 | 0x08000000 | 0x40000000 | 0x04000000, (u64)&signal_return, 0};  // SIGINFO ONSTACK NODEFER RESTORER
  const int signals[] = {4, 5, 7, 8, 11};
  for (int i = 0; i < 5; i++) syscall6(kSigaction, (u64)signals[i], (u64)action, 0, 8, 0, 0);

  random_state = 99;
  for (u64 i = 0; i < kScratchSize / 8; i++) pattern[i] = vector_half();
  u64* scratch = (u64*)kScratch;
  u64 first = number(argv[2]), last = first + number(argv[3]), pending = 0;
  const char mode = argv[4][0];
  const u64 limit = mode == 's' ? 1 : kResults;
  if (last > h->sequences) last = h->sequences;
  context.exit = (u64)&sequence_exit;
  int dirty = 1;
  for (u64 i = first; i < last; i++) {
    for (u64 k = 0; k < h->executions; k++) {
      struct context* c = &context;
      prepare(c, sequences[i].seed + k * 0x632be59bd9b4e019u);
      c->entry = kCode + sequences[i].offset;
      if (dirty)
        for (u64 w = 0; w < kScratchSize / 8; w++) scratch[w] = pattern[w];
      dirty = sequences[i].flags & 1;
      run_sequence(c);
      c->fpcr &= 0x07c80000;  // what FPCR has in Armv8.2: AHP DN FZ RMode FZ16
      c->fpsr &= h->fpsr_mask & 0x0800009f;
      c->nzcv &= 0xf0000000;
      c->x[27] = c->x[28] = 0;
      if (dirty) c->memory_hash = hash_words(scratch, kScratchSize / 8);
      if (mode == 'd') {
        put(&c->nzcv, sizeof *c - 24);
        if (dirty) put(scratch, kScratchSize);
        continue;
      }
      // From nzcv to the memory hash: 3 leading words are ours.
      results[pending++] = mode == 'v' ? c->signal : hash_words((u64*)c + 3, (sizeof *c / 8 - 3) & ~3ul) ^ mix(5, c->memory_hash);
      if (pending == limit) {
        put(results, pending * 8);
        pending = 0;
      }
    }
  }
  put(results, pending * 8);
  syscall6(kExit, 0, 0, 0, 0, 0, 0);
}
