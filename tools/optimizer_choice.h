// Which optimizers a program compares: --optimizer, and --second-moment for
// what Adam-mini's parameters get.

#ifndef ZEROMINI_TOOLS_OPTIMIZER_CHOICE_H_
#define ZEROMINI_TOOLS_OPTIMIZER_CHOICE_H_

#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"
#include "zeromini/plan.h"

namespace zeromini::tools {

struct OptimizerChoice {
  Algorithm algorithm = Algorithm::kAdamW;
  SecondMoment second_moment = SecondMoment::kOfficial;

  // In tables and JSON: "factored" where Adam-mini's parameters are, since that
  // is not Adam-mini; else AlgorithmName().
  const char* name() const;
};

// --second-moment: words, separated by commas, which must outlive the parse.
void AddSecondMomentFlag(CLI::App* verb, std::vector<std::string>* words);

// Of words of --optimizer and of --second-moment: adam-mini once with each of
// the latter, the others once. InvalidArgument for an optimizer that there is
// not, and for factored second moments if adam-mini is not among them.
absl::StatusOr<std::vector<OptimizerChoice>> ChoicesOf(
    const std::vector<std::string>& optimizers,
    const std::vector<std::string>& second_moments);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_OPTIMIZER_CHOICE_H_
