// A directory of recorded gradients to step through: meta.json, params_00 and
// grads_01, grads_02, ... as tests/golden/PROVENANCE.md describes them.

#ifndef ZEROMINI_TOOLS_REPLAY_INPUT_H_
#define ZEROMINI_TOOLS_REPLAY_INPUT_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "zeromini/options.h"
#include "zeromini/param_spec.h"
#include "zeromini/safetensors.h"

namespace zeromini::tools {

// Read-only after opening, so that ranks in one process share it.
struct ReplayInput {
  std::string directory;
  Algorithm algorithm = Algorithm::kAdamMini;
  ModelShape model;
  ValueBlocks value_blocks = ValueBlocks::kRows;
  SecondMoment second_moment = SecondMoment::kOfficial;
  HyperGroup hyper;
  std::vector<double> learning_rates;  // By step, from step 1.
  std::vector<ParamSpec> params;       // Null data; a scalar's is {1}.
  std::vector<std::vector<int64_t>> file_shapes;  // By parameter: {} for one.
  std::vector<std::vector<float>> initial;        // By parameter.
  std::vector<std::unique_ptr<SafetensorsReader>> gradients;  // By step.

  int steps() const { return static_cast<int>(learning_rates.size()); }

  // Gradient of `param` at `step` (from 1); empty if it was absent.
  absl::StatusOr<std::vector<float>> Gradient(int param, int step) const;

  // Reads and checks everything but the gradients' values. Classes and block
  // counts that meta.json may list are not read: replay works them out.
  // InvalidArgument or NotFound, naming file and tensor: for weights that are
  // not finite and negative rates, too. Tensors that are no floats are ignored
  // where no parameter has their name.
  static absl::StatusOr<ReplayInput> Open(const std::string& directory);
};

// directory/<stem>_<step>.safetensors, two digits at least.
std::string StepFile(const std::string& directory, const std::string& stem,
                     int step);
std::string MetaFile(const std::string& directory);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_REPLAY_INPUT_H_
