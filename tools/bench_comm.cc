// zeromini bench comm: collectives, ours and the MPI library's in turn.

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"
#include "tools/agree_on.h"
#include "tools/bench.h"
#include "tools/bench_collectives.h"
#include "tools/bench_costs.h"
#include "tools/bench_group.h"
#include "tools/bench_report.h"
#include "tools/files/json_file.h"
#include "tools/report/table.h"
#include "tools/stopwatch.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

constexpr int64_t kLargestSize = int64_t{4} << 30;

const std::map<std::string, DType>& WireFormats() {
  static const auto* const formats = new std::map<std::string, DType>{
      {"fp32", DType::kFloat32}, {"bf16", DType::kBFloat16}};
  return *formats;
}

struct Options {
  GroupFlags group;
  std::vector<int64_t> sizes;
  std::vector<std::string> collectives = {"reduce-scatter", "all-gather",
                                          "all-reduce"};
  int repetitions = 7;
  std::string wire = "fp32";
  std::string json;
};

std::vector<int64_t> DefaultSizes() {
  std::vector<int64_t> sizes;
  for (int64_t size = 1 << 10; size <= 256 << 20; size *= 4) {
    sizes.push_back(size);
  }
  return sizes;
}

Table EmptyTable() {
  return {{{"collective", Align::kLeft, 15},
           {"bytes", Align::kRight, 10},
           {"of", Align::kLeft, 9},
           {"us", Align::kRight, 10},
           {"alg GB/s", Align::kRight, 8},
           {"bus GB/s", Align::kRight, 8},
           {"inter-host", Align::kRight, 11},
           {"/ mpi", Align::kRight, 6}},
          {}};
}

struct Samples {
  std::vector<double> seconds;  // Of one operation, by repetition.
  int64_t operations = 0;
  int64_t sent_between_hosts = 0;  // By this rank, in all of them.
};

// One rank's part of the benchmark.
class CommBench {
 public:
  CommBench(const Options& options, BenchRank& rank)
      : options_(options), rank_(rank), group_(rank.group) {
    contenders_.push_back(
        OurCollectives(group_, WireFormats().at(options_.wire)));
    if (rank_.mpi != nullptr) {
      contenders_.push_back(MpiCollectives(*rank_.mpi));
    }
  }

  absl::Status Run() {
    ZEROMINI_RETURN_IF_ERROR(AgreeOn(
        reports() ? CheckWritable(options_.json) : absl::OkStatus(), group_));
    ZEROMINI_RETURN_IF_ERROR(AgreeOn(Allocate(), group_));
    if (reports()) PrintHeader();
    for (const std::string& name : options_.collectives) {
      for (int64_t size : options_.sizes) {
        const CollectiveCase what = {name, Collectives().at(name),
                                     SegmentOf(size), group_.size()};
        ZEROMINI_RETURN_IF_ERROR(Measure(what));
      }
    }
    ZEROMINI_ASSIGN_OR_RETURN(const ExchangeCosts costs, Costs());
    if (!reports()) return absl::OkStatus();
    std::printf("\n%s\n", costs.ToText().c_str());
    for (nlohmann::json& row : json_) costs.AddTo(&row);
    return WriteJson(options_.json, json_);
  }

 private:
  bool reports() const { return group_.rank() == 0; }

  // Rounds up to whole segments.
  int64_t SegmentOf(int64_t bytes) const {
    const int64_t whole = group_.size() * int64_t{sizeof(float)};
    return (bytes + whole - 1) / whole;
  }

  absl::Status Allocate() {
    const int64_t segment = SegmentOf(
        *std::max_element(options_.sizes.begin(), options_.sizes.end()));
    const int64_t elements = segment * group_.size();
    buffers_.whole.reset(new (std::nothrow) float[elements]);
    buffers_.part.reset(new (std::nothrow) float[segment]);
    if (buffers_.whole && buffers_.part) return absl::OkStatus();
    return absl::ResourceExhaustedError(absl::StrCat(
        "no memory for ", elements + segment, " elements on each rank"));
  }

  // Small whole numbers, so that the sum is exact in any order and format.
  void FillInputs(const CollectiveCase& what) {
    const float mine = static_cast<float>(group_.rank() % 8 + 1);
    std::fill_n(buffers_.whole.get(), what.elements(), mine);
    std::fill_n(buffers_.part.get(), what.segment, mine);
  }

