// SHA-256's compression function over a changing message: rotates, adds, no memory to speak of.
#include "kernel.h"

static u32 turn(u32 x, int n) { return x >> n | x << (32 - n); }

static void compress(u32 state[8], const u32 message[16], const u32 k[64]) {
  u32 w[64], s[8];
  memcpy(w, message, 64);
  memcpy(s, state, 32);
  for (int i = 16; i < 64; i++) {
    u32 s0 = turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ w[i - 15] >> 3;
    u32 s1 = turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ w[i - 2] >> 10;
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  for (int i = 0; i < 64; i++) {
    u32 e = s[4], a = s[0];
    u32 t1 = s[7] + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & s[5]) ^ (~e & s[6])) + k[i] + w[i];
    u32 t2 = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
    memmove(s + 1, s, 28);
    s[4] += t1;
    s[0] = t1 + t2;
  }
  for (int i = 0; i < 8; i++) state[i] += s[i];
}

u64 kernel(u64 percent) {
  u32 state[8] = {1, 2, 3, 4, 5, 6, 7, 8}, message[16], k[64];
  u64 seed = 77, n = scaled(600000, percent), h = 0;
  for (int i = 0; i < 64; i++) k[i] = (u32)(next_random(&seed) >> 32);  // any constants serve here
  for (int i = 0; i < 16; i++) message[i] = (u32)next_random(&seed);
  for (u64 i = 0; i < n; i++) {
    compress(state, message, k);
    message[i & 15] ^= state[i & 7];
  }
  for (int i = 0; i < 8; i++) h = mix(h, state[i]);
  return h;
}
