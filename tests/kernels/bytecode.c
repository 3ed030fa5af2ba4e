// A small stack-machine interpreter (switch dispatch) that runs a prime sieve by trial division: branchy, table jumps.
#include "kernel.h"

enum { PUSH, LOAD, STORE, ADD, SUB, MUL, MOD, LESS, EQUAL, JUMP, JUMP_ZERO, ACCUMULATE, HALT };

static i64 run(const i32* code, i64 limit) {
  i64 stack[32], variable[8] = {limit, 2, 2, 0};
  int sp = 0, pc = 0;
  i64 sum = 0;
  for (;;) {
    i32 op = code[pc++];
    switch (op) {
      case PUSH: stack[sp++] = code[pc++]; break;
      case LOAD: stack[sp++] = variable[code[pc++]]; break;
      case STORE: variable[code[pc++]] = stack[--sp]; break;
      case ADD: sp--; stack[sp - 1] += stack[sp]; break;
      case SUB: sp--; stack[sp - 1] -= stack[sp]; break;
      case MUL: sp--; stack[sp - 1] *= stack[sp]; break;
      case MOD: sp--; stack[sp - 1] %= stack[sp]; break;
      case LESS: sp--; stack[sp - 1] = stack[sp - 1] < stack[sp]; break;
      case EQUAL: sp--; stack[sp - 1] = stack[sp - 1] == stack[sp]; break;
      case JUMP: pc = code[pc]; break;
      case JUMP_ZERO: sp--; pc = stack[sp] == 0 ? code[pc] : pc + 1; break;
      case ACCUMULATE: sum = sum * 3 + stack[--sp]; break;
      case HALT: return sum;
    }
  }
}

u64 kernel(u64 percent) {
  // for (n = 2; n < limit; n++) { for (d = 2; d*d <= n; d++) if (n % d == 0) goto next; accumulate(n); next:; }
  static const i32 code[] = {
      /*  0 */ LOAD, 1, LOAD, 0, LESS, JUMP_ZERO, 51,
      /*  7 */ PUSH, 2, STORE, 2,
      /* 11 */ LOAD, 1, LOAD, 2, LOAD, 2, MUL, LESS, JUMP_ZERO, 26,
      /* 21 */ LOAD, 1, ACCUMULATE, JUMP, 42,
      /* 26 */ LOAD, 1, LOAD, 2, MOD, JUMP_ZERO, 42,
      /* 33 */ LOAD, 2, PUSH, 1, ADD, STORE, 2, JUMP, 11,
      /* 42 */ LOAD, 1, PUSH, 1, ADD, STORE, 1, JUMP, 0,
      /* 51 */ HALT};
  return mix(0, (u64)run(code, (i64)scaled(170000, percent)));
}
