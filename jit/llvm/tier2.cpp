#include "jit/llvm/tier2.h"

#include <llvm/IR/LLVMContext.h>
#include <llvm/IR/Verifier.h>
#include <llvm/Support/raw_ostream.h>
#include <time.h>

#include "jit/llvm/codegen.h"
#include "jit/llvm/link.h"
#include "jit/llvm/lowering.h"

namespace kiln::jit {

namespace {

/// Processor time of this thread: what a compile costs, however busy the machine is.
double cpu_ms() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
}

class LlvmCompiler final : public Tier2Compiler {
 public:
  explicit LlvmCompiler(const Log& log) : log_(log) {
    auto generator = CodeGenerator::create();
    if (generator) generator_ = std::move(*generator);
    else failure_ = generator.error();
  }

  Result<RegionCode> compile(const RegionRequest& request) override {
    if (!generator_) return Error{failure_};
    const double begin = cpu_ms();
    llvm::LLVMContext context;
    llvm::Module module("region", context);
    generator_->prepare(module);
    RegionLowering lowering(module, request);
    if (std::string error = lowering.run(); !error.empty()) return Error{error};
    const bool verify = log_.on(kLogTier2);
    if (verify) {
      std::string complaint;
      llvm::raw_string_ostream stream(complaint);
      if (llvm::verifyModule(module, &stream)) return Error{"tier 2: malformed LLVM IR: " + complaint};
    }
    const double lowered = cpu_ms();
    generator_->optimise(*lowering.function());
    lowering.expand_strict();
    const double optimised = cpu_ms();
    if (log_.on(kLogTier2)) log_ir(request, lowering);
    auto object = generator_->emit(module, lowering.fault_sites());
    if (!object) return Error{object.error()};
    const double emitted = cpu_ms();
    auto code =
        link_object(std::span<const char>(object->data(), object->size()), lowering.symbols(), request, lowering.fault_sites());
    if (!code) return code;
    const double linked = cpu_ms();
    for (const RegionBlock& block : request.blocks) code->guest_insns += block.ir.guest_insns;
    code->compile_ms = linked - begin;
    if (log_.on(kLogTier2)) {
      char line[160];
      std::snprintf(line, sizeof line,
                    "-- region %llu: %u instructions, lower %.2f, passes %.2f, codegen %.2f, link %.3f ms, %zu bytes\n",
                    static_cast<unsigned long long>(request.id), code->guest_insns, lowered - begin, optimised - lowered,
                    emitted - optimised, linked - emitted, code->memory.size);
      log_.write(line + disassemble("x86_64", "", {code->memory.writable, code->memory.size}, code->memory.executable));
    }
    return code;
  }

 private:
  void log_ir(const RegionRequest& request, RegionLowering& lowering) const {
    std::string text = "-- region " + std::to_string(request.id) + "\n";
    for (std::size_t i = 0; i < request.blocks.size(); ++i) {
      const RegionBlock& block = request.blocks[i];
      text += "block " + std::to_string(i) + (block.poll ? " (polls)" : "") + ": taken " + std::to_string(block.taken) +
              ", not taken " + std::to_string(block.not_taken);
      for (auto [pc, to] : block.indirect) text += ", indirect " + std::to_string(pc) + " -> " + std::to_string(to);
      text += "\n" + ir::print(block.ir) + "\n";
    }
    for (auto& [op, count] : lowering.fallbacks())
      text += "evaluated by the interpreter: " + op + " (" + std::to_string(count) + ")\n";
    llvm::raw_string_ostream stream(text);
    lowering.function()->getParent()->print(stream, nullptr);
    log_.write(text);
  }

  const Log& log_;
  std::unique_ptr<CodeGenerator> generator_;
  std::string failure_;
};

}  // namespace

std::unique_ptr<Tier2Compiler> make_tier2_compiler(const Log& log) { return std::make_unique<LlvmCompiler>(log); }

}  // namespace kiln::jit
