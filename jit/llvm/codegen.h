// LLVM set up once: target machine, IR passes, object emission.
#pragma once
#include <llvm/ADT/SmallVector.h>
#include <llvm/IR/Module.h>
#include <llvm/Target/TargetMachine.h>

#include <memory>
#include <string>

#include "ir/support/result.h"
#include "jit/llvm/fault_sites.h"

namespace kiln::jit {

class CodeGenerator {
 public:
  /// Initialises the X86 target on first use.
  static Result<std::unique_ptr<CodeGenerator>> create();
  ~CodeGenerator();
  void prepare(llvm::Module& module);  // triple and data layout: before IR is made
  void optimise(llvm::Function& function);
  /// The module as a relocatable ELF object.
  Result<llvm::SmallVector<char, 0>> emit(llvm::Module& module, FaultSites& sites);

 private:
  explicit CodeGenerator(std::unique_ptr<llvm::TargetMachine> machine) : machine_(std::move(machine)) {}
  std::unique_ptr<llvm::TargetMachine> machine_;
};

}  // namespace kiln::jit
