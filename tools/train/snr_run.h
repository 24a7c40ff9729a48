// An AdamW run whose second moments are measured: which averages stand for
// them.

#ifndef ZEROMINI_TOOLS_TRAIN_SNR_RUN_H_
#define ZEROMINI_TOOLS_TRAIN_SNR_RUN_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/sharing/form_choice.h"
#include "tools/sharing/sharing_record.h"
#include "tools/train/pretrain_options.h"
#include "zeromini/communicator.h"

namespace zeromini::tools {

struct SnrOptions {
  PretrainOptions run;
  int64_t every = 0;  // Steps between measurements; 0: a 20th of them.
  double threshold = kSnrThreshold;
  std::string json;  // Or empty, as the page.
  std::string html;
  bool overwrite = false;  // Files that are there already.
};

// Makes the run AdamW's, fp32 throughout and without a folder, and fills in
// `every`. InvalidArgument for what cannot be measured. `options.run` is
// complete.
absl::Status Complete(SnrOptions& options);

// Collective. `options` is complete. Measures the bias-corrected second moments
// after each `every` steps and after the last, from the sharded AdamW's own
// state: Optimizer::ConsolidatedState(), so that a measurement sends each
// rank's momentum and second moments to all. On rank 0 the result; the files
// are written. AlreadyExists if one is there and is not to be overwritten,
// before anything is trained. The errors of Pretrain().
absl::StatusOr<SharingRecord> MeasureSharing(const SnrOptions& options,
                                             Communicator& group);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TRAIN_SNR_RUN_H_
