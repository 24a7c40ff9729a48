// Gives the gradients of a random case: at home or by pointer, on streams, in
// any order and from several threads.

#ifndef ZEROMINI_TESTS_SUPPORT_RANDOM_GIVER_H_
#define ZEROMINI_TESTS_SUPPORT_RANDOM_GIVER_H_

#include <chrono>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/delayed_stream.h"
#include "support/random_case.h"
#include "support/random_view.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/optimizer.h"
#include "zeromini/stream.h"

namespace zeromini {

class Giver {
 public:
  // `view` may change until SetOptimizer().
  Giver(const RandomCase& c, const View& view) : c_(c), view_(view) {
    int streams = 0;
    if (c.streams == CallerStreams::kOne) streams = 1;
    if (c.streams == CallerStreams::kAnyOfThree) streams = 3;
    if (c.streams == CallerStreams::kOnePerParam) {
      streams = int(view.tensors.size());
    }
    for (int i = 0; i < streams; ++i) {
      if (c.delays > 0) {
        streams_.push_back(CallerStream::Make(std::make_unique<DelayedStream>(
            c.delays + i, std::chrono::microseconds(300))));
      } else {
        streams_.push_back(CallerStream::Make());
      }
    }
  }

  void SetOptimizer(Optimizer* optimizer) { optimizer_ = optimizer; }
  void Forget() { gradients_.clear(); }  // Those of a step that has ended.

  // Null if the caller has none.
  CallerStream* AnyStream(int s) const {
    return streams_.empty() ? nullptr : streams_[s % streams_.size()].get();
  }

  std::vector<int> Trained() const {
    std::vector<int> trained;
    for (size_t t = 0; t < view_.tensors.size(); ++t) {
      if (!view_.specs[t].frozen) trained.push_back(int(t));
    }
    return trained;
  }

  // Stages 1 and 2: any order, any thread. `waits`: for the weights of each
  // before its gradient.
  absl::Status GiveAnyhow(const RandomStep& step, int s, bool waits) {
    std::vector<Turn> turns;
    for (int micro = 0; micro < c_.options.micro_steps; ++micro) {
      for (int t : Trained()) turns.push_back({t, micro});
      const bool last = micro + 1 == c_.options.micro_steps;
      if (step.mixes_micro_steps && !last) continue;
      Dice dice(step.order_seed + view_.ranks[0] * 7u + micro);
      dice.Shuffle(&turns);
      ZEROMINI_RETURN_IF_ERROR(GiveFromThreads(turns, step, s, waits));
      turns.clear();
    }
    return absl::OkStatus();
  }

  // Unless it is absent.
  absl::Status Give(int t, const RandomStep& step, int s, int micro) {
    const Tensor& tensor = view_.tensors[t];
    if (!Gives(c_, view_, tensor, step, micro)) return absl::OkStatus();
    const std::vector<float> gradient = GradientIn(c_, view_, tensor, s, micro);
    float* home = c_.uses_homes ? optimizer_->GradData(t) : nullptr;
    if (home != nullptr) {
      const bool first = IsFirst(s, t);
      for (size_t i = 0; i < gradient.size(); ++i) {
        home[i] = first ? gradient[i] : home[i] + gradient[i];
      }
      return optimizer_->GradReady(t, nullptr);
    }
    auto bytes = std::make_shared<std::vector<char>>(
        ToBytes(gradient, view_.specs[t].dtype));
    if (streams_.empty()) return optimizer_->GradReady(t, bytes->data());
    // The gradient appears only in the stream's order.
    const std::shared_ptr<void> late = TestTensor(int64_t(bytes->size()));
    std::memset(late.get(), 0x7f, bytes->size());
    Keep(late);
    CallerStream& stream = StreamOf(t, s, micro);
    stream.queue().Enqueue([late, bytes] {
      std::memcpy(late.get(), bytes->data(), bytes->size());
      return absl::OkStatus();
    });
    return optimizer_->GradReady(t, late.get(), stream.handle());
  }

 private:
  struct Turn {
    int t = 0;
    int micro = 0;
  };

  // A tensor's turns are all one thread's: its home is the caller's to guard.
  absl::Status GiveFromThreads(const std::vector<Turn>& turns,
                               const RandomStep& step, int s, bool waits) {
    std::vector<absl::Status> given(step.threads, absl::OkStatus());
    const auto give = [&](int thread) {
      for (const Turn& turn : turns) {
        if (turn.t % step.threads != thread || !given[thread].ok()) continue;
        if (waits) given[thread] = optimizer_->WaitParam(turn.t);
        given[thread].Update(Give(turn.t, step, s, turn.micro));
      }
    };
    std::vector<std::thread> threads;
    for (int i = 1; i < step.threads; ++i) threads.emplace_back(give, i);
    give(0);
    for (std::thread& thread : threads) thread.join();
    for (const absl::Status& status : given) {
      ZEROMINI_RETURN_IF_ERROR(status);
    }
    return absl::OkStatus();
  }

  CallerStream& StreamOf(int t, int s, int micro) const {
    const bool own = c_.streams == CallerStreams::kOnePerParam;
    const size_t any = Mix((t * 31u + s) * 31u + micro) % streams_.size();
    return *streams_[own ? size_t(t) : any];
  }

  bool IsFirst(int s, int t) {
    std::lock_guard<std::mutex> lock(mutex_);
    return homes_given_.insert({s, t}).second;
  }
  void Keep(std::shared_ptr<void> gradient) {
    std::lock_guard<std::mutex> lock(mutex_);
    gradients_.push_back(std::move(gradient));
  }

  const RandomCase& c_;
  const View& view_;
  Optimizer* optimizer_ = nullptr;
  std::vector<std::unique_ptr<CallerStream>> streams_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<void>> gradients_;
  std::set<std::pair<int, int>> homes_given_;  // Step and tensor.
};

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_RANDOM_GIVER_H_
