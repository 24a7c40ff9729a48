// zeromini plan, as a user runs it.

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "support/run_ranks.h"
#include "support/status_matchers.h"
#include "tests/support/program_run.h"
#include "zeromini/optimizer.h"

namespace zeromini {
namespace {

using testing::HasSubstr;

class PlanVerbTest : public ProgramTest {
 protected:
  std::string Config(const std::string& text) {
    const std::string path = dir_ + "/config.json";
    std::ofstream(path) << text;
    return path;
  }
};

TEST_F(PlanVerbTest, SaysHowManyRanksAPlanIsMadeFor) {
  for (const char* ranks : {"2000000000", "65537", "0", "-1", "1,70000"}) {
    const Ran ran = Run(absl::StrCat("plan --model gpt2 --ranks ", ranks));
    EXPECT_EQ(ran.exit_code, 2) << ranks;
    EXPECT_THAT(ran.error, HasSubstr("65536")) << ranks;
    EXPECT_THAT(ran.error, HasSubstr("--ranks")) << ranks;
  }
}

TEST_F(PlanVerbTest, RefusesANegativeSizeOfABucket) {
  const Ran ran = Run("plan --model gpt2 --ranks 2 --bucket-bytes -4");
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_THAT(ran.error, HasSubstr("--bucket-bytes"));
}

// Heads of 32 rows where hidden / heads is 16.
constexpr char kWideHeads[] = R"({"model_type": "llama", "hidden_size": 64,
  "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
  "head_dim": 32, "intermediate_size": 160, "vocab_size": 300})";

TEST_F(PlanVerbTest, TakesTheHeadDimensionOfAConfig) {
  const Ran ran = Run(absl::StrCat("plan --config ", Config(kWideHeads),
                                   " --ranks 2 --optimizer adam-mini"));
  ASSERT_EQ(ran.exit_code, 0) << ran.error;
  EXPECT_EQ(ran.json[0]["blocks"]["head"], 4 + 2);
  // Embedding, head, values, output, MLP.
  EXPECT_EQ(ran.json[0]["blocks"]["row"], 2 * 300 + 64 + 64 + 2 * 160 + 64);
}

// Of matrices rows and columns have averages, of norms each element its own.
TEST_F(PlanVerbTest, CountsFactoredSecondMomentsByWhatTheyAreOf) {
  const Ran ran =
      Run(absl::StrCat("plan --config ", Config(kWideHeads),
                       " --ranks 2 --second-moment official,factored"));
  ASSERT_EQ(ran.exit_code, 0) << ran.error;
  ASSERT_EQ(ran.json.size(), 3u);
  EXPECT_EQ(ran.json[0]["optimizer"], "adam-mini");
  EXPECT_EQ(ran.json[2]["optimizer"], "adamw");
  const nlohmann::json& factored = ran.json[1];
  EXPECT_EQ(factored["optimizer"], "factored");
  EXPECT_EQ(factored["second_moment"], "factored");
  const int64_t rows = 2 * 300 + 128 + 64 + 64 + 64 + 2 * 160 + 64;
  const int64_t columns = 2 * 64 + 64 + 64 + 64 + 128 + 2 * 64 + 160;
  const nlohmann::json counts = {{"head", 0},
                                 {"row", rows},
                                 {"column", columns},
                                 {"whole", 0},
                                 {"element", 3 * 64}};
  EXPECT_EQ(factored["blocks"], counts);
  EXPECT_THAT(Contents(dir_ + "/stdout"),
              HasSubstr(absl::StrCat("  second moments: ", rows, " of rows, ",
                                     columns, " of columns, 192 of elements")));
  EXPECT_EQ(ran.json[0]["blocks"]["column"], 0);
  const nlohmann::json norm = {{"name", "model.norm.weight"},
                               {"second_moments", 64},
                               {"form", "elements"}};
  EXPECT_THAT(factored["params"], testing::Contains(norm));
  const nlohmann::json head = {{"name", "lm_head.weight"},
                               {"second_moments", 300 + 64},
                               {"form", "factored"}};
  EXPECT_THAT(factored["params"], testing::Contains(head));
  EXPECT_EQ(ran.json[0]["params"][0]["form"], "blocks");
}

