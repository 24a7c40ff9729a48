// The MPI library's own collectives: what ours are measured against.

#ifndef ZEROMINI_TOOLS_BENCH_MPI_H_
#define ZEROMINI_TOOLS_BENCH_MPI_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace zeromini::tools {

// Over MPI_COMM_WORLD, on the caller's thread. All calls are collective and
// have no deadline. Destroy it before MPI is finalised.
class RawMpi {
 public:
  virtual ~RawMpi() = default;

  // FailedPrecondition unless MPI is initialised; Unimplemented if built
  // without it.
  static absl::StatusOr<std::unique_ptr<RawMpi>> Create();

  // `count` elements a segment, as in Communicator.
  virtual absl::Status ReduceScatter(const float* in, float* out,
                                     int64_t count) = 0;
  virtual absl::Status AllGather(const float* in, float* out,
                                 int64_t count) = 0;
  virtual absl::Status AllReduce(float* data, int64_t count) = 0;  // In place.

  virtual int hosts() const = 0;

  // Adds `mine` up over the ranks of each host; the largest of these sums.
  virtual absl::StatusOr<int64_t> LargestHostSum(int64_t mine) = 0;
};

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_BENCH_MPI_H_
