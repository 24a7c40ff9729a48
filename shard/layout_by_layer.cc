#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "shard/set_layout.h"
#include "shard/stages.h"
#include "shard/units.h"

namespace zeromini {
namespace {

constexpr double kGrowAbovePadding = 0.0025;
// Without layers to compare with, tensors up to 64 MiB are put together.
constexpr int64_t kLooseElements = int64_t{16} << 20;
// A tensor of no layer joins one if it is no more than a quarter of it: a
// larger one would only make the largest bucket, and its buffers, larger.
constexpr int64_t kSmallBesideLayer = 4;
constexpr size_t kLayersPerBucket = 2;

struct Chunk {
  std::vector<int> params;
  std::vector<int> layers;
  int64_t elements = 0;
  int64_t loose = 0;  // Elements of no layer among them.

  void Add(int param, int64_t size) {
    params.push_back(param);
    elements += size;
  }
};

std::vector<Chunk> ChunkByLayer(const ParamSet& set,
                                const PlanOptions& options) {
  std::vector<Chunk> chunks;
  std::map<int, size_t> chunk_of_layer;
  for (int index : set.indices) {
    const PlannedParam& param = set.params[index];
    // A layer set is gathered as one, whatever layers it is of.
    const bool in_set = KeepsWeightShards(options) && param.layer_set >= 0;
    const int layer = in_set ? param.layer_set : param.layer;
    const auto known = chunk_of_layer.find(layer);
    if (layer >= 0 && known != chunk_of_layer.end()) {
      chunks[known->second].Add(index, Elements(param));
      continue;
    }
    if (layer >= 0) chunk_of_layer[layer] = chunks.size();
    chunks.emplace_back();
    chunks.back().Add(index, Elements(param));
    if (layer >= 0) chunks.back().layers = {layer};
    if (layer < 0) chunks.back().loose = Elements(param);
  }
  return chunks;
}

void Merge(const Chunk& from, Chunk* into) {
  into->params.insert(into->params.end(), from.params.begin(),
                      from.params.end());
  std::sort(into->params.begin(), into->params.end());
  for (int layer : from.layers) {
    if (std::find(into->layers.begin(), into->layers.end(), layer) ==
        into->layers.end()) {
      into->layers.push_back(layer);
    }
  }
  into->elements += from.elements;
  into->loose += from.loose;
}

// The chunk that a small one joins: the layer before it, else the layer after
// it, else the small one before it. chunks.size() if none has room.
size_t FindNeighbour(const std::vector<Chunk>& chunks, size_t small,
                     int64_t limit) {
  const auto has_room = [&](size_t i) {
    return chunks[i].loose + chunks[small].elements <= limit;
  };
  for (size_t i = small; i-- > 0;) {
    if (!chunks[i].layers.empty() && has_room(i)) return i;
  }
  for (size_t i = small + 1; i < chunks.size(); ++i) {
    if (chunks[i].layers.empty()) continue;
    if (has_room(i)) return i;
    break;
  }
  const bool before = small > 0 && chunks[small - 1].layers.empty();
  return before && has_room(small - 1) ? small - 1 : chunks.size();
}

std::vector<Chunk> JoinSmall(std::vector<Chunk> chunks,
                             const PlanOptions& options) {
  int64_t limit = 0;
  for (const Chunk& chunk : chunks) {
    if (!chunk.layers.empty()) limit = std::max(limit, chunk.elements);
  }
  limit = limit == 0 ? kLooseElements : limit / kSmallBesideLayer;
  if (options.bucket_bytes > 0) {
    limit = std::min(limit, options.bucket_bytes / SizeOf(DType::kFloat32));
  }
  for (size_t i = 0; i < chunks.size();) {
    if (chunks[i].layers.empty() && chunks[i].elements <= limit) {
      const size_t into = FindNeighbour(chunks, i, limit);
      if (into < chunks.size()) {
        Merge(chunks[i], &chunks[into]);
        chunks.erase(chunks.begin() + static_cast<std::ptrdiff_t>(i));
        continue;
      }
    }
    ++i;
  }
  return chunks;
}

std::vector<Chunk> CutAtBytes(const std::vector<Chunk>& chunks,
                              const ParamSet& set, int64_t bucket_bytes) {
  if (bucket_bytes <= 0) return chunks;
  const int64_t limit = bucket_bytes / SizeOf(DType::kFloat32);
  std::vector<Chunk> result;
  for (const Chunk& chunk : chunks) {
    Chunk piece;
    piece.layers = chunk.layers;
    for (int param : chunk.params) {
      const int64_t size = Elements(set.params[param]);
      if (!piece.params.empty() && piece.elements + size > limit) {
        result.push_back(piece);
        piece.params.clear();
        piece.elements = 0;
      }
      piece.Add(param, size);
    }
    result.push_back(std::move(piece));
  }
  return result;
}

bool MayMerge(const Chunk& a, const Chunk& b, const PlanOptions& options) {
  if (KeepsWeightShards(options) || a.layers.empty() || b.layers.empty())
    return false;
  Chunk both = a;
  Merge(b, &both);
  return both.layers.size() <= kLayersPerBucket;
}

class LayerBuckets {
 public:
  LayerBuckets(const ParamSet& set, const PlanOptions& options,
               LayoutCache& layouts)
      : set_(set), options_(options), layouts_(layouts) {}

