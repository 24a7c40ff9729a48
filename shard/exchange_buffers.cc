#include "shard/exchange_buffers.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "shard/exchange_places.h"
#include "shard/layout_cost.h"

namespace zeromini {
namespace {

// Of a bucket in a buffer, in bytes; 0 if it needs none.
struct Sizes {
  int64_t gradients = 0;
  int64_t weights = 0;
};

std::vector<Sizes> SizesOf(const Plan& plan, const OptimizerOptions& options) {
  std::vector<Sizes> sizes;
  for (size_t b = 0; b < plan.buckets.size(); ++b) {
    const BucketPlan& bucket = plan.buckets[b];
    Sizes own;
    if (PlaceOfGradients(bucket, options) == GradientPlace::kBuffer) {
      own.gradients = GradientSegmentBytes(bucket) * plan.options.ranks;
    }
    if (WeightsNeedBuffer(plan, static_cast<int>(b), options)) {
      own.weights = bucket.segment * SizeOf(bucket.dtype) * plan.options.ranks;
    }
    sizes.push_back(own);
  }
  return sizes;
}

enum class Sharing { kUpToTwice, kOwnSize };

std::vector<BufferClass> ClassesOf(const std::vector<Sizes>& sizes,
                                   Sharing sharing) {
  std::vector<int64_t> descending;
  for (const Sizes& size : sizes) {
    descending.push_back(size.gradients);
    descending.push_back(size.weights);
  }
  std::sort(descending.begin(), descending.end(), std::greater<int64_t>());
  std::vector<BufferClass> classes;
  for (const int64_t bytes : descending) {
    if (bytes == 0) break;
    const int64_t spare = sharing == Sharing::kUpToTwice ? bytes : 0;
    if (classes.empty() || bytes < classes.back().bytes - spare) {
      classes.push_back({bytes, 0});
    }
  }
  std::reverse(classes.begin(), classes.end());
  return classes;
}

// What a class is used for in a step.
struct Use {
  int gradients = 0;  // Buckets.
  int weights = 0;
  int filling = 0;  // Buckets of gradients at this moment.
  int most_filling = 0;

  int Needed() const { return std::max(most_filling, weights > 0 ? 1 : 0); }
  // One travels while the next fills, or is updated.
  int Wanted() const {
    return std::max(gradients > most_filling ? most_filling + 1 : most_filling,
                    std::min(2, weights));
  }
};

// A backward pass in the reverse order of the parameters, by GradRoad's rules:
// a gradient of each sharer, to the last of its buckets first; exchanges from
// the last bucket to the first, each as soon as it may leave.
class Backward {
 public:
  Backward(const Plan& plan, const std::vector<Use*>& uses)
      : plan_(plan), uses_(uses), next_(plan.buckets.size()) {
    for (const BucketPlan& bucket : plan.buckets) {
      size_t gradients = 0;
      for (const Part& part : bucket.parts) {
        gradients += plan.params[part.param].sharers.size();
      }
      missing_.push_back(gradients);
      filling_.push_back(false);
    }
  }

  void Run() {
    for (size_t p = plan_.params.size(); p-- > 0;) {
      const PlannedParam& owner = plan_.params[plan_.params[p].owner];
      for (const int bucket : BucketsAsTheyLeave(owner)) {
        Arrive(static_cast<size_t>(bucket));
        FireReady();
      }
    }
  }

 private:
  void Arrive(size_t bucket) {
    --missing_[bucket];
    if (filling_[bucket]) return;
    filling_[bucket] = true;
    Use* const use = uses_[bucket];
    if (use == nullptr) return;
    use->most_filling = std::max(use->most_filling, ++use->filling);
  }

  void FireReady() {
    while (next_ > 0 && missing_[next_ - 1] == 0) {
      Use* const use = uses_[--next_];
      if (use != nullptr) --use->filling;
    }
  }

  const Plan& plan_;
  const std::vector<Use*>& uses_;  // By bucket; null: not in a buffer.
  std::vector<size_t> missing_;    // Gradients of each bucket.
  std::vector<char> filling_;
  size_t next_;  // One behind the bucket that fires next.
};

std::vector<Use> UsesOf(const Plan& plan, const std::vector<Sizes>& sizes,
                        const std::vector<BufferClass>& classes) {
  std::vector<Use> uses(classes.size());
  const auto use_of = [&](int64_t bytes) {
    return &uses[SmallestThatHolds(classes, bytes) - classes.data()];
  };
  std::vector<Use*> gradients(sizes.size(), nullptr);
  for (size_t b = 0; b < sizes.size(); ++b) {
    if (sizes[b].weights > 0) ++use_of(sizes[b].weights)->weights;
    if (sizes[b].gradients == 0) continue;
    gradients[b] = use_of(sizes[b].gradients);
    ++gradients[b]->gradients;
  }
  Backward(plan, gradients).Run();
  return uses;
}

struct Needs {
  std::vector<BufferClass> classes;
  std::vector<Use> uses;  // Of each.
};

Needs NeedsOf(const Plan& plan, const std::vector<Sizes>& sizes,
              Sharing sharing) {
  Needs needs;
  needs.classes = ClassesOf(sizes, sharing);
  needs.uses = UsesOf(plan, sizes, needs.classes);
  for (size_t c = 0; c < needs.classes.size(); ++c) {
    needs.classes[c].count = needs.uses[c].Needed();
  }
  return needs;
}

}  // namespace

std::vector<BufferClass> ExchangeBuffers(const Plan& plan,
                                         const OptimizerOptions& options) {
  const std::vector<Sizes> sizes = SizesOf(plan, options);
  Needs needs = NeedsOf(plan, sizes, Sharing::kUpToTwice);
  Needs unshared = NeedsOf(plan, sizes, Sharing::kOwnSize);
  if (TotalBytes(unshared.classes) < TotalBytes(needs.classes)) {
    needs = std::move(unshared);
  }
  std::vector<BufferClass>& classes = needs.classes;
  // The largest first: most bytes travel in them.
  const int64_t budget = BufferBudget(options.buffer_budget_bytes);
  int64_t total = TotalBytes(classes);
  for (size_t c = classes.size(); c-- > 0;) {
    BufferClass& own = classes[c];
    if (own.count >= needs.uses[c].Wanted()) continue;
    if (total + own.bytes > budget) continue;
    ++own.count;
    total += own.bytes;
  }
  return classes;
}

int64_t TotalBytes(absl::Span<const BufferClass> classes) {
  int64_t total = 0;
  for (const BufferClass& own : classes) total += own.bytes * own.count;
  return total;
}

const BufferClass* SmallestThatHolds(absl::Span<const BufferClass> classes,
                                     int64_t bytes) {
  const auto found = std::find_if(
      classes.begin(), classes.end(),
      [bytes](const BufferClass& own) { return own.bytes >= bytes; });
  return found == classes.end() ? nullptr : &*found;
}

}  // namespace zeromini
