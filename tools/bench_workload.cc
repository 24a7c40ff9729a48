#include "tools/bench_workload.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "tools/scaled_preset.h"
#include "tools/stopwatch.h"

namespace zeromini::tools {
namespace {

constexpr int64_t kHeadRows = 64;
constexpr int64_t kWidth = 1024;

// Sleeps end about this much late: shorter ones are put together.
constexpr double kShortestSleep = 2e-4;

void Append(ParamSpec spec, Workload* workload) {
  workload->params.push_back(std::move(spec));
  const int param = static_cast<int>(workload->params.size()) - 1;
  const int64_t elements = workload->ElementsOf(param);
  workload->computed_elements += elements;
  if (workload->params[param].tied_to.empty()) workload->elements += elements;
}

void Add(int layer, absl::string_view name, std::vector<int64_t> shape,
         Workload* workload) {
  ParamSpec spec;
  spec.name = absl::StrCat("layers.", layer, ".", name, ".weight");
  spec.shape = std::move(shape);
  spec.layer = layer;
  Append(std::move(spec), workload);
}

int64_t AttentionRows(int64_t elements) {
  const int64_t rows = std::max<int64_t>(1, elements / 12 / kWidth);
  return rows < kHeadRows ? rows : rows - rows % kHeadRows;
}

// A third is attention, a third is `down`, and `up` takes what is left. Rows
// are few in a small layer: widths stay, because kernels notice them. No rule
// is given: by name a layer has what the optimizer's second moments are.
void AddLayer(int layer, int64_t elements, Workload* workload) {
  constexpr int64_t kUpWidth = 2048;
  constexpr int64_t kDownWidth = 4096;
  const int64_t end = workload->elements + elements;
  const int64_t rows = AttentionRows(elements);
  for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
    Add(layer, absl::StrCat("self_attn.", name), {rows, kWidth}, workload);
  }
  Add(layer, "input_layernorm", {kWidth}, workload);
  Add(layer, "mlp.down_proj",
      {std::max<int64_t>(1, elements / 3 / kDownWidth), kDownWidth}, workload);
  Add(layer, "mlp.up_proj", {(end - workload->elements) / kUpWidth, kUpWidth},
      workload);
}

}  // namespace

int64_t Workload::ElementsOf(int param) const {
  int64_t elements_of = 1;
  for (int64_t dimension : params[param].shape) elements_of *= dimension;
  return elements_of;
}

ComputePass Workload::Forward() const {
  return {forward_seconds, computed_elements, spin};
}

ComputePass Workload::Backward() const {
  return {backward_seconds, computed_elements, spin};
}

ComputePass::ComputePass(double seconds, int64_t elements, bool spin)
    : seconds_per_element_(seconds / static_cast<double>(elements)),
      spin_(spin) {}

void ComputePass::Compute(int64_t elements) {
  owed_seconds_ += seconds_per_element_ * static_cast<double>(elements);
  Spend(spin_ ? 0 : kShortestSleep);
}

// What a sleep is late by is taken off the next.
void ComputePass::Spend(double least_seconds) {
  if (owed_seconds_ <= least_seconds) return;
  const Stopwatch watch;
  if (!spin_) {
    std::this_thread::sleep_for(std::chrono::duration<double>(owed_seconds_));
  }
  while (watch.seconds() < owed_seconds_) {
  }
  owed_seconds_ -= watch.seconds();
}

Workload MakeWorkload(int64_t elements, int layers) {
  Workload workload;
  workload.layers = layers;
  const int64_t rows = AttentionRows(elements / layers);
  workload.shape.head_dim = rows < kHeadRows ? 1 : kHeadRows;
  workload.shape.heads = rows / workload.shape.head_dim;
  for (int layer = 0; layer < layers; ++layer) {
    AddLayer(layer, elements / layers, &workload);
  }
  return workload;
}

Workload WorkloadOf(ModelPreset preset) {
  Workload workload;
  workload.model = preset.name;
  workload.shape = preset.shape;
  workload.layers = static_cast<int>(LayersOf(preset));
  for (ParamSpec& spec : preset.params) Append(std::move(spec), &workload);
  return workload;
}

}  // namespace zeromini::tools
