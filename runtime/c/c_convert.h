// The structs of the C API to those of the C++ API and back.

#ifndef ZEROMINI_RUNTIME_C_C_CONVERT_H_
#define ZEROMINI_RUNTIME_C_C_CONVERT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "zeromini/c.h"
#include "zeromini/optimizer.h"

namespace zeromini::c_api {

// Of structs whose struct_size may be smaller or larger than ours.
// InvalidArgument, naming C's fields, for what no C++ program could give: null
// pointers, negative counts, numbers that no enumerator has. The rest is the
// C++ API's to check.
absl::StatusOr<OptimizerOptions> FromC(const zeromini_options* options);
absl::StatusOr<StepOptions> FromC(const zeromini_step_options* options);
absl::StatusOr<std::vector<ParamSpec>> FromC(const zeromini_param* params,
                                             int num_params);
// `where` is what messages call it: "groups[1]".
absl::StatusOr<HyperGroup> FromC(const zeromini_hyper_group* hyper,
                                 const std::string& where);

zeromini_traffic ToC(const Traffic& traffic);

// Write no more than report->struct_size bytes.
void ToC(const StepReport& from, zeromini_step_report* report);
void ToC(const MemoryReport& from, zeromini_memory_report* report);
void ToC(const Traffic& from, zeromini_level_traffic* traffic);

}  // namespace zeromini::c_api

#endif  // ZEROMINI_RUNTIME_C_C_CONVERT_H_
