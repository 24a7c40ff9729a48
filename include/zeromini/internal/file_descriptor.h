// What all writers of files ask of a descriptor, or of why there is none.

#ifndef ZEROMINI_INTERNAL_FILE_DESCRIPTOR_H_
#define ZEROMINI_INTERNAL_FILE_DESCRIPTOR_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace zeromini {

// False, with errno, if not all could be written. Goes on after a signal.
bool WriteAll(int fd, const void* data, int64_t bytes);

// Whether `path` itself, no link, is the name of the file that `fd` is of.
bool IsNamed(int fd, const std::string& path);

// `text` as ResourceExhausted where the errno `error` is of the machine (a full
// disk, too many files open) and may pass; else as PermissionDenied.
absl::Status CannotBeWritten(const std::string& text, int error);

}  // namespace zeromini

#endif  // ZEROMINI_INTERNAL_FILE_DESCRIPTOR_H_
