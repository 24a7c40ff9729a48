/* Plans, who joins a group and who has state, and reports that come later. */

#define _POSIX_C_SOURCE 200809L
#include "c_refusals.h"

static zeromini_param MatrixOf(float* data) {
  zeromini_param param = Matrix();
  param.data = data;
  return param;
}

/* Both policies are SKIP, so that nothing need be told at once. */
static void AStepThatIsNotWaitedForIsReportedLater(void) {
  float weights[kElements] = {0};
  float bad[kElements];
  zeromini_options options = Options();
  zeromini_param param = MatrixOf(weights);
  zeromini_step_options step_options = StepOptions();
  zeromini_step_report report;
  zeromini_group* group = zeromini_self();
  zeromini_optimizer* optimizer;
  int i;
  options.absent_gradients = ZEROMINI_SKIP;
  options.non_finite = ZEROMINI_SKIP;
  optimizer = zeromini_optimizer_create(&options, &param, 1, group, NULL);
  for (i = 0; i < kElements; ++i) bad[i] = i == 3 ? (float)NAN : 1;
  ACCEPTED(zeromini_grad_ready(optimizer, 0, bad, NULL, &error));
  zeromini_step_report_init(&report, sizeof report);
  step_options.wait = 0;
  ACCEPTED(zeromini_step(optimizer, &step_options, &report, &error));
  EXPECT(report.pending == 1 && report.skipped == 0);
  ACCEPTED(zeromini_wait_all(optimizer, &error));
  EXPECT(zeromini_last_report(optimizer, &report) == ZEROMINI_OK);
  EXPECT(report.pending == 0 && report.skipped == 1 && report.not_finite == 1);
  EXPECT(report.traffic.calls[0] > 0);
  EXPECT(strstr(report.skipped_because, "matrix") != NULL);
  zeromini_optimizer_destroy(optimizer);
  zeromini_group_destroy(group);
}

static void WhatIsFrozenOrTiedHasNoState(void) {
  float weights[2][kElements] = {{0}};
  zeromini_options options = Options();
  zeromini_param params[3];
  zeromini_group* group = zeromini_self();
  zeromini_optimizer* optimizer;
  params[0] = MatrixOf(weights[0]);
  params[1] = MatrixOf(weights[1]);
  params[1].name = "frozen";
  params[1].frozen = 1;
  params[2] = MatrixOf(weights[0]);
  params[2].name = "tied";
  params[2].tied_to = "matrix";
  optimizer = zeromini_optimizer_create(&options, params, 3, group, NULL);
  EXPECT(optimizer != NULL);
  EXPECT(zeromini_momentum_count(optimizer, 0) == kElements);
  EXPECT(zeromini_second_moment_count(optimizer, 0) == kRows);
  EXPECT(zeromini_momentum_count(optimizer, 1) == 0);
  EXPECT(zeromini_second_moment_count(optimizer, 1) == 0);
  EXPECT(zeromini_momentum_count(optimizer, 2) == 0);
  EXPECT(zeromini_second_moment_count(optimizer, 2) == 0);
  EXPECT(zeromini_consolidated_state(optimizer, 1, NULL, NULL, NULL, NULL) ==
         ZEROMINI_INVALID_ARGUMENT);
  zeromini_optimizer_destroy(optimizer);
  zeromini_group_destroy(group);
}

/* Fused: those of six rows, in segments that it was given with. */
static int HasSixRows(void* context, const zeromini_param* param) {
  ++*(int*)context;
  return param->struct_size == sizeof *param && param->dims == 2 &&
         param->shape[0] == kRows && param->num_segments == 1 &&
         param->segments[0].rows == kRows &&
         param->segments[0].kind == ZEROMINI_BLOCK_HEAD &&
         param->segments[0].form == ZEROMINI_FORM_COLUMNS &&
         param->data != NULL;
}

