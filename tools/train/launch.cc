#include "tools/train/launch.h"

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "tools/agree_on.h"
#include "zeromini/internal/status_macros.h"

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
  const bool mpirun_says = environment("OMPI_COMM_WORLD_SIZE") != nullptr ||
                           environment("PMI_SIZE") != nullptr;
  for (const char* name :
       {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "WORLD_SIZE", "SLURM_NTASKS"}) {
    const char* value = environment(name);
    if (value == nullptr) continue;
    if (mpirun_says && absl::string_view(name) == "SLURM_NTASKS") continue;
    int announced = 0;
    if (absl::SimpleAtoi(value, &announced) && announced == ranks) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        name, " is ", value, " but the group of this process has ", ranks,
        ranks == 1 ? " rank" : " ranks", ": start all ranks with 'mpirun -n ",
        value, " zeromini-train ...' (or srun --mpi=pmix), or unset ", name,
        " or give --ignore-world-size to train with ", ranks, "."));
  }
  return absl::OkStatus();
}

absl::StatusOr<LaunchedGroup> LaunchedGroup::Start(
    const LaunchOptions& options, const Environment& environment) {
  const bool mpi = options.comm == "mpi" ||
                   (options.comm.empty() && StartedByMpiLauncher(environment));
  LaunchedGroup group;
  if (!mpi) {
    group.communicator_ = Self();
  } else {
    HoldTermination();
    GroupOptions group_options;
    group_options.timeout = options.timeout;
    auto made = std::make_shared<std::atomic<const Communicator*>>(nullptr);
    group.last_words_ = std::make_unique<LastWords>("zeromini-train", [made] {
      const Communicator* world = *made;
      return world != nullptr ? world->in_flight() : "in no group";
    });
    ZEROMINI_ASSIGN_OR_RETURN(group.session_, MpiSession::Start());
    JoinJob();
    ZEROMINI_ASSIGN_OR_RETURN(group.communicator_,
                              group.session_->World(group_options));
    *made = group.communicator_.get();
  }
  if (options.ignore_world_size) return group;
  const int ranks = group.communicator_->size();
  const absl::Status check = CheckWorldSize(environment, ranks);
  if (!check.ok()) {
    group.communicator_->Close().IgnoreError();
    return check;
  }
  return group;
}

std::string OfRank(int rank, absl::string_view message) {
  const std::string prefix = absl::StrCat("rank ", rank, ": ");
  return absl::StartsWith(message, prefix) ? std::string(message)
                                           : absl::StrCat(prefix, message);
}

absl::Status SumOverRanks(int64_t* values, int count, Communicator& group) {
  if (group.size() == 1) return absl::OkStatus();
  Communicator& control = group.control();
  ZEROMINI_RETURN_IF_ERROR(control.AllReduce(values, count, DType::kInt64,
                                             ReduceOp::kSum, Exchange()));
  return WaitForExchanges(control);
}

absl::StatusOr<double> SumOfLosses(double mine, Communicator& group) {
  std::vector<double> losses(group.size());
  losses[group.rank()] = mine;
  // As they are: what has no arithmetic on the way has no range.
  Communicator& control = group.control();
  ZEROMINI_RETURN_IF_ERROR(control.AllGather(&losses[group.rank()],
                                             losses.data(), sizeof(double),
                                             DType::kByte, Exchange()));
  ZEROMINI_RETURN_IF_ERROR(WaitForExchanges(control));
  double sum = 0;
  for (double loss : losses) sum += loss;
  return std::isfinite(sum) ? sum : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace zeromini::tools
