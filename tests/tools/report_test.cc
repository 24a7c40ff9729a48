#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "nlohmann/json.hpp"
#include "support/status_matchers.h"
#include "tools/report/html_report.h"
#include "tools/report/line_chart.h"
#include "tools/report/run_record.h"
#include "tools/report/run_tables.h"
#include "tools/train/run_files.h"

namespace zeromini::tools {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

RunRecord MakeRun(const std::string& name) {
  RunRecord run;
  run.name = name;
  run.optimizer = "adamw";
  run.finished = true;
  run.ranks = 2;
  run.parameters = 1000;
  run.state_bytes = 4000;
  run.training_loss = 1.5;
  run.validation_loss = 1.75;
  for (int i = 1; i <= 300; ++i) run.training.emplace_back(i, 5.0 / i);
  run.validation = {{0, 5.5}, {300, 1.75}};
  run.bytes = {{"gradients", 2048}, {"weights", 2048}};
  run.seconds = {{"forward", 0.01}, {"update", 0.001}};
  return run;
}

// Every element is closed, in order; the few void ones are written "/>".
std::string FirstUnbalancedTag(const std::string& html) {
  std::vector<std::string> open;
  for (size_t at = html.find('<'); at != std::string::npos;
       at = html.find('<', at + 1)) {
    const size_t end = html.find('>', at);
    if (end == std::string::npos) return html.substr(at, 20);
    const std::string tag = html.substr(at + 1, end - at - 1);
    if (tag.empty() || tag[0] == '!' || tag.back() == '/') continue;
    if (tag[0] != '/') {
      open.push_back(tag.substr(0, tag.find_first_of(" \n")));
    } else if (open.empty() || open.back() != tag.substr(1)) {
      return tag;
    } else {
      open.pop_back();
    }
  }
  return open.empty() ? "" : open.back();
}

TEST(HtmlReportTest, ShowsEveryRun) {
  const std::string html = HtmlReport({MakeRun("first"), MakeRun("second")});
  EXPECT_THAT(html, AllOf(HasSubstr("first"), HasSubstr("second"),
                          HasSubstr("1.7500"), HasSubstr("3.91 KiB")));
  EXPECT_EQ(FirstUnbalancedTag(html), "");
}

TEST(HtmlReportTest, ShowsFormatsAndSharding) {
  RunRecord run = MakeRun("run");
  run.dtype = "bf16";
  run.master = "remainder8";
  run.momentum = "int8";
  run.shard_group = 7;
  run.micro_steps = 13;
  EXPECT_THAT(HtmlReport({run}),
              AllOf(HasSubstr("<td>bf16</td>"), HasSubstr("remainder8"),
                    HasSubstr("<td>int8</td>"), HasSubstr("<td>7</td>"),
                    HasSubstr("<td>13</td>")));
}

TEST(HtmlReportTest, ColumnsStandOnTheirTablesSide) {
  const std::string html = HtmlReport({MakeRun("run")});
  EXPECT_THAT(html, AllOf(HasSubstr("<th class=\"left\">run</th>"),
                          HasSubstr("<th>optimizer</th>"),
                          HasSubstr("<td class=\"left\"><span>")));
}

TEST(HtmlReportTest, EscapesHostileNames) {
  const std::string name = "</svg><script>alert(\"1\")</script>&'";
  const std::string html = HtmlReport({MakeRun(name)});
  EXPECT_THAT(html, Not(HasSubstr("<script")));
  EXPECT_THAT(html, HasSubstr("&lt;script&gt;alert(&quot;1&quot;)"));
  EXPECT_EQ(FirstUnbalancedTag(html), "");
}

TEST(HtmlReportTest, NeedsNoOtherFile) {
  const std::string html = HtmlReport({MakeRun("run")});
  EXPECT_THAT(html, AllOf(Not(HasSubstr("http")), Not(HasSubstr("src=")),
                          Not(HasSubstr("@import"))));
}

TEST(HtmlReportTest, SurvivesRunsWithoutPoints) {
  RunRecord empty;
  empty.name = "nothing";
  const std::string html = HtmlReport({empty});
  EXPECT_THAT(html, AllOf(Not(HasSubstr("nan")), Not(HasSubstr("inf "))));
  EXPECT_EQ(FirstUnbalancedTag(html), "");
  EXPECT_EQ(FirstUnbalancedTag(HtmlReport({})), "");
}

TEST(LineChartTest, TicksAreRoundAndInside) {
  EXPECT_THAT(Ticks(0, 300, 6),
              testing::ElementsAre(0, 50, 100, 150, 200, 250, 300));
  for (double tick : Ticks(1.234, 5.678, 5)) {
    EXPECT_GE(tick, 1.234);
    EXPECT_LE(tick, 5.678);
  }
}

TEST(RunRecordTest, SmoothingKeepsAStraightLine) {
  std::vector<Point> line;
  for (int i = 0; i < 1000; ++i) line.emplace_back(i, 3.0 * i);
  for (const Point& point : Smoothed(line, 100)) {
    EXPECT_NEAR(point.second, 3 * point.first, 1e-9);
  }
  EXPECT_LE(Smoothed(line, 100).size(), 100u);
}

class RunFolderTest : public testing::Test {
 protected:
  std::string folder_ =
      testing::TempDir() + "/runs/" +
      testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(RunFolderTest, ReadsBackWhatTheTrainerWrites) {
  ASSERT_OK_AND_ASSIGN(RunFiles files, RunFiles::Create(folder_, true));
  StepMetrics metrics;
  metrics.step = 1;
  metrics.loss = 2.5;
  metrics.report.traffic[static_cast<int>(Purpose::kGradients)].bytes = 100;
  metrics.report.traffic[static_cast<int>(Purpose::kGradients)].padding_bytes =
      4;
  for (TrafficCount& count : metrics.report.traffic) {
    count.inside_host_bytes = 10;
    count.between_hosts_bytes = 3;
  }
  ASSERT_OK(files.AddLine(ToJson(metrics)));
  ASSERT_OK(files.AddLine({{"step", 1}, {"validation_loss", 2.25}}));
  PretrainOptions options;
  options.value_blocks = "whole";
  options.dtype = "bf16";
  options.master = "remainder16";
  options.shard_group = 2;
  ASSERT_OK(files.WriteRun({{"name", "n"},
                            {"options", ToJson(options)},
                            {"ranks", 2},
                            {"validation_loss", 2.25}}));
  ASSERT_OK_AND_ASSIGN(const RunRecord run, ReadRun(folder_ + "/"));
  EXPECT_THAT(run.training, testing::ElementsAre(Point(1, 2.5)));
  EXPECT_THAT(run.validation, testing::ElementsAre(Point(1, 2.25)));
  EXPECT_EQ(run.bytes.at("gradients"), 96);
  EXPECT_EQ(run.bytes.at("padding"), 4);
  EXPECT_EQ(run.bytes.at("inside_host"), 50);
  EXPECT_EQ(run.bytes.at("between_hosts"), 15);
  EXPECT_THAT(BytesTable({run}).ToText(),
              AllOf(HasSubstr("inside host"), HasSubstr("15 B")));
  EXPECT_EQ(run.optimizer, "adam-mini (whole)");
  EXPECT_EQ(run.dtype, "bf16");
  EXPECT_EQ(run.master, "remainder16");
  EXPECT_EQ(run.shard_group, 2);
  EXPECT_TRUE(run.finished);
}

TEST_F(RunFolderTest, ARunOfFactoredSecondMomentsIsNotCalledAdamMini) {
  const auto name = [&](const char* optimizer, const char* second_moment) {
    PretrainOptions options;
    options.optimizer = optimizer;
    options.second_moment = second_moment;
    auto files = RunFiles::Create(folder_, /*overwrite=*/true);
    EXPECT_OK(files);
    EXPECT_OK(files->WriteRun({{"options", ToJson(options)}}));
    const auto run = ReadRun(folder_);
    EXPECT_OK(run);
    return run->optimizer;
  };
  EXPECT_EQ(name("adam-mini", "official"), "adam-mini");
  EXPECT_EQ(name("adam-mini", "factored"), "factored");
  EXPECT_EQ(name("adamw", "official"), "adamw");
}

TEST_F(RunFolderTest, ForgivesALastLineCutShortButNoOther) {
  std::filesystem::create_directories(folder_);
  std::ofstream(folder_ + "/metrics.jsonl")
      << "{\"step\":1,\"loss\":2}\n{\"step\":2,\"lo";
  ASSERT_OK_AND_ASSIGN(const RunRecord run, ReadRun(folder_));
  EXPECT_EQ(run.training.size(), 1u);
  EXPECT_FALSE(run.finished);
  std::ofstream(folder_ + "/metrics.jsonl")
      << "{\"step\":1,\"loss\":2}\n{\"st\n{\"step\":2,\"loss\":2}\n";
  EXPECT_THAT(ReadRun(folder_), StatusIs(absl::StatusCode::kInvalidArgument,
                                         HasSubstr("metrics.jsonl:2")));
}

TEST_F(RunFolderTest, AnInterruptedRunShowsNoNumberThatNobodyKnows) {
  std::filesystem::create_directories(folder_);
  std::filesystem::remove(folder_ + "/run.json");
  std::ofstream(folder_ + "/metrics.jsonl") << "{\"step\":1,\"loss\":2}\n";
  ASSERT_OK_AND_ASSIGN(const RunRecord run, ReadRun(folder_));
  const std::vector<std::string> result = {
      run.name, "not finished", "-", "-", "1", "-", "-", "-", "-", "-"};
  EXPECT_EQ(ResultTable({run}).rows[0], result);
  const std::vector<std::string> setup = {run.name, "-", "-", "-",
                                          "-",      "-", "-"};
  EXPECT_EQ(SetupTable({run}).rows[0], setup);
  const std::vector<std::string> bytes = {run.name, "-", "-", "-",
                                          "-",      "-", "-", "-"};
  EXPECT_EQ(BytesTable({run}).rows[0], bytes);
  const nlohmann::json json = ToJson(std::vector<RunRecord>{run})[0];
  for (const char* key : {"ranks", "steps", "parameters", "training_loss",
                          "validation_loss", "state_bytes_per_rank"}) {
    EXPECT_TRUE(json[key].is_null()) << key;
  }
  EXPECT_THAT(HtmlReport({run}),
              AllOf(HasSubstr(": unknown</div>"), Not(HasSubstr("0.0000")),
                    Not(HasSubstr("0 B")), Not(HasSubstr("0.0 ms"))));
}

TEST_F(RunFolderTest, RefusesARunThatIsNoPlainJson) {
  std::filesystem::create_directories(folder_);
  std::ofstream(folder_ + "/metrics.jsonl") << "{\"step\":1,\"loss\":2}\n";
  std::ofstream(folder_ + "/run.json") << "{\"ranks\":1,\"ranks\":2}";
  EXPECT_THAT(ReadRun(folder_).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("run.json: is not a JSON object: key "
                                 "\"ranks\": is listed twice")));
}

TEST_F(RunFolderTest, NumbersThatNoCounterReachesAreUnknown) {
  std::filesystem::create_directories(folder_);
  std::ofstream(folder_ + "/metrics.jsonl") << "{\"step\":1,\"loss\":2}\n";
  std::ofstream(folder_ + "/run.json")
      << "{\"ranks\":1e300,\"parameters\":-5,\"options\":{\"seed\":-1}}";
  ASSERT_OK_AND_ASSIGN(const RunRecord run, ReadRun(folder_));
  EXPECT_FALSE(run.ranks.has_value());
  EXPECT_FALSE(run.parameters.has_value());
  EXPECT_FALSE(run.seed.has_value());
}

TEST_F(RunFolderTest, ARunIsWrittenWhateverItsNames) {
  ASSERT_OK_AND_ASSIGN(RunFiles files, RunFiles::Create(folder_, true));
  ASSERT_OK(files.AddLine({{"step", 1}, {"loss", 2}, {"note", "caf\xe9"}}));
  ASSERT_OK(files.WriteRun({{"name", "caf\xe9"}, {"ranks", 2}}));
  ASSERT_OK_AND_ASSIGN(const RunRecord run, ReadRun(folder_));
  EXPECT_TRUE(run.finished);
  EXPECT_EQ(run.name, "caf\xEF\xBF\xBD");
}

TEST(RunTablesTest, ShowsNoEscapeSequenceOfAName) {
  EXPECT_THAT(ResultTable({MakeRun("a\x1b[31mb")}).ToText(),
              AllOf(HasSubstr("a\\x1b[31mb"), Not(HasSubstr("\x1b"))));
  EXPECT_THAT(ResultTable({MakeRun("a\x1b[31mb")}).ToMarkdown(),
              Not(HasSubstr("\x1b")));
}

TEST_F(RunFolderTest, NamesAFolderWithoutARun) {
  EXPECT_THAT(ReadRun("/no/such/run"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/no/such/run")));
}

TEST_F(RunFolderTest, OneRunUnderTwoNamesIsRefused) {
  std::filesystem::create_directories(folder_ + "/a");
  std::filesystem::create_directories(folder_ + "/b");
  EXPECT_OK(CheckDifferent({folder_ + "/a", folder_ + "/b"}));
  EXPECT_THAT(
      CheckDifferent({folder_ + "/a", folder_ + "/b", folder_ + "/b/../a"}),
      StatusIs(absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr("/b/../a"), HasSubstr("are one run"))));
}

TEST(RunTablesTest, GroupsSeedsAndComparesWithTheBestAdamw) {
  std::vector<RunRecord> runs(4, MakeRun("r"));
  runs[0].validation_loss = 2.0;
  runs[1].validation_loss = 2.2;
  runs[2].optimizer = "adam-mini";
  runs[2].validation_loss = 2.205;
  runs[3].finished = false;
  const std::vector<RunGroup> groups = GroupRuns(runs);
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[1].optimizer, "adamw");
  EXPECT_EQ(groups[1].runs, 2);
  EXPECT_NEAR(groups[1].validation_mean, 2.1, 1e-12);
  EXPECT_NEAR(groups[1].validation_spread, 0.1, 1e-12);
  EXPECT_NEAR(groups[0].gap, 0.05, 1e-12);
  EXPECT_THAT(GroupTable(groups).ToMarkdown(), HasSubstr("+5.00 %"));
}

TEST(RunTablesTest, OtherFormatsAreAnotherGroup) {
  std::vector<RunRecord> runs(2, MakeRun("r"));
  runs[1].dtype = "bf16";
  runs[1].master = "fp32";
  runs[1].momentum = "fp32";
  const std::vector<RunGroup> groups = GroupRuns(runs);
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[1].optimizer, "adamw, bf16/fp32/fp32");
}

TEST(RunTablesTest, ADivergedRunIsNoNumber) {
  RunRecord run = MakeRun("diverged");
  run.validation_loss = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(ResultTable({run}).ToText(), HasSubstr("not finite"));
}

}  // namespace
}  // namespace zeromini::tools
