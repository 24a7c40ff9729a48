#include "tools/bench_workload.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tools/stopwatch.h"

namespace zeromini::tools {
namespace {

constexpr int64_t kHeadRows = 64;

void Add(int layer, const char* name, std::vector<int64_t> shape,
         BlockRule rule, Workload* workload) {
  ParamSpec spec;
  spec.name = absl::StrCat("layers.", layer, ".", name, ".weight");
  spec.shape = std::move(shape);
  spec.rule = std::move(rule);
  spec.layer = layer;
  workload->params.push_back(std::move(spec));
  workload->offsets.push_back(workload->elements);
  workload->elements +=
      workload->ElementsOf(static_cast<int>(workload->params.size()) - 1);
}

// A third is attention, a third is `down`, and `up` takes what is left. Rows
// are few in a small layer: widths stay, because kernels notice them.
void AddLayer(int layer, int64_t elements, Workload* workload) {
  constexpr int64_t kWidth = 1024;
  constexpr int64_t kUpWidth = 2048;
  constexpr int64_t kDownWidth = 4096;
  const int64_t end = workload->elements + elements;
  int64_t rows = std::max<int64_t>(1, elements / 12 / kWidth);
  BlockRule heads = BlockRule::Rows();
  if (rows >= kHeadRows) {
    rows -= rows % kHeadRows;
    heads = BlockRule::Heads(kHeadRows);
  }
  Add(layer, "q", {rows, kWidth}, heads, workload);
  Add(layer, "k", {rows, kWidth}, heads, workload);
  Add(layer, "v", {rows, kWidth}, BlockRule::Rows(), workload);
  Add(layer, "o", {rows, kWidth}, BlockRule::Rows(), workload);
  Add(layer, "norm", {kWidth}, BlockRule::Whole(), workload);
  Add(layer, "down",
      {std::max<int64_t>(1, elements / 3 / kDownWidth), kDownWidth},
      BlockRule::Rows(), workload);
  Add(layer, "up", {(end - workload->elements) / kUpWidth, kUpWidth},
      BlockRule::Rows(), workload);
}

}  // namespace

int64_t Workload::ElementsOf(int param) const {
  int64_t elements_of = 1;
  for (int64_t dimension : params[param].shape) elements_of *= dimension;
  return elements_of;
}

void Workload::Forward(int64_t share_elements) const {
  Compute(forward_seconds * static_cast<double>(share_elements) /
          static_cast<double>(elements));
}

void Workload::Backward(int64_t share_elements) const {
  Compute(backward_seconds * static_cast<double>(share_elements) /
          static_cast<double>(elements));
}

void Workload::Compute(double seconds) const {
  if (!spin) {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    return;
  }
  const Stopwatch watch;
  while (watch.seconds() < seconds) {
  }
}

Workload MakeWorkload(int64_t elements, int layers) {
  Workload workload;
  for (int layer = 0; layer < layers; ++layer) {
    AddLayer(layer, elements / layers, &workload);
  }
  return workload;
}

}  // namespace zeromini::tools
