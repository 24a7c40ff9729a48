#include "tools/optimizer_choice.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

SecondMoment SecondMomentOf(const std::string& word) {
  return word == SecondMomentName(SecondMoment::kFactored)
             ? SecondMoment::kFactored
             : SecondMoment::kOfficial;
}

}  // namespace

const char* OptimizerChoice::name() const {
  return algorithm == Algorithm::kAdamMini &&
                 second_moment == SecondMoment::kFactored
             ? SecondMomentName(second_moment)
             : AlgorithmName(algorithm);
}

void AddSecondMomentFlag(CLI::App* verb, std::vector<std::string>* words) {
  verb->add_option(
          "--second-moment", *words,
          "Of adam-mini's parameters: official, the paper's blocks, or\n"
          "factored, which is not Adam-mini; or both, with a comma")
      ->delimiter(',')
      ->check(CLI::IsMember({SecondMomentName(SecondMoment::kOfficial),
                             SecondMomentName(SecondMoment::kFactored)}))
      ->capture_default_str();
}

absl::StatusOr<std::vector<OptimizerChoice>> ChoicesOf(
    const std::vector<std::string>& optimizers,
    const std::vector<std::string>& second_moments) {
  std::vector<OptimizerChoice> choices;
  bool adam_mini = false;
  for (const std::string& name : optimizers) {
    ZEROMINI_ASSIGN_OR_RETURN(const Algorithm algorithm, ParseAlgorithm(name));
    if (algorithm != Algorithm::kAdamMini) {
      choices.push_back({algorithm});
      continue;
    }
    adam_mini = true;
    for (const std::string& word : second_moments) {
      choices.push_back({algorithm, SecondMomentOf(word)});
    }
  }
  const bool factored =
      std::any_of(second_moments.begin(), second_moments.end(),
                  [](const std::string& word) {
                    return SecondMomentOf(word) == SecondMoment::kFactored;
                  });
  if (adam_mini || !factored) return choices;
  return absl::InvalidArgumentError(absl::StrCat(
      "--second-moment factored is for --optimizer adam-mini, not ",
      absl::StrJoin(optimizers, ",")));
}

}  // namespace zeromini::tools
