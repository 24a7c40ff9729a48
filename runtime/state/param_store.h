// ParamStore: where each parameter's full tensor is on this rank, in either
// memory form.

#ifndef ZEROMINI_RUNTIME_STATE_PARAM_STORE_H_
#define ZEROMINI_RUNTIME_STATE_PARAM_STORE_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/device/device.h"
#include "zeromini/options.h"
#include "zeromini/param_spec.h"
#include "zeromini/plan.h"

namespace zeromini {

// What `param`, which is not tied itself, starts from in flat memory: its data,
// else that of a parameter tied to it; null if there is none.
const void* InitialWeights(const Plan& plan, absl::Span<const ParamSpec> specs,
                           int param);

class ParamStore {
 public:
  // Flat memory that is whole on this rank holds InitialWeights(), else zeros.
  //
  // InvalidArgument, naming the parameters, if external data is null, or, in
  // either memory form, data is not aligned or the caller's tensors overlap
  // without being tied.
  static absl::StatusOr<ParamStore> Create(const Plan& plan,
                                           absl::Span<const ParamSpec> specs,
                                           const OptimizerOptions& options,
                                           Device& device);

  // Of the parameter's dtype. Null where weights rest in shards, unless the
  // parameter is frozen or SetWeights() has put it there.
  void* weights(int param) const { return weights_[param]; }
  void SetWeights(int param, void* weights) { weights_[param] = weights; }

  // Flat memory with full gradients, fp32: where the caller writes gradients.
  // Otherwise null, also for what several parameters share: their gradients add
  // up, and one place cannot hold both a caller's sum and ours.
  float* gradients(int param) const { return gradients_[param]; }

  // The bucket's part of its region, of weights or gradients, if it is cut in
  // place and the memory is flat; otherwise null.
  void* flat_weights(int bucket) const { return flat_weights_[bucket]; }
  float* flat_gradients(int bucket) const { return flat_gradients_[bucket]; }

  // Whoever holds this keeps all of the store's memory.
  Buffer memory() const { return owned_; }

 private:
  absl::Status Allocate(const Plan& plan, const OptimizerOptions& options,
                        Device& device);
  absl::Status Fill(const Plan& plan, absl::Span<const ParamSpec> specs,
                    Device& device);
  absl::Status AllocateRegions(const Plan& plan, Device& device);
  absl::StatusOr<void*> Own(int64_t bytes, MemoryKind kind, Device& device);

  std::vector<void*> weights_;
  std::vector<float*> gradients_;
  std::vector<void*> flat_weights_;
  std::vector<float*> flat_gradients_;
  std::shared_ptr<std::vector<Buffer>> owned_ =
      std::make_shared<std::vector<Buffer>>();
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STATE_PARAM_STORE_H_
