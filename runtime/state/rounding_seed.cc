#include "runtime/state/rounding_seed.h"

#include "runtime/options/fnv_hash.h"

namespace zeromini {

uint64_t RoundingSeed(Rounded what, absl::string_view param_name) {
  const char kind = static_cast<char>(what);
  return FnvHash().Add(param_name).Add(absl::string_view(&kind, 1)).value();
}

}  // namespace zeromini
