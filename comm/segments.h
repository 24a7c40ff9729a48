// Segments: how the elements of an exchange are dealt to the ranks, and in
// which chunks they travel. Depends on what all ranks agree on only.

#ifndef ZEROMINI_COMM_SEGMENTS_H_
#define ZEROMINI_COMM_SEGMENTS_H_

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace zeromini {

class Segments {
 public:
  // `size` segments of `length` elements of a whole of `total`; the last ones
  // may be short or empty.
  static Segments Equal(int size, int64_t length, int64_t total) {
    std::vector<int64_t> begins;
    for (int r = 0; r <= size; ++r) {
      begins.push_back(std::min(total, r * length));
    }
    return Segments(std::move(begins));
  }

  // All of it belongs to one rank.
  static Segments Whole(int size, int owner, int64_t total) {
    std::vector<int64_t> begins;
    for (int r = 0; r <= size; ++r) begins.push_back(r > owner ? total : 0);
    return Segments(std::move(begins));
  }

  // Cuts every segment into chunks of at most `elements`, one a step.
  void SetChunk(int64_t elements) {
    chunk_ = elements;
    int64_t longest = 0;
    for (int r = 0; r < size(); ++r) {
      longest = std::max(longest, begin(r + 1) - begin(r));
    }
    steps_ = (longest + chunk_ - 1) / chunk_;
  }

  int size() const { return static_cast<int>(begins_.size()) - 1; }
  int64_t begin(int rank) const { return begins_[rank]; }
  int64_t chunk() const { return chunk_; }
  int64_t steps() const { return steps_; }

  // Chunk `step` of a rank's segment: where it begins in the whole, and how
  // long it is, maybe 0.
  int64_t ChunkBegin(int rank, int64_t step) const {
    return std::min(begin(rank + 1), begin(rank) + step * chunk_);
  }
  int64_t ChunkLength(int rank, int64_t step) const {
    return ChunkBegin(rank, step + 1) - ChunkBegin(rank, step);
  }

 private:
  explicit Segments(std::vector<int64_t> begins) : begins_(std::move(begins)) {}

  std::vector<int64_t> begins_;  // By rank, and the end.
  int64_t chunk_ = 1;
  int64_t steps_ = 0;
};

}  // namespace zeromini

#endif  // ZEROMINI_COMM_SEGMENTS_H_
