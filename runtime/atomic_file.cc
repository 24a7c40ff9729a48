#include "runtime/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"

namespace zeromini {
namespace {

constexpr int kAttempts = 1000;

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

absl::StatusOr<std::unique_ptr<AtomicFile>> AtomicFile::Create(
    const std::string& path) {
  std::string beside;
  int fd = -1;
  // A number that is taken belongs to another thread, or to a crash.
  for (int i = 0; i < kAttempts && fd < 0; ++i) {
    beside = absl::StrCat(path, ".partial-", getpid(), "-", i);
    fd = open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 && errno != EEXIST) break;
  }
  if (fd < 0) {
    return absl::PermissionDeniedError(
        absl::StrCat(path, ": cannot be created: ", std::strerror(errno)));
  }
  return absl::WrapUnique(new AtomicFile(path, std::move(beside), fd));
}

AtomicFile::AtomicFile(std::string path, std::string beside, int fd)
    : path_(std::move(path)), beside_(std::move(beside)), fd_(fd) {}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) close(fd_);
  if (!committed_) unlink(beside_.c_str());
}

absl::Status AtomicFile::Failed(const char* what) const {
  return absl::PermissionDeniedError(
      absl::StrCat(path_, ": cannot be ", what, ": ", std::strerror(errno)));
}

absl::Status AtomicFile::Append(const void* data, int64_t bytes) {
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t put = write(fd_, from, bytes);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return Failed("written");
    from += put;
    bytes -= put;
  }
  return absl::OkStatus();
}

absl::Status AtomicFile::Commit() {
  if (fsync(fd_) != 0) return Failed("synced");
  const int fd = std::exchange(fd_, -1);
  if (close(fd) != 0) return Failed("closed");
  if (std::rename(beside_.c_str(), path_.c_str()) != 0) {
    return Failed("renamed into place");
  }
  committed_ = true;
  const int directory =
      open(DirectoryOf(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return Failed("synced in its directory");
  const int synced = fsync(directory);
  close(directory);
  return synced == 0 ? absl::OkStatus() : Failed("synced in its directory");
}

}  // namespace zeromini
