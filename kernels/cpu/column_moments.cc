// Bound by nothing: a few numbers a column of a matrix that has many rows.

#include <cmath>

#include "kernels/cpu/level.h"
#include "kernels/host_columns.h"

namespace zeromini {
namespace {

void UpdateColumns(const ColumnArgs& args, const ColumnMatrix& matrix) {
  const UpdateFactors factors(args.scalars[matrix.param]);
  float* const moments = args.moments + matrix.local_at;
  float* const column_factors = args.factors + matrix.local_at;
  double sum = 0;
  for (int64_t j = 0; j < matrix.columns; ++j) {
    const int64_t shared = matrix.shared_at + j;
    factors.UpdateMoment(
        ColumnSum(args.words[shared], args.agreed[shared], args.sums.exponent),
        matrix.rows, moments + j);
    sum += moments[j];
  }
  const double mean = sum / static_cast<double>(matrix.columns);
  const double divisor = matrix.factored != 0 ? mean : 1;
  for (int64_t j = 0; j < matrix.columns; ++j) {
    const double share = moments[j] == 0 ? 0 : moments[j] / divisor;
    column_factors[j] =
        static_cast<float>(std::sqrt(share) * factors.root_correction);
  }
}

}  // namespace

void ColumnMomentsOnCpu(const ColumnArgs& args) {
  for (int64_t i = 0; i < args.count; ++i) {
    if (args.scalars[args.matrices[i].param].update != 0) {
      UpdateColumns(args, args.matrices[i]);
    }
  }
}

}  // namespace zeromini
