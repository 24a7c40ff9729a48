// Runs a kernel of the host, which cannot fail.

#ifndef ZEROMINI_TESTS_KERNELS_RUN_KERNEL_H_
#define ZEROMINI_TESTS_KERNELS_RUN_KERNEL_H_

#include <type_traits>

#include "gtest/gtest.h"
#include "zeromini/kernels.h"

namespace zeromini {

template <typename Args>
void RunKernel(absl::Status (*kernel)(const Args&, Stream),
               const std::type_identity_t<Args>& args) {
  const absl::Status ran = kernel(args, Stream{});
  EXPECT_TRUE(ran.ok()) << ran;
}

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_KERNELS_RUN_KERNEL_H_
