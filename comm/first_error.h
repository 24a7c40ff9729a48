// The error that broke a group: the first one stays.

#ifndef ZEROMINI_COMM_FIRST_ERROR_H_
#define ZEROMINI_COMM_FIRST_ERROR_H_

#include <atomic>
#include <mutex>

#include "absl/status/status.h"

namespace zeromini {

// Thread-safe. Asking whether it is set costs one load.
class FirstError {
 public:
  void Set(const absl::Status& why) {
    std::lock_guard<std::mutex> lock(mutex_);
    status_.Update(why);
    set_ = !status_.ok();
  }

  bool is_set() const { return set_; }

  absl::Status status() const {
    if (!set_) return absl::OkStatus();
    std::lock_guard<std::mutex> lock(mutex_);
    return status_;
  }

 private:
  mutable std::mutex mutex_;
  absl::Status status_;
  std::atomic<bool> set_ = false;
};

}  // namespace zeromini

#endif  // ZEROMINI_COMM_FIRST_ERROR_H_
