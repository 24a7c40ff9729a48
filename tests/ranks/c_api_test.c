/* The C API from C99; the same file is built as C++17, too. */

#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "zeromini/c.h"

static const char* test_name = "";

#define EXPECT(condition)                                                 \
  do {                                                                    \
    if (!(condition)) {                                                   \
      fprintf(stderr, "%s:%d: in %s: not true: %s\n", __FILE__, __LINE__, \
              test_name, #condition);                                     \
      exit(1);                                                            \
    }                                                                     \
  } while (0)

#define EXPECT_OK(call)                                                    \
  do {                                                                     \
    char* error = NULL;                                                    \
    const zeromini_code code = (call);                                     \
    if (code != ZEROMINI_OK) {                                             \
      fprintf(stderr, "%s:%d: in %s: %s\n", __FILE__, __LINE__, test_name, \
              error);                                                      \
      exit(1);                                                             \
    }                                                                      \
  } while (0)

enum { kRows = 6, kColumns = 4, kElements = kRows * kColumns, kRanks = 3 };
static const int64_t kShape[] = {kRows, kColumns};

static zeromini_param MatrixParam(float* data) {
  zeromini_param param;
  zeromini_param_init(&param, sizeof param);
  param.name = "matrix";
  param.shape = kShape;
  param.dims = 2;
  param.rule = ZEROMINI_RULE_ROWS;
  param.data = data;
  return param;
}

static zeromini_options Options(zeromini_hyper_group* hyper) {
  zeromini_options options;
  zeromini_hyper_group_init(hyper, sizeof *hyper);
  hyper->weight_decay = 0;
  zeromini_options_init(&options, sizeof options);
  options.hyper_groups = hyper;
  options.num_hyper_groups = 1;
  return options;
}

static zeromini_group_options Patience(double timeout_seconds) {
  zeromini_group_options options;
  zeromini_group_options_init(&options, sizeof options);
  options.timeout_seconds = timeout_seconds;
  return options;
}

static void InitFunctionsGiveTheDefaults(void) {
  zeromini_hyper_group hyper;
  zeromini_options options = Options(&hyper);
  zeromini_param param = MatrixParam(NULL);
  zeromini_group_options group;
  zeromini_plan_options plan;
  EXPECT(hyper.beta1 == 0.9 && hyper.beta2 == 0.95);
  EXPECT(hyper.learning_rate_scale == 1 && hyper.epsilon == 1e-8);
  EXPECT(options.algorithm == ZEROMINI_ADAM_MINI && options.stage == 1);
  EXPECT(options.non_finite == ZEROMINI_FAIL && options.micro_steps == 1);
  EXPECT(options.gradient_wire == ZEROMINI_FLOAT32);
  EXPECT(options.weight_wire == ZEROMINI_FLOAT32);
  EXPECT(options.device == ZEROMINI_HOST);
  EXPECT(options.kernels == ZEROMINI_KERNELS_NATIVE);
  EXPECT(options.buffer_budget_bytes == 0);
  EXPECT(options.copy_cost == 0.125);
  EXPECT(options.collective_cost_bytes == 128 << 10);
  EXPECT(options.blocks == ZEROMINI_BLOCKS_WHOLE);
  EXPECT(options.bucketing == ZEROMINI_BUCKETING_CHEAPEST);
  EXPECT(options.second_moment == ZEROMINI_SECOND_MOMENT_OFFICIAL);
  EXPECT(options.bucket_bytes == 0);
  EXPECT(param.slices == 1 && param.layer == -1);
  EXPECT(param.layer_set == ZEROMINI_LAYER_SET_OF_LAYER);
  zeromini_group_options_init(&group, sizeof group);
  EXPECT(group.timeout_seconds == 600 && group.num_hosts == 0);
  zeromini_plan_options_init(&plan, sizeof plan);
  EXPECT(plan.algorithm == ZEROMINI_ADAM_MINI && plan.stage == 1);
  EXPECT(plan.ranks == 1 && plan.replicas == 1);
  EXPECT(plan.buffer_budget_bytes == 0 && plan.copy_cost == 0.125);
  EXPECT(plan.collective_cost_bytes == 128 << 10 && plan.bucket_bytes == 0);
  EXPECT(plan.blocks == ZEROMINI_BLOCKS_WHOLE);
  EXPECT(plan.bucketing == ZEROMINI_BUCKETING_CHEAPEST);
  EXPECT(plan.second_moment == ZEROMINI_SECOND_MOMENT_OFFICIAL);
  EXPECT(plan.memory == ZEROMINI_MEMORY_EXTERNAL);
  EXPECT(strlen(zeromini_version()) >= 5);
}

/* What a program of an older header does not know keeps its default. */
static void AShorterStructKeepsTheLatersDefaults(void) {
  float weights[kElements] = {0};
  float gradient[kElements];
  char* error = NULL;
  struct {
    zeromini_step_report report;
  } mine;
  zeromini_hyper_group hyper;
  zeromini_options options = Options(&hyper);
  zeromini_param param = MatrixParam(weights);
  zeromini_step_options step_options;
  zeromini_group* group = zeromini_self();
  zeromini_optimizer* optimizer;
  int i;
  options.struct_size = offsetof(zeromini_options, gradient_wire);
  options.shard_ranks = 17; /* Beyond the size: not read. */
  optimizer = zeromini_optimizer_create(&options, &param, 1, group, &error);
  EXPECT(optimizer != NULL);
  for (i = 0; i < kElements; ++i) gradient[i] = 1;
  EXPECT_OK(zeromini_grad_ready(optimizer, 0, gradient, NULL, &error));
  zeromini_step_options_init(&step_options, sizeof step_options);
  EXPECT(step_options.learning_rate != step_options.learning_rate); /* NaN. */
  step_options.learning_rate = 0;
  memset(&mine, 0x5a, sizeof mine);
  mine.report.struct_size = offsetof(zeromini_step_report, inside_host_bytes);
  EXPECT_OK(zeromini_step(optimizer, &step_options, &mine.report, &error));
  EXPECT(mine.report.step == 1);
  EXPECT(mine.report.not_finite == 0x5a5a5a5a); /* Beyond: not written. */
  zeromini_optimizer_destroy(optimizer);
  zeromini_group_destroy(group);
}

static void FailuresGiveCodeAndMessage(void) {
  float weights[kElements] = {0};
  char* error = NULL;
  zeromini_hyper_group hyper;
  zeromini_options options = Options(&hyper);
  zeromini_param params[2];
  zeromini_group* group = zeromini_self();
  zeromini_group* none[1];
  zeromini_optimizer* optimizer;
  params[0] = MatrixParam(weights);
  params[1] = MatrixParam(weights);
  optimizer = zeromini_optimizer_create(&options, params, 2, group, &error);
  EXPECT(optimizer == NULL && error != NULL);
  EXPECT(strstr(error, "matrix") != NULL);
  zeromini_free(error);
  error = NULL;
  /* NULL for `error` is allowed. */
  EXPECT(zeromini_optimizer_create(&options, params, 2, group, NULL) == NULL);
  EXPECT(zeromini_thread_group(0, NULL, none, &error) ==
         ZEROMINI_INVALID_ARGUMENT);
  zeromini_free(error);
  error = NULL;
  optimizer = zeromini_optimizer_create(&options, params, 1, group, &error);
  EXPECT(optimizer != NULL && error == NULL);
  EXPECT(zeromini_grad_ready(optimizer, 7, weights, NULL, NULL) ==
         ZEROMINI_INVALID_ARGUMENT);
  EXPECT(zeromini_consolidated_state(optimizer, -1, NULL, NULL, NULL, NULL) ==
         ZEROMINI_INVALID_ARGUMENT);
  EXPECT(zeromini_param_data(optimizer, 7) == NULL);
  EXPECT(zeromini_momentum_count(optimizer, 7) == 0);
  zeromini_optimizer_destroy(optimizer);
  zeromini_group_destroy(group);
  zeromini_optimizer_destroy(NULL);
  zeromini_group_destroy(NULL);
  zeromini_stream_destroy(NULL);
  zeromini_mpi_session_destroy(NULL);
}

/* Gradient of element i: its row's sign is the row's parity. */
static float Gradient(int i) { return (i / kColumns) % 2 == 0 ? 0.5f : -0.25f; }

static void CheckFirstStep(zeromini_optimizer* optimizer,
                           const float* weights) {
  float momentum[kElements];
  float second[kRows];
  int64_t steps = 0;
  int i;
  /* All of a row is equal, so the first step is the learning rate. */
  for (i = 0; i < kElements; ++i) {
    const float expected = Gradient(i) > 0 ? -0.1f : 0.1f;
    EXPECT(fabsf(weights[i] - expected) < 1e-6f);
  }
  EXPECT(zeromini_momentum_count(optimizer, 0) == kElements);
  EXPECT(zeromini_second_moment_count(optimizer, 0) == kRows);
  EXPECT_OK(zeromini_consolidated_state(optimizer, 0, momentum, second, &steps,
                                        &error));
  EXPECT(steps == 1);
  for (i = 0; i < kElements; ++i) {
    EXPECT(fabsf(momentum[i] - 0.1f * Gradient(i)) < 1e-7f);
  }
  EXPECT(fabsf(second[0] - 0.05f * 0.25f) < 1e-7f);
}

static void CheckReports(zeromini_optimizer* optimizer,
                         const zeromini_step_report* report) {
  zeromini_memory_report memory;
  zeromini_traffic traffic;
  zeromini_level_traffic levels;
  char* text;
  EXPECT(report->step == 1 && report->skipped == 0);
  EXPECT(report->skipped_because[0] == '\0');
  EXPECT(fabs(report->grad_norm - sqrt(12 * 0.25 + 12 * 0.0625)) < 1e-6);
  EXPECT(report->traffic.bytes[0] > 0 && report->traffic.bytes[1] > 0);
  zeromini_optimizer_traffic(optimizer, &traffic);
  EXPECT(traffic.bytes[1] >= report->traffic.bytes[1]);
  EXPECT(report->inside_host_bytes[0] == report->traffic.bytes[0]);
  zeromini_level_traffic_init(&levels, sizeof levels);
  zeromini_optimizer_level_traffic(optimizer, &levels);
  EXPECT(levels.inside_host_bytes[0] == traffic.bytes[0]);
  EXPECT(levels.between_hosts_bytes[0] == 0);
  zeromini_memory_report_init(&memory, sizeof memory);
  zeromini_memory(optimizer, &memory);
  EXPECT(memory.momentum >= kElements / kRanks * 4 && memory.master == 0);
  EXPECT(memory.tables > 0 && memory.method_state == 0);
  text = zeromini_plan_json(zeromini_optimizer_plan(optimizer));
  EXPECT(text[0] == '{' && strstr(text, "matrix") != NULL);
  zeromini_free(text);
  text = zeromini_plan_table(zeromini_optimizer_plan(optimizer));
  EXPECT(strlen(text) > 0);
  zeromini_free(text);
  EXPECT(zeromini_plan_hash(zeromini_optimizer_plan(optimizer)) != 0);
}

/* Rank r sends r + 1 elements, its rank, to each rank. */
static void CheckAllToAll(zeromini_group* group, int rank) {
  float in[kRanks * kRanks];
  float out[1 + 2 + 3];
  int64_t sent[kRanks];
  const int64_t received[kRanks] = {1, 2, 3};
  zeromini_level_traffic levels;
  char* text;
  int i;
  for (i = 0; i < kRanks; ++i) sent[i] = rank + 1;
  for (i = 0; i < kRanks * kRanks; ++i) in[i] = (float)rank;
  EXPECT_OK(zeromini_all_to_all_v(group, in, sent, out, received,
                                  ZEROMINI_FLOAT32, &error));
  EXPECT(out[0] == 0 && out[1] == 1 && out[2] == 1 && out[5] == 2);
  EXPECT_OK(zeromini_group_finish(group, 30, &error));
  zeromini_level_traffic_init(&levels, sizeof levels);
  EXPECT(zeromini_group_level_traffic(group, &levels) == ZEROMINI_OK);
  EXPECT(levels.inside_host_bytes[4] >= 2 * (rank + 1) * 4);
  text = zeromini_group_in_flight(group);
  EXPECT(strstr(text, "in no exchange") != NULL);
  zeromini_free(text);
}

static void CheckCollectives(zeromini_group* group) {
  const int rank = zeromini_group_rank(group);
  float sum[2];
  float all[kRanks];
  float part[kRanks] = {1, 2, 3};
  float mine = (float)rank;
  zeromini_group* even = NULL;
  sum[0] = 1;
  sum[1] = (float)rank;
  EXPECT(zeromini_group_size(group) == kRanks);
  EXPECT(strcmp(zeromini_group_backend(group), "threads") == 0);
  EXPECT(zeromini_group_timeout(group) == 30);
  EXPECT(zeromini_group_overlaps(group) == 1);
  EXPECT_OK(zeromini_all_reduce(group, sum, 2, ZEROMINI_FLOAT32, ZEROMINI_SUM,
                                &error));
  EXPECT(sum[0] == kRanks && sum[1] == 3);
  EXPECT_OK(
      zeromini_all_gather(group, &mine, all, 1, ZEROMINI_FLOAT32, &error));
  EXPECT(all[0] == 0 && all[2] == 2);
  EXPECT_OK(
      zeromini_reduce_scatter(group, part, &mine, 1, ZEROMINI_FLOAT32, &error));
  EXPECT(mine == (float)(kRanks * (rank + 1)));
  CheckAllToAll(group, rank);
  EXPECT_OK(zeromini_broadcast(group, sum, sizeof sum, 1, &error));
  EXPECT_OK(zeromini_barrier(group, &error));
  EXPECT_OK(zeromini_group_split(group, rank == 1 ? -1 : 0, 0, &even, &error));
  EXPECT((even == NULL) == (rank == 1));
  if (even != NULL) {
    EXPECT(zeromini_group_size(even) == 2);
    EXPECT_OK(zeromini_group_close(even, &error));
    zeromini_group_destroy(even);
  }
}

static void* TrainOnRank(void* context) {
  zeromini_group* group = (zeromini_group*)context;
  float weights[kElements] = {0};
  float gradient[kElements];
  char* failure = NULL;
  zeromini_hyper_group hyper;
  zeromini_options options = Options(&hyper);
  zeromini_param param = MatrixParam(weights);
  zeromini_step_options step_options;
  zeromini_step_report report;
  zeromini_optimizer* optimizer;
  int i;
  options.stage = 2;
  CheckCollectives(group);
  optimizer = zeromini_optimizer_create(&options, &param, 1, group, &failure);
  EXPECT(optimizer != NULL);
  EXPECT_OK(zeromini_broadcast_params(optimizer, &error));
  for (i = 0; i < kElements; ++i) gradient[i] = Gradient(i);
  EXPECT_OK(zeromini_grad_ready(optimizer, 0, gradient, NULL, &error));
  zeromini_step_options_init(&step_options, sizeof step_options);
  zeromini_step_report_init(&report, sizeof report);
  step_options.learning_rate = 0.1;
  step_options.wait = 0;
  EXPECT_OK(zeromini_step(optimizer, &step_options, &report, &error));
  EXPECT_OK(zeromini_wait_param(optimizer, 0, NULL, &error));
  EXPECT_OK(zeromini_wait_all(optimizer, &error));
  CheckFirstStep(optimizer, weights);
  CheckReports(optimizer, &report);
  hyper.beta1 = 0.5;
  EXPECT_OK(zeromini_set_hyper_group(optimizer, 0, &hyper, &error));
  EXPECT_OK(zeromini_optimizer_close(optimizer, &error));
  EXPECT_OK(zeromini_group_close(group, &error));
  zeromini_optimizer_destroy(optimizer);
  zeromini_group_destroy(group);
  return NULL;
}

static void RanksAsThreadsTrainTogether(void) {
  zeromini_group* groups[kRanks];
  pthread_t threads[kRanks];
  const zeromini_group_options patience = Patience(30);
  int r;
  EXPECT_OK(zeromini_thread_group(kRanks, &patience, groups, &error));
  for (r = 0; r < kRanks; ++r) {
    EXPECT(pthread_create(&threads[r], NULL, TrainOnRank, groups[r]) == 0);
  }
  for (r = 0; r < kRanks; ++r) pthread_join(threads[r], NULL);
}

static void FlatMemoryIsOwnedByTheOptimizer(void) {
  char* failure = NULL;
  zeromini_hyper_group hyper;
  zeromini_options options = Options(&hyper);
  zeromini_param param = MatrixParam(NULL);
  zeromini_step_options step_options;
  zeromini_group* group = zeromini_self();
  zeromini_optimizer* optimizer;
  float* weights;
  float* gradient;
  int i;
  options.memory = ZEROMINI_MEMORY_FLAT;
  optimizer = zeromini_optimizer_create(&options, &param, 1, group, &failure);
  EXPECT(optimizer != NULL);
  weights = (float*)zeromini_param_data(optimizer, 0);
  gradient = zeromini_grad_data(optimizer, 0);
  EXPECT(weights != NULL && gradient != NULL);
  for (i = 0; i < kElements; ++i) {
    weights[i] = 0;
    gradient[i] = Gradient(i);
  }
  EXPECT_OK(zeromini_grad_ready(optimizer, 0, NULL, NULL, &error));
  zeromini_step_options_init(&step_options, sizeof step_options);
  step_options.learning_rate = 0.1;
  EXPECT_OK(zeromini_step(optimizer, &step_options, NULL, &error));
  CheckFirstStep(optimizer, weights);
  zeromini_optimizer_destroy(optimizer);
  zeromini_group_destroy(group);
}

/* bf16 patterns: 1 is 0x3f80. Stage 3 on one rank. */
static void ShardedWeightsAreGatheredAndReleased(void) {
  uint16_t weights[kElements];
  char* failure = NULL;
  zeromini_hyper_group hyper;
  zeromini_options options = Options(&hyper);
  zeromini_param param = MatrixParam(NULL);
  zeromini_step_options step_options;
  zeromini_memory_report memory;
  zeromini_group* group = zeromini_self();
  zeromini_optimizer* optimizer;
  int i;
  const char* pattern = "mat*";
  zeromini_hyper_group groups[2];
  groups[0] = hyper;
  zeromini_hyper_group_init(&groups[1], sizeof groups[1]);
  groups[1].own_algorithm = ZEROMINI_SGD;
  groups[1].patterns = &pattern;
  groups[1].num_patterns = 1;
  options.hyper_groups = groups;
  options.num_hyper_groups = 2;
  options.stage = 3;
  options.memory = ZEROMINI_MEMORY_FLAT;
  options.master = ZEROMINI_MASTER_REMAINDER16;
  options.state = ZEROMINI_STATE_BFLOAT16;
  param.dtype = ZEROMINI_BFLOAT16;
  param.layer_set = 5;
  optimizer = zeromini_optimizer_create(&options, &param, 1, group, &failure);
  EXPECT(optimizer != NULL);
  for (i = 0; i < kElements; ++i) weights[i] = 0x3f80;
  EXPECT_OK(zeromini_set_param(optimizer, 0, weights, &error));
  EXPECT(zeromini_param_data(optimizer, 0) == NULL);
  EXPECT_OK(zeromini_gather(optimizer, 5, ZEROMINI_PASS_FORWARD, &error));
  EXPECT_OK(zeromini_wait_param(optimizer, 0, NULL, &error));
  EXPECT(memcmp(zeromini_param_data(optimizer, 0), weights, sizeof weights) ==
         0);
  EXPECT_OK(zeromini_grad_ready(optimizer, 0, weights, NULL, &error));
  EXPECT_OK(zeromini_release(optimizer, 5, NULL, &error));
  EXPECT(zeromini_gather(optimizer, 6, ZEROMINI_PASS_NONE, NULL) ==
         ZEROMINI_INVALID_ARGUMENT);
  zeromini_memory_report_init(&memory, sizeof memory);
  zeromini_memory(optimizer, &memory);
  /* Weights, remainder and momentum of 2 bytes each; SGD has no v. */
  EXPECT(memory.weights == 2 * kElements && memory.master == 2 * kElements);
  EXPECT(memory.momentum == 2 * kElements && memory.second_moment == 0);
  EXPECT(memory.gathered == 2 * kElements);
  zeromini_step_options_init(&step_options, sizeof step_options);
  step_options.learning_rate = 0.5;
  EXPECT_OK(zeromini_step(optimizer, &step_options, NULL, &error));
  EXPECT(zeromini_param_data(optimizer, 0) == NULL);
  zeromini_optimizer_destroy(optimizer);
  zeromini_group_destroy(group);
}

/* 1/3 is no bf16 number; half an ulp of one is 2^-10. */
static void WireFormatsAndLevelsPassThrough(void) {
  float weights[kElements];
  float gradient[kElements];
  char* failure = NULL;
  zeromini_hyper_group hyper;
  zeromini_options options = Options(&hyper);
  zeromini_param param = MatrixParam(weights);
  zeromini_step_options step_options;
  zeromini_step_report report;
  zeromini_memory_report memory;
  zeromini_level_traffic levels;
  zeromini_group* group = zeromini_self();
  zeromini_optimizer* optimizer;
  int i;
  options.gradient_wire = ZEROMINI_FLOAT16;
  EXPECT(zeromini_optimizer_create(&options, &param, 1, group, &failure) ==
         NULL);
  EXPECT(strstr(failure, "gradient_wire") != NULL);
  zeromini_free(failure);
  options.gradient_wire = ZEROMINI_BFLOAT16;
  options.weight_wire = ZEROMINI_BFLOAT16;
  optimizer = zeromini_optimizer_create(&options, &param, 1, group, &failure);
  EXPECT(optimizer != NULL);
  for (i = 0; i < kElements; ++i) {
    weights[i] = 1.0f / 3;
    gradient[i] = 1;
  }
  EXPECT_OK(zeromini_grad_ready(optimizer, 0, gradient, NULL, &error));
  zeromini_step_options_init(&step_options, sizeof step_options);
  zeromini_step_report_init(&report, sizeof report);
  step_options.learning_rate = 0;
  EXPECT_OK(zeromini_step(optimizer, &step_options, &report, &error));
  for (i = 0; i < kElements; ++i) EXPECT(weights[i] == 171.0f / 512);
  zeromini_memory_report_init(&memory, sizeof memory);
  zeromini_memory(optimizer, &memory);
  EXPECT(memory.master == kElements * 4);
  zeromini_level_traffic_init(&levels, sizeof levels);
  levels.inside_host_bytes[1] = 7;
  zeromini_optimizer_level_traffic(optimizer, &levels);
  EXPECT(levels.struct_size == sizeof levels);
  EXPECT(levels.inside_host_bytes[1] == 0); /* One rank sends nothing. */
  EXPECT(report.inside_host_bytes[1] == 0 &&
         report.between_hosts_bytes[1] == 0);
  zeromini_optimizer_destroy(optimizer);
  zeromini_group_destroy(group);
}

static void AnAbortedGroupSaysWhy(void) {
  zeromini_group* groups[2];
  char* failure = NULL;
  EXPECT_OK(zeromini_thread_group(2, NULL, groups, &error));
  zeromini_group_abort(groups[0], "the data ran out");
  EXPECT(zeromini_barrier(groups[1], &failure) != ZEROMINI_OK);
  EXPECT(strstr(failure, "the data ran out") != NULL);
  zeromini_free(failure);
  zeromini_group_destroy(groups[0]);
  zeromini_group_destroy(groups[1]);
}

#define RUN(test)                \
  do {                           \
    test_name = #test;           \
    test();                      \
    printf("%s: good\n", #test); \
  } while (0)

int main(void) {
  RUN(InitFunctionsGiveTheDefaults);
  RUN(AShorterStructKeepsTheLatersDefaults);
  RUN(FailuresGiveCodeAndMessage);
  RUN(RanksAsThreadsTrainTogether);
  RUN(FlatMemoryIsOwnedByTheOptimizer);
  RUN(ShardedWeightsAreGatheredAndReleased);
  RUN(WireFormatsAndLevelsPassThrough);
  RUN(AnAbortedGroupSaysWhy);
  return 0;
}
