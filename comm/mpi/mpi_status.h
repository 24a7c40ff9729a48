// MPI's return codes as Status.

#ifndef ZEROMINI_COMM_MPI_MPI_STATUS_H_
#define ZEROMINI_COMM_MPI_MPI_STATUS_H_

#include "absl/status/status.h"

namespace zeromini {

// Internal, with MPI's own words; `what` is the MPI function. OK for
// MPI_SUCCESS.
absl::Status FromMpi(int code, const char* what);

}  // namespace zeromini

#endif  // ZEROMINI_COMM_MPI_MPI_STATUS_H_
