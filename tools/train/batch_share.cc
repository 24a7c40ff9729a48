#include "tools/train/batch_share.h"

#include "absl/strings/str_cat.h"

namespace zeromini::tools {

absl::StatusOr<BatchShare> ShareOfBatch(int64_t batch, int64_t micro_steps,
                                        int rank, int ranks) {
  const int64_t parts = micro_steps * ranks;
  if (micro_steps < 1 || batch < 1 || batch % parts != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a batch of ", batch, " sequences does not divide over ", ranks,
        ranks == 1 ? " rank" : " ranks", " times ", micro_steps,
        micro_steps == 1 ? " micro-step" : " micro-steps",
        ": --batch must be a multiple of ", parts));
  }
  BatchShare share;
  share.first = batch / ranks * rank;
  share.micro_batch = batch / parts;
  return share;
}

}  // namespace zeromini::tools
