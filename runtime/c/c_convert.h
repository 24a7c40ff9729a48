// The structs of the C API to those of the C++ API and back.

#ifndef ZEROMINI_RUNTIME_C_C_CONVERT_H_
#define ZEROMINI_RUNTIME_C_C_CONVERT_H_

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/c/c_check.h"
#include "zeromini/c.h"
#include "zeromini/group.h"
#include "zeromini/log.h"
#include "zeromini/optimizer.h"
#include "zeromini/plan_bytes.h"

namespace zeromini::c_api {

// Numbers of which the C++ API knows no bound, since it takes containers and
// bools; the rest is checked there, under the same names.
inline constexpr int64_t kUnbounded = std::numeric_limits<int64_t>::max();

// The fields that zeromini_options and zeromini_plan_options share, and so do
// OptimizerOptions and PlanOptions.
template <typename T>
void CheckPlanning(const T& options, Fields& fields) {
  fields.OneOf("algorithm", options.algorithm, ZEROMINI_SGD)
      .Range("hidden", options.hidden, 0, kUnbounded)
      .Range("heads", options.heads, 0, kUnbounded)
      .Range("kv_heads", options.kv_heads, 0, kUnbounded)
      .Range("head_dim", options.head_dim, 0, kUnbounded)
      .OneOf("naming", options.naming, ZEROMINI_NAMING_OFFICIAL)
      .OneOf("value_blocks", options.value_blocks, ZEROMINI_VALUE_WHOLE)
      .OneOf("blocks", options.blocks, ZEROMINI_BLOCKS_SPLIT_AT_CUTS)
      .OneOf("bucketing", options.bucketing, ZEROMINI_BUCKETING_BY_LAYER)
      .OneOf("second_moment", options.second_moment,
             ZEROMINI_SECOND_MOMENT_FACTORED)
      .OneOf("memory", options.memory, ZEROMINI_MEMORY_FLAT)
      .Range("bucket_bytes", options.bucket_bytes, 0, kUnbounded)
      .Range("buffer_budget_bytes", options.buffer_budget_bytes, 0, kUnbounded)
      .Range("collective_cost_bytes", options.collective_cost_bytes, 0,
             kUnbounded);
}
template <typename From, typename To>
void CopyPlanning(const From& from, To* to) {
  to->algorithm = static_cast<Algorithm>(from.algorithm);
  to->stage = from.stage;
  to->model = {from.hidden, from.heads, from.kv_heads, from.head_dim};
  to->naming = static_cast<Naming>(from.naming);
  to->value_blocks = static_cast<ValueBlocks>(from.value_blocks);
  to->blocks = static_cast<BlockCuts>(from.blocks);
  to->bucketing = static_cast<Bucketing>(from.bucketing);
  to->second_moment = static_cast<SecondMoment>(from.second_moment);
  to->memory = static_cast<MemoryForm>(from.memory);
  to->bucket_bytes = from.bucket_bytes;
  to->buffer_budget_bytes = from.buffer_budget_bytes;
  to->copy_cost = from.copy_cost;
  to->collective_cost_bytes = from.collective_cost_bytes;
}

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

// Null: the defaults.
absl::StatusOr<GroupOptions> FromC(const zeromini_group_options* options);

// Null: stderr.
LogSink LogOf(zeromini_log_sink sink, void* context);

zeromini_traffic ToC(const Traffic& traffic);

// Write no more than report->struct_size bytes.
void ToC(const StepReport& from, zeromini_step_report* report);
void ToC(const MemoryReport& from, zeromini_memory_report* report);
void ToC(const StepBytes& from, zeromini_step_bytes* bytes);
void ToC(const Traffic& from, zeromini_level_traffic* traffic);
void ToC(const LevelTraffic& from, zeromini_level_traffic* traffic);

}  // namespace zeromini::c_api

#endif  // ZEROMINI_RUNTIME_C_C_CONVERT_H_
