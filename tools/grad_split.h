// Deals a gradient to ranks so that no summation order can round.

#ifndef ZEROMINI_TOOLS_GRAD_SPLIT_H_
#define ZEROMINI_TOOLS_GRAD_SPLIT_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace zeromini::tools {

// Which gradient is dealt: the same three numbers give the same hands.
struct Deal {
  int64_t tensor = 0;
  int64_t step = 0;
  int ranks = 1;
};

// What `rank` gets: the significand bits of each element are dealt to the ranks
// by a counter generator over (tensor, element, step), so every partial sum of
// the hands is a subset of those bits, an exact float. Zeros keep their sign on
// every rank; what is not finite goes whole to rank 0.
std::vector<float> HandOf(int rank, absl::Span<const float> gradient,
                          const Deal& deal);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_GRAD_SPLIT_H_
