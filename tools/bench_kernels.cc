#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "benchmark/benchmark.h"
#include "nlohmann/json.hpp"
#include "tools/bench.h"
#include "tools/bench_report.h"
#include "tools/bench_streams.h"
#include "tools/files/json_file.h"
#include "tools/files/terminal.h"
#include "zeromini/kernels.h"

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

// Blocks of block_rows rows of row_elements.
struct Shape {
  std::string name;
  int64_t block_rows;
  int64_t row_elements;
};

struct UnmapFloats {
  size_t bytes;
  void operator()(float* data) const { munmap(data, bytes); }
};
using Floats = std::unique_ptr<float[], UnmapFloats>;

// Null if there is no memory. In huge pages where the kernel has them, so that
// the memory is measured and not the page tables.
Floats MapFloats(int64_t elements) {
  const size_t bytes = static_cast<size_t>(elements) * sizeof(float);
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  madvise(data, bytes, MADV_HUGEPAGE);
  float* floats = static_cast<float*>(data);
  // Positive and far from denormal, whatever is done to them.
  for (int64_t i = 0; i < elements; ++i) {
    floats[i] = 0.25f + static_cast<float>(i * 2654435761 % 1024) / 2048;
  }
  return Floats(floats, UnmapFloats{bytes});
}

struct Arrays {
  Floats parameter;
  Floats gradient;
  Floats momentum;
  Floats second_moment;
  std::vector<double> row_sums;
};

// One thread's part: whole blocks.
struct Part {
  int64_t begin;  // In elements.
  int64_t blocks;
  const Shape* shape;

  int64_t elements() const {
    return blocks * shape->block_rows * shape->row_elements;
  }
};

// What runs, and its bytes per parameter.
struct Kernel {
  const char* name;
  int bytes;
  const char* ceiling;
  void (*run)(const KernelTable&, Arrays&, const Part&);
};

StepScalars Scalars() {
  StepScalars scalars;
  scalars.learning_rate = 1e-6;
  scalars.weight_decay = 0.1;
  scalars.step = 100;
  return scalars;
}

AdamMiniArgs MiniArgs(Arrays& arrays, const Part& part) {
  const Shape& shape = *part.shape;
  const int64_t block = shape.block_rows * shape.row_elements;
  return {arrays.parameter.get() + part.begin,
          arrays.gradient.get() + part.begin,
          arrays.momentum.get() + part.begin,
          arrays.second_moment.get() + part.begin / block,
          arrays.row_sums.data() + part.begin / shape.row_elements,
          part.blocks,
          shape.block_rows,
          shape.row_elements,
          block,
          Scalars()};
}

void RunRowSums(const KernelTable& kernels, Arrays& arrays, const Part& part) {
  const int64_t n = part.shape->row_elements;
  kernels.row_sums({arrays.gradient.get() + part.begin, part.elements() / n, n,
                    arrays.row_sums.data() + part.begin / n},
                   Stream{});
}

void RunAdamW(const KernelTable& kernels, Arrays& arrays, const Part& part) {
  kernels.adamw(
      {arrays.parameter.get() + part.begin, arrays.gradient.get() + part.begin,
       arrays.momentum.get() + part.begin,
       arrays.second_moment.get() + part.begin, part.elements(), Scalars()},
      Stream{});
}

void RunAdamWStep(const KernelTable& kernels, Arrays& arrays,
                  const Part& part) {
  RunRowSums(kernels, arrays, part);
  RunAdamW(kernels, arrays, part);
}

void RunAdamMiniFused(const KernelTable& kernels, Arrays& arrays,
                      const Part& part) {
  kernels.adam_mini_fused(MiniArgs(arrays, part), Stream{});
}

// The first row's sum stands for its block's: adding a block's few row sums is
// the runtime's, and no work beside the arrays.
void RunAdamMiniStep(const KernelTable& kernels, Arrays& arrays,
                     const Part& part) {
  RunRowSums(kernels, arrays, part);
  kernels.adam_mini_step(MiniArgs(arrays, part), Stream{});
}

void RunRmw7(const KernelTable&, Arrays& arrays, const Part& part) {
  Rmw7(arrays.gradient.get() + part.begin, arrays.parameter.get() + part.begin,
       arrays.momentum.get() + part.begin,
       arrays.second_moment.get() + part.begin, part.elements());
}

void RunRmw5(const KernelTable&, Arrays& arrays, const Part& part) {
  Rmw5(arrays.gradient.get() + part.begin, arrays.parameter.get() + part.begin,
       arrays.momentum.get() + part.begin, part.elements());
}

constexpr Kernel kKernels[] = {
    {"rmw_7", 28, "rmw_7", RunRmw7},
    {"adamw_fused", 28, "rmw_7", RunAdamW},
    {"adam_mini_fused", 20, "rmw_5", RunAdamMiniFused},
    {"rmw_5", 20, "rmw_5", RunRmw5},
    {"adamw_step", 32, "rmw_7", RunAdamWStep},
    {"adam_mini_step", 24, "rmw_5", RunAdamMiniStep},
};

struct KernelPair {
  const char* name;
  const char* over;
};
constexpr KernelPair kRatios[] = {{"adam_mini_fused", "adamw_fused"},
                                  {"adam_mini_step", "adamw_step"},
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
      (*rates_)[run.run_name.function_name].push_back(
          run.counters.at("items_per_second").value);
    }
  }

 private:
  Rates* rates_;
};

Part PartOf(const Shape& shape, int64_t params, int thread, int threads) {
  const int64_t block = shape.block_rows * shape.row_elements;
  const int64_t blocks = params / block;
  const int64_t begin = blocks * thread / threads;
  const int64_t end = blocks * (thread + 1) / threads;
  return {begin * block, end - begin, &shape};
}

