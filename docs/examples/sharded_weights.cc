// ZeRO stage 3 with explicit calls, in C++17: four ranks as threads train a
// chain of layers, y = W3 W2 W1 x, of which no rank ever holds more than two.
// Weights are fp32 here; bf16 with a remainder is two options more.

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "zeromini/group.h"
#include "zeromini/optimizer.h"

namespace {

constexpr int kLayers = 3;
constexpr int kWidth = 32;
using Vector = std::vector<float>;

// y = W x, or with `transposed` the transpose of W.
Vector Times(const float* w, const Vector& x, bool transposed) {
  Vector y(kWidth, 0.0f);
  for (int i = 0; i < kWidth; ++i) {
    for (int j = 0; j < kWidth; ++j) {
      y[i] += (transposed ? w[j * kWidth + i] : w[i * kWidth + j]) * x[j];
    }
  }
  return y;
}

class Trainer {
 public:
  explicit Trainer(zeromini::Communicator& group) : group_(group) {}

  absl::Status Create() {
    std::vector<zeromini::ParamSpec> specs(kLayers);
    for (int i = 0; i < kLayers; ++i) {
      specs[i].name = "layers." + std::to_string(i) + ".weight";
      specs[i].shape = {kWidth, kWidth};
      specs[i].rule = zeromini::BlockRule::Rows();
      specs[i].layer_set = i;  // As the layer in the name; to say it once.
    }
    zeromini::OptimizerOptions options;
    options.stage = 3;
    options.memory = zeromini::MemoryForm::kFlat;
    options.gather_budget_bytes = 2 * kWidth * kWidth * 4;  // Of two layers.
    options.hyper_groups[0].weight_decay = 0;
    auto made = zeromini::Optimizer::Create(options, specs, group_);
    if (!made.ok()) return made.status();
    optimizer_ = *std::move(made);
    // One tensor at a time: the model need not fit anywhere.
    for (int i = 0; i < kLayers; ++i) {
      Vector weights(kWidth * kWidth, 0.01f);
      for (int d = 0; d < kWidth; ++d) weights[d * kWidth + d] = 0.5f;
      const absl::Status set = optimizer_->SetParam(i, weights.data());
      if (!set.ok()) return set;
    }
    return absl::OkStatus();
  }

  // One step towards y = x; the loss before it.
  absl::StatusOr<float> Step(const Vector& x, double learning_rate) {
    std::vector<Vector> inputs = {x};
    for (int i = 0; i < kLayers; ++i) {
      auto w = Enter(i, zeromini::GatherPass::kForward);
      if (!w.ok()) return w.status();
      inputs.push_back(Times(*w, inputs[i], /*transposed=*/false));
      // The last is needed at once by backward.
      const absl::Status left =
          i + 1 < kLayers ? optimizer_->Release(i) : absl::OkStatus();
      if (!left.ok()) return left;
    }
    Vector dy(kWidth);
    float loss = 0;
    for (int d = 0; d < kWidth; ++d) {
      dy[d] = inputs[kLayers][d] - x[d];
      loss += dy[d] * dy[d] / 2;
    }
    for (int i = kLayers - 1; i >= 0; --i) {
      auto w = Enter(i, zeromini::GatherPass::kBackward);
      if (!w.ok()) return w.status();
      const Vector dx = Times(*w, dy, /*transposed=*/true);
      Vector dw(kWidth * kWidth);
      for (int r = 0; r < kWidth; ++r) {
        for (int c = 0; c < kWidth; ++c) {
          dw[r * kWidth + c] = dy[r] * inputs[i][c];
        }
      }
      absl::Status done = optimizer_->Release(i);
      // From here on it travels, under the layers before.
      if (done.ok()) done = optimizer_->GradReady(i, dw.data());
      if (!done.ok()) return done;
      dy = dx;
    }
    zeromini::StepOptions now;
    now.learning_rate = learning_rate;
    const auto report = optimizer_->Step(now);
    if (!report.ok()) return report.status();
    return loss;
  }

  zeromini::MemoryReport Memory() const { return optimizer_->Memory(); }
  absl::Status Close() { return optimizer_->Close(); }

 private:
  // The layer's whole weights; the next one's are on their way.
  absl::StatusOr<const float*> Enter(int layer, zeromini::GatherPass pass) {
    absl::Status status = optimizer_->Gather(layer, pass);
    if (status.ok()) status = optimizer_->WaitParam(layer);
    if (!status.ok()) return status;
    return static_cast<const float*>(optimizer_->ParamData(layer));
  }

  zeromini::Communicator& group_;
  std::unique_ptr<zeromini::Optimizer> optimizer_;
};

absl::Status Train(zeromini::Communicator& group, float* last_loss) {
  Trainer trainer(group);
  absl::Status status = trainer.Create();
  if (!status.ok()) return status;
  for (int step = 0; step < 400; ++step) {
    Vector x(kWidth);
    for (int d = 0; d < kWidth; ++d) {
      x[d] =
          static_cast<float>((d * 7 + step * 5 + group.rank() * 3) % 11) / 11;
    }
    const auto loss = trainer.Step(x, step < 300 ? 3e-3 : 3e-4);
    if (!loss.ok()) return loss.status();
    *last_loss = *loss;
  }
  const zeromini::MemoryReport memory = trainer.Memory();
  if (memory.gathered > 2 * kWidth * kWidth * 4) {
    return absl::InternalError("more than the budget was gathered");
  }
  if (group.rank() == 0) {
    std::printf("a rank holds %lld bytes of weights and %lld of state\n",
                static_cast<long long>(memory.weights),
                static_cast<long long>(memory.state()));
  }
  return trainer.Close();
}

}  // namespace

int main() {
  constexpr int kRanks = 4;
  auto group = zeromini::ThreadGroup(kRanks);
  if (!group.ok()) return 1;
  std::vector<float> losses(kRanks, 0.0f);
  std::vector<absl::Status> results(kRanks);
  std::vector<std::thread> threads;
  for (int r = 0; r < kRanks; ++r) {
    threads.emplace_back([&, r] {
      results[r] = Train(*(*group)[r], &losses[r]);
      if (!results[r].ok()) (*group)[r]->Abort(results[r]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int r = 0; r < kRanks; ++r) {
    if (!results[r].ok()) {
      std::fprintf(stderr, "rank %d: %s\n", r, results[r].ToString().c_str());
      return 1;
    }
  }
  std::printf("loss of the last step: %.4f\n", losses[0]);
  return losses[0] < 0.02f ? 0 : 1;
}
