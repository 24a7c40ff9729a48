#include <mpi.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "comm/mpi/mpi_endpoint.h"
#include "comm/mpi/mpi_status.h"
#include "comm/queued_communicator.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/mpi.h"

namespace zeromini {
namespace {

absl::Status CheckUsable(MPI_Comm comm) {
  if (comm == MPI_COMM_NULL) {
    return absl::InvalidArgumentError("mpi: the communicator is MPI_COMM_NULL");
  }
  int inter = 0;
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Comm_test_inter(comm, &inter), "MPI_Comm_test_inter"));
  if (inter != 0) {
    return absl::InvalidArgumentError("mpi: an intercommunicator has no ranks");
  }
  return absl::OkStatus();
}

absl::Status CheckRunning() {
  int initialized = 0;
  int finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  if (initialized == 0) {
    return absl::FailedPreconditionError("mpi: MPI_Init has not been called");
  }
  if (finalized != 0) {
    return absl::FailedPreconditionError("mpi: MPI is finalised");
  }
  return absl::OkStatus();
}

// Non-blocking, because the deadline holds for a rank that never wraps, too.
absl::StatusOr<MPI_Comm> Duplicate(MPI_Comm comm, absl::Duration timeout) {
  // Outlives a wait that is given up: MPI writes it when the last rank comes.
  auto copy = std::make_unique<MPI_Comm>(MPI_COMM_NULL);
  MPI_Request request = MPI_REQUEST_NULL;
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Comm_idup(comm, copy.get(), &request), "MPI_Comm_idup"));
  MpiRequests requests(comm);
  requests.Adopt(request);
  absl::Status status = requests.Await(timeout, FirstError());
  if (!status.ok()) {
    copy.release();
    if (!absl::IsDeadlineExceeded(status)) return status;
    return absl::DeadlineExceededError(
        absl::StrCat("mpi: not all ranks wrapped the communicator within ",
                     absl::FormatDuration(timeout)));
  }
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Comm_set_errhandler(*copy, MPI_ERRORS_RETURN),
              "MPI_Comm_set_errhandler"));
  return *copy;
}

// Null below MPI_THREAD_MULTIPLE: the trainer's thread may be inside MPI while
// ours would be.
absl::StatusOr<std::shared_ptr<HostStream>> MakeStream(
    int rank, const GroupOptions& options) {
  int provided = MPI_THREAD_SINGLE;
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Query_thread(&provided), "MPI_Query_thread"));
  if (provided < MPI_THREAD_MULTIPLE) return nullptr;
  if (options.make_stream) {
    return std::shared_ptr<HostStream>(options.make_stream(rank));
  }
  return std::shared_ptr<HostStream>(HostStream::Create("zm-comm"));
}

class Session : public MpiSession {
 public:
  Session(int rank, int size) : rank_(rank), size_(size) {}
  ~Session() override {
    if (CheckRunning().ok()) MPI_Finalize();
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  absl::StatusOr<std::unique_ptr<Communicator>> World(
      const GroupOptions& options) override {
    return WrapMpi(MPI_COMM_WORLD, options);
  }

 private:
  const int rank_;
  const int size_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<MpiSession>> MpiSession::Start() {
  int initialized = 0;
  MPI_Initialized(&initialized);
  if (initialized != 0) {
    return absl::FailedPreconditionError(
        "mpi: MPI is initialised already; wrap its communicator instead");
  }
  int provided = MPI_THREAD_SINGLE;
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided),
              "MPI_Init_thread"));
  int rank = 0;
  int size = 0;
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "MPI_Comm_rank"));
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Comm_size(MPI_COMM_WORLD, &size), "MPI_Comm_size"));
  return std::make_unique<Session>(rank, size);
}

std::string MpiDescription(bool* available) {
  if (available != nullptr) *available = true;
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  MPI_Get_library_version(text, &length);
  // "Open MPI v4.1.4, package: ..." or "MPICH Version:      4.0.2\n...".
  std::string line(text, length);
  line = line.substr(0, line.find_first_of(",\n"));
  const size_t version = line.find(" v");
  if (version != std::string::npos) line.erase(version + 1, 1);
  absl::RemoveExtraAsciiWhitespace(&line);
  return line;
}

namespace internal {

absl::StatusOr<std::unique_ptr<Communicator>> WrapMpiHandle(
    const void* comm, size_t handle_bytes, const GroupOptions& options) {
  if (handle_bytes != sizeof(MPI_Comm)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "mpi: the caller's MPI_Comm has ", handle_bytes, " bytes, ours has ",
        sizeof(MPI_Comm), ": the library was built with another MPI"));
  }
  ZEROMINI_RETURN_IF_ERROR(CheckRunning());
  const MPI_Comm original = *static_cast<const MPI_Comm*>(comm);
  ZEROMINI_RETURN_IF_ERROR(CheckUsable(original));
  ZEROMINI_ASSIGN_OR_RETURN(MPI_Comm copy,
                            Duplicate(original, options.timeout));
  ZEROMINI_ASSIGN_OR_RETURN(
      auto endpoint, MpiEndpoint::Create(copy, options.timeout,
                                         std::make_shared<FirstError>()));
  ZEROMINI_ASSIGN_OR_RETURN(auto stream, MakeStream(endpoint->rank(), options));
  return MakeQueuedCommunicator(std::move(endpoint), std::move(stream));
}

}  // namespace internal
}  // namespace zeromini
