#include "tools/bench_passes.h"

#include <sys/mman.h>

#include <iterator>

#include "tools/bench_coded.h"
#include "tools/bench_streams.h"
#include "zeromini/internal/check.h"
#include "zeromini/internal/scalar_words.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/plan.h"

namespace zeromini::tools {

// .update is not 0: all kernels run.
const StepScalars kPassScalars = {
    .learning_rate = 1e-6, .weight_decay = 0.1, .step = 100};

MappedFloats MapFloats(int64_t elements) {
  const size_t bytes = static_cast<size_t>(elements) * sizeof(float);
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  madvise(data, bytes, MADV_HUGEPAGE);
  float* floats = static_cast<float*>(data);
  // Positive and far from denormal, whatever is done to them.
  for (int64_t i = 0; i < elements; ++i) {
    floats[i] = 0.25f + static_cast<float>(i * 2654435761 % 1024) / 2048;
  }
  return MappedFloats(floats, UnmapFloats{bytes});
}

absl::Status RunRowSums(const KernelTable& kernels, PassArrays& arrays,
                        const ArrayPart& part) {
  const int64_t n = part.shape->row_elements;
  return kernels.row_sums(
      {arrays.gradient.get() + part.begin, part.elements() / n, n,
       arrays.row_sums.data() + part.begin / n},
      Stream{});
}

namespace {

AdamMiniArgs MiniArgs(PassArrays& arrays, const ArrayPart& part) {
  const BlockShape& shape = *part.shape;
  const int64_t block = shape.block_rows * shape.row_elements;
  return {arrays.parameter.get() + part.begin,
          arrays.gradient.get() + part.begin,
          arrays.momentum.get() + part.begin,
          arrays.second_moment.get() + part.begin / block,
          arrays.row_sums.data() + part.begin / shape.row_elements,
          part.blocks,
          shape.block_rows,
          shape.row_elements,
          block,
          &kPassScalars};
}

absl::Status RunAdamW(const KernelTable& kernels, PassArrays& arrays,
                      const ArrayPart& part) {
  return kernels.adamw(
      {arrays.parameter.get() + part.begin, arrays.gradient.get() + part.begin,
       arrays.momentum.get() + part.begin,
       arrays.second_moment.get() + part.begin, part.elements(), &kPassScalars},
      Stream{});
}

absl::Status RunAdamWStep(const KernelTable& kernels, PassArrays& arrays,
                          const ArrayPart& part) {
  ZEROMINI_RETURN_IF_ERROR(RunRowSums(kernels, arrays, part));
  return RunAdamW(kernels, arrays, part);
}

absl::Status RunAdamMiniFused(const KernelTable& kernels, PassArrays& arrays,
                              const ArrayPart& part) {
  return kernels.adam_mini_fused(MiniArgs(arrays, part), Stream{});
}

// The first row's sum stands for its block's: adding a block's few row sums is
// the runtime's, and no work beside the arrays.
absl::Status RunAdamMiniStep(const KernelTable& kernels, PassArrays& arrays,
                             const ArrayPart& part) {
  ZEROMINI_RETURN_IF_ERROR(RunRowSums(kernels, arrays, part));
  return kernels.adam_mini_step(MiniArgs(arrays, part), Stream{});
}

// Columns of one matrix that is this part alone.
struct PartColumns {
  explicit PartColumns(int64_t columns)
      : digits(kColumnDigits * columns),
        tops(columns),
        words(columns),
        agreed(columns),
        moments(columns),
        factors(columns) {}

  ColumnSums sums() {
    return {digits.data(), tops.data(), static_cast<int64_t>(tops.size())};
  }

