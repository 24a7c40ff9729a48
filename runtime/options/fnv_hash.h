// FnvHash: 64-bit FNV-1a, to compare what ranks have without sending it.

#ifndef ZEROMINI_RUNTIME_OPTIONS_FNV_HASH_H_
#define ZEROMINI_RUNTIME_OPTIONS_FNV_HASH_H_

#include <cstdint>
#include <cstring>

#include "absl/strings/string_view.h"

namespace zeromini {

class FnvHash {
 public:
  FnvHash& Add(absl::string_view bytes) {
    for (const char byte : bytes) {
      hash_ = (hash_ ^ static_cast<unsigned char>(byte)) * 0x100000001b3u;
    }
    return *this;
  }

  FnvHash& Add(double value) {  // Its bits.
    char bytes[sizeof(value)];
    std::memcpy(bytes, &value, sizeof(value));
    return Add(absl::string_view(bytes, sizeof(bytes)));
  }

  uint64_t value() const { return hash_; }

 private:
  uint64_t hash_ = 0xcbf29ce484222325u;
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_OPTIONS_FNV_HASH_H_
