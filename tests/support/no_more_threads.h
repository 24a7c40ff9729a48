// While one lives the system makes no more threads.

#ifndef ZEROMINI_TESTS_SUPPORT_NO_MORE_THREADS_H_
#define ZEROMINI_TESTS_SUPPORT_NO_MORE_THREADS_H_

#include <pthread.h>

#include "gtest/gtest.h"

namespace zeromini {

// Asks for stacks that fit into no address space, so that making a thread fails
// as it does when memory is short: with EAGAIN.
class NoMoreThreads {
 public:
  NoMoreThreads() {
    pthread_attr_init(&before_);
    pthread_getattr_default_np(&before_);
    pthread_attr_t huge;
    pthread_attr_init(&huge);
    pthread_attr_setstacksize(&huge, size_t{1} << 60);
    EXPECT_EQ(pthread_setattr_default_np(&huge), 0);
    pthread_attr_destroy(&huge);
  }
  ~NoMoreThreads() {
    pthread_setattr_default_np(&before_);
    pthread_attr_destroy(&before_);
  }
  NoMoreThreads(const NoMoreThreads&) = delete;
  NoMoreThreads& operator=(const NoMoreThreads&) = delete;

 private:
  pthread_attr_t before_;
};

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_NO_MORE_THREADS_H_
