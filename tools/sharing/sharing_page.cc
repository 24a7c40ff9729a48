#include "tools/sharing/sharing_page.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "tools/report/line_chart.h"
#include "tools/report/page.h"

namespace zeromini::tools {
namespace {

constexpr int kThresholdColour = 7;

// Tints of both colour schemes' cards, light enough for text of either.
constexpr char kStyle[] = R"(.heat td { text-align: center; }
.heat th { text-align: center; }
.heat .left { text-align: left; white-space: normal; }
.b4 { background: rgb(220 104 3 / .58); } .b3 { background: rgb(220 104 3 / .42); }
.b2 { background: rgb(220 104 3 / .28); } .b1 { background: rgb(220 104 3 / .13); }
.a1 { background: rgb(37 110 235 / .13); } .a2 { background: rgb(37 110 235 / .26); }
.a3 { background: rgb(37 110 235 / .40); } .a4 { background: rgb(37 110 235 / .54); }
.legend .heat { color: var(--text); padding: 0 .5em; border-radius: 3px; }
.curves { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)); }
.curves h3 { font-size: .95rem; font-weight: 600; margin: 0; }
.lines { white-space: pre-line; }
@media (max-width: 40rem) { body { padding: 1rem .5rem; }
  section { padding: .8rem .6rem; }
  .heat { font-size: 12px; } .heat th, .heat td { padding: .2rem .25rem; } }
)";

// By the distance of log10 from 0, a quarter a step.
std::string HeatClass(double snr) {
  if (std::isnan(snr)) return "";
  const double distance = std::log10(std::max(snr, 1e-30));
  const double steps = 1 + std::floor(4 * std::min(std::abs(distance), 0.75));
  return absl::StrCat(snr < 1 ? "b" : "a", static_cast<int>(steps));
}

// Long names of tensors may break between their words.
std::string NameCell(const MomentPart& part) {
  std::string name = EscapeHtml(part.name);
  name = absl::StrReplaceAll(name, {{".", ".<wbr/>"}, {"_", "_<wbr/>"}});
  if (!part.part.empty()) absl::StrAppend(&name, " [", part.part, "]");
  return absl::StrCat("<td class=\"left\">", name, "</td>");
}

std::string HeatRow(const PartSeries& series) {
  std::string html = absl::StrCat("<tr>", NameCell(series.part));
  const MomentSnr& last = series.snr.back();
  for (double snr : last.of) {
    absl::StrAppend(&html, "<td class=\"", HeatClass(snr), "\">", SnrText(snr),
                    "</td>");
  }
  return html + "</tr>\n";
}

std::string HeatLegend() {
  std::string html = "<div class=\"legend\"><span>SNR</span>";
  const std::pair<const char*, const char*> steps[] = {
      {"b4", "up to 0.18"}, {"b3", "0.32"}, {"b2", "0.56"}, {"b1", "1"},
      {"a1", "1.8"},        {"a2", "3.2"},  {"a3", "5.6"},  {"a4", "more"}};
  for (const auto& [name, text] : steps) {
    absl::StrAppend(&html, "<span class=\"heat ", name, "\">", text, "</span>");
  }
  return html + "</div>\n";
}

std::string HeatSection(const SharingRecord& record) {
  std::string html = absl::StrFormat(
      "<section><h2>SNR of each tensor after step %d</h2>\n"
      "<table class=\"heat\"><thead><tr><th class=\"left\">tensor</th>",
      record.steps.back());
  for (int f = 0; f < kSharedForms; ++f) {
    absl::StrAppend(&html, "<th>", SharedFormName(static_cast<SharedForm>(f)),
                    "</th>");
  }
  html += "</tr></thead><tbody>\n";
  for (const PartSeries& series : record.parts) html += HeatRow(series);
  return absl::StrCat(
      html, "</tbody></table>\n", HeatLegend(),
      "<p>SNR: mean of (mean v)² / variance of v, over rows (outputs), columns "
      "(inputs), heads, or all of a tensor. Above 1 an average stands for its "
      "members. Factored: the same with the squared error of row mean × column "
      "mean / mean in place of the variance, along rows or along columns, "
      "whichever is more.</p></section>\n");
}

// Infinite ones are in no chart.
std::vector<Curve> CurvesOf(const SharingRecord& record, size_t kind,
                            double threshold) {
  std::vector<Curve> curves;
  for (int f = 0; f < kSharedForms; ++f) {
    curves.push_back(
        {SharedFormName(static_cast<SharedForm>(f)), f, false, {}});
  }
  for (size_t s = 0; s < record.steps.size(); ++s) {
    const MomentSnr mean = KindMeans(record, s, s + 1)[kind].mean;
    for (int f = 0; f < kSharedForms; ++f) {
      if (!std::isfinite(mean.of[f]) || mean.of[f] <= 0) continue;
      curves[f].points.emplace_back(record.steps[s], std::log10(mean.of[f]));
    }
  }
  const double level = std::log10(threshold);
  curves.push_back(
      {"threshold",
       kThresholdColour,
       false,
       {{record.steps.front(), level}, {record.steps.back(), level}}});
  return curves;
}

std::string CurveSection(const SharingRecord& record,
                         const Suggestion& suggestion) {
  std::string html =
      "<section><h2>Over the run, means of each class</h2>\n"
      "<div class=\"curves\">\n";
  for (size_t k = 0; k < suggestion.kinds.size(); ++k) {
    const std::string& kind = suggestion.kinds[k].kind;
    ChartText text = {absl::StrCat("SNR of ", kind, " tensors over the steps"),
                      "step", "log10 SNR"};
    text.id = absl::StrCat("plot", k);
    text.width = 400;
    text.height = 240;
    absl::StrAppend(&html, "<div><h3>", EscapeHtml(kind), "</h3>",
                    LineChart(text, CurvesOf(record, k, suggestion.threshold)),
                    "</div>\n");
  }
  html += "</div>\n<div class=\"legend\">";
  for (int f = 0; f < kSharedForms; ++f) {
    html += Key(f, SharedFormName(static_cast<SharedForm>(f)));
  }
  return html + Key(kThresholdColour, "threshold") + "</div></section>\n";
}

}  // namespace

std::string SharingPage(const SharingRecord& record,
                        const Suggestion& suggestion,
                        const std::string& about) {
  return absl::StrCat(
      PageHead("zeromini: what of the second moment can be shared", kStyle),
      "<p>", EscapeHtml(about), "</p>\n", HeatSection(record),
      CurveSection(record, suggestion),
      TableSection("What the run supports", SuggestionTable(suggestion), "",
                   false),
      "<p class=\"lines\">", EscapeHtml(SuggestionNote(suggestion)),
      "</p>\n</body>\n</html>\n");
}

}  // namespace zeromini::tools