  std::vector<int64_t> digits;
  std::vector<uint8_t> tops;
  std::vector<int64_t> words;
  std::vector<uint8_t> agreed;
  std::vector<float> moments;
  std::vector<float> factors;
};

absl::Status RunColumns(const KernelTable& kernels, int64_t rows,
                        PartColumns& columns) {
  const ColumnMatrix matrix = {columns.sums().columns, rows};
  const ColumnArgs args = {&matrix,
                           1,
                           columns.sums(),
                           columns.agreed.data(),
                           columns.words.data(),
                           columns.moments.data(),
                           columns.factors.data(),
                           &kPassScalars};
  ZEROMINI_RETURN_IF_ERROR(kernels.column_tops(args, Stream{}));
  ZEROMINI_RETURN_IF_ERROR(kernels.column_words(args, Stream{}));
  return kernels.column_moments(args, Stream{});
}

// Rows that fill no group are left out.
absl::Status RunFactoredStep(const KernelTable& kernels, PassArrays& arrays,
                             const ArrayPart& part) {
  const int64_t n = part.shape->row_elements;
  const int64_t rows =
      part.elements() / n / kColumnGroupRows * kColumnGroupRows;
  double* const row_sums = arrays.row_sums.data() + part.begin / n;
  PartColumns columns(n);
  std::vector<int64_t> words(ScalarWords(1, 0));
  SumSpan span = {part.begin, rows, n, 1};
  span.param_word = ParamWord(0);
  span.columns_at = 0;
  span.group_rows = kColumnGroupRows;
  ZEROMINI_RETURN_IF_ERROR(
      kernels.statistics({arrays.gradient.get(), &span, 1, row_sums,
                          words.data(), false, true, columns.sums()},
                         Stream{}));
  ZEROMINI_RETURN_IF_ERROR(RunColumns(kernels, rows, columns));
  return kernels.factored_step(
      {arrays.parameter.get() + part.begin, arrays.gradient.get() + part.begin,
       arrays.momentum.get() + part.begin,
       arrays.second_moment.get() + part.begin / n, row_sums,
       columns.factors.data(), rows, n, &kPassScalars},
      Stream{});
}

absl::Status RunRmw7(const KernelTable&, PassArrays& arrays,
                     const ArrayPart& part) {
  Rmw7(arrays.gradient.get() + part.begin, arrays.parameter.get() + part.begin,
       arrays.momentum.get() + part.begin,
       arrays.second_moment.get() + part.begin, part.elements());
  return absl::OkStatus();
}

absl::Status RunRmw5(const KernelTable&, PassArrays& arrays,
                     const ArrayPart& part) {
  Rmw5(arrays.gradient.get() + part.begin, arrays.parameter.get() + part.begin,
       arrays.momentum.get() + part.begin, part.elements());
  return absl::OkStatus();
}

template <int kForm>
absl::Status RunCoded(const KernelTable& kernels, PassArrays& arrays,
                      const ArrayPart& part) {
  return RunCodedForm(kForm, kernels, arrays, part);
}

constexpr decltype(Pass::run) kCodedRuns[] = {RunCoded<0>, RunCoded<1>,
                                              RunCoded<2>};

std::vector<Pass> MakePasses() {
  std::vector<Pass> passes = {
      {"rmw_7", 28, "rmw_7", RunRmw7},
      {"adamw_fused", 28, "rmw_7", RunAdamW},
      {"adam_mini_fused", 20, "rmw_5", RunAdamMiniFused},
      {"rmw_5", 20, "rmw_5", RunRmw5},
      {"adamw_step", 32, "rmw_7", RunAdamWStep},
      {"adam_mini_step", 24, "rmw_5", RunAdamMiniStep},
      {"factored_step", 24, "rmw_5", RunFactoredStep},
  };
  const std::vector<CodedForm>& forms = CodedForms();
  ZEROMINI_CHECK(forms.size() == std::size(kCodedRuns));
  for (size_t i = 0; i < forms.size(); ++i) {
    passes.push_back({forms[i].pass, forms[i].bytes, "rmw_5", kCodedRuns[i]});
  }
  return passes;
}

}  // namespace

void UnmapFloats::operator()(float* data) const { munmap(data, bytes); }

bool MapArrays(int64_t params, PassArrays* arrays) {
  arrays->parameter = MapFloats(params);
  arrays->gradient = MapFloats(params);
  arrays->momentum = MapFloats(params);
  arrays->second_moment = MapFloats(params);
  arrays->row_sums.resize(static_cast<size_t>(params) / 16 + 1);
  return arrays->parameter && arrays->gradient && arrays->momentum &&
         arrays->second_moment && MapCodedForms(params, arrays);
}

const std::vector<Pass>& Passes() {
  static const auto* const passes = new std::vector<Pass>(MakePasses());
  return *passes;
}

}  // namespace zeromini::tools
