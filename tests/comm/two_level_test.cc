// Exchanges between ranks on several hosts, which GroupOptions::hosts makes of
// one machine.

#include <mpi.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "comm/host_map.h"
#include "tests/comm/conformance.h"
#include "tests/comm/elements.h"
#include "tests/support/mpi_session.h"
#include "tests/support/status_matchers.h"
#include "zeromini/internal/half.h"

namespace zeromini {
namespace {

using conformance::Drain;
using conformance::Element;
using conformance::Elements;
using conformance::kCounts;
using ::testing::HasSubstr;

constexpr Exchange kGrads{Purpose::kGradients, 3, 0};

// One host a rank, one host less than ranks, hosts of interleaved ranks, a
// large and a small one.
std::vector<std::vector<int>> HostMaps(int size) {
  std::vector<std::vector<int>> maps(4, std::vector<int>(size));
  for (int r = 0; r < size; ++r) {
    maps[0][r] = r;
    maps[1][r] = r / 2;
    maps[2][r] = r % 2;
    maps[3][r] = r == 0 ? 9 : 4;
  }
  return maps;
}

void OnEveryHostMap(
    const std::function<void(Communicator&, const HostMap&)>& check) {
  for (const std::vector<int>& hosts : HostMaps(TestSession().size())) {
    GroupOptions options;
    options.timeout = absl::Seconds(60);
    options.hosts = hosts;
    ASSERT_OK_AND_ASSIGN(auto group, TestSession().World(options));
    check(*group, HostMap::FromColors(hosts));
    EXPECT_OK(group->Close());
  }
}

float OnTheWire(float value, DType wire) {
  return wire == DType::kBFloat16 ? FromBFloat16(ToBFloat16(value)) : value;
}

// Element i of `owner`'s segment: inside each host in rank order, then host by
// host; rounded once for each level crossed, but never by its owner.
float TwoLevelSum(const HostMap& hosts, int owner, int64_t i, DType wire) {
  float sum = 0;
  for (int host = 0; host < hosts.hosts(); ++host) {
    const bool here = hosts.host_of(owner) == host;
    const int reader = here ? owner : hosts.Courier(host, owner);
    float partial = 0;
    for (size_t l = 0; l < hosts.ranks_of(host).size(); ++l) {
      const int rank = hosts.ranks_of(host)[l];
      const float given = Element(rank, i);
      const float seen = rank == reader ? given : OnTheWire(given, wire);
      partial = l == 0 ? seen : partial + seen;
    }
    if (!here) partial = OnTheWire(partial, wire);
    sum = host == 0 ? partial : sum + partial;
  }
  return sum;
}

void CheckReduceScatter(Communicator& group, const HostMap& hosts, DType wire) {
  Exchange exchange = kGrads;
  exchange.wire = wire;
  for (int64_t count : kCounts) {
    std::vector<float> in = Elements(group.rank(), count * group.size());
    const std::vector<float> before = in;
    float* own = in.data() + group.rank() * count;
    ASSERT_OK(
        group.ReduceScatter(in.data(), own, count, DType::kFloat32, exchange));
    ASSERT_OK(Drain(group));
    int64_t wrong = 0;
    for (int64_t i = 0; i < count * group.size(); ++i) {
      const bool mine = i / count == group.rank();
      wrong += in[i] !=
               (mine ? TwoLevelSum(hosts, group.rank(), i, wire) : before[i]);
    }
    EXPECT_EQ(wrong, 0) << "count " << count << ", " << hosts.hosts()
                        << " hosts";
  }
}

TEST(TwoLevelTest, SumsGoInRankOrderInsideAHostAndThenInHostOrder) {
  OnEveryHostMap([](Communicator& group, const HostMap& hosts) {
    CheckReduceScatter(group, hosts, DType::kFloat32);
  });
}

TEST(TwoLevelTest, ABFloat16SumIsRoundedOncePerLevelThatItCrosses) {
  OnEveryHostMap([](Communicator& group, const HostMap& hosts) {
    CheckReduceScatter(group, hosts, DType::kBFloat16);
  });
}

TEST(TwoLevelTest, ABFloat16SumStaysWithinItsBound) {
  OnEveryHostMap([](Communicator& group, const HostMap& hosts) {
    constexpr int64_t kCount = 5000;
    const std::vector<float> in = Elements(group.rank(), kCount * group.size());
    std::vector<float> out(kCount);
    Exchange exchange = kGrads;
    exchange.wire = DType::kBFloat16;
    ASSERT_OK(group.ReduceScatter(in.data(), out.data(), kCount,
                                  DType::kFloat32, exchange));
    ASSERT_OK(Drain(group));
    const int levels = (hosts.hosts() > 1) + (hosts.hosts() < group.size());
    for (int64_t i = 0; i < kCount; ++i) {
      double sum = 0;
      double magnitude = 0;
      for (int r = 0; r < group.size(); ++r) {
        const double given = Element(r, group.rank() * kCount + i);
        sum += given;
        magnitude += std::abs(given);
      }
      // fp32's own roundings beside the wire's.
      ASSERT_LE(std::abs(out[i] - sum),
                magnitude * (levels * std::ldexp(1.0, -8) * (1 + 1e-2) +
                             std::ldexp(group.size(), -23)))
          << "element " << i;
    }
  });
}

TEST(TwoLevelTest, GathersReachEveryHost) {
  OnEveryHostMap([](Communicator& group, const HostMap&) {
    conformance::AllGatherPutsEverySegmentInPlace(group);
    conformance::ABFloat16GatherRoundsEverySegment(group);
    conformance::BroadcastReachesAllFromAnyRoot(group);
  });
}

TEST(TwoLevelTest, WholeNumbersAddUpTheSameWhereverTheyAre) {
  OnEveryHostMap([](Communicator& group, const HostMap&) {
    for (int64_t count : {1, 7, 4001, 300001}) {
      std::vector<int64_t> data(count);
      for (int64_t i = 0; i < count; ++i) data[i] = i * (group.rank() + 1);
      ASSERT_OK(group.AllReduce(data.data(), count, DType::kInt64,
                                ReduceOp::kSum, kGrads));
      ASSERT_OK(Drain(group));
      const int64_t ranks = group.size() * (group.size() + 1) / 2;
      int64_t wrong = 0;
      for (int64_t i = 0; i < count; ++i) wrong += data[i] != i * ranks;
      EXPECT_EQ(wrong, 0) << "count " << count;
    }
  });
}

TEST(TwoLevelTest, OrderAndSplitsAreAsOnOneHost) {
  OnEveryHostMap([](Communicator& group, const HostMap&) {
    conformance::ManyExchangesKeepTheirOrder(group);
    conformance::SplitGroupsByColorAndOrdersByKey(group);
    conformance::EmptyExchangesTouchNothing(group);
  });
}

TEST(TwoLevelTest, AllToAllBringsEverySegmentToItsRank) {
  OnEveryHostMap([](Communicator& group, const HostMap&) {
    conformance::AllToAllBringsEverySegmentToItsRank(group);
    conformance::AllToAllWorksInAGroupThatWasSplitOff(group);
  });
}

TEST(TwoLevelTest, AnAllToAllSendsEachElementOnceOnItsOwnLevel) {
  OnEveryHostMap([](Communicator& group, const HostMap& hosts) {
    constexpr int64_t kCount = 70001;
    const int size = group.size();
    const std::vector<int64_t> counts(size, kCount);
    const std::vector<float> in(kCount * size);
    std::vector<float> out(kCount * size);
    const int g = static_cast<int>(Purpose::kGradients);
    const LevelBytes before = group.level_traffic()[g];
    ASSERT_OK(group.AllToAllV(in.data(), counts, out.data(), counts,
                              DType::kFloat32, kGrads));
    ASSERT_OK(Drain(group));
    const LevelBytes after = group.level_traffic()[g];
    const int host = hosts.host_of(group.rank());
    const int64_t neighbours =
        static_cast<int64_t>(hosts.ranks_of(host).size()) - 1;
    const int64_t inside = neighbours * kCount * 4;
    const int64_t between = (size - 1 - neighbours) * kCount * 4;
    // The counts go ahead, and a leader's greetings.
    const int64_t ahead = 16 * size * size + 1000;
    EXPECT_GE(after.inside_host - before.inside_host, inside);
    EXPECT_LE(after.inside_host - before.inside_host, inside + ahead);
    EXPECT_GE(after.between_hosts - before.between_hosts, between);
    EXPECT_LE(after.between_hosts - before.between_hosts, between + ahead);
  });
}

TEST(TwoLevelTest, CountsThatDoNotMatchAreNamedOnEveryHost) {
  for (const std::vector<int>& hosts : HostMaps(TestSession().size())) {
    GroupOptions options;
    options.hosts = hosts;
    ASSERT_OK_AND_ASSIGN(auto group, TestSession().World(options));
    conformance::CountsThatDoNotMatchAreNamedOnEveryRank(*group);
  }
}

TEST(TwoLevelTest, DifferentCallsAreNamedOnEveryHost) {
  if (TestSession().size() == 1) return;
  for (const std::vector<int>& hosts : HostMaps(TestSession().size())) {
    GroupOptions options;
    options.hosts = hosts;
    ASSERT_OK_AND_ASSIGN(auto group, TestSession().World(options));
    conformance::DifferentCallsAreNamedOnEveryRank(*group);
  }
}

TEST(TwoLevelTest, AnAbsentRankIsNamedOnEveryHost) {
  if (TestSession().size() == 1) return;
  GroupOptions options;
  options.timeout = absl::Milliseconds(800);
  options.hosts = HostMaps(TestSession().size())[1];
  ASSERT_OK_AND_ASSIGN(auto group, TestSession().World(options));
  conformance::AnAbsentRankIsNamedByAllOthers(*group);
}

// Bytes that leave a host for a reduce-scatter and an all-gather: the bound,
// and one greeting between leaders per exchange.
TEST(TwoLevelTest, AHostSendsItsShareOfThePayloadOnce) {
  OnEveryHostMap([](Communicator& group, const HostMap& hosts) {
    constexpr int64_t kCount = 100001;
    for (DType wire : {DType::kFloat32, DType::kBFloat16}) {
      std::vector<float> data(kCount * group.size(), 1.0f);
      float* own = data.data() + kCount * group.rank();
      const int g = static_cast<int>(Purpose::kGradients);
      const int64_t before = group.level_traffic()[g].between_hosts;
      Exchange exchange = kGrads;
      exchange.wire = wire;
      ASSERT_OK(group.ReduceScatter(data.data(), own, kCount, DType::kFloat32,
                                    exchange));
      ASSERT_OK(
          group.AllGather(own, data.data(), kCount, DType::kFloat32, exchange));
      ASSERT_OK(Drain(group));
      std::vector<int64_t> sent(hosts.hosts());
      sent[hosts.host_of(group.rank())] =
          group.level_traffic()[g].between_hosts - before;
      ASSERT_OK(group.AllReduce(sent.data(), hosts.hosts(), DType::kInt64,
                                ReduceOp::kSum, {}));
      ASSERT_OK(Drain(group));
      const int64_t element = SizeOf(wire);
      for (int host = 0; host < hosts.hosts(); ++host) {
        const int64_t here = hosts.ranks_of(host).size();
        const int64_t others = hosts.hosts() - 1;
        // Sums for the segments of all other ranks; own segments to each host.
        const int64_t payload =
            kCount * element * (group.size() - here + here * others);
        EXPECT_GE(sent[host], payload);
        EXPECT_LE(sent[host], payload + 2 * others * here * 128);
      }
    }
  });
}

// The numbers of the next two: MPI takes the lowest that is free, and a group
// makes two.
std::vector<int> NextCommunicators() {
  std::vector<MPI_Comm> next(2, MPI_COMM_NULL);
  std::vector<int> numbers;
  for (MPI_Comm& comm : next) {
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    numbers.push_back(static_cast<int>(MPI_Comm_c2f(comm)));
  }
  for (MPI_Comm& comm : next) MPI_Comm_free(&comm);
  return numbers;
}

TEST(TwoLevelTest, AClosedGroupLeavesNoCommunicatorWithMessagesOutstanding) {
  const std::vector<int> before = NextCommunicators();
  for (int round = 0; round < 5; ++round) {
    OnEveryHostMap([](Communicator& group, const HostMap&) {
      EXPECT_OK(group.Barrier());
    });
  }
  EXPECT_EQ(NextCommunicators(), before);
}

TEST(TwoLevelTest, HostsThatDisagreeOrJoinNothingAreRefused) {
  const int size = TestSession().size();
  GroupOptions options;
  options.hosts.assign(size + 1, 0);
  EXPECT_THAT(TestSession().World(options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("entries, the communicator")));
  if (size == 1) return;
  options.hosts.assign(size, 0);
  if (TestSession().rank() == 1) options.hosts[0] = 1;
  EXPECT_THAT(TestSession().World(options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("rank 1 gives other GroupOptions::hosts")));
}

TEST(TwoLevelTest, AHostMapNumbersHostsByTheirLowestRank) {
  const HostMap hosts = HostMap::FromColors({7, 3, 7, 3, 3});
  EXPECT_EQ(hosts.hosts(), 2);
  EXPECT_EQ(hosts.ranks_of(0), (std::vector<int>{0, 2}));
  EXPECT_EQ(hosts.ranks_of(1), (std::vector<int>{1, 3, 4}));
  EXPECT_EQ(hosts.index_of(4), 2);
  // The third rank of host 1 is host 0's first courier's again.
  EXPECT_EQ(hosts.Courier(0, 4), 0);
  EXPECT_EQ(hosts.Courier(0, 3), 2);
  EXPECT_EQ(hosts.Courier(1, 2), 3);
}

}  // namespace
}  // namespace zeromini
