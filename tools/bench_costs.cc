#include "tools/bench_costs.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <new>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/agree_on.h"
#include "tools/bench_group.h"
#include "tools/bench_report.h"
#include "tools/stopwatch.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/kernels.h"

namespace zeromini::tools {
namespace {

constexpr int64_t kCopiedBytes = 64 << 20;

absl::StatusOr<std::unique_ptr<float[]>> Zeros(int64_t elements,
                                               Communicator& group) {
  std::unique_ptr<float[]> floats(new (std::nothrow) float[elements]);
  if (floats != nullptr) std::fill_n(floats.get(), elements, 0.0f);
  ZEROMINI_RETURN_IF_ERROR(AgreeOn(
      floats ? absl::OkStatus()
             : absl::ResourceExhaustedError(absl::StrCat(
                   "no memory for ", elements, " elements on each rank")),
      group));
  return floats;
}

// Median of three, of `in_a_row` calls of `act` each, after one.
absl::StatusOr<double> SecondsOf(const std::function<absl::Status()>& act,
                                 int in_a_row, Communicator& group) {
  ZEROMINI_RETURN_IF_ERROR(act());
  std::vector<double> samples;
  for (int repetition = 0; repetition < 3; ++repetition) {
    ZEROMINI_RETURN_IF_ERROR(group.Barrier());
    const Stopwatch watch;
    for (int i = 0; i < in_a_row; ++i) ZEROMINI_RETURN_IF_ERROR(act());
    samples.push_back(watch.seconds() / in_a_row);
  }
  ZEROMINI_ASSIGN_OR_RETURN(samples, SlowestRank(samples, group));
  return Median(samples);
}

// Of a reduce-scatter and an all-gather, in place, of `segment` elements for
// each rank.
absl::StatusOr<double> SecondsOfBoth(int64_t segment, int in_a_row,
                                     Communicator& group) {
  ZEROMINI_ASSIGN_OR_RETURN(const auto whole,
                            Zeros(segment * group.size(), group));
  float* const mine = whole.get() + segment * group.rank();
  const auto both = [&]() -> absl::Status {
    ZEROMINI_RETURN_IF_ERROR(group.ReduceScatter(whole.get(), mine, segment,
                                                 DType::kFloat32, Exchange()));
    ZEROMINI_RETURN_IF_ERROR(WaitForExchanges(group));
    ZEROMINI_RETURN_IF_ERROR(group.AllGather(mine, whole.get(), segment,
                                             DType::kFloat32, Exchange()));
    return WaitForExchanges(group);
  };
  return SecondsOf(both, in_a_row, group);
}

}  // namespace

std::optional<double> ExchangeCosts::copy_cost() const {
  if (wire_byte <= 0 || copied_byte <= 0) return std::nullopt;
  return copied_byte / wire_byte;
}

std::optional<int64_t> ExchangeCosts::collective_cost_bytes() const {
  if (wire_byte <= 0 || small_collective <= 0) return std::nullopt;
  return std::llround(small_collective / wire_byte);
}

void ExchangeCosts::AddTo(nlohmann::json* row) const {
  (*row)["copy_cost"] = nullptr;
  (*row)["collective_cost_bytes"] = nullptr;
  if (copy_cost()) (*row)["copy_cost"] = *copy_cost();
  if (collective_cost_bytes()) {
    (*row)["collective_cost_bytes"] = *collective_cost_bytes();
  }
}

std::string ExchangeCosts::ToText() const {
  if (!copy_cost() || !collective_cost_bytes()) {
    return "copy_cost and collective_cost_bytes: not measured";
  }
  return absl::StrFormat(
      "copy_cost %.4f: a byte copied takes %.3f ns, one sent %.3f ns; "
      "collective_cost_bytes %d: a small collective takes %.1f us",
      *copy_cost(), copied_byte * 1e9, wire_byte * 1e9,
      *collective_cost_bytes(), small_collective * 1e6);
}

absl::StatusOr<double> SecondsPerCopiedByte(Communicator& group) {
  constexpr int64_t kColumns = 4096;
  constexpr int64_t kElements = kCopiedBytes / int64_t{sizeof(float)};
  ZEROMINI_ASSIGN_OR_RETURN(const auto in, Zeros(kElements, group));
  ZEROMINI_ASSIGN_OR_RETURN(const auto out, Zeros(kElements, group));
  const auto copy = [&] {
    return CpuKernels().copy({in.get(), out.get(), kElements / kColumns,
                              kColumns, kColumns, kColumns, false},
                             Stream());
  };
  ZEROMINI_ASSIGN_OR_RETURN(const double seconds, SecondsOf(copy, 1, group));
  return seconds / static_cast<double>(kCopiedBytes);
}

absl::StatusOr<ExchangeCosts> MeasureCosts(int64_t payload_bytes,
                                           Communicator& group) {
  constexpr int64_t kSmallSegment = 64;
  constexpr int kSmallInARow = 20;
  ExchangeCosts costs;
  ZEROMINI_ASSIGN_OR_RETURN(costs.copied_byte, SecondsPerCopiedByte(group));
  if (group.size() == 1) return costs;
  const int64_t segment = std::max<int64_t>(
      1, payload_bytes / (group.size() * int64_t{sizeof(float)}));
  ZEROMINI_ASSIGN_OR_RETURN(const double large,
                            SecondsOfBoth(segment, 1, group));
  const double payload =
      static_cast<double>(segment * group.size() * int64_t{sizeof(float)});
  costs.wire_byte = large / (2 * SentBytes(payload, group.size()));
  ZEROMINI_ASSIGN_OR_RETURN(const double small,
                            SecondsOfBoth(kSmallSegment, kSmallInARow, group));
  costs.small_collective = small / 2;
  return costs;
}

}  // namespace zeromini::tools
