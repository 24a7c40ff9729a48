// Runs one benchmark on all ranks of a group, over MPI or on threads.

#ifndef ZEROMINI_TOOLS_BENCH_GROUP_H_
#define ZEROMINI_TOOLS_BENCH_GROUP_H_

#include <functional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/agree_on.h"
#include "tools/bench_mpi.h"
#include "zeromini/communicator.h"

namespace zeromini::tools {

struct GroupFlags {
  std::string comm = "mpi";
  int ranks = 0;  // 0: not given.
  double timeout_seconds = 600;
};

// Adds --comm, --ranks and --timeout.
void AddGroupFlags(CLI::App* verb, GroupFlags* flags);

// One rank's ends.
struct BenchRank {
  Communicator& group;
  RawMpi* mpi;  // Null on threads.

  int hosts() const { return mpi == nullptr ? 1 : mpi->hosts(); }
};

// Calls `body` on every rank and returns the exit code (files/terminal.h). What
// the caller asked (InvalidArgument, Unimplemented, PermissionDenied) all ranks
// must find alike, and rank 0 says it; of other errors each rank says its own.
// Does not return when a group over MPI breaks: the process ends.
int RunOnGroup(const std::string& verb, const GroupFlags& flags,
               const std::function<absl::Status(BenchRank&)>& body);

// Collective. Element by element, the slowest rank's.
absl::StatusOr<std::vector<double>> SlowestRank(
    const std::vector<double>& seconds, Communicator& group);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_BENCH_GROUP_H_
