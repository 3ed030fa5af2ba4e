#include "jit/llvm/fault_sites.h"

#include <llvm/CodeGen/MachineFrameInfo.h>
#include <llvm/CodeGen/MachineFunctionPass.h>
#include <llvm/CodeGen/MachineInstrBuilder.h>
#include <llvm/CodeGen/MachineRegisterInfo.h>
#include <llvm/CodeGen/StackMaps.h>
#include <llvm/CodeGen/TargetInstrInfo.h>
#include <llvm/CodeGen/TargetOpcodes.h>
#include <llvm/CodeGen/TargetRegisterInfo.h>
#include <llvm/CodeGen/TargetSubtargetInfo.h>
#include <llvm/IR/CallingConv.h>
#include <llvm/MC/MCContext.h>

namespace kiln::jit {

using namespace llvm;

namespace {

bool touches_guest(const MachineInstr& mi) {
  for (const MachineMemOperand* m : mi.memoperands())
    if (m->getAddrSpace() == kGuestSpace) return true;
  return false;
}

bool is_virtual_register(const MachineOperand& operand) { return operand.isReg() && operand.getReg().isVirtual(); }

class FuseAccesses : public MachineFunctionPass {
 public:
  static char id;
  explicit FuseAccesses(FaultSites& sites) : MachineFunctionPass(id), sites_(sites) {}
  StringRef getPassName() const override { return "Kiln: fuse guest accesses"; }

  bool runOnMachineFunction(MachineFunction& mf) override {
    mf_ = &mf;
    info_ = mf.getSubtarget().getInstrInfo();
    pending_ = nullptr;
    for (MachineBasicBlock& block : mf) fuse(block);
    if (pending_ != nullptr) sites_.failure = "tier 2: an access was lost";
    // The brackets around stackmaps mean nothing.
    for (MachineBasicBlock& block : mf)
      for (MachineInstr& mi : make_early_inc_range(block))
        if (info_->isFrameInstr(mi) && empty_bracket(mi)) mi.eraseFromParent();
    leave_no_trace();
    return true;
  }

 private:
  void fuse(MachineBasicBlock& block) {
    MachineInstr* map = pending_;
    // A select between a record and its access has become a diamond of blocks, in their order: nothing else leads into it.
    if (map == nullptr) since_map_.clear();
    for (const MachineBasicBlock* from : block.predecessors())
      if (map != nullptr && !since_map_.contains(from)) sites_.failure = "tier 2: an access was lost";
    for (MachineInstr& mi : make_early_inc_range(block)) {
      if (mi.getOpcode() == TargetOpcode::STACKMAP) {
        if (map != nullptr) sites_.failure = "tier 2: an access was lost";
        map = &mi;
      } else if (touches_guest(mi)) {
        if (map == nullptr) {
          sites_.failure = "tier 2: an access has no state";
          return;
        }
        fuse(*map, separate(mi));
        map->eraseFromParent();
        map = nullptr;
      }
    }
    pending_ = map;
    since_map_.insert(&block);
  }

  /// An opening bracket directly before its closing one, or the other way round once that is gone.
  bool empty_bracket(MachineInstr& mi) {
    if (mi.getOpcode() == info_->getCallFrameSetupOpcode()) {
      MachineInstr* next = mi.getNextNode();
      if (next == nullptr || next->getOpcode() != info_->getCallFrameDestroyOpcode()) return false;
      closing_ = next;
      return true;
    }
    return &mi == closing_;
  }

  /// Instructions with more in them than a PATCHPOINT can show become two: tied operands (two-address form), two results (mulx),
  /// flags read.
  MachineInstr& separate(MachineInstr& mi) {
    if (info_->getName(mi.getOpcode()).ends_with("_NOREX")) return from_high_byte(mi);
    if (info_->getName(mi.getOpcode()).starts_with("VPMOV") && mi.mayLoad() && (*mi.memoperands_begin())->getSize() == 16)
      return load_whole(mi);
    bool apart = mi.getNumExplicitDefs() > 1;
    for (const MachineOperand& operand : mi.operands()) apart |= operand.isReg() && operand.isTied();
    for (const MCPhysReg flags : mi.getDesc().implicit_uses())
      apart |= StringRef(mf_->getSubtarget().getRegisterInfo()->getName(flags)) == "EFLAGS";
    if (!apart) return mi;
    const bool load = mi.mayLoad(), store = mi.mayStore();
    unsigned index = 0;
    const unsigned opcode = info_->getOpcodeAfterMemoryUnfold(mi.getOpcode(), load, store, &index);
    SmallVector<MachineInstr*, 2> parts;
    if (opcode != 0) {
      auto* type = info_->getRegClass(info_->get(opcode), index, mf_->getSubtarget().getRegisterInfo(), *mf_);
      const Register value = mf_->getRegInfo().createVirtualRegister(type);
      if (!info_->unfoldMemoryOperand(*mf_, mi, value, load, store, parts)) parts.clear();
    }
    if (parts.size() != 2) {
      sites_.failure = "tier 2: access folded into " + info_->getName(mi.getOpcode()).str();
      return mi;
    }
    for (MachineInstr* part : parts) mi.getParent()->insert(mi.getIterator(), part);
    mi.eraseFromParent();
    return *parts[load ? 0 : 1];
  }

