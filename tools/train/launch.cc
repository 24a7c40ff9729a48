#include "tools/train/launch.h"

#include <cstdlib>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/stream.h"

namespace zeromini::tools {

Environment ProcessEnvironment() {
  return [](const char* name) -> const char* { return std::getenv(name); };
}

bool StartedByMpiLauncher(const Environment& environment) {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK",
                           "PMI_SIZE", "SLURM_STEP_ID"}) {
    if (environment(name) != nullptr) return true;
  }
  return false;
}

absl::Status CheckWorldSize(const Environment& environment, int ranks) {
  for (const char* name :
       {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "WORLD_SIZE", "SLURM_NTASKS"}) {
    const char* value = environment(name);
    if (value == nullptr) continue;
    int announced = 0;
    if (absl::SimpleAtoi(value, &announced) && announced == ranks) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        name, " is ", value, " but the group of this process has ", ranks,
        ranks == 1 ? " rank" : " ranks", ": start all ranks with 'mpirun -n ",
        value, " zeromini-train ...' (or srun --mpi=pmix), or unset ", name,
        " to train with ", ranks, "."));
  }
  return absl::OkStatus();
}

absl::StatusOr<LaunchedGroup> LaunchedGroup::Start(
    const std::string& comm, const Environment& environment) {
  const bool mpi =
      comm == "mpi" || (comm.empty() && StartedByMpiLauncher(environment));
  LaunchedGroup group;
  if (!mpi) {
    group.communicator_ = Self();
  } else {
    HoldTermination();
    ZEROMINI_ASSIGN_OR_RETURN(group.session_, MpiSession::Start());
    ZEROMINI_ASSIGN_OR_RETURN(group.communicator_, group.session_->World());
    group.last_words_ = std::make_unique<LastWords>(
        "zeromini-train",
        [world = group.communicator_.get()] { return world->in_flight(); });
  }
  const int ranks = group.communicator_->size();
  const absl::Status check = CheckWorldSize(environment, ranks);
  if (!check.ok()) {
    group.communicator_->Close().IgnoreError();
    return check;
  }
  return group;
}

absl::Status SumOverRanks(int64_t* values, int count, Communicator& group) {
  if (group.size() == 1) return absl::OkStatus();
  ZEROMINI_RETURN_IF_ERROR(group.AllReduce(values, count, DType::kInt64,
                                           ReduceOp::kSum,
                                           {Purpose::kControl, -1, 0}));
  HostStream* stream = HostStream::From(group.stream());
  if (stream == nullptr) return absl::OkStatus();
  return stream->Record()->Wait(absl::Now() + group.timeout());
}

}  // namespace zeromini::tools
