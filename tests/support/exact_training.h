// A tiny model with one parameter of every kind, and gradients whose sums over
// ranks are exact in any order, so that results may be compared bit for bit.

#ifndef ZEROMINI_TESTS_SUPPORT_EXACT_TRAINING_H_
#define ZEROMINI_TESTS_SUPPORT_EXACT_TRAINING_H_

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "support/dice.h"
#include "support/run_ranks.h"
#include "support/status_matchers.h"
#include "support/test_device.h"
#include "zeromini/internal/half.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/optimizer.h"

namespace zeromini {

inline ParamSpec Spec(std::string name, std::vector<int64_t> shape,
                      BlockRule rule, int layer) {
  ParamSpec spec;
  spec.name = std::move(name);
  spec.shape = std::move(shape);
  spec.rule = std::move(rule);
  spec.layer = layer;
  return spec;
}

// Heads, rows, whole blocks, elements, transposed, fused and stacked tensors,
// factored and columnwise second moments, a frozen and a tied tensor, in three
// layers' buckets and what is outside of layers.
inline std::vector<ParamSpec> EveryKindOfParam() {
  std::vector<ParamSpec> specs;
  specs.push_back(Spec("embedding", {11, 8}, BlockRule::Rows(), -1));
  for (int layer = 0; layer < 3; ++layer) {
    const std::string prefix = "layer" + std::to_string(layer) + ".";
    auto add = [&](const char* name, std::vector<int64_t> shape,
                   BlockRule rule) -> ParamSpec& {
      specs.push_back(Spec(prefix + name, shape, rule, layer));
      return specs.back();
    };
    add("wq", {16, 8}, BlockRule::Heads(4));
    add("wk", {8, 8}, BlockRule::Heads(4));
    add("wv", {8, 8}, BlockRule::Whole());
    add("columns", {8, 6}, BlockRule::Rows()).output_is_last = true;
    add("fused", {12, 8}, BlockRule::Fused({{4, 2}, {2, 1}}));
    add("stack", {2, 5, 8}, BlockRule::Whole()).slices = 2;
    add("factored", {10, 8}, BlockRule::Factored());
    add("factored_stack", {2, 3, 8}, BlockRule::Factored()).slices = 2;
    add("by_column", {6, 8}, BlockRule::Columns());
    add("fused_forms", {14, 6},
        BlockRule::Fused({{4, 1, BlockKind::kRow, MomentForm::kFactored},
                          {2, 2},
                          {1, 1, BlockKind::kRow, MomentForm::kColumns}}));
    add("norm", {8}, BlockRule::Whole());
    add("bias", {7}, BlockRule::Element());
  }
  specs.push_back(Spec("frozen", {3, 4}, BlockRule::Rows(), -1));
  specs.back().frozen = true;
  specs.push_back(Spec("head", {11, 8}, BlockRule::Rows(), -1));
  specs.back().tied_to = "embedding";
  return specs;
}

inline int64_t Elements(const ParamSpec& spec) {
  int64_t elements = 1;
  for (int64_t d : spec.shape) elements *= d;
  return elements;
}

inline float InitialWeight(int param, int64_t i) {
  return float(int64_t(Mix(param * 1000003u + i) % 4001) - 2000) / 4096;
}

// Values of a tensor as bytes of a dtype, and back.
inline std::vector<char> ToBytes(const std::vector<float>& values,
                                 DType dtype) {
  std::vector<char> bytes(values.size() * size_t(SizeOf(dtype)));
  for (size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::kFloat32) {
      std::memcpy(&bytes[4 * i], &values[i], 4);
      continue;
    }
    const uint16_t half = dtype == DType::kBFloat16 ? ToBFloat16(values[i])
                                                    : ToFloat16(values[i]);
    std::memcpy(&bytes[2 * i], &half, 2);
  }
  return bytes;
}

inline std::vector<float> FromBytes(const void* bytes, int64_t count,
                                    DType dtype) {
  std::vector<float> values(count);
  const char* from = static_cast<const char*>(bytes);
  for (int64_t i = 0; i < count; ++i) {
    if (dtype == DType::kFloat32) {
      std::memcpy(&values[i], from + 4 * i, 4);
      continue;
    }
    uint16_t half = 0;
    std::memcpy(&half, from + 2 * i, 2);
    values[i] =
        dtype == DType::kBFloat16 ? FromBFloat16(half) : FromFloat16(half);
  }
  return values;
}

// Part of element i's gradient that rank `rank` of `ranks` contributes: a
// multiple of 2^-12, below 2^-1, so up to 2^11 of them add exactly.
inline float GradientPart(int param, int64_t i, int step, int rank, int ranks) {
  const uint64_t key = Mix((param * 977u + step) * 1000003u + i);
  const int64_t full = int64_t(key % 2001) - 1000;
  int64_t mine = full;
  int64_t dealt = 0;
  for (int r = 1; r < ranks; ++r) {
    const int64_t part = int64_t(Mix(key + r) % 401) - 200;
    if (r == rank) return float(part) / 4096;
    dealt += part;
  }
  return float(mine - dealt) / 4096;
}

// The same with few enough bits for bf16 and fp16: multiples of 2^-12 below
// 2^-4, for up to 8 ranks.
inline float CoarseGradientPart(int param, int64_t i, int step, int rank,
                                int ranks) {
  const uint64_t key = Mix((param * 977u + step) * 1000003u + i);
  int64_t mine = int64_t(key % 129) - 64;
  for (int r = 1; r < ranks; ++r) {
    const int64_t part = int64_t(Mix(key + r) % 51) - 25;
    if (r == rank) return float(part) / 4096;
    mine -= part;
  }
  return float(mine) / 4096;
}

struct TrainingCase {
  OptimizerOptions options;
  std::vector<ParamSpec> specs = EveryKindOfParam();
  int ranks = 1;
  int steps = 4;
  double learning_rate = 0.01;
  bool wait =
      true;  // StepOptions::wait; false: decisions are never waited for.
  bool coarse = false;  // CoarseGradientPart(), which 16 bits hold.
  GroupOptions group = TestGroupOptions();
  // Changes this rank's gradient before it is given; false: it is not given.
  std::function<bool(int param, int step, int rank, std::vector<float>*)> edit;
};

struct TrainingResult {
  std::vector<std::vector<float>> weights;  // Per parameter, after the last.
  std::vector<Optimizer::ParamState> states;
  std::vector<double> norms;  // Per step.
};

inline OptimizerOptions ExactOptions() {
  OptimizerOptions options;
  options.reduction = Reduction::kSum;
  // By default a model this small is two buckets: then nothing is cut.
  options.bucket_bytes = 600;
  options.collective_cost_bytes = 0;
  return options;
}

// One rank's memory of the model.
class Replica {
 public:
  explicit Replica(const std::vector<ParamSpec>& specs) : specs_(specs) {
    for (size_t p = 0; p < specs_.size(); ++p) {
      const std::vector<char> initial = Initial(int(p));
      weights_.push_back(TestTensor(int64_t(initial.size())));
      std::memcpy(weights_.back().get(), initial.data(), initial.size());
    }
    for (size_t p = 0; p < specs_.size(); ++p) specs_[p].data = Data(int(p));
  }

  const std::vector<ParamSpec>& specs() const { return specs_; }
  void* Data(int p) {
    for (size_t q = 0; q < specs_.size(); ++q) {
      if (specs_[q].name == specs_[p].tied_to) return weights_[q].get();
    }
    return weights_[p].get();
  }
  float* Home(int p) { return static_cast<float*>(Data(p)); }  // fp32 only.

  std::vector<char> Initial(int p) const {
    std::vector<float> weights(Elements(specs_[p]));
    for (size_t i = 0; i < weights.size(); ++i) {
      weights[i] = InitialWeight(p, int64_t(i));
    }
    return ToBytes(weights, specs_[p].dtype);
  }
  void Fill(int p, void* weights) const {
    const std::vector<char> bytes = Initial(p);
    std::memcpy(weights, bytes.data(), bytes.size());
  }

 private:
  std::vector<ParamSpec> specs_;
  std::vector<std::shared_ptr<void>> weights_;
};

using OptimizerMaker = std::function<absl::StatusOr<std::unique_ptr<Optimizer>>(
    const OptimizerOptions&, absl::Span<const ParamSpec>, Communicator&)>;

// Gathers the layers one after another, as forward would, and lets each go.
inline absl::Status WalkForward(Optimizer& optimizer) {
  int last = kLayerSetOfLayer;  // None yet.
  for (const PlannedParam& param : optimizer.plan().params) {
    if (!param.has_state() || param.layer_set == last) continue;
    if (last >= 0) ZEROMINI_RETURN_IF_ERROR(optimizer.Release(last));
    last = param.layer_set;
    ZEROMINI_RETURN_IF_ERROR(optimizer.Gather(last, GatherPass::kForward));
  }
  return last >= 0 ? optimizer.Release(last) : absl::OkStatus();
}

// Gives the gradients of `step`, last parameter first; each micro-step brings
// the same ones. Stage 3: gathers what backward would read.
inline absl::Status GiveGradients(const TrainingCase& c, Optimizer& optimizer,
                                  int step, int rank) {
  const bool sharded = c.options.stage == 3;
  const auto part = c.coarse ? CoarseGradientPart : GradientPart;
  for (int micro = 0; micro < c.options.micro_steps; ++micro) {
    if (sharded) ZEROMINI_RETURN_IF_ERROR(WalkForward(optimizer));
    int open = -1;
    for (int p = int(c.specs.size()) - 1; p >= 0; --p) {
      if (c.specs[p].frozen) continue;
      if (sharded) {
        const int group = optimizer.plan().params[p].layer_set;
        if (open >= 0 && group != open) {
          ZEROMINI_RETURN_IF_ERROR(optimizer.Release(open));
        }
        open = group;
        ZEROMINI_RETURN_IF_ERROR(
            optimizer.Gather(group, GatherPass::kBackward));
        ZEROMINI_RETURN_IF_ERROR(optimizer.WaitParam(p));
      }
      std::vector<float> gradient(Elements(c.specs[p]));
      for (size_t i = 0; i < gradient.size(); ++i) {
        gradient[i] = part(p, int64_t(i), step, rank, c.ranks);
      }
      if (c.edit && !c.edit(p, step, rank, &gradient)) continue;
      ZEROMINI_RETURN_IF_ERROR(
          optimizer.GradReady(p, ToBytes(gradient, c.specs[p].dtype).data()));
    }
  }
  return absl::OkStatus();
}

