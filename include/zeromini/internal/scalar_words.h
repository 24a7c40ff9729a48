// What a step's one all-reduce of scalars holds, in words of 8 bytes: all are
// integers, added over kernels and then over ranks.
//   limbs of the norm (kernels/exact_sum.h)
//   the agreement word, which every rank sets to the same
//   per parameter: ranks that gave its gradient, plus kNotFiniteUnit for each
//     finding of what is not finite; only whether there is any counts
//   per split block: limbs of its sum, and a word: kNotFiniteUnit for each
//     finding of NaN, and 1 for each of infinity; again only whether
// A finding may be of a row, a span or a rank: fewer than 2^31 of all ranks.

#ifndef ZEROMINI_INTERNAL_SCALAR_WORDS_H_
#define ZEROMINI_INTERNAL_SCALAR_WORDS_H_

#include <cstdint>

namespace zeromini {

inline constexpr int kLimbWords = 20;
inline constexpr int kAgreementWord = kLimbWords;
inline constexpr int kFirstParamWord = kAgreementWord + 1;
inline constexpr int64_t kNotFiniteUnit = int64_t{1} << 32;

// Of a split block's words, the one after its limbs.
inline constexpr int kSplitNotFiniteWord = kLimbWords;
inline constexpr int kSplitBlockWords = kSplitNotFiniteWord + 1;

constexpr int64_t ParamWord(int64_t param) { return kFirstParamWord + param; }

constexpr int64_t SplitWords(int64_t params, int64_t split) {
  return kFirstParamWord + params + kSplitBlockWords * split;
}

constexpr int64_t ScalarWords(int64_t params, int64_t split_blocks) {
  return SplitWords(params, split_blocks);
}

}  // namespace zeromini

#endif  // ZEROMINI_INTERNAL_SCALAR_WORDS_H_
