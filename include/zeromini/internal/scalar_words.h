// What a step's one all-reduce of scalars holds, in words of 8 bytes.

#ifndef ZEROMINI_INTERNAL_SCALAR_WORDS_H_
#define ZEROMINI_INTERNAL_SCALAR_WORDS_H_

#include <cstdint>

namespace zeromini {

// The limbs of the norm and the word that ranks must agree on.
inline constexpr int kStepWords = 21;
// The limbs of its statistic and the word of what is not finite.
inline constexpr int kSplitBlockWords = 21;

constexpr int64_t ScalarWords(int64_t params, int64_t split_blocks) {
  return kStepWords + params + kSplitBlockWords * split_blocks;
}

}  // namespace zeromini

#endif  // ZEROMINI_INTERNAL_SCALAR_WORDS_H_
