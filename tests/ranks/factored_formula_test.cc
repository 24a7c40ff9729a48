// Second moments that are factored or shared by columns against the formula,
// in double, over twenty steps with clipping and decay.

#include <cmath>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/exact_training.h"

namespace zeromini {
namespace {

constexpr double kRate = 0.01;
constexpr double kDecay = 0.1;
constexpr double kBeta1 = 0.9;
constexpr double kBeta2 = 0.95;
constexpr double kEpsilon = 1e-8;

// Rows of a parameter that share averages; `blocks` are all one block.
struct Piece {
  int64_t first_row = 0;
  int64_t rows = 0;
  MomentForm form = MomentForm::kFactored;
};

struct Matrix {
  ParamSpec spec;
  std::vector<Piece> pieces;
};

BlockSegment Segment(int64_t rows, MomentForm form) {
  return {rows, 1, BlockKind::kRow, form};
}

std::vector<Matrix> Matrices() {
  std::vector<Matrix> matrices;
  const auto add = [&](std::vector<int64_t> shape, bool factored) {
    const BlockRule rule =
        factored ? BlockRule::Factored() : BlockRule::Columns();
    const MomentForm form =
        factored ? MomentForm::kFactored : MomentForm::kColumns;
    matrices.push_back(
        {Spec("m" + std::to_string(matrices.size()), shape, rule, -1),
         {{0, shape[0], form}}});
  };
  for (bool factored : {true, false}) {
    for (const std::vector<int64_t>& shape : std::vector<std::vector<int64_t>>{
             {1, 1}, {1, 9}, {9, 1}, {512, 3}, {513, 3}}) {
      add(shape, factored);
    }
  }
  const BlockRule fused = BlockRule::Fused({Segment(4, MomentForm::kFactored),
                                            Segment(2, MomentForm::kColumns),
                                            {3, 3}});
  matrices.push_back({Spec("fused", {18, 5}, fused, -1), {}});
  for (int64_t row : {0, 9}) {
    matrices.back().pieces.push_back({row, 4, MomentForm::kFactored});
    matrices.back().pieces.push_back({row + 4, 2, MomentForm::kColumns});
    matrices.back().pieces.push_back({row + 6, 3, MomentForm::kBlocks});
  }
  return matrices;
}

double GradientAt(int param, int64_t i, int step) {
  return GradientPart(param, i, step, 0, 1);
}

// One parameter's training, an element at a time.
class Formula {
 public:
  Formula(const Matrix& matrix, int param)
      : pieces_(matrix.pieces),
        param_(param),
        columns_(matrix.spec.shape[1]),
        weights_(Elements(matrix.spec)),
        momentum_(weights_.size()),
        by_row_(matrix.spec.shape[0]),
        by_column_(pieces_.size() * size_t(columns_)),
        by_piece_(pieces_.size()) {
    for (size_t i = 0; i < weights_.size(); ++i) {
      weights_[i] = InitialWeight(param, int64_t(i));
    }
  }

  void Step(int step, double scale) {
    for (size_t k = 0; k < pieces_.size(); ++k) StepPiece(k, step, scale);
  }
  const std::vector<double>& weights() const { return weights_; }

 private:
  double G(int64_t row, int64_t column, int step, double scale) const {
    return scale * GradientAt(param_, row * columns_ + column, step);
  }

  void Average(size_t k, int step, double scale) {
    const Piece& piece = pieces_[k];
    const double n = double(piece.rows), d = double(columns_);
    std::vector<double> of_column(columns_);
    double of_piece = 0;
    for (int64_t i = piece.first_row; i < piece.first_row + piece.rows; ++i) {
      double of_row = 0;
      for (int64_t j = 0; j < columns_; ++j) {
        const double square = std::pow(G(i, j, step, scale), 2);
        of_row += square / d;
        of_column[j] += square / n;
        of_piece += square / (n * d);
      }
      by_row_[i] = kBeta2 * by_row_[i] + (1 - kBeta2) * of_row;
    }
    for (int64_t j = 0; j < columns_; ++j) {
      double& c = by_column_[k * columns_ + j];
      c = kBeta2 * c + (1 - kBeta2) * of_column[j];
    }
    by_piece_[k] = kBeta2 * by_piece_[k] + (1 - kBeta2) * of_piece;
  }

