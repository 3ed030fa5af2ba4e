#include "jit/llvm/codegen.h"

#include <llvm/Analysis/AliasAnalysis.h>
#include <llvm/Analysis/AssumptionCache.h>
#include <llvm/Analysis/BasicAliasAnalysis.h>
#include <llvm/Analysis/BlockFrequencyInfo.h>
#include <llvm/Analysis/BranchProbabilityInfo.h>
#include <llvm/Analysis/LoopInfo.h>
#include <llvm/Analysis/MemorySSA.h>
#include <llvm/Analysis/OptimizationRemarkEmitter.h>
#include <llvm/Analysis/PostDominators.h>
#include <llvm/Analysis/ProfileSummaryInfo.h>
#include <llvm/Analysis/TargetLibraryInfo.h>
#include <llvm/Analysis/TargetTransformInfo.h>
#include <llvm/CodeGen/MachineModuleInfo.h>
#include <llvm/CodeGen/Passes.h>
#include <llvm/CodeGen/TargetPassConfig.h>
#include <llvm/IR/LegacyPassManager.h>
#include <llvm/IR/PassInstrumentation.h>
#include <llvm/IR/PassManager.h>
#include <llvm/IR/PassTimingInfo.h>
#include <llvm/IR/Verifier.h>
#include <llvm/MC/TargetRegistry.h>
#include <llvm/Support/CommandLine.h>
#include <llvm/Support/TargetSelect.h>
#include <llvm/Support/raw_ostream.h>
#include <llvm/Transforms/InstCombine/InstCombine.h>
#include <llvm/Transforms/Scalar/EarlyCSE.h>
#include <llvm/Transforms/Scalar/SimplifyCFG.h>
#include <llvm/Transforms/Utils/PromoteMemToReg.h>

#include <cstdlib>
#include <vector>

#include "jit/llvm/constructors.h"

