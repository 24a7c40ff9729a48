#include "tools/sharing/sharing_record.h"

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace zeromini::tools {
namespace {

using Json = nlohmann::json;

class Mean {
 public:
  void Add(double value) {
    if (std::isnan(value)) return;
    sum_ += value;
    ++count_;
  }
  double value() const {
    return count_ == 0 ? std::numeric_limits<double>::quiet_NaN()
                       : sum_ / static_cast<double>(count_);
  }

 private:
  double sum_ = 0;
  int64_t count_ = 0;
};

// Of the forms and the error, each for itself.
class SnrMean {
 public:
  void Add(const MomentSnr& snr) {
    for (int f = 0; f < kSharedForms; ++f) forms_[f].Add(snr.of[f]);
    error_.Add(snr.factored_error);
  }
  MomentSnr value() const {
    MomentSnr mean;
    for (int f = 0; f < kSharedForms; ++f) mean.of[f] = forms_[f].value();
    mean.factored_error = error_.value();
    return mean;
  }

 private:
  Mean forms_[kSharedForms], error_;
};

KindSnr MeanOf(const std::string& kind, const SharingRecord& record,
               size_t first, size_t last) {
  KindSnr found;
  found.kind = kind;
  SnrMean mean;
  for (const PartSeries& series : record.parts) {
    if (series.part.kind != kind) continue;
    ++found.parts;
    found.elements += series.part.elements();
    for (size_t s = first; s < last; ++s) mean.Add(series.snr[s]);
  }
  found.mean = mean.value();
  return found;
}

Json ToJson(const PartSeries& series) {
  const MomentPart& part = series.part;
  Json forms = Json::object();
  for (int f = 0; f < kSharedForms; ++f) {
    const auto form = static_cast<SharedForm>(f);
    if (!HasForm(ViewOf(part, nullptr), form)) continue;
    Json values = Json::array();
    for (const MomentSnr& snr : series.snr)
      values.push_back(SnrJson(snr[form]));
    forms[SharedFormName(form)] = values;
  }
  Json json = {{"name", part.name},
               {"part", part.part.empty() ? Json() : Json(part.part)},
               {"role", part.role},
               {"class", part.kind},
               {"shape", part.shape},
               {"rows", part.rows},
               {"columns", part.columns},
               {"rows_per_head", part.rows_per_head},
               {"official_form", part.official_form},
               {"official_scalars", part.official_scalars},
               {"snr", forms}};
  if (!forms.contains(SharedFormName(SharedForm::kFactored))) return json;
  json["factored_error"] = Json::array();
  for (const MomentSnr& snr : series.snr) {
    json["factored_error"].push_back(SnrJson(snr.factored_error));
  }
  return json;
}

}  // namespace

size_t SharingRecord::SecondHalf() const {
  size_t first = 0;
  while (first < steps.size() && 2 * steps[first] < steps.back()) ++first;
  return first;
}

std::vector<KindSnr> KindMeans(const SharingRecord& record, size_t first,
                               size_t last) {
  std::vector<KindSnr> means;
  for (const std::string& kind : MomentKinds()) {
    KindSnr found = MeanOf(kind, record, first, last);
    if (found.parts > 0) means.push_back(std::move(found));
  }
  return means;
}

MomentSnr PartMean(const PartSeries& series, size_t first, size_t last) {
  SnrMean mean;
  for (size_t s = first; s < last; ++s) mean.Add(series.snr[s]);
  return mean.value();
}

Table SharingTable(const SharingRecord& record) {
  Table table;
  table.columns = {{"class", Align::kLeft}, {"tensors"}, {"parameters"}};
  for (int f = 0; f < kSharedForms; ++f) {
    table.columns.push_back({SharedFormName(static_cast<SharedForm>(f))});
  }
  table.columns.push_back({"factored error"});
  for (const KindSnr& kind :
       KindMeans(record, record.SecondHalf(), record.steps.size())) {
    std::vector<std::string> row = {kind.kind, absl::StrCat(kind.parts),
                                    absl::StrCat(kind.elements)};
    for (double snr : kind.mean.of) row.push_back(SnrText(snr));
    row.push_back(SnrText(kind.mean.factored_error));
    table.rows.push_back(std::move(row));
  }
  return table;
}

std::string SnrText(double snr) {
  if (std::isnan(snr)) return "-";
  if (std::isinf(snr)) return "inf";
  if (snr < 0.01 && snr > 0) return absl::StrFormat("%.1e", snr);
  if (snr < 10) return absl::StrFormat("%.2f", snr);
  if (snr < 1000) return absl::StrFormat("%.0f", snr);
  return absl::StrFormat("%.1e", snr);
}

Json SnrJson(double snr) {
  if (std::isinf(snr)) return "inf";
  return std::isnan(snr) ? Json() : Json(snr);
}

Json ToJson(const SharingRecord& record) {
  Json json = {{"steps", record.steps}, {"tensors", Json::array()}};
  for (const PartSeries& series : record.parts) {
    json["tensors"].push_back(ToJson(series));
  }
  return json;
}

}  // namespace zeromini::tools
