// A bare arm64 "kernel" (Image header, EL1, MMU off): vectors that write down what happened and go back to whoever tried it.
    .section .text.start, "ax"
    .global _start
_start:
    b entry
    .word 0
    .quad 0x80000           // text_offset
    .quad image_end - _start
    .quad 0xa               // little-endian, 4 KiB pages, anywhere
    .quad 0, 0, 0
    .ascii "ARM\x64"
    .word 0
entry:
    adrp x1, stack_top
    add x1, x1, :lo12:stack_top
    mov sp, x1
    adrp x1, vectors
    add x1, x1, :lo12:vectors
    msr vbar_el1, x1
    isb
    bl main
off:
    ldr x0, =0x84000008     // PSCI SYSTEM_OFF
    hvc #0
1:  wfi
    b 1b

    .text
// u64 attempt(fn, el, a, b): calls fn(a, b) at EL1 (el = 1) or EL0 until it returns (EL0: svc #0xdead) or an exception happens.
// 0: it returned; 1: `seen` says what happened.
    .global attempt
attempt:
    adrp x9, context
    add x9, x9, :lo12:context
    stp x19, x20, [x9]
    stp x21, x22, [x9, #16]
    stp x23, x24, [x9, #32]
    stp x25, x26, [x9, #48]
    stp x27, x28, [x9, #64]
    stp x29, x30, [x9, #80]
    mov x10, sp
    str x10, [x9, #96]
    mov x11, x0
    mov x12, x1
    mov x0, x2
    mov x1, x3
    cbz x12, 1f
    blr x11
    b succeeded
1:  msr elr_el1, x11
    adrp x9, step_spsr
    ldr x9, [x9, :lo12:step_spsr]
    msr spsr_el1, x9
    mov x9, #0x1230
    msr sp_el0, x9
    eret
succeeded:
    mov x0, #0
back:
    adrp x9, context
    add x9, x9, :lo12:context
    ldp x19, x20, [x9]
    ldp x21, x22, [x9, #16]
    ldp x23, x24, [x9, #32]
    ldp x25, x26, [x9, #48]
    ldp x27, x28, [x9, #64]
    ldp x29, x30, [x9, #80]
    ldr x10, [x9, #96]
    msr SPSel, #1
    mov sp, x10
    ret

caught:                     // x0: which vector; the rest of the registers is gone
    adrp x9, seen
    add x9, x9, :lo12:seen
    mrs x1, esr_el1
    mrs x2, elr_el1
    mrs x3, far_el1
    mrs x4, spsr_el1
    stp x0, x1, [x9]
    stp x2, x3, [x9, #16]
    str x4, [x9, #32]
    mov x5, #0
    movk x5, #0x5600, lsl #16
    movk x5, #0xdead
    cmp x1, x5
    b.eq succeeded
    mov x0, #1
    b back

    .balign 2048
vectors:
    .set i, 0
    .rept 16
    .balign 128
    mov x0, #i
    b caught
    .set i, i + 1
    .endr

    .bss
    .balign 16
context: .skip 128
    .global seen
seen: .skip 64
    .balign 4096
    .skip 16384
stack_top:
