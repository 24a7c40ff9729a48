// Weights that travel as bf16 beside 16-bit ones, and gradients that do not
// come: an absent parameter keeps its weights, on every rank.

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/exact_training.h"

namespace zeromini {
namespace {

// Layer 1 is bf16, the rest fp32, so each bucket holds one or the other.
TrainingCase MixedTypes(int ranks) {
  TrainingCase c;
  c.options = ExactOptions();
  c.options.weight_wire = DType::kBFloat16;
  c.options.absent_gradients = AbsentGradients::kSkip;
  c.coarse = true;
  c.ranks = ranks;
  for (ParamSpec& spec : c.specs) {
    if (spec.layer == 1) spec.dtype = DType::kBFloat16;
  }
  return c;
}

// The last but one of EveryKindOfParam(), and what is tied to the first.
const int kFrozen = int(EveryKindOfParam().size()) - 2;
const int kTied = kFrozen + 1;

// Some in each layer and one outside; the 16-bit ones are 13 to 24, the
// factored ones 8 and 19.
bool IsAbsent(int param) {
  return param == 0 || param == kTied || param == 2 || param == 8 ||
         param == 14 || param == 16 || param == 19 || param == 25;
}

std::vector<float> Rounded(std::vector<float> values) {
  for (float& v : values) v = FromBFloat16(ToBFloat16(v));
  return values;
}

std::vector<float> InitialWeights(const TrainingCase& c, int param) {
  std::vector<float> values(Elements(c.specs[param]));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = InitialWeight(param, int64_t(i));
  }
  return values;
}

template <typename Body>
void ForEachForm(const Body& body) {
  for (int ranks : {1, 2, 3}) {
    for (int stage : {1, 2}) {
      for (MemoryForm memory : {MemoryForm::kExternal, MemoryForm::kFlat}) {
        TrainingCase c = MixedTypes(ranks);
        c.options.stage = stage;
        c.options.memory = memory;
        SCOPED_TRACE(testing::Message()
                     << ranks << " ranks, stage " << stage
                     << (memory == MemoryForm::kFlat ? ", flat" : ""));
        body(c);
      }
    }
  }
}

TEST(AbsentWeightsTest, StayWhatTheyWereInTheFirstStep) {
  ForEachForm([](TrainingCase c) {
    c.steps = 1;
    c.edit = [](int param, int, int, std::vector<float>*) {
      return !IsAbsent(param);
    };
    const TrainingResult got = Train(c);
    for (int p = 0; p < kFrozen; ++p) {
      if (!IsAbsent(p)) continue;
      EXPECT_EQ(got.weights[p], Rounded(InitialWeights(c, p)))
          << c.specs[p].name;
    }
  });
}

TEST(AbsentWeightsTest, AreThoseOfOneRankWhenTheirGradientsComeLater) {
  const auto edit = [](int param, int step, int, std::vector<float>*) {
    return step > 2 || !IsAbsent(param);
  };
  TrainingCase one = MixedTypes(1);
  one.edit = edit;
  const TrainingResult expected = Train(one);
  ForEachForm([&](TrainingCase c) {
    c.edit = edit;
    ExpectSameTraining(c, Train(c), expected);
  });
}

// Steps twice with all gradients, calls `change`, then steps without those of
// the absent: their weights must be `then(p, weights before)`.
void ExpectAfterChange(
    TrainingCase c,
    const std::function<absl::Status(Optimizer&, int p)>& change,
    const std::function<std::vector<float>(int p, std::vector<float>)>& then) {
  c.edit = [](int param, int step, int, std::vector<float>*) {
    return step < 3 || !IsAbsent(param);
  };
  RunRanks(c.ranks, [&](int rank, Communicator& group) {
    Replica replica(c.specs);
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(c.options, replica.specs(), group));
    ASSERT_OK(FillWeights(c, replica, *optimizer));
    for (int step = 1; step <= 2; ++step) {
      ASSERT_OK(GiveGradients(c, *optimizer, step, rank));
      ASSERT_OK(optimizer->Step({c.learning_rate}));
    }
    std::vector<std::vector<float>> before(c.specs.size());
    for (int p = 0; p < kFrozen; ++p) {
      ASSERT_OK_AND_ASSIGN(before[p], ReadWeights(c, p, replica, *optimizer));
    }
    for (int p = 0; p < kFrozen; ++p) ASSERT_OK(change(*optimizer, p));
    ASSERT_OK(GiveGradients(c, *optimizer, 3, rank));
    ASSERT_OK(optimizer->Step({c.learning_rate}));
    for (int p = 0; p < kFrozen; ++p) {
      if (!IsAbsent(p)) continue;
      ASSERT_OK_AND_ASSIGN(const auto after,
                           ReadWeights(c, p, replica, *optimizer));
      EXPECT_EQ(after, then(p, before[p]))
          << c.specs[p].name << " on rank " << rank;
    }
  });
}

TEST(AbsentWeightsTest, AreThoseThatSetParamHasSet) {
  ForEachForm([](const TrainingCase& c) {
    const Replica fresh(c.specs);
    for (const int only : {10, 2, -1}) {
      ExpectAfterChange(
          c,
          [&](Optimizer& optimizer, int p) {
            return only >= 0 && only != p
                       ? absl::OkStatus()
                       : optimizer.SetParam(p, fresh.Initial(p).data());
          },
          [&](int p, std::vector<float> before) {
            return only >= 0 && only != p ? before
                                          : Rounded(InitialWeights(c, p));
          });
    }
  });
}

TEST(AbsentWeightsTest, AreThoseThatBroadcastParamsHasSent) {
  ForEachForm([](const TrainingCase& c) {
    ExpectAfterChange(
        c,
        [](Optimizer& optimizer, int p) {
          return p == 0 ? optimizer.BroadcastParams() : absl::OkStatus();
        },
        [](int, std::vector<float> before) { return before; });
  });
}

}  // namespace
}  // namespace zeromini
