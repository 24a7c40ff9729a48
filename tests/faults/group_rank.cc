// One rank of a group that something happens to. Run by scripts under mpirun.
//
//   group_rank absent OUT   rank 1 never makes the group: rank 0 leaves with an
//                           error, without waiting for it
//   group_rank sum OUT      all-reduces until the file OUT/end is there, then
//                           closes; writes OUT/rank-R: "good", or what is wrong
//   group_rank once OUT     the same, three all-reduces
//   group_rank logs OUT     makes a group and splits it; warnings go to
//                           OUT/warnings-R instead of stderr

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "zeromini/group.h"

namespace zeromini {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(2);

// Whole or not at all.
void Write(const std::string& file, const std::string& text) {
  std::ofstream(file + ".tmp") << text << "\n";
  std::rename((file + ".tmp").c_str(), file.c_str());
}

int Absent(std::unique_ptr<MpiSession> session, const std::string& out) {
  const std::string left = out + "/rank-0-left";
  if (session->rank() != 0) {
    for (int i = 0; i < 200 && !std::filesystem::exists(left); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    _exit(0);
  }
  GroupOptions options;
  options.timeout = kTimeout;
  const auto world = session->World(options);
  session.reset();
  Write(left, world.status().ToString());
  return 1;
}

// Each rank counts up from its own number; so does the sum.
absl::Status Sum(Communicator& group, int64_t round) {
  std::vector<int64_t> data(1000, group.rank() + round);
  absl::Status status = group.AllReduce(data.data(), 1000, DType::kInt64,
                                        ReduceOp::kSum, {Purpose::kGradients});
  if (!status.ok()) return status;
  status = group.Finish(absl::InfiniteFuture());
  if (!status.ok()) return status;
  const int64_t size = group.size();
  const int64_t expected = size * (size - 1) / 2 + size * round;
  if (data[0] == expected && data[999] == expected) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("sum ", round, " is ", data[0], " and not ", expected));
}

int MakesGroupsThatLog(MpiSession& session, const std::string& out) {
  const std::string warnings = absl::StrCat(out, "/warnings-", session.rank());
  GroupOptions options;
  options.log = [&](LogLevel, absl::string_view message) {
    std::ofstream(warnings, std::ios::app) << message << "\n";
  };
  const auto world = session.World(options);
  if (!world.ok()) return 1;
  auto part = (*world)->Split(0, 0);
  if (!part.ok()) return 1;
  return (*part)->Close().ok() && (*world)->Close().ok() ? 0 : 1;
}

int SumUntilTheEnd(MpiSession& session, bool once, const std::string& out) {
  GroupOptions options;
  options.timeout = kTimeout;
  auto world = session.World(options);
  absl::Status status = world.status();
  int64_t end = 0;
  for (int64_t round = 0; status.ok() && end == 0; ++round) {
    status = Sum(**world, round);
    if (round == 100)
      Write(absl::StrCat(out, "/pid-", session.rank()), absl::StrCat(getpid()));
    // All ranks end in the same round.
    end = once ? round == 2 : std::filesystem::exists(out + "/end");
    if (!status.ok()) break;
    status = (*world)->Broadcast(&end, sizeof(end), 0, {});
    status.Update((*world)->Finish(absl::InfiniteFuture()));
  }
  if (status.ok()) status = (*world)->Close();
  Write(absl::StrCat(out, "/rank-", session.rank()),
        status.ok() ? "good" : status.ToString());
  // MPI would wait for a lost rank when it finalises.
  if (!status.ok()) _exit(1);
  return 0;
}

}  // namespace
}  // namespace zeromini

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  auto session = zeromini::MpiSession::Start();
  if (!session.ok()) return 2;
  const std::string what = argv[1];
  if (what == "absent") return zeromini::Absent(*std::move(session), argv[2]);
  if (what == "logs") return zeromini::MakesGroupsThatLog(**session, argv[2]);
  return zeromini::SumUntilTheEnd(**session, what == "once", argv[2]);
}
