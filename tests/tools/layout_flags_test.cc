// The flags of a layout, in the programs that have them.

#include <initializer_list>
#include <string>

#include "gmock/gmock.h"
#include "support/status_matchers.h"
#include "tests/support/program_run.h"
#include "zeromini/plan_bytes.h"

namespace zeromini {
namespace {

using testing::HasSubstr;
using testing::Not;

class LayoutFlagsTest : public ProgramTest {
 protected:
  std::string Told() const { return Contents(dir_ + "/stdout"); }

  std::string Replay(const std::string& flags) const {
    return absl::StrCat("replay ", ZEROMINI_GOLDEN_DIR, "/A_llama_gqa_hf",
                        " --overwrite --out ", dir_, "/out ", flags);
  }
};

constexpr char kGpt2[] = "plan --model gpt2 --ranks 6 --optimizer adam-mini ";

OptimizerOptions FlatOptions() {
  OptimizerOptions options;
  options.memory = MemoryForm::kFlat;
  return options;
}

// What the runtime would lay out on six ranks.
std::string TableOf(OptimizerOptions options) {
  const auto preset = FindPreset("gpt2");
  options.model = preset->shape;
  const auto plan = PlanFor(preset->params, options, 6);
  EXPECT_OK(plan);
  return plan->ToTable();
}

TEST_F(LayoutFlagsTest, EachReachesThePlan) {
  const OptimizerOptions flat = FlatOptions();
  OptimizerOptions split = flat;
  split.blocks = BlockCuts::kSplitAtCuts;
  OptimizerOptions by_layer = flat;
  by_layer.bucketing = Bucketing::kByLayer;
  OptimizerOptions small = flat;
  small.bucket_bytes = 1 << 20;
  OptimizerOptions cheap_copies = flat;
  cheap_copies.copy_cost = 0;
  OptimizerOptions slow = flat;
  slow.collective_cost_bytes = 16 << 20;
  OptimizerOptions stage2 = flat;
  stage2.stage = 2;
  OptimizerOptions tight = stage2;
  tight.buffer_budget_bytes = 32 << 20;
  const struct {
    const char* flags;
    OptimizerOptions options;
    OptimizerOptions without;  // The last flag.
  } cases[] = {{"--blocks split", split, flat},
               {"--bucketing layer", by_layer, flat},
               {"--bucket-bytes 1048576", small, flat},
               {"--copy-cost 0", cheap_copies, flat},
               {"--collective-cost 16MiB", slow, flat},
               {"--stage 2 --buffer-budget 32MiB", tight, stage2}};
  for (const auto& [flags, options, without] : cases) {
    const Ran ran = Run(absl::StrCat(kGpt2, "--buckets ", flags));
    ASSERT_EQ(ran.exit_code, 0) << ran.error;
    EXPECT_THAT(Told(), HasSubstr(TableOf(options))) << flags;
    EXPECT_NE(TableOf(options), TableOf(without)) << flags;
  }
}

TEST_F(LayoutFlagsTest, TheirWordsAreInJson) {
  const Ran ran =
      Run(absl::StrCat(kGpt2, "--blocks split --bucketing layer --ranks 2"));
  ASSERT_EQ(ran.exit_code, 0) << ran.error;
  EXPECT_EQ(ran.json[0]["block_cuts"], "split");
  EXPECT_EQ(ran.json[0]["bucketing"], "layer");
  const Ran defaults = Run(kGpt2);
  EXPECT_EQ(defaults.json[0]["block_cuts"], "whole");
  EXPECT_EQ(defaults.json[0]["bucketing"], "cheapest");
}

// On sixteen ranks shards are smaller than blocks, whose partial sums travel.
TEST_F(LayoutFlagsTest, ReplayTakesThem) {
  const Ran whole = Run(Replay("--ranks 16 --bucket-bytes 4096"));
  const Ran split = Run(
      Replay("--ranks 16 --bucketing layer --blocks split --buffer-budget 1MiB "
             "--copy-cost 1 --collective-cost 0"));
  ASSERT_EQ(whole.exit_code, 0) << whole.error;
  ASSERT_EQ(split.exit_code, 0) << split.error;
  EXPECT_EQ(whole.json["grad_norms"], split.json["grad_norms"]);
  EXPECT_GT(split.json["bytes_sent_by_rank_0"]["scalars"],
            whole.json["bytes_sent_by_rank_0"]["scalars"]);
}

TEST_F(LayoutFlagsTest, UnknownWordsAndNegativeNumbersAreRefused) {
  const struct {
    const char* flags;
    const char* why;
  } refused[] = {{"--blocks some", "--blocks"},
                 {"--bucketing some", "--bucketing"},
                 {"--bucketing ''", "--bucketing"},
                 {"--bucket-bytes -1", "--bucket-bytes"},
                 {"--copy-cost -1", "--copy-cost"},
                 {"--collective-cost -1", "--collective-cost"},
                 {"--buffer-budget -1", "--buffer-budget"}};
  for (const auto& [flags, why] : refused) {
    for (const std::string& command :
         {absl::StrCat(kGpt2, flags), Replay(flags)}) {
      const Ran ran = Run(command);
      EXPECT_EQ(ran.exit_code, 2) << command;
      EXPECT_THAT(ran.error, HasSubstr(why)) << command;
    }
  }
}

// At seven ranks heads do not come out even.
TEST_F(LayoutFlagsTest, APlanSaysWhatSplittingWouldSave) {
  const std::string plan = "plan --model gpt2 --ranks 7 --optimizer adam-mini ";
  const Ran whole = Run(plan);
  ASSERT_EQ(whole.exit_code, 0) << whole.error;
  EXPECT_THAT(Told(), HasSubstr("  --blocks split: "));
  const Ran split = Run(plan + "--blocks split");
  EXPECT_THAT(Told(), Not(HasSubstr("  --blocks split: ")));
  const nlohmann::json& a = whole.json[0];
  const nlohmann::json& b = split.json[0];
  const nlohmann::json& saving = a["split_would_save"];
  const auto less = [&](const char* group, const char* key) {
    return a[group][key].get<int64_t>() - b[group][key].get<int64_t>();
  };
  EXPECT_EQ(saving["padding_bytes"], less("step_bytes_per_rank", "padding"));
  EXPECT_EQ(saving["scalar_bytes"], less("step_bytes_per_rank", "scalars"));
  EXPECT_EQ(saving["buffer_bytes"], less("bytes_per_rank", "buckets"));
  EXPECT_EQ(saving["total_bytes"], less("bytes_per_rank", "total"));
  EXPECT_EQ(saving["copied_bytes"],
            a["copied_bytes_per_rank"].get<int64_t>() -
                b["copied_bytes_per_rank"].get<int64_t>());
  EXPECT_EQ(saving["late_fraction"], b["early_fraction"].get<double>() -
                                         a["early_fraction"].get<double>());
  EXPECT_GT(saving["padding_bytes"], 0);
  EXPECT_LT(saving["scalar_bytes"], 0);
}

TEST_F(LayoutFlagsTest, NothingIsToldWhereSplittingSavesNothing) {
  for (const char* flags :
       {"--optimizer adamw", "--optimizer sgd", "--blocks split"}) {
    const Ran ran = Run(absl::StrCat(
        "plan --model gpt2 --ranks 7 --optimizer adam-mini ", flags));
    ASSERT_EQ(ran.exit_code, 0) << ran.error;
    const nlohmann::json& plan = ran.json[ran.json.size() - 1];
    EXPECT_EQ(plan["split_would_save"].size(), 6u);
    for (const auto& [key, saved] : plan["split_would_save"].items()) {
      EXPECT_EQ(saved, 0) << flags << " " << key;
    }
  }
}

}  // namespace
}  // namespace zeromini
