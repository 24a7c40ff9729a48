// The vectors of factored second moments against the kernels alone, one after
// another as a step runs them on one rank.

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "support/status_matchers.h"
#include "zeromini/internal/scalar_words.h"
#include "zeromini/kernels.h"
#include "zeromini/safetensors.h"

namespace zeromini {
namespace {

constexpr double kWeightTolerance = 6e-7;
constexpr double kStateTolerance = 1e-5;
constexpr int64_t kGroupRows = 2;

using Tensors = std::map<std::string, std::vector<float>>;

Tensors Read(const std::string& path) {
  Tensors tensors;
  const auto reader = SafetensorsReader::Open(path);
  EXPECT_OK(reader);
  if (!reader.ok()) return tensors;
  for (const TensorInfo& tensor : (*reader)->tensors()) {
    auto values = (*reader)->ReadF32(tensor.name, tensor.shape);
    EXPECT_OK(values);
    tensors[tensor.name] = *std::move(values);
  }
  return tensors;
}

void ExpectNear(const std::vector<float>& actual,
                const std::vector<float>& expected, double tolerance,
                const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[i], tolerance) << what << " " << i;
  }
}

double Largest(const std::vector<float>& values) {
  double largest = 0;
  for (float value : values) {
    largest = std::max(largest, static_cast<double>(std::abs(value)));
  }
  return largest;
}

// A parameter of the case and its state.
struct Param {
  Param(const nlohmann::json& entry, std::vector<float> weights)
      : p(std::move(weights)),
        m(p.size()),
        columns(entry["shape"].back()),
        matrix_rows(entry["matrix_rows"].get<std::vector<int64_t>>()),
        padding_rows(entry["padding_rows"]),
        decay(entry["weight_decay"]) {
    const size_t matrices = std::max<size_t>(1, matrix_rows.size());
    v.resize(matrix_rows.empty() ? p.size() : 0);
    r.resize(p.size() / columns);
    c.resize(matrices * columns);
    factors.resize(c.size());
  }

  bool is_vector() const { return matrix_rows.empty(); }

  std::vector<float> p, m, v, r, c, factors;
  int64_t columns;
  std::vector<int64_t> matrix_rows;
  int64_t padding_rows;
  double decay;
  int64_t steps = 0;
};

class Case {
 public:
  Case(const std::string& name, const KernelTable& kernels)
      : folder_(absl::StrCat(ZEROMINI_GOLDEN_DIR, "/", name, "/")),
        kernels_(kernels) {
    std::ifstream(folder_ + "meta.json") >> meta_;
    const Tensors weights =
        Read(folder_ + meta_.value("weights", "params_00.safetensors"));
    for (const auto& entry : meta_["parameters"]) {
      const std::string param = entry["name"];
      params_.emplace(param, Param(entry, weights.at(param)));
    }
  }

  int steps() const { return meta_["n_steps"]; }

  void Step(int step) {
    std::string gradients =
        meta_.value("gradients", std::string("grads_TT.safetensors"));
    gradients.replace(gradients.find("TT"), 2, absl::StrFormat("%02d", step));
    for (const auto& [name, gradient] : Read(folder_ + gradients)) {
      Param& param = params_.at(name);
      const StepScalars scalars = Scalars(step, ++param.steps, param.decay);
      if (param.is_vector()) {
        EXPECT_OK(kernels_.adamw(
            {param.p.data(), gradient.data(), param.m.data(), param.v.data(),
             static_cast<int64_t>(param.p.size()), &scalars},
            Stream{}));
      } else {
        Update(param, gradient, scalars);
      }
    }
  }

  // Where the case has weights of that step.
  void ExpectWeights(int step) const {
    const std::string path =
        absl::StrFormat("%sparams_%02d.safetensors", folder_, step);
    if (!std::ifstream(path)) return;
    for (const auto& [name, expected] : Read(path)) {
      ExpectNear(params_.at(name).p, expected, kWeightTolerance,
                 absl::StrCat(name, ", step ", step));
    }
  }

