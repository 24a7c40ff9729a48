// The codecs of the reference table: what the formats mean, one element at a
// time. Other tables have the same bits.

#ifndef ZEROMINI_KERNELS_REFERENCE_REFERENCE_CODECS_H_
#define ZEROMINI_KERNELS_REFERENCE_REFERENCE_CODECS_H_

#include "zeromini/kernels.h"

namespace zeromini {

void ReferenceUnpackWeights(const WeightCodecArgs& args);
void ReferencePackWeights(const WeightCodecArgs& args);
void ReferenceUnpackState(const StateCodecArgs& args);
void ReferencePackState(const StateCodecArgs& args);

}  // namespace zeromini

#endif  // ZEROMINI_KERNELS_REFERENCE_REFERENCE_CODECS_H_
