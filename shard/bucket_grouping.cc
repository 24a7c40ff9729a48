#include "shard/bucket_grouping.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

namespace zeromini {
namespace {

constexpr double kGrowAbovePadding = 0.0025;
// Without layers to compare with, tensors up to 64 MiB are put together.
constexpr int64_t kLooseElements = int64_t{16} << 20;
// A tensor of no layer joins one if it is no more than a quarter of it: a
// larger one would only make the largest bucket, and its buffers, larger.
constexpr int64_t kSmallBesideLayer = 4;
constexpr int kLayersPerBucket = 2;

int64_t ElementsOf(const PlannedParam& param) {
  return param.rows * param.row_elements;
}

struct Chunk {
  std::vector<int> params;
  // What one bucket cannot mix.
  struct Kind {
    DType dtype = DType::kFloat32;
    bool expert = false;
    bool operator==(const Kind& other) const {
      return dtype == other.dtype && expert == other.expert;
    }
    bool operator<(const Kind& other) const {
      return std::tie(dtype, expert) < std::tie(other.dtype, other.expert);
    }
  };
  Kind kind;
  std::vector<int> keys;  // Layers, or layer sets at stage 3.
  int64_t elements = 0;
  int64_t loose = 0;  // Elements of no layer among them.

  void Add(int param, int64_t size) {
    params.push_back(param);
    elements += size;
  }
};

int KeyOf(const PlannedParam& param, int stage) {
  return stage == 3 && param.layer_set >= 0 ? param.layer_set : param.layer;
}

std::vector<Chunk> ChunkByLayer(const std::vector<PlannedParam>& params,
                                int stage) {
  std::vector<Chunk> chunks;
  std::map<std::pair<int, Chunk::Kind>, size_t> chunk_of_key;
  for (size_t i = 0; i < params.size(); ++i) {
    if (params[i].frozen || params[i].tied_to >= 0) continue;
    const int key = KeyOf(params[i], stage);
    const Chunk::Kind kind = {params[i].dtype, params[i].expert};
    if (key < 0) {
      chunks.emplace_back();
    } else {
      const auto [at, inserted] =
          chunk_of_key.emplace(std::make_pair(key, kind), chunks.size());
      if (!inserted) {
        chunks[at->second].Add(static_cast<int>(i), ElementsOf(params[i]));
        continue;
      }
      chunks.emplace_back();
      chunks.back().keys = {key};
    }
    chunks.back().kind = kind;
    chunks.back().Add(static_cast<int>(i), ElementsOf(params[i]));
    if (key < 0) chunks.back().loose = ElementsOf(params[i]);
  }
  return chunks;
}

void Merge(const Chunk& from, Chunk* into) {
  into->params.insert(into->params.end(), from.params.begin(),
                      from.params.end());
  std::sort(into->params.begin(), into->params.end());
  for (int key : from.keys) {
    if (std::find(into->keys.begin(), into->keys.end(), key) ==
        into->keys.end()) {
      into->keys.push_back(key);
    }
  }
  into->elements += from.elements;
  into->loose += from.loose;
}

// The chunk that a small one joins: the layer before it, else the layer after
// it, else the small one before it. chunks.size() if none has room.
// At stage 3 it never joins a layer, which is gathered and released without it.
size_t FindNeighbour(const std::vector<Chunk>& chunks, size_t small,
                     int64_t limit, int stage) {
  const auto has_room = [&](size_t i) {
    return chunks[i].kind == chunks[small].kind &&
           chunks[i].loose + chunks[small].elements <= limit;
  };
  if (stage == 3) {
    for (size_t i = small; i-- > 0;) {
      if (chunks[i].keys.empty() && has_room(i)) return i;
    }
    return chunks.size();
  }
  for (size_t i = small; i-- > 0;) {
    if (!chunks[i].keys.empty() && has_room(i)) return i;
  }
  for (size_t i = small + 1; i < chunks.size(); ++i) {
    if (chunks[i].keys.empty() || !(chunks[i].kind == chunks[small].kind)) {
      continue;
    }
    if (has_room(i)) return i;
    break;
  }
  const bool before = small > 0 && chunks[small - 1].keys.empty();
  return before && has_room(small - 1) ? small - 1 : chunks.size();
}

std::vector<Chunk> JoinSmall(std::vector<Chunk> chunks,
                             const PlanOptions& options) {
  int64_t limit = 0;
  for (const Chunk& chunk : chunks) {
    if (!chunk.keys.empty()) limit = std::max(limit, chunk.elements);
  }
  limit = limit == 0 ? kLooseElements : limit / kSmallBesideLayer;
  if (options.bucket_bytes > 0) {
    limit = std::min(limit, options.bucket_bytes / SizeOf(DType::kFloat32));
  }
  for (size_t i = 0; i < chunks.size();) {
    if (chunks[i].keys.empty() && chunks[i].elements <= limit) {
      const size_t into = FindNeighbour(chunks, i, limit, options.stage);
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
                              const std::vector<PlannedParam>& params,
                              int64_t bucket_bytes) {
  if (bucket_bytes <= 0) return chunks;
  const int64_t limit = bucket_bytes / SizeOf(DType::kFloat32);
  std::vector<Chunk> result;
  for (const Chunk& chunk : chunks) {
    Chunk piece;
    piece.keys = chunk.keys;
    piece.kind = chunk.kind;
    for (int param : chunk.params) {
      const int64_t size = ElementsOf(params[param]);
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

std::vector<const PlannedParam*> Pointers(
    const std::vector<int>& indices, const std::vector<PlannedParam>& params) {
  std::vector<const PlannedParam*> pointers;
  for (int index : indices) pointers.push_back(&params[index]);
  return pointers;
}

bool MayMerge(const Chunk& a, const Chunk& b, int stage) {
  if (a.keys.empty() || b.keys.empty() || !(a.kind == b.kind)) return false;
  Chunk both = a;
  Merge(b, &both);
  return static_cast<int>(both.keys.size()) <=
         (stage == 3 ? 1 : kLayersPerBucket);
}

}  // namespace

std::vector<std::vector<int>> GroupIntoBuckets(
    const std::vector<PlannedParam>& params, const PlanOptions& options,
    LayoutCache& layouts) {
  const std::vector<Chunk> chunks =
      CutAtBytes(JoinSmall(ChunkByLayer(params, options.stage), options),
                 params, options.bucket_bytes);
  const auto layout_of = [&](const Chunk& chunk) -> const BucketLayout& {
    return layouts.LayoutOf(Pointers(chunk.params, params));
  };
  std::vector<std::vector<int>> buckets;
  for (size_t i = 0; i < chunks.size(); ++i) {
    Chunk chunk = chunks[i];
    while (i + 1 < chunks.size()) {
      const BucketLayout& alone = layout_of(chunk);
      const bool pads =
          !alone.plan.in_place && alone.PaddingFraction() > kGrowAbovePadding;
      if (alone.splits.empty() && !pads) break;
      const Chunk& next = chunks[i + 1];
      if (!MayMerge(chunk, next, options.stage)) break;
      Chunk both = chunk;
      Merge(next, &both);
      const BucketLayout& other = layout_of(next);
      const BucketLayout& together = layout_of(both);
      const size_t splits = alone.splits.size() + other.splits.size();
      const bool fewer = together.splits.size() < splits;
      const bool tighter =
          together.splits.size() == splits &&
          together.plan.segment < alone.plan.segment + other.plan.segment;
      if (!fewer && !tighter) break;
      chunk = std::move(both);
      ++i;
    }
    buckets.push_back(std::move(chunk.params));
  }
  // Joining may have put an early parameter into a later layer's bucket.
  std::sort(buckets.begin(), buckets.end());
  return buckets;
}

}  // namespace zeromini
