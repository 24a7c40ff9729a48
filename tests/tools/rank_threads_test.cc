#include "tools/rank_threads.h"

#include <atomic>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/no_more_threads.h"
#include "support/status_matchers.h"
#include "zeromini/group.h"
#include "zeromini/optimizer.h"

namespace zeromini::tools {
namespace {

using testing::HasSubstr;

TEST(RankThreadsTest, WithoutThreadsNoRankRunsAndTheGroupIsAborted) {
  ASSERT_OK_AND_ASSIGN(auto group, ThreadGroup(3));
  std::atomic<int> ran = 0;
  NoMoreThreads none;
  const auto no_thread =
      StatusIs(absl::StatusCode::kResourceExhausted,
               HasSubstr("no thread can be made for rank 0 of 3: Resource"));
  EXPECT_THAT(OnRankThreads(group, [&](int) { ++ran; }), no_thread);
  EXPECT_EQ(ran, 0);
  EXPECT_THAT(group[2]->Barrier(), no_thread);
}

TEST(OptimizerWithoutThreadsTest, IsRefused) {
  auto self = Self();
  std::vector<float> weights(4);
  ParamSpec spec;
  spec.name = "weight";
  spec.shape = {2, 2};
  spec.rule = BlockRule::Rows();
  spec.data = weights.data();
  NoMoreThreads none;
  EXPECT_THAT(Optimizer::Create({}, {spec}, *self),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("the stream 'zeromini-compute'")));
}

}  // namespace
}  // namespace zeromini::tools
