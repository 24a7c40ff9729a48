// Threads as ranks: runs one function on every rank of a group in this process
// and aborts the test program, saying who is stuck, instead of hanging.

#ifndef ZEROMINI_TESTS_SUPPORT_RUN_RANKS_H_
#define ZEROMINI_TESTS_SUPPORT_RUN_RANKS_H_

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "group_maker.h"
#include "gtest/gtest.h"
#include "zeromini/group.h"

namespace zeromini {

using RankFunction = std::function<void(int rank, Communicator& group)>;
using Group = std::vector<std::unique_ptr<Communicator>>;

// A rank may wait this long inside one exchange of a test.
inline GroupOptions TestGroupOptions() {
  GroupOptions options;
  options.timeout = absl::Seconds(30);
  return options;
}

// Runs fn(r, *group[r]) for all r, each on a thread of its own, and returns
// when all have. ASSERT_* inside `fn` leaves that rank only.
inline void RunOn(const Group& group, const RankFunction& fn,
                  absl::Duration watchdog = absl::Seconds(100)) {
  const int size = static_cast<int>(group.size());
  std::mutex mutex;
  std::condition_variable finished;
  std::vector<bool> done(size, false);
  int left = size;
  std::vector<std::thread> threads;
  for (int r = 0; r < size; ++r) {
    threads.emplace_back([&, r] {
      fn(r, *group[r]);
      std::lock_guard<std::mutex> lock(mutex);
      done[r] = true;
      --left;
      finished.notify_all();
    });
  }
  {
    std::unique_lock<std::mutex> lock(mutex);
    if (!finished.wait_until(lock, absl::ToChronoTime(absl::Now() + watchdog),
                             [&] { return left == 0; })) {
      std::fprintf(stderr, "hang: these of %d ranks have not returned:", size);
      for (int r = 0; r < size; ++r) {
        if (!done[r]) std::fprintf(stderr, " %d", r);
      }
      std::fprintf(stderr, "\n");
      std::abort();
    }
  }
  for (std::thread& thread : threads) thread.join();
}

// The same on a fresh group of `size`.
inline void RunRanks(int size, const RankFunction& fn,
                     const GroupOptions& options = TestGroupOptions()) {
  auto group = make_ranks(size, options);
  ASSERT_TRUE(group.ok()) << group.status();
  RunOn(*group, fn);
}

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_RUN_RANKS_H_
