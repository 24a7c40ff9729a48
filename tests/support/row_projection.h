// A rank-r method whose projection is exact: it keeps the r rows whose gradient
// has the largest norm, so that projecting and adding commute to the bit.

#ifndef ZEROMINI_TESTS_SUPPORT_ROW_PROJECTION_H_
#define ZEROMINI_TESTS_SUPPORT_ROW_PROJECTION_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "runtime/optimizer_parts.h"
#include "shard/planner.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {

// The `rank` rows of largest norm, in their order; of equal ones the first.
inline std::vector<int64_t> LargestRows(const float* matrix, int64_t rows,
                                        int64_t columns, int64_t rank) {
  std::vector<double> norms(rows, 0);
  for (int64_t i = 0; i < rows * columns; ++i) {
    norms[i / columns] += double(matrix[i]) * matrix[i];
  }
  std::vector<int64_t> order(rows);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return norms[a] > norms[b]; });
  order.resize(rank);
  std::sort(order.begin(), order.end());
  return order;
}

// Momentum, and v if the parameter's algorithm has it, are of the kept rows;
// weights decay in full.
class RowProjection : public Method {
 public:
  RowProjection(int64_t rank, int64_t period) : rank_(rank), period_(period) {}

  int64_t SharedBytes(const PlannedParam&) const override {
    return rank_ * int64_t{sizeof(int64_t)};
  }
  bool Refreshes(int64_t step) const override { return step % period_ == 0; }

  absl::Status PackGradient(const KernelTable& kernels,
                            const GradientPack& pack,
                            Stream stream) const override {
    const auto* kept = static_cast<const int64_t*>(pack.shared);
    const int64_t columns = pack.param.row_elements;
    for (int64_t i = 0; i < rank_; ++i) {
      ZEROMINI_RETURN_IF_ERROR(PackRows(kernels,
                                        {pack.param,
                                         {kept[i], 1},
                                         pack.gradient,
                                         pack.wire + i * columns,
                                         {pack.param.dtype, DType::kFloat32}},
                                        stream));
    }
    return absl::OkStatus();
  }

  absl::Status Refresh(const KernelTable&, const SharedRefresh& refresh,
                       Stream) const override {
    if (refresh.scalars->update == 0) return absl::OkStatus();
    const std::vector<int64_t> kept =
        LargestRows(refresh.gradient, refresh.param.rows,
                    refresh.param.row_elements, rank_);
    std::copy(kept.begin(), kept.end(), static_cast<int64_t*>(refresh.shared));
    return absl::OkStatus();
  }

  absl::Status Update(const KernelTable&, const RunUpdate& update,
                      Stream) const override {
    const StepScalars& s = *update.scalars;
    if (s.update == 0) return absl::OkStatus();
    const int64_t columns = update.param.row_elements;
    const auto decay = float(1 - s.learning_rate * s.weight_decay);
    for (int64_t i = 0; i < update.run.rows * columns; ++i) {
      update.parameter[i] *= decay;
    }
    const auto* kept = static_cast<const int64_t*>(update.shared);
    for (int64_t i = 0; i < rank_; ++i) {
      const int64_t from = update.full_gradient ? kept[i] : i;
      for (int64_t c = 0; c < columns; ++c) {
        const int64_t at = i * columns + c;
        update.parameter[kept[i] * columns + c] -= Moved(
            s, float(s.gradient_scale) * update.gradient[from * columns + c],
            update.momentum + at,
            update.param.keeps_second_moment() ? update.second_moment + at
                                               : nullptr);
      }
    }
    return absl::OkStatus();
  }

  // What an element loses; moves its momentum and, unless null, v.
  static float Moved(const StepScalars& s, float gradient, float* momentum,
                     float* second_moment) {
    const auto beta1 = float(s.beta1);
    const auto rate = float(s.learning_rate);
    *momentum = beta1 * *momentum + gradient;
    if (second_moment == nullptr) return rate * *momentum;
    const auto beta2 = float(s.beta2);
    *second_moment = beta2 * *second_moment + (1 - beta2) * gradient * gradient;
    return rate * *momentum / (std::sqrt(*second_moment) + float(s.epsilon));
  }

 private:
  const int64_t rank_;
  const int64_t period_;
};

// Which parameters are projected.
inline bool IsMatrix(const PlannedParam& param) {
  return param.name.find("matrix") != std::string::npos;
}

// Matrices are projected to `rank` rows, on the wire and in the state, by
// `method`; what else there is has its plan's own method.
inline OptimizerParts ProjectionParts(int64_t rank, MethodChoice method) {
  OptimizerParts parts;
  parts.methods = [method = std::move(method),
                   others = MakeBlockMethod()](const PlannedParam& param) {
    return IsMatrix(param) ? method(param) : others;
  };
  parts.make_plan = [rank](absl::Span<const ParamSpec> specs,
                           const PlanOptions& options) {
    return MakePlanWithUnits(specs, options, [rank](const PlannedParam& param) {
      std::vector<UnitSegment> units;
      const int64_t kept = rank * param.row_elements;
      if (IsMatrix(param)) units = {{param.rows, param.rows, kept, kept}};
      return units;
    });
  };
  return parts;
}

// The same projection for all matrices.
inline OptimizerParts ProjectionParts(int64_t rank, int64_t period) {
  return ProjectionParts(
      rank, [method = std::make_shared<RowProjection>(rank, period)](
                const PlannedParam&) { return method; });
}

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_ROW_PROJECTION_H_