namespace kiln::jit {

namespace {
constexpr const char* kTriple = "x86_64-unknown-linux-gnu";

/// Sets one of LLVM's hidden boolean options.
void set_option(const char* name, const char* value) {
  auto& options = llvm::cl::getRegisteredOptions();
  auto it = options.find(name);
  if (it != options.end()) it->second->addOccurrence(0, name, value);
}

/// For measuring: KILN_LLVM_OPTIONS="time-passes=true,misched=default" sets further ones.
void set_options_from_environment() {
  const char* text = std::getenv("KILN_LLVM_OPTIONS");
  if (text == nullptr) return;
  llvm::SmallVector<llvm::StringRef> items;
  llvm::StringRef(text).split(items, ',');
  for (llvm::StringRef item : items) set_option(item.split('=').first.str().c_str(), item.split('=').second.str().c_str());
}

/// Passes for what our functions never have (garbage collection, instrumentation, debug values, funclets), and passes that
/// found nothing worth their time: the guest's compiler has hoisted, sunk and merged already.
void leave_out_passes(llvm::TargetPassConfig& config) {
  for (llvm::AnalysisID pass :
       {&llvm::GCLoweringID, &llvm::ShadowStackGCLoweringID, &llvm::GCMachineCodeAnalysisID, &llvm::FEntryInserterID,
        &llvm::XRayInstrumentationID, &llvm::PatchableFunctionID, &llvm::StackMapLivenessID, &llvm::LiveDebugValuesID,
        &llvm::RemoveRedundantDebugValuesID, &llvm::FuncletLayoutID, &llvm::FixupStatepointCallerSavedID,
        &llvm::MachineSanitizerBinaryMetadataID, &llvm::LocalStackSlotAllocationID, &llvm::StackColoringID})
    config.disablePass(pass);
  for (llvm::AnalysisID pass :
       {&llvm::EarlyMachineLICMID, &llvm::MachineLICMID, &llvm::MachineSinkingID, &llvm::PostRAMachineSinkingID,
        &llvm::MachineLateInstrsCleanupID, &llvm::EarlyTailDuplicateID, &llvm::TailDuplicateID, &llvm::OptimizePHIsID,
        &llvm::StackSlotColoringID, &llvm::MachineCombinerID, &llvm::EarlyIfConverterID, &llvm::MachineSchedulerID,
        &llvm::LiveRangeShrinkID, &llvm::MachineCSEID})
    config.disablePass(pass);
}

/// Slots are allocas in the entry block: all of them become SSA values in one go.
void promote_slots(llvm::Function& function, llvm::FunctionAnalysisManager& analyses) {
  std::vector<llvm::AllocaInst*> slots;
  for (llvm::Instruction& i : function.getEntryBlock())
    if (auto* slot = llvm::dyn_cast<llvm::AllocaInst>(&i); slot && llvm::isAllocaPromotable(slot)) slots.push_back(slot);
  llvm::PromoteMemToReg(slots, analyses.getResult<llvm::DominatorTreeAnalysis>(function),
                        &analyses.getResult<llvm::AssumptionAnalysis>(function));
}
/// InstCombine makes one load behind a phi of loads at the ends of blocks, volatile or not, and the stackmaps would stay
/// behind. A compiler barrier after each block's last load, which is no instruction in the end, keeps it from that.
void keep_loads_in_place(llvm::Function& function) {
  for (llvm::BasicBlock& block : function)
    for (llvm::Instruction& i : llvm::reverse(block)) {
      auto* load = llvm::dyn_cast<llvm::LoadInst>(&i);
      if (load != nullptr && load->getPointerAddressSpace() == kGuestSpace)
        new llvm::FenceInst(function.getContext(), llvm::AtomicOrdering::SequentiallyConsistent, llvm::SyncScope::SingleThread,
                            std::next(load->getIterator()));
      else if (!i.mayWriteToMemory()) continue;
      break;
    }
}
}  // namespace

Result<std::unique_ptr<CodeGenerator>> CodeGenerator::create() {
  run_llvm_constructors();
  LLVMInitializeX86TargetInfo();
  LLVMInitializeX86Target();
  LLVMInitializeX86TargetMC();
  LLVMInitializeX86AsmPrinter();
  LLVMInitializeX86AsmParser();  // the inline asm of guest accesses
  // TIER-FINDINGS: loop strength reduction costs time and hurts under register pressure.
  set_option("disable-lsr", "true");
  // The cold blocks are full of stores: neither is worth the time to look whether they could be merged.
  set_option("combiner-store-merging", "false");
  set_option("enable-tail-merge", "false");
  // What CodeGenPrepare and its kind would look for, the guest's compiler has seen to.
  for (const char* pass :
       {"disable-constant-hoisting", "disable-mergeicmps", "disable-expand-reductions", "disable-partial-libcall-inlining"})
    set_option(pass, "true");
  set_options_from_environment();

  std::string error;
  const llvm::Target* target = llvm::TargetRegistry::lookupTarget(kTriple, error);
  if (!target) return Error{"tier 2: " + error};
  llvm::TargetOptions options;
  options.MCOptions.AsmVerbose = false;
  std::unique_ptr<llvm::TargetMachine> machine(target->createTargetMachine(
      kTriple, "x86-64-v3", "", options, llvm::Reloc::PIC_, llvm::CodeModel::Small, llvm::CodeGenOptLevel::Less, true));
  if (!machine) return Error{"tier 2: no target machine"};
  return std::unique_ptr<CodeGenerator>(new CodeGenerator(std::move(machine)));
}

CodeGenerator::~CodeGenerator() {
  if (llvm::TimePassesIsEnabled) llvm::reportAndResetTimings();
}

void CodeGenerator::prepare(llvm::Module& module) {
  module.setTargetTriple(kTriple);
  module.setDataLayout(machine_->createDataLayout());
}

void CodeGenerator::optimise(llvm::Function& function) {
  using namespace llvm;
  // Registered by hand: PassBuilder would link in every pass there is.
  FunctionAnalysisManager functions;
  ModuleAnalysisManager modules;
  functions.registerPass([] { return PassInstrumentationAnalysis(); });
  modules.registerPass([] { return PassInstrumentationAnalysis(); });
  functions.registerPass([] { return DominatorTreeAnalysis(); });
  functions.registerPass([] { return PostDominatorTreeAnalysis(); });
  functions.registerPass([] { return AssumptionAnalysis(); });
  functions.registerPass([] { return LoopAnalysis(); });
  functions.registerPass([] { return MemorySSAAnalysis(); });
  functions.registerPass([] { return TargetLibraryAnalysis(); });
  functions.registerPass([this] { return machine_->getTargetIRAnalysis(); });
  functions.registerPass([] { return OptimizationRemarkEmitterAnalysis(); });
  functions.registerPass([] { return BlockFrequencyAnalysis(); });
  functions.registerPass([] { return BranchProbabilityAnalysis(); });
  functions.registerPass([] { return BasicAA(); });
  functions.registerPass([] {
    AAManager manager;
    manager.registerFunctionAnalysis<BasicAA>();
    return manager;
  });
  modules.registerPass([] { return ProfileSummaryAnalysis(); });
  modules.registerPass([&] { return FunctionAnalysisManagerModuleProxy(functions); });
  functions.registerPass([&] { return ModuleAnalysisManagerFunctionProxy(modules); });

  promote_slots(function, functions);
  keep_loads_in_place(function);
  FunctionPassManager passes;
  // No LICM: the guest's compiler has moved what there is to move, and the loop passes' LCSSA form (a phi for every slot at
  // every cold block) doubled the time of code generation.
  passes.addPass(EarlyCSEPass());
  passes.addPass(InstCombinePass());
  passes.addPass(SimplifyCFGPass());
  passes.run(function, functions);
}

Result<llvm::SmallVector<char, 0>> CodeGenerator::emit(llvm::Module& module, FaultSites& sites) {
  llvm::SmallVector<char, 0> object;
  llvm::raw_svector_ostream stream(object);
  llvm::legacy::PassManager passes;
  // What TargetMachine::addPassesToEmitFile does, with our two passes in it.
  auto& machine = static_cast<llvm::LLVMTargetMachine&>(*machine_);
  auto* info = new llvm::MachineModuleInfoWrapperPass(&machine);
  llvm::TargetPassConfig* config = machine.createPassConfig(passes);
  config->setDisableVerify(true);
  passes.add(config);
  passes.add(info);
  leave_out_passes(*config);
  config->insertPass(&llvm::FinalizeISelID, create_fuse_accesses(sites));
  if (config->addISelPasses()) return Error{"tier 2: the target cannot select instructions"};
  config->addMachinePasses();
  config->setInitialized();
  passes.add(create_restore_accesses(sites));
  if (machine.addAsmPrinter(passes, stream, nullptr, llvm::CodeGenFileType::ObjectFile, info->getMMI().getContext()))
    return Error{"tier 2: the target cannot emit objects"};
  passes.run(module);
  if (!sites.failure.empty()) return Error{sites.failure};
  return object;
}

}  // namespace kiln::jit
