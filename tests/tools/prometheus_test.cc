#include "tools/report/prometheus.h"

#include <unistd.h>

#include <cctype>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/status_matchers.h"

namespace zeromini::tools {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

PrometheusFigures SomeFigures() {
  PrometheusFigures figures;
  figures.report.step = 41;
  figures.report.grad_norm = 0.1;
  figures.report.seconds_total = 0.5;
  figures.report.seconds_update = 0.25;
  for (int p = 0; p < kPurposes; ++p) {
    figures.traffic[p] = {100 + p, 1000 + p, 10 + p, 2000 + p, 3000 + p};
  }
  figures.memory = {1, 9, 2, 3, 4, 5, 6, 7, 80};
  return figures;
}

std::string TextOf(const PrometheusFigures& figures,
                   const PrometheusLabels& labels = {}) {
  auto text = PrometheusText(figures, labels);
  EXPECT_OK(text.status());
  return text.ok() ? *text : "";
}

// The length of `{name="value",...}` at the start of `text`; 0 if none is
// there.
size_t LabelsLength(const std::string& text) {
  size_t at = 1;
  while (at < text.size()) {
    const size_t name = at;
    while (at < text.size() && (std::islower(text[at]) || text[at] == '_'))
      ++at;
    if (at == name || text.compare(at, 2, "=\"") != 0) return 0;
    for (at += 2; at < text.size() && text[at] != '"'; ++at) {
      if (text[at] != '\\') continue;
      if (++at == text.size() || !std::strchr("\\\"n", text[at])) return 0;
    }
    if (++at >= text.size()) return 0;
    if (text[at] == '}') return at + 1;
    if (text[at] != ',') return 0;
    ++at;
  }
  return 0;
}

// Takes a line with a value apart; false if it is not of the format.
bool ParseValueLine(const std::string& line, std::string* series,
                    std::string* value) {
  size_t end = 0;
  while (end < line.size() && (std::isalnum(line[end]) || line[end] == '_')) {
    ++end;
  }
  if (end == 0 || std::isdigit(line[0])) return false;
  if (end < line.size() && line[end] == '{') {
    const size_t labels = LabelsLength(line.substr(end));
    if (labels == 0) return false;
    end += labels;
  }
  if (end >= line.size() || line[end] != ' ') return false;
  *series = line.substr(0, end);
  *value = line.substr(end + 1);
  if (*value == "NaN" || *value == "+Inf" || *value == "-Inf") return true;
  return !value->empty() &&
         value->find_first_not_of("+-.0123456789e") == std::string::npos;
}

bool IsCommentLine(const std::string& line) {
  std::istringstream words(line);
  std::string hash, keyword, name, rest;
  words >> hash >> keyword >> name >> rest;
  if (hash != "#" || rest.empty()) return false;
  if (keyword == "TYPE") return rest == "counter" || rest == "gauge";
  return keyword == "HELP";
}

// As the collector reads it: series, labels as they are written, to value. A
// line that is none fails.
std::map<std::string, std::string> Parse(const std::string& text) {
  std::map<std::string, std::string> parsed;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (IsCommentLine(line)) continue;
    std::string series, value;
    if (!ParseValueLine(line, &series, &value)) {
      ADD_FAILURE() << "no line of the format: " << line;
      continue;
    }
    EXPECT_TRUE(parsed.emplace(series, value).second) << "twice: " << line;
  }
  EXPECT_EQ(text.back(), '\n');
  return parsed;
}

