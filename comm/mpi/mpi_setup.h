// MpiSetup: the collectives that make a group, none of which waits for ever.

#ifndef ZEROMINI_COMM_MPI_MPI_SETUP_H_
#define ZEROMINI_COMM_MPI_MPI_SETUP_H_

#include <mpi.h>

#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "comm/mpi/mpi_watch.h"
#include "comm/patience.h"
#include "zeromini/log.h"

namespace zeromini {

// One per group that is made; its deadline is that of all calls together. After
// a failure MPI may still be waiting inside a collective, so that what was made
// so far cannot be given back.
class MpiSetup {
 public:
  MpiSetup(absl::Duration timeout, LogSink log)
      : timeout_(timeout), patience_(timeout), log_(std::move(log)) {}

  // Where warnings go; GroupOptions::log.
  const LogSink& log() const { return log_; }

  // Collective over `comm`. Errors of the result return.
  absl::StatusOr<MPI_Comm> Duplicate(MPI_Comm comm);

  // Collective over `comm`. What each rank gave, by rank; plain bytes only.
  template <typename T>
  absl::StatusOr<std::vector<T>> AllGather(MPI_Comm comm, const T& mine) {
    int size = 0;
    MPI_Comm_size(comm, &size);
    std::vector<T> all(size);
    const absl::Status status =
        AllGatherBytes(comm, &mine, all.data(), sizeof(T));
    if (!status.ok()) return status;
    return all;
  }

  // From here on a wait ends when `watch` hears of a failure, and one that is
  // given up breaks it.
  void ListenTo(std::shared_ptr<MpiWatch> watch) { watch_ = std::move(watch); }

 private:
  absl::Status AllGatherBytes(MPI_Comm comm, const void* mine, void* all,
                              int bytes);
  absl::Status Finish(MPI_Request* request);
  absl::Status GiveUp() const;

  std::shared_ptr<MpiWatch> watch_;
  bool all_came_ = false;  // To the first of the calls.
  const absl::Duration timeout_;
  Patience patience_;
  const LogSink log_;
};

}  // namespace zeromini

#endif  // ZEROMINI_COMM_MPI_MPI_SETUP_H_
