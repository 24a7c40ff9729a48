// OptionFields: the options that ranks must share, so that the first one that
// differs can be named.

#ifndef ZEROMINI_RUNTIME_OPTIONS_OPTION_FIELDS_H_
#define ZEROMINI_RUNTIME_OPTIONS_OPTION_FIELDS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "zeromini/optimizer.h"
#include "zeromini/options.h"

namespace zeromini {

struct OptionField {
  std::string name;
  std::string value;  // To the last bit.
};

// Every field that changes numbers, memory or exchanges on any rank. As many on
// all ranks that have as many groups; `groups` comes before them. Left out are
// a group's name and ways to join, what comes of which the plan has, and `log`.
std::vector<OptionField> OptionFields(const OptimizerOptions& options);

// What may change between steps, and must do so on all ranks alike. As many on
// ranks that have as many groups.
std::vector<OptionField> StepFields(const StepOptions& step, int64_t steps_done,
                                    absl::Span<const HyperGroup> groups);

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_OPTIONS_OPTION_FIELDS_H_
