#include "tools/bench_group.h"

#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tools/files/terminal.h"
#include "tools/last_words.h"
#include "tools/rank_threads.h"
#include "tools/timeout_flag.h"
#include "zeromini/group.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

using Body = std::function<absl::Status(BenchRank&)>;

// What all ranks find alike: it is in the flags.
bool IsFoundByAll(const absl::Status& status) {
  return absl::IsInvalidArgument(status) || absl::IsUnimplemented(status) ||
         absl::IsPermissionDenied(status);
}

// An error that peers may not have seen; they may wait for this rank.
bool IsBroken(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kDeadlineExceeded:
      return true;
    default:
      return false;
  }
}

GroupOptions OptionsOf(const GroupFlags& flags) {
  GroupOptions options;
  options.timeout = absl::Seconds(flags.timeout_seconds);
  return options;
}

void Say(const std::string& verb, const std::string& text) {
  std::fprintf(stderr, "zeromini bench %s: %s\n", verb.c_str(),
               ForTerminal(text).c_str());
}

// What all ranks found alike is said once.
void SayOfRank(const std::string& verb, int rank, const absl::Status& status) {
  const std::string text(status.message());
  if (IsFoundByAll(status)) {
    if (rank == 0) Say(verb, text);
  } else if (!status.ok()) {
    Say(verb, absl::StrCat("rank ", rank, ": ", text));
  }
}

int RunOnThreads(const std::string& verb, const GroupFlags& flags,
                 const Body& body) {
  const int ranks = flags.ranks > 0 ? flags.ranks : 2;
  auto group = ThreadGroup(ranks, OptionsOf(flags));
  if (!group.ok()) {
    Say(verb, std::string(group.status().message()));
    return ExitCodeOf(group.status());
  }
  std::vector<absl::Status> results(ranks);
  const absl::Status ran = OnRankThreads(*group, [&](int r) {
    BenchRank rank{*(*group)[r], nullptr};
    results[r] = body(rank);
    if (!results[r].ok()) rank.group.Abort(results[r]);
  });
  if (!ran.ok()) {
    Say(verb, std::string(ran.message()));
    return ExitCodeOf(ran);
  }
  int exit_code = 0;
  for (int r = 0; r < ranks; ++r) {
    SayOfRank(verb, r, results[r]);
    if (exit_code == 0) exit_code = ExitCodeOf(results[r]);
  }
  return exit_code;
}

absl::Status RunOnWorld(const GroupFlags& flags, Communicator& world,
                        std::unique_ptr<RawMpi>* mpi, const Body& body) {
  if (flags.ranks > 0 && flags.ranks != world.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--ranks ", flags.ranks, ", but mpirun started ",
                     world.size(), "; leave --ranks out or make them equal"));
  }
  ZEROMINI_ASSIGN_OR_RETURN(*mpi, RawMpi::Create());
  BenchRank rank{world, mpi->get()};
  return body(rank);
}

// Without MPI_Finalize, which waits for peers that may never come; mpirun then
// ends those. They get time to say what they have found.
[[noreturn]] void LeaveBrokenGroup(int ranks) {
  constexpr absl::Duration kPeersTurn = absl::Seconds(2);
  std::fflush(nullptr);
  if (ranks > 1) absl::SleepFor(kPeersTurn);
  std::_Exit(TellLauncher(1));
}

int RunOnMpi(const std::string& verb, const GroupFlags& flags,
             const Body& body) {
  HoldTermination();
  std::atomic<const Communicator*> made = nullptr;
  LastWords words("zeromini bench " + verb, [&made] {
    const Communicator* world = made;
    return world != nullptr ? world->in_flight() : "in no group";
  });
  auto session = MpiSession::Start();
  if (!session.ok()) {
    Say(verb, absl::StrCat("--comm mpi: ", session.status().message(),
                           "; --comm threads needs no MPI"));
    return ExitCodeOf(session.status());
  }
  JoinJob();
  const int rank = (*session)->rank();
  const int ranks = (*session)->size();
  std::unique_ptr<RawMpi> mpi;
  auto world = (*session)->World(OptionsOf(flags));
  absl::Status status = world.status();
  if (status.ok()) {
    made = world->get();
    status = RunOnWorld(flags, **world, &mpi, body);
  }
  // What a broken group holds is not given back: that would wait for peers.
  if (world.ok() && !IsBroken(status)) {
    mpi.reset();
    const absl::Status closed = (*world)->Close();
    if (status.ok()) status = closed;
  }
  made = nullptr;
  SayOfRank(verb, rank, status);
  if (IsBroken(status)) LeaveBrokenGroup(ranks);
  return ExitCodeOf(status);
}

}  // namespace

void AddGroupFlags(CLI::App* verb, GroupFlags* flags) {
  verb->add_option("--comm", flags->comm,
                   "mpi (under mpirun), or threads of this process")
      ->check(CLI::IsMember({"mpi", "threads"}))
      ->capture_default_str();
  verb->add_option("--ranks", flags->ranks,
                   "Number of threads, by default 2; with mpi it must be the\n"
                   "world size")
      ->check(CLI::Range(1, 4096));
  AddTimeoutFlag(verb, &flags->timeout_seconds);
}

int RunOnGroup(const std::string& verb, const GroupFlags& flags,
               const Body& body) {
  return flags.comm == "mpi" ? RunOnMpi(verb, flags, body)
                             : RunOnThreads(verb, flags, body);
}

absl::StatusOr<std::vector<double>> SlowestRank(
    const std::vector<double>& seconds, Communicator& group) {
  std::vector<int64_t> nanoseconds;
  for (double s : seconds) nanoseconds.push_back(std::llround(s * 1e9));
  Communicator& control = group.control();
  ZEROMINI_RETURN_IF_ERROR(control.AllReduce(
      nanoseconds.data(), static_cast<int64_t>(nanoseconds.size()),
      DType::kInt64, ReduceOp::kMax, Exchange()));
  ZEROMINI_RETURN_IF_ERROR(WaitForExchanges(control));
  std::vector<double> slowest;
  for (int64_t n : nanoseconds)
    slowest.push_back(static_cast<double>(n) * 1e-9);
  return slowest;
}

}  // namespace zeromini::tools