TEST_F(PlanVerbTest, FactorsNoOtherOptimizersSecondMoments) {
  for (const char* verb :
       {"plan --model gpt2 --ranks 2", "bench memory --model gpt2"}) {
    const Ran ran =
        Run(absl::StrCat(verb, " --optimizer adamw --second-moment factored"));
    EXPECT_EQ(ran.exit_code, 2) << verb;
    EXPECT_THAT(ran.error, HasSubstr("--second-moment factored is for "
                                     "--optimizer adam-mini, not adamw"));
  }
  const Ran ran = Run("plan --model gpt2 --ranks 2 --second-moment columns");
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_THAT(ran.error, HasSubstr("--second-moment"));
}

// The model of kWideHeads.
std::vector<ParamSpec> WideHeads(std::vector<std::vector<float>>& weights) {
  const std::string layer = "model.layers.0.";
  const std::vector<std::pair<std::string, std::vector<int64_t>>> shapes = {
      {"model.embed_tokens.weight", {300, 64}},
      {layer + "input_layernorm.weight", {64}},
      {layer + "self_attn.q_proj.weight", {128, 64}},
      {layer + "self_attn.k_proj.weight", {64, 64}},
      {layer + "self_attn.v_proj.weight", {64, 64}},
      {layer + "self_attn.o_proj.weight", {64, 128}},
      {layer + "post_attention_layernorm.weight", {64}},
      {layer + "mlp.gate_proj.weight", {160, 64}},
      {layer + "mlp.up_proj.weight", {160, 64}},
      {layer + "mlp.down_proj.weight", {64, 160}},
      {"model.norm.weight", {64}},
      {"lm_head.weight", {300, 64}}};
  std::vector<ParamSpec> specs;
  for (const auto& [name, shape] : shapes) {
    ParamSpec& spec = specs.emplace_back();
    spec.name = name;
    spec.shape = shape;
    weights.emplace_back(shape[0] * (shape.size() > 1 ? shape[1] : 1), 1.0f);
    spec.data = weights.back().data();
  }
  return specs;
}

TEST_F(PlanVerbTest, PlansTheScalarBytesThatAStepSends) {
  const Ran ran =
      Run(absl::StrCat("plan --config ", Config(kWideHeads),
                       " --ranks 16 --value-blocks whole --blocks split ",
                       "--memory external --optimizer adam-mini"));
  ASSERT_EQ(ran.exit_code, 0) << ran.error;
  EXPECT_GT(ran.json[0]["split_blocks"], 0);
  const nlohmann::json& planned = ran.json[0]["step_bytes_per_rank"];
  RunRanks(16, [&](int /*rank*/, Communicator& group) {
    std::vector<std::vector<float>> weights;
    const std::vector<ParamSpec> specs = WideHeads(weights);
    OptimizerOptions options;
    options.value_blocks = ValueBlocks::kWhole;
    options.blocks = BlockCuts::kSplitAtCuts;
    options.model = {64, 4, 2, 32};
    options.hyper_groups = {HyperGroup()};
    ASSERT_OK_AND_ASSIGN(const auto optimizer,
                         Optimizer::Create(options, specs, group));
    for (int i = static_cast<int>(specs.size()) - 1; i >= 0; --i) {
      ASSERT_OK(optimizer->GradReady(i, weights[i].data()));
    }
    ASSERT_OK_AND_ASSIGN(const StepReport report,
                         optimizer->Step({/*learning_rate=*/0.1, true}));
    EXPECT_EQ(planned["scalars"],
              report.traffic[static_cast<int>(Purpose::kScalars)].bytes);
    ASSERT_OK(optimizer->Close());
  });
}

