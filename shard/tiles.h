// How runs whose weights or state are stored in fewer bits are cut to be
// updated: the size of a tile, and of the scratch that tiles share.

#ifndef ZEROMINI_SHARD_TILES_H_
#define ZEROMINI_SHARD_TILES_H_

#include <cstdint>

#include "zeromini/options.h"
#include "zeromini/plan.h"

namespace zeromini {

// Three arrays of a tile, its gradient and its packed forms stay within half of
// a second-level cache of 256 KiB.
inline constexpr int64_t kTileElements = 8192;

// The run is one unit to its method, which has no use for some of its rows: a
// matrix as one, or a projection that is kept or sent.
bool IsOneTile(const PlannedParam& param, const Run& run);

// Elements of the largest tile of any rank, so that all have the same scratch;
// 0 if all shards are plain.
int64_t LargestTile(const Plan& plan, const OptimizerOptions& options);

// Of the scratch: weights, momentum and second moments of a tile, one scalar.
constexpr int64_t TileScratchBytes(int64_t elements) {
  return elements == 0 ? 0 : (3 * elements + 1) * int64_t{sizeof(float)};
}

}  // namespace zeromini

#endif  // ZEROMINI_SHARD_TILES_H_
