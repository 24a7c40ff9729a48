// For tests under zeromini_mpi_test(): every rank runs every test.

#ifndef ZEROMINI_TESTS_SUPPORT_MPI_SESSION_H_
#define ZEROMINI_TESTS_SUPPORT_MPI_SESSION_H_

#include "zeromini/group.h"

namespace zeromini {

// The one session of the test program. Each test makes a World() of its own, so
// that one that breaks its group leaves the next alone.
MpiSession& TestSession();

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_MPI_SESSION_H_
