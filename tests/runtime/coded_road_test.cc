// Weights and state of fewer bits are updated by one kernel or, on a device
// that has none, in tiles that are unpacked: with the same bits.

#include <memory>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "runtime/optimizer_parts.h"
#include "support/device_wrapper.h"
#include "support/exact_training.h"

namespace zeromini {
namespace {

class DeviceWithoutCodedUpdate : public DeviceWrapper {
 public:
  DeviceWithoutCodedUpdate()
      : DeviceWrapper(absl::Seconds(30)), table_(DeviceWrapper::kernels()) {
    table_.coded_update = nullptr;
  }
  const KernelTable& kernels() const override { return table_; }

 private:
  KernelTable table_;
};

absl::StatusOr<std::unique_ptr<Optimizer>> MakeTiled(
    const OptimizerOptions& options, absl::Span<const ParamSpec> specs,
    Communicator& group) {
  OptimizerParts parts;
  parts.device = std::make_unique<DeviceWithoutCodedUpdate>();
  return CreateOptimizer(options, specs, group, std::move(parts));
}

TrainingCase Case(Algorithm algorithm, MasterFormat master, StateFormat state) {
  TrainingCase c;
  c.options = ExactOptions();
  c.options.algorithm = algorithm;
  c.options.master = master;
  c.options.state = state;
  c.options.max_grad_norm = 0.05;  // Bites in every step.
  for (ParamSpec& spec : c.specs) spec.dtype = DType::kBFloat16;
  c.coarse = true;
  c.ranks = 3;
  return c;
}

TEST(CodedRoadTest, OneKernelTrainsAsTilesDoBitForBit) {
  for (Algorithm algorithm :
       {Algorithm::kAdamMini, Algorithm::kAdamW, Algorithm::kSgd}) {
    for (MasterFormat master :
         {MasterFormat::kNone, MasterFormat::kFloat32,
          MasterFormat::kRemainder16, MasterFormat::kRemainder8}) {
      for (StateFormat state : {StateFormat::kFloat32, StateFormat::kBFloat16,
                                StateFormat::kInt8}) {
        SCOPED_TRACE(std::string(MasterFormatName(master)) + " " +
                     StateFormatName(state));
        const TrainingCase c = Case(algorithm, master, state);
        ExpectSameTraining(c, Train(c), Train(c, MakeTiled));
      }
    }
  }
}

}  // namespace
}  // namespace zeromini
