// JSON files: read strictly, written whatever they hold.

#ifndef ZEROMINI_TOOLS_FILES_JSON_FILE_H_
#define ZEROMINI_TOOLS_FILES_JSON_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"
#include "tools/files/text_file.h"

namespace zeromini::tools {

// Of a config or a record: far above any, far below memory.
inline constexpr int64_t kJsonLimit = int64_t{64} << 20;

// The object that is all of `text`. InvalidArgument, "`where`: ...", for
// anything else, and for all that CheckJson() refuses (json_text.h): garbage
// after it, a NUL, a byte-order mark, deep nesting, a key listed twice.
absl::StatusOr<nlohmann::json> ParseJsonObject(absl::string_view text,
                                               const std::string& where);

// The same of a file; also InputFile's errors.
absl::StatusOr<nlohmann::json> ReadJsonObject(const std::string& path,
                                              int64_t max_bytes = kJsonLimit);

// A text of `json` in every case: bytes that are not UTF-8 become U+FFFD, what
// is not finite becomes null. -1: on one line.
template <typename Json>
std::string JsonText(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

// In one piece, with a line end; nothing for an empty path.
template <typename Json>
absl::Status WriteJson(const std::string& path, const Json& json,
                       int indent = 2) {
  if (path.empty()) return absl::OkStatus();
  return WriteTextFile(path, JsonText(json, indent) + "\n");
}

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_FILES_JSON_FILE_H_
