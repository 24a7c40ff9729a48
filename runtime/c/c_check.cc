#include "runtime/c/c_check.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace zeromini::c_api {
namespace {

// More than any model has, of anything that is counted.
constexpr int64_t kMostEntries = int64_t{1} << 24;

std::string Of(absl::string_view where) {
  return where.empty() ? "" : absl::StrCat(where, ": ");
}

size_t StructSizeOf(const void* object) {
  size_t size;
  std::memcpy(&size, object, sizeof(size));
  return size;
}

}  // namespace

absl::Status CheckNotNull(absl::string_view argument, const void* pointer) {
  if (pointer != nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(argument, " is NULL"));
}

absl::Status CheckSize(const char* name, absl::string_view where,
                       const void* object, size_t first) {
  if (object == nullptr) return CheckNotNull(where, object);
  const size_t size = StructSizeOf(object);
  if (IsSize(size, first)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(Of(where), name, ".struct_size is ", size,
                   size == 0 ? absl::StrCat(": call ", name, "_init")
                             : absl::StrCat(", which is no size of it: give ",
                                            name, "_init sizeof(", name, ")")));
}

absl::Status CheckRest(const char* name, absl::string_view where,
                       const void* object, size_t known) {
  const char* bytes = static_cast<const char*>(object);
  const size_t size = StructSizeOf(object);
  const bool set = size > known && std::any_of(bytes + known, bytes + size,
                                               [](char c) { return c != 0; });
  if (!set) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      Of(where), name, " has ", size, " bytes here and ", known,
      " in the library, and a field is set that the library does not know: "
      "link the version whose header the program includes"));
}

absl::Status CheckEnum(const char* type, int value, int last) {
  if (value >= 0 && value <= last) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("there is no ", type, " ", value));
}

absl::Status CheckRange(absl::string_view what, int64_t value, int64_t least,
                        int64_t most) {
  if (value >= least && value <= most) return absl::OkStatus();
  const bool open = most >= std::numeric_limits<int>::max();
  return absl::InvalidArgumentError(absl::StrCat(
      what, " is ", value, ", but must be ",
      open ? absl::StrCat("at least ", least)
           : absl::StrCat(least, most == least + 1 ? " or " : " to ", most)));
}

absl::Status CheckSeconds(absl::string_view what, double seconds) {
  if (seconds >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, " is ", seconds, ", but must not be negative"));
}

Fields& Fields::Range(const char* field, int64_t value, int64_t least,
                      int64_t most) {
  Keep(CheckRange(Name(field), value, least, most));
  return *this;
}

Fields& Fields::DTypeOf(const char* field, const zeromini_dtype& value,
                        zeromini_dtype last) {
  constexpr const char* kNames[] = {"ZEROMINI_FLOAT32", "ZEROMINI_BFLOAT16",
                                    "ZEROMINI_FLOAT16"};
  const int number = NumberOf(value);
  if (number >= 0 && number <= static_cast<int>(last)) return *this;
  Keep(absl::InvalidArgumentError(absl::StrCat(
      Name(field), " is ", number, ", but must be ",
      absl::StrJoin(kNames, kNames + last, ", "), " or ", kNames[last])));
  return *this;
}

Fields& Fields::NotNull(const char* field, const void* pointer) {
  Keep(CheckNotNull(Name(field), pointer));
  return *this;
}

Fields& Fields::Array(const char* field, const void* array,
                      const char* counted_by, int64_t count) {
  Keep(CheckRange(Name(counted_by), count, 0, kMostEntries));
  if (array == nullptr && count > 0) {
    Keep(absl::InvalidArgumentError(absl::StrCat(Name(field), " is NULL, but ",
                                                 counted_by, " is ", count)));
  }
  if (array != nullptr && count == 0) {
    Keep(absl::InvalidArgumentError(absl::StrCat(
        Name(counted_by), " is 0, but ", field, " is given: set both")));
  }
  return *this;
}

void Fields::Keep(const absl::Status& found) {
  if (status_.ok()) status_ = found;
}

std::string Fields::Name(const char* field) const {
  return absl::StrCat(Of(where_), type_, ".", field);
}

}  // namespace zeromini::c_api
