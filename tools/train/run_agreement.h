// What the ranks of one run must have been told alike.

#ifndef ZEROMINI_TOOLS_TRAIN_RUN_AGREEMENT_H_
#define ZEROMINI_TOOLS_TRAIN_RUN_AGREEMENT_H_

#include "absl/status/status.h"
#include "tools/train/pretrain_options.h"
#include "tools/train/text_data.h"
#include "zeromini/communicator.h"

namespace zeromini::tools {

// Collective. InvalidArgument on every rank, naming a rank, the option as
// run.json calls it and both values, if ranks train another model, on another
// text, or in another way. Where a rank finds its files, and its threads, are
// its own business.
absl::Status AgreeOnRun(const PretrainOptions& options, const TextData& data,
                        Communicator& group);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TRAIN_RUN_AGREEMENT_H_
