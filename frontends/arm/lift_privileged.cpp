// MRS, MSR and SYS of a full system. What the kernel does all the time is read and written in its slot; the rest are helpers.
#include "frontends/arm/base_system.decode.h"
#include "frontends/arm/helpers.h"
#include "frontends/arm/system_internal.h"
#include "frontends/arm/system_lift.h"

namespace kiln::arm {

using ir::ExitHint;
using ir::ExitKind;
using ir::Op;
using ir::Type;
using ir::Value;

namespace {

constexpr u32 kCurrentEl = register_number(3, 0, 4, 2, 2), kSpSel = register_number(3, 0, 4, 2, 0),
              kPan = register_number(3, 0, 4, 2, 3), kUao = register_number(3, 0, 4, 2, 4),
              kNzcv = register_number(3, 3, 4, 2, 0), kDaif = register_number(3, 3, 4, 2, 1),
              kFpcr = register_number(3, 3, 4, 4, 0), kFpsr = register_number(3, 3, 4, 4, 1),
              kSpEl0 = register_number(3, 0, 4, 1, 0), kCtr = register_number(3, 3, 0, 0, 1),
              kDczid = register_number(3, 3, 0, 0, 7);
constexpr u64 kDczidValue = 4, kDczidProhibited = 16;  // 64 bytes
constexpr u64 kDaifAll = kDaifD | kDaifA | kDaifI | kDaifF;

Lift new_mode(Lifter& l) {
  l.ir.exit_indirect(l.ir.i64(l.pc + 4), ExitHint::NewMode);
  return Lift::End;
}

Value slot(Lifter& l, std::size_t offset) { return l.ir.get_reg(Type::I64, offset); }
constexpr std::size_t kDaifSlot = offsetof(A64SystemState, daif);

/// Replaces PSTATE.DAIF. Masking needs no more; unmasking an interrupt that waits must be noticed.
Lift write_daif(Lifter& l, Value value, bool may_unmask) {
  l.ir.set_reg(kDaifSlot, value);
  if (l.mode & kModeDebugByMask) {
    l.ir.call(kRenewContext);
    if (may_unmask) l.ir.call(kLookForInterrupts);
    return new_mode(l);
  }
  l.unmasked |= may_unmask;
  return Lift::Next;
}

Lift register_trap_here(Lifter& l, u32 access, bool read) { return trap_with(l, register_trap(access, read)); }

/// PSTATE and floating-point control. Undefined: it is none of these; `done` tells whether it was.
Lift special(Lifter& l, u32 encoding, u32 rt, bool read, bool& done) {
  auto& ir = l.ir;
  done = true;
  const u32 access = register_access(encoding, rt);
  switch (encoding) {
    case kNzcv:
      if (read) l.set_r(rt, ir.flags_value(ir.get_flags()));
      else ir.set_flags(ir.flags_image(ir.and_(l.w(rt), ir.i32(0xf0000000))));
      return Lift::Next;
    case kDaif:
      if (l.el == 0 && !(l.mode & kModeMaskAccess)) return register_trap_here(l, access, read);
      if (!read) return write_daif(l, ir.and_(l.x(rt), ir.i64(kDaifAll)), true);
      l.set_r(rt, slot(l, kDaifSlot));
      return Lift::Next;
    case kCurrentEl:
      if (l.el == 0 || !read) return Lift::Undefined;
      l.set_r(rt, ir.i64(l.el << 2));
      return Lift::Next;
    case kSpSel:
      if (l.el == 0) return Lift::Undefined;
      if (read) {
        l.set_r(rt, ir.i64((l.mode & kModeSpSel) != 0));
        return Lift::Next;
      }
      ir.call(kWriteSpSel, {ir.and_(l.x(rt), ir.i64(1))});
      return new_mode(l);
    case kPan:
    case kUao:
      if (l.el == 0) return Lift::Undefined;
      if (read) {
        l.set_r(rt, ir.call(kReadPanOrUao, {ir.i64(encoding == kUao)}));
        return Lift::Next;
      }
      ir.call(kWritePanOrUao, {ir.i64(encoding == kUao), ir.ubfx(l.x(rt), encoding == kUao ? 23 : 22, 1)});
      return new_mode(l);
    case kFpcr:
    case kFpsr: {
      if (l.mode & kModeFpTrap) return trap_with(l, syndrome(Class::FpTrap, 1 << 24 | 14 << 20));
      if (encoding == kFpcr) {
        if (read) {
          l.set_r(rt, slot(l, offsetof(A64State, fpcr)));
          return Lift::Next;
        }
        ir.call(kWriteFpcr, {l.x(rt)});
        return new_mode(l);
      }
      if (l.el == 0) {
        if (read) l.set_r(rt, ir.call(kReadFpsr));
        else ir.call(kWriteFpsr, {l.x(rt)});
        return l.mode & (read ? kModeFpsrWatched | kModeFlushToZero : kModeFpsrWatched) ? Lift::Next : new_mode(l);
      }
      if (read) {
        l.set_r(rt, ir.call(kSaveFpsr));
        return Lift::Next;
      }
      ir.call(kRestoreFpsr, {l.x(rt)});
      return new_mode(l);
    }
    case kSpEl0:
      // With SPSel = 0 it is SP itself.
      if (l.el == 0 || !(l.mode & kModeSpSel)) return Lift::Undefined;
      done = false;
      return Lift::Undefined;
    case kCtr:
      if (l.mode & kModeNoCtr) return register_trap_here(l, access, read);
      done = false;
      return Lift::Undefined;
    case kDczid:
      if (!read) return Lift::Undefined;
      l.set_r(rt, ir.i64(kDczidValue | (l.mode & kModeNoZva ? kDczidProhibited : 0)));
      return Lift::Next;
    default: done = false; return Lift::Undefined;
  }
}

/// EL0 may use no register of a device.
unsigned device_level(u32 encoding) {
  const u64 op1 = bits(encoding, 11, 3);
  return op1 == 4 ? 2 : op1 == 6 ? 3 : 1;
}

}  // namespace

Lift trap_with(Lifter& l, u32 esr) {
  l.ir.exit_exception(ExitKind::Trap, l.pc, esr);
  return Lift::End;
}

void emit_interrupt_check(Lifter& l) {
  auto& ir = l.ir;
  const Value waiting = ir.andn(slot(l, offsetof(A64SystemState, pending)), slot(l, kDaifSlot));
  ir.trap_if(ir.icmp(Op::icmp_ne_, waiting, ir.i64(0)), ExitKind::Interrupt);
}

Lift lift_system_register(Lifter& l, u32 sysreg, u32 rt, bool read) {
  auto& ir = l.ir;
  const u32 encoding = 0x8000 | sysreg, access = register_access(encoding, rt);
  bool done = false;
  const Lift how = special(l, encoding, rt, read, done);
  if (done) return how;
  const SystemRegister* r = find_register(encoding);
  const bool device = r == nullptr && is_device_register(encoding);
  if (r == nullptr && !device) return Lift::Undefined;
  if (l.el < (device ? device_level(encoding) : read ? r->read_el : r->write_el)) return Lift::Undefined;
  if (!device && (read ? r->read_el : r->write_el) == kNever) return Lift::Undefined;
  if (l.mode & kModeRegisterTraps) ir.call(kCheckRegisterTraps, {ir.i64(access), ir.i64(read)});
  if (device) {
    if (read) l.set_r(rt, ir.call(kReadDeviceRegister, {ir.i64(access)}));
    else ir.call(kWriteDeviceRegister, {ir.i64(access), l.x(rt)});
    return Lift::Next;
  }
  if (read) {
    l.set_r(rt, r->does.read != nullptr ? ir.call(kReadRegister, {ir.i64(access)}) : slot(l, r->offset));
    return Lift::Next;
  }
  if (r->does.write != nullptr) {
    ir.call(kWriteRegister, {ir.i64(access), l.x(rt)});
  } else {
    ir.set_reg(r->offset, r->does.mask == ~u64{0} ? l.x(rt) : ir.and_(l.x(rt), ir.i64(r->does.mask)));
  }
  return r->does.after == After::Context ? new_mode(l) : Lift::Next;
}

Lift lift_system_cache(Lifter& l, u32 rt) {
  if (l.mode & kModeNoCacheOps)
    return trap_with(l, register_trap(register_access(static_cast<u32>(bits(l.word, 5, 16)), rt), false));
  l.ir.call(kMaintainCache, {l.x(rt), l.ir.i64(l.mmu_index)});
  return Lift::Next;
}

Lift lift_msr_immediate(Lifter& l, const fields::msr_immediate& f) {
  if (!l.system) return Lift::Undefined;
  auto& ir = l.ir;
  const u32 field = f.op1 << 3 | f.op2;
  if (field == (3 << 3 | 6) || field == (3 << 3 | 7)) {
    if (l.el == 0 && !(l.mode & kModeMaskAccess))
      return register_trap_here(l, register_access(static_cast<u32>(bits(l.word, 5, 16)), 31), false);
    const Value old = slot(l, kDaifSlot), these = ir.i64(u64{f.crm} << 6);
    return f.op2 == 6 ? write_daif(l, ir.or_(old, these), false) : write_daif(l, ir.andn(old, these), true);
  }
  if (l.el == 0) return Lift::Undefined;
  switch (field) {
    case 3: ir.call(kWritePanOrUao, {ir.i64(1), ir.i64(f.crm & 1)}); return new_mode(l);
    case 4: ir.call(kWritePanOrUao, {ir.i64(0), ir.i64(f.crm & 1)}); return new_mode(l);
    case 5: ir.call(kWriteSpSel, {ir.i64(f.crm & 1)}); return new_mode(l);
    default: return Lift::Undefined;
  }
}

Lift lift_sys(Lifter& l, const fields::sys& f) {
  if (!l.system || l.el == 0) return Lift::Undefined;
  auto& ir = l.ir;
  const u32 what = f.op1 << 8 | f.crm << 4 | f.op2;
  if (f.crn == 7) {
    switch (what) {
      case 0x010:    // IC IALLUIS
      case 0x050: {  // IC IALLU
        ir.exit_jump(l.pc + 4);
        return Lift::End;
      }
      case 0x061: return lift_system_cache(l, f.rt);  // DC IVAC
      case 0x062:                                     // DC ISW
      case 0x0a2:                                     // DC CSW
      case 0x0e2: return Lift::Next;                  // DC CISW
      case 0x080:
      case 0x081:
      case 0x082:
      case 0x083:  // AT S1E1R S1E1W S1E0R S1E0W
      case 0x090:
      case 0x091:  // AT S1E1RP S1E1WP
        break;
      case 0x480:
      case 0x481:
      case 0x484:
      case 0x485:
      case 0x486:
      case 0x487:  // AT S1E2R S1E2W S12E1R S12E1W S12E0R S12E0W
        if (l.el < 2) return Lift::Undefined;
        break;
      case 0x680:
      case 0x681:  // AT S1E3R S1E3W
        if (l.el < 3) return Lift::Undefined;
        break;
      default: return Lift::Undefined;
    }
    ir.call(kTranslateAddress, {ir.i64(what), l.x(f.rt)});
    return Lift::Next;
  }
  if (f.crn != 8 || !is_tlbi(f.op1, f.crm, f.op2)) return Lift::Undefined;
  if (l.el < (f.op1 == 4 ? 2 : f.op1 == 6 ? 3 : 1)) return Lift::Undefined;
  ir.call(kInvalidateTlb, {ir.i64(what), l.x(f.rt)});
  return new_mode(l);
}

}  // namespace kiln::arm
