#include "comm/call.h"

#include <utility>
#include <vector>

#include "tests/support/status_matchers.h"

namespace zeromini {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

Signature Gradients() {
  Signature signature;
  signature.collective = Collective::kReduceScatter;
  signature.purpose = static_cast<int32_t>(Purpose::kGradients);
  signature.bucket = 3;
  signature.count = 8;
  signature.plan = 0x1234;
  signature.sequence = 17;
  return signature;
}

TEST(DescribeTest, NamesTheWireFormatOnlyIfItIsAnother) {
  Signature signature = Gradients();
  EXPECT_EQ(Describe(signature),
            "reduce-scatter of gradients, bucket 3, 8 x fp32");
  signature.wire = static_cast<int32_t>(DType::kBFloat16);
  EXPECT_EQ(Describe(signature),
            "reduce-scatter of gradients, bucket 3, 8 x fp32 as bf16");
}

TEST(CheckAgreementTest, NamesPlansIfNothingBeforeThemDiffers) {
  Signature other = Gradients();
  other.plan = 0xabcdef0123456789;
  other.sequence = 18;
  EXPECT_THAT(CheckAgreement({Gradients(), Gradients(), other}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "ranks have different plans: rank 0 has plan "
                       "0000000000001234, rank 2 has plan abcdef0123456789, in "
                       "reduce-scatter of gradients, bucket 3, 8 x fp32"));
}

TEST(CheckAgreementTest, NamesTheExchangesIfNothingElseDiffers) {
  Signature other = Gradients();
  other.sequence = 18;
  EXPECT_THAT(CheckAgreement({Gradients(), other}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "ranks are at different exchanges: rank 0 is at "
                       "exchange 17, rank 1 at exchange 18, in reduce-scatter "
                       "of gradients, bucket 3, 8 x fp32"));
}

TEST(CheckAgreementTest, NamesTheCallsFirstAndThePlansBesideThem) {
  Signature other = Gradients();
  other.count = 9;
  other.sequence = 18;
  EXPECT_THAT(CheckAgreement({Gradients(), other}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("8 x fp32; rank 1 calls"),
                             Not(HasSubstr("plan")))));
  other.plan = 0;
  EXPECT_THAT(CheckAgreement({Gradients(), other}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("9 x fp32 (rank 0 has plan 0000000000001234, "
                                 "rank 1 has plan 0000000000000000)")));
}

absl::Status Check(Collective collective, DType dtype, DType wire) {
  float data = 0;
  Call call;
  call.signature.collective = collective;
  call.signature.dtype = static_cast<int32_t>(dtype);
  call.signature.wire = static_cast<int32_t>(wire);
  call.signature.count = 1;
  call.in = call.out = &data;
  return CheckCall(call, 1, 2);
}

TEST(CheckCallTest, RefusesAnyWireFormatButFp32AndBFloat16) {
  for (DType wire : {DType::kFloat16, DType::kInt64, DType::kByte}) {
    EXPECT_THAT(
        Check(Collective::kReduceScatter, DType::kFloat32, wire),
        StatusIs(absl::StatusCode::kInvalidArgument,
                 AllOf(HasSubstr("rank 1, reduce-scatter"),
                       HasSubstr("the wire format must be fp32 or bf16"))));
  }
}

TEST(CheckCallTest, TakesBFloat16ForFp32SegmentsOnly) {
  constexpr DType kWire = DType::kBFloat16;
  EXPECT_OK(Check(Collective::kReduceScatter, DType::kFloat32, kWire));
  EXPECT_OK(Check(Collective::kAllGather, DType::kFloat32, kWire));
  const auto refused = StatusIs(absl::StatusCode::kInvalidArgument,
                                HasSubstr("only the fp32 elements of a "));
  EXPECT_THAT(Check(Collective::kAllReduce, DType::kFloat32, kWire), refused);
  EXPECT_THAT(Check(Collective::kBroadcast, DType::kByte, kWire), refused);
  EXPECT_THAT(Check(Collective::kAllGather, DType::kInt64, kWire), refused);
  EXPECT_THAT(Check(Collective::kReduceScatter, DType::kBFloat16, kWire),
              refused);
}

