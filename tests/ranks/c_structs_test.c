/* Structs of c.h that were not initialised, and fields out of range. */

#define _POSIX_C_SOURCE 200809L
#include "c_refusals.h"

static void AZeroedStructIsRefusedWhereverOneIsTaken(void) {
  zeromini_options options = {0};
  zeromini_param params[2] = {{0}, {0}};
  zeromini_hyper_group hyper = {0};
  zeromini_step_options step_options = {0};
  zeromini_step_report report = {0};
  zeromini_memory_report memory = {0};
  zeromini_level_traffic traffic = {0};
  zeromini_group* group = zeromini_self();
  zeromini_optimizer* optimizer = Make(group);
  const zeromini_step_options good = StepOptions();
  params[1] = Matrix();
  options.stage = 3;
  REFUSED(CreateOnOne(&options, &params[1], 1, &error),
          "zeromini_options.struct_size is 0: call zeromini_options_init");
  options = Options();
  REFUSED(CreateOnOne(&options, params, 2, &error),
          "params[0]: zeromini_param.struct_size is 0: call "
          "zeromini_param_init");
  options.hyper_groups = &hyper;
  options.num_hyper_groups = 1;
  REFUSED(CreateOnOne(&options, &params[1], 1, &error),
          "hyper_groups[0]: zeromini_hyper_group.struct_size is 0: call "
          "zeromini_hyper_group_init");
  REFUSED(
      zeromini_set_hyper_group(optimizer, 0, &hyper, &error),
      "zeromini_hyper_group.struct_size is 0: call zeromini_hyper_group_init");
  step_options.learning_rate = 0.1;
  EXPECT(Give(optimizer) == ZEROMINI_OK);
  REFUSED(zeromini_step(optimizer, &step_options, NULL, &error),
          "zeromini_step_options.struct_size is 0: call "
          "zeromini_step_options_init");
  EXPECT(Give(optimizer) == ZEROMINI_OK);
  REFUSED(zeromini_step(optimizer, &good, &report, &error),
          "zeromini_step_report.struct_size is 0: call "
          "zeromini_step_report_init");
  EXPECT(zeromini_memory(optimizer, &memory) == ZEROMINI_INVALID_ARGUMENT);
  EXPECT(zeromini_optimizer_level_traffic(optimizer, &traffic) ==
         ZEROMINI_INVALID_ARGUMENT);
  EXPECT(weights[0] == 0); /* No step was taken. */
  zeromini_optimizer_destroy(optimizer);
  zeromini_group_destroy(group);
}

/* Sizes before the first version, between two and beyond any. */
static const size_t kNoSizes[] = {1, sizeof(size_t), 17, 1u << 17, SIZE_MAX};

static void ASizeThatNoVersionHadIsRefused(void) {
  size_t i;
  for (i = 0; i < sizeof kNoSizes / sizeof *kNoSizes; ++i) {
    zeromini_options options = Options();
    zeromini_param param = Matrix();
    zeromini_hyper_group hyper = Hyper();
    zeromini_step_options step_options = StepOptions();
    const zeromini_step_options good = StepOptions();
    zeromini_step_report report;
    zeromini_memory_report memory;
    zeromini_group* group = zeromini_self();
    zeromini_optimizer* optimizer = Make(group);
    options.struct_size = kNoSizes[i];
    REFUSED(CreateOnOne(&options, &param, 1, &error), "no size of it");
    options = Options();
    param.struct_size = kNoSizes[i];
    REFUSED(CreateOnOne(&options, &param, 1, &error), "params[0]");
    hyper.struct_size = kNoSizes[i];
    REFUSED(zeromini_set_hyper_group(optimizer, 0, &hyper, &error), "hyper");
    step_options.struct_size = kNoSizes[i];
    REFUSED(zeromini_step(optimizer, &step_options, NULL, &error), "options");
    report.struct_size = kNoSizes[i];
    REFUSED(zeromini_step(optimizer, &good, &report, &error), "report");
    memory.struct_size = kNoSizes[i];
    EXPECT(zeromini_memory(optimizer, &memory) == ZEROMINI_INVALID_ARGUMENT);
    zeromini_optimizer_destroy(optimizer);
    zeromini_group_destroy(group);
  }
}

