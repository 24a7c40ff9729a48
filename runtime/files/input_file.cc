#include "zeromini/internal/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

absl::Status CannotBeOpened(const std::string& path) {
  const std::string what =
      absl::StrCat(path, ": cannot be opened: ", std::strerror(errno));
  if (errno == EACCES || errno == EPERM) {
    return absl::PermissionDeniedError(what);
  }
  if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
    return absl::ResourceExhaustedError(what);
  }
  return absl::NotFoundError(what);
}

absl::Status CheckKind(const std::string& path, const struct stat& facts) {
  const char* kind = SpecialFileKind(facts.st_mode);
  if (kind == nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": is a ", kind, ", not a regular file"));
}

// What read() or pread() gave, until `bytes` are there or the file ends.
absl::StatusOr<int64_t> ReadUpTo(int fd, int64_t offset, int64_t bytes,
                                 char* out) {
  int64_t done = 0;
  while (done < bytes) {
    const ssize_t got = pread(fd, out + done, bytes - done, offset + done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("cannot be read: ", std::strerror(errno)));
    }
    if (got == 0) break;
    done += got;
  }
  return done;
}

}  // namespace

const char* SpecialFileKind(unsigned mode) {
  if (S_ISREG(mode)) return nullptr;
  if (S_ISDIR(mode)) return "folder";
  if (S_ISFIFO(mode)) return "pipe";
  return S_ISSOCK(mode) ? "socket" : "device";
}

absl::StatusOr<InputFile> InputFile::Open(const std::string& path) {
  struct stat facts;
  // Before opening it: that alone may wait, or rewind a tape.
  if (stat(path.c_str(), &facts) != 0) return CannotBeOpened(path);
  ZEROMINI_RETURN_IF_ERROR(CheckKind(path, facts));
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return CannotBeOpened(path);
  InputFile file(path, fd, 0);
  if (fstat(fd, &facts) != 0) return CannotBeOpened(path);
  ZEROMINI_RETURN_IF_ERROR(CheckKind(path, facts));
  file.size_ = facts.st_size;
  return file;
}

InputFile::InputFile(std::string path, int fd, int64_t size)
    : path_(std::move(path)), fd_(fd), size_(size) {}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      size_(other.size_) {}

InputFile::~InputFile() {
  if (fd_ >= 0) close(fd_);
}

absl::Status InputFile::ReadAt(int64_t offset, int64_t bytes, void* out) const {
  ZEROMINI_ASSIGN_OR_RETURN(
      const int64_t got, ReadUpTo(fd_, offset, bytes, static_cast<char*>(out)));
  if (got == bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("ends ", bytes - got, " bytes too early"));
}

absl::StatusOr<std::string> InputFile::ReadAll(int64_t max_bytes) const {
  if (size_ > max_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        path_, ": has ", size_, " bytes, more than the limit of ", max_bytes));
  }
  // Files of /proc say that they are empty, and others may have grown.
  constexpr int64_t kChunk = 1 << 16;
  std::string text;
  int64_t got = 0;
  do {
    const int64_t begin = static_cast<int64_t>(text.size());
    const int64_t want = std::max(kChunk, size_ - begin + 1);
    text.resize(begin + want);
    const auto read = ReadUpTo(fd_, begin, want, text.data() + begin);
    if (!read.ok()) {
      return absl::Status(read.status().code(),
                          absl::StrCat(path_, ": ", read.status().message()));
    }
    got = *read;
    text.resize(begin + got);
  } while (got > 0 && static_cast<int64_t>(text.size()) <= max_bytes);
  if (static_cast<int64_t>(text.size()) <= max_bytes) return text;
  return absl::InvalidArgumentError(
      absl::StrCat(path_, ": has more bytes than the limit of ", max_bytes));
}

}  // namespace zeromini
