#include "tools/sharing/form_choice.h"

#include <cmath>
#include <limits>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace zeromini::tools {
namespace {

using Json = nlohmann::json;

// Parts of the kind are alike but for their sizes.
const MomentPart& FirstOf(const SharingRecord& record,
                          const std::string& kind) {
  for (const PartSeries& series : record.parts) {
    if (series.part.kind == kind) return series.part;
  }
  return record.parts.front().part;
}

// One number for a matrix saves next to nothing over one a row, and what it
// stands for rows stand for, too.
bool MayBeWhole(const MomentPart& part) {
  return part.rows == 1 || part.columns == 1 || part.official_form == "whole";
}

// None: an element each.
std::optional<SharedForm> FormOf(const MomentPart& part, const MomentSnr& snr,
                                 double threshold) {
  const auto stands = [&](SharedForm form) { return snr[form] >= threshold; };
  if (MayBeWhole(part) && stands(SharedForm::kWhole)) return SharedForm::kWhole;
  if (stands(SharedForm::kHead)) return SharedForm::kHead;
  const SharedForm axis = snr[SharedForm::kColumn] > snr[SharedForm::kRow]
                              ? SharedForm::kColumn
                              : SharedForm::kRow;
  if (stands(axis)) return axis;
  if (stands(SharedForm::kFactored)) return SharedForm::kFactored;
  return std::nullopt;
}

FormChoice ChoiceOf(const SharingRecord& record, const KindSnr& mean,
                    double threshold, size_t half) {
  const MomentPart& first = FirstOf(record, mean.kind);
  const auto form = FormOf(first, mean.mean, threshold);
  FormChoice choice;
  choice.kind = mean.kind;
  choice.parts = mean.parts;
  choice.elements = mean.elements;
  choice.form = form ? SharedFormName(*form) : "element";
  choice.snr =
      form ? mean.mean[*form] : std::numeric_limits<double>::quiet_NaN();
  choice.official_form = first.official_form;
  for (const PartSeries& series : record.parts) {
    if (series.part.kind != mean.kind) continue;
    choice.scalars +=
        form ? ScalarsOf(series.part, *form) : series.part.elements();
    choice.official += series.part.official_scalars;
    const MomentSnr own = PartMean(series, half, record.steps.size());
    if (form && own[*form] < threshold) ++choice.below;
  }
  return choice;
}

std::string WhyTooShort(const SharingRecord& record, size_t half) {
  const size_t count = record.steps.size() - half;
  if (count < 4) {
    return absl::StrCat(count, count == 1 ? " measurement" : " measurements",
                        " in the second half of the run, and it takes 4: "
                        "measure more often or train longer");
  }
  const double memory = 3 / (1 - record.beta2);
  // A beta2 of 0.95 is a little less than that.
  if (static_cast<double>(record.steps[half]) >= memory * (1 - 1e-9)) return "";
  return absl::StrFormat(
      "the second half begins at step %d, and with beta2 %g second moments "
      "still know their start before step %.0f: train %.0f steps or more",
      record.steps[half], record.beta2, std::ceil(memory * (1 - 1e-9)),
      2 * std::ceil(memory * (1 - 1e-9)));
}

std::string PerParameter(int64_t bytes, int64_t elements) {
  return absl::StrFormat("%.3f", static_cast<double>(bytes) / double(elements));
}

std::vector<std::string> RowOf(const FormChoice& choice) {
  return {choice.kind,
          absl::StrCat(choice.form, choice.settled ? "" : " ?"),
          SnrText(choice.snr),
          absl::StrCat(choice.elements),
          absl::StrCat(choice.bytes()),
          PerParameter(choice.bytes(), choice.elements),
          absl::StrCat(choice.adamw_bytes()),
          absl::StrCat(choice.adam_mini_bytes()),
          choice.official_form};
}

FormChoice TotalOf(const std::vector<FormChoice>& kinds) {
  FormChoice total;
  total.kind = "total";
  total.snr = std::numeric_limits<double>::quiet_NaN();
  for (const FormChoice& choice : kinds) {
    total.parts += choice.parts;
    total.elements += choice.elements;
    total.scalars += choice.scalars;
    total.official += choice.official;
  }
  return total;
}

Json BytesJson(const FormChoice& choice) {
  return {{"parameters", choice.elements},
          {"second_moments", choice.scalars},
          {"state_bytes", choice.bytes()},
          {"adamw_state_bytes", choice.adamw_bytes()},
          {"adam_mini_state_bytes", choice.adam_mini_bytes()}};
}

}  // namespace

