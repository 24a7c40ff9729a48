// Where the ranks of an in-process group meet.

#ifndef ZEROMINI_COMM_THREADS_RENDEZVOUS_H_
#define ZEROMINI_COMM_THREADS_RENDEZVOUS_H_

#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "comm/call.h"

namespace zeromini {

// Shared by all ranks; thread-safe. An exchange is: Meet(), then work on each
// other's buffers with Pause() between steps, then a last Pause(). Between
// Meet() and that last Pause() all ranks are inside, so no wait in there can be
// for a rank that does not come, and nobody leaves while a peer still reads.
class Rendezvous : public std::enable_shared_from_this<Rendezvous> {
 public:
  // What a rank brings to a meeting.
  struct Post {
    Call call;
    int color = 0;  // For kSplit.
    int key = 0;
  };

  Rendezvous(int size, absl::Duration timeout)
      : timeout_(timeout), posts_(size), here_(size, false), splits_(size) {}

  int size() const { return static_cast<int>(posts_.size()); }
  absl::Duration timeout() const { return timeout_; }

  // Returns once all ranks have posted, or breaks the group: DeadlineExceeded
  // naming the ranks that did not come, InvalidArgument if the calls differ.
  absl::Status Meet(int rank, const Post& post);

  // Returns once all ranks have called it as often.
  void Pause();

  // Inside a meeting only.
  const Post& post(int rank) const { return posts_[rank]; }

  // Inside a meeting, followed by two pauses: the leader makes the group of
  // `size` before the first and keeps it until the second; the members take it
  // in between. Breaking either
  // group breaks the other, because they share their ranks' streams.
  std::shared_ptr<Rendezvous> MakeSplit(int leader, int size);
  std::shared_ptr<Rendezvous> TakeSplit(int leader);

  // Keeps the first error and wakes all that wait in Meet().
  void Break(const absl::Status& why);
  absl::Status error() const;

 private:
  absl::Status WaitForAll(std::unique_lock<std::mutex>& lock, int rank);
  void BreakRelatives(const absl::Status& why);

  const absl::Duration timeout_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  absl::Status error_;
  std::vector<Post> posts_;
  std::vector<bool> here_;
  int64_t meetings_ = 0;
  int paused_ = 0;
  int64_t pauses_ = 0;

  std::shared_ptr<Rendezvous> parent_;
  std::vector<std::weak_ptr<Rendezvous>> children_;
  std::vector<std::weak_ptr<Rendezvous>> splits_;  // The latest, by leader.
};

}  // namespace zeromini

#endif  // ZEROMINI_COMM_THREADS_RENDEZVOUS_H_
