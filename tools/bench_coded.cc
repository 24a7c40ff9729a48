#include "tools/bench_coded.h"

#include <string>

#include "zeromini/internal/format_bytes.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

// One row of all parameters: groups are as those of rows of whole groups.
WeightCodecArgs Weights(const CodedForm& form, const CodedMemory& memory,
                        float* unpacked, int64_t begin, int64_t n) {
  char* const weights = reinterpret_cast<char*>(memory.weights.get());
  char* const master = reinterpret_cast<char*>(memory.master.get());
  return {weights + begin * SizeOf(form.weights),
          master + begin * MasterBytes(form.master),
          unpacked,
          n,
          form.weights,
          form.master,
          /*seed=*/1,
          begin};
}

StateCodecArgs Momentum(const CodedForm& form, const CodedMemory& memory,
                        float* unpacked, int64_t begin, int64_t n) {
  char* const packed = reinterpret_cast<char*>(memory.momentum.get());
  return {
      packed + begin * StateBytes(form.state),
      reinterpret_cast<uint16_t*>(memory.scales.get()) + begin / kStateGroup,
      unpacked,
      1,
      n,
      form.state,
      /*squares=*/false,
      /*seed=*/2,
      begin};
}

bool MapForm(const CodedForm& form, int64_t params, PassArrays* arrays) {
  const auto floats = [&](int64_t bytes) {
    return MapFloats(params * bytes / 4 + 16);
  };
  CodedMemory memory = {
      floats(SizeOf(form.weights)), floats(MasterBytes(form.master)),
      floats(StateBytes(form.state)), MapFloats(params / kStateGroup + 16)};
  if (!memory.weights || !memory.master || !memory.momentum || !memory.scales) {
    return false;
  }
  const KernelTable& kernels = CpuKernels();
  const bool packed =
      kernels
          .pack_weights(
              Weights(form, memory, arrays->parameter.get(), 0, params),
              Stream{})
          .ok() &&
      kernels
          .pack_state(Momentum(form, memory, arrays->momentum.get(), 0, params),
                      Stream{})
          .ok();
  arrays->coded.push_back(std::move(memory));
  return packed;
}

}  // namespace

const std::vector<CodedForm>& CodedForms() {
  static const auto* const forms = new std::vector<CodedForm>{
      {"mini_r16_bf16", "adam_mini_step", UpdateRule::kAdamMini,
       DType::kBFloat16, MasterFormat::kRemainder16, StateFormat::kBFloat16,
       20},
      {"mini_r8_int8", "adam_mini_step", UpdateRule::kAdamMini,
       DType::kBFloat16, MasterFormat::kRemainder8, StateFormat::kInt8, 16},
      {"mini_r16_int8", "adam_mini_step", UpdateRule::kAdamMini,
       DType::kBFloat16, MasterFormat::kRemainder16, StateFormat::kInt8, 18},
  };
  return *forms;
}

const CodedForm* FormOf(const Pass& pass) {
  for (const CodedForm& form : CodedForms()) {
    if (form.pass == std::string(pass.name)) return &form;
  }
  return nullptr;
}

bool MapCodedForms(int64_t params, PassArrays* arrays) {
  for (const CodedForm& form : CodedForms()) {
    if (!MapForm(form, params, arrays)) return false;
  }
  return true;
}

absl::Status RunCodedForm(int form, const KernelTable& kernels,
                          PassArrays& arrays, const ArrayPart& part) {
  const int64_t n = part.shape->row_elements;
  const int64_t block = part.shape->block_rows * n;
  ZEROMINI_RETURN_IF_ERROR(RunRowSums(kernels, arrays, part));
  const CodedForm& coded = CodedForms()[form];
  const CodedMemory& memory = arrays.coded[form];
  CodedUpdateArgs args = {};
  args.rule = coded.rule;
  args.weights = Weights(coded, memory, nullptr, part.begin, part.elements());
  args.momentum = Momentum(coded, memory, nullptr, part.begin, part.elements());
  args.momentum.rows = part.elements() / n;
  args.momentum.row_elements = n;
  args.gradient = arrays.gradient.get() + part.begin;
  args.block_moments = arrays.second_moment.get() + part.begin / block;
  args.block_sums = arrays.row_sums.data() + part.begin / n;
  args.blocks = part.blocks;
  args.block_elements = block;
  args.scalars = &kPassScalars;
  return kernels.coded_update(args, Stream{});
}

}  // namespace zeromini::tools
