#include "comm/mpi/mpi_setup.h"

#include <chrono>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "comm/mpi/give_way.h"
#include "comm/mpi/mpi_status.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {

absl::Status MpiSetup::Finish(MPI_Request* request) {
  const auto start = std::chrono::steady_clock::now();
  for (;;) {
    int done = 0;
    ZEROMINI_RETURN_IF_ERROR(
        FromMpi(MPI_Test(request, &done, MPI_STATUS_IGNORE), "MPI_Test"));
    if (done != 0) {
      all_came_ = true;
      return absl::OkStatus();
    }
    if (watch_ != nullptr) ZEROMINI_RETURN_IF_ERROR(watch_->Look());
    if (patience_.IsOver()) return GiveUp();
    GiveWay(std::chrono::steady_clock::now() - start);
  }
}

absl::Status MpiSetup::GiveUp() const {
  const char* what =
      all_came_ || watch_ != nullptr
          ? "mpi: not all ranks went on making the group within "
          : "mpi: not all ranks wrapped the communicator within ";
  const absl::Status why = absl::DeadlineExceededError(
      absl::StrCat(what, absl::FormatDuration(timeout_)));
  if (watch_ == nullptr) return why;
  watch_->Break(why);
  return watch_->error();
}

absl::StatusOr<MPI_Comm> MpiSetup::Duplicate(MPI_Comm comm) {
  // Outlives a wait that is given up: MPI writes it when the last rank comes.
  auto copy = std::make_unique<MPI_Comm>(MPI_COMM_NULL);
  MPI_Request request = MPI_REQUEST_NULL;
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Comm_idup(comm, copy.get(), &request), "MPI_Comm_idup"));
  const absl::Status finished = Finish(&request);
  if (!finished.ok()) {
    copy.release();
    return finished;
  }
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Comm_set_errhandler(*copy, MPI_ERRORS_RETURN),
              "MPI_Comm_set_errhandler"));
  return *copy;
}

absl::Status MpiSetup::AllGatherBytes(MPI_Comm comm, const void* mine,
                                      void* all, int bytes) {
  int size = 0;
  MPI_Comm_size(comm, &size);
  // Own contribution first. Outlives a wait that is given up, as above.
  const size_t total = static_cast<size_t>(bytes) * (size + 1);
  auto buffer = std::make_unique<char[]>(total);
  std::memcpy(buffer.get(), mine, bytes);
  MPI_Request request = MPI_REQUEST_NULL;
  ZEROMINI_RETURN_IF_ERROR(FromMpi(
      MPI_Iallgather(buffer.get(), bytes, MPI_BYTE, buffer.get() + bytes, bytes,
                     MPI_BYTE, comm, &request),
      "MPI_Iallgather"));
  const absl::Status finished = Finish(&request);
  if (!finished.ok()) {
    buffer.release();
    return finished;
  }
  std::memcpy(all, buffer.get() + bytes, total - bytes);
  return absl::OkStatus();
}

}  // namespace zeromini
