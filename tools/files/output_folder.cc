#include "tools/files/output_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "zeromini/internal/atomic_file.h"
#include "zeromini/internal/file_descriptor.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

namespace fs = std::filesystem;

constexpr char kLockName[] = ".zeromini-lock";

// `error` is an errno.
absl::Status CannotBe(const std::string& path, const char* what, int error) {
  return CannotBeWritten(
      absl::StrCat(path, ": cannot be ", what, ": ", std::strerror(error)),
      error);
}

// A descriptor that holds the lock.
absl::StatusOr<int> Lock(const std::string& folder) {
  const std::string path = OutputFolder::LockPath(folder);
  while (true) {
    const int fd =
        open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0) return CannotBe(path, "created", errno);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      close(fd);
      return absl::FailedPreconditionError(
          absl::StrCat(folder, ": another run is writing to this folder"));
    }
    // Whoever held it may have removed it meanwhile.
    if (IsNamed(fd, path)) return fd;
    close(fd);
  }
}

absl::StatusOr<std::vector<std::string>> NamesIn(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator files(folder, error);
  for (; !error && files != fs::directory_iterator(); files.increment(error)) {
    names.push_back(files->path().filename().string());
  }
  if (error) {
    return CannotBe(folder, "read", error.value());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// What a killed writer of one of our files left beside it.
bool IsLeftover(const std::string& name, const OutputFolderRules& rules) {
  const std::string whole = PathOfPartial(name);
  return !whole.empty() && rules.ours(whole);
}

absl::Status CheckNames(const std::string& folder,
                        const std::vector<std::string>& names,
                        const OutputFolderRules& rules) {
  for (const std::string& name : names) {
    if (name == kLockName || IsLeftover(name, rules)) continue;
    const bool ours = rules.ours(name);
    if (!ours && !rules.others_allowed) {
      return absl::FailedPreconditionError(absl::StrCat(
          folder, ": holds ", name,
          ", which such a run does not write; choose another folder"));
    }
    if (ours && !rules.overwrite) {
      return absl::AlreadyExistsError(absl::StrCat(
          folder, ": holds ", name, " of an earlier run; choose another folder",
          " or say ", rules.overwrite_flag));
    }
  }
  return absl::OkStatus();
}

absl::Status RemoveOld(const std::string& folder,
                       const std::vector<std::string>& names,
                       const OutputFolderRules& rules) {
  for (const std::string& name : names) {
    if (name == kLockName) continue;
    if (!IsLeftover(name, rules) && !rules.ours(name)) continue;
    const std::string path = (fs::path(folder) / name).string();
    if (unlink(path.c_str()) != 0 && errno != ENOENT) {
      return CannotBe(path, "removed", errno);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<OutputFolder> OutputFolder::Claim(
    const std::string& path, const OutputFolderRules& rules) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) return CannotBe(path, "created", error.value());
  if (!fs::is_directory(path, error)) {
    return absl::PermissionDeniedError(
        absl::StrCat(path, ": cannot be created: a file is in its place"));
  }
  ZEROMINI_ASSIGN_OR_RETURN(const int lock, Lock(path));
  OutputFolder folder(path, lock);
  ZEROMINI_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                            NamesIn(path));
  ZEROMINI_RETURN_IF_ERROR(CheckNames(path, names, rules));
  ZEROMINI_RETURN_IF_ERROR(RemoveOld(path, names, rules));
  return folder;
}

std::string OutputFolder::LockPath(const std::string& folder) {
  return (fs::path(folder) / kLockName).string();
}

OutputFolder::OutputFolder(std::string path, int lock)
    : path_(std::move(path)), lock_(lock) {}

OutputFolder::OutputFolder(OutputFolder&& other) noexcept
    : path_(std::move(other.path_)), lock_(std::exchange(other.lock_, -1)) {}

OutputFolder& OutputFolder::operator=(OutputFolder&& other) noexcept {
  if (this == &other) return *this;
  Free();
  path_ = std::move(other.path_);
  lock_ = std::exchange(other.lock_, -1);
  return *this;
}

OutputFolder::~OutputFolder() { Free(); }

absl::Status OutputFolder::CheckInPlace() const {
  if (IsNamed(lock_, LockPath(path_))) return absl::OkStatus();
  return absl::AbortedError(absl::StrCat(
      path_, ": is no longer the folder of this run: it was moved or removed ",
      "while the run wrote to it, or its ", kLockName, " was"));
}

void OutputFolder::Free() {
  if (lock_ < 0) return;
  // In this order: nobody else removes it while it is locked.
  if (CheckInPlace().ok()) unlink(LockPath(path_).c_str());
  close(std::exchange(lock_, -1));
}

}  // namespace zeromini::tools
