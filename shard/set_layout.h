// SetLayout: buckets and regions of parameters that may share them: of one
// dtype, experts or not, and at stage 3 of one layer set.

#ifndef ZEROMINI_SHARD_SET_LAYOUT_H_
#define ZEROMINI_SHARD_SET_LAYOUT_H_

#include <vector>

#include "absl/types/span.h"
#include "shard/bucket_layout.h"
#include "zeromini/plan.h"

namespace zeromini {

struct ParamSet {
  std::vector<int> indices;  // Of parameters, in forward order.
  const std::vector<PlannedParam>& params;
  int layer_set = kNoLayerSet;  // At stage 3, of all of them.

  int64_t elements() const;
};

// Regions are counted from 0. Buckets hold parameters' own indices.
struct SetLayout {
  // Where a parameter lies.
  struct Home {
    int param = 0;
    int region = 0;
    int64_t offset = 0;
  };

  std::vector<BucketPlan> buckets;
  std::vector<RegionPlan> regions;
  std::vector<Home> homes;
  std::vector<SplitBlock> splits;

  // Of that size, all zero but for `elements`.
  int AddRegion(int64_t elements);
  // Appends a bucket of the slices, which `indices` name.
  void AddBucket(const BucketLayout& layout, absl::Span<const int> indices);
  void Append(SetLayout other);
};

// How large buckets shall be, in elements.
struct BucketSizes {
  // What is alike is cut into as many, unless that makes them too small to be
  // worth a collective each.
  int64_t shares = 1;
  int64_t least = 1;
  int64_t most = 1;
  int64_t buffered = 1;  // Of what is packed, whose gradients take a buffer.

  int64_t ElementsFor(int64_t alike) const;
};
BucketSizes SizesOf(const ParamSet& set, const PlanOptions& options);

// By layer: a bucket is one layer, or two where one would split blocks or pad
// more than 0.25 % and two do better, or tensors of it where bucket_bytes is
// exceeded; in place or packed, whichever costs less. Parameters of no layer
// stand alone, or join a neighbouring layer if they are small beside it.
SetLayout LayOutByLayer(const ParamSet& set, const PlanOptions& options,
                        LayoutCache& layouts);

// By unit: tensors whose units divide each other lie in one region, and buckets
// are cut from it in place, through tensors and over layers, of about `sizes`
// or one unit on each rank. Only what cannot lie in place is packed.
SetLayout LayOutByUnit(const ParamSet& set, const PlanOptions& options,
                       const BucketSizes& sizes);

// Packed: tensors as they come, in buckets of about `bucket_elements`; a larger
// tensor is cut at unit edges.
SetLayout LayOutPacked(const ParamSet& set, const PlanOptions& options,
                       int64_t bucket_elements);

// No bucket takes a larger buffer than half of the budget.
bool FitsBuffers(const SetLayout& layout, const PlanOptions& options);

// Of all buckets, as shard/layout_cost.h says, and of the gradients that travel
// after backward has ended, as PlanOptions says: a parameter's share of
// backward is its share of the elements, and a bucket leaves behind the one
// before it.
double CostOf(const SetLayout& layout, const ParamSet& set,
              const PlanOptions& options);

}  // namespace zeromini

#endif  // ZEROMINI_SHARD_SET_LAYOUT_H_
