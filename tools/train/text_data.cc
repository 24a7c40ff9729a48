#include "tools/train/text_data.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

// splitmix64's finaliser.
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// whole * part / parts, of any `whole`, for what is below 2^31.
int64_t Share(int64_t whole, int64_t part, int64_t parts) {
  return whole / parts * part + whole % parts * part / parts;
}

}  // namespace

absl::StatusOr<TextData> TextData::Load(const std::string& path,
                                        int64_t length) {
  ZEROMINI_ASSIGN_OR_RETURN(std::unique_ptr<TextSource> source,
                            TextSource::Open(path));
  return Make(std::move(source), length, path);
}

absl::StatusOr<TextData> TextData::FromBytes(std::string bytes, int64_t length,
                                             const std::string& path) {
  return Make(TextSource::FromBytes(std::move(bytes)), length, path);
}

absl::StatusOr<TextData> TextData::Make(std::unique_ptr<TextSource> source,
                                        int64_t length,
                                        const std::string& path) {
  const int64_t size = source->size();
  const int64_t split = size - size / 20;
  if (size - split < length + 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": ", size, " bytes leave ", size - split,
        " for validation (5 %), fewer than one sequence of ", length + 1));
  }
  ZEROMINI_ASSIGN_OR_RETURN(const uint64_t hash, HashOf(*source));
  return TextData(std::move(source), split, hash);
}

absl::Status TextData::Append(int64_t offset, int64_t tokens,
                              std::vector<int64_t>& out) const {
  std::string bytes(tokens, 0);
  ZEROMINI_RETURN_IF_ERROR(source_->ReadAt(offset, tokens, bytes.data()));
  for (char byte : bytes) out.push_back(static_cast<unsigned char>(byte));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int64_t>> TextData::Training(
    const SampleRequest& request) const {
  std::vector<int64_t> tokens;
  tokens.reserve(request.count * (request.length + 1));
  const uint64_t places = static_cast<uint64_t>(split_ - request.length);
  for (int64_t i = 0; i < request.count; ++i) {
    const uint64_t key =
        Mix(Mix(Mix(request.seed) ^ static_cast<uint64_t>(request.step)) ^
            static_cast<uint64_t>(request.first + i));
    ZEROMINI_RETURN_IF_ERROR(
        Append(static_cast<int64_t>(key % places), request.length + 1, tokens));
  }
  return tokens;
}

absl::StatusOr<std::vector<int64_t>> TextData::Validation(
    int64_t first, int64_t count, int64_t total, int64_t length) const {
  std::vector<int64_t> tokens;
  tokens.reserve(count * (length + 1));
  const int64_t places = validation_tokens() - length;
  for (int64_t i = first; i < first + count; ++i) {
    ZEROMINI_RETURN_IF_ERROR(
        Append(split_ + Share(places - 1, i, total > 1 ? total - 1 : 1),
               length + 1, tokens));
  }
  return tokens;
}

}  // namespace zeromini::tools
