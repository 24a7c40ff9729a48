// Text files, read and written: the one way that the programs do either.
//
// Messages begin with the path as it was given; what prints them makes them fit
// for a terminal (terminal.h).

#ifndef ZEROMINI_TOOLS_FILES_TEXT_FILE_H_
#define ZEROMINI_TOOLS_FILES_TEXT_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace zeromini::tools {

// Of a text that is read whole: a config, a record of a run, a list of metrics.
inline constexpr int64_t kTextLimit = int64_t{1} << 30;

// Regular files only, at most `max_bytes`; see InputFile for the errors.
absl::StatusOr<std::string> ReadTextFile(const std::string& path,
                                         int64_t max_bytes = kTextLimit);

// By the first bytes of a file (six are enough).
enum class Compression { kNone, kGzip, kXz, kZstd, kBzip2, kZip };
Compression CompressionOf(absl::string_view bytes);
const char* CompressionName(Compression compression);  // "xz".

// `path`, or config.json in it if it is a folder that holds one.
// InvalidArgument for another folder.
absl::StatusOr<std::string> ConfigPath(const std::string& path);

// In one piece: a full disk or a crash leaves the old file. PermissionDenied,
// InvalidArgument or ResourceExhausted, naming the path. A device and a pipe
// are written to as they are; what stdout or stderr goes to, behind what was
// printed there.
absl::Status WriteTextFile(const std::string& path, absl::string_view text);

// OK if WriteTextFile() could begin now, or if `path` is empty. Asked before
// work begins, so that a wrong path is found then. Leaves no trace.
absl::Status CheckWritable(const std::string& path);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_FILES_TEXT_FILE_H_
