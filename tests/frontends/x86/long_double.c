// Long double libm over many inputs: prints one hash a function. Argument: how many inputs (default 20000).
#define _GNU_SOURCE
#include <fenv.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t random_state = 88172645463325252u;
static uint64_t next(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

/// Mostly of moderate size; now and then anything.
static long double argument(void) {
  const uint64_t kind = next() % 16;
  const long double unit = (long double)(int64_t)next() * 0x1p-63L;
  if (kind < 6) return unit * 8;
  if (kind < 10) return unit * 1000;
  if (kind < 12) return unit;
  if (kind == 12) return (long double)(double)(unit * 100);
  if (kind == 13) return (long double)(int64_t)(unit * 50);
  union {
    long double value;
    struct {
      uint64_t significand;
      uint16_t exponent;
    } parts;
  } any;
  memset(&any, 0, sizeof any);
  any.parts.significand = next() | (uint64_t)1 << 63;
  any.parts.exponent = (uint16_t)(kind == 14 ? next() : 0x3fff - 100 + next() % 200);
  return any.value;
}

static uint64_t hash;
static void mix(const void* data, unsigned bytes) {
  const unsigned char* p = data;
  for (unsigned i = 0; i < bytes; ++i) hash = (hash ^ p[i]) * 0x100000001b3u;
}
static void add(long double v) {
  unsigned char image[16] = {0};
  memcpy(image, &v, 10);
  mix(image, 10);
}

typedef long double (*One)(long double);
typedef long double (*Two)(long double, long double);
struct Function {
  const char* name;
  One one;
  Two two;
};
static const struct Function functions[] = {
    {"sinl", sinl, 0},     {"cosl", cosl, 0},     {"tanl", tanl, 0},     {"asinl", asinl, 0},   {"acosl", acosl, 0},   {"atanl", atanl, 0},
    {"sinhl", sinhl, 0},   {"coshl", coshl, 0},   {"tanhl", tanhl, 0},   {"asinhl", asinhl, 0}, {"acoshl", acoshl, 0}, {"atanhl", atanhl, 0},
    {"expl", expl, 0},     {"exp2l", exp2l, 0},   {"expm1l", expm1l, 0}, {"logl", logl, 0},     {"log2l", log2l, 0},   {"log10l", log10l, 0},
    {"log1pl", log1pl, 0}, {"logbl", logbl, 0},   {"sqrtl", sqrtl, 0},   {"cbrtl", cbrtl, 0},   {"rintl", rintl, 0},   {"floorl", floorl, 0},
    {"ceill", ceill, 0},   {"truncl", truncl, 0}, {"roundl", roundl, 0}, {"erfl", erfl, 0},     {"erfcl", erfcl, 0},   {"lgammal", lgammal, 0},
    {"tgammal", tgammal, 0}, {"powl", 0, powl},   {"fmodl", 0, fmodl},   {"atan2l", 0, atan2l}, {"hypotl", 0, hypotl}, {"remainderl", 0, remainderl},
    {"fdiml", 0, fdiml},   {"nextafterl", 0, nextafterl}, {"copysignl", 0, copysignl}, {"fmaxl", 0, fmaxl},
};

int main(int argc, char** argv) {
  const long count = argc > 1 ? atol(argv[1]) : 20000;
  for (unsigned f = 0; f < sizeof functions / sizeof *functions; ++f) {
    hash = 0xcbf29ce484222325u;
    feclearexcept(FE_ALL_EXCEPT);
    for (long n = 0; n < count; ++n) {
      const long double a = argument(), b = functions[f].two ? argument() : 0;
      add(functions[f].two ? functions[f].two(a, b) : functions[f].one(a));
    }
    const int raised = fetestexcept(FE_ALL_EXCEPT);
    printf("%-10s %016llx %02x\n", functions[f].name, (unsigned long long)hash, raised);
  }
  // Arithmetic, conversions and comparisons in all rounding modes.
  static const int modes[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
  for (unsigned m = 0; m < 4; ++m) {
    hash = 0xcbf29ce484222325u;
    fesetround(modes[m]);
    for (long n = 0; n < count; ++n) {
      volatile long double a = argument(), b = argument();
      add(a + b);
      add(a - b);
      add(a * b);
      add(a / b);
      const double d = (double)a;
      const float s = (float)b;
      const long long i = llrintl(a);
      const int order = (a < b) | (a <= b) << 1 | (a == b) << 2 | isunordered(a, b) << 3;
      mix(&d, sizeof d);
      mix(&s, sizeof s);
      mix(&i, sizeof i);
      mix(&order, sizeof order);
    }
    printf("mode %u     %016llx\n", m, (unsigned long long)hash);
  }
  fesetround(FE_TONEAREST);
  char text[64];
  hash = 0xcbf29ce484222325u;
  for (long n = 0; n < count / 20; ++n) {
    const long double a = argument();
    snprintf(text, sizeof text, "%.20Lg %La", a, a);
    mix(text, (unsigned)strlen(text));
    add(strtold(text, 0));
  }
  printf("text       %016llx\n", (unsigned long long)hash);
  return 0;
}