// Each flag's word and number reaches the runtime's options as it should.
TEST_F(PlanVerbTest, PlansTheMemoryThatItsLargestRankHolds) {
  const Ran ran = Run(absl::StrCat(
      "plan --config ", Config(kWideHeads), " --ranks 6 --optimizer adamw ",
      "--stage 2 --shard-group 3 --dtype bf16 --master remainder16 ",
      "--state int8 --gradient-wire bf16 --memory external --micro-steps 2 ",
      "--bucket-bytes 65536"));
  ASSERT_EQ(ran.exit_code, 0) << ran.error;
  const nlohmann::json& planned = ran.json[0];
  RunRanks(6, [&](int rank, Communicator& group) {
    std::vector<std::vector<float>> weights;
    std::vector<ParamSpec> specs = WideHeads(weights);
    for (ParamSpec& spec : specs) spec.dtype = DType::kBFloat16;
    OptimizerOptions options;
    options.algorithm = Algorithm::kAdamW;
    options.stage = 2;
    options.shard_ranks = 3;
    options.master = MasterFormat::kRemainder16;
    options.state = StateFormat::kInt8;
    options.gradient_wire = DType::kBFloat16;
    options.micro_steps = 2;
    options.bucket_bytes = 65536;
    options.model = {64, 4, 2, 32};
    ASSERT_OK_AND_ASSIGN(const auto optimizer,
                         Optimizer::Create(options, specs, group));
    Traffic sent = {};
    for (int micro = 0; micro < options.micro_steps; ++micro) {
      for (int i = static_cast<int>(specs.size()) - 1; i >= 0; --i) {
        ASSERT_OK(optimizer->GradReady(i, weights[i].data()));
      }
    }
    ASSERT_OK_AND_ASSIGN(const StepReport report,
                         optimizer->Step({/*learning_rate=*/0.1, true}));
    sent = report.traffic;
    const MemoryReport held = optimizer->Memory();
    ASSERT_OK(optimizer->Close());
    if (planned["largest_rank"] != rank) return;
    const nlohmann::json& bytes = planned["bytes_per_rank"];
    EXPECT_EQ(bytes["weights"], 0);
    EXPECT_EQ(bytes["gradients"], held.gradients);
    EXPECT_EQ(bytes["momentum"], held.momentum);
    EXPECT_EQ(bytes["second_moment"], held.second_moment);
    EXPECT_EQ(bytes["master"], held.master);
    EXPECT_EQ(bytes["statistics"], held.statistics);
    EXPECT_EQ(bytes["buckets"], held.buckets);
    EXPECT_EQ(bytes["tables"], held.tables);
    EXPECT_EQ(bytes["total"], held.total());
    const nlohmann::json& step = planned["step_bytes_per_rank"];
    const auto& gradients = sent[static_cast<int>(Purpose::kGradients)];
    const auto& back = sent[static_cast<int>(Purpose::kWeights)];
    EXPECT_EQ(step["gradients"], gradients.bytes - gradients.padding_bytes);
    EXPECT_EQ(step["weights"], back.bytes - back.padding_bytes);
    EXPECT_EQ(step["padding"], gradients.padding_bytes + back.padding_bytes);
    EXPECT_EQ(planned["collectives"], gradients.calls + back.calls + 1);
  });
}

TEST_F(PlanVerbTest, RefusesWhatAnOptimizerWouldRefuse) {
  const struct {
    const char* flags;
    const char* why;
  } refused[] = {
      {"--stage 3 --memory external", "memory must be flat"},
      {"--dtype fp16 --master remainder8", "needs bf16 weights"},
      {"--shard-group 3", "shard_ranks 3 does not divide the 4 ranks"},
      {"--dtype int8", "--dtype"},
      {"--state fp16", "--state"},
      {"--blocks some", "--blocks"},
      {"--copy-cost -1", "--copy-cost"},
      {"--buffer-budget -1", "--buffer-budget"},
      {"--collective-cost -5KiB", "--collective-cost"},
      {"--buffer-budget 2PiB", "buffer_budget_bytes must be 0 to"},
      {"--micro-steps 0", "--micro-steps"},
      {"--optimizer lion", "lion"}};
  for (const auto& [flags, why] : refused) {
    const Ran ran = Run(absl::StrCat("plan --model gpt2 --ranks 4 ", flags));
    EXPECT_EQ(ran.exit_code, 2) << flags;
    EXPECT_THAT(ran.error, HasSubstr(why)) << flags;
  }
}

