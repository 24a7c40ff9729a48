// What the codecs of every table refuse.

#ifndef ZEROMINI_KERNELS_CODEC_ARGS_H_
#define ZEROMINI_KERNELS_CODEC_ARGS_H_

#include "zeromini/kernels.h"

namespace zeromini {

// A dtype and master format that do not go together are a broken invariant.
void CheckCodec(const WeightCodecArgs& args);

// Nor may arrays of different shapes or blocks of unequal ones come together.
void CheckCoded(const CodedUpdateArgs& args);

}  // namespace zeromini

#endif  // ZEROMINI_KERNELS_CODEC_ARGS_H_