  unsigned opcode_named(StringRef name) const {
    for (unsigned i = 0; i < info_->getNumOpcodes(); ++i)
      if (info_->getName(i) == name) return i;
    return 0;
  }

  /// VPMOVZX and VPMOVSX read half a register or less. LLVM 19 folds a whole register's load into them, volatile or not.
  MachineInstr& load_whole(MachineInstr& mi) {
    const StringRef name = info_->getName(mi.getOpcode());
    static const unsigned load = opcode_named("VMOVDQUrm");
    const unsigned widen = opcode_named(name.drop_back().str() + "r");
    if (!name.ends_with("rm") || load == 0 || widen == 0) {
      sites_.failure = "tier 2: access selected as " + name.str();
      return mi;
    }
    const auto* registers = mf_->getSubtarget().getRegisterInfo();
    const Register value = mf_->getRegInfo().createVirtualRegister(info_->getRegClass(info_->get(load), 0, registers, *mf_));
    auto whole = BuildMI(*mi.getParent(), mi, mi.getDebugLoc(), info_->get(load), value);
    for (unsigned i = 1; i < mi.getNumExplicitOperands(); ++i) whole.add(mi.getOperand(i));
    whole.cloneMemRefs(mi);
    BuildMI(*mi.getParent(), mi, mi.getDebugLoc(), info_->get(widen), mi.getOperand(0).getReg()).addReg(value);
    mi.eraseFromParent();
    return *whole;
  }

  /// A store of ah … dh asks for registers without REX prefix, which is forgotten at a PATCHPOINT: stored from a low byte.
  MachineInstr& from_high_byte(MachineInstr& mi) {
    static const unsigned widen = opcode_named("MOVZX32rr8_NOREX"), store = opcode_named("MOV8mr");
    const auto* registers = mf_->getSubtarget().getRegisterInfo();
    MachineOperand& stored = mi.getOperand(mi.getNumExplicitOperands() - 1);
    static const unsigned low_byte = [&] {
      for (unsigned i = 1; i < registers->getNumSubRegIndices(); ++i)
        if (StringRef(registers->getSubRegIndexName(i)) == "sub_8bit") return i;
      return 0u;
    }();
    if (info_->getName(mi.getOpcode()) != "MOV8mr_NOREX" || widen == 0 || store == 0 || low_byte == 0) {
      sites_.failure = "tier 2: access selected as " + info_->getName(mi.getOpcode()).str();
      return mi;
    }
    auto* type = info_->getRegClass(info_->get(widen), 0, registers, *mf_);
    const Register wide = mf_->getRegInfo().createVirtualRegister(type);
    BuildMI(*mi.getParent(), mi, mi.getDebugLoc(), info_->get(widen), wide).addReg(stored.getReg(), 0, stored.getSubReg());
    stored.setReg(wide);
    stored.setSubReg(low_byte);
    mi.setDesc(info_->get(store));
    return mi;
  }

  void fuse(MachineInstr& map, MachineInstr& access) {
    FaultSites::Selected selected;
    selected.site = static_cast<unsigned>(map.getOperand(0).getImm());
    selected.opcode = access.getOpcode();
    auto patch = BuildMI(*access.getParent(), access, access.getDebugLoc(), info_->get(TargetOpcode::PATCHPOINT));
    unsigned arguments = 0;
    for (const MachineOperand& operand : access.explicit_operands()) {
      if (is_virtual_register(operand)) {
        if (operand.isDef()) patch.add(operand);
        else ++arguments;
      }
      MachineOperand copy = operand;
      copy.clearParent();
      selected.operands.push_back(copy);
    }
    if (access.getNumExplicitDefs() > 1) sites_.failure = "tier 2: access with two results";
    patch.addImm(static_cast<s64>(sites_.selected.size())).addImm(0).addImm(0).addImm(arguments).addImm(CallingConv::AnyReg);
    for (const MachineOperand& operand : access.explicit_operands())
      if (is_virtual_register(operand) && operand.isUse()) patch.add(operand);
    // Whatever was a value's last use at the stackmap still is here, or the access's operands were: kill flags are optional.
    for (MachineOperand& operand : patch->operands())
      if (operand.isReg() && operand.isUse()) operand.setIsKill(false);
    for (unsigned i = 2; i < map.getNumExplicitOperands(); ++i) {
      MachineOperand operand = map.getOperand(i);
      operand.clearParent();
      if (operand.isReg()) operand.setIsKill(false);
      patch.add(operand);
    }
    for (unsigned i = map.getNumExplicitOperands(); i < map.getNumOperands(); ++i)
      if (map.getOperand(i).isReg() && map.getOperand(i).getReg().isVirtual()) {
        MachineOperand operand = map.getOperand(i);
        operand.clearParent();
        operand.setImplicit(false);
        operand.setIsKill(false);
        patch.add(operand);
      }
    for (unsigned i = access.getNumExplicitOperands(); i < access.getNumOperands(); ++i) patch.add(access.getOperand(i));
    access.eraseFromParent();
    sites_.selected.push_back(std::move(selected));
  }

