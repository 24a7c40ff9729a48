// LevelCounter: what an endpoint has sent inside its host and to others.

#ifndef ZEROMINI_COMM_LEVEL_COUNTER_H_
#define ZEROMINI_COMM_LEVEL_COUNTER_H_

#include <array>
#include <atomic>
#include <cstdint>

#include "zeromini/communicator.h"

namespace zeromini {

// Thread-safe: the endpoint adds while others read.
class LevelCounter {
 public:
  void Add(int32_t purpose, LevelBytes sent) {
    inside_host_[purpose] += sent.inside_host;
    between_hosts_[purpose] += sent.between_hosts;
  }

  LevelTraffic Read() const {
    LevelTraffic traffic;
    for (int p = 0; p < kPurposes; ++p) {
      traffic[p] = {inside_host_[p], between_hosts_[p]};
    }
    return traffic;
  }

 private:
  std::array<std::atomic<int64_t>, kPurposes> inside_host_ = {};
  std::array<std::atomic<int64_t>, kPurposes> between_hosts_ = {};
};

}  // namespace zeromini

#endif  // ZEROMINI_COMM_LEVEL_COUNTER_H_
