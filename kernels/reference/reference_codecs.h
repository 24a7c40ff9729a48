// The codecs of the reference table: what the formats mean, one element at a
// time. Other tables have the same bits. And updates of what is stored so.

#ifndef ZEROMINI_KERNELS_REFERENCE_REFERENCE_CODECS_H_
#define ZEROMINI_KERNELS_REFERENCE_REFERENCE_CODECS_H_

#include "zeromini/kernels.h"

namespace zeromini {

void ReferenceUnpackWeights(const WeightCodecArgs& args);
void ReferencePackWeights(const WeightCodecArgs& args);
void ReferenceUnpackState(const StateCodecArgs& args);
void ReferencePackState(const StateCodecArgs& args);

// What the coded update does between unpacking and packing.
struct ReferenceRules {
  void (*adam_mini_step)(const AdamMiniArgs&);
  void (*adamw)(const AdamWArgs&);
  void (*sgd)(const SgdArgs&);
  void (*factored_step)(const FactoredArgs&);
};
void ReferenceCodedUpdate(const CodedUpdateArgs& args,
                          const ReferenceRules& rules);

}  // namespace zeromini

#endif  // ZEROMINI_KERNELS_REFERENCE_REFERENCE_CODECS_H_