  /// Stackmaps ask for a frame pointer and look like calls; neither is needed.
  void leave_no_trace() {
    MachineFrameInfo& frame = mf_->getFrameInfo();
    bool calls = false, adjusts = false;
    for (MachineBasicBlock& block : *mf_)
      for (MachineInstr& mi : block) {
        calls |= mi.isCall() && !mi.isReturn() && mi.getOpcode() != TargetOpcode::PATCHPOINT;
        adjusts |= info_->isFrameInstr(mi) || mi.isStackAligningInlineAsm();
      }
    frame.setHasStackMap(false);
    frame.setHasCalls(calls);
    frame.setAdjustsStack(adjusts);
  }

  FaultSites& sites_;
  MachineFunction* mf_ = nullptr;
  const TargetInstrInfo* info_ = nullptr;
  MachineInstr* pending_ = nullptr;  // a record whose access is in a later block
  SmallPtrSet<const MachineBasicBlock*, 4> since_map_;
  MachineInstr* closing_ = nullptr;
};

class RestoreAccesses : public MachineFunctionPass {
 public:
  static char id;
  explicit RestoreAccesses(FaultSites& sites) : MachineFunctionPass(id), sites_(sites) {}
  StringRef getPassName() const override { return "Kiln: restore guest accesses"; }

  bool runOnMachineFunction(MachineFunction& mf) override {
    const TargetInstrInfo& info = *mf.getSubtarget().getInstrInfo();
    for (MachineBasicBlock& block : mf)
      for (MachineInstr& mi : make_early_inc_range(block))
        if (mi.getOpcode() == TargetOpcode::PATCHPOINT) restore(mf, mi, info);
    return true;
  }

 private:
  void restore(MachineFunction& mf, MachineInstr& patch, const TargetInstrInfo& info) {
    const PatchPointOpers view(&patch);
    if (view.getID() >= sites_.selected.size()) {  // with two results the operands stand elsewhere
      sites_.failure = "tier 2: an access is not known any more";
      return;
    }
    const FaultSites::Selected& selected = sites_.selected[view.getID()];
    unsigned next_argument = view.getArgIdx();
    auto access = BuildMI(*patch.getParent(), patch, patch.getDebugLoc(), info.get(selected.opcode));
    for (const MachineOperand& operand : selected.operands) {
      if (!is_virtual_register(operand)) access.add(operand);
      else if (operand.isDef()) access.addReg(patch.getOperand(0).getReg(), RegState::Define);
      else access.addReg(patch.getOperand(next_argument++).getReg());
    }
    const std::string name = kFaultSymbol + std::to_string(sites_.emitted.size());
    access->setPreInstrSymbol(mf, mf.getContext().getOrCreateSymbol(name));
    note(patch, view.getVarIdx(), sites_.sites[selected.site], *mf.getSubtarget().getRegisterInfo());
    patch.eraseFromParent();
  }

  /// Where the slots' values are: registers, constants, places relative to the stack pointer.
  void note(const MachineInstr& patch, unsigned at, const FaultSites::Site& site, const TargetRegisterInfo& registers) {
    FaultSites::Emitted emitted{site.pc, {}};
    for (const FaultSlot& slot : site.slots) {
      if (at >= patch.getNumOperands()) {
        sites_.failure = "tier 2: an access lost part of its state";
        return;
      }
      const MachineOperand& operand = patch.getOperand(at);
      FaultValue value{slot.offset, slot.type, FaultValue::Kind::IntRegister, 0, 0};
      if (operand.isReg()) {
        const bool vector = ir::is_float(slot.type) || slot.type == ir::Type::V128;
        value.kind = vector ? FaultValue::Kind::VectorRegister : FaultValue::Kind::IntRegister;
        value.reg = static_cast<u8>(registers.getEncodingValue(operand.getReg()));
        at += 1;
      } else if (operand.isImm() && operand.getImm() == StackMaps::ConstantOp) {
        value.kind = FaultValue::Kind::Constant;
        value.number = static_cast<u64>(patch.getOperand(at + 1).getImm());
        at += 2;
      } else if (operand.isImm() && operand.getImm() == StackMaps::IndirectMemRefOp) {
        value.kind = FaultValue::Kind::Memory;
        value.reg = static_cast<u8>(registers.getEncodingValue(patch.getOperand(at + 2).getReg()));
        value.number = static_cast<u64>(patch.getOperand(at + 3).getImm());
        at += 4;
      } else {
        sites_.failure = "tier 2: state of an access is in no place known";
        return;
      }
      emitted.values.push_back(value);
    }
    sites_.emitted.push_back(std::move(emitted));
  }

  FaultSites& sites_;
};

char FuseAccesses::id = 0;
char RestoreAccesses::id = 0;

}  // namespace

Pass* create_fuse_accesses(FaultSites& sites) { return new FuseAccesses(sites); }
Pass* create_restore_accesses(FaultSites& sites) { return new RestoreAccesses(sites); }

}  // namespace kiln::jit
