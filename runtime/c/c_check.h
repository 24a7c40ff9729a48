// What a C program can get wrong in its arguments, told by C's own names.

#ifndef ZEROMINI_RUNTIME_C_C_CHECK_H_
#define ZEROMINI_RUNTIME_C_C_CHECK_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "zeromini/c.h"

namespace zeromini::c_api {

// Of a struct that begins with struct_size: its name, and the size it had in
// the first version of the header.
template <typename T>
struct Sized;
template <>
struct Sized<zeromini_param> {
  static constexpr char kName[] = "zeromini_param";
  static constexpr size_t kFirst = offsetof(zeromini_param, expert);
};
template <>
struct Sized<zeromini_hyper_group> {
  static constexpr char kName[] = "zeromini_hyper_group";
  // own_algorithm has taken the place of the first version's padding.
  static constexpr size_t kFirst = offsetof(zeromini_hyper_group, patterns);
};
template <>
struct Sized<zeromini_options> {
  static constexpr char kName[] = "zeromini_options";
  static constexpr size_t kFirst = offsetof(zeromini_options, gradient_wire);
};
template <>
struct Sized<zeromini_step_options> {
  static constexpr char kName[] = "zeromini_step_options";
  static constexpr size_t kFirst = offsetof(zeromini_step_options, loss_scale);
};
template <>
struct Sized<zeromini_step_report> {
  static constexpr char kName[] = "zeromini_step_report";
  static constexpr size_t kFirst =
      offsetof(zeromini_step_report, inside_host_bytes);
};
template <>
struct Sized<zeromini_memory_report> {
  static constexpr char kName[] = "zeromini_memory_report";
  static constexpr size_t kFirst = offsetof(zeromini_memory_report, gathered);
};
template <>
struct Sized<zeromini_step_bytes> {
  static constexpr char kName[] = "zeromini_step_bytes";
  static constexpr size_t kFirst = sizeof(zeromini_step_bytes);
};
template <>
struct Sized<zeromini_group_options> {
  static constexpr char kName[] = "zeromini_group_options";
  static constexpr size_t kFirst = sizeof(zeromini_group_options);
};
template <>
struct Sized<zeromini_plan_options> {
  static constexpr char kName[] = "zeromini_plan_options";
  // second_moment has taken the place of the first version's padding.
  static constexpr size_t kFirst = sizeof(zeromini_plan_options);
};
template <>
struct Sized<zeromini_level_traffic> {
  static constexpr char kName[] = "zeromini_level_traffic";
  static constexpr size_t kFirst = sizeof(zeromini_level_traffic);
};

// Larger than any version will be: what is beyond was never initialised.
inline constexpr size_t kLargestStruct = size_t{1} << 16;

inline bool IsSize(size_t size, size_t first) {
  return size >= first && size <= kLargestStruct && size % alignof(size_t) == 0;
}

// InvalidArgument if `object`, which messages call `where`, is null or of no
// size that the struct `name` has had.
absl::Status CheckSize(const char* name, absl::string_view where,
                       const void* object, size_t first);

// Of a struct that the library writes.
template <typename T>
absl::Status CheckOut(absl::string_view where, const T* object) {
  return CheckSize(Sized<T>::kName, where, object, Sized<T>::kFirst);
}

// InvalidArgument if something is set beyond the `known` bytes.
absl::Status CheckRest(const char* name, absl::string_view where,
                       const void* object, size_t known);

// Of a struct that the library reads.
template <typename T>
absl::Status CheckIn(absl::string_view where, const T* object) {
  absl::Status status = CheckOut(where, object);
  return status.ok() ? CheckRest(Sized<T>::kName, where, object, sizeof(T))
                     : status;
}

// "<argument> is NULL".
absl::Status CheckNotNull(absl::string_view argument, const void* pointer);

// As the program set it, also where no enumerator has that value.
template <typename Enum>
int NumberOf(const Enum& value) {
  int number;
  static_assert(sizeof(value) == sizeof(number));
  std::memcpy(&number, &value, sizeof(number));
  return number;
}

// "there is no <type> <value>": enumerators are 0 to `last`.
absl::Status CheckEnum(const char* type, int value, int last);

absl::Status CheckRange(absl::string_view what, int64_t value, int64_t least,
                        int64_t most);

// Seconds to wait: not negative, not NaN.
absl::Status CheckSeconds(absl::string_view what, double seconds);

// Checks the fields of one struct and keeps the first thing that is wrong.
class Fields {
 public:
  // `type` is the struct's; `where` names this one of its type, may be empty.
  Fields(const char* type, std::string where)
      : type_(type), where_(std::move(where)) {}

  Fields& Flag(const char* field, int value) {
    return Range(field, value, 0, 1);
  }
  template <typename Enum>
  Fields& OneOf(const char* field, const Enum& value, Enum last) {
    return Range(field, NumberOf(value), 0, static_cast<int>(last));
  }
  Fields& Range(const char* field, int64_t value, int64_t least, int64_t most);
  // One of the types of elements up to `last`, ZEROMINI_FLOAT16 at most.
  Fields& DTypeOf(const char* field, const zeromini_dtype& value,
                  zeromini_dtype last);
  Fields& NotNull(const char* field, const void* pointer);
  // Of `count`, which is in the field `counted_by`: 0 if the array is null.
  Fields& Array(const char* field, const void* array, const char* counted_by,
                int64_t count);

  const absl::Status& status() const { return status_; }

 private:
  void Keep(const absl::Status& found);
  std::string Name(const char* field) const;

  const char* const type_;
  const std::string where_;
  absl::Status status_;
};

}  // namespace zeromini::c_api

#endif  // ZEROMINI_RUNTIME_C_C_CHECK_H_