// Kernel after kernel, then all of them again: what disturbs the machine for a
// while disturbs all kernels, and a ratio is of neighbours in time.
Rates Measure(const KernelTable& kernels, Arrays& arrays, const Shape& shape,
              int threads, const Options& options) {
  benchmark::ClearRegisteredBenchmarks();
  for (const Kernel& kernel : kKernels) {
    const auto run = [&, kernel](benchmark::State& state) {
      const Part part =
          PartOf(shape, options.params, state.thread_index(), state.threads());
      for (auto _ : state) kernel.run(kernels, arrays, part);
      state.SetItemsProcessed(part.elements());
    };
    benchmark::RegisterBenchmark(kernel.name, run)
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
  return rates;
}

void PrintRates(const Shape& shape, int threads, const Rates& rates,
                nlohmann::json& json) {
  for (const Kernel& kernel : kKernels) {
    const double params_per_second = Median(rates.at(kernel.name));
    const double bytes_per_second = params_per_second * kernel.bytes;
    const double ceiling = Median(rates.at(kernel.ceiling)) *
                           (kernel.ceiling == std::string("rmw_7") ? 28 : 20);
    const double fraction = bytes_per_second / ceiling;
    std::cout << absl::StrFormat(
        "%-10s %7d  %-16s %9.3f %8.2f %9.2f\n", shape.name, threads,
        kernel.name, params_per_second / 1e9, bytes_per_second / 1e9, fraction);
    json.push_back({{"kernel", kernel.name},
                    {"shape", shape.name},
                    {"dtype", "float32"},
                    {"threads", threads},
                    {"device", absl::StrCat("cpu, ", CpuLevel())},
                    {"params_per_second", params_per_second},
                    {"bytes_per_second", bytes_per_second},
                    {"bandwidth_fraction", fraction}});
  }
}

std::string RatioLines(const Shape& shape, int threads, const Rates& rates) {
  std::string lines;
  for (const KernelPair& pair : kRatios) {
    const Ratio ratio = RatioOfPairs(rates.at(pair.name), rates.at(pair.over));
    absl::StrAppendFormat(&lines, "%-10s %7d  %-29s %6.2f %6.2f %6.2f\n",
                          shape.name, threads,
                          absl::StrCat(pair.name, " / ", pair.over),
                          ratio.median, ratio.low, ratio.high);
  }
  return lines;
}

std::vector<Shape> Shapes(const Options& options) {
  std::vector<Shape> shapes;
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
  for (const Shape& shape : Shapes(options)) {
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

void Progress(const Shape& shape, int threads) {
  if (!isatty(STDERR_FILENO)) return;
  std::cerr << absl::StrFormat("\rmeasuring %s, %d threads   ", shape.name,
                               threads);
}

bool MapArrays(const Options& options, Arrays* arrays) {
  arrays->parameter = MapFloats(options.params);
  arrays->gradient = MapFloats(options.params);
  arrays->momentum = MapFloats(options.params);
  arrays->second_moment = MapFloats(options.params);
  arrays->row_sums.resize(static_cast<size_t>(options.params) / 16 + 1);
  return arrays->parameter && arrays->gradient && arrays->momentum &&
         arrays->second_moment;
}

void PrintHeader(const Options& options) {
  std::cout << absl::StrFormat(
      "CPU, %s; %d Mi parameters, fp32: %.2f GiB in four arrays, huge pages "
      "advised; medians of %d interleaved runs\n",
      options.level.empty() ? CpuLevel() : options.level, options.params >> 20,
      static_cast<double>(options.params) * 16 / (1 << 30),
      options.repetitions);
  std::cout << absl::StrFormat("\n%-10s %7s  %-16s %9s %8s %9s\n", "block",
                               "threads", "kernel", "Gparam/s", "GB/s",
                               "of rmw");
}

constexpr char kProgram[] = "zeromini bench kernels";

int Run(const Options& options) {
  if (const std::string complaint = Complaint(options); !complaint.empty()) {
    std::cerr << kProgram << ": " << complaint << "\n";
    return 2;
  }
  const absl::Status writable = CheckWritable(options.json);
  if (!writable.ok()) return ReportStatus(kProgram, writable);
  Arrays arrays;
  if (!MapArrays(options, &arrays)) {
    std::cerr << kProgram << ": no memory for --params " << options.params
              << "\n";
    return 1;
  }
  const KernelTable& kernels = options.level.empty()
                                   ? CpuKernels()
                                   : *CpuKernelsAt(options.level.c_str());
  PrintHeader(options);
  nlohmann::json json = nlohmann::json::array();
  std::string ratios;
  for (const Shape& shape : Shapes(options)) {
    for (int threads : options.threads) {
      Progress(shape, threads);
      const Rates rates = Measure(kernels, arrays, shape, threads, options);
      if (isatty(STDERR_FILENO))
        std::cerr << "\r" << std::string(40, ' ') << "\r";
      PrintRates(shape, threads, rates, json);
      ratios += RatioLines(shape, threads, rates);
    }
  }
  std::cout << absl::StrFormat("\n%-10s %7s  %-29s %6s %6s %6s\n", "block",
                               "threads", "parameters/s, of paired runs",
                               "median", "low", "high")
            << ratios;
  return ReportStatus(kProgram, WriteJson(options.json, json));
}

}  // namespace

void AddBenchKernels(CLI::App& bench, int* exit_code) {
  CLI::App* verb = bench.add_subcommand(
      "kernels",
      "Update kernels on this CPU: Adam-mini, AdamW, and plain in-place\n"
      "streams of as many bytes (rmw_7: 28 a parameter, rmw_5: 20)");
  auto options = std::make_shared<Options>();
  verb->add_option("--params", options->params,
                   "Parameters; 16 bytes of memory each")
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
