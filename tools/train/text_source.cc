#include "tools/train/text_source.h"

#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "tools/files/text_file.h"
#include "zeromini/internal/input_file.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

class MemoryText : public TextSource {
 public:
  explicit MemoryText(std::string bytes) : bytes_(std::move(bytes)) {}

  int64_t size() const override { return static_cast<int64_t>(bytes_.size()); }

  absl::Status ReadAt(int64_t offset, int64_t count, char* out) const override {
    std::memcpy(out, bytes_.data() + offset, static_cast<size_t>(count));
    return absl::OkStatus();
  }

 private:
  const std::string bytes_;
};

// Read, not mapped: a mapping needs address space, which may be limited, and
// turns a failing disk or a file that was cut into a signal.
class FileText : public TextSource {
 public:
  explicit FileText(InputFile file) : file_(std::move(file)) {}

  int64_t size() const override { return file_.size(); }

  absl::Status ReadAt(int64_t offset, int64_t count, char* out) const override {
    const absl::Status read = file_.ReadAt(offset, count, out);
    if (read.ok()) return read;
    return absl::DataLossError(absl::StrCat(file_.path(), ": of ", size(),
                                            " bytes, at ", offset, ": ",
                                            read.message()));
  }

 private:
  const InputFile file_;
};

absl::Status TooLarge(const std::string& path, int64_t largest) {
  return absl::InvalidArgumentError(absl::StrCat(
      path, ": unpacks to more than the ", largest,
      " bytes that a .gz may: unpack it, and give the file, which then is read "
      "where it lies"));
}

// zlib begins with a name of its own for the file, "<fd:3>: ".
absl::string_view WithoutFile(absl::string_view problem) {
  const size_t end = problem.find(">: ");
  return absl::StartsWith(problem, "<fd:") && end != problem.npos
             ? problem.substr(end + 3)
             : problem;
}

absl::StatusOr<std::string> Unpack(gzFile file, const std::string& path,
                                   int64_t largest) {
  std::string bytes;
  std::vector<char> chunk(1 << 16);
  int got = 0;
  while ((got = gzread(file, chunk.data(),
                       static_cast<unsigned>(chunk.size()))) > 0) {
    if (static_cast<int64_t>(bytes.size()) + got > largest) {
      return TooLarge(path, largest);
    }
    bytes.append(chunk.data(), got);
  }
  int code = Z_OK;
  const char* problem = gzerror(file, &code);
  if (code == Z_ERRNO) {
    return absl::DataLossError(
        absl::StrCat(path, ": cannot be read: ", std::strerror(errno)));
  }
  if (got < 0 || code != Z_OK) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": is damaged: ", WithoutFile(problem)));
  }
  return bytes;
}

absl::StatusOr<std::unique_ptr<TextSource>> OpenGzip(const InputFile& packed,
                                                     int64_t largest) {
  const std::string& path = packed.path();
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(
      gzdopen(dup(packed.descriptor()), "rb"), gzclose);
  if (!file) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path, ": cannot be unpacked: out of memory"));
  }
  try {
    ZEROMINI_ASSIGN_OR_RETURN(std::string bytes,
                              Unpack(file.get(), path, largest));
    return TextSource::FromBytes(std::move(bytes));
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrCat(
        path,
        ": there is no memory to unpack it: unpack it to a file, which "
        "needs none"));
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<TextSource>> TextSource::Open(
    const std::string& path, int64_t largest_unpacked) {
  ZEROMINI_ASSIGN_OR_RETURN(InputFile file, InputFile::Open(path));
  std::string head(std::min<int64_t>(6, file.size()), 0);
  ZEROMINI_RETURN_IF_ERROR(
      file.ReadAt(0, static_cast<int64_t>(head.size()), head.data()));
  const Compression packed = CompressionOf(head);
  if (packed == Compression::kGzip) return OpenGzip(file, largest_unpacked);
  if (packed == Compression::kNone) {
    return std::make_unique<FileText>(std::move(file));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": is packed with ", CompressionName(packed),
                   ", of which only gzip is read: unpack it first"));
}

std::unique_ptr<TextSource> TextSource::FromBytes(std::string bytes) {
  return std::make_unique<MemoryText>(std::move(bytes));
}

absl::StatusOr<uint64_t> HashOf(const TextSource& source) {
  std::vector<uint64_t> words(1 << 17);
  const int64_t chunk = static_cast<int64_t>(words.size() * sizeof(uint64_t));
  uint64_t hash = static_cast<uint64_t>(source.size());
  for (int64_t at = 0; at < source.size(); at += chunk) {
    const int64_t count = std::min(chunk, source.size() - at);
    words[(count - 1) / 8] = 0;  // What the last bytes fill in part.
    ZEROMINI_RETURN_IF_ERROR(
        source.ReadAt(at, count, reinterpret_cast<char*>(words.data())));
    for (int64_t i = 0; i < (count + 7) / 8; ++i) {
      hash = (hash ^ words[i]) * 0x9e3779b97f4a7c15u;
      hash ^= hash >> 32;
    }
  }
  return hash;
}

}  // namespace zeromini::tools
