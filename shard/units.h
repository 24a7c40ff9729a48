// Units: what one rank owns whole, and what it has of them in each place.

#ifndef ZEROMINI_SHARD_UNITS_H_
#define ZEROMINI_SHARD_UNITS_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "zeromini/plan.h"

namespace zeromini {

// At rest.
inline int64_t Elements(const PlannedParam& param) {
  return param.rows * param.row_elements;
}

// Units that travel and are kept element by element.
std::vector<UnitSegment> PlainUnits(absl::Span<const BlockSegment> pattern,
                                    int64_t row_elements, BlockCuts cuts);

// Of the unit that `row` is in.
int64_t UnitRowsAt(const PlannedParam& param, int64_t row);

// Whether all units of the parameter are such.
bool HasPlainUnits(const PlannedParam& param);

}  // namespace zeromini

#endif  // ZEROMINI_SHARD_UNITS_H_
