// What `bench kernels` times: update kernels and plain streams, each a pass or
// two over the same four arrays.

#ifndef ZEROMINI_TOOLS_BENCH_PASSES_H_
#define ZEROMINI_TOOLS_BENCH_PASSES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "zeromini/kernels.h"

namespace zeromini::tools {

// Blocks of block_rows rows of row_elements.
struct BlockShape {
  std::string name;
  int64_t block_rows;
  int64_t row_elements;
};

struct UnmapFloats {
  size_t bytes;
  void operator()(float* data) const;
};
using MappedFloats = std::unique_ptr<float[], UnmapFloats>;

// Of one CodedForm: see bench_coded.h.
struct CodedMemory {
  MappedFloats weights;
  MappedFloats master;
  MappedFloats momentum;
  MappedFloats scales;
};

struct PassArrays {
  MappedFloats parameter;
  MappedFloats gradient;
  MappedFloats momentum;
  MappedFloats second_moment;
  std::vector<double> row_sums;
  std::vector<CodedMemory> coded;  // By form.
};

// In huge pages where the kernel has them, so that the memory is measured and
// not the page tables. Null if there is no memory.
MappedFloats MapFloats(int64_t elements);

// Of `params` elements each, and what coded forms need. False if there is no
// memory.
bool MapArrays(int64_t params, PassArrays* arrays);

// One thread's part: whole blocks.
struct ArrayPart {
  int64_t begin;  // In elements.
  int64_t blocks;
  const BlockShape* shape;

  int64_t elements() const {
    return blocks * shape->block_rows * shape->row_elements;
  }
};

struct Pass {
  const char* name;
  int bytes;            // Read and written per parameter.
  const char* ceiling;  // The stream that nothing can outrun.
  absl::Status (*run)(const KernelTable&, PassArrays&, const ArrayPart&);
};

const std::vector<Pass>& Passes();

extern const StepScalars kPassScalars;

absl::Status RunRowSums(const KernelTable& kernels, PassArrays& arrays,
                        const ArrayPart& part);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_BENCH_PASSES_H_
