// The codecs of the reference table: what the formats mean, one element at a
// time. Other tables have the same bits.

#ifndef ZEROMINI_KERNELS_REFERENCE_REFERENCE_CODECS_H_
#define ZEROMINI_KERNELS_REFERENCE_REFERENCE_CODECS_H_

#include "zeromini/kernels.h"

namespace zeromini {

void ReferenceUnpackWeights(const WeightCodecArgs& args, Stream stream);
void ReferencePackWeights(const WeightCodecArgs& args, Stream stream);
void ReferenceUnpackState(const StateCodecArgs& args, Stream stream);
void ReferencePackState(const StateCodecArgs& args, Stream stream);

}  // namespace zeromini

#endif  // ZEROMINI_KERNELS_REFERENCE_REFERENCE_CODECS_H_
