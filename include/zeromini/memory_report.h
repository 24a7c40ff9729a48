// MemoryReport: bytes this rank holds, counted where they are allocated.

#ifndef ZEROMINI_MEMORY_REPORT_H_
#define ZEROMINI_MEMORY_REPORT_H_

#include <cstdint>

namespace zeromini {

struct MemoryReport {
  // Flat memory only; external weights are yours. Stage 3: this rank's shards
  // and what is frozen.
  int64_t weights = 0;
  int64_t gathered = 0;       // Stage 3: full weights, in use or kept.
  int64_t gradients = 0;      // Full (stage 1) or sharded (2, 3).
  int64_t momentum = 0;       // This rank's slice.
  int64_t second_moment = 0;  // This rank's block scalars or v.
  // What restores fp32 from rounded weights: of 16-bit ones as
  // OptimizerOptions::master says; of fp32 ones 4 bytes an element if
  // weight_wire is bf16, at stage 3 none.
  int64_t master = 0;
  int64_t statistics = 0;    // Sums of squares between arrival and update.
  int64_t buckets = 0;       // Exchange buffers, now.
  int64_t peak = 0;          // Most of all of the above at one time.
  int64_t method_state = 0;  // What methods keep on every rank alike.
  int64_t tables = 0;        // What kernels read to find and decide things.

  int64_t state() const {
    return momentum + second_moment + master + method_state;
  }
  int64_t total() const {
    return weights + gathered + gradients + state() + statistics + buckets +
           tables;
  }
};

}  // namespace zeromini

#endif  // ZEROMINI_MEMORY_REPORT_H_
