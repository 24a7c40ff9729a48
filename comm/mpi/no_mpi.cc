#include <cstddef>

#include "zeromini/group.h"

namespace zeromini {
namespace {

constexpr char kAbsent[] = "not built: configured without MPI";

}  // namespace

absl::StatusOr<std::unique_ptr<MpiSession>> MpiSession::Start() {
  return absl::UnimplementedError(kAbsent);
}

std::string MpiDescription(bool* available) {
  if (available != nullptr) *available = false;
  return kAbsent;
}

namespace internal {

// Declared in zeromini/mpi.h, which needs the mpi.h that is absent here.
absl::StatusOr<std::unique_ptr<Communicator>> WrapMpiHandle(
    const void*, size_t, const GroupOptions&) {
  return absl::UnimplementedError(kAbsent);
}

}  // namespace internal
}  // namespace zeromini
