// The whole of it in C++17: four ranks as threads of this process learn a
// matrix. Over MPI, only the group differs: WrapMpi(MPI_COMM_WORLD).

#include <cstdio>
#include <memory>
#include <thread>
#include <vector>

#include "zeromini/group.h"
#include "zeromini/optimizer.h"

namespace {

constexpr int kRows = 24;
constexpr int kColumns = 16;

// Every rank sees another target; their mean is 1.
float Target(int rank, int ranks) { return 2.0f * (rank + 1) / (ranks + 1); }

absl::Status Train(zeromini::Communicator& group, float* last_weight) {
  std::vector<float> weight(kRows * kColumns, 0.0f);
  std::vector<float> gradient(weight.size());

  zeromini::ParamSpec spec;
  spec.name = "matrix";
  spec.shape = {kRows, kColumns};
  spec.rule = zeromini::BlockRule::Rows();
  spec.data = weight.data();
  zeromini::OptimizerOptions options;
  options.hyper_groups[0].weight_decay = 0;
  auto optimizer = zeromini::Optimizer::Create(options, {spec}, group);
  if (!optimizer.ok()) return optimizer.status();

  for (int step = 0; step < 400; ++step) {
    for (size_t i = 0; i < weight.size(); ++i) {
      gradient[i] = weight[i] - Target(group.rank(), group.size());
    }
    const absl::Status given = (*optimizer)->GradReady(0, gradient.data());
    if (!given.ok()) return given;
    zeromini::StepOptions now;
    now.learning_rate = step < 300 ? 1e-2 : 1e-3;
    const auto report = (*optimizer)->Step(now);
    if (!report.ok()) return report.status();
  }
  *last_weight = weight.back();
  return (*optimizer)->Close();
}

}  // namespace

int main() {
  constexpr int kRanks = 4;
  auto group = zeromini::ThreadGroup(kRanks);
  if (!group.ok()) return 1;
  std::vector<float> learned(kRanks, 0.0f);
  std::vector<absl::Status> results(kRanks);
  std::vector<std::thread> threads;
  for (int r = 0; r < kRanks; ++r) {
    threads.emplace_back(
        [&, r] { results[r] = Train(*(*group)[r], &learned[r]); });
  }
  for (std::thread& thread : threads) thread.join();
  for (int r = 0; r < kRanks; ++r) {
    if (!results[r].ok()) {
      std::fprintf(stderr, "rank %d: %s\n", r, results[r].ToString().c_str());
      return 1;
    }
    std::printf("rank %d learned %.3f\n", r, learned[r]);
    if (learned[r] < 0.99f || learned[r] > 1.01f) return 1;
  }
  return 0;
}
