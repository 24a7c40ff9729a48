// What flags of both programs refuse.

#ifndef ZEROMINI_TOOLS_FLAG_CHECKS_H_
#define ZEROMINI_TOOLS_FLAG_CHECKS_H_

#include <cstdint>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/numbers.h"

namespace zeromini::tools {

// A number from 0 up; not NaN.
inline CLI::Validator NotNegative() {
  return CLI::Validator(
      [](std::string& text) {
        double given = 0;
        return absl::SimpleAtod(text, &given) && given >= 0
                   ? std::string()
                   : "is not a number from 0 up: " + text;
      },
      "0 or more");
}

// In bytes, as 4096, 64KiB or 64kb.
inline CLI::Option* AddSize(CLI::App* verb, const char* flag, int64_t* bytes,
                            const char* what) {
  return verb->add_option(flag, *bytes, what)
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false))
      ->check(NotNegative())
      ->capture_default_str();
}

// Makes each flag of `app` and its verbs refuse an empty value, which often is
// a variable of a script that was not set. Flags without a value are left.
inline void RefuseEmptyValues(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    if (option->get_items_expected_min() == 0) continue;
    option->check(CLI::Validator(
        [](std::string& text) {
          return text.empty() ? std::string("is given nothing") : std::string();
        },
        ""));
  }
  for (CLI::App* verb : app.get_subcommands({})) RefuseEmptyValues(*verb);
}

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_FLAG_CHECKS_H_
