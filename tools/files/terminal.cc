#include "tools/files/terminal.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace zeromini::tools {
namespace {

// Bytes of the character that begins `text`, and the character; 0 if it is not
// UTF-8.
size_t FirstCharacter(absl::string_view text, uint32_t* character) {
  const auto byte = [&text](size_t i) {
    return static_cast<uint32_t>(static_cast<unsigned char>(text[i]));
  };
  const uint32_t lead = byte(0);
  *character = lead;
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return 0;
  *character = lead & (0xFFu >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
    *character = *character << 6 | (byte(i) & 0x3F);
  }
  constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = *character >= 0xD800 && *character <= 0xDFFF;
  const bool good =
      *character >= kSmallest[length] && !surrogate && *character <= 0x10FFFF;
  return good ? length : 0;
}

bool IsHarmless(uint32_t c) {
  const bool control = c < 0x20 || (c >= 0x7F && c < 0xA0);
  const bool separator = c == 0x2028 || c == 0x2029;
  const bool reorders = c == 0x200E || c == 0x200F || c == 0x061C ||
                        (c >= 0x202A && c <= 0x202E) ||
                        (c >= 0x2066 && c <= 0x2069);
  return !control && !separator && !reorders;
}

}  // namespace

std::string ForTerminal(absl::string_view text) {
  std::string shown;
  while (!text.empty()) {
    uint32_t character = 0;
    const size_t length = FirstCharacter(text, &character);
    const size_t taken = length == 0 ? 1 : length;
    if (character == '\n' || character == '\r' || character == '\t') {
      shown += ' ';
    } else if (length > 0 && IsHarmless(character)) {
      absl::StrAppend(&shown, text.substr(0, taken));
    } else {
      for (const char c : text.substr(0, taken)) {
        absl::StrAppendFormat(&shown, "\\x%02x", static_cast<unsigned char>(c));
      }
    }
    text.remove_prefix(taken);
  }
  return shown;
}

std::string LinesForTerminal(absl::string_view text) {
  std::string shown;
  while (!text.empty()) {
    const absl::string_view line = text.substr(0, text.find('\n'));
    absl::StrAppend(&shown, ForTerminal(line), "\n");
    text.remove_prefix(std::min(text.size(), line.size() + 1));
  }
  return shown;
}

int ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kUnimplemented:
      return 2;
    default:
      return 1;
  }
}

int ReportStatus(const std::string& program, const absl::Status& status) {
  if (status.ok()) return 0;
  // One write, so that the lines of several ranks do not mix.
  const std::string line =
      absl::StrCat(program, ": ", ForTerminal(status.message()), "\n");
  std::fwrite(line.data(), 1, line.size(), stderr);
  return ExitCodeOf(status);
}

void OpenStandardStreams() {
  for (const int fd : {0, 1, 2}) {
    // For reading: a write fails, as to a closed stream.
    if (fcntl(fd, F_GETFD) < 0) open("/dev/null", O_RDONLY);
  }
}

int FinishOutput(const std::string& program, int exit_code) {
  errno = 0;
  const bool flushed = std::fflush(stdout) == 0;
  if ((flushed && std::ferror(stdout) == 0) || exit_code != 0) return exit_code;
  std::fprintf(stderr, "%s: stdout: cannot be written%s%s\n", program.c_str(),
               errno == 0 ? "" : ": ", errno == 0 ? "" : std::strerror(errno));
  return 1;
}

}  // namespace zeromini::tools
