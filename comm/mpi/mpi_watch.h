// MpiWatch: waits that notice what goes wrong, and find out whose fault it is.

#ifndef ZEROMINI_COMM_MPI_MPI_WATCH_H_
#define ZEROMINI_COMM_MPI_MPI_WATCH_H_

#include <mpi.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
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
// A wait that lasts too long ends in a roll call: the rank asks the members of
// its group whether they are there, those that wait too answer, and after a
// grace period the members that have not answered are the ones to blame, not
// those that merely wait for them. The first rank to know tells everybody, so
// all ranks report the same words; one that was stopped and goes on finds them
// at its next call. If all answer, the rank goes on waiting, once more.
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

  // Where the ranks are.
  struct Hosts {
    std::vector<int> colors;         // By rank; equal means the same host.
    std::vector<std::string> names;  // By rank; hosts may have equal ones.
  };

  // Takes over `comm`. `any_thread`: MPI may be called from any, not only from
  // the one that has initialised it.
  MpiWatch(MPI_Comm comm, Hosts hosts, absl::Duration timeout, bool any_thread);
  ~MpiWatch();

  // Collective, once. Connects this rank with all hosts, so that a roll call
  // over a link that has been cut meanwhile needs no new connection.
  absl::Status Connect();

  // Polls `look` until it is done. Fails when `look` does, when the group is
  // broken, or by a roll call; the group is broken then.
  absl::Status Until(const Wait& wait,
                     const std::function<absl::StatusOr<Progress>()>& look);

  // Reads what others have to say. The group's error, if it is broken.
  absl::Status Look();

  // Any thread. Keeps the first error and tells all ranks, unless this thread
  // may not call MPI: then the one that may does so when it next calls any of
  // Break(), error(), Look() and Until().
  void Break(const absl::Status& why);
  absl::Status error();
  const FirstError& broken() const { return broken_; }

  // True if a rank did not answer a roll call: MPI would wait for it when it
  // finalises.
  bool lost_a_rank() const { return lost_a_rank_; }

  absl::Duration timeout() const { return timeout_; }

  // Counts the groups that use it. True if the last one has left.
  void Join() { ++groups_; }
  bool Leave() { return --groups_ == 0; }

  absl::Status Free();  // Collective.

 private:
  struct Notice;
  struct Sending;

  // OK if all members answer; otherwise breaks the group, naming the others.
  absl::Status CallTheRoll(const Wait& wait, absl::Duration waited);
  // Breaks the group, because all members wait and nothing comes.
  absl::Status GiveUp(const Wait& wait, absl::Duration waited);
  std::string Waited(const Wait& wait, absl::Duration waited) const;
  std::string HostsOf(absl::Span<const int> ranks) const;
  void Receive();
  void Take(const Notice& notice, int source);
  bool MayCallMpi() const;  // This thread, now.
  void Tell();              // Sends broken() to all, once.
  // The two require telling_. True if all that was sent is on its way.
  bool ForgetSent();
  void Send(const Notice& notice, absl::Span<const int> ranks);

  const absl::Duration timeout_;
  const absl::Duration grace_;  // The part of the timeout kept for roll calls.
  const bool any_thread_;

  MPI_Comm comm_;
  const Hosts hosts_;
  const int size_;
  int rank_ = 0;

  FirstError broken_;
  std::mutex telling_;
  std::list<Sending> sending_;  // Requires telling_.
  bool told_ = false;           // Requires telling_.
  bool freed_ = false;          // Requires telling_.
  int32_t roll_ = 0;            // How often this rank has called it.
  std::vector<int32_t> heard_;  // By rank: the latest roll it has answered.
  std::atomic<bool> lost_a_rank_ = false;
  std::atomic<int> groups_ = 0;
};

}  // namespace zeromini

#endif  // ZEROMINI_COMM_MPI_MPI_WATCH_H_
