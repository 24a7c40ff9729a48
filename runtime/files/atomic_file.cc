#include "zeromini/internal/atomic_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "zeromini/internal/file_descriptor.h"
#include "zeromini/internal/input_file.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

constexpr int kAttempts = 1000;
constexpr char kInfix[] = ".partial-";

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::Status CannotBeCreated(const std::string& path) {
  const int error = errno;
  return CannotBeWritten(
      absl::StrCat(path, ": cannot be created: ", std::strerror(error)), error);
}

// Renaming onto a link would replace the link, and onto a device the device.
absl::StatusOr<std::string> TargetOf(const std::string& path) {
  struct stat facts;
  if (stat(path.c_str(), &facts) != 0) {
    // A link to nothing is replaced; a loop of links is a mistake.
    if (errno == ELOOP) return CannotBeCreated(path);
    return path;
  }
  if (const char* kind = SpecialFileKind(facts.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": cannot be created: a ", kind, " is in its place"));
  }
  if (lstat(path.c_str(), &facts) != 0 || !S_ISLNK(facts.st_mode)) return path;
  const std::unique_ptr<char, decltype(&std::free)> resolved(
      realpath(path.c_str(), nullptr), &std::free);
  return resolved == nullptr ? path : std::string(resolved.get());
}

// For writing if it may be: over NFS that is what an exclusive lock needs.
int OpenToLock(const std::string& path) {
  constexpr int kFlags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  const int fd = open(path.c_str(), O_RDWR | kFlags);
  return fd >= 0 ? fd : open(path.c_str(), O_RDONLY | kFlags);
}

// Its writer holds a lock while it lives. Where locks do not work, it stays.
void RemoveIfAbandoned(const std::string& beside) {
  const int fd = OpenToLock(beside);
  if (fd < 0) return;
  // The name may be another writer's by now.
  if (flock(fd, LOCK_EX | LOCK_NB) == 0 && IsNamed(fd, beside)) {
    unlink(beside.c_str());
  }
  close(fd);
}

// -1 if the file is there, or was removed before it was locked.
int CreateLocked(const std::string& beside) {
  const int fd =
      open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) return -1;
  const bool taken = flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  struct stat facts;
  if (!taken && fstat(fd, &facts) == 0 && facts.st_nlink > 0) return fd;
  close(fd);
  errno = EEXIST;
  return -1;
}

}  // namespace

absl::StatusOr<std::unique_ptr<AtomicFile>> AtomicFile::Create(
    const std::string& path) {
  ZEROMINI_ASSIGN_OR_RETURN(std::string target, TargetOf(path));
  std::string beside;
  int fd = -1;
  for (int i = 0; i < kAttempts && fd < 0; ++i) {
    beside = absl::StrCat(target, kInfix, i);
    RemoveIfAbandoned(beside);
    fd = CreateLocked(beside);
    if (fd < 0 && errno != EEXIST) break;
  }
  if (fd < 0) return CannotBeCreated(path);
  return absl::WrapUnique(
      new AtomicFile(path, std::move(target), std::move(beside), fd));
}

AtomicFile::AtomicFile(std::string path, std::string target, std::string beside,
                       int fd)
    : path_(std::move(path)),
      target_(std::move(target)),
      beside_(std::move(beside)),
      fd_(fd) {}

AtomicFile::~AtomicFile() {
  // In this order: while it is locked, nobody else removes or makes one.
  if (!committed_) unlink(beside_.c_str());
  if (fd_ >= 0) close(fd_);
}

absl::Status AtomicFile::Failed(const char* what) const {
  return absl::ErrnoToStatus(errno, absl::StrCat(path_, ": cannot be ", what));
}

absl::Status AtomicFile::Append(const void* data, int64_t bytes) {
  return WriteAll(fd_, data, bytes) ? absl::OkStatus() : Failed("written");
}

absl::Status AtomicFile::Commit() {
  struct stat old;
  if (stat(target_.c_str(), &old) == 0 &&
      fchmod(fd_, old.st_mode & 07777) != 0) {
    return Failed("given its permissions");
  }
  if (fsync(fd_) != 0) return Failed("synced");
  if (std::rename(beside_.c_str(), target_.c_str()) != 0) {
    return Failed("renamed into place");
  }
  committed_ = true;
  const int fd = std::exchange(fd_, -1);
  if (close(fd) != 0) return Failed("closed");
  const int directory =
      open(DirectoryOf(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return Failed("synced in its directory");
  const int synced = fsync(directory);
  close(directory);
  return synced == 0 ? absl::OkStatus() : Failed("synced in its directory");
}

std::string PathOfPartial(const std::string& beside) {
  const size_t at = beside.rfind(kInfix);
  if (at == std::string::npos) return "";
  const std::string number = beside.substr(at + sizeof(kInfix) - 1);
  const bool ours =
      !number.empty() &&
      std::all_of(number.begin(), number.end(),
                  [](unsigned char c) { return absl::ascii_isdigit(c); });
  return ours ? beside.substr(0, at) : "";
}

}  // namespace zeromini
