// ParamSpecs and PlanOptions of tests of the planner, and blocks to compare.

#ifndef ZEROMINI_TESTS_SUPPORT_PLAN_SPECS_H_
#define ZEROMINI_TESTS_SUPPORT_PLAN_SPECS_H_

#include <cstdint>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

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

inline PlanOptions With(const ModelShape& shape) {
  PlanOptions options;
  options.model = shape;
  return options;
}

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_PLAN_SPECS_H_
