// The flags of the verbs that train, and how such a verb begins and ends.

#ifndef ZEROMINI_TOOLS_TRAIN_TRAIN_FLAGS_H_
#define ZEROMINI_TOOLS_TRAIN_TRAIN_FLAGS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/train/pretrain_options.h"
#include "zeromini/communicator.h"

namespace zeromini::tools {

// As given; sizes only override the named model or the config file.
struct TrainFlags {
  PretrainOptions options;
  std::string model = "llama-1m";
  std::optional<int64_t> hidden, layers, heads, kv_heads, head_dim, ffn, vocab,
      context;
  bool tie_head = false;
  std::string betas = "0.9,0.95";
  double min_lr = -1;
  int64_t warmup = -1;
  int64_t decay = -1;
  std::string schedule = "cosine";
};

// From 1 to what fits an int.
CLI::Range Count();

// Each adds flags that write to `flags` or `options`, which must outlive `app`.
void AddModelFlags(CLI::App& app, TrainFlags& flags);
void AddDataFlags(CLI::App& app, PretrainOptions& options);
void AddScheduleFlags(CLI::App& app, TrainFlags& flags);
void AddHyperFlags(CLI::App& app, TrainFlags& flags);
void AddLaunchFlags(CLI::App& app, PretrainOptions& options);

// Complete; InvalidArgument, naming the flag, for what cannot be trained.
absl::StatusOr<PretrainOptions> OptionsFrom(const TrainFlags& flags);

// Starts the group that the options ask for, calls `train` with it, and returns
// the exit code; errors have been said. Log lines go to stderr, so that stdout
// is the verb's alone.
int RunInGroup(const absl::StatusOr<PretrainOptions>& options,
               const std::function<absl::Status(Communicator& group)>& train);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TRAIN_TRAIN_FLAGS_H_