  void ExpectState() const {
    const Tensors expected =
        Read(absl::StrFormat("%sstate_%02d.safetensors", folder_, steps()));
    for (const auto& [name, values] : expected) {
      const Param& param = params_.at(name.substr(2));
      const std::vector<float>& actual = name[0] == 'm'   ? param.m
                                         : name[0] == 'v' ? param.v
                                         : name[0] == 'r' ? param.r
                                                          : param.c;
      ExpectNear(actual, values, kStateTolerance * Largest(values), name);
    }
  }

 private:
  StepScalars Scalars(int step, int64_t count, double decay) const {
    const nlohmann::json& hyper = meta_["hyperparameters"];
    StepScalars scalars;
    scalars.learning_rate = meta_["lr_per_step"][step - 1];
    scalars.weight_decay = decay;
    scalars.beta1 = hyper["beta1"];
    scalars.beta2 = hyper["beta2"];
    scalars.epsilon = hyper["eps"];
    scalars.step = count;
    return scalars;
  }

  // Its matrices, one below another, whose columns lie one after another.
  void Update(Param& param, const std::vector<float>& gradient,
              const StepScalars& scalars) const {
    const int64_t count = static_cast<int64_t>(param.c.size());
    std::vector<SumSpan> spans;
    std::vector<ColumnMatrix> matrices;
    int64_t row = 0;
    for (int64_t rows : param.matrix_rows) {
      const auto at = static_cast<int64_t>(spans.size()) * param.columns;
      spans.push_back({row * param.columns, rows, param.columns, 1, row,
                       ParamWord(0), -1, at, kGroupRows});
      matrices.push_back({param.columns, rows - param.padding_rows, at, at});
      row += rows;
    }
    std::vector<int64_t> digits(3 * count), words(count),
        step(ScalarWords(1, 0));
    std::vector<uint8_t> tops(count), agreed(count);
    std::vector<double> row_sums(row);
    const ColumnSums sums = {digits.data(), tops.data(), count};
    EXPECT_OK(kernels_.statistics(
        {gradient.data(), spans.data(), static_cast<int64_t>(spans.size()),
         row_sums.data(), step.data(), true, true, sums},
        Stream{}));
    const ColumnArgs args = {matrices.data(),
                             static_cast<int64_t>(matrices.size()),
                             sums,
                             agreed.data(),
                             words.data(),
                             param.c.data(),
                             param.factors.data(),
                             &scalars};
    EXPECT_OK(kernels_.column_tops(args, Stream{}));
    EXPECT_OK(kernels_.column_words(args, Stream{}));
    EXPECT_OK(kernels_.column_moments(args, Stream{}));
    for (size_t i = 0; i < spans.size(); ++i) {
      const SumSpan& span = spans[i];
      EXPECT_OK(kernels_.factored_step(
          {param.p.data() + span.first_element,
           gradient.data() + span.first_element,
           param.m.data() + span.first_element, param.r.data() + span.sums_at,
           row_sums.data() + span.sums_at,
           param.factors.data() + span.columns_at, span.rows, param.columns,
           &scalars},
          Stream{}));
    }
  }

  std::string folder_;
  const KernelTable& kernels_;
  nlohmann::json meta_;
  std::map<std::string, Param> params_;
};

TEST(FactoredVectorsTest, KernelsMeetEveryStep) {
  for (const char* name : {"I_factored", "J_factored_fused"}) {
    for (const KernelTable* kernels : {&CpuKernels(), &ReferenceKernels()}) {
      SCOPED_TRACE(absl::StrCat(name, ", ", kernels->name));
      Case replayed(name, *kernels);
      for (int step = 1; step <= replayed.steps(); ++step) {
        replayed.Step(step);
        replayed.ExpectWeights(step);
      }
      replayed.ExpectState();
    }
  }
}

}  // namespace
}  // namespace zeromini
