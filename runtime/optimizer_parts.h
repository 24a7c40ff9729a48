// How an Optimizer is put together, for tests that replace a part.

#ifndef ZEROMINI_RUNTIME_OPTIMIZER_PARTS_H_
#define ZEROMINI_RUNTIME_OPTIMIZER_PARTS_H_

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/device/device.h"
#include "runtime/step/method.h"
#include "zeromini/optimizer.h"

namespace zeromini {

struct OptimizerParts {
  std::unique_ptr<Device> device;  // Null: the host, with options.kernels.
  MethodChoice methods;            // Null: MakeBlockMethod() for all.
  // Null: MakePlan.
  std::function<absl::StatusOr<Plan>(absl::Span<const ParamSpec>,
                                     const PlanOptions&)>
      make_plan;
};

// As Optimizer::Create.
absl::StatusOr<std::unique_ptr<Optimizer>> CreateOptimizer(
    const OptimizerOptions& options, absl::Span<const ParamSpec> params,
    Communicator& group, OptimizerParts parts);

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_OPTIMIZER_PARTS_H_
