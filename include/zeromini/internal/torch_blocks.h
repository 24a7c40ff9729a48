// Tensors whose memory comes and goes, and autograd nodes that mark where a
// block of a model begins and ends. For zeromini/torch.h at stage 3.

#ifndef ZEROMINI_INTERNAL_TORCH_BLOCKS_H_
#define ZEROMINI_INTERNAL_TORCH_BLOCKS_H_

#include <torch/torch.h>

#include <functional>
#include <memory>
#include <utility>

namespace zeromini {
namespace internal {

// A storage of `bytes` without memory. It never resizes, so torch takes its
// size for granted and leaves the pointer alone.
inline c10::Storage EmptyStorage(int64_t bytes) {
  return c10::Storage(c10::Storage::use_byte_size_t(),
                      static_cast<size_t>(bytes),
                      at::DataPtr(nullptr, at::Device(at::kCPU)),
                      /*allocator=*/nullptr, /*resizable=*/false);
}

// Every tensor over `storage`, views that autograd has saved included, is at
// `data` from now on. Null: nowhere. Does not own.
inline void PointAt(const c10::Storage& storage, void* data) {
  storage.unsafeGetStorageImpl()->set_data_ptr_noswap(
      at::DataPtr(data, at::Device(at::kCPU)));
}

// A tensor shaped and typed like `like` at the beginning of `storage`.
inline torch::Tensor Over(const c10::Storage& storage,
                          const torch::Tensor& like) {
  return torch::empty({0}, like.options().requires_grad(false))
      .set_(storage, 0, like.sizes(), like.strides());
}

// A tensor shaped and typed like `like` that has no storage: whatever asks for
// its memory throws. set_data() gives this to a tensor and takes it away again.
inline torch::Tensor WithoutStorage(const torch::Tensor& like) {
  auto impl = c10::make_intrusive<c10::TensorImpl>(
      c10::DispatchKeySet(c10::DispatchKey::CPU), like.dtype(),
      c10::Device(c10::kCPU));
  impl->set_sizes_and_strides(like.sizes(), like.strides());
  impl->set_storage_access_should_throw();
  return torch::Tensor(std::move(impl));
}

// What a node calls in backward. An IValue holds nothing but torch's classes.
struct BackwardCall : torch::CustomClassHolder {
  explicit BackwardCall(std::function<void()> body) : call(std::move(body)) {}
  std::function<void()> call;
};

// The identity, with a call in backward. `anchor` requires a gradient and gets
// none: with it the node runs even if `x` needs no gradient.
struct CallInBackward : torch::autograd::Function<CallInBackward> {
  static torch::Tensor forward(torch::autograd::AutogradContext* context,
                               const torch::Tensor& x,
                               const torch::Tensor& /*anchor*/,
                               const std::function<void()>& call) {
    context->saved_data["call"] =
        c10::IValue::make_capsule(c10::make_intrusive<BackwardCall>(call));
    return x;
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context,
      torch::autograd::variable_list gradients) {
    const auto holder = context->saved_data["call"].toCapsule();
    static_cast<BackwardCall*>(holder.get())->call();
    return {gradients[0], torch::Tensor(), torch::Tensor()};
  }
};

}  // namespace internal
}  // namespace zeromini

#endif  // ZEROMINI_INTERNAL_TORCH_BLOCKS_H_
