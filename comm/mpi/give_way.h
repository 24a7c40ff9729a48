// What a thread does between two looks at what it waits for.

#ifndef ZEROMINI_COMM_MPI_GIVE_WAY_H_
#define ZEROMINI_COMM_MPI_GIVE_WAY_H_

#include <sched.h>

#include <chrono>
#include <thread>

namespace zeromini {

// How long an answer is likely to be close.
inline constexpr std::chrono::microseconds kSoon(200);

// Two ranks may share a core, so waiting gives it away: by yielding while an
// answer is likely to be close, then by sleeping.
inline void GiveWay(std::chrono::steady_clock::duration idle) {
  constexpr std::chrono::microseconds kNap(30);
  if (idle < kSoon) {
    sched_yield();
  } else {
    std::this_thread::sleep_for(kNap);
  }
}

}  // namespace zeromini

#endif  // ZEROMINI_COMM_MPI_GIVE_WAY_H_