  SetLayout Make() {
    const std::vector<Chunk> chunks =
        CutAtBytes(JoinSmall(ChunkByLayer(set_, options_), options_), set_,
                   options_.bucket_bytes);
    for (size_t i = 0; i < chunks.size(); ++i) {
      Chunk chunk = chunks[i];
      while (i + 1 < chunks.size() && Grow(chunks[i + 1], &chunk)) ++i;
      Add(chunk);
    }
    return std::move(result_);
  }

 private:
  const BucketLayout& LayoutOf(const Chunk& chunk) {
    return layouts_.LayoutOf(WholeSlices(chunk.params, set_.params));
  }

  bool Grow(const Chunk& next, Chunk* chunk) {
    const BucketLayout& alone = LayoutOf(*chunk);
    const bool pads =
        !alone.plan.in_place() && alone.PaddingFraction() > kGrowAbovePadding;
    if (alone.splits.empty() && !pads) return false;
    if (!MayMerge(*chunk, next, options_)) return false;
    Chunk both = *chunk;
    Merge(next, &both);
    const BucketLayout& other = LayoutOf(next);
    const BucketLayout& together = LayoutOf(both);
    const size_t splits = alone.splits.size() + other.splits.size();
    const bool fewer = together.splits.size() < splits;
    const bool tighter =
        together.splits.size() == splits &&
        together.plan.segment < alone.plan.segment + other.plan.segment;
    if (!fewer && !tighter) return false;
    *chunk = std::move(both);
    return true;
  }

  void Add(const Chunk& chunk) {
    const BucketLayout& layout = LayoutOf(chunk);
    result_.AddBucket(layout, chunk.params);
    if (!layout.plan.in_place()) {
      for (int param : chunk.params) {
        const int region = result_.AddRegion(Elements(set_.params[param]));
        result_.homes.push_back({param, region, 0});
      }
      return;
    }
    const int region = result_.AddRegion(layout.plan.segment * options_.ranks);
    result_.buckets.back().region = region;
    for (size_t i = 0; i < chunk.params.size(); ++i) {
      result_.homes.push_back({chunk.params[i], region, layout.offsets[i]});
    }
  }

  const ParamSet& set_;
  const PlanOptions& options_;
  LayoutCache& layouts_;
  SetLayout result_;
};

}  // namespace

SetLayout LayOutByLayer(const ParamSet& set, const PlanOptions& options,
                        LayoutCache& layouts) {
  return LayerBuckets(set, options, layouts).Make();
}

}  // namespace zeromini
