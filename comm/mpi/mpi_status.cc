#include "comm/mpi/mpi_status.h"

#include <mpi.h>

#include "absl/strings/str_cat.h"

namespace zeromini {

absl::Status FromMpi(int code, const char* what) {
  if (code == MPI_SUCCESS) return absl::OkStatus();
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  return absl::InternalError(absl::StrCat(
      "mpi: ", what, " failed: ", absl::string_view(text, length)));
}

}  // namespace zeromini
