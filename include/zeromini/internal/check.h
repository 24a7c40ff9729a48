// ZEROMINI_CHECK: for invariants of our own. What a caller or the world can
// cause is a Status instead.

#ifndef ZEROMINI_INTERNAL_CHECK_H_
#define ZEROMINI_INTERNAL_CHECK_H_

#include <cstdio>
#include <cstdlib>

#define ZEROMINI_CHECK(condition)                                     \
  do {                                                                \
    if (!(condition)) {                                               \
      std::fprintf(stderr, "%s:%d: broken invariant: %s\n", __FILE__, \
                   __LINE__, #condition);                             \
      std::abort();                                                   \
    }                                                                 \
  } while (false)

#endif  // ZEROMINI_INTERNAL_CHECK_H_
