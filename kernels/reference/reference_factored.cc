#include "kernels/reference/reference_factored.h"

#include <cmath>
#include <limits>

#include "kernels/host_columns.h"

namespace zeromini {
namespace {

// At most the largest float: an infinite average would make factors of others
// 0.
double Moved(float moment, double mean, const StepScalars& s) {
  constexpr double kLargest = std::numeric_limits<float>::max();
  const double moved = s.beta2 * moment + (1 - s.beta2) * mean *
                                              s.gradient_scale *
                                              s.gradient_scale;
  return moved > kLargest ? kLargest : moved;
}

void UpdateColumns(const ColumnArgs& args, const ColumnMatrix& matrix) {
  const StepScalars& s = args.scalars[matrix.param];
  float* const moments = args.moments + matrix.local_at;
  double sum = 0;
  for (int64_t j = 0; j < matrix.columns; ++j) {
    const int64_t shared = matrix.shared_at + j;
    const double mean =
        ColumnSum(args.words[shared], args.agreed[shared], args.sums.exponent) /
        static_cast<double>(matrix.rows);
    moments[j] = static_cast<float>(Moved(moments[j], mean, s));
    sum += moments[j];
  }
  const double divisor =
      matrix.factored != 0 ? sum / static_cast<double>(matrix.columns) : 1;
  const double correction = 1 - std::pow(s.beta2, static_cast<double>(s.step));
  for (int64_t j = 0; j < matrix.columns; ++j) {
    const double share = moments[j] == 0 ? 0 : moments[j] / divisor;
    args.factors[matrix.local_at + j] =
        static_cast<float>(std::sqrt(share) / std::sqrt(correction));
  }
}

void UpdateRow(const FactoredArgs& args, int64_t row, double row_root) {
  const StepScalars& s = *args.scalars;
  const double correction = 1 - std::pow(s.beta1, static_cast<double>(s.step));
  for (int64_t j = 0; j < args.row_elements; ++j) {
    const int64_t i = row * args.row_elements + j;
    const double m = args.momentum[i];
    const double g = s.gradient_scale * args.gradient[i];
    const double moved = m + (1 - s.beta1) * (g - m);
    const double decayed =
        args.parameter[i] * (1 - s.learning_rate * s.weight_decay);
    const double root = row_root * args.column_factors[j] + s.epsilon;
    args.momentum[i] = static_cast<float>(moved);
    args.parameter[i] = static_cast<float>(
        decayed - s.learning_rate / correction * moved / root);
  }
}

}  // namespace

void ReferenceColumnMoments(const ColumnArgs& args) {
  for (int64_t i = 0; i < args.count; ++i) {
    if (args.scalars[args.matrices[i].param].update != 0) {
      UpdateColumns(args, args.matrices[i]);
    }
  }
}

void ReferenceFactoredStep(const FactoredArgs& args) {
  for (int64_t row = 0; row < args.rows; ++row) {
    double root = 1;
    if (args.row_moments != nullptr) {
      float& moment = args.row_moments[row];
      const double mean =
          args.row_sums[row] / static_cast<double>(args.row_elements);
      moment = static_cast<float>(Moved(moment, mean, *args.scalars));
      root = std::sqrt(static_cast<double>(moment));
    }
    UpdateRow(args, row, root);
  }
}

}  // namespace zeromini
