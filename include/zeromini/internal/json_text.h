// What every JSON text is held to before it is parsed.

#ifndef ZEROMINI_INTERNAL_JSON_TEXT_H_
#define ZEROMINI_INTERNAL_JSON_TEXT_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace zeromini {

// Deeper objects and lists are refused: copying, printing and destroying a
// parsed value may recurse.
inline constexpr int kJsonDepth = 200;

// OK for one JSON value and nothing else. InvalidArgument for all that a parser
// lets pass: a byte-order mark, a NUL byte, what follows the value, a key that
// comes twice in an object, bytes that are not UTF-8, deeper nesting than
// kJsonDepth. The message says where, and leaves the path to the caller. Linear
// in the text, but for the keys' lookup.
absl::Status CheckJson(absl::string_view text);

}  // namespace zeromini

#endif  // ZEROMINI_INTERNAL_JSON_TEXT_H_