  absl::Status CheckOutputs(const Contender& contender,
                            const CollectiveCase& what) {
    float sum = 0;
    for (int r = 0; r < group_.size(); ++r) sum += r % 8 + 1;
    const bool gathers = what.collective == Collective::kAllGather;
    const bool scatters = what.collective == Collective::kReduceScatter;
    const float* const out = (scatters ? buffers_.part : buffers_.whole).get();
    const int64_t elements = scatters ? what.segment : what.elements();
    for (int64_t i = 0; i < elements; ++i) {
      const float want = gathers ? i / what.segment % 8 + 1 : sum;
      if (out[i] == want) continue;
      return absl::InternalError(
          absl::StrCat(contender.name(), " ", what.name, " of ", what.bytes(),
                       " bytes: element ", i, " is ", out[i], ", not ", want));
    }
    return absl::OkStatus();
  }

  absl::Status WarmUp(Contender& contender, const CollectiveCase& what) {
    FillInputs(what);
    ZEROMINI_RETURN_IF_ERROR(contender.Run(what, buffers_));
    return CheckOutputs(contender, what);
  }

  absl::Status Time(Contender& contender, const CollectiveCase& what,
                    Samples* samples) {
    constexpr auto kPurpose = static_cast<size_t>(Purpose::kGradients);
    ZEROMINI_RETURN_IF_ERROR(group_.Barrier());
    const int64_t sent = group_.level_traffic()[kPurpose].between_hosts;
    const Stopwatch watch;
    for (int64_t i = 0; i < what.in_a_row(); ++i) {
      ZEROMINI_RETURN_IF_ERROR(contender.Run(what, buffers_));
    }
    const double seconds = watch.seconds();
    samples->seconds.push_back(seconds / static_cast<double>(what.in_a_row()));
    samples->operations += what.in_a_row();
    samples->sent_between_hosts +=
        group_.level_traffic()[kPurpose].between_hosts - sent;
    return absl::OkStatus();
  }

  absl::Status Measure(const CollectiveCase& what) {
    for (auto& contender : contenders_) {
      ZEROMINI_RETURN_IF_ERROR(WarmUp(*contender, what));
    }
    // An all-reduce in place, again and again, would overflow.
    std::fill_n(buffers_.whole.get(), what.elements(), 0.0f);
    std::vector<Samples> samples(contenders_.size());
    for (int r = 0; r < options_.repetitions; ++r) {
      for (size_t i = 0; i < contenders_.size(); ++i) {
        const size_t turn = (i + r) % contenders_.size();
        ZEROMINI_RETURN_IF_ERROR(
            Time(*contenders_[turn], what, &samples[turn]));
      }
    }
    for (Samples& s : samples) {
      ZEROMINI_ASSIGN_OR_RETURN(s.seconds, SlowestRank(s.seconds, group_));
    }
    int64_t sent = samples[0].sent_between_hosts;
    if (rank_.mpi != nullptr) {
      ZEROMINI_ASSIGN_OR_RETURN(sent, rank_.mpi->LargestHostSum(sent));
    }
    ours_[what.name][what.bytes()] = Median(samples[0].seconds);
    if (reports()) Report(what, samples, sent / samples[0].operations);
    return absl::OkStatus();
  }

  // Of our own rows, where there are small ones and large ones: exchanges of
  // their own would add to the bytes that a user counts at an interface.
  absl::StatusOr<ExchangeCosts> Costs() {
    constexpr int64_t kSmall = 64 << 10;
    constexpr int64_t kLarge = 1 << 20;
    ExchangeCosts costs;
    const auto& scatters = ours_["reduce-scatter"];
    const auto& gathers = ours_["all-gather"];
    if (group_.size() == 1 || scatters.empty() || gathers.empty()) return costs;
    const int64_t small = scatters.begin()->first;
    const int64_t large = scatters.rbegin()->first;
    if (small > kSmall || large < kLarge) return costs;
    const DType wire = WireFormats().at(options_.wire);
    const double sent = SentBytes(static_cast<double>(large), group_.size()) *
                        SizeOf(wire) / SizeOf(DType::kFloat32);
    costs.wire_byte = (scatters.at(large) + gathers.at(large)) / (2 * sent);
    costs.small_collective = (scatters.at(small) + gathers.at(small)) / 2;
    buffers_ = CollectiveBuffers();
    ZEROMINI_ASSIGN_OR_RETURN(costs.copied_byte, SecondsPerCopiedByte(group_));
    return costs;
  }

  void PrintHeader() const {
    std::printf(
        "%d ranks (%s) on %d hosts, fp32 (ours travels as %s); medians of %d "
        "interleaved runs of the slowest rank\n\n",
        group_.size(), group_.backend(), rank_.hosts(), options_.wire.c_str(),
        options_.repetitions);
    std::printf("%s", table_.Header().c_str());
  }

  void Report(const CollectiveCase& what, const std::vector<Samples>& samples,
              int64_t sent) {
    for (size_t i = 0; i < samples.size(); ++i) {
      nlohmann::json row = Row(what, *contenders_[i], samples[i]);
      if (i == 0) row["inter_host_bytes"] = sent;
      if (i == 0 && samples.size() > 1) {
        row["ratio_to_mpi"] =
            RatioOfPairs(samples[0].seconds, samples[1].seconds).median;
      }
      PrintRow(row);
      json_.push_back(std::move(row));
    }
    std::fflush(stdout);
  }

