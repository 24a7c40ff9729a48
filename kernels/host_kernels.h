// The kernels of one host table, as plain functions that cannot fail. What is
// the same in all of them is done before they are called (host_table.h): a
// kernel whose `update` is 0 is not, and the `seed` of codecs is the step's
// RoundingSequence().

#ifndef ZEROMINI_KERNELS_HOST_KERNELS_H_
#define ZEROMINI_KERNELS_HOST_KERNELS_H_

#include "zeromini/kernels.h"

namespace zeromini {

struct HostKernels {
  void (*row_sums)(const RowSumsArgs&);
  void (*adam_mini_step)(const AdamMiniArgs&);
  void (*adam_mini_fused)(const AdamMiniArgs&);
  void (*adamw)(const AdamWArgs&);
  void (*copy)(const CopyArgs&);
  void (*accumulate)(const AccumulateArgs&);
  void (*sgd)(const SgdArgs&);
  void (*clamp)(const ClampArgs&);
  void (*unpack_weights)(const WeightCodecArgs&);
  void (*pack_weights)(const WeightCodecArgs&);
  void (*unpack_state)(const StateCodecArgs&);
  void (*pack_state)(const StateCodecArgs&);
  void (*statistics)(const StatisticsArgs&);
  void (*column_moments)(const ColumnArgs&);
  void (*factored_step)(const FactoredArgs&);
  void (*coded_update)(const CodedUpdateArgs&);
};

}  // namespace zeromini

#endif  // ZEROMINI_KERNELS_HOST_KERNELS_H_