static void APredicateSaysWhoJoinsAGroup(void) {
  static const zeromini_segment whole[] = {
      {kRows, 1, ZEROMINI_BLOCK_HEAD, ZEROMINI_FORM_COLUMNS}};
  static const int64_t flat[] = {kElements};
  float weights[2][kElements] = {{0}};
  int calls = 0;
  char* json;
  zeromini_hyper_group groups[2];
  zeromini_options options = Options();
  zeromini_param params[2];
  zeromini_group* group = zeromini_self();
  zeromini_optimizer* optimizer;
  groups[0] = Hyper();
  groups[1] = Hyper();
  groups[1].own_algorithm = ZEROMINI_SGD;
  groups[1].matches = HasSixRows;
  groups[1].matches_context = &calls;
  options.hyper_groups = groups;
  options.num_hyper_groups = 2;
  params[0] = MatrixOf(weights[0]);
  params[0].rule = ZEROMINI_RULE_FUSED;
  params[0].segments = whole;
  params[0].num_segments = 1;
  params[1] = MatrixOf(weights[1]);
  params[1].name = "other";
  params[1].shape = flat;
  params[1].dims = 1;
  params[1].rule = ZEROMINI_RULE_ELEMENT;
  optimizer = zeromini_optimizer_create(&options, params, 2, group, NULL);
  EXPECT(optimizer != NULL && calls >= 2);
  EXPECT(zeromini_second_moment_count(optimizer, 0) == 0); /* SGD's. */
  EXPECT(zeromini_second_moment_count(optimizer, 1) == kElements);
  json = zeromini_plan_json(zeromini_optimizer_plan(optimizer));
  EXPECT(strstr(json, "\"hyper_group\":1") != NULL);
  zeromini_free(json);
  zeromini_optimizer_destroy(optimizer);
  zeromini_group_destroy(group);
}

static void PlansAreMadeWithoutAGroupAndMapped(void) {
  zeromini_plan_options options = PlanOptions();
  zeromini_param param = MatrixOf(NULL);
  zeromini_plan* one;
  zeromini_plan* three;
  zeromini_move* moves = NULL;
  int64_t num_moves = 0, rows = 0, momentum = 0, i;
  char* text;
  one = zeromini_make_plan(&options, &param, 1, NULL);
  options.ranks = 3;
  three = zeromini_make_plan(&options, &param, 1, NULL);
  EXPECT(one != NULL && three != NULL);
  EXPECT(zeromini_plan_hash(one) != zeromini_plan_hash(three));
  text = zeromini_plan_json(three);
  EXPECT(strstr(text, "\"ranks\":3") != NULL);
  zeromini_free(text);
  ACCEPTED(zeromini_make_map(one, three, 1, &moves, &num_moves, &error));
  EXPECT(num_moves == 3);
  for (i = 0; i < num_moves; ++i) {
    EXPECT(moves[i].from_rank == 0 && moves[i].to_rank == i);
    EXPECT(moves[i].second_moments == moves[i].blocks);
    rows += moves[i].rows;
    momentum += moves[i].momentum;
  }
  EXPECT(rows == kRows && momentum == kElements);
  zeromini_free(moves);
  zeromini_plan_destroy(one);
  zeromini_plan_destroy(three);
}

/* Each differs from its default. */
#define LAY_OUT_ODDLY(options)                                 \
  do {                                                         \
    (options).blocks = ZEROMINI_BLOCKS_SPLIT_AT_CUTS;          \
    (options).bucketing = ZEROMINI_BUCKETING_BY_LAYER;         \
    (options).memory = ZEROMINI_MEMORY_FLAT;                   \
    (options).bucket_bytes = 4096;                             \
    (options).buffer_budget_bytes = 8192;                      \
    (options).copy_cost = 0.5;                                 \
    (options).collective_cost_bytes = 16384;                   \
    (options).value_blocks = ZEROMINI_VALUE_WHOLE;             \
    (options).second_moment = ZEROMINI_SECOND_MOMENT_FACTORED; \
  } while (0)

static void IsLaidOutOddly(zeromini_plan* plan) {
  char* json = zeromini_plan_json(plan);
  EXPECT(strstr(json, "\"blocks\":\"split\"") != NULL);
  EXPECT(strstr(json, "\"bucketing\":\"layer\"") != NULL);
  EXPECT(strstr(json, "\"memory\":\"flat\"") != NULL);
  EXPECT(strstr(json, "\"bucket_bytes\":4096,") != NULL);
  EXPECT(strstr(json, "\"buffer_budget_bytes\":8192,") != NULL);
  EXPECT(strstr(json, "\"copy_cost\":0.5,") != NULL);
  EXPECT(strstr(json, "\"collective_cost_bytes\":16384,") != NULL);
  EXPECT(strstr(json, "\"value_blocks\":\"whole\"") != NULL);
  EXPECT(strstr(json, "\"second_moment\":\"factored\"") != NULL);
  zeromini_free(json);
  zeromini_plan_destroy(plan);
}

static void EachOptionOfTheLayoutReachesThePlan(void) {
  zeromini_plan_options plan = PlanOptions();
  zeromini_options options = Options();
  const zeromini_param param = MatrixOf(NULL);
  LAY_OUT_ODDLY(plan);
  LAY_OUT_ODDLY(options);
  IsLaidOutOddly(zeromini_make_plan(&plan, &param, 1, NULL));
  IsLaidOutOddly(zeromini_plan_for(&options, &param, 1, 2, NULL));
}

