#include "runtime/state/column_state.h"

#include <cmath>

#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

// Of a mean over two powers of 2 the bits are the same: so are its digits.
int ExponentOf(const Plan& plan, const OptimizerOptions& options) {
  if (options.reduction != Reduction::kMean) return 0;
  const double contributions = static_cast<double>(plan.options.ranks) *
                               plan.options.replicas * options.micro_steps;
  return 2 * std::ilogb(contributions);
}

}  // namespace

absl::StatusOr<ColumnState> ColumnState::Create(const Plan& plan,
                                                const OptimizerOptions& options,
                                                int rank, Device& device) {
  ColumnState state;
  state.layout_ = ColumnsOf(plan, options, rank);
  state.exponent_ = ExponentOf(plan, options);
  const ColumnLayout& layout = state.layout_;
  const auto allocate = [&](int64_t bytes, MemoryKind kind,
                            Buffer* buffer) -> absl::Status {
    ZEROMINI_ASSIGN_OR_RETURN(*buffer, device.Allocate(bytes, kind));
    return absl::OkStatus();
  };
  const ColumnBytes bytes = BytesOf(layout);
  ZEROMINI_RETURN_IF_ERROR(
      allocate(bytes.moments, MemoryKind::kSecondMoment, &state.moments_));
  ZEROMINI_RETURN_IF_ERROR(
      allocate(bytes.digits, MemoryKind::kStatistics, &state.digits_));
  ZEROMINI_RETURN_IF_ERROR(
      allocate(bytes.tops, MemoryKind::kStatistics, &state.tops_));
  ZEROMINI_RETURN_IF_ERROR(
      allocate(bytes.factors, MemoryKind::kStatistics, &state.factors_));
  ZEROMINI_RETURN_IF_ERROR(
      allocate(bytes.agreed, MemoryKind::kTables, &state.agreed_));
  ZEROMINI_RETURN_IF_ERROR(
      allocate(bytes.matrices, MemoryKind::kTables, &state.matrices_));
  if (bytes.matrices == 0) return state;
  ZEROMINI_RETURN_IF_ERROR(device.Copy(
      layout.matrices.data(), state.matrices_.get(), bytes.matrices, Stream{}));
  return state;
}

ColumnSums ColumnState::sums() const {
  return {static_cast<int64_t*>(digits_.get()),
          static_cast<uint8_t*>(tops_.get()), layout_.local, exponent_};
}

ColumnArgs ColumnState::Args(int64_t* words, const StepScalars* scalars) const {
  return {static_cast<const ColumnMatrix*>(matrices_.get()),
          static_cast<int64_t>(layout_.matrices.size()),
          sums(),
          agreed(),
          words,
          Floats(moments_),
          Floats(factors_),
          scalars};
}

}  // namespace zeromini