  // Bandwidths by the convention of NCCL's tests: the bus bandwidth is what
  // each link carries, whatever the number of ranks.
  nlohmann::json Row(const CollectiveCase& what, const Contender& contender,
                     const Samples& samples) const {
    const double seconds = Median(samples.seconds);
    const double algorithm = static_cast<double>(what.bytes()) / seconds;
    const double n = group_.size();
    const double passes = what.collective == Collective::kAllReduce ? 2 : 1;
    return {{"collective", what.name},
            {"bytes", what.bytes()},
            {"ranks", group_.size()},
            {"hosts", rank_.hosts()},
            {"comm", group_.backend()},
            {"wire", options_.wire},
            {"implementation", contender.name()},
            {"seconds", seconds},
            // As if nothing disturbed it.
            {"latency_seconds",
             *std::min_element(samples.seconds.begin(), samples.seconds.end())},
            {"algorithm_bandwidth", algorithm},
            {"bus_bandwidth", algorithm * passes * (n - 1) / n},
            {"inter_host_bytes", nullptr},
            {"ratio_to_mpi", nullptr}};
  }

  void PrintRow(const nlohmann::json& row) const {
    const auto gigabytes = [&row](const char* key) {
      return absl::StrFormat("%.3f", row[key].get<double>() / 1e9);
    };
    const auto& sent = row["inter_host_bytes"];
    const auto& ratio = row["ratio_to_mpi"];
    const std::string line = table_.Line(
        {row["collective"].get<std::string>(),
         absl::StrCat(row["bytes"].get<int64_t>()),
         row["implementation"].get<std::string>(),
         absl::StrFormat("%.1f", row["seconds"].get<double>() * 1e6),
         gigabytes("algorithm_bandwidth"), gigabytes("bus_bandwidth"),
         sent.is_null() ? "-" : absl::StrCat(sent.get<int64_t>()),
         ratio.is_null() ? "-" : absl::StrFormat("%.2f", ratio.get<double>())});
    std::printf("%s", line.c_str());
  }

  const Options& options_;
  BenchRank& rank_;
  Communicator& group_;
  std::vector<std::unique_ptr<Contender>> contenders_;
  CollectiveBuffers buffers_;
  // Seconds of ours, by collective and bytes.
  std::map<std::string, std::map<int64_t, double>> ours_;
  const Table table_ = EmptyTable();
  nlohmann::json json_ = nlohmann::json::array();
};

constexpr char kFooter[] =
    "Below the table, and in every row of the JSON, what OptimizerOptions "
    "takes\n"
    "to weigh layouts on this group. copy_cost: the time of a byte that the\n"
    "copy kernel copies, all ranks at once, over that of a byte that a rank\n"
    "sends in the largest reduce-scatter and all-gather above.\n"
    "collective_cost_bytes: the time of the smallest of those in such bytes.\n"
    "Both are null on one rank, without both collectives, or without sizes up\n"
    "to 64KiB and from 1MiB.";

}  // namespace

void AddBenchComm(CLI::App& bench, int* exit_code) {
  CLI::App* verb = bench.add_subcommand(
      "comm",
      "Collectives of a group, and of the MPI library beside them.\n"
      "Under mpirun: mpirun -n 4 zeromini bench comm");
  verb->footer(kFooter);
  auto options = std::make_shared<Options>();
  options->sizes = DefaultSizes();
  AddGroupFlags(verb, &options->group);
  verb->add_option("--sizes", options->sizes,
                   "Whole payloads in bytes: 4096, 64KiB, 1MiB")
      ->delimiter(',')
      ->transform(CLI::AsSizeValue(true))
      ->check(CLI::Range(int64_t{4}, kLargestSize))
      ->default_str("1KiB to 256MiB by factors of 4");
  verb->add_option("--collectives", options->collectives,
                   "Which, of reduce-scatter, all-gather and all-reduce")
      ->delimiter(',')
      ->check(CLI::IsMember(Collectives()))
      ->capture_default_str();
  verb->add_option("--repetitions", options->repetitions,
                   "Runs of each; the median counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  verb->add_option("--wire", options->wire,
                   "What our elements travel as, fp32 or bf16; MPI's are fp32")
      ->check(CLI::IsMember(WireFormats()))
      ->capture_default_str();
  verb->add_option("--json", options->json, "Also write the results here");
  verb->callback([options, exit_code] {
    *exit_code = RunOnGroup("comm", options->group, [&](BenchRank& rank) {
      return CommBench(*options, rank).Run();
    });
  });
}

}  // namespace zeromini::tools
