// What `bench comm` times: one collective, by us or by the MPI library.

#ifndef ZEROMINI_TOOLS_BENCH_COLLECTIVES_H_
#define ZEROMINI_TOOLS_BENCH_COLLECTIVES_H_

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "tools/bench_mpi.h"
#include "zeromini/communicator.h"

namespace zeromini::tools {

enum class Collective { kReduceScatter, kAllGather, kAllReduce };

// By the names of the flag: "reduce-scatter", "all-gather", "all-reduce".
const std::map<std::string, Collective>& Collectives();

// What is measured at one time. The payload is cut into a segment a rank.
struct CollectiveCase {
  std::string name;
  Collective collective;
  int64_t segment;  // In elements.
  int64_t ranks;

  int64_t elements() const { return segment * ranks; }
  int64_t bytes() const { return elements() * int64_t{sizeof(float)}; }

  // How often in a row: a single small one is lost in the clock and in the
  // barrier before it.
  int64_t in_a_row() const {
    constexpr int64_t kEnough = 4 << 20;
    return std::clamp<int64_t>(kEnough / bytes(), 1, 50);
  }
};

struct CollectiveBuffers {
  std::unique_ptr<float[]> whole;  // The payload.
  std::unique_ptr<float[]> part;   // A segment.
};

class Contender {
 public:
  virtual ~Contender() = default;
  virtual const char* name() const = 0;
  // Collective. Blocks until it is done on this rank.
  virtual absl::Status Run(const CollectiveCase& what,
                           CollectiveBuffers& buffers) = 0;
};

// The group or the library must outlive it. Elements are fp32; `wire` is what
// ours travel as.
std::unique_ptr<Contender> OurCollectives(Communicator& group, DType wire);
std::unique_ptr<Contender> MpiCollectives(RawMpi& mpi);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_BENCH_COLLECTIVES_H_
