// The forms of weights and state whose coded updates `bench kernels` times
// beside the all-fp32 one. A form or a rule more is a row of CodedForms().

#ifndef ZEROMINI_TOOLS_BENCH_CODED_H_
#define ZEROMINI_TOOLS_BENCH_CODED_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "tools/bench_passes.h"
#include "zeromini/kernels.h"

namespace zeromini::tools {

struct CodedForm {
  const char* pass;    // Its name in tables.
  const char* kernel;  // What it is a form of, in JSON and in ratios.
  UpdateRule rule;
  DType weights;
  MasterFormat master;
  StateFormat state;
  int bytes;  // Read and written per parameter, statistics with them.
};

const std::vector<CodedForm>& CodedForms();

// The form of a pass, or null.
const CodedForm* FormOf(const Pass& pass);

// Memory of every form, packed from `arrays`. False if there is none.
bool MapCodedForms(int64_t params, PassArrays* arrays);

// Row sums, then the form's coded update.
absl::Status RunCodedForm(int form, const KernelTable& kernels,
                          PassArrays& arrays, const ArrayPart& part);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_BENCH_CODED_H_
