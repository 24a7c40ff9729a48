#include <mpi.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "comm/enqueue.h"
#include "comm/mpi/main_thread_stream.h"
#include "comm/mpi/mpi_endpoint.h"
#include "comm/mpi/mpi_setup.h"
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

bool AnyThread() {
  int provided = MPI_THREAD_SINGLE;
  MPI_Query_thread(&provided);
  return provided >= MPI_THREAD_MULTIPLE;
}

absl::Status CheckThread() {
  if (AnyThread() || OnMainThread()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "mpi: only the thread that has initialised MPI may call it: wrap the "
      "communicator there, or initialise MPI with MPI_THREAD_MULTIPLE");
}

// Without a thread of our own below MPI_THREAD_MULTIPLE: the trainer's may be
// inside MPI while ours would be, and so may any of the trainer's threads while
// another gives a gradient, for MPI_THREAD_SERIALIZED leaves it to the trainer
// to keep them apart.
std::shared_ptr<HostStream> MakeStream(int rank, const GroupOptions& options) {
  if (!AnyThread()) return MakeMainThreadStream(options.timeout);
  if (options.make_stream) return options.make_stream(rank);
  return HostStream::Create("zm-comm");
}

// What the ranks tell each other first. Travels as plain bytes.
struct Introduction {
  char host[MPI_MAX_PROCESSOR_NAME] = "";
  char boot[40] = "";  // Of the machine: hosts may have equal names.
  int32_t hosts_given = 0;
  uint64_t hosts_hash = 0;
  char no_stream[200] = "";  // Why this rank has none.

  bool SharesMachineWith(const Introduction& other) const {
    return std::memcmp(host, other.host, sizeof(host)) == 0 &&
           std::memcmp(boot, other.boot, sizeof(boot)) == 0;
  }
};

uint64_t HashOf(const std::vector<int>& hosts) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a, a number at a time.
  for (int host : hosts) {
    hash = (hash ^ static_cast<uint32_t>(host)) * 0x100000001b3u;
  }
  return hash;
}

Introduction IntroduceMyself(const std::vector<int>& hosts,
                             const absl::Status& stream) {
  Introduction mine;
  int length = 0;
  MPI_Get_processor_name(mine.host, &length);
  std::memset(mine.host + length, 0, sizeof(mine.host) - length);
  std::ifstream("/proc/sys/kernel/random/boot_id")
      .getline(mine.boot, sizeof(mine.boot));
  mine.hosts_given = static_cast<int32_t>(hosts.size());
  mine.hosts_hash = HashOf(hosts);
  std::string(stream.message())
      .copy(mine.no_stream, sizeof(mine.no_stream) - 1);
  return mine;
}

// The same on all ranks.
absl::Status CheckStreams(const std::vector<Introduction>& all) {
  for (size_t r = 0; r < all.size(); ++r) {
    if (all[r].no_stream[0] == '\0') continue;
    return absl::ResourceExhaustedError(
        absl::StrCat("mpi: rank ", r, ": ", all[r].no_stream));
  }
  return absl::OkStatus();
}

// The host of each rank: GroupOptions::hosts where all ranks gave the same and
// it joins no machines; the machines if none gave any. The same on all ranks.
absl::StatusOr<std::vector<int>> Hosts(const std::vector<Introduction>& all,
                                       std::vector<int> hosts) {
  ZEROMINI_RETURN_IF_ERROR(CheckStreams(all));
  const int size = static_cast<int>(all.size());
  const int given = all[0].hosts_given;
  if (given != 0 && given != size) {
    return absl::InvalidArgumentError(
        absl::StrCat("mpi: GroupOptions::hosts has ", given,
                     " entries, the communicator ", size, " ranks"));
  }
  for (int r = 1; r < size; ++r) {
    if (all[r].hosts_given != given || all[r].hosts_hash != all[0].hosts_hash) {
      return absl::InvalidArgumentError(absl::StrCat(
          "mpi: rank ", r, " gives other GroupOptions::hosts than rank 0"));
    }
  }
  std::map<std::string, int> machines;  // The first rank of each.
  std::map<int, int> first_of;          // By host.
  for (int r = 0; r < size; ++r) {
    if (given == 0) {
      const std::string machine = absl::StrCat(all[r].host, "\n", all[r].boot);
      hosts.push_back(machines.try_emplace(machine, r).first->second);
    }
    const int first = first_of.try_emplace(hosts[r], r).first->second;
    if (!all[first].SharesMachineWith(all[r])) {
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
  ZEROMINI_RETURN_IF_ERROR(CheckThread());
  ZEROMINI_RETURN_IF_ERROR(CheckUsable(original));
  MpiSetup setup(options.timeout, options.log);
  ZEROMINI_ASSIGN_OR_RETURN(MPI_Comm copy, setup.Duplicate(original));
  int rank = 0;
  MPI_Comm_rank(copy, &rank);
  std::shared_ptr<HostStream> stream = MakeStream(rank, options);
  ZEROMINI_ASSIGN_OR_RETURN(
      const std::vector<Introduction> all,
      setup.AllGather(copy,
                      IntroduceMyself(options.hosts, ErrorOf(stream.get()))));
  const absl::StatusOr<std::vector<int>> hosts = Hosts(all, options.hosts);
  if (!hosts.ok()) {
    MPI_Comm_free(&copy);  // As all ranks do.
    return hosts.status();
  }
  std::vector<std::string> names;
  for (const Introduction& introduction : all) {
    names.emplace_back(introduction.host);
  }
  ZEROMINI_ASSIGN_OR_RETURN(MPI_Comm notices, setup.Duplicate(copy));
  auto watch = std::make_shared<MpiWatch>(
      notices, MpiWatch::Hosts{*hosts, std::move(names)}, options.timeout,
      AnyThread());
  setup.ListenTo(watch);
  ZEROMINI_RETURN_IF_ERROR(watch->Connect());
  std::vector<int> members(all.size());
  std::iota(members.begin(), members.end(), 0);
  ZEROMINI_ASSIGN_OR_RETURN(
      auto link,
      MpiLink::Create(setup, copy, std::move(members), *hosts, watch));
  auto group =
      MakeQueuedCommunicator(std::make_shared<MpiEndpoint>(std::move(link)),
                             std::move(stream), AnyThread());
  return Wrapped{std::move(group), std::move(watch)};
}

// Of a failure that all ranks agree on, so that none is left inside MPI.
bool IsAgreed(const absl::Status& status) {
  return absl::IsInvalidArgument(status) ||
         absl::IsFailedPrecondition(status) ||
         absl::IsResourceExhausted(status);
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
    if (!lost && !stuck_) MPI_Finalize();
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  absl::StatusOr<std::unique_ptr<Communicator>> World(
      const GroupOptions& options) override {
    auto wrapped = Wrap(MPI_COMM_WORLD, options);
    if (!wrapped.ok()) {
      stuck_ = stuck_ || !IsAgreed(wrapped.status());
      return wrapped.status();
    }
    watches_.push_back(std::move(wrapped->watch));
    return std::move(wrapped->group);
  }

 private:
  const int rank_;
  const int size_;
  std::vector<std::shared_ptr<MpiWatch>> watches_;  // Of its groups.
  bool stuck_ = false;  // A group could not be made: peers may be inside MPI.
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