Suggestion Suggest(const SharingRecord& record, double threshold) {
  const size_t half = record.SecondHalf();
  const size_t end = record.steps.size();
  const size_t middle = half + (end - half) / 2;
  Suggestion suggestion;
  suggestion.threshold = threshold;
  suggestion.from_step = record.steps[half];
  suggestion.too_short = WhyTooShort(record, half);
  const auto all = KindMeans(record, half, end);
  const auto early = KindMeans(record, half, middle);
  const auto late = KindMeans(record, middle, end);
  for (size_t k = 0; k < all.size(); ++k) {
    FormChoice choice = ChoiceOf(record, all[k], threshold, half);
    // Of one measurement there are no two quarters that could agree.
    choice.settled =
        middle > half &&
        ChoiceOf(record, early[k], threshold, half).form == choice.form &&
        ChoiceOf(record, late[k], threshold, half).form == choice.form;
    suggestion.kinds.push_back(std::move(choice));
  }
  return suggestion;
}

Table SuggestionTable(const Suggestion& suggestion) {
  Table table;
  table.columns = {{"class", Align::kLeft},
                   {"form", Align::kLeft},
                   {"SNR"},
                   {"parameters"},
                   {"state bytes"},
                   {"per parameter"},
                   {"AdamW"},
                   {"Adam-mini"},
                   {"official", Align::kLeft}};
  for (const FormChoice& choice : suggestion.kinds) {
    table.rows.push_back(RowOf(choice));
  }
  table.rows.push_back(RowOf(TotalOf(suggestion.kinds)));
  return table;
}

std::string SuggestionNote(const Suggestion& suggestion) {
  const FormChoice total = TotalOf(suggestion.kinds);
  std::string note = absl::StrFormat(
      "Of each class the coarsest form whose SNR, averaged from step %d on, is "
      "at least %g; momentum included, fp32. In all %s bytes a parameter; "
      "AdamW 8, Adam-mini %s.",
      suggestion.from_step, suggestion.threshold,
      PerParameter(total.bytes(), total.elements),
      PerParameter(total.adam_mini_bytes(), total.elements));
  std::vector<std::string> open, below;
  for (const FormChoice& choice : suggestion.kinds) {
    if (!choice.settled) open.push_back(choice.kind);
    if (choice.below == 0) continue;
    below.push_back(absl::StrFormat("%s (%d of %d)", choice.kind, choice.below,
                                    choice.parts));
  }
  if (!below.empty()) {
    absl::StrAppend(&note, "\nTensors that are below it by themselves: ",
                    absl::StrJoin(below, ", "), ".");
  }
  if (!open.empty()) {
    absl::StrAppend(&note,
                    "\nNot settled (?), the two quarters of the second half "
                    "do not both give it: ",
                    absl::StrJoin(open, ", "), ".");
  }
  if (!suggestion.too_short.empty()) {
    absl::StrAppend(
        &note, "\nThe run was too short to tell: ", suggestion.too_short, ".");
  }
  return note;
}

Json ToJson(const Suggestion& suggestion) {
  Json kinds = Json::array();
  for (const FormChoice& choice : suggestion.kinds) {
    Json json = BytesJson(choice);
    json["class"] = choice.kind;
    json["tensors"] = choice.parts;
    json["form"] = choice.form;
    json["snr"] = SnrJson(choice.snr);
    json["official_form"] = choice.official_form;
    json["tensors_below"] = choice.below;
    json["settled"] = choice.settled;
    kinds.push_back(std::move(json));
  }
  return {{"threshold", suggestion.threshold},
          {"from_step", suggestion.from_step},
          {"too_short",
           suggestion.too_short.empty() ? Json() : Json(suggestion.too_short)},
          {"classes", kinds},
          {"total", BytesJson(TotalOf(suggestion.kinds))}};
}

}  // namespace zeromini::tools
