// LogSink: where the library's warnings go.

#ifndef ZEROMINI_LOG_H_
#define ZEROMINI_LOG_H_

#include <cstdio>
#include <functional>

#include "absl/strings/string_view.h"

namespace zeromini {

enum class LogLevel { kInfo, kWarning };

// Takes one message, without a line end and without colours. Any thread may
// call it, also while another does. It must not throw, nor call the object
// whose options it was given in. See OptimizerOptions::log.
using LogSink = std::function<void(LogLevel level, absl::string_view message)>;

// To `sink`; if it is null, one line on stderr: "zeromini: warning: ...".
inline void Log(const LogSink& sink, LogLevel level,
                absl::string_view message) {
  if (sink) {
    sink(level, message);
    return;
  }
  // One call, so that lines of several threads do not mix.
  std::fprintf(stderr, "zeromini: %s%.*s\n",
               level == LogLevel::kWarning ? "warning: " : "",
               static_cast<int>(message.size()), message.data());
}

}  // namespace zeromini

#endif  // ZEROMINI_LOG_H_
