// PretrainOptions: all that `zeromini-train pretrain` can be told.

#ifndef ZEROMINI_TOOLS_TRAIN_PRETRAIN_OPTIONS_H_
#define ZEROMINI_TOOLS_TRAIN_PRETRAIN_OPTIONS_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/train/model_config.h"
#include "zeromini/plan.h"
#include "zeromini/schedule.h"
#include "zeromini/types.h"

namespace zeromini::tools {

inline constexpr int kMostThreads = 1024;

struct PretrainOptions {
  ModelConfig model;
  std::string config;  // What `model` was read from, or empty.
  std::string data = "/usr/share/doc/jargon-text/jargon.txt.gz";
  int64_t batch = 16;  // Sequences per step, over all ranks.
  int64_t length = 0;  // Tokens of a sequence; 0: the model's context.
  int64_t micro_steps = 1;
  // Best of four peaks at 600 steps: docs/measurements/parity.md.
  Schedule schedule = {ScheduleShape::kCosine, 1.5e-3, 1.5e-4};

  std::string optimizer = "adam-mini";     // adamw, adam-mini, torch-adamw.
  std::string value_blocks = "rows";       // rows, whole.
  std::string second_moment = "official";  // official, factored.
  std::string memory = "flat";             // flat, external.
  std::string gradient_wire = "fp32";      // fp32, bf16.
  std::string weight_wire = "fp32";        // fp32, bf16.
  std::string dtype = "fp32";     // Of weights and gradients: fp32, bf16, fp16.
  std::string master = "fp32";    // See ParseMaster().
  std::string momentum = "fp32";  // And adamw's v: fp32, bf16, int8.
  int stage = 1;                  // 3 needs flat memory.
  int shard_group = 0;            // Ranks that share a copy; 0: all.
  int64_t gather_budget = 0;      // Bytes of gathered weights; 0: no limit.
  int prefetch = 1;               // Blocks gathered ahead.
  double clip = 1;
  double clip_value = 0;  // Of each element; 0: off.
  double skip_above = 0;  // Gradient norm; 0: off.
  double weight_decay = 0.1;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;

  int64_t eval_every = 50;  // 0: at the end only.
  int64_t eval_batches = 8;
  uint64_t seed = 1;
  int threads = 1;
  std::string comm;                // mpi, self; empty: by the launcher.
  double timeout_seconds = 600;    // GroupOptions::timeout.
  bool ignore_world_size = false;  // LaunchOptions::ignore_world_size.
  std::string out = "out/run";     // Empty: the run leaves no folder.
  bool overwrite = false;          // A run that is there already.
  std::string name;  // What reports call the run; empty: the folder's name.
  std::string json;  // A copy of the final run.json, or empty.
  // For node_exporter's textfile collector, or empty: see PrometheusPath().
  std::string prometheus;
};

// "constant", "linear", "cosine", "wsd".
const std::map<std::string, ScheduleShape>& ScheduleShapes();
std::string ScheduleName(ScheduleShape shape);

// InvalidArgument, naming the flag, for a word that is none of theirs.
absl::StatusOr<MasterFormat> ParseMaster(const std::string& name);
absl::StatusOr<StateFormat> ParseMomentum(const std::string& name);

absl::StatusOr<SecondMoment> ParseSecondMoment(const std::string& name);

// Fills in what defaults depend on; InvalidArgument for what cannot be trained.
absl::Status Complete(PretrainOptions& options);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TRAIN_PRETRAIN_OPTIONS_H_
