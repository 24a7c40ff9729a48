// What zeromini/torch.h needs to describe a tensor to the optimizer.

#ifndef ZEROMINI_INTERNAL_TORCH_SPECS_H_
#define ZEROMINI_INTERNAL_TORCH_SPECS_H_

#include <torch/torch.h>

#include <exception>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "zeromini/param_spec.h"
#include "zeromini/types.h"

namespace zeromini {
namespace internal {

// Runs `body`, which returns a Status; what torch throws becomes one too.
template <typename Body>
absl::Status Guarded(Body body) {
  try {
    return body();
  } catch (const c10::Error& error) {
    return absl::InternalError(
        absl::StrCat("torch: ", error.what_without_backtrace()));
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("torch: ", error.what()));
  }
}

// Null without one: a tensor that stage 3 has released.
inline const c10::StorageImpl* StorageOf(const torch::Tensor& tensor) {
  return tensor.unsafeGetTensorImpl()->unsafe_storage().unsafeGetStorageImpl();
}

// Null without memory, where data_ptr() throws.
inline void* DataOf(const torch::Tensor& tensor) {
  return StorageOf(tensor) == nullptr ? nullptr : tensor.data_ptr();
}

inline absl::StatusOr<DType> DTypeOf(const torch::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case torch::kFloat32:
      return DType::kFloat32;
    case torch::kBFloat16:
      return DType::kBFloat16;
    case torch::kFloat16:
      return DType::kFloat16;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("dtype ", c10::toString(tensor.scalar_type()),
                       " is none of float32, bfloat16 and float16"));
  }
}

inline absl::StatusOr<ParamSpec> SpecOf(const std::string& name,
                                        const torch::Tensor& tensor) {
  const std::string who = absl::StrCat("parameter '", name, "': ");
  if (!tensor.device().is_cpu()) {
    return absl::InvalidArgumentError(
        absl::StrCat(who, "is on ", tensor.device().str(),
                     ", the optimizer works in host memory"));
  }
  if (tensor.layout() != torch::kStrided) {
    return absl::InvalidArgumentError(
        absl::StrCat(who, "has the layout ", c10::str(tensor.layout()),
                     ", the optimizer works on dense tensors"));
  }
  if (!tensor.is_contiguous()) {
    return absl::InvalidArgumentError(
        absl::StrCat(who, "is not contiguous; call set_data(t.contiguous())"));
  }
  absl::StatusOr<DType> dtype = DTypeOf(tensor);
  if (!dtype.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(who, dtype.status().message()));
  }
  ParamSpec spec;
  spec.name = name;
  spec.shape = tensor.sizes().vec();
  if (spec.shape.empty()) spec.shape = {1};
  spec.dtype = *dtype;
  spec.frozen = !tensor.requires_grad();
  spec.data = DataOf(tensor);
  if (spec.data == nullptr && tensor.numel() > 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(who,
                     "has no memory; was it left by a stage 3 optimizer "
                     "without Detach()?"));
  }
  return spec;
}

}  // namespace internal
}  // namespace zeromini

#endif  // ZEROMINI_INTERNAL_TORCH_SPECS_H_
