#include "tools/report/prometheus.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "zeromini/internal/atomic_file.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

std::string Escaped(const std::string& value) {
  std::string escaped;
  for (const char c : value) {
    if (c == '\n') {
      escaped += "\\n";
      continue;
    }
    if (c == '\\' || c == '"') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

bool IsLabelName(const std::string& name) {
  if (name.empty() ||
      absl::ascii_isdigit(static_cast<unsigned char>(name[0]))) {
    return false;
  }
  return std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return absl::ascii_isalnum(c) || c == '_';
  });
}

absl::Status CheckLabels(const PrometheusLabels& labels) {
  std::vector<std::string> taken = {"kind", "level", "phase", "purpose"};
  for (const auto& [name, unused_value] : labels) {
    if (!IsLabelName(name) || absl::StartsWith(name, "__")) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", name, "' cannot be the name of a label"));
    }
    if (std::find(taken.begin(), taken.end(), name) != taken.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the label '", name, "' is taken"));
    }
    taken.push_back(name);
  }
  return absl::OkStatus();
}

std::string Number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return absl::StrFormat("%.17g", value);
}
std::string Number(int64_t value) { return absl::StrCat(value); }

// Collects lines: Begin() a figure, then Add() each of its values.
class Writer {
 public:
  explicit Writer(const PrometheusLabels& labels) : common_(labels) {}

  void Begin(const char* name, const char* type, const char* help) {
    name_ = absl::StrCat("zeromini_", name);
    absl::StrAppend(&text_, "# HELP ", name_, " ", help, "\n# TYPE ", name_,
                    " ", type, "\n");
  }

  template <typename T>
  void Add(T value, const PrometheusLabels& own = {}) {
    std::string labels;
    for (const PrometheusLabels* list : {&common_, &own}) {
      for (const auto& [name, content] : *list) {
        absl::StrAppend(&labels, labels.empty() ? "" : ",", name, "=\"",
                        Escaped(content), "\"");
      }
    }
    if (!labels.empty()) labels = absl::StrCat("{", labels, "}");
    absl::StrAppend(&text_, name_, labels, " ", Number(value), "\n");
  }

  template <typename T>
  void Single(const char* name, const char* type, const char* help, T value) {
    Begin(name, type, help);
    Add(value);
  }

  std::string Take() { return std::move(text_); }

 private:
  const PrometheusLabels common_;
  std::string name_;
  std::string text_;
};

void AddStep(const StepReport& report, Writer* writer) {
  writer->Single("steps_total", "counter",
                 "Optimizer steps taken, skipped ones left out.", report.step);
  writer->Single("step_skipped", "gauge",
                 "1 if the last step was skipped on every rank.",
                 int64_t{report.skipped});
  writer->Single("grad_norm", "gauge",
                 "Global L2 norm of the last gradient, before clipping.",
                 report.grad_norm);
  writer->Single("clip_scale", "gauge",
                 "What clipping multiplied the last gradient by.",
                 report.clip_scale);
  writer->Single("absent_params", "gauge",
                 "Parameters without a gradient in the last step.",
                 report.absent_params);
  writer->Single("step_seconds", "gauge", "Of the last step, all phases.",
                 report.seconds_total);
  writer->Begin("step_phase_seconds", "gauge",
                "Of the last step: kernels, and waits for exchanges.");
  writer->Add(report.seconds_exposed_gradients,
              {{"phase", "exposed_gradients"}});
  writer->Add(report.seconds_scalars, {{"phase", "scalars"}});
  writer->Add(report.seconds_update, {{"phase", "update"}});
  writer->Add(report.seconds_exposed_weights, {{"phase", "exposed_weights"}});
}

void AddByPurpose(const Traffic& traffic, int64_t TrafficCount::*field,
                  Writer* writer) {
  for (int p = 0; p < kPurposes; ++p) {
    writer->Add(traffic[p].*field,
                {{"purpose", PurposeName(static_cast<Purpose>(p))}});
  }
}

void AddTraffic(const Traffic& traffic, Writer* writer) {
  writer->Begin("exchanges_total", "counter", "Collectives, by purpose.");
  AddByPurpose(traffic, &TrafficCount::calls, writer);
  writer->Begin("sent_bytes_total", "counter",
                "Bytes this rank sent, padding included, as a "
                "bandwidth-optimal exchange counts them.");
  AddByPurpose(traffic, &TrafficCount::bytes, writer);
  writer->Begin("sent_padding_bytes_total", "counter",
                "The part of sent bytes that is padding.");
  AddByPurpose(traffic, &TrafficCount::padding_bytes, writer);
  writer->Begin("level_sent_bytes_total", "counter",
                "Bytes this rank sent to ranks of its host and of others, as "
                "the backend counts them.");
  for (int p = 0; p < kPurposes; ++p) {
    const std::string purpose = PurposeName(static_cast<Purpose>(p));
    writer->Add(traffic[p].inside_host_bytes,
                {{"purpose", purpose}, {"level", "inside_host"}});
    writer->Add(traffic[p].between_hosts_bytes,
                {{"purpose", purpose}, {"level", "between_hosts"}});
  }
}

void AddMemory(const MemoryReport& memory, Writer* writer) {
  writer->Begin("memory_bytes", "gauge", "Bytes this rank holds, by kind.");
  writer->Add(memory.weights, {{"kind", "weights"}});
  writer->Add(memory.gathered, {{"kind", "gathered"}});
  writer->Add(memory.gradients, {{"kind", "gradients"}});
  writer->Add(memory.momentum, {{"kind", "momentum"}});
  writer->Add(memory.second_moment, {{"kind", "second_moment"}});
  writer->Add(memory.master, {{"kind", "master"}});
  writer->Add(memory.statistics, {{"kind", "statistics"}});
  writer->Add(memory.buckets, {{"kind", "buckets"}});
  writer->Single("memory_peak_bytes", "gauge",
                 "Most bytes that this rank held at one time.", memory.peak);
}

}  // namespace

absl::StatusOr<std::string> PrometheusText(const PrometheusFigures& figures,
                                           const PrometheusLabels& labels) {
  ZEROMINI_RETURN_IF_ERROR(CheckLabels(labels));
  Writer writer(labels);
  AddStep(figures.report, &writer);
  AddTraffic(figures.traffic, &writer);
  AddMemory(figures.memory, &writer);
  return writer.Take();
}

absl::Status WritePrometheus(const std::string& path, absl::string_view text) {
  ZEROMINI_ASSIGN_OR_RETURN(auto file, AtomicFile::Create(path));
  ZEROMINI_RETURN_IF_ERROR(
      file->Append(text.data(), static_cast<int64_t>(text.size())));
  return file->Commit();
}

}  // namespace zeromini::tools
