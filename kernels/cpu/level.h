// What the code of one x86-64 level exports, and what it takes from outside.
//
// The *_kernels.inc are compiled once per level, each time in a namespace of
// its own: an inline function shared by two levels would be merged by the
// linker, and a plain x86-64 processor would then run AVX-512 code. For the
// same reason those files call nothing inline from elsewhere, only what is
// declared here.

#ifndef ZEROMINI_KERNELS_CPU_LEVEL_H_
#define ZEROMINI_KERNELS_CPU_LEVEL_H_

#include <cstdint>

#include "kernels/codec_args.h"
#include "kernels/column_sum.h"
#include "kernels/exact_sum.h"
#include "kernels/host_columns.h"
#include "kernels/host_kernels.h"
#include "zeromini/kernels.h"

namespace zeromini {

namespace level_base {
extern const HostKernels kKernels;
}
namespace level_v3 {
extern const HostKernels kKernels;
}
namespace level_v4 {
extern const HostKernels kKernels;
}

// A level, best first in the list that AttainableLevels() returns.
struct Level {
  const char* name;         // "x86-64-v4".
  const char* description;  // "x86-64-v4 (AVX-512)".
  KernelTable kernels;
};

struct LevelList {
  const Level* levels;
  int count;  // At least one.
};

// The levels this processor can run.
LevelList AttainableLevels();

// The factors of one step, in double; each kernel rounds what it uses.
struct UpdateFactors {
  explicit UpdateFactors(const StepScalars& scalars);

  // The step of one block: its second moment after this update, as stored, and
  // what the momentum is multiplied with.
  void UpdateBlock(double block_sum, int64_t block_elements,
                   float* second_moment, float* step) const;

  // The average of the mean of so many squares over a row or a column, as
  // stored: at most the largest float, since an infinite one would make factors
  // of others 0.
  void UpdateMoment(double sum, int64_t elements, float* moment) const;

  double Moved(float moment, double sum, int64_t elements) const;

  double decay;            // 1 - lr*wd
  double momentum_weight;  // 1 - beta1
  double beta2;
  double square_weight;    // 1 - beta2
  double scale;            // Of the gradient.
  double step;             // lr / (1 - beta1^t)
  double root_correction;  // 1 / sqrt(1 - beta2^t)
  double epsilon;
};

// Not per level: a copy is bound by memory.
void CopyOnCpu(const CopyArgs& args);

// Nor are columns' moments.
void ColumnMomentsOnCpu(const ColumnArgs& args);

// Nor are statistics but for their row sums.
struct RowSummers {
  void (*row_sums)(const RowSumsArgs&);
  void (*column_row_sums)(const ColumnRowsArgs&);  // And adds the columns.
};
void AddStatistics(const StatisticsArgs& args, const RowSummers& summers);

// Most rows of a group that column_row_sums takes.
inline constexpr int64_t kBandRows = 32;

}  // namespace zeromini

#endif  // ZEROMINI_KERNELS_CPU_LEVEL_H_