TEST(CheckCallTest, RefusesNumbersThatNoEnumHas) {
  const auto check = [](void (*change)(Signature&)) {
    float data = 0;
    Call call{Gradients(), &data, &data};
    change(call.signature);
    return CheckCall(call, 1, 2);
  };
  const auto refused = [](const char* what) {
    return StatusIs(
        absl::StatusCode::kInvalidArgument,
        AllOf(HasSubstr("rank 1, reduce-scatter"), HasSubstr(what)));
  };
  EXPECT_OK(check([](Signature&) {}));
  EXPECT_THAT(check([](Signature& s) { s.dtype = 5; }),
              refused("there is no dtype 5"));
  EXPECT_THAT(check([](Signature& s) { s.dtype = -1; }),
              refused("there is no dtype -1"));
  EXPECT_THAT(check([](Signature& s) { s.reduce_op = 3; }),
              refused("there is no reduce operation 3"));
  EXPECT_THAT(check([](Signature& s) { s.purpose = kPurposes; }),
              refused("there is no purpose 5"));
  EXPECT_THAT(check([](Signature& s) { s.wire = 99; }),
              refused("the wire format must be fp32 or bf16"));
}

TEST(CheckCallTest, RefusesACountWhoseBytesOverflow) {
  float data = 0;
  Call call{Gradients(), &data, &data};
  call.signature.count = int64_t{1} << 60;  // 2^63 bytes in two segments.
  EXPECT_THAT(CheckCall(call, 1, 2),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("more bytes than 63 bits can count")));
}

TEST(TypesTest, FormatsAreNamedAsTheHeaderSays) {
  EXPECT_STREQ(MasterFormatName(MasterFormat::kNone), "none");
  EXPECT_STREQ(MasterFormatName(MasterFormat::kFloat32), "fp32");
  EXPECT_STREQ(MasterFormatName(MasterFormat::kRemainder16), "remainder16");
  EXPECT_STREQ(MasterFormatName(MasterFormat::kRemainder8), "remainder8");
  EXPECT_STREQ(StateFormatName(StateFormat::kFloat32), "fp32");
  EXPECT_STREQ(StateFormatName(StateFormat::kBFloat16), "bf16");
  EXPECT_STREQ(StateFormatName(StateFormat::kInt8), "int8");
}

absl::Status CheckAllToAll(std::vector<int64_t> sends,
                           std::vector<int64_t> receives, bool in = true,
                           bool out = true) {
  int64_t sent[4] = {}, received[4] = {};
  Call call;
  call.signature.collective = Collective::kAllToAllV;
  call.signature.dtype = static_cast<int32_t>(DType::kInt64);
  call.in = in ? sent : nullptr;
  call.out = out ? received : nullptr;
  call.send_counts = std::move(sends);
  call.receive_counts = std::move(receives);
  return CheckCall(call, 1, 2);
}

TEST(CheckCallTest, AnAllToAllNeedsACountForEachRankAndBuffersForElements) {
  const auto refuses = [](const char* why) {
    return StatusIs(absl::StatusCode::kInvalidArgument,
                    AllOf(HasSubstr("rank 1, all-to-all of control, int64: "),
                          HasSubstr(why)));
  };
  constexpr int64_t kHuge = int64_t{1} << 59;
  EXPECT_OK(CheckAllToAll({1, 2}, {0, 3}));
  EXPECT_OK(CheckAllToAll({0, 0}, {0, 0}, false, false));
  EXPECT_THAT(CheckAllToAll({1}, {1, 1}),
              refuses("1 send counts and 2 receive counts in a group of 2"));
  EXPECT_THAT(CheckAllToAll({1, 1}, {1, 1, 1}), refuses("3 receive counts"));
  EXPECT_THAT(CheckAllToAll({1, -2}, {0, 0}),
              refuses("send count of rank 1 is -2"));
  EXPECT_THAT(CheckAllToAll({0, 0}, {-1, 0}),
              refuses("receive count of rank 0 is -1"));
  EXPECT_THAT(CheckAllToAll({1, 0}, {0, 0}, false), refuses("null send"));
  EXPECT_THAT(CheckAllToAll({0, 0}, {0, 1}, true, false),
              refuses("null receive"));
  EXPECT_THAT(CheckAllToAll({kHuge, kHuge}, {0, 0}), refuses("63 bits"));
}

TEST(CheckCallTest, AnAllToAllIsRefusedIfItsBuffersShareAnElement) {
  int64_t data[8] = {};
  Call call;
  call.signature.collective = Collective::kAllToAllV;
  call.signature.dtype = static_cast<int32_t>(DType::kInt64);
  call.send_counts = {1, 3};
  call.receive_counts = {2, 0};
  for (int at = 0; at <= 6; ++at) {
    call.in = data + 2;  // To data + 6.
    call.out = data + at;
    EXPECT_EQ(CheckCall(call, 0, 2).ok(), at == 0 || at == 6) << at;
  }
  call.out = data + 3;
  call.receive_counts = {0, 0};
  EXPECT_OK(CheckCall(call, 0, 2));
}

}  // namespace
}  // namespace zeromini