/* Of a matrix by `rule` or, with ZEROMINI_RULE_FUSED, one half factored. */
static int64_t SecondMoments(zeromini_second_moment form,
                             zeromini_rule_kind rule) {
  static const zeromini_segment halves[] = {
      {kRows / 2, kRows / 2, ZEROMINI_BLOCK_AUTO, ZEROMINI_FORM_BLOCKS},
      {kRows / 2, 1, ZEROMINI_BLOCK_AUTO, ZEROMINI_FORM_FACTORED}};
  float weights[kElements] = {0};
  zeromini_options options = Options();
  zeromini_param param = MatrixOf(weights);
  zeromini_group* group = zeromini_self();
  zeromini_optimizer* optimizer;
  int64_t count;
  options.second_moment = form;
  param.rule = rule;
  if (rule == ZEROMINI_RULE_FUSED) {
    param.segments = halves;
    param.num_segments = 2;
  }
  optimizer = zeromini_optimizer_create(&options, &param, 1, group, NULL);
  EXPECT(optimizer != NULL);
  count = zeromini_second_moment_count(optimizer, 0);
  zeromini_optimizer_destroy(optimizer);
  zeromini_group_destroy(group);
  return count;
}

static void ARuleChoosesTheFormOfSecondMomentsWhateverTheOptionSays(void) {
  const zeromini_second_moment official = ZEROMINI_SECOND_MOMENT_OFFICIAL;
  const zeromini_second_moment factored = ZEROMINI_SECOND_MOMENT_FACTORED;
  const int64_t columns = kElements / kRows;
  EXPECT(SecondMoments(official, ZEROMINI_RULE_AUTO) == kRows);
  EXPECT(SecondMoments(factored, ZEROMINI_RULE_AUTO) == kRows + columns);
  EXPECT(SecondMoments(factored, ZEROMINI_RULE_WHOLE) == 1);
  EXPECT(SecondMoments(official, ZEROMINI_RULE_FACTORED) == kRows + columns);
  EXPECT(SecondMoments(official, ZEROMINI_RULE_COLUMNS) == columns);
  EXPECT(SecondMoments(official, ZEROMINI_RULE_FUSED) ==
         1 + kRows / 2 + columns);
}

/* With rows of it, each rank gets the averages of its columns. */
static void MovesOfAFactoredMatrixBringItsColumns(void) {
  zeromini_plan_options options = PlanOptions();
  zeromini_param param = MatrixOf(NULL);
  zeromini_plan* one;
  zeromini_plan* three;
  zeromini_move* moves = NULL;
  int64_t n = 0, i;
  param.rule = ZEROMINI_RULE_FACTORED;
  one = zeromini_make_plan(&options, &param, 1, NULL);
  options.ranks = 3;
  three = zeromini_make_plan(&options, &param, 1, NULL);
  ACCEPTED(zeromini_make_map(one, three, 1, &moves, &n, &error));
  EXPECT(n == 3);
  for (i = 0; i < n; ++i) {
    EXPECT(moves[i].first_matrix == 0 && moves[i].matrices == 1);
    EXPECT(moves[i].second_moments == moves[i].blocks + kElements / kRows);
  }
  zeromini_free(moves);
  zeromini_plan_destroy(one);
  zeromini_plan_destroy(three);
}

static zeromini_memory_report MemoryOf(const zeromini_plan* plan, int rank) {
  zeromini_memory_report report;
  zeromini_memory_report_init(&report, sizeof report);
  ACCEPTED(zeromini_memory_of(plan, rank, &report, &error));
  return report;
}

static zeromini_step_bytes StepBytesOf(const zeromini_plan* plan) {
  zeromini_step_bytes bytes;
  zeromini_step_bytes_init(&bytes, sizeof bytes);
  ACCEPTED(zeromini_step_bytes_of(plan, 0, &bytes, &error));
  return bytes;
}