static void AnInitFunctionLeavesWhatNoStructCanBeToBeRefused(void) {
  zeromini_options options = Options();
  const zeromini_param param = Matrix();
  zeromini_options_init(NULL, sizeof options);
  zeromini_param_init(NULL, 0);
  zeromini_hyper_group_init(NULL, 8);
  zeromini_step_options_init(NULL, SIZE_MAX);
  zeromini_step_report_init(NULL, sizeof(zeromini_step_report));
  zeromini_memory_report_init(NULL, 1);
  zeromini_level_traffic_init(NULL, 0);
  zeromini_options_init(&options, SIZE_MAX);
  REFUSED(CreateOnOne(&options, &param, 1, &error),
          "struct_size is 18446744073709551615, which is no size of it");
  options = Options();
  zeromini_options_init(&options, sizeof(&options));
  REFUSED(CreateOnOne(&options, &param, 1, &error),
          "zeromini_options.struct_size is 8, which is no size of it: give "
          "zeromini_options_init sizeof(zeromini_options)");
}

static void AnArrayOfDifferentSizesIsRefused(void) {
  const zeromini_options options = Options();
  zeromini_param params[2];
  params[0] = Matrix();
  params[1] = Matrix();
  params[1].name = "other";
  params[1].struct_size -= sizeof(size_t);
  REFUSED(CreateOnOne(&options, params, 2, &error),
          "params[1]: zeromini_param.struct_size");
}

/* What a newer header has added lies behind what this library knows. */
typedef struct NewerStepOptions {
  zeromini_step_options known;
  double added;
} NewerStepOptions;

static void AFieldThatTheLibraryDoesNotKnowIsRefusedOnlyIfItIsSet(void) {
  NewerStepOptions newer;
  zeromini_group* group = zeromini_self();
  zeromini_optimizer* optimizer = Make(group);
  zeromini_step_options_init(&newer.known, sizeof newer);
  newer.known.learning_rate = 0.1;
  EXPECT(newer.added == 0);
  EXPECT(Give(optimizer) == ZEROMINI_OK);
  ACCEPTED(zeromini_step(optimizer, &newer.known, NULL, &error));
  newer.added = 1;
  EXPECT(Give(optimizer) == ZEROMINI_OK);
  REFUSED(zeromini_step(optimizer, &newer.known, NULL, &error),
          "a field is set that the library does not know");
  zeromini_optimizer_destroy(optimizer);
  zeromini_group_destroy(group);
}

static const zeromini_segment kSegments[] = {
    {2, 1, ZEROMINI_BLOCK_AUTO, ZEROMINI_FORM_BLOCKS}};
static const zeromini_segment kOddKind[] = {
    {6, 1, (zeromini_block_kind)4, ZEROMINI_FORM_BLOCKS}};
static const zeromini_segment kOddForm[] = {
    {6, 1, ZEROMINI_BLOCK_AUTO, (zeromini_moment_form)3}};
static const zeromini_segment kTwoRows[] = {
    {6, 2, ZEROMINI_BLOCK_AUTO, ZEROMINI_FORM_FACTORED}};

#define PARAM_REFUSED(change, named)                          \
  do {                                                        \
    const zeromini_options options = Options();               \
    zeromini_param param = Matrix();                          \
    change;                                                   \
    REFUSED(CreateOnOne(&options, &param, 1, &error), named); \
  } while (0)

