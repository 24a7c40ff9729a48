// Bucket layout: which rank owns which rows of one bucket, in place or packed.

#ifndef ZEROMINI_SHARD_BUCKET_LAYOUT_H_
#define ZEROMINI_SHARD_BUCKET_LAYOUT_H_

#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "shard/stretch.h"
#include "zeromini/plan.h"

namespace zeromini {

// A bucket's layout, with positions among the slices for parameters. In place,
// it is a region of its own.
struct BucketLayout {
  BucketPlan plan;
  std::vector<int64_t> offsets;  // In place: of each slice in the region.
  std::vector<SplitBlock> splits;

  double PaddingFraction() const;
};

// What is common to all forms: parts and elements.
BucketPlan StartBucket(absl::Span<const Slice> slices);

// Appends the run to those of its rank. Its elements must be plain.
void AddPlainRun(int rank, const Slice& rows, int position, int64_t offset,
                 BucketPlan* plan);

// The blocks that runs do not have whole, by parameter and block.
std::vector<SplitBlock> SplitsOf(absl::Span<const Slice> slices,
                                 const BucketPlan& plan);

// Contiguous cuts at multiples of the segment, all on unit edges, in the
// smallest of the segments tried up to `largest_segment`. Nothing if none fits.
// The slices are whole parameters.
struct InPlaceCuts {
  int64_t segment = 0;
  std::vector<int64_t> param_offset;
};
std::optional<InPlaceCuts> CutInPlace(absl::Span<const Slice> slices,
                                      const std::vector<Stretch>& stretches,
                                      int ranks, int64_t largest_segment);

// Rows of a stretch that one rank owns.
struct PackedPiece {
  int param = 0;
  int64_t first_row = 0;
  int64_t rows = 0;
};
struct Packing {
  int64_t segment = 0;
  std::vector<std::vector<PackedPiece>> pieces;  // Per rank, by param and row.
};
// Units assigned freely. Always succeeds; a rank may own nothing.
Packing PackUnits(const std::vector<Stretch>& stretches, int ranks);

// Packed, whatever the slices are.
BucketLayout PackBucket(absl::Span<const Slice> slices,
                        const PlanOptions& options);

// Remembers layouts by all that StartBucket() and the layout read of the
// slices, since the layers of a model are alike.
class LayoutCache {
 public:
  explicit LayoutCache(const PlanOptions& options) : options_(options) {}

  // Of whole parameters: in place or packed, whichever costs less. The
  // reference lives as long as the cache.
  const BucketLayout& LayoutOf(absl::Span<const Slice> slices);

 private:
  PlanOptions options_;
  std::map<std::vector<int64_t>, BucketLayout> layouts_;
};

}  // namespace zeromini

#endif  // ZEROMINI_SHARD_BUCKET_LAYOUT_H_