/* Rows that are columns at rest are packed, and an fp32 master is kept. */
static void APlanTellsWhatAStepHoldsAndSends(void) {
  zeromini_options options = Options();
  zeromini_param param = MatrixOf(weights);
  zeromini_group* group = zeromini_self();
  zeromini_optimizer* optimizer;
  zeromini_plan* plan;
  zeromini_memory_report planned, held;
  zeromini_step_bytes bytes;
  zeromini_step_report report;
  int i;
  const zeromini_step_options step = StepOptions();
  options.weight_wire = ZEROMINI_BFLOAT16;
  param.output_is_last = 1;
  plan = zeromini_plan_for(&options, &param, 1, 1, NULL);
  optimizer = zeromini_optimizer_create(&options, &param, 1, group, NULL);
  EXPECT(plan != NULL && optimizer != NULL);
  ACCEPTED(zeromini_grad_ready(optimizer, 0, gradient, NULL, &error));
  zeromini_step_report_init(&report, sizeof report);
  ACCEPTED(zeromini_step(optimizer, &step, &report, &error));
  zeromini_memory_report_init(&held, sizeof held);
  EXPECT(zeromini_memory(optimizer, &held) == ZEROMINI_OK);
  planned = MemoryOf(plan, 0);
  EXPECT(held.master > 0 && held.momentum > 0);
  planned.peak = held.peak; /* A bound. */
  EXPECT(memcmp(&planned, &held, sizeof held) == 0);
  bytes = StepBytesOf(plan);
  EXPECT(report.traffic.calls[1] > 0);
  for (i = 0; i < 3; ++i) {
    EXPECT(bytes.traffic.calls[i] == report.traffic.calls[i]);
    EXPECT(bytes.traffic.bytes[i] == report.traffic.bytes[i]);
  }
  planned = MemoryOf(zeromini_optimizer_plan(optimizer), 0);
  EXPECT(planned.master == held.master);
  EXPECT(zeromini_plan_hash(plan) ==
         zeromini_plan_hash(zeromini_optimizer_plan(optimizer)));
  zeromini_plan_destroy(plan);
  zeromini_optimizer_destroy(optimizer);
  zeromini_group_destroy(group);
}

static void OfTwoRanksEachSendsHalf(void) {
  zeromini_options options = Options();
  const zeromini_param param = MatrixOf(NULL);
  zeromini_plan* plan;
  zeromini_step_bytes bytes;
  options.weight_wire = ZEROMINI_BFLOAT16;
  options.micro_steps = 2;
  plan = zeromini_plan_for(&options, &param, 1, 2, NULL);
  bytes = StepBytesOf(plan);
  EXPECT(bytes.traffic.bytes[0] == kElements * 4 / 2);
  EXPECT(bytes.traffic.bytes[1] == kElements * 2 / 2);
  EXPECT(bytes.copied_gradients == 2 * kElements * 4);
  EXPECT(bytes.copied_weights == kElements * 4);
  EXPECT(bytes.traffic.bytes[2] > 0 && bytes.traffic.bytes[3] == 0);
  zeromini_plan_destroy(plan);
}

/* Of three heads, rank 0 has two. */
static void TheLargestRankHoldsMost(void) {
  const zeromini_options options = Options();
  zeromini_param param = MatrixOf(NULL);
  zeromini_plan* plan;
  param.rule = ZEROMINI_RULE_HEADS;
  param.rows_per_head = 2;
  plan = zeromini_plan_for(&options, &param, 1, 2, NULL);
  EXPECT(zeromini_largest_rank(plan) == 0);
  EXPECT(MemoryOf(plan, 0).momentum == 2 * MemoryOf(plan, 1).momentum);
  zeromini_plan_destroy(plan);
}

static void WhatTheLibraryWasBuiltWithHasADescription(void) {
  int available = -1;
  char* text = zeromini_mpi_description(&available);
  EXPECT(strlen(text) > 0 && (available == 0 || available == 1));
  zeromini_free(text);
  text = zeromini_nccl_description(&available);
  EXPECT(strlen(text) > 0 && (available == 0 || available == 1));
  zeromini_free(text);
}

static const NamedTest kTests[] = {
    TEST(AStepThatIsNotWaitedForIsReportedLater),
    TEST(WhatIsFrozenOrTiedHasNoState),
    TEST(APredicateSaysWhoJoinsAGroup),
    TEST(PlansAreMadeWithoutAGroupAndMapped),
    TEST(EachOptionOfTheLayoutReachesThePlan),
    TEST(ARuleChoosesTheFormOfSecondMomentsWhateverTheOptionSays),
    TEST(MovesOfAFactoredMatrixBringItsColumns),
    TEST(APlanTellsWhatAStepHoldsAndSends),
    TEST(OfTwoRanksEachSendsHalf),
    TEST(TheLargestRankHoldsMost),
    TEST(WhatTheLibraryWasBuiltWithHasADescription),
};

int main(void) { return RunAll(kTests, sizeof kTests / sizeof *kTests); }
