// Matchers for absl::Status and absl::StatusOr, which Debian's Abseil lacks.

#ifndef ZEROMINI_TESTS_SUPPORT_STATUS_MATCHERS_H_
#define ZEROMINI_TESTS_SUPPORT_STATUS_MATCHERS_H_

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace zeromini {
namespace internal {

inline const absl::Status& StatusOf(const absl::Status& status) {
  return status;
}
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

}  // namespace internal

MATCHER(IsOk, negation ? "is an error" : "is OK") {
  const absl::Status& status = internal::StatusOf(arg);
  *result_listener << status.ToString();
  return status.ok();
}

// StatusIs(code) or StatusIs(code, HasSubstr("...")).
MATCHER_P2(StatusIs, code, message, "is a status of that code and message") {
  const absl::Status& status = internal::StatusOf(arg);
  *result_listener << status.ToString();
  return testing::Matches(code)(status.code()) &&
         testing::Matches(message)(std::string(status.message()));
}
inline auto StatusIs(absl::StatusCode code) {
  return StatusIs(code, testing::_);
}

#define EXPECT_OK(expression) EXPECT_THAT(expression, ::zeromini::IsOk())
#define ASSERT_OK(expression) ASSERT_THAT(expression, ::zeromini::IsOk())

#define ZEROMINI_TEST_JOIN_(a, b) a##b
#define ZEROMINI_TEST_JOIN(a, b) ZEROMINI_TEST_JOIN_(a, b)
#define ZEROMINI_TEST_ASSIGN_(result, lhs, expression) \
  auto result = (expression);                          \
  ASSERT_THAT(result, ::zeromini::IsOk());             \
  lhs = std::move(result).value()

// ASSERT_OK_AND_ASSIGN(auto plan, MakePlan(...));
#define ASSERT_OK_AND_ASSIGN(lhs, expression)                          \
  ZEROMINI_TEST_ASSIGN_(ZEROMINI_TEST_JOIN(status_or_, __LINE__), lhs, \
                        expression)

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_STATUS_MATCHERS_H_
