// One rank's walk through recorded gradients.

#ifndef ZEROMINI_TOOLS_REPLAY_RANK_H_
#define ZEROMINI_TOOLS_REPLAY_RANK_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tools/replay_input.h"
#include "zeromini/communicator.h"
#include "zeromini/optimizer.h"

namespace zeromini::tools {

struct ReplayOptions {
  std::string directory;
  std::string out;
  std::string json;        // The caller's, of a summary; checked at the start.
  bool overwrite = false;  // What an earlier replay left in `out`.
  std::string comm = "threads";
  int ranks = 0;        // 0: not given.
  int stage = 1;        // 3 keeps the weights itself, whatever `memory` says.
  int shard_ranks = 0;  // Per copy of the state; 0: all ranks share one.
  bool split_gradients = false;  // Deal mantissa bits and sum; else the mean.
  Naming naming = Naming::kOfficial;
  MemoryForm memory = MemoryForm::kExternal;
  // Of Adam-mini's parameters; not given: as meta.json says.
  std::optional<SecondMoment> second_moment;
  double clip = 0;
  OptimizerOptions layout;  // How buckets are laid out; the rest is not read.
  double timeout_seconds = 600;  // GroupOptions::timeout.
};

struct ReplaySummary {
  std::vector<double> grad_norms;  // By step.
  Traffic traffic;
  MemoryReport memory;
};

// Where the optimizer and its caller's tensors are. A test puts others here.
struct ReplayParts {
  std::function<absl::StatusOr<std::unique_ptr<Optimizer>>(
      const OptimizerOptions&, absl::Span<const ParamSpec>, Communicator&)>
      make = Optimizer::Create;
  // Of external weights, which the replay reads and writes between steps.
  std::function<std::shared_ptr<void>(int64_t bytes)> allocate = HostTensor;

  static std::shared_ptr<void> HostTensor(int64_t bytes);
};

// Collective. Rank 0 writes out/params_KK.safetensors after every step and the
// consolidated state after the last, into a folder that holds nothing else (see
// OutputFolder) and is not the recording's. Every rank returns the same error.
absl::StatusOr<ReplaySummary> ReplayRank(const ReplayInput& input,
                                         const ReplayOptions& options,
                                         Communicator& group,
                                         const ReplayParts& parts = {});

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_REPLAY_RANK_H_
