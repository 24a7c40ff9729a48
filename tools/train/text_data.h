// TextData: a text file as byte tokens, split into training and validation, and
// sampled so that the global batch does not depend on the number of ranks.

#ifndef ZEROMINI_TOOLS_TRAIN_TEXT_DATA_H_
#define ZEROMINI_TOOLS_TRAIN_TEXT_DATA_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/train/text_source.h"

namespace zeromini::tools {

inline constexpr int64_t kByteTokens = 256;

// Consecutive sequences of one step's global batch.
struct SampleRequest {
  uint64_t seed = 0;
  int64_t step = 0;
  int64_t first = 0;   // Index in the global batch.
  int64_t count = 0;   // Sequences.
  int64_t length = 0;  // Tokens to predict; a sequence has length + 1.
};

class TextData {
 public:
  // Plain or gzip, and read once for hash(). The last 5 % is for validation.
  // The errors of TextSource::Open(), and InvalidArgument (each part must hold
  // length + 1 tokens), name the file.
  static absl::StatusOr<TextData> Load(const std::string& path, int64_t length);

  // Takes the bytes as given; the same split.
  static absl::StatusOr<TextData> FromBytes(std::string bytes, int64_t length,
                                            const std::string& path);

  // [count, length + 1] tokens. A sequence's place depends on seed, step and
  // its index alone. DataLoss if the file cannot be read any more.
  absl::StatusOr<std::vector<int64_t>> Training(
      const SampleRequest& request) const;

  // Sequences first, first+1, ... of `total` spread evenly over the validation
  // part: the same ones at every evaluation. [count, length + 1].
  absl::StatusOr<std::vector<int64_t>> Validation(int64_t first, int64_t count,
                                                  int64_t total,
                                                  int64_t length) const;

  int64_t training_tokens() const { return split_; }
  int64_t validation_tokens() const { return source_->size() - split_; }
  uint64_t hash() const { return hash_; }  // HashOf() the text.

 private:
  TextData(std::unique_ptr<TextSource> source, int64_t split, uint64_t hash)
      : source_(std::move(source)), split_(split), hash_(hash) {}

  static absl::StatusOr<TextData> Make(std::unique_ptr<TextSource> source,
                                       int64_t length, const std::string& path);

  absl::Status Append(int64_t offset, int64_t tokens,
                      std::vector<int64_t>& out) const;

  std::unique_ptr<TextSource> source_;
  int64_t split_;
  uint64_t hash_;
};

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TRAIN_TEXT_DATA_H_
