// Where a bucket's gradients are in its exchange, as the methods send them or,
// in a step that refreshes what they project with, whole.

#ifndef ZEROMINI_RUNTIME_STEP_WIRE_PIECES_H_
#define ZEROMINI_RUNTIME_STEP_WIRE_PIECES_H_

#include <cstdint>
#include <vector>

#include "runtime/device/row_packing.h"
#include "zeromini/plan.h"

namespace zeromini {

struct WirePiece {  // Rows of a parameter that are one stretch of the wire.
  int64_t offset = 0;
  int64_t elements = 0;
  RowRange rows;
};

// What `bucket` has of `param` in the whole exchange, rank by rank; neighbours
// are joined.
std::vector<WirePiece> WirePieces(const Plan& plan, int bucket, int param,
                                  bool full);

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STEP_WIRE_PIECES_H_
