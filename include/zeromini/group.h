// Ways to make a group of ranks. mpi.h wraps a trainer's own MPI_Comm.

#ifndef ZEROMINI_GROUP_H_
#define ZEROMINI_GROUP_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "zeromini/communicator.h"
#include "zeromini/log.h"
#include "zeromini/types.h"

namespace zeromini {

struct GroupOptions {
  // The longest any wait inside an exchange may take, and the making of a
  // group. A peer may lawfully be this late (first-step compilation, data
  // loading), so it is generous. Over MPI it is twice as long if all ranks are
  // found waiting. Time in which the process is suspended does not count.
  absl::Duration timeout = absl::Minutes(10);

  // Which host each rank is on, any numbers, one per rank and equal on all
  // ranks. Empty: as machines are, whatever their names. It may split a host,
  // for tests or for NUMA domains, never join two. Read by MPI groups only.
  std::vector<int> hosts;

  // Makes each rank's communication stream. Tests put delayed streams here;
  // null means HostStream::Create.
  std::function<std::unique_ptr<HostStream>(int rank)> make_stream;

  // Where a warning goes: rank 0's, over MPI, that ranks of a host share no
  // memory. Groups split off have it, too. Null: stderr, once in a process.
  LogSink log;
};

// A group of one. Exchanges are copies on the caller's thread.
std::unique_ptr<Communicator> Self();

// `size` ranks in this process: element r is rank r's, to be used from a thread
// of its own. This backend is the definition of correct for all others.
// InvalidArgument if size < 1, ResourceExhausted if the system makes no thread
// for a rank's stream.
absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> ThreadGroup(
    int size, const GroupOptions& options = {});

// What a rank has sent, by purpose. An exchange of n bytes in size() segments
// counts (size-1)/size*n, what a bandwidth-optimal algorithm sends per rank; an
// all-to-all counts exactly what it sends to others.
struct TrafficCount {
  int64_t calls = 0;
  int64_t bytes = 0;          // Payload and padding together.
  int64_t padding_bytes = 0;  // The part of `bytes` that is padding.

  // What the backend counted, level by level (Communicator::level_traffic()):
  // across hosts at most (hosts-1)/hosts of a payload leaves a host.
  int64_t inside_host_bytes = 0;
  int64_t between_hosts_bytes = 0;
};
using Traffic = std::array<TrafficCount, kPurposes>;  // By int(Purpose).

// Counts what passes through it, through groups it was split into, and through
// its control(), which counts too. Host integers only: costs no
// synchronisation.
class CountingCommunicator : public Communicator {
 public:
  virtual Traffic traffic() const = 0;  // Any thread. Since creation.

  // `group` must outlive the result. Close() and Abort() pass through.
  static std::unique_ptr<CountingCommunicator> Wrap(Communicator& group);
};

// A process that was started by mpirun or srun and has not initialised MPI
// itself. Destroying it finalises MPI; close all its groups before.
class MpiSession {
 public:
  virtual ~MpiSession() = default;

  // MPI_Init_thread(MULTIPLE). Unimplemented if built without MPI,
  // FailedPrecondition if MPI is already initialised (then use WrapMpi).
  static absl::StatusOr<std::unique_ptr<MpiSession>> Start();

  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Collective. A group over MPI_COMM_WORLD. If it cannot be made in time,
  // peers may be stuck inside MPI, and MPI is not finalised later.
  virtual absl::StatusOr<std::unique_ptr<Communicator>> World(
      const GroupOptions& options = {}) = 0;
};

// "Open MPI 4.1.4", or why MPI is absent. `available` may be null.
std::string MpiDescription(bool* available);
std::string NcclDescription(bool* available);

}  // namespace zeromini

#endif  // ZEROMINI_GROUP_H_
