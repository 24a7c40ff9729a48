#include "comm/threads/rendezvous.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "comm/patience.h"

namespace zeromini {

absl::Status Rendezvous::Meet(int rank, const Post& post) {
  absl::Status status;
  {
    std::unique_lock<std::mutex> lock(mutex_);
    if (!error_.ok()) return error_;
    posts_[rank] = post;
    here_[rank] = true;
    status = WaitForAll(lock, rank);
    // Under the same lock, lest a late rank complete the meeting we leave.
    error_.Update(status);
    if (!status.ok()) changed_.notify_all();
  }
  if (!status.ok()) BreakRelatives(status);
  return status;
}

absl::Status Rendezvous::WaitForAll(std::unique_lock<std::mutex>& lock,
                                    int rank) {
  if (std::find(here_.begin(), here_.end(), false) == here_.end()) {
    std::vector<Signature> signatures;
    std::vector<RankCounts> counts;
    for (const Post& post : posts_) {
      signatures.push_back(post.call.signature);
      counts.push_back({post.call.send_counts, post.call.receive_counts});
    }
    absl::Status agreement = CheckAgreement(signatures);
    if (agreement.ok()) agreement = CheckCounts(signatures[0], counts);
    if (!agreement.ok()) return agreement;
    std::fill(here_.begin(), here_.end(), false);
    ++meetings_;
    changed_.notify_all();
    return absl::OkStatus();
  }
  const int64_t meeting = meetings_;
  const auto over = [&] { return meetings_ != meeting || !error_.ok(); };
  Patience patience(timeout_);
  bool in_time = false;
  do {
    in_time = changed_.wait_for(lock, patience.Slice(), over);
  } while (!in_time && !patience.IsOver());
  // A meeting that took place counts even if the group broke right after: the
  // peers are about to read our buffers.
  if (meetings_ != meeting) return absl::OkStatus();
  if (in_time) return error_;
  std::vector<int> absent;
  for (int r = 0; r < size(); ++r) {
    if (!here_[r]) absent.push_back(r);
  }
  return absl::DeadlineExceededError(absl::StrCat(
      "threads: rank ", rank, " waited ", absl::FormatDuration(timeout_),
      " in ", Describe(posts_[rank].call.signature), "; ",
      DescribeRanks(absent), " did not come"));
}

void Rendezvous::Pause() {
  std::unique_lock<std::mutex> lock(mutex_);
  if (++paused_ == size()) {
    paused_ = 0;
    ++pauses_;
    changed_.notify_all();
    return;
  }
  const int64_t pause = pauses_;
  changed_.wait(lock, [&] { return pauses_ != pause; });
}

std::shared_ptr<Rendezvous> Rendezvous::MakeSplit(int leader, int size) {
  auto child = std::make_shared<Rendezvous>(size, timeout_);
  child->parent_ = shared_from_this();
  std::lock_guard<std::mutex> lock(mutex_);
  children_.push_back(child);
  splits_[leader] = child;
  return child;
}

std::shared_ptr<Rendezvous> Rendezvous::TakeSplit(int leader) {
  std::lock_guard<std::mutex> lock(mutex_);
  return splits_[leader].lock();
}

void Rendezvous::Break(const absl::Status& why) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!error_.ok() || why.ok()) return;
    error_ = why;
    changed_.notify_all();
  }
  BreakRelatives(why);
}

void Rendezvous::BreakRelatives(const absl::Status& why) {
  std::vector<std::weak_ptr<Rendezvous>> children;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    children = children_;
  }
  for (const auto& weak : children) {
    if (auto child = weak.lock()) child->Break(why);
  }
  if (parent_ != nullptr) parent_->Break(why);
}

absl::Status Rendezvous::error() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return error_;
}

}  // namespace zeromini
