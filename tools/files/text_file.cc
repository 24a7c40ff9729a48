#include "tools/files/text_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "zeromini/internal/atomic_file.h"
#include "zeromini/internal/file_descriptor.h"
#include "zeromini/internal/input_file.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

struct Magic {
  absl::string_view bytes;
  Compression compression;
  const char* name;
};
constexpr Magic kMagics[] = {{"\x1f\x8b", Compression::kGzip, "gzip"},
                             {"\xfd"
                              "7zXZ",
                              Compression::kXz, "xz"},
                             {"\x28\xb5\x2f\xfd", Compression::kZstd, "zstd"},
                             {"BZh", Compression::kBzip2, "bzip2"},
                             {"PK\x03\x04", Compression::kZip, "zip"}};

absl::Status Failed(const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot be written"));
}

// What cannot be replaced by a rename, or must not be.
bool IsWrittenInPlace(const struct stat& facts) {
  return !S_ISREG(facts.st_mode) && !S_ISDIR(facts.st_mode);
}

// Opens without waiting for a pipe's reader.
absl::StatusOr<int> OpenInPlace(const std::string& path) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const int error = errno;
    return CannotBeWritten(
        absl::StrCat(path, ": cannot be opened: ", std::strerror(error)),
        error);
  }
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
  return fd;
}

// stdout or stderr if that is what `facts` are of, else null. A descriptor of
// its own would have an offset of its own: each would overwrite the other.
std::FILE* StreamTo(const struct stat& facts) {
  for (std::FILE* stream : {stdout, stderr}) {
    const int fd = fileno(stream);
    struct stat open;
    if (fstat(fd, &open) == 0 && open.st_dev == facts.st_dev &&
        open.st_ino == facts.st_ino &&
        (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY) {
      return stream;
    }
  }
  return nullptr;
}

absl::Status WriteTo(int fd, const std::string& path, absl::string_view text) {
  const bool written =
      WriteAll(fd, text.data(), static_cast<int64_t>(text.size()));
  return written ? absl::OkStatus() : Failed(path);
}

absl::Status WriteInPlace(const std::string& path, absl::string_view text) {
  ZEROMINI_ASSIGN_OR_RETURN(const int fd, OpenInPlace(path));
  absl::Status status = WriteTo(fd, path, text);
  if (close(fd) != 0 && status.ok()) status = Failed(path);
  return status;
}

}  // namespace

absl::StatusOr<std::string> ReadTextFile(const std::string& path,
                                         int64_t max_bytes) {
  ZEROMINI_ASSIGN_OR_RETURN(const InputFile file, InputFile::Open(path));
  return file.ReadAll(max_bytes);
}

Compression CompressionOf(absl::string_view bytes) {
  for (const Magic& magic : kMagics) {
    if (absl::StartsWith(bytes, magic.bytes)) return magic.compression;
  }
  return Compression::kNone;
}

const char* CompressionName(Compression compression) {
  for (const Magic& magic : kMagics) {
    if (magic.compression == compression) return magic.name;
  }
  return "none";
}

absl::StatusOr<std::string> ConfigPath(const std::string& path) {
  struct stat facts;
  if (stat(path.c_str(), &facts) != 0 || !S_ISDIR(facts.st_mode)) return path;
  const std::string inside =
      absl::StrCat(path, absl::EndsWith(path, "/") ? "" : "/", "config.json");
  if (stat(inside.c_str(), &facts) == 0) return inside;
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": is a folder without a config.json"));
}

absl::Status WriteTextFile(const std::string& path, absl::string_view text) {
  struct stat facts;
  if (stat(path.c_str(), &facts) == 0) {
    if (std::FILE* stream = StreamTo(facts)) {
      // What was printed before stands before.
      if (std::fflush(stream) != 0) return Failed(path);
      return WriteTo(fileno(stream), path, text);
    }
    if (IsWrittenInPlace(facts)) return WriteInPlace(path, text);
  }
  ZEROMINI_ASSIGN_OR_RETURN(const auto file, AtomicFile::Create(path));
  ZEROMINI_RETURN_IF_ERROR(
      file->Append(text.data(), static_cast<int64_t>(text.size())));
  return file->Commit();
}

absl::Status CheckWritable(const std::string& path) {
  struct stat facts;
  if (path.empty()) return absl::OkStatus();
  if (stat(path.c_str(), &facts) == 0) {
    if (StreamTo(facts) != nullptr) return absl::OkStatus();
    if (IsWrittenInPlace(facts)) {
      ZEROMINI_ASSIGN_OR_RETURN(const int fd, OpenInPlace(path));
      close(fd);
      return absl::OkStatus();
    }
  }
  return AtomicFile::Create(path).status();
}

}  // namespace zeromini::tools
