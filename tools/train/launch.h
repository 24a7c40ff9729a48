// How this process was launched: what mpirun, srun or torchrun left in the
// environment. Nothing below tools/ reads it.

#ifndef ZEROMINI_TOOLS_TRAIN_LAUNCH_H_
#define ZEROMINI_TOOLS_TRAIN_LAUNCH_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "tools/last_words.h"
#include "zeromini/group.h"

namespace zeromini::tools {

// Value of a variable, or null.
using Environment = std::function<const char*(const char* name)>;
Environment ProcessEnvironment();

// True if a launcher that speaks MPI started this process.
bool StartedByMpiLauncher(const Environment& environment);

// FailedPrecondition, one sentence with both numbers and the fix, if a launcher
// or the user announced another number of processes than `ranks`: training
// would run alone, once per process, without a word. SLURM_NTASKS is not asked
// where mpirun says how many it started: it may be that of the allocation.
absl::Status CheckWorldSize(const Environment& environment, int ranks);

struct LaunchOptions {
  std::string comm;  // "mpi", "self", or "" to choose by the launcher.
  absl::Duration timeout = absl::Minutes(10);  // GroupOptions::timeout.
  bool ignore_world_size = false;              // Skips CheckWorldSize().
};

// The group this process trains in.
class LaunchedGroup {
 public:
  static absl::StatusOr<LaunchedGroup> Start(const LaunchOptions& options,
                                             const Environment& environment);

  Communicator& communicator() { return *communicator_; }
  absl::Status Close() { return communicator_->Close(); }  // Collective.

 private:
  LaunchedGroup() = default;

  std::unique_ptr<MpiSession> session_;  // Outlives the communicator.
  std::unique_ptr<Communicator> communicator_;
  std::unique_ptr<LastWords> last_words_;  // About the communicator.
};

// `message` behind "rank N: ", which it may begin with already.
std::string OfRank(int rank, absl::string_view message);

// Sums over the ranks, in place; returns when done.
absl::Status SumOverRanks(int64_t* values, int count, Communicator& group);

// The sum of the ranks' losses, the same on each; NaN if one is not finite.
// Finite losses have a finite sum, whatever their size and number.
absl::StatusOr<double> SumOfLosses(double mine, Communicator& group);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TRAIN_LAUNCH_H_
