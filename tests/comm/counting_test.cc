#include <vector>

#include "tests/comm/conformance.h"
#include "tests/support/run_ranks.h"
#include "tests/support/status_matchers.h"
#include "tests/support/watched_communicator.h"

namespace zeromini {
namespace {

const TrafficCount& Of(const Traffic& traffic, Purpose purpose) {
  return traffic[static_cast<int>(purpose)];
}

TEST(CountingCommunicatorTest, CountsWhatABandwidthOptimalExchangeSends) {
  for (int size : {1, 2, 3, 5, 8}) {
    RunRanks(size, [size](int, Communicator& group) {
      auto counting = CountingCommunicator::Wrap(group);
      std::vector<float> data(40 * size);
      std::vector<float> own(40);
      const int64_t others = size - 1;

      EXPECT_OK(counting->ReduceScatter(data.data(), own.data(), 40,
                                        DType::kFloat32,
                                        {Purpose::kGradients, 0, 5 * size}));
      EXPECT_OK(counting->AllGather(own.data(), data.data(), 40,
                                    DType::kBFloat16,
                                    {Purpose::kWeights, 0, 3}));
      EXPECT_OK(counting->AllReduce(data.data(), 10 * size, DType::kFloat32,
                                    ReduceOp::kSum, {Purpose::kScalars}));
      EXPECT_OK(
          counting->Broadcast(data.data(), 7 * size, 0, {Purpose::kState}));
      EXPECT_OK(conformance::Drain(*counting));

      const Traffic traffic = counting->traffic();
      EXPECT_EQ(Of(traffic, Purpose::kGradients).calls, 1);
      EXPECT_EQ(Of(traffic, Purpose::kGradients).bytes, others * 40 * 4);
      EXPECT_EQ(Of(traffic, Purpose::kGradients).padding_bytes, others * 5 * 4);
      EXPECT_EQ(Of(traffic, Purpose::kWeights).bytes, others * 40 * 2);
      EXPECT_EQ(Of(traffic, Purpose::kWeights).padding_bytes,
                others * 3 * 2 / size);
      EXPECT_EQ(Of(traffic, Purpose::kScalars).bytes, 2 * others * 10 * 4);
      EXPECT_EQ(Of(traffic, Purpose::kState).bytes, others * 7);
      EXPECT_EQ(Of(traffic, Purpose::kControl).calls, 0);
    });
  }
}

TEST(CountingCommunicatorTest, CountsWhatAnAllToAllSendsToOthersAndNoMore) {
  RunRanks(3, [](int rank, Communicator& group) {
    auto counting = CountingCommunicator::Wrap(group);
    std::vector<int64_t> sends(3), receives(3);
    for (int peer = 0; peer < 3; ++peer) {
      sends[peer] = 10 * rank + peer;
      receives[peer] = 10 * peer + rank;
    }
    const std::vector<uint16_t> in(200);
    std::vector<uint16_t> out(200);
    EXPECT_OK(counting->AllToAllV(in.data(), sends, out.data(), receives,
                                  DType::kBFloat16, {Purpose::kState, 0, 2}));
    EXPECT_OK(conformance::Drain(*counting));
    const TrafficCount count = Of(counting->traffic(), Purpose::kState);
    const int64_t others = 20 * rank + (0 + 1 + 2 - rank);
    EXPECT_EQ(count.calls, 1);
    EXPECT_EQ(count.bytes, others * 2);
    EXPECT_EQ(count.padding_bytes, 0);
    EXPECT_EQ(count.inside_host_bytes, others * 2);
  });
}

TEST(CountingCommunicatorTest,
     CountsTwoBytesForAnElementThatTravelsAsBFloat16) {
  RunRanks(3, [](int, Communicator& group) {
    auto counting = CountingCommunicator::Wrap(group);
    std::vector<float> data(3 * 40);
    std::vector<float> own(40);
    const auto rounded = [](Purpose purpose) {
      return Exchange{purpose, 0, 9, DType::kBFloat16};
    };
    EXPECT_OK(counting->ReduceScatter(data.data(), own.data(), 40,
                                      DType::kFloat32,
                                      rounded(Purpose::kGradients)));
    EXPECT_OK(counting->AllGather(own.data(), data.data(), 40, DType::kFloat32,
                                  rounded(Purpose::kWeights)));
    EXPECT_OK(conformance::Drain(*counting));
    for (Purpose purpose : {Purpose::kGradients, Purpose::kWeights}) {
      EXPECT_EQ(Of(counting->traffic(), purpose).bytes, 2 * 40 * 2);
      EXPECT_EQ(Of(counting->traffic(), purpose).padding_bytes, 2 * 3 * 2);
    }
  });
}

TEST(CountingCommunicatorTest, LevelsCountFromTheWrapOnAndSplitGroupsToo) {
  RunRanks(4, [](int rank, Communicator& group) {
    std::vector<float> data(4);
    const auto gather = [&data](Communicator& among) {
      EXPECT_OK(among.AllGather(data.data() + among.rank(), data.data(), 1,
                                DType::kFloat32, {Purpose::kWeights}));
      EXPECT_OK(conformance::Drain(among));
    };
    gather(group);
    auto counting = CountingCommunicator::Wrap(group);
    const auto inside = [&counting] {
      return Of(counting->traffic(), Purpose::kWeights).inside_host_bytes;
    };
    EXPECT_EQ(inside(), 0);
    gather(*counting);
    EXPECT_EQ(inside(), 3 * 4);
    {
      ASSERT_OK_AND_ASSIGN(auto pair, counting->Split(rank % 2, 0));
      gather(*pair);
      EXPECT_EQ(inside(), 3 * 4 + 4);
    }
    EXPECT_EQ(inside(), 3 * 4 + 4) << "what a group sent stays when it is gone";
    EXPECT_EQ(Of(counting->traffic(), Purpose::kWeights).between_hosts_bytes,
              0);
  });
}

TEST(CountingCommunicatorTest, ASplitGroupAddsToTheSameTotals) {
  RunRanks(4, [](int rank, Communicator& group) {
    auto counting = CountingCommunicator::Wrap(group);
    ASSERT_OK_AND_ASSIGN(auto pair, counting->Split(rank % 2, 0));
    std::vector<float> data(8);
    const std::vector<float> own(4);
    EXPECT_OK(pair->AllGather(own.data(), data.data(), 4, DType::kFloat32,
                              {Purpose::kWeights}));
    EXPECT_OK(conformance::Drain(*pair));
    EXPECT_EQ(Of(counting->traffic(), Purpose::kWeights).bytes, 4 * 4);
    ASSERT_OK_AND_ASSIGN(auto none, counting->Split(-1, 0));
    EXPECT_EQ(none, nullptr);
  });
}

// As one whose tensors are on another device: what ranks agree on besides them
// goes by another group.
class WithControl : public WatchedCommunicator {
 public:
  WithControl(std::unique_ptr<Communicator> group,
              std::unique_ptr<Communicator> control)
      : WatchedCommunicator(*group, [](const Exchange&) {}),
        group_(std::move(group)),
        control_(std::move(control)) {}

