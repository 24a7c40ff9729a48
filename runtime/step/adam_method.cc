#include "runtime/state/method.h"

namespace zeromini {
namespace {

class AdamMethod : public Method {
 public:
  void PackGradient(const KernelTable& kernels, const PlannedParam& param,
                    RowRange rows, const void* gradient, float* wire,
                    Stream stream) const override {
    PackRows(kernels, param, rows, gradient, wire,
             {param.dtype, DType::kFloat32}, stream);
  }

  void Update(const KernelTable& kernels, const RunUpdate& update,
              Stream stream) const override {
    const int64_t elements = update.run.rows * update.param.row_elements;
    if (!update.param.keeps_second_moment()) {
      kernels.sgd({update.parameter, update.gradient, update.momentum, elements,
                   update.scalars},
                  stream);
      return;
    }
    if (update.param.element_state) {
      kernels.adamw({update.parameter, update.gradient, update.momentum,
                     update.second_moment, elements, update.scalars},
                    stream);
      return;
    }
    for (const SpanState& state : update.spans) {
      const BlockSpan& span = state.span;
      const int64_t at =
          (span.first_row - update.run.first_row) * update.param.row_elements;
      const AdamMiniArgs args = {
          update.parameter + at,
          update.gradient + at,
          update.momentum + at,
          update.second_moment + state.second_moment_offset,
          update.block_sums + state.sums_offset,
          span.blocks,
          span.rows_per_block,
          update.param.row_elements,
          span.block_elements,
          update.scalars};
      // A split block's sum came from all ranks, so it cannot be taken here.
      if (update.fused && !span.split) {
        kernels.adam_mini_fused(args, stream);
      } else {
        kernels.adam_mini_step(args, stream);
      }
    }
  }
};

}  // namespace

std::unique_ptr<Method> MakeAdamMethod() {
  return std::make_unique<AdamMethod>();
}

}  // namespace zeromini
