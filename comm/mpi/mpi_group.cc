#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <numeric>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "comm/mpi/give_way.h"
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
  const auto start = std::chrono::steady_clock::now();
  for (int done = 0;;) {
    ZEROMINI_RETURN_IF_ERROR(
        FromMpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test"));
    if (done != 0) break;
    const auto waited = std::chrono::steady_clock::now() - start;
    if (absl::FromChrono(waited) > timeout) {
      copy.release();
      return absl::DeadlineExceededError(
          absl::StrCat("mpi: not all ranks wrapped the communicator within ",
                       absl::FormatDuration(timeout)));
    }
    GiveWay(waited);
  }
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Comm_set_errhandler(*copy, MPI_ERRORS_RETURN),
              "MPI_Comm_set_errhandler"));
  return *copy;
}

bool AnyThread() {
  int provided = MPI_THREAD_SINGLE;
  MPI_Query_thread(&provided);
  return provided >= MPI_THREAD_MULTIPLE;
}

// Null below MPI_THREAD_MULTIPLE: the trainer's thread may be inside MPI while
// ours would be.
std::shared_ptr<HostStream> MakeStream(int rank, const GroupOptions& options) {
  if (!AnyThread()) return nullptr;
  if (options.make_stream) {
    return std::shared_ptr<HostStream>(options.make_stream(rank));
  }
  return std::shared_ptr<HostStream>(HostStream::Create("zm-comm"));
}

// The lowest rank of the machine that this rank is on.
absl::StatusOr<int> LowestOfMachine(MPI_Comm comm, int rank) {
  MPI_Comm machine = MPI_COMM_NULL;
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, rank,
                                  MPI_INFO_NULL, &machine),
              "MPI_Comm_split_type"));
  int lowest = rank;
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Bcast(&lowest, 1, MPI_INT, 0, machine), "MPI_Bcast"));
  ZEROMINI_RETURN_IF_ERROR(FromMpi(MPI_Comm_free(&machine), "MPI_Comm_free"));
  return lowest;
}

// The host of each rank: GroupOptions::hosts where all ranks gave the same and
// it joins no machines; the machines if none gave any.
absl::StatusOr<std::vector<int>> Hosts(MPI_Comm comm, int rank, int size,
                                       const std::vector<int>& chosen) {
  ZEROMINI_ASSIGN_OR_RETURN(const int machine, LowestOfMachine(comm, rank));
  int given = static_cast<int>(chosen.size());
  MPI_Bcast(&given, 1, MPI_INT, 0, comm);
  if (given != 0 && given != size) {
    return absl::InvalidArgumentError(
        absl::StrCat("mpi: GroupOptions::hosts has ", given,
                     " entries, the communicator ", size, " ranks"));
  }
  std::vector<int> hosts = chosen;
  hosts.resize(given);
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Bcast(hosts.data(), given, MPI_INT, 0, comm), "MPI_Bcast"));
  const int mine[2] = {machine, hosts == chosen ? 1 : 0};
  std::vector<int> all(2 * size);
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Allgather(mine, 2, MPI_INT, all.data(), 2, MPI_INT, comm),
              "MPI_Allgather"));
  std::map<int, int> first_of;  // By host.
  for (int r = 0; r < size; ++r) {
    if (all[2 * r + 1] == 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "mpi: rank ", r, " gives other GroupOptions::hosts than rank 0"));
    }
    if (given == 0) hosts.push_back(all[2 * r]);
    const int first = first_of.try_emplace(hosts[r], r).first->second;
    if (all[2 * first] != all[2 * r]) {
      return absl::InvalidArgumentError(
          absl::StrCat("mpi: GroupOptions::hosts puts ranks ", first, " and ",
                       r, " on one host, but they share no memory"));
    }
  }
  return hosts;
}

struct Wrapped {
  std::unique_ptr<Communicator> group;
  std::shared_ptr<MpiWatch> watch;
};

absl::StatusOr<Wrapped> Wrap(MPI_Comm original, const GroupOptions& options) {
  ZEROMINI_RETURN_IF_ERROR(CheckRunning());
  ZEROMINI_RETURN_IF_ERROR(CheckUsable(original));
  ZEROMINI_ASSIGN_OR_RETURN(MPI_Comm copy,
                            Duplicate(original, options.timeout));
  int rank = 0;
  int size = 0;
  MPI_Comm_rank(copy, &rank);
  MPI_Comm_size(copy, &size);
  ZEROMINI_ASSIGN_OR_RETURN(const std::vector<int> hosts,
                            Hosts(copy, rank, size, options.hosts));
  ZEROMINI_ASSIGN_OR_RETURN(
      auto watch, MpiWatch::Create(copy, options.timeout, AnyThread()));
  std::vector<int> members(size);
  std::iota(members.begin(), members.end(), 0);
  ZEROMINI_ASSIGN_OR_RETURN(
      auto link, MpiLink::Create(copy, std::move(members), hosts, watch));
  auto group =
      MakeQueuedCommunicator(std::make_shared<MpiEndpoint>(std::move(link)),
                             MakeStream(rank, options));
  return Wrapped{std::move(group), std::move(watch)};
}

class Session : public MpiSession {
 public:
  Session(int rank, int size) : rank_(rank), size_(size) {}
  ~Session() override {
    if (!CheckRunning().ok()) return;
    // It would wait for a rank that may never come.
    const bool lost =
        std::any_of(watches_.begin(), watches_.end(),
                    [](const auto& watch) { return watch->lost_a_rank(); });
    if (!lost) MPI_Finalize();
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  absl::StatusOr<std::unique_ptr<Communicator>> World(
      const GroupOptions& options) override {
    ZEROMINI_ASSIGN_OR_RETURN(Wrapped wrapped, Wrap(MPI_COMM_WORLD, options));
    watches_.push_back(std::move(wrapped.watch));
    return std::move(wrapped.group);
  }

 private:
  const int rank_;
  const int size_;
  std::vector<std::shared_ptr<MpiWatch>> watches_;  // Of its groups.
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
  ZEROMINI_ASSIGN_OR_RETURN(Wrapped wrapped,
                            Wrap(*static_cast<const MPI_Comm*>(comm), options));
  return std::move(wrapped.group);
}

}  // namespace internal
}  // namespace zeromini