TEST(PrometheusTextTest, EveryFigureIsThereWithItsLabels) {
  auto series = Parse(TextOf(SomeFigures(), {{"rank", "3"}}));
  EXPECT_EQ(series["zeromini_steps_total{rank=\"3\"}"], "41");
  EXPECT_EQ(series["zeromini_step_skipped{rank=\"3\"}"], "0");
  EXPECT_EQ(std::stod(series["zeromini_grad_norm{rank=\"3\"}"]), 0.1);
  EXPECT_EQ(series["zeromini_step_phase_seconds{rank=\"3\",phase=\"update\"}"],
            "0.25");
  EXPECT_EQ(series["zeromini_exchanges_total{rank=\"3\",purpose=\"state\"}"],
            "103");
  EXPECT_EQ(series["zeromini_sent_bytes_total{rank=\"3\",purpose=\"weights\"}"],
            "1001");
  EXPECT_EQ(series["zeromini_sent_padding_bytes_total{rank=\"3\",purpose="
                   "\"gradients\"}"],
            "10");
  EXPECT_EQ(series["zeromini_level_sent_bytes_total{rank=\"3\",purpose="
                   "\"control\",level=\"between_hosts\"}"],
            "3004");
  EXPECT_EQ(series["zeromini_level_sent_bytes_total{rank=\"3\",purpose="
                   "\"scalars\",level=\"inside_host\"}"],
            "2002");
  EXPECT_EQ(series["zeromini_memory_bytes{rank=\"3\",kind=\"master\"}"], "5");
  EXPECT_EQ(series["zeromini_memory_bytes{rank=\"3\",kind=\"gathered\"}"], "9");
  EXPECT_EQ(series["zeromini_memory_peak_bytes{rank=\"3\"}"], "80");
}

TEST(PrometheusTextTest, WithoutLabelsAFigureHasNoBraces) {
  EXPECT_EQ(Parse(TextOf(SomeFigures())).count("zeromini_steps_total"), 1u);
}

// node_exporter refuses a file in which a name has two types or none.
TEST(PrometheusTextTest, EveryNameIsTypedOnceAndCountersEndInTotal) {
  std::map<std::string, std::string> types;
  std::set<std::string> names;
  std::istringstream lines(TextOf(SomeFigures()));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string hash, keyword, name, type;
    words >> hash >> keyword >> name >> type;
    if (hash != "#") {
      const std::string plain = hash.substr(0, hash.find('{'));
      EXPECT_EQ(types.count(plain), 1u) << plain << " comes before its type";
      names.insert(plain);
      continue;
    }
    if (keyword != "TYPE") continue;
    EXPECT_TRUE(types.emplace(name, type).second) << name;
    EXPECT_EQ(type == "counter",
              name.size() > 6 && name.substr(name.size() - 6) == "_total")
        << name;
  }
  std::set<std::string> typed;
  for (const auto& [name, type] : types) typed.insert(name);
  EXPECT_EQ(names, typed);
}

TEST(PrometheusTextTest, ValuesOfLabelsAreEscaped) {
  const auto series = Parse(TextOf(SomeFigures(), {{"run", "a\"b\\c\nd,e=}"}}));
  EXPECT_EQ(series.count("zeromini_steps_total{run=\"a\\\"b\\\\c\\nd,e=}\"}"),
            1u);
}

TEST(PrometheusTextTest, WhatIsNoNumberIsSpelledAsTheFormatWants) {
  PrometheusFigures figures = SomeFigures();
  figures.report.grad_norm = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(Parse(TextOf(figures))["zeromini_grad_norm"], "NaN");
  figures.report.grad_norm = std::numeric_limits<double>::infinity();
  EXPECT_EQ(Parse(TextOf(figures))["zeromini_grad_norm"], "+Inf");
}

TEST(PrometheusTextTest, ALabelThatWouldSpoilTheFileIsNamed) {
  for (const char* name : {"", "9a", "a-b", "__a", "purpose", "kind"}) {
    EXPECT_THAT(PrometheusText(SomeFigures(), {{name, "x"}}),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("'" + std::string(name) + "'")))
        << name;
  }
  EXPECT_THAT(PrometheusText(SomeFigures(), {{"a", "x"}, {"a", "y"}}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("label 'a' is taken")));
}

TEST(WritePrometheusTest, ReplacesTheFileAndLeavesNothingBesideIt) {
  const std::string folder =
      testing::TempDir() + "prometheus_test." + std::to_string(getpid());
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  const std::string path = folder + "/zeromini.prom";
  ASSERT_OK(WritePrometheus(path, "first\n"));
  ASSERT_OK(WritePrometheus(path, "second\n"));
  std::ifstream file(path);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), "second\n");
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  EXPECT_THAT(names, ElementsAre("zeromini.prom"));
  std::filesystem::remove_all(folder);
}

TEST(WritePrometheusTest, AFailureNamesThePath) {
  const std::string path = testing::TempDir() + "no/such/folder/run.prom";
  EXPECT_THAT(WritePrometheus(path, "text\n"),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       AllOf(HasSubstr(path), HasSubstr("No such file"))));
}

}  // namespace
}  // namespace zeromini::tools