inline absl::Status FillWeights(const TrainingCase& c, const Replica& replica,
                                Optimizer& optimizer) {
  if (c.options.memory != MemoryForm::kFlat) return absl::OkStatus();
  for (int p = 0; p < int(c.specs.size()); ++p) {
    if (!c.specs[p].tied_to.empty()) continue;
    if (c.options.stage == 3) {
      ZEROMINI_RETURN_IF_ERROR(
          optimizer.SetParam(p, replica.Initial(p).data()));
    } else {
      replica.Fill(p, optimizer.ParamData(p));
    }
  }
  return absl::OkStatus();
}

// In fp32, whatever they are stored as.
inline absl::StatusOr<std::vector<float>> ReadWeights(const TrainingCase& c,
                                                      int p, Replica& replica,
                                                      Optimizer& optimizer) {
  const void* weights = replica.Data(p);
  const int group = optimizer.plan().params[p].layer_set;
  const bool sharded = c.options.stage == 3 && !c.specs[p].frozen;
  if (sharded) {
    ZEROMINI_RETURN_IF_ERROR(optimizer.Gather(group));
    ZEROMINI_RETURN_IF_ERROR(optimizer.WaitParam(p));
  }
  if (c.options.memory == MemoryForm::kFlat) weights = optimizer.ParamData(p);
  std::vector<float> values =
      FromBytes(weights, Elements(c.specs[p]), c.specs[p].dtype);
  if (sharded) ZEROMINI_RETURN_IF_ERROR(optimizer.Release(group));
  return values;
}

// One rank's part of the case.
inline void TrainRank(const TrainingCase& c, int rank, Communicator& group,
                      const OptimizerMaker& make, TrainingResult* result) {
  Replica replica(c.specs);
  ASSERT_OK_AND_ASSIGN(auto optimizer, make(c.options, replica.specs(), group));
  ASSERT_OK(FillWeights(c, replica, *optimizer));
  for (int step = 1; step <= c.steps; ++step) {
    ASSERT_OK(GiveGradients(c, *optimizer, step, rank));
    StepOptions options;
    options.learning_rate = c.learning_rate;
    options.wait = c.wait;
    ASSERT_OK_AND_ASSIGN(StepReport report, optimizer->Step(options));
    if (c.wait) result->norms.push_back(report.grad_norm);
    for (int p = 0; !c.wait && c.options.stage < 3 && p < int(c.specs.size());
         ++p) {
      ASSERT_OK(optimizer->WaitParam(p));
    }
  }
  ASSERT_OK(optimizer->WaitAll());
  for (int p = 0; p < int(c.specs.size()); ++p) {
    result->weights.emplace_back();
    ASSERT_OK_AND_ASSIGN(result->weights.back(),
                         ReadWeights(c, p, replica, *optimizer));
    result->states.emplace_back();
    if (c.specs[p].frozen || !c.specs[p].tied_to.empty()) continue;
    ASSERT_OK_AND_ASSIGN(result->states.back(),
                         optimizer->ConsolidatedState(p));
  }
  ASSERT_OK(optimizer->Close());
}

// Runs the case on threads; rank 0's result, after checking that all ranks
// have the same weights.
inline TrainingResult Train(const TrainingCase& c,
                            const OptimizerMaker& make = MakeOptimizer) {
  std::vector<TrainingResult> results(c.ranks);
  RunRanks(
      c.ranks,
      [&](int rank, Communicator& group) {
        TrainRank(c, rank, group, make, &results[rank]);
      },
      c.group);
  for (int rank = 1; rank < c.ranks; ++rank) {
    EXPECT_EQ(results[rank].weights, results[0].weights) << "rank " << rank;
  }
  return results[0];
}

// Equal to the bit, with the first difference named.
inline void ExpectSameTraining(const TrainingCase& c, const TrainingResult& a,
                               const TrainingResult& b) {
  ASSERT_EQ(a.weights.size(), c.specs.size());
  ASSERT_EQ(b.weights.size(), c.specs.size());
  for (size_t p = 0; p < c.specs.size(); ++p) {
    EXPECT_EQ(a.weights[p], b.weights[p]) << c.specs[p].name;
    EXPECT_EQ(a.states[p].momentum, b.states[p].momentum) << c.specs[p].name;
    EXPECT_EQ(a.states[p].second_moment, b.states[p].second_moment)
        << c.specs[p].name;
    EXPECT_EQ(a.states[p].steps, b.states[p].steps) << c.specs[p].name;
  }
}

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_EXACT_TRAINING_H_
