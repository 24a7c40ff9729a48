// What a C program reads: codes, and messages that name what c.h has.

#ifndef ZEROMINI_RUNTIME_C_C_MESSAGE_H_
#define ZEROMINI_RUNTIME_C_C_MESSAGE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "zeromini/c.h"

namespace zeromini::c_api {

// `message` with the C++ API's names replaced by those of c.h.
std::string InC(absl::string_view message);

// Malloc'd, for zeromini_free().
char* CopyString(const std::string& text);

// The code of `status`; a failure puts its message into *error, if not null.
zeromini_code Fail(const absl::Status& status, char** error);

}  // namespace zeromini::c_api

#endif  // ZEROMINI_RUNTIME_C_C_MESSAGE_H_
