// ParamSpecs and PlanOptions of tests of the planner, and blocks to compare.

#ifndef ZEROMINI_TESTS_SUPPORT_PLAN_SPECS_H_
#define ZEROMINI_TESTS_SUPPORT_PLAN_SPECS_H_

#include <cstdint>
#include <ostream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "zeromini/plan.h"

namespace zeromini {

inline bool operator==(const BlockSegment& a, const BlockSegment& b) {
  return a.rows == b.rows && a.rows_per_block == b.rows_per_block;
}
inline void PrintTo(const BlockSegment& s, std::ostream* os) {
  *os << "{" << s.rows << ", " << s.rows_per_block << "}";
}

inline ParamSpec Spec(std::string name, std::vector<int64_t> shape) {
  ParamSpec spec;
  spec.name = std::move(name);
  spec.shape = std::move(shape);
  return spec;
}

inline ParamSpec Spec(std::string name, std::vector<int64_t> shape,
                      BlockRule rule) {
  ParamSpec spec = Spec(std::move(name), std::move(shape));
  spec.rule = std::move(rule);
  return spec;
}

// A tensor of any rule, six to a layer.
inline ParamSpec RandomSpec(std::mt19937& random, int index) {
  const auto below = [&](int n) { return static_cast<int64_t>(random() % n); };
  const int64_t heads = 1 + below(6);
  const int64_t head_rows = 1 + below(9);
  const int64_t columns = 1 + below(40);
  const std::string name = absl::StrCat("layers.", index / 6, ".tensor", index);
  switch (below(7)) {
    case 0:
      return Spec(name, {1 + below(50)}, BlockRule::Element());
    case 1:
      return Spec(name, {1 + below(50)}, BlockRule::Whole());
    case 2:
      return Spec(name, {heads * head_rows, columns},
                  BlockRule::Heads(head_rows));
    case 3:
      return Spec(name, {1 + below(30), columns}, BlockRule::Whole());
    case 4:
      return Spec(
          name, {3 * heads * head_rows, columns},
          BlockRule::Fused({{head_rows, head_rows}, {2 * head_rows, 1}}));
    case 5: {
      ParamSpec spec = Spec(name, {columns, 1 + below(60)}, BlockRule::Rows());
      spec.output_is_last = true;
      return spec;
    }
    default:
      return Spec(name, {1 + below(200), columns}, BlockRule::Rows());
  }
}

inline PlanOptions With(const ModelShape& shape) {
  PlanOptions options;
  options.model = shape;
  return options;
}

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_PLAN_SPECS_H_
