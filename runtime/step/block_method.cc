#include "runtime/step/method.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

class BlockMethod : public Method {
 public:
  absl::Status PackGradient(const KernelTable& kernels,
                            const GradientPack& pack,
                            Stream stream) const override {
    return PackRows(kernels,
                    {pack.param,
                     pack.rows,
                     pack.gradient,
                     pack.wire,
                     {pack.param.dtype, DType::kFloat32}},
                    stream);
  }

  std::optional<UpdateRule> CodedRule(
      const PlannedParam& param) const override {
    if (!param.keeps_second_moment()) return UpdateRule::kSgd;
    return param.element_state ? UpdateRule::kAdamW : UpdateRule::kAdamMini;
  }

  absl::Status Update(const KernelTable& kernels, const RunUpdate& update,
                      Stream stream) const override {
    const int64_t elements = update.run.rows * update.param.row_elements;
    if (!update.param.keeps_second_moment()) {
      return kernels.sgd({update.parameter, update.gradient, update.momentum,
                          elements, update.scalars},
                         stream);
    }
    if (update.param.element_state) {
      return kernels.adamw({update.parameter, update.gradient, update.momentum,
                            update.second_moment, elements, update.scalars},
                           stream);
    }
    for (const SpanState& state : update.spans) {
      ZEROMINI_RETURN_IF_ERROR(UpdateSpan(kernels, update, state, stream));
    }
    return absl::OkStatus();
  }

 private:
  static absl::Status UpdateSpan(const KernelTable& kernels,
                                 const RunUpdate& update,
                                 const SpanState& state, Stream stream) {
    const BlockSpan& span = state.span;
    const int64_t at =
        (span.first_row - update.run.first_row) * update.param.row_elements;
    if (span.matrix >= 0) {
      return UpdateMatrix(kernels, update, state, at, stream);
    }
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
      return kernels.adam_mini_fused(args, stream);
    }
    return kernels.adam_mini_step(args, stream);
  }

  // Rows of a matrix with columns; the first is `at` elements into the run.
  static absl::Status UpdateMatrix(const KernelTable& kernels,
                                   const RunUpdate& update,
                                   const SpanState& state, int64_t at,
                                   Stream stream) {
    const bool factored = state.span.form == MomentForm::kFactored;
    return kernels.factored_step(
        {update.parameter + at, update.gradient + at, update.momentum + at,
         factored ? update.second_moment + state.second_moment_offset : nullptr,
         factored ? update.block_sums + state.sums_offset : nullptr,
         update.column_factors + state.columns_at, state.span.blocks,
         update.param.row_elements, update.scalars},
        stream);
  }
};

}  // namespace

std::shared_ptr<const Method> MakeBlockMethod() {
  return std::make_shared<BlockMethod>();
}

}  // namespace zeromini
