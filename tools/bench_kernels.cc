#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "benchmark/benchmark.h"
#include "nlohmann/json.hpp"
#include "tools/bench.h"
#include "tools/bench_coded.h"
#include "tools/bench_passes.h"
#include "tools/bench_report.h"
#include "tools/files/json_file.h"
#include "tools/files/terminal.h"
#include "tools/report/table.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

constexpr int64_t kHeadRows = 128;

struct Options {
  int64_t params = int64_t{128} << 20;
  std::vector<int> threads = {1, 2};
  std::vector<int64_t> rows = {1024, 4096, 16384};
  std::vector<int64_t> heads = {1024, 4096};
  int repetitions = 5;
  std::string level;
  std::string json;
};

struct KernelPair {
  const char* name;
  const char* over;
};
constexpr KernelPair kRatios[] = {{"adam_mini_fused", "adamw_fused"},
                                  {"adam_mini_step", "adamw_step"},
                                  {"factored_step", "adam_mini_step"},
                                  {"adamw_fused", "rmw_7"},
                                  {"adam_mini_fused", "rmw_5"}};

// Parameters per second of each run of each kernel, in the order of the runs.
using Rates = std::map<std::string, std::vector<double>>;

class RateCollector : public benchmark::BenchmarkReporter {
 public:
  explicit RateCollector(Rates* rates) : rates_(rates) {}
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.error_occurred) {
        status_ = absl::InternalError(run.error_message);
        continue;
      }
      (*rates_)[run.run_name.function_name].push_back(
          run.counters.at("items_per_second").value);
    }
  }

  // Of the last run that failed.
  const absl::Status& status() const { return status_; }

 private:
  Rates* rates_;
  absl::Status status_;
};

ArrayPart PartOf(const BlockShape& shape, int64_t params, int thread,
                 int threads) {
  const int64_t block = shape.block_rows * shape.row_elements;
  const int64_t blocks = params / block;
  const int64_t begin = blocks * thread / threads;
  const int64_t end = blocks * (thread + 1) / threads;
  return {begin * block, end - begin, &shape};
}

// Kernel after kernel, then all of them again: what disturbs the machine for a
// while disturbs all kernels, and a ratio is of neighbours in time.
absl::StatusOr<Rates> Measure(const KernelTable& kernels, PassArrays& arrays,
                              const BlockShape& shape, int threads,
                              const Options& options) {
  benchmark::ClearRegisteredBenchmarks();
  for (const Pass& pass : Passes()) {
    const auto run = [&, pass](benchmark::State& state) {
      const ArrayPart part =
          PartOf(shape, options.params, state.thread_index(), state.threads());
      absl::Status ran;
      for (auto _ : state) ran = pass.run(kernels, arrays, part);
      if (!ran.ok()) state.SkipWithError(ran.ToString().c_str());
      state.SetItemsProcessed(part.elements());
    };
    benchmark::RegisterBenchmark(pass.name, run)
        ->Iterations(1)
        ->Threads(threads)
        ->UseRealTime();
  }
  Rates rates;
  RateCollector collector(&rates);
  for (int r = 0; r < options.repetitions; ++r) {
    benchmark::RunSpecifiedBenchmarks(&collector);
  }
  benchmark::ClearRegisteredBenchmarks();
  ZEROMINI_RETURN_IF_ERROR(collector.status());
  return rates;
}

Table EmptyRates() {
  return {{{"block", Align::kLeft, 10},
           {"threads", Align::kRight, 7},
           {"kernel", Align::kLeft, 16},
           {"bytes", Align::kRight, 5},
           {"Gparam/s", Align::kRight, 8},
           {"GB/s", Align::kRight, 7},
           {"of rmw", Align::kRight, 8}},
          {}};
}

Table EmptyRatios() {
  return {{{"block", Align::kLeft, 10},
           {"threads"},
           {"parameters/s, of paired runs", Align::kLeft, 29},
           {"median"},
           {"low", Align::kRight, 5},
           {"high", Align::kRight, 5}},
          {}};
}

void PrintRates(const BlockShape& shape, int threads, const Rates& rates,
                nlohmann::json& json) {
  const Table table = EmptyRates();
  for (const Pass& pass : Passes()) {
    const double params_per_second = Median(rates.at(pass.name));
    const double bytes_per_second = params_per_second * pass.bytes;
    const double ceiling = Median(rates.at(pass.ceiling)) *
                           (pass.ceiling == std::string("rmw_7") ? 28 : 20);
    const double fraction = bytes_per_second / ceiling;
    std::cout << table.Line({shape.name, absl::StrCat(threads), pass.name,
                             absl::StrCat(pass.bytes),
                             absl::StrFormat("%.3f", params_per_second / 1e9),
                             absl::StrFormat("%.2f", bytes_per_second / 1e9),
                             absl::StrFormat("%.2f", fraction)});
    const CodedForm* const form = FormOf(pass);
    json.push_back({{"kernel", form == nullptr ? pass.name : form->kernel},
                    {"shape", shape.name},
                    {"dtype", "float32"},
                    {"threads", threads},
                    {"device", absl::StrCat("cpu, ", CpuLevel())},
                    {"params_per_second", params_per_second},
                    {"bytes_per_second", bytes_per_second},
                    {"bandwidth_fraction", fraction}});
    if (form == nullptr) continue;
    json.back()["dtype"] = DTypeName(form->weights);
    json.back()["weights"] = DTypeName(form->weights);
    json.back()["master"] = MasterFormatName(form->master);
    json.back()["state"] = StateFormatName(form->state);
    json.back()["bytes_per_parameter"] = form->bytes;
  }
}