static void EveryFieldOfAParameterIsChecked(void) {
  static const int64_t negative[] = {6, -4};
  static const int64_t none[] = {0, 4};
  static const int64_t huge[] = {INT64_MAX, INT64_MAX};
  PARAM_REFUSED(param.name = NULL, "params[0]: zeromini_param.name is NULL");
  PARAM_REFUSED(param.name = "", "parameter 0 has an empty name");
  PARAM_REFUSED(param.shape = NULL, "zeromini_param.shape is NULL");
  PARAM_REFUSED(param.shape = negative, "every dimension must be positive");
  PARAM_REFUSED(param.shape = none, "every dimension must be positive");
  PARAM_REFUSED(param.shape = huge, "elements");
  PARAM_REFUSED(param.dims = -1, "zeromini_param.dims is -1");
  PARAM_REFUSED(param.dims = INT_MIN, "zeromini_param.dims");
  PARAM_REFUSED(param.dims = 0, "zeromini_param.dims is 0");
  PARAM_REFUSED(param.dims = INT_MAX, "zeromini_param.dims");
  PARAM_REFUSED(param.output_is_last = 2, "zeromini_param.output_is_last is 2");
  PARAM_REFUSED(param.slices = 0, "slices");
  PARAM_REFUSED(param.slices = -1, "slices");
  PARAM_REFUSED(param.slices = INT64_MAX, "slices");
  PARAM_REFUSED(param.padding_rows = -1, "padding_rows is -1");
  PARAM_REFUSED(param.padding_rows = INT64_MAX, "padding_rows");
  PARAM_REFUSED(param.dtype = (zeromini_dtype)99, "zeromini_param.dtype is 99");
  PARAM_REFUSED(param.dtype = (zeromini_dtype)-1, "zeromini_param.dtype is -1");
  PARAM_REFUSED(param.dtype = ZEROMINI_INT64,
                "zeromini_param.dtype is 3, but must be ZEROMINI_FLOAT32, "
                "ZEROMINI_BFLOAT16 or ZEROMINI_FLOAT16");
  PARAM_REFUSED(param.dtype = ZEROMINI_BYTE, "dtype");
  PARAM_REFUSED(param.rule = (zeromini_rule_kind)8,
                "zeromini_param.rule is 8, but must be 0 to 7");
  PARAM_REFUSED(param.rows_per_head = -1, "zeromini_param.rows_per_head is -1");
  PARAM_REFUSED(param.rule = ZEROMINI_RULE_HEADS, "rows per head");
  PARAM_REFUSED(param.num_segments = -1, "zeromini_param.num_segments is -1");
  PARAM_REFUSED(param.num_segments = 3,
                "zeromini_param.segments is NULL, but num_segments is 3");
  PARAM_REFUSED((param.segments = kSegments, param.num_segments = INT_MAX),
                "zeromini_param.num_segments");
  PARAM_REFUSED(param.rule = ZEROMINI_RULE_FUSED, "fused segments");
  PARAM_REFUSED((param.rule = ZEROMINI_RULE_FUSED, param.segments = kSegments),
                "params[0]: zeromini_param.num_segments is 0, but segments is "
                "given");
  PARAM_REFUSED((param.segments = kSegments, param.num_segments = 1),
                "zeromini_param.segments is given, but the rule is not "
                "ZEROMINI_RULE_FUSED");
  PARAM_REFUSED((param.segments = kOddKind, param.num_segments = 1),
                "zeromini_param.segments[0].kind is 4");
  PARAM_REFUSED((param.segments = kOddForm, param.num_segments = 1),
                "zeromini_param.segments[0].form is 3");
  PARAM_REFUSED((param.rule = ZEROMINI_RULE_FUSED, param.segments = kTwoRows,
                 param.num_segments = 1),
                "must have 1 row per block, not 2");
  PARAM_REFUSED((param.rule = ZEROMINI_RULE_COLUMNS, param.dims = 1),
                "a vector takes ZEROMINI_RULE_ELEMENT");
  PARAM_REFUSED(param.rows_per_head = 2,
                "zeromini_param.rows_per_head is 2, but the rule is not "
                "ZEROMINI_RULE_HEADS");
  PARAM_REFUSED(param.rule = ZEROMINI_RULE_HEADS,
                "ZEROMINI_RULE_HEADS needs zeromini_param.rows_per_head");
  PARAM_REFUSED(param.rule = ZEROMINI_RULE_FUSED,
                "ZEROMINI_RULE_FUSED needs zeromini_param.segments");
  PARAM_REFUSED(param.layer = -2, "zeromini_param.layer is -2");
  PARAM_REFUSED(param.layer = INT_MAX, "zeromini_param.layer");
  PARAM_REFUSED(param.layer_set = -3, "zeromini_param.layer_set is -3");
  PARAM_REFUSED(param.hyper_group = -2, "zeromini_param.hyper_group is -2");
  PARAM_REFUSED(param.hyper_group = 1, "group 1");
  PARAM_REFUSED(param.frozen = -1, "zeromini_param.frozen is -1");
  PARAM_REFUSED(param.tied_to = "nobody", "tied_to");
  PARAM_REFUSED(param.data = NULL, "matrix");
  PARAM_REFUSED(param.expert = 7, "zeromini_param.expert is 7");
}