TEST_F(PlanVerbTest, RefusesFlagsThatWouldChangeNothing) {
  const struct {
    const char* flags;
    const char* cure;
  } refused[] = {
      {"--master remainder16", "give --dtype bf16"},
      {"--master fp32 --dtype fp32", "give --dtype bf16"},
      {"--weight-wire bf16 --dtype fp16", "fp16 ones travel as they"},
      {"--weight-wire fp32 --dtype bf16", "bf16 ones travel as they"},
      {"--value-blocks whole --second-moment factored", "nothing else has"},
      {"--value-blocks whole --optimizer adamw", "nothing else has blocks"},
      {"--gather-budget 1GiB", "--stage is 1; leave it out"},
      {"--prefetch 2 --stage 2", "--stage is 2; leave it out"}};
  for (const auto& [flags, cure] : refused) {
    const Ran ran = Run(absl::StrCat("plan --model gpt2 --ranks 4 ", flags));
    EXPECT_EQ(ran.exit_code, 2) << flags;
    EXPECT_THAT(ran.error, HasSubstr(cure)) << flags;
  }
}

TEST_F(PlanVerbTest, SaysTheLeastGatherBudgetThatIsEnough) {
  const std::string plan =
      "plan --model gpt2 --ranks 4 --optimizer adamw --stage 3 "
      "--gather-budget ";
  const Ran small = Run(plan + "1KiB");
  EXPECT_EQ(small.exit_code, 2);
  const std::string least =
      small.error.substr(small.error.find("at least ") + 9);
  const int64_t bytes = std::stoll(least);
  EXPECT_EQ(Run(absl::StrCat(plan, bytes - 1)).exit_code, 2);
  const Ran enough = Run(absl::StrCat(plan, bytes));
  ASSERT_EQ(enough.exit_code, 0) << enough.error;
  EXPECT_LE(enough.json[0]["bytes_per_rank"]["gathered"], bytes);
}

TEST_F(PlanVerbTest, WarnsOfBuffersBeyondTheirBudget) {
  const std::string plan =
      "plan --model gpt2 --ranks 8 --stage 2 --optimizer adamw ";
  const Ran tight = Run(plan + "--buffer-budget 1MiB");
  EXPECT_EQ(tight.exit_code, 0);
  EXPECT_THAT(tight.error, HasSubstr("more than --buffer-budget 1048576"));
  EXPECT_EQ(Run(plan + "--buffer-budget 1GiB").error, "");
  EXPECT_EQ(Run(plan + "--buffer-budget 0").error, "");
}

TEST_F(PlanVerbTest, TakesTheSizeOfABucketWithItsUnit) {
  const Ran ran =
      Run("plan --model gpt2 --ranks 2 --optimizer adamw --bucket-bytes 16MiB");
  ASSERT_EQ(ran.exit_code, 0) << ran.error;
  EXPECT_EQ(ran.json[0]["bucket_bytes"], 16 << 20);
}

TEST_F(PlanVerbTest, SaysWhat16BitWeightsTravelAs) {
  const Ran ran =
      Run("plan --model gpt2 --ranks 2 --optimizer adamw --dtype fp16");
  ASSERT_EQ(ran.exit_code, 0) << ran.error;
  EXPECT_EQ(ran.json[0]["weight_wire"], "fp16");
  EXPECT_EQ(ran.json[0]["gradient_wire"], "fp32");
}

TEST_F(PlanVerbTest, PrintsATableThatFitsATerminal) {
  ASSERT_EQ(Run("plan --model llama-3-8b,gpt2-medium --ranks 1,512").exit_code,
            0);
  std::ifstream lines(dir_ + "/stdout");
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    EXPECT_LE(line.size(), 120) << line;
  }
  EXPECT_GE(count, 1 + 2 * 2 * 2);
}

