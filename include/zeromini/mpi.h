// Opt-in: wraps the trainer's own MPI communicator. Include it where mpi.h is.

#ifndef ZEROMINI_MPI_H_
#define ZEROMINI_MPI_H_

#include <mpi.h>

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "zeromini/group.h"

namespace zeromini {
namespace internal {
// `comm` points to an MPI_Comm of `handle_bytes`, so that the core's own
// headers need no MPI.
absl::StatusOr<std::unique_ptr<Communicator>> WrapMpiHandle(
    const void* comm, size_t handle_bytes, const GroupOptions& options);
}  // namespace internal

// Collective over `comm`, which is duplicated and never freed or used itself.
// Exchanges run on one communication thread if MPI offers
// MPI_THREAD_MULTIPLE. Otherwise overlaps() is false and they run on the thread
// that has initialised MPI, which must wrap and wait; what others ask for runs
// at its next call, and so does an Abort() of theirs reach the other ranks.
// Unimplemented if the library was built without MPI; FailedPrecondition if
// MPI is not initialised.
inline absl::StatusOr<std::unique_ptr<Communicator>> WrapMpi(
    MPI_Comm comm, const GroupOptions& options = {}) {
  return internal::WrapMpiHandle(&comm, sizeof(comm), options);
}

}  // namespace zeromini

#endif  // ZEROMINI_MPI_H_
