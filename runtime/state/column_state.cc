#include "runtime/state/column_state.h"

#include "zeromini/internal/status_macros.h"

namespace zeromini {

absl::StatusOr<ColumnState> ColumnState::Create(const Plan& plan,
                                                const OptimizerOptions& options,
                                                int rank, Device& device) {
  ColumnState state;
  state.layout_ = ColumnsOf(plan, options, rank);
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
          static_cast<uint8_t*>(tops_.get()), layout_.local};
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
