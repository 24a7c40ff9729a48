// What a rank of a random case holds and gives; and what the one rank does that
// stands for all of them, holds all experts and gives the sums of all
// gradients.

#ifndef ZEROMINI_TESTS_SUPPORT_RANDOM_VIEW_H_
#define ZEROMINI_TESTS_SUPPORT_RANDOM_VIEW_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "support/exact_training.h"
#include "support/random_case.h"
#include "zeromini/optimizer.h"

namespace zeromini {

// A parameter, and whose experts it is.
struct Tensor {
  int param = 0;
  int slice = 0;
};

// What one rank of the case holds, or the one rank that stands for all.
struct View {
  OptimizerOptions options;
  std::vector<Tensor> tensors;
  std::vector<ParamSpec> specs;
  std::vector<int> ranks;  // Whose gradients this one adds up and gives.
  bool one_for_all = false;
};

inline View RankView(const RandomCase& c, int rank) {
  View view = {c.options, {}, c.specs, {rank}};
  for (int p = 0; p < int(c.specs.size()); ++p) {
    view.tensors.push_back({p, c.specs[p].expert ? c.SliceOf(rank) : 0});
  }
  return view;
}

inline View OneForAll(const RandomCase& c) {
  View view;
  view.one_for_all = true;
  view.options = c.options;
  view.options.stage = 1;
  view.options.memory = MemoryForm::kExternal;
  view.options.shard_ranks = 0;
  view.options.expert_slices = 1;
  view.options.gather_budget_bytes = 0;
  view.options.bucket_bytes = 0;
  view.options.reduction = Reduction::kSum;
  view.options.gradient_wire = DType::kFloat32;  // Its sums have more bits.
  for (int rank = 0; rank < c.ranks; ++rank) view.ranks.push_back(rank);
  for (int p = 0; p < int(c.specs.size()); ++p) {
    const int slices = c.specs[p].expert ? c.slices() : 1;
    for (int slice = 0; slice < slices; ++slice) {
      view.tensors.push_back({p, slice});
      view.specs.push_back(c.specs[p]);
      view.specs.back().expert = false;
      if (!c.specs[p].expert) continue;
      absl::StrAppend(&view.specs.back().name, ".slice", slice);
      if (!c.tied(p)) continue;
      absl::StrAppend(&view.specs.back().tied_to, ".slice", slice);
    }
  }
  return view;
}

// bf16 numbers where a weight may be read before the first step has rounded it.
inline std::vector<char> WeightsOf(const RandomCase& c, const Tensor& tensor,
                                   int version) {
  const ParamSpec& spec = c.specs[tensor.param];
  const bool coarse = c.options.weight_wire != DType::kFloat32;
  std::vector<float> values(Elements(spec));
  for (size_t i = 0; i < values.size(); ++i) {
    const uint64_t bits = Mix(
        ((tensor.param * 31u + tensor.slice) * 37u + version) * 1000003u + i);
    values[i] = coarse ? float(int64_t(bits % 255) - 127) / 128
                       : float(int64_t(bits % 4001) - 2000) / 4096;
  }
  return ToBytes(values, spec.dtype);
}

// Few enough bits for bf16, alone, added up over micro-steps, ties and ranks,
// and times a loss scale.
inline float GradientOf(const Tensor& tensor, size_t i, int step, int micro,
                        int rank) {
  uint64_t key = Mix((tensor.param * 31u + tensor.slice) * 1000003u + i);
  key = Mix(((key * 37u + step) * 11u + micro) * 13u + rank);
  return float(int64_t(key % 21) - 10) / 4096;
}

// A power of two, or nearly: any, as far as the dtypes it travels in go.
inline float OfAnySize(const RandomCase& c, DType dtype, uint64_t key) {
  const bool coarse =
      dtype == DType::kBFloat16 || c.options.gradient_wire == DType::kBFloat16;
  const bool fp16 = dtype == DType::kFloat16;
  const int least = fp16 ? -12 : coarse ? -120 : -140;
  const int most = fp16 ? 6 : 60;
  const int exponent = least + int(key % uint64_t(most - least + 1));
  const float digits = float(8 + (key >> 32) % 8) / 8;
  return std::ldexp((key >> 40) % 2 == 0 ? digits : -digits, exponent);
}

// Given by one rank in one micro-step, so that no sum rounds.
inline float SpreadGradientOf(const RandomCase& c, const Tensor& tensor,
                              size_t i, int s, int micro, int rank) {
  if (c.tied(tensor.param)) return 0;
  const uint64_t key = Mix(c.steps[s].spread +
                           (tensor.param * 31u + tensor.slice) * 1000003u + i);
  const bool expert = c.specs[tensor.param].expert;
  const int slices = expert ? c.slices() : 1;
  const int holders = c.ranks / slices;
  const int giver = (expert ? tensor.slice : 0) +
                    slices * int((key >> 48) % uint64_t(holders));
  if (rank != giver) return 0;
  if (micro != int((key >> 44) % uint64_t(c.options.micro_steps))) return 0;
  return OfAnySize(c, c.specs[tensor.param].dtype, Mix(key));
}

// Rows and columns that are all zero in this step.
inline bool IsZeroed(const RandomCase& c, const Tensor& tensor, size_t i,
                     int s) {
  const RandomStep& step = c.steps[s];
  const size_t columns = size_t(c.specs[tensor.param].shape.back());
  const uint64_t zeros = step.zeros + tensor.param * 31u;
  return (step.zeros_rows && Mix(zeros + 2 * (i / columns)) % 3 != 0) ||
         (step.zeros_columns && Mix(zeros + 2 * (i % columns) + 1) % 3 != 0);
}

inline bool Holds(const RandomCase& c, int rank, const Tensor& tensor) {
  return !c.specs[tensor.param].expert || c.SliceOf(rank) == tensor.slice;
}

// Whether the view gives this gradient.
inline bool Gives(const RandomCase& c, const View& view, const Tensor& tensor,
                  const RandomStep& step, int micro) {
  bool all = true, any = false;
  for (int rank : view.ranks) {
    if (!Holds(c, rank, tensor)) continue;
    const bool given = step.given[tensor.param][micro][rank] != 0;
    all = all && given;
    any = any || given;
  }
  return c.options.absent_gradients == AbsentGradients::kError ? all : any;
}

// One rank's.
inline std::vector<float> GradientOn(const RandomCase& c, const Tensor& tensor,
                                     int s, int micro, int rank) {
  const RandomStep& step = c.steps[s];
  const ParamSpec& spec = c.specs[tensor.param];
  std::vector<float> gradient(Elements(spec));
  const size_t padding =
      spec.padding_rows * (gradient.size() / size_t(spec.shape[0]));
  const size_t present = gradient.size() - padding;
  const float scale = float(step.options.loss_scale);
  for (size_t i = 0; i < present; ++i) {
    if (IsZeroed(c, tensor, i, s)) continue;
    gradient[i] = scale * (step.spread != 0
                               ? SpreadGradientOf(c, tensor, i, s, micro, rank)
                               : GradientOf(tensor, i, s, micro, rank));
  }
  for (size_t b = 0; b < step.bad.size(); ++b) {
    const BadElement& bad = step.bad[b];
    if (bad.param != tensor.param || bad.rank != rank || bad.micro != micro) {
      continue;
    }
    gradient[(present / 2 + b) % present] = bad.value;
  }
  return gradient;
}

// The sum of those of the view's ranks, each as its dtype holds it.
inline std::vector<float> GradientIn(const RandomCase& c, const View& view,
                                     const Tensor& tensor, int s, int micro) {
  const ParamSpec& spec = c.specs[tensor.param];
  std::vector<float> sum(Elements(spec));
  for (int rank : view.ranks) {
    const bool given = c.steps[s].given[tensor.param][micro][rank] != 0;
    if (!Holds(c, rank, tensor) || !given) continue;
    const auto bytes =
        ToBytes(GradientOn(c, tensor, s, micro, rank), spec.dtype);
    const auto part = FromBytes(bytes.data(), Elements(spec), spec.dtype);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
  }
  return sum;
}

// What gathering the largest layer set takes.
inline int64_t LeastBudget(const Plan& plan) {
  int64_t most = 0;
  for (const BucketPlan& bucket : plan.buckets) {
    most = std::max(most, GatherBytes(plan, bucket.layer_set));
  }
  return most;
}

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_RANDOM_VIEW_H_
