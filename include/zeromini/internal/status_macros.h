// Two macros that Abseil 20220623 lacks.

#ifndef ZEROMINI_INTERNAL_STATUS_MACROS_H_
#define ZEROMINI_INTERNAL_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define ZEROMINI_RETURN_IF_ERROR(expression)           \
  do {                                                 \
    absl::Status zeromini_status = (expression);       \
    if (!zeromini_status.ok()) return zeromini_status; \
  } while (false)

#define ZEROMINI_INTERNAL_CONCAT_(a, b) a##b
#define ZEROMINI_INTERNAL_CONCAT(a, b) ZEROMINI_INTERNAL_CONCAT_(a, b)
#define ZEROMINI_ASSIGN_OR_RETURN(lhs, expression) \
  ZEROMINI_INTERNAL_ASSIGN(                        \
      ZEROMINI_INTERNAL_CONCAT(zeromini_value_, __LINE__), lhs, expression)
#define ZEROMINI_INTERNAL_ASSIGN(value, lhs, expression) \
  auto value = (expression);                             \
  if (!value.ok()) return value.status();                \
  lhs = *std::move(value)

#endif  // ZEROMINI_INTERNAL_STATUS_MACROS_H_