#define HYPER_REFUSED(change, named)                                        \
  do {                                                                      \
    zeromini_options options = Options();                                   \
    const zeromini_param param = Matrix();                                  \
    zeromini_hyper_group hyper = Hyper();                                   \
    zeromini_group* group = zeromini_self();                                \
    zeromini_optimizer* optimizer = Make(group);                            \
    options.hyper_groups = &hyper;                                          \
    options.num_hyper_groups = 1;                                           \
    change;                                                                 \
    REFUSED(CreateOnOne(&options, &param, 1, &error), named);               \
    REFUSED(zeromini_set_hyper_group(optimizer, 0, &hyper, &error), named); \
    zeromini_optimizer_destroy(optimizer);                                  \
    zeromini_group_destroy(group);                                          \
  } while (0)

static void EveryFieldOfAGroupIsChecked(void) {
  static const char* const patterns[] = {"mat*", NULL};
  HYPER_REFUSED(hyper.name = NULL, "zeromini_hyper_group.name is NULL");
  HYPER_REFUSED(hyper.learning_rate_scale = -1, "learning rate scale");
  HYPER_REFUSED(hyper.learning_rate_scale = NAN, "learning rate scale");
  HYPER_REFUSED(hyper.weight_decay = -1, "weight decay");
  HYPER_REFUSED(hyper.weight_decay = INFINITY, "weight decay");
  HYPER_REFUSED(hyper.beta1 = 1, "betas");
  HYPER_REFUSED(hyper.beta2 = NAN, "betas");
  HYPER_REFUSED(hyper.epsilon = 0, "epsilon");
  HYPER_REFUSED(hyper.decay_norms_and_biases = 2,
                "zeromini_hyper_group.decay_norms_and_biases is 2");
  HYPER_REFUSED(hyper.own_algorithm = 3,
                "zeromini_hyper_group.own_algorithm is 3");
  HYPER_REFUSED(hyper.own_algorithm = -2,
                "zeromini_hyper_group.own_algorithm is -2");
  HYPER_REFUSED(hyper.num_patterns = 1,
                "zeromini_hyper_group.patterns is NULL, but num_patterns is 1");
  HYPER_REFUSED(hyper.num_patterns = -1,
                "zeromini_hyper_group.num_patterns is -1");
  HYPER_REFUSED(
      hyper.patterns = patterns,
      "zeromini_hyper_group.num_patterns is 0, but patterns is given");
  HYPER_REFUSED((hyper.patterns = patterns, hyper.num_patterns = 2),
                "zeromini_hyper_group.patterns[1] is NULL");
}

#define OPTIONS_REFUSED(change, named)                        \
  do {                                                        \
    zeromini_options options = Options();                     \
    const zeromini_param param = Matrix();                    \
    change;                                                   \
    REFUSED(CreateOnOne(&options, &param, 1, &error), named); \
  } while (0)

