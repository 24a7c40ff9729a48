// What the flags of a run are held against, and how errors name them.

#ifndef ZEROMINI_TOOLS_TRAIN_RUN_CHECKS_H_
#define ZEROMINI_TOOLS_TRAIN_RUN_CHECKS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/files/apart.h"
#include "tools/train/pretrain_options.h"

namespace zeromini::tools {

// What a run reads. The errors of ConfigPath().
absl::StatusOr<std::vector<FlagFile>> InputsOf(const PretrainOptions& options);

// InvalidArgument if a file that `rank` writes is one that the run reads or
// writes elsewhere.
absl::Status CheckRunFiles(const PretrainOptions& options, int rank);

// `status` behind "step N: ", with which it may begin already.
absl::Status OfStep(int64_t step, const absl::Status& status);

// What the library finds when it gathers, a flag caused: InvalidArgument in
// place of ResourceExhausted, since the same command fails again.
absl::Status NameBudget(const absl::Status& status);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TRAIN_RUN_CHECKS_H_
