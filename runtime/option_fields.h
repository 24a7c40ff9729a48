// OptionFields: the options that ranks must share, so that the first one that
// differs can be named.

#ifndef ZEROMINI_RUNTIME_OPTION_FIELDS_H_
#define ZEROMINI_RUNTIME_OPTION_FIELDS_H_

#include <string>
#include <utility>
#include <vector>

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

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_OPTION_FIELDS_H_