static void EveryEnumOfTheOptionsIsChecked(void) {
  OPTIONS_REFUSED(options.algorithm = (zeromini_algorithm)3,
                  "zeromini_options.algorithm is 3");
  OPTIONS_REFUSED(options.reduction = (zeromini_reduction)2,
                  "zeromini_options.reduction is 2");
  OPTIONS_REFUSED(options.non_finite = (zeromini_on_bad_gradient)3,
                  "zeromini_options.non_finite is 3");
  OPTIONS_REFUSED(options.absent_gradients = ZEROMINI_IGNORE,
                  "zeromini_options.absent_gradients is 2");
  OPTIONS_REFUSED(
      (options.non_finite = ZEROMINI_IGNORE, options.max_grad_norm = 1),
      "non_finite is ZEROMINI_IGNORE, but max_grad_norm is 1");
  OPTIONS_REFUSED(options.device = (zeromini_device)2,
                  "zeromini_options.device is 2");
  OPTIONS_REFUSED(options.kernels = (zeromini_kernels)2,
                  "zeromini_options.kernels is 2");
  OPTIONS_REFUSED(options.absent_gradients = (zeromini_on_bad_gradient)-1,
                  "zeromini_options.absent_gradients is -1");
  OPTIONS_REFUSED(options.memory = (zeromini_memory_form)2,
                  "zeromini_options.memory is 2");
  OPTIONS_REFUSED(options.naming = (zeromini_naming)2,
                  "zeromini_options.naming is 2");
  OPTIONS_REFUSED(options.value_blocks = (zeromini_value_blocks)2,
                  "zeromini_options.value_blocks is 2");
  OPTIONS_REFUSED(options.blocks = (zeromini_block_cuts)2,
                  "zeromini_options.blocks is 2");
  OPTIONS_REFUSED(options.bucketing = (zeromini_bucketing)2,
                  "zeromini_options.bucketing is 2");
  OPTIONS_REFUSED(options.second_moment = (zeromini_second_moment)2,
                  "zeromini_options.second_moment is 2");
  OPTIONS_REFUSED(options.gradient_wire = (zeromini_dtype)5,
                  "zeromini_options.gradient_wire is 5");
  OPTIONS_REFUSED(options.gradient_wire = (zeromini_dtype)77,
                  "zeromini_options.gradient_wire is 77, but must be "
                  "ZEROMINI_FLOAT32 or ZEROMINI_BFLOAT16");
  OPTIONS_REFUSED(options.weight_wire = ZEROMINI_FLOAT16,
                  "zeromini_options.weight_wire is 2, but must be "
                  "ZEROMINI_FLOAT32 or ZEROMINI_BFLOAT16");
  OPTIONS_REFUSED(options.master = (zeromini_master_format)4,
                  "zeromini_options.master is 4");
  OPTIONS_REFUSED(options.state = (zeromini_state_format)3,
                  "zeromini_options.state is 3");
}