std::vector<KernelPair> Pairs() {
  std::vector<KernelPair> pairs(std::begin(kRatios), std::end(kRatios));
  for (const CodedForm& form : CodedForms()) {
    pairs.push_back({form.pass, form.kernel});
  }
  return pairs;
}

void AddRatios(const BlockShape& shape, int threads, const Rates& rates,
               Table& table) {
  for (const KernelPair& pair : Pairs()) {
    const Ratio ratio = RatioOfPairs(rates.at(pair.name), rates.at(pair.over));
    table.rows.push_back({shape.name, absl::StrCat(threads),
                          absl::StrCat(pair.name, " / ", pair.over),
                          absl::StrFormat("%.2f", ratio.median),
                          absl::StrFormat("%.2f", ratio.low),
                          absl::StrFormat("%.2f", ratio.high)});
  }
}

std::vector<BlockShape> Shapes(const Options& options) {
  std::vector<BlockShape> shapes;
  for (int64_t n : options.rows) shapes.push_back({absl::StrCat(n), 1, n});
  for (int64_t n : options.heads) {
    shapes.push_back({absl::StrCat(kHeadRows, "x", n), kHeadRows, n});
  }
  return shapes;
}

// Empty if the options make sense.
std::string Complaint(const Options& options) {
  const int most =
      options.threads.empty()
          ? 0
          : *std::max_element(options.threads.begin(), options.threads.end());
  for (const BlockShape& shape : Shapes(options)) {
    if (shape.row_elements % 16 != 0) {
      return absl::StrCat("rows of ", shape.row_elements,
                          " elements: must be a multiple of 16");
    }
    if (options.params / (shape.block_rows * shape.row_elements) < most) {
      return absl::StrCat("--params ", options.params, " is less than a block ",
                          shape.name, " for each of ", most, " threads");
    }
  }
  if (!options.level.empty() && !CpuKernelsAt(options.level.c_str())) {
    return absl::StrCat("--level ", options.level, ": not on this processor");
  }
  return "";
}

void Progress(const BlockShape& shape, int threads) {
  if (!isatty(STDERR_FILENO)) return;
  std::cerr << absl::StrFormat("\rmeasuring %s, %d threads   ", shape.name,
                               threads);
}

void PrintHeader(const Options& options) {
  std::cout << absl::StrFormat(
      "CPU, %s; %d Mi parameters, fp32: %.2f GiB in four arrays, and coded "
      "forms of them; huge pages "
      "advised; medians of %d interleaved runs\n",
      options.level.empty() ? CpuLevel() : options.level, options.params >> 20,
      static_cast<double>(options.params) * 16 / (1 << 30),
      options.repetitions);
  std::cout << "\n" << EmptyRates().Header();
}

constexpr char kProgram[] = "zeromini bench kernels";

int Run(const Options& options) {
  if (const std::string complaint = Complaint(options); !complaint.empty()) {
    std::cerr << kProgram << ": " << complaint << "\n";
    return 2;
  }
  const absl::Status writable = CheckWritable(options.json);
  if (!writable.ok()) return ReportStatus(kProgram, writable);
  PassArrays arrays;
  if (!MapArrays(options.params, &arrays)) {
    std::cerr << kProgram << ": no memory for --params " << options.params
              << "\n";
    return 1;
  }
  const KernelTable& kernels = options.level.empty()
                                   ? CpuKernels()
                                   : *CpuKernelsAt(options.level.c_str());
  PrintHeader(options);
  nlohmann::json json = nlohmann::json::array();
  Table ratios = EmptyRatios();
  for (const BlockShape& shape : Shapes(options)) {
    for (int threads : options.threads) {
      Progress(shape, threads);
      const absl::StatusOr<Rates> rates =
          Measure(kernels, arrays, shape, threads, options);
      if (isatty(STDERR_FILENO))
        std::cerr << "\r" << std::string(40, ' ') << "\r";
      if (!rates.ok()) return ReportStatus(kProgram, rates.status());
      PrintRates(shape, threads, *rates, json);
      AddRatios(shape, threads, *rates, ratios);
    }
  }
  std::cout << "\n" << ratios.ToText();
  return ReportStatus(kProgram, WriteJson(options.json, json));
}

}  // namespace

void AddBenchKernels(CLI::App& bench, int* exit_code) {
  CLI::App* verb = bench.add_subcommand(
      "kernels",
      "Update kernels on this CPU: Adam-mini, AdamW, factored second\n"
      "moments (factored_step), Adam-mini with bf16 weights, a remainder and\n"
      "coded momentum (mini_*), and plain in-place streams (rmw_7: 28 bytes\n"
      "a parameter, rmw_5: 20). *_fused: one pass; *_step: statistics first,\n"
      "as a step that clips takes them");
  auto options = std::make_shared<Options>();
  verb->add_option("--params", options->params,
                   "Parameters; 32 bytes of memory each")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40))
      ->capture_default_str();
  verb->add_option("--threads", options->threads, "Numbers of threads")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  verb->add_option("--rows", options->rows,
                   "Elements of a row, each row a block")
      ->delimiter(',')
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb->add_option("--heads", options->heads,
                   "Elements of a row, 128 rows a block")
      ->delimiter(',')
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb->add_option("--repetitions", options->repetitions,
                   "Runs of each kernel; the median counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  verb->add_option("--level", options->level,
                   "x86-64, x86-64-v3 or x86-64-v4 instead of the best");
  verb->add_option("--json", options->json, "Also write the results here");
  verb->callback([options, exit_code] { *exit_code = Run(*options); });
}

}  // namespace zeromini::tools