  double Moment(size_t k, int64_t row, int64_t column) const {
    const double c = by_column_[k * columns_ + column];
    switch (pieces_[k].form) {
      case MomentForm::kFactored:
        return by_row_[row] * c / by_piece_[k];
      case MomentForm::kColumns:
        return c;
      case MomentForm::kBlocks:
        break;
    }
    return by_piece_[k];
  }

  void StepPiece(size_t k, int step, double scale) {
    Average(k, step, scale);
    const Piece& piece = pieces_[k];
    for (int64_t i = piece.first_row; i < piece.first_row + piece.rows; ++i) {
      for (int64_t j = 0; j < columns_; ++j) {
        const int64_t at = i * columns_ + j;
        const double v = Moment(k, i, j) / (1 - std::pow(kBeta2, step));
        double& m = momentum_[at];
        m = kBeta1 * m + (1 - kBeta1) * G(i, j, step, scale);
        weights_[at] = weights_[at] * (1 - kRate * kDecay) -
                       kRate * m / (1 - std::pow(kBeta1, step)) /
                           (std::sqrt(v) + kEpsilon);
      }
    }
  }

  std::vector<Piece> pieces_;
  int param_;
  int64_t columns_;
  std::vector<double> weights_, momentum_, by_row_, by_column_, by_piece_;
};

constexpr double kMostNorm = 3;

double ClipAt(const std::vector<Matrix>& matrices, int step) {
  double squares = 0;
  for (size_t p = 0; p < matrices.size(); ++p) {
    for (int64_t i = 0; i < Elements(matrices[p].spec); ++i) {
      squares += std::pow(GradientAt(int(p), i, step), 2);
    }
  }
  return std::min(1.0, kMostNorm / (std::sqrt(squares) + 1e-6));
}

std::vector<std::vector<double>> ByFormula(int steps) {
  const std::vector<Matrix> matrices = Matrices();
  std::vector<Formula> formulas;
  for (size_t p = 0; p < matrices.size(); ++p) {
    formulas.emplace_back(matrices[p], int(p));
  }
  for (int step = 1; step <= steps; ++step) {
    const double scale = ClipAt(matrices, step);
    for (Formula& formula : formulas) formula.Step(step, scale);
  }
  std::vector<std::vector<double>> weights;
  for (const Formula& formula : formulas) weights.push_back(formula.weights());
  return weights;
}

TEST(FactoredFormulaTest, TwentyStepsWithClippingAndDecayAreThoseOfTheFormula) {
  TrainingCase c;
  c.options = ExactOptions();
  c.options.max_grad_norm = kMostNorm;
  HyperGroup& hyper = c.options.hyper_groups[0];
  hyper.weight_decay = kDecay;
  hyper.beta1 = kBeta1;
  hyper.beta2 = kBeta2;
  hyper.epsilon = kEpsilon;
  c.learning_rate = kRate;
  c.steps = 20;
  c.specs.clear();
  for (const Matrix& matrix : Matrices()) c.specs.push_back(matrix.spec);
  const auto want = ByFormula(c.steps);
  for (int ranks : {1, 3}) {
    c.ranks = ranks;
    for (BlockCuts cuts : {BlockCuts::kWhole, BlockCuts::kSplitAtCuts}) {
      c.options.blocks = cuts;
      const TrainingResult got = Train(c);
      for (size_t p = 0; p < want.size(); ++p) {
        for (size_t i = 0; i < want[p].size(); ++i) {
          ASSERT_NEAR(got.weights[p][i], want[p][i], 2e-6)
              << c.specs[p].name << " " << i << " on " << ranks << " ranks";
        }
      }
    }
  }
}

}  // namespace
}  // namespace zeromini