  static std::unique_ptr<WithControl> Of(Communicator& group) {
    auto tensors = group.Split(0, 0);
    auto control = group.Split(0, 0);
    return std::make_unique<WithControl>(*std::move(tensors),
                                         *std::move(control));
  }

  Communicator& control() override { return *control_; }
  absl::StatusOr<std::unique_ptr<Communicator>> Split(int, int) override {
    return Of(*group_);
  }

 private:
  const std::unique_ptr<Communicator> group_;
  const std::unique_ptr<Communicator> control_;
};

TEST(CountingCommunicatorTest, AControlGroupAddsToTheSameTotals) {
  RunRanks(2, [](int, Communicator& group) {
    auto both = WithControl::Of(group);
    auto counting = CountingCommunicator::Wrap(*both);
    EXPECT_NE(&counting->control(), counting.get());
    EXPECT_EQ(&counting->control().control(), &counting->control());
    int64_t word = 0;
    const auto say = [&word](Communicator& among) {
      EXPECT_OK(among.Broadcast(&word, 8, 0, {Purpose::kControl}));
      EXPECT_OK(conformance::Drain(among));
    };
    say(counting->control());
    {
      ASSERT_OK_AND_ASSIGN(auto part, counting->Split(0, 0));
      EXPECT_NE(&part->control(), part.get());
      say(part->control());
    }
    const Traffic traffic = counting->traffic();
    EXPECT_EQ(Of(traffic, Purpose::kControl).calls, 2);
    EXPECT_EQ(Of(traffic, Purpose::kControl).bytes, 8);
    EXPECT_EQ(Of(traffic, Purpose::kControl).inside_host_bytes,
              group.rank() == 0 ? 16 : 0);
  });
}

TEST(CountingCommunicatorTest, AGroupOfTheHostIsItsOwnControlGroup) {
  auto self = Self();
  auto counting = CountingCommunicator::Wrap(*self);
  EXPECT_EQ(&counting->control(), counting.get());
}

TEST(CountingCommunicatorTest, ARefusedCallCountsNothing) {
  auto self = Self();
  auto counting = CountingCommunicator::Wrap(*self);
  EXPECT_FALSE(counting->Broadcast(nullptr, 4, 0, {Purpose::kState}).ok());
  EXPECT_EQ(Of(counting->traffic(), Purpose::kState).calls, 0);
}

TEST(CountingCommunicatorTest, NumbersThatNoEnumHasAreRefused) {
  for (auto check : {conformance::AnUnknownDTypeIsRefused,
                     conformance::AnUnknownReduceOperationIsRefused,
                     conformance::AnUnknownPurposeIsRefused}) {
    RunRanks(2, [check](int, Communicator& group) {
      auto counting = CountingCommunicator::Wrap(group);
      check(*counting);
      EXPECT_EQ(Of(counting->traffic(), Purpose::kState).calls, 0);
    });
  }
}

}  // namespace
}  // namespace zeromini
