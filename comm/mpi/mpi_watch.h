// MpiWatch: waits that notice what goes wrong, and find out whose fault it is.

#ifndef ZEROMINI_COMM_MPI_MPI_WATCH_H_
#define ZEROMINI_COMM_MPI_MPI_WATCH_H_

#include <mpi.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "comm/first_error.h"

namespace zeromini {

// One per process and wrapped communicator; groups of Split() share it, as they
// share a stream. Ranks are those of the communicator given to Create().
//
// A wait that lasts too long ends in a roll call: the rank tells all others
// that it is waiting, those that wait too answer, and after a grace period the
// members that have not answered are the ones to blame, not those that merely
// wait for them. The first rank to know tells everybody, so all ranks report
// the same words; one that was stopped and goes on finds them at its next call.
class MpiWatch {
 public:
  // What a wait is for.
  struct Wait {
    std::function<std::string()> what;  // "reduce-scatter of gradients, ...".
    absl::Span<const int> members;      // Of the group that waits.
    // Whom it waits for, in case all are there; may be null.
    std::function<std::vector<int>()> pending;
  };

  // Progress of a wait: how many things have come since the last call, or that
  // all have.
  struct Progress {
    int came = 0;
    bool done = false;
  };

  // Collective. Duplicates `comm` for its messages. `any_thread`: MPI may be
  // called from any.
  static absl::StatusOr<std::shared_ptr<MpiWatch>> Create(
      MPI_Comm comm, absl::Duration timeout, bool any_thread);

  ~MpiWatch();

  // Polls `look` until it is done. Fails when `look` does, when the group is
  // broken, or by a roll call; the group is broken then.
  absl::Status Until(const Wait& wait,
                     const std::function<absl::StatusOr<Progress>()>& look);

  // Reads what others have to say. The group's error, if it is broken.
  absl::Status Look();

  // Keeps the first error, and tells all ranks, from this thread if MPI allows
  // it and otherwise in the next Look().
  void Break(const absl::Status& why);
  const FirstError& broken() const { return broken_; }

  // True if a rank did not answer a roll call: MPI would wait for it when it
  // finalises.
  bool lost_a_rank() const { return lost_a_rank_; }

  absl::Duration timeout() const { return timeout_; }

  absl::Status Free();  // Collective.

 private:
  struct Notice;

  MpiWatch(absl::Duration timeout, bool any_thread);

  // Breaks the group, naming the members that did not answer.
  absl::Status CallTheRoll(const Wait& wait,
                           std::chrono::steady_clock::time_point start);
  std::string HostsOf(absl::Span<const int> ranks) const;
  void Receive();
  void Tell();  // Sends broken() to all, once.
  void Send(const Notice& notice);

  const absl::Duration timeout_;
  const absl::Duration grace_;  // The part of the timeout kept for roll calls.
  const bool any_thread_;

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 1;
  std::vector<std::string> hosts_;  // By rank.

  FirstError broken_;
  std::mutex telling_;
  bool told_ = false;           // Requires telling_.
  bool freed_ = false;          // Requires telling_.
  bool roll_called_ = false;    // By any rank.
  std::vector<char> answered_;  // By rank.
  std::atomic<bool> lost_a_rank_ = false;
};

}  // namespace zeromini

#endif  // ZEROMINI_COMM_MPI_MPI_WATCH_H_
