// What a plan says of memory and traffic is what the runtime counts, to the
// byte, in every combination of options.

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "support/exact_training.h"
#include "zeromini/plan_bytes.h"

namespace zeromini {
namespace {

struct Form {
  Algorithm algorithm;
  int stage;
  DType dtype;  // Of all but 1-D tensors.
  MasterFormat master;
  StateFormat state;
};

struct Way {
  int ranks;
  int shard_ranks;
  int micro_steps;
  MemoryForm memory;
  DType gradient_wire;
  DType weight_wire;
  BlockCuts blocks;
};

std::vector<Form> Forms() {
  std::vector<Form> forms;
  const auto add = [&](DType dtype, MasterFormat master) {
    for (Algorithm algorithm :
         {Algorithm::kAdamW, Algorithm::kAdamMini, Algorithm::kSgd}) {
      for (int stage : {1, 2, 3}) {
        for (StateFormat state : {StateFormat::kFloat32, StateFormat::kBFloat16,
                                  StateFormat::kInt8}) {
          forms.push_back({algorithm, stage, dtype, master, state});
        }
      }
    }
  };
  add(DType::kFloat32, MasterFormat::kNone);
  for (MasterFormat master :
       {MasterFormat::kNone, MasterFormat::kFloat32, MasterFormat::kRemainder16,
        MasterFormat::kRemainder8}) {
    add(DType::kBFloat16, master);
  }
  add(DType::kFloat16, MasterFormat::kNone);
  add(DType::kFloat16, MasterFormat::kFloat32);
  return forms;
}

std::vector<Way> Ways() {
  std::vector<Way> ways;
  for (int micro_steps : {1, 2}) {
    for (MemoryForm memory : {MemoryForm::kFlat, MemoryForm::kExternal}) {
      for (DType gradients : {DType::kFloat32, DType::kBFloat16}) {
        for (DType weights : {DType::kFloat32, DType::kBFloat16}) {
          for (BlockCuts blocks :
               {BlockCuts::kWhole, BlockCuts::kSplitAtCuts}) {
            for (auto [ranks, shards] :
                 {std::pair{1, 0}, {2, 0}, {3, 0}, {2, 1}, {4, 2}, {6, 3}}) {
              ways.push_back({ranks, shards, micro_steps, memory, gradients,
                              weights, blocks});
            }
          }
        }
      }
    }
  }
  return ways;
}

TrainingCase CaseOf(const Form& form, const Way& way) {
  TrainingCase c;
  c.coarse = true;
  c.ranks = way.ranks;
  c.options = ExactOptions();
  c.options.algorithm = form.algorithm;
  c.options.stage = form.stage;
  c.options.master = form.master;
  c.options.state = form.state;
  c.options.shard_ranks = way.shard_ranks;
  c.options.micro_steps = way.micro_steps;
  c.options.memory = form.stage == 3 ? MemoryForm::kFlat : way.memory;
  c.options.gradient_wire = way.gradient_wire;
  c.options.weight_wire = way.weight_wire;
  c.options.blocks = way.blocks;
  for (ParamSpec& spec : c.specs) {
    if (spec.shape.size() > 1) spec.dtype = form.dtype;
  }
  return c;
}

std::string Text(const TrainingCase& c) {
  const OptimizerOptions& o = c.options;
  return absl::StrCat(
      AlgorithmName(o.algorithm), ", stage ", o.stage, ", ",
      DTypeName(c.specs[0].dtype), ", master ", MasterFormatName(o.master),
      ", state ", StateFormatName(o.state), ", ", c.ranks,
      " ranks, shard_ranks ", o.shard_ranks, ", micro_steps ", o.micro_steps,
      ", memory ", int(o.memory), ", gradient wire ",
      DTypeName(o.gradient_wire), ", weight wire ", DTypeName(o.weight_wire),
      ", blocks ", int(o.blocks));
}

// `stepped`: exchange buffers and gathered weights are there.
void ExpectMemory(const MemoryReport& counted, const MemoryReport& planned,
                  bool stepped) {
  EXPECT_EQ(counted.weights, planned.weights);
  EXPECT_EQ(counted.gradients, planned.gradients);
  EXPECT_EQ(counted.momentum, planned.momentum);
  EXPECT_EQ(counted.second_moment, planned.second_moment);
  EXPECT_EQ(counted.master, planned.master);
  EXPECT_EQ(counted.statistics, planned.statistics);
  EXPECT_EQ(counted.method_state, planned.method_state);
  EXPECT_EQ(counted.tables, planned.tables);
  EXPECT_EQ(counted.buckets, stepped ? planned.buckets : 0);
  EXPECT_EQ(counted.gathered, stepped ? planned.gathered : 0);
  EXPECT_LE(counted.peak, planned.peak) << "peak is no bound";
}

void ExpectTraffic(const Traffic& counted, Purpose purpose,
                   const TrafficCount& planned) {
  const TrafficCount& own = counted[int(purpose)];
  EXPECT_EQ(own.calls, planned.calls) << PurposeName(purpose);
  EXPECT_EQ(own.bytes, planned.bytes) << PurposeName(purpose);
  EXPECT_EQ(own.padding_bytes, planned.padding_bytes) << PurposeName(purpose);
}

// Every layer set once.
absl::Status GatherAll(const TrainingCase& c, Optimizer& optimizer) {
  if (c.options.stage < 3) return absl::OkStatus();
  std::set<int> sets;
  for (const PlannedParam& param : optimizer.plan().params) {
    if (!param.frozen && param.tied_to < 0) sets.insert(param.layer_set);
  }
  for (int set : sets) ZEROMINI_RETURN_IF_ERROR(optimizer.Gather(set));
  return absl::OkStatus();
}

absl::Status GiveAll(const TrainingCase& c, Optimizer& optimizer) {
  for (int micro = 0; micro < c.options.micro_steps; ++micro) {
    for (int p = int(c.specs.size()) - 1; p >= 0; --p) {
      if (c.specs[p].frozen) continue;
      const std::vector<char> zeros(Elements(c.specs[p]) *
                                    SizeOf(c.specs[p].dtype));
      ZEROMINI_RETURN_IF_ERROR(optimizer.GradReady(p, zeros.data()));
    }
  }
  return absl::OkStatus();
}

void Compare(const TrainingCase& c, int rank, Communicator& group) {
  SCOPED_TRACE(absl::StrCat(Text(c), ", rank ", rank));
  Replica replica(c.specs);
  ASSERT_OK_AND_ASSIGN(auto optimizer,
                       MakeOptimizer(c.options, replica.specs(), group));
  ASSERT_OK_AND_ASSIGN(const Plan plan, PlanFor(c.specs, c.options, c.ranks));
  ASSERT_EQ(plan.hash, optimizer->plan().hash);
  const MemoryReport planned = MemoryOf(plan, c.options, rank);
  ExpectMemory(optimizer->Memory(), planned, /*stepped=*/false);
  for (int step = 1; step <= 2; ++step) {
    ASSERT_OK(GiveGradients(c, *optimizer, step, rank));
    ASSERT_OK(optimizer->Step({0.01}));
    ExpectMemory(optimizer->Memory(), planned, /*stepped=*/true);
  }
  ASSERT_OK(GatherAll(c, *optimizer));
  ASSERT_OK(GiveAll(c, *optimizer));
  ASSERT_OK_AND_ASSIGN(const StepReport report, optimizer->Step({0.01}));
  const StepBytes bytes = StepBytesOf(plan, c.options, rank);
  ExpectTraffic(report.traffic, Purpose::kGradients, bytes.gradients);
  ExpectTraffic(report.traffic, Purpose::kWeights, bytes.weights);
  ExpectTraffic(report.traffic, Purpose::kScalars, bytes.scalars);
  ASSERT_OK(optimizer->Close());
}

// Each form with some of the ways, and over all forms each way with some.
TEST(BytesTest, OfEveryFormAreWhatThePlanSays) {
  const std::vector<Form> forms = Forms();
  const std::vector<Way> ways = Ways();
  constexpr size_t kWaysOfAForm = 5;
  size_t way = 0;
  for (const Form& form : forms) {
    for (size_t i = 0; i < kWaysOfAForm; ++i) {
      way = (way + 31) % ways.size();  // Prime to their number.
      const TrainingCase c = CaseOf(form, ways[way]);
      RunRanks(c.ranks,
               [&](int rank, Communicator& group) { Compare(c, rank, group); });
      if (testing::Test::HasFailure()) return;
    }
  }
}

// A slice's experts are sharded over its own ranks, in copies of their own.
TEST(BytesTest, OfExpertsAreWhatThePlanSays) {
  for (int stage : {1, 2, 3}) {
    for (int shards : {1, 2}) {
      TrainingCase c = CaseOf({Algorithm::kAdamMini, stage, DType::kFloat32,
                               MasterFormat::kNone, StateFormat::kFloat32},
                              {4, shards, 1, MemoryForm::kFlat, DType::kFloat32,
                               DType::kFloat32, BlockCuts::kSplitAtCuts});
      c.options.expert_slices = 2;
      for (ParamSpec& spec : c.specs) spec.expert = spec.name.back() == 'k';
      ASSERT_NO_FATAL_FAILURE(RunRanks(
          c.ranks,
          [&](int rank, Communicator& group) { Compare(c, rank, group); }));
    }
  }
}

// What is kept of layers that were released makes room for others.
TEST(BytesTest, OfGatheredWeightsWithinABudgetAreWhatThePlanSays) {
  for (int prefetch : {0, 1, 2}) {
    TrainingCase c = CaseOf({Algorithm::kAdamW, 3, DType::kBFloat16,
                             MasterFormat::kFloat32, StateFormat::kFloat32},
                            {2, 0, 1, MemoryForm::kFlat, DType::kFloat32,
                             DType::kFloat32, BlockCuts::kWhole});
    c.options.prefetch = prefetch;
    c.specs = {Spec("embedding", {24, 32}, BlockRule::Rows(), -1)};
    for (int layer = 0; layer < 4; ++layer) {
      c.specs.push_back(Spec(absl::StrCat("w", layer), {16 + 4 * layer, 32},
                             BlockRule::Rows(), layer));
    }
    ASSERT_OK_AND_ASSIGN(const Plan plan, PlanFor(c.specs, c.options, c.ranks));
    const int64_t outside = GatherBytes(plan, kNoLayerSet);
    for (int64_t layers : {1, 2}) {
      c.options.gather_budget_bytes =
          outside + layers * GatherBytes(plan, 3) + 8;
      RunRanks(c.ranks, [&](int rank, Communicator& group) {
        SCOPED_TRACE(absl::StrCat("prefetch ", prefetch, ", room for ", layers,
                                  " layers"));
        Replica replica(c.specs);
        ASSERT_OK_AND_ASSIGN(auto optimizer,
                             MakeOptimizer(c.options, replica.specs(), group));
        const MemoryReport planned = MemoryOf(plan, c.options, rank);
        for (int step = 1; step <= 3; ++step) {
          ASSERT_OK(GiveGradients(c, *optimizer, step, rank));
          ASSERT_OK(optimizer->Step({0.01}));
        }
        ExpectMemory(optimizer->Memory(), planned, /*stepped=*/true);
        ASSERT_OK(optimizer->Close());
      });
    }
  }
}

}  // namespace
}  // namespace zeromini
