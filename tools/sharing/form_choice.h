// FormChoice: which form of the second moment a run supports, and its price.

#ifndef ZEROMINI_TOOLS_SHARING_FORM_CHOICE_H_
#define ZEROMINI_TOOLS_SHARING_FORM_CHOICE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "tools/report/table.h"
#include "tools/sharing/sharing_record.h"

namespace zeromini::tools {

// SlimAdam's: an average whose square is more than the variance stands for its
// members.
inline constexpr double kSnrThreshold = 1;

// What tensors of one kind should keep.
struct FormChoice {
  std::string kind;
  int64_t parts = 0;
  int64_t elements = 0;
  std::string form;      // SharedFormName(), or "element".
  double snr = 0;        // Of that form; NaN for "element".
  int64_t scalars = 0;   // Second moments that it keeps.
  int64_t official = 0;  // Those of Adam-mini's official partition,
  std::string official_form;
  // Tensors whose own mean SNR of the form is below the threshold.
  int64_t below = 0;
  bool settled = true;  // Each quarter of the second half gives it, too.

  // Momentum and second moments, fp32.
  int64_t bytes() const { return 4 * (elements + scalars); }
  int64_t adamw_bytes() const { return 8 * elements; }
  int64_t adam_mini_bytes() const { return 4 * (elements + official); }
};

struct Suggestion {
  double threshold = kSnrThreshold;
  int64_t from_step = 0;  // SNRs are means from here to the last step.
  std::string too_short;  // Why the run cannot tell; empty if it can.
  std::vector<FormChoice> kinds;
};

// For each kind the coarsest form whose mean SNR over the second half of the
// run is at least `threshold`, in this order: whole (norms, biases and what the
// official partition keeps whole), head, row or column (whichever has the
// higher SNR), factored; else an element each. Means are KindMeans().
//
// A run is too short with fewer than 4 measurements in its second half, or if
// that begins before step 3 / (1 - beta2), when a twentieth of v is still what
// it started from.
Suggestion Suggest(const SharingRecord& record, double threshold);

// One row a kind, and the total.
Table SuggestionTable(const Suggestion& suggestion);

// The rule with its numbers, and what was too short or not settled, in
// sentences.
std::string SuggestionNote(const Suggestion& suggestion);

nlohmann::json ToJson(const Suggestion& suggestion);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_SHARING_FORM_CHOICE_H_
