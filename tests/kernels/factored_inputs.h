// A matrix with factored second moments, and what its kernels are given.

#ifndef ZEROMINI_TESTS_KERNELS_FACTORED_INPUTS_H_
#define ZEROMINI_TESTS_KERNELS_FACTORED_INPUTS_H_

#include <cmath>
#include <cstdint>
#include <vector>

#include "tests/kernels/column_ranks.h"
#include "tests/kernels/inputs.h"
#include "tests/kernels/run_kernel.h"
#include "zeromini/kernels.h"

namespace zeromini {

// One matrix and its state, with the sums of one step's gradient.
struct Factored {
  Factored(int64_t height, int64_t width)
      : rows(height),
        columns(width),
        parameter(1, rows * columns),
        gradient(2, rows * columns),
        momentum(3, rows * columns),
        row_moments(rows),
        row_sums(rows),
        moments(columns),
        factors(columns, -1),
        agreed({std::vector<uint8_t>(columns), std::vector<int64_t>(columns)}) {
    for (int64_t i = 0; i < rows; ++i) {
      row_moments[i] = std::abs(RandomFloat(4, i));
    }
    for (int64_t j = 0; j < columns; ++j) {
      moments[j] = std::abs(RandomFloat(5, j));
    }
  }

  // Row sums and the sums of columns.
  void Sum(const KernelTable& table) {
    Matrix matrix = {rows, 1, columns, {}};
    matrix.gradient.assign(gradient.data(), gradient.data() + rows * columns);
    std::vector<ColumnRank> ranks(1, ColumnRank(matrix));
    ranks[0].Add(table, matrix, 0, rows);
    agreed = Agree(table, matrix, ranks);
    RunKernel(table.row_sums,
              {gradient.data(), rows, columns, row_sums.data()});
  }

  ColumnMatrix shape() const { return {columns, rows}; }

  void MoveColumns(const KernelTable& table, const ColumnMatrix& matrix) {
    RunKernel(table.column_moments, {&matrix,
                                     1,
                                     {nullptr, nullptr, columns},
                                     agreed.tops.data(),
                                     agreed.words.data(),
                                     moments.data(),
                                     factors.data(),
                                     &scalars});
  }

  FactoredArgs args() {
    return {parameter.data(),
            gradient.data(),
            momentum.data(),
            row_moments.data(),
            row_sums.data(),
            factors.data(),
            rows,
            columns,
            &scalars};
  }

  void Step(const KernelTable& table) {
    Sum(table);
    MoveColumns(table, shape());
    RunKernel(table.factored_step, args());
  }

  double MeanSquare(int64_t column) const {
    double sum = 0;
    for (int64_t i = 0; i < rows; ++i) {
      sum +=
          std::pow(gradient[i * columns + column] * scalars.gradient_scale, 2);
    }
    return sum / static_cast<double>(rows);
  }

  int64_t rows;
  int64_t columns;
  UnalignedFloats parameter;
  UnalignedFloats gradient;
  UnalignedFloats momentum;
  std::vector<float> row_moments;
  std::vector<double> row_sums;
  std::vector<float> moments;
  std::vector<float> factors;
  AgreedColumns agreed;
  StepScalars scalars = TypicalScalars();
};

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_KERNELS_FACTORED_INPUTS_H_
