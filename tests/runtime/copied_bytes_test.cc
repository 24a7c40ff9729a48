// What a plan says is packed and unpacked in a step is what the copy kernel
// writes.

#include <atomic>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "runtime/optimizer_parts.h"
#include "support/device_wrapper.h"
#include "support/exact_training.h"
#include "zeromini/plan_bytes.h"

namespace zeromini {
namespace {

std::atomic<int64_t> copied{0};  // By all ranks.

absl::Status CountedCopy(const CopyArgs& args, Stream stream) {
  copied += args.rows * args.columns * SizeOf(args.out_dtype);
  return CpuKernels().copy(args, stream);
}

class CopyCountingDevice : public DeviceWrapper {
 public:
  CopyCountingDevice()
      : DeviceWrapper(absl::Seconds(30)), table_(DeviceWrapper::kernels()) {
    table_.copy = CountedCopy;
  }
  const KernelTable& kernels() const override { return table_; }

 private:
  KernelTable table_;
};

// At home where there is one, else by pointer.
void Backward(const TrainingCase& c, Optimizer& optimizer) {
  for (int micro = 0; micro < c.options.micro_steps; ++micro) {
    for (int p = int(c.specs.size()) - 1; p >= 0; --p) {
      if (c.specs[p].frozen) continue;
      const std::vector<char> zeros(Elements(c.specs[p]) *
                                    SizeOf(c.specs[p].dtype));
      const bool home = optimizer.GradData(p) != nullptr;
      ASSERT_OK(optimizer.GradReady(p, home ? nullptr : zeros.data()));
    }
  }
}

void Step(const TrainingCase& c, Optimizer& optimizer) {
  for (const PlannedParam& param : optimizer.plan().params) {
    if (c.options.stage < 3 || !param.has_state()) continue;
    ASSERT_OK(optimizer.Gather(param.layer_set));
  }
  ASSERT_NO_FATAL_FAILURE(Backward(c, optimizer));
  ASSERT_OK(optimizer.Step({0.01}));
}

// The second step: the first takes masters, too.
void ExpectCopies(const TrainingCase& c) {
  std::atomic<int64_t> planned{0};
  RunRanks(c.ranks, [&](int rank, Communicator& group) {
    Replica replica(c.specs);
    OptimizerParts parts;
    parts.device = std::make_unique<CopyCountingDevice>();
    ASSERT_OK_AND_ASSIGN(
        auto optimizer,
        CreateOptimizer(c.options, replica.specs(), group, std::move(parts)));
    planned += StepBytesOf(optimizer->plan(), c.options, rank).copied();
    ASSERT_NO_FATAL_FAILURE(Step(c, *optimizer));
    ASSERT_OK(group.Barrier());
    if (rank == 0) copied = 0;
    ASSERT_OK(group.Barrier());
    ASSERT_NO_FATAL_FAILURE(Step(c, *optimizer));
    ASSERT_OK(optimizer->Close());
  });
  EXPECT_EQ(planned, copied);
}

TEST(CopiedBytesTest, AreWhatTheCopyKernelWrites) {
  for (int stage : {1, 2, 3}) {
    for (MemoryForm memory : {MemoryForm::kFlat, MemoryForm::kExternal}) {
      if (stage == 3 && memory == MemoryForm::kExternal) continue;
      for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
        for (DType wire : {DType::kFloat32, DType::kBFloat16}) {
          for (int micro_steps : {1, 2}) {
            for (auto [ranks, shards] :
                 {std::pair{1, 0}, {2, 0}, {3, 0}, {4, 2}}) {
              TrainingCase c;
              c.ranks = ranks;
              c.options = ExactOptions();
              c.options.stage = stage;
              c.options.memory = memory;
              c.options.weight_wire = wire;
              c.options.micro_steps = micro_steps;
              c.options.shard_ranks = shards;
              for (ParamSpec& spec : c.specs) {
                if (spec.shape.size() > 1) spec.dtype = dtype;
              }
              SCOPED_TRACE(absl::StrCat(
                  "stage ", stage, ", memory ", int(memory), ", ",
                  DTypeName(dtype), ", weight wire ", DTypeName(wire), ", ",
                  micro_steps, " micro-steps, ", ranks, " ranks"));
              ExpectCopies(c);
            }
          }
        }
      }
    }
  }
}

// It is summed at home, but each of its gradients comes by pointer.
TEST(CopiedBytesTest, OfATiedTensorInPlaceAreThoseOfBothItsGradients) {
  TrainingCase c;
  c.ranks = 2;
  c.options = ExactOptions();
  c.options.memory = MemoryForm::kFlat;
  c.specs = {Spec("embedding", {32, 16}, BlockRule::Rows(), -1),
             Spec("w", {32, 16}, BlockRule::Rows(), 0),
             Spec("head", {32, 16}, BlockRule::Rows(), -1)};
  c.specs[2].tied_to = "embedding";
  ASSERT_OK_AND_ASSIGN(const Plan plan, PlanFor(c.specs, c.options, c.ranks));
  ASSERT_EQ(plan.InPlaceFraction(), 1);
  EXPECT_EQ(StepBytesOf(plan, c.options, 0).copied(), 2 * 32 * 16 * 4);
  ExpectCopies(c);
}

}  // namespace
}  // namespace zeromini
