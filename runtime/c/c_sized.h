// Structs of C that begin with struct_size, of the program's size, to and from
// those of ours.

#ifndef ZEROMINI_RUNTIME_C_C_SIZED_H_
#define ZEROMINI_RUNTIME_C_C_SIZED_H_

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "runtime/c/c_check.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::c_api {

// What the program does not know keeps its default. All are plain data, so
// bytes may be copied.
template <typename T>
T Complete(const T& from, void (*init)(T*, size_t)) {
  T result;
  init(&result, sizeof(result));
  std::memcpy(&result, &from, std::min(sizeof(T), from.struct_size));
  return result;
}

// Writes no more than to->struct_size bytes.
template <typename T>
void Deliver(T from, T* to) {
  from.struct_size = to->struct_size;
  std::memcpy(to, &from, std::min(sizeof(T), to->struct_size));
}

// Element `index` of an array whose elements have the program's size.
template <typename T>
absl::StatusOr<const T*> Element(const T* array, int index,
                                 const std::string& where) {
  ZEROMINI_RETURN_IF_ERROR(CheckOut(where, array));
  const auto* element = reinterpret_cast<const T*>(
      reinterpret_cast<const char*>(array) + index * array->struct_size);
  ZEROMINI_RETURN_IF_ERROR(CheckOut(where, element));
  if (element->struct_size == array->struct_size) return element;
  return absl::InvalidArgumentError(absl::StrCat(
      where, ": ", Sized<T>::kName, ".struct_size is ", element->struct_size,
      ", but that of the first is ", array->struct_size));
}

}  // namespace zeromini::c_api

#endif  // ZEROMINI_RUNTIME_C_C_SIZED_H_
