// Flat memory: the tensors that ParamSpec::data gives are what training starts
// from.

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/exact_training.h"

namespace zeromini {
namespace {

using testing::HasSubstr;

TrainingCase Flat(int stage, DType dtype) {
  TrainingCase c;
  c.options = ExactOptions();
  c.options.stage = stage;
  c.options.memory = MemoryForm::kFlat;
  c.ranks = 3;
  c.steps = 2;
  for (ParamSpec& spec : c.specs) spec.dtype = dtype;
  return c;
}

template <typename Body>
void ForEachForm(const Body& body) {
  for (int stage : {1, 2, 3}) {
    for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      SCOPED_TRACE(testing::Message()
                   << "stage " << stage << ", " << DTypeName(dtype));
      body(Flat(stage, dtype));
    }
  }
}

TEST(InitialWeightsTest, FlatMemoryStartsFromTheDataOfTheSpecs) {
  ForEachForm([](const TrainingCase& c) {
    RunRanks(c.ranks, [&](int, Communicator& group) {
      Replica replica(c.specs);
      ASSERT_OK_AND_ASSIGN(auto optimizer,
                           MakeOptimizer(c.options, replica.specs(), group));
      for (int p = 0; p < int(c.specs.size()); ++p) {
        ASSERT_OK_AND_ASSIGN(const auto weights,
                             ReadWeights(c, p, replica, *optimizer));
        EXPECT_EQ(weights, FromBytes(replica.Data(p), Elements(c.specs[p]),
                                     c.specs[p].dtype))
            << c.specs[p].name;
      }
    });
  });
}

// `given`: by ParamSpec::data, else by ParamData() or SetParam().
std::vector<std::vector<float>> WeightsAfterSteps(const TrainingCase& c,
                                                  bool given) {
  std::vector<std::vector<float>> weights;
  RunRanks(c.ranks, [&](int rank, Communicator& group) {
    Replica replica(c.specs);
    std::vector<ParamSpec> specs = given ? replica.specs() : c.specs;
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(c.options, specs, group));
    if (!given) {
      ASSERT_OK(FillWeights(c, replica, *optimizer));
    }
    for (int step = 1; step <= c.steps; ++step) {
      ASSERT_OK(GiveGradients(c, *optimizer, step, rank));
      ASSERT_OK(optimizer->Step({c.learning_rate}));
    }
    for (int p = 0; p < int(c.specs.size()); ++p) {
      ASSERT_OK_AND_ASSIGN(const auto read,
                           ReadWeights(c, p, replica, *optimizer));
      if (rank == 0) weights.push_back(read);
    }
  });
  return weights;
}

TEST(InitialWeightsTest, TrainingFromDataIsTrainingFromWeightsSetLater) {
  ForEachForm([](const TrainingCase& c) {
    EXPECT_EQ(WeightsAfterSteps(c, true), WeightsAfterSteps(c, false));
  });
}

TEST(InitialWeightsTest, DataTakesNoMoreMemory) {
  ForEachForm([](const TrainingCase& c) {
    const auto self = MakeSelf();
    Replica replica(c.specs);
    ASSERT_OK_AND_ASSIGN(auto with,
                         MakeOptimizer(c.options, replica.specs(), *self));
    ASSERT_OK_AND_ASSIGN(auto without,
                         MakeOptimizer(c.options, c.specs, *self));
    EXPECT_EQ(with->Memory().peak, without->Memory().peak);
    EXPECT_EQ(with->Memory().weights, without->Memory().weights);
  });
}

TEST(InitialWeightsTest, ATensorThatOnlyATieGivesIsTakenToo) {
  for (int stage : {1, 2, 3}) {
    const TrainingCase c = Flat(stage, DType::kFloat32);
    const int head = int(c.specs.size()) - 1;
    const auto self = MakeSelf();
    Replica replica(c.specs);
    std::vector<ParamSpec> specs = c.specs;
    specs[head].data = replica.Data(0);
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(c.options, specs, *self));
    ASSERT_OK_AND_ASSIGN(const auto weights,
                         ReadWeights(c, 0, replica, *optimizer));
    EXPECT_EQ(weights[5], InitialWeight(0, 5));
    ASSERT_OK_AND_ASSIGN(const auto others,
                         ReadWeights(c, 1, replica, *optimizer));
    EXPECT_EQ(others, std::vector<float>(others.size(), 0.0f));
  }
}

TEST(InitialWeightsTest, DataThatIsNotAlignedIsRefused) {
  const TrainingCase c = Flat(1, DType::kFloat32);
  std::vector<char> memory(4096);
  std::vector<ParamSpec> specs = c.specs;
  specs[0].data = memory.data() + 1;
  const auto self = MakeSelf();
  EXPECT_THAT(MakeOptimizer(c.options, specs, *self),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("'embedding': its data is not aligned")));
}

}  // namespace
}  // namespace zeromini