TEST_F(PlanVerbTest, BytesOfARankAddUpToItsTotal) {
  const Ran ran =
      Run("plan --model gpt2 --ranks 3,8 --stage 3 --dtype bf16 --optimizer "
          "adam-mini,adamw,sgd");
  ASSERT_EQ(ran.exit_code, 0) << ran.error;
  ASSERT_EQ(ran.json.size(), 6);
  for (const nlohmann::json& plan : ran.json) {
    int64_t sum = 0;
    for (const auto& [purpose, bytes] : plan["bytes_per_rank"].items()) {
      if (purpose != "total" && purpose != "peak") sum += bytes.get<int64_t>();
    }
    EXPECT_EQ(plan["bytes_per_rank"]["total"], sum);
    EXPECT_GE(plan["bytes_per_rank"]["peak"], sum);
    EXPECT_GT(plan["bytes_per_rank"]["gathered"], 0);
    EXPECT_GT(plan["bytes_per_rank"]["master"], 0);
  }
}

TEST_F(PlanVerbTest, CostIsWhatIsSentCopiedAndStarted) {
  const Ran ran =
      Run("plan --model gpt2 --ranks 8 --optimizer adamw --memory external "
          "--copy-cost 0.5 --collective-cost 1000");
  ASSERT_EQ(ran.exit_code, 0) << ran.error;
  const nlohmann::json& plan = ran.json[0];
  const nlohmann::json& cost = plan["wire_cost"];
  EXPECT_GT(plan["copied_bytes_per_rank"], 0);
  EXPECT_EQ(cost["copies"], plan["copied_bytes_per_rank"].get<double>() * 0.5);
  EXPECT_EQ(cost["collectives"], plan["collectives"].get<double>() * 1000);
  EXPECT_EQ(cost["total"], cost["sent"].get<double>() +
                               cost["copies"].get<double>() +
                               cost["collectives"].get<double>());
}

TEST_F(PlanVerbTest, PlansManyRanksAtOnce) {
  const Ran ran = Run("plan --model llama-2-7b --ranks 4096");
  ASSERT_EQ(ran.exit_code, 0) << ran.error;
  EXPECT_EQ(ran.json[0]["ranks"], 4096);
}

TEST_F(PlanVerbTest, PlansAConfigAsItsPreset) {
  const std::string path = Config(R"({"model_type": "llama",
    "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14336,
    "vocab_size": 128256})");
  const Ran config = Run(absl::StrCat("plan --config ", path, " --ranks 8"));
  ASSERT_EQ(config.exit_code, 0) << config.error;
  const Ran preset = Run("plan --model llama-3-8b --ranks 8");
  ASSERT_EQ(preset.exit_code, 0) << preset.error;
  for (const char* key :
       {"parameters", "blocks", "bytes_per_rank", "step_bytes_per_rank"}) {
    EXPECT_EQ(config.json[0][key], preset.json[0][key]) << key;
  }
}

TEST_F(PlanVerbTest, PlansAGpt2ConfigAsItsPreset) {
  const std::string path = Config(R"({"model_type": "gpt2", "n_embd": 768,
    "n_layer": 12, "n_head": 12, "vocab_size": 50257, "n_positions": 1024})");
  const Ran config = Run(absl::StrCat("plan --config ", path, " --ranks 3"));
  ASSERT_EQ(config.exit_code, 0) << config.error;
  const Ran preset = Run("plan --model gpt2 --ranks 3");
  EXPECT_EQ(config.json[0]["parameters"], preset.json[0]["parameters"]);
  EXPECT_EQ(config.json[0]["blocks"], preset.json[0]["blocks"]);
}

TEST_F(PlanVerbTest, AsksForAModelOrAConfig) {
  const Ran ran = Run("plan --ranks 2");
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_THAT(ran.error, HasSubstr("--model or --config"));
}

}  // namespace
}  // namespace zeromini
