#include "runtime/param_groups.h"

#include <fnmatch.h>

#include <algorithm>

namespace zeromini {
namespace {

bool Matches(const ParamGroup& group, const ParamSpec& spec) {
  if (group.matches && group.matches(spec)) return true;
  return std::any_of(group.patterns.begin(), group.patterns.end(),
                     [&](const std::string& pattern) {
                       return fnmatch(pattern.c_str(), spec.name.c_str(), 0) ==
                              0;
                     });
}

int GroupOf(const ParamSpec& spec, const OptimizerOptions& options) {
  const auto found = std::find_if(
      options.groups.begin(), options.groups.end(),
      [&](const ParamGroup& group) { return Matches(group, spec); });
  return found == options.groups.end()
             ? 0
             : static_cast<int>(found - options.groups.begin());
}

}  // namespace

std::vector<ParamSpec> JoinGroups(absl::Span<const ParamSpec> specs,
                                  const OptimizerOptions& options) {
  std::vector<ParamSpec> joined(specs.begin(), specs.end());
  for (ParamSpec& spec : joined) {
    if (spec.group < 0) spec.group = GroupOf(spec, options);
  }
  return joined;
}

}  // namespace zeromini