static void EveryNumberOfTheOptionsIsChecked(void) {
  const zeromini_hyper_group hyper = Hyper();
  OPTIONS_REFUSED(options.stage = 0, "stage must be 1, 2 or 3, got 0");
  OPTIONS_REFUSED(options.stage = 4, "stage");
  OPTIONS_REFUSED(
      options.num_hyper_groups = 2,
      "zeromini_options.hyper_groups is NULL, but num_hyper_groups is 2");
  OPTIONS_REFUSED(options.num_hyper_groups = -1,
                  "zeromini_options.num_hyper_groups is -1");
  OPTIONS_REFUSED((options.hyper_groups = &hyper, options.num_hyper_groups = 0),
                  "zeromini_options.num_hyper_groups is 0");
  OPTIONS_REFUSED(
      (options.hyper_groups = &hyper, options.num_hyper_groups = INT_MAX),
      "zeromini_options.num_hyper_groups");
  OPTIONS_REFUSED(options.max_grad_norm = -1, "max_grad_norm");
  OPTIONS_REFUSED(options.max_grad_norm = NAN, "max_grad_norm");
  OPTIONS_REFUSED(options.micro_steps = 0, "micro_steps");
  OPTIONS_REFUSED(options.hidden = -1, "zeromini_options.hidden is -1");
  OPTIONS_REFUSED(options.heads = -1, "zeromini_options.heads is -1");
  OPTIONS_REFUSED(options.kv_heads = -1, "zeromini_options.kv_heads is -1");
  OPTIONS_REFUSED(options.head_dim = -1, "zeromini_options.head_dim is -1");
  OPTIONS_REFUSED(options.bucket_bytes = -1, "zeromini_options.bucket_bytes");
  OPTIONS_REFUSED(options.buffer_budget_bytes = -1,
                  "zeromini_options.buffer_budget_bytes is -1");
  OPTIONS_REFUSED(options.collective_cost_bytes = -1,
                  "zeromini_options.collective_cost_bytes is -1");
  OPTIONS_REFUSED(options.copy_cost = -1, "copy_cost");
  OPTIONS_REFUSED(options.copy_cost = NAN, "copy_cost");
  OPTIONS_REFUSED(options.skip_above_grad_norm = -1, "skip_above_grad_norm");
  OPTIONS_REFUSED(options.max_grad_value = NAN, "max_grad_value");
  OPTIONS_REFUSED(options.gather_budget_bytes = -1, "gather_budget_bytes");
  OPTIONS_REFUSED(options.prefetch = -1, "prefetch");
  OPTIONS_REFUSED(options.shard_ranks = -1, "zeromini_options.shard_ranks");
  OPTIONS_REFUSED(options.shard_ranks = INT_MAX, "shard_ranks");
  OPTIONS_REFUSED(options.expert_slices = 0, "zeromini_options.expert_slices");
  OPTIONS_REFUSED(options.expert_slices = INT_MAX, "expert_slices");
}

#define STEP_REFUSED(change, named)                                   \
  do {                                                                \
    zeromini_step_options options = StepOptions();                    \
    change;                                                           \
    EXPECT(Give(optimizer) == ZEROMINI_OK);                           \
    REFUSED(zeromini_step(optimizer, &options, NULL, &error), named); \
  } while (0)

static void EveryFieldOfTheStepIsCheckedAndTrainingGoesOn(void) {
  const zeromini_step_options good = StepOptions();
  zeromini_group* group = zeromini_self();
  zeromini_optimizer* optimizer = Make(group);
  STEP_REFUSED(options.learning_rate = NAN, "learning");
  STEP_REFUSED(zeromini_step_options_init(&options, sizeof options),
               "not given");
  STEP_REFUSED(options.learning_rate = INFINITY, "learning");
  STEP_REFUSED(options.wait = 2, "zeromini_step_options.wait is 2");
  STEP_REFUSED(options.loss_scale = 0, "loss scale");
  STEP_REFUSED(options.loss_scale = NAN, "loss scale");
  EXPECT(Give(optimizer) == ZEROMINI_OK);
  ACCEPTED(zeromini_step(optimizer, &good, NULL, &error));
  zeromini_optimizer_destroy(optimizer);
  zeromini_group_destroy(group);
}

static const NamedTest kTests[] = {
    TEST(AZeroedStructIsRefusedWhereverOneIsTaken),
    TEST(ASizeThatNoVersionHadIsRefused),
    TEST(AnInitFunctionLeavesWhatNoStructCanBeToBeRefused),
    TEST(AnArrayOfDifferentSizesIsRefused),
    TEST(AFieldThatTheLibraryDoesNotKnowIsRefusedOnlyIfItIsSet),
    TEST(EveryFieldOfAParameterIsChecked),
    TEST(EveryFieldOfAGroupIsChecked),
    TEST(EveryEnumOfTheOptionsIsChecked),
    TEST(EveryNumberOfTheOptionsIsChecked),
    TEST(EveryFieldOfTheStepIsCheckedAndTrainingGoesOn),
};

int main(void) { return RunAll(kTests, sizeof kTests / sizeof *kTests); }
