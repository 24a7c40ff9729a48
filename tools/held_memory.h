// What one choice of formats holds: at rest, and at the peak of a step without
// a model around it.

#ifndef ZEROMINI_TOOLS_HELD_MEMORY_H_
#define ZEROMINI_TOOLS_HELD_MEMORY_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "tools/optimizer_choice.h"
#include "zeromini/optimizer.h"

namespace zeromini::tools {

struct MemoryCase {
  OptimizerChoice optimizer;
  DType dtype = DType::kFloat32;
  MasterFormat master = MasterFormat::kNone;
  StateFormat state = StateFormat::kFloat32;
  int stage = 1;
  int ranks = 1;  // Threads of this process.
  int64_t bucket_bytes = 0;
};

// Bytes. Sums over the ranks unless it says "rank 0".
struct HeldMemory {
  int64_t parameters = 0;
  int64_t weights = 0;
  int64_t master = 0;
  int64_t momentum = 0;
  int64_t second_moment = 0;
  int64_t expected = 0;       // What MemoryOf() says of the four above.
  int64_t gradients = 0;      // Of rank 0, at rest.
  int64_t gather_budget = 0;  // Of rank 0; 0 below stage 3.
  int64_t peak = 0;           // Of rank 0.
  int64_t peak_expected = 0;  // Of rank 0: MemoryReport::peak of MemoryOf().
  // Of this process, less what it had before; the trainer's one gradient tensor
  // per rank included.
  int64_t resident_at_rest = 0;
  int64_t resident_peak = 0;
  double update_seconds =
      0;  // Of rank 0's kernels, in the second of two steps.

  int64_t at_rest() const {
    return weights + master + momentum + second_moment;
  }
};

// Allocates and steps once. Meant for a process of its own: the peak that a
// process has been resident with cannot be reset.
absl::StatusOr<HeldMemory> HoldMemory(const ModelPreset& model,
                                      const MemoryCase& choice);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_HELD_MEMORY_H_
