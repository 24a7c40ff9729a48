#include "tools/files/apart.h"

#include <sys/stat.h>

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

namespace fs = std::filesystem;

// Equal for two names of one file; empty for what may be shared.
std::string IdentityOf(const std::string& path) {
  struct stat facts;
  if (path.empty()) return "";
  if (stat(path.c_str(), &facts) == 0) {
    if (!S_ISREG(facts.st_mode)) return "";
    return absl::StrCat(facts.st_dev, ":", facts.st_ino);
  }
  std::error_code error;
  const fs::path absolute = fs::absolute(path, error);
  if (error) return path;
  const fs::path resolved = fs::weakly_canonical(absolute, error);
  return (error ? absolute : resolved).string();
}

absl::Status CheckDiffer(const FlagFile& output, const FlagFile& other,
                         const char* use) {
  const std::string identity = IdentityOf(output.path);
  if (identity.empty() || identity != IdentityOf(other.path)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      output.flag, " ", output.path, ": is the file that ", other.flag, " ",
      use, ", ", other.path, "; give each a file of its own"));
}

}  // namespace

std::vector<FlagFile> FilesIn(const std::string& flag,
                              const std::string& folder) {
  std::vector<FlagFile> files;
  std::error_code error;
  fs::directory_iterator each(folder, error);
  for (; !error && each != fs::directory_iterator(); each.increment(error)) {
    files.push_back({flag, each->path().string()});
  }
  return files;
}

absl::Status CheckApart(const std::vector<FlagFile>& inputs,
                        const std::vector<FlagFile>& outputs) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    for (const FlagFile& input : inputs) {
      ZEROMINI_RETURN_IF_ERROR(CheckDiffer(outputs[i], input, "reads"));
    }
    for (size_t j = 0; j < i; ++j) {
      ZEROMINI_RETURN_IF_ERROR(CheckDiffer(outputs[i], outputs[j], "writes"));
    }
  }
  return absl::OkStatus();
}

}  // namespace zeromini::tools
