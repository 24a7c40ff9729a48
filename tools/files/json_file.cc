#include "tools/files/json_file.h"

#include "absl/strings/str_cat.h"
#include "zeromini/internal/json_text.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {

absl::StatusOr<nlohmann::json> ParseJsonObject(absl::string_view text,
                                               const std::string& where) {
  const absl::Status good = CheckJson(text);
  if (!good.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": is not a JSON object: ", good.message()));
  }
  nlohmann::json json = nlohmann::json::parse(text.begin(), text.end(), nullptr,
                                              /*allow_exceptions=*/false);
  if (json.is_object()) return json;
  return absl::InvalidArgumentError(
      absl::StrCat(where, ": is not a JSON object but a ", json.type_name()));
}

absl::StatusOr<nlohmann::json> ReadJsonObject(const std::string& path,
                                              int64_t max_bytes) {
  ZEROMINI_ASSIGN_OR_RETURN(const std::string text,
                            ReadTextFile(path, max_bytes));
  return ParseJsonObject(text, path);
}

}  // namespace zeromini::tools
