// A model of two layers with a projected matrix each, beside AdamW and
// Adam-mini in the same buckets.

#ifndef ZEROMINI_TESTS_SUPPORT_PROJECTED_TRAINING_H_
#define ZEROMINI_TESTS_SUPPORT_PROJECTED_TRAINING_H_

#include <algorithm>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "support/exact_training.h"
#include "support/row_projection.h"

namespace zeromini {

inline constexpr int64_t kRank = 8;
inline constexpr int kPeriod = 3;
inline constexpr int kMatrix = 1;      // Of Matrices(): momentum alone.
inline constexpr int kTransposed = 5;  // With v.

// Groups of MatrixOptions().
enum MatrixGroup { kAdamMiniGroup, kAdamWGroup, kSgdGroup };

inline std::vector<ParamSpec> Matrices() {
  std::vector<ParamSpec> specs = {
      Spec("layer0.wq", {16, 8}, BlockRule::Heads(4), 0),
      Spec("layer0.matrix", {96, 40}, BlockRule::Rows(), 0),
      Spec("layer0.rest", {24, 8}, BlockRule::Rows(), 0),
      Spec("layer0.norm", {8}, BlockRule::Whole(), 0),
      Spec("layer1.wq", {16, 8}, BlockRule::Heads(4), 1),
      Spec("layer1.matrix", {48, 40}, BlockRule::Rows(), 1),
      Spec("layer1.rest", {24, 8}, BlockRule::Rows(), 1)};
  specs[kMatrix].hyper_group = kSgdGroup;
  specs[kTransposed].hyper_group = kAdamWGroup;
  specs[kTransposed].output_is_last = true;
  specs[2].hyper_group = specs[6].hyper_group = kAdamWGroup;
  return specs;
}

inline OptimizerOptions MatrixOptions() {
  OptimizerOptions options = ExactOptions();
  options.bucketing = Bucketing::kByLayer;
  options.bucket_bytes = 0;
  options.hyper_groups.resize(3);
  options.hyper_groups[kAdamWGroup].name = "adamw";
  options.hyper_groups[kAdamWGroup].algorithm = Algorithm::kAdamW;
  options.hyper_groups[kSgdGroup].name = "sgd";
  options.hyper_groups[kSgdGroup].algorithm = Algorithm::kSgd;
  return options;
}

inline TrainingCase MatrixCase(int ranks) {
  TrainingCase c;
  c.options = MatrixOptions();
  c.specs = Matrices();
  c.ranks = ranks;
  c.steps = 2 * kPeriod + 1;
  return c;
}

inline absl::StatusOr<std::unique_ptr<Optimizer>> MakeProjected(
    const OptimizerOptions& options, absl::Span<const ParamSpec> specs,
    Communicator& group) {
  return CreateOptimizer(options, specs, group,
                         ProjectionParts(kRank, kPeriod));
}

// Calls `body` with each stage, number of ranks, replicas and memory form.
template <typename Body>
void ForEachForm(const Body& body) {
  for (int stage : {1, 2, 3}) {
    for (int ranks : {1, 2, 3, 4, 5}) {
      for (MemoryForm memory : {MemoryForm::kExternal, MemoryForm::kFlat}) {
        if (stage == 3 && memory == MemoryForm::kExternal) continue;
        TrainingCase c = MatrixCase(ranks);
        c.options.stage = stage;
        c.options.memory = memory;
        if (ranks == 4) c.options.shard_ranks = 2;
        SCOPED_TRACE(testing::Message()
                     << ranks << " ranks, stage " << stage
                     << (memory == MemoryForm::kFlat ? ", flat" : ""));
        body(c);
      }
    }
  }
}

// kMatrix trained by a plain loop; steps in `skipped` do not happen, but count
// towards the next renewal unless they were to be one themselves.
inline std::vector<float> MatrixAlone(const TrainingCase& c,
                                      const std::vector<int>& skipped = {}) {
  const int64_t rows = c.specs[kMatrix].shape[0];
  const int64_t columns = c.specs[kMatrix].shape[1];
  std::vector<float> weights(rows * columns), gradient(rows * columns);
  for (int64_t i = 0; i < rows * columns; ++i) {
    weights[i] = InitialWeight(kMatrix, i);
  }
  std::vector<float> momentum(kRank * columns, 0);
  std::vector<int64_t> kept(kRank, 0);
  int64_t number = 0;
  for (int step = 1; step <= c.steps; ++step) {
    const bool due = number % kPeriod == 0;
    const bool skips = std::count(skipped.begin(), skipped.end(), step) > 0;
    if (!skips || !due) ++number;
    if (skips) continue;
    for (int64_t i = 0; i < rows * columns; ++i) {
      gradient[i] =
          float(c.options.micro_steps) * GradientPart(kMatrix, i, step, 0, 1);
    }
    if (due) {
      kept = LargestRows(gradient.data(), rows, columns, kRank);
    }
    const HyperGroup& group = c.options.hyper_groups[kSgdGroup];
    for (float& w : weights) {
      w *= float(1 - c.learning_rate * group.weight_decay);
    }
    for (int64_t i = 0; i < kRank * columns; ++i) {
      const int64_t at = kept[i / columns] * columns + i % columns;
      momentum[i] = float(group.beta1) * momentum[i] + gradient[at];
      weights[at] -= float(c.learning_rate) * momentum[i];
    }
  }
  return weights;
}

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_PROJECTED_TRAINING_H_
