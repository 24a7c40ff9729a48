// Where things are in the words that ranks add up in a step: see
// zeromini/internal/scalar_words.h.

#ifndef ZEROMINI_SHARD_STEP_WORDS_H_
#define ZEROMINI_SHARD_STEP_WORDS_H_

#include <cstdint>

#include "zeromini/internal/scalar_words.h"
#include "zeromini/plan.h"

namespace zeromini {

// Expert slices have different blocks under one index.
inline int64_t SplitWordsOf(const Plan& plan, int split, int slice) {
  const auto splits = static_cast<int64_t>(plan.split_blocks.size());
  return SplitWords(static_cast<int64_t>(plan.params.size()),
                    split + slice * splits);
}

inline int64_t WordsOf(const Plan& plan, int slices) {
  return ScalarWords(static_cast<int64_t>(plan.params.size()),
                     static_cast<int64_t>(plan.split_blocks.size()) * slices);
}

}  // namespace zeromini

#endif  // ZEROMINI_SHARD_STEP_WORDS_H_
