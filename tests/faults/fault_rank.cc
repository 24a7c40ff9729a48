// One rank of a training run in which one rank is killed or stopped. Run by
// fault_cell.sh under mpirun; the survivors say in files what they saw.
//
//   fault_rank PHASE SIGNAL ROUND OUT
//
// PHASE: gradients, scalars, kernel, weights. The victim and the moment within
// the phase follow from ROUND.

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/optimizer_parts.h"
#include "support/watched_communicator.h"
#include "zeromini/group.h"
#include "zeromini/optimizer.h"

namespace zeromini {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(3);
constexpr int kSteps = 3;  // Complete ones before the fault.
constexpr int kLayers = 4;
constexpr int64_t kRows = 256;
constexpr int64_t kColumns = 1024;

struct Fault {
  std::string phase;
  int signal = SIGKILL;
  int victim = 0;
  std::chrono::microseconds delay{0};
  std::atomic<bool> armed{false};

  // With a delay the signal may hit an exchange half way.
  void Strike() {
    if (!armed.exchange(false)) return;
    if (delay.count() == 0) kill(getpid(), signal);
    std::thread([this] {
      std::this_thread::sleep_for(delay);
      kill(getpid(), signal);
    }).detach();
    if (phase == "kernel") pause();  // It dies in there.
  }
};

// Strikes when an exchange of its phase is submitted.
void StrikeIn(Fault& fault, const Exchange& exchange) {
  const bool here =
      (fault.phase == "gradients" && exchange.purpose == Purpose::kGradients &&
       exchange.bucket == 1) ||
      (fault.phase == "scalars" && exchange.purpose == Purpose::kScalars) ||
      (fault.phase == "weights" && exchange.purpose == Purpose::kWeights &&
       exchange.bucket == 1);
  if (here) fault.Strike();
}

// Strikes when the kernel of the second update runs.
class FaultyMethod : public Method {
 public:
  explicit FaultyMethod(Fault& fault) : fault_(fault) {}
  absl::Status PackGradient(const KernelTable& kernels,
                            const GradientPack& pack,
                            Stream stream) const override {
    return inner_->PackGradient(kernels, pack, stream);
  }
  absl::Status Update(const KernelTable& kernels, const RunUpdate& update,
                      Stream stream) const override {
    if (fault_.phase == "kernel" && update.param.layer == 1) fault_.Strike();
    return inner_->Update(kernels, update, stream);
  }

 private:
  const std::shared_ptr<const Method> inner_ = MakeBlockMethod();
  Fault& fault_;
};

std::vector<ParamSpec> Layers(std::vector<std::vector<float>>* weights) {
  std::vector<ParamSpec> specs;
  for (int layer = 0; layer < kLayers; ++layer) {
    weights->emplace_back(kRows * kColumns, 0.5f);
    ParamSpec spec;
    spec.name = absl::StrCat("layers.", layer, ".weight");
    spec.shape = {kRows, kColumns};
    spec.rule = BlockRule::Rows();
    spec.layer = layer;
    spec.data = weights->back().data();
    specs.push_back(spec);
  }
  return specs;
}

absl::StatusOr<StepReport> TrainStep(Optimizer& optimizer,
                                     const std::vector<float>& gradient) {
  for (int layer = kLayers - 1; layer >= 0; --layer) {
    absl::Status given = optimizer.GradReady(layer, gradient.data());
    if (!given.ok()) return given;
  }
  return optimizer.Step({1e-3});
}

// What is wrong with what this survivor saw; empty if nothing is.
std::string Judge(const Fault& fault, const absl::Status& status,
                  absl::Duration took, const absl::Status& later,
                  bool weights_kept) {
  const std::string text(status.message());
  if (!absl::IsDeadlineExceeded(status)) return "not DeadlineExceeded";
  if (!absl::StrContains(text, absl::StrCat("; rank ", fault.victim,
                                            " did not come (host "))) {
    return "the culprit is not named, or not alone";
  }
  if (took > kTimeout + absl::Seconds(1)) {
    return absl::StrCat("took ", absl::FormatDuration(took));
  }
  const bool says_partly = absl::StrContains(text, "partly updated");
  if (!weights_kept && !says_partly) return "weights changed unannounced";
  // A late signal strikes in a later phase: fault_cell.sh counts them.
  if (!absl::StrContains(text, "reduce-scatter of gradients, bucket ") &&
      !absl::StrContains(text, "all-reduce of scalars") &&
      !absl::StrContains(text, "all-gather of weights, bucket ")) {
    return "phase and bucket are not named";
  }
  if (later.code() != status.code() ||
      !absl::StrContains(later.message(), "did not come")) {
    return absl::StrCat("a later call says: ", later.ToString());
  }
  return "";
}

int RunRank(Fault& fault, const std::string& out) {
  auto session = MpiSession::Start();
  if (!session.ok()) return 2;
  GroupOptions group_options;
  group_options.timeout = kTimeout;
  auto world = (*session)->World(group_options);
  if (!world.ok()) return 2;
  const int rank = (*world)->rank();
  WatchedCommunicator group(**world, [&fault](const Exchange& exchange) {
    StrikeIn(fault, exchange);
  });
  std::vector<std::vector<float>> weights;
  const std::vector<ParamSpec> specs = Layers(&weights);
  OptimizerParts parts;
  parts.methods = [&fault](const PlannedParam&) {
    return std::make_shared<FaultyMethod>(fault);
  };
  OptimizerOptions options;
  options.bucketing = Bucketing::kByLayer;  // Each rank updates rows of each.
  options.stage = 2;
  options.max_grad_norm = 1;
  auto optimizer = CreateOptimizer(options, specs, group, std::move(parts));
  if (!optimizer.ok()) return 2;
  const std::vector<float> gradient(kRows * kColumns, 0.01f * (rank + 1));
  for (int step = 0; step < kSteps; ++step) {
    auto report = TrainStep(**optimizer, gradient);
    if (!report.ok()) {
      std::fprintf(stderr, "early: %s\n", report.status().ToString().c_str());
      return 2;
    }
  }
  std::vector<std::vector<float>> before = weights;
  std::ofstream(absl::StrCat(out, "/pid-", rank)) << getpid();
  fault.armed = rank == fault.victim;
  const absl::Time start = absl::Now();
  absl::Status failed;
  // A signal that comes late lets a step or two through.
  for (int step = 0; step < 50 && failed.ok(); ++step) {
    failed = TrainStep(**optimizer, gradient).status();
    if (failed.ok() && rank != fault.victim) {
      before = weights;
    }
  }
  const absl::Duration took = absl::Now() - start;
  const std::string wrong =
      Judge(fault, failed, took, TrainStep(**optimizer, gradient).status(),
            weights == before);
  const std::string file = absl::StrCat(out, "/rank-", rank);
  std::ofstream(file + ".tmp")
      << (wrong.empty() ? "good" : wrong) << ": " << failed.ToString() << "\n";
  std::rename((file + ".tmp").c_str(), file.c_str());
  // MPI would wait for the victim when it finalises.
  _exit(0);
}

}  // namespace
}  // namespace zeromini

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  zeromini::Fault fault;
  fault.phase = argv[1];
  fault.signal = std::string(argv[2]) == "stop" ? SIGSTOP : SIGKILL;
  const int round = std::atoi(argv[3]);
  fault.victim = round % 4;
  // The exchange of scalars is over in less than any sleep.
  const bool at_once = fault.phase == "scalars" && round % 4 != 3;
  fault.delay = std::chrono::microseconds(at_once ? 0 : 1 + round * 137 % 2000);
  return zeromini::RunRank(fault, argv[4]);
}
