// --timeout, as every program that makes a group has it.

#ifndef ZEROMINI_TOOLS_TIMEOUT_FLAG_H_
#define ZEROMINI_TOOLS_TIMEOUT_FLAG_H_

#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/numbers.h"

namespace zeromini::tools {

inline constexpr double kDefaultTimeoutSeconds = 600;

// False for NaN, too.
inline bool IsTimeout(double seconds) {
  return seconds >= 0.1 && seconds <= 86400;
}

// GroupOptions::timeout, in seconds.
inline void AddTimeoutFlag(CLI::App* verb, double* seconds) {
  const CLI::Validator check(
      [](const std::string& text) {
        double given = 0;
        return absl::SimpleAtod(text, &given) && IsTimeout(given)
                   ? std::string()
                   : "is not a number of seconds from 0.1 to 86400: " + text;
      },
      "0.1 to 86400");
  verb->add_option(
          "--timeout", *seconds,
          "Seconds after which a wait for a peer is given up; not of the "
          "start of MPI, which waits for every rank without end")
      ->check(check)
      ->capture_default_str();
}

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TIMEOUT_FLAG_H_
