#include "zeromini/internal/json_text.h"

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace zeromini {
namespace {

using nlohmann::json;

// "line 2, column 5" of the byte at `position`.
std::string Place(absl::string_view text, size_t position) {
  const absl::string_view before =
      text.substr(0, std::min(position, text.size()));
  const size_t line_begin = before.rfind('\n');
  const size_t column = line_begin == absl::string_view::npos
                            ? before.size()
                            : before.size() - line_begin - 1;
  return absl::StrCat("line ",
                      1 + std::count(before.begin(), before.end(), '\n'),
                      ", column ", std::max<size_t>(column, 1));
}

// Follows a parse; keeps the keys of the objects that are open, no values.
class Follower : public nlohmann::json_sax<json> {
 public:
  explicit Follower(absl::string_view text) : text_(text) {}

  const absl::Status& status() const { return status_; }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(int64_t) override { return true; }
  bool number_unsigned(uint64_t) override { return true; }
  bool number_float(double, const std::string&) override { return true; }
  bool string(std::string&) override { return true; }
  bool binary(json::binary_t&) override { return true; }
  bool start_object(std::size_t) override { return Open(); }
  bool end_object() override { return Close(); }
  bool start_array(std::size_t) override { return Open(); }
  bool end_array() override { return Close(); }

  bool key(std::string& key) override {
    if (keys_.back().insert(key).second) return true;
    return Fail(absl::StrCat("key \"", key.substr(0, kShownKey),
                             "\": is listed twice"));
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    if (position > text_.size()) return Fail("ends in the middle of a value");
    const bool utf8 = absl::StrContains(error.what(), "ill-formed UTF-8");
    return Fail(absl::StrCat(utf8 ? "is not UTF-8 at " : "is malformed at ",
                             Place(text_, position)));
  }

 private:
  static constexpr size_t kShownKey = 80;

  bool Open() {
    if (static_cast<int>(keys_.size()) == kJsonDepth) {
      return Fail(absl::StrCat("is nested deeper than ", kJsonDepth));
    }
    keys_.emplace_back();
    return true;
  }
  bool Close() {
    keys_.pop_back();
    return true;
  }
  bool Fail(const std::string& what) {
    status_ = absl::InvalidArgumentError(what);
    return false;
  }

  const absl::string_view text_;
  std::vector<std::set<std::string>> keys_;  // Empty for a list.
  absl::Status status_;
};

}  // namespace

absl::Status CheckJson(absl::string_view text) {
  if (absl::StartsWith(text, "\xEF\xBB\xBF")) {
    return absl::InvalidArgumentError(
        "begins with a byte-order mark; save it without one");
  }
  // The parser takes it for the end of the text.
  const size_t nul = text.find('\0');
  if (nul != absl::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("has a NUL byte at offset ", nul));
  }
  Follower follower(text);
  json::sax_parse(text.begin(), text.end(), &follower);
  return follower.status();
}

}  // namespace zeromini
