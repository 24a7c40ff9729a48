/* Arguments of c.h's functions that are NULL or out of range. */

#define _POSIX_C_SOURCE 200809L
#include "c_refusals.h"

static void GroupsRefuseBadArguments(void) {
  const zeromini_group_options none = GroupOptions(0);
  zeromini_group* groups[1];
  int comm = 0;
  REFUSED(zeromini_thread_group(1, NULL, NULL, &error), "groups is NULL");
  REFUSED(zeromini_thread_group(0, NULL, groups, &error), "size is 0");
  REFUSED(zeromini_thread_group(-1, NULL, groups, &error), "size is -1");
  REFUSED(zeromini_thread_group(INT_MAX, NULL, groups, &error), "size");
  REFUSED(AsCode(zeromini_wrap_mpi(NULL, sizeof comm, NULL, &error) == NULL),
          "mpi_comm is NULL");
  REFUSED(AsCode(zeromini_wrap_mpi(&comm, 8, &none, &error) == NULL),
          "timeout_seconds");
  REFUSED(AsCode(zeromini_mpi_session_world(NULL, NULL, &error) == NULL),
          "session is NULL");
  EXPECT(zeromini_mpi_session_rank(NULL) == -1);
  EXPECT(zeromini_mpi_session_size(NULL) == 0);
  zeromini_mpi_session_destroy(NULL);
  EXPECT(zeromini_group_rank(NULL) == -1);
  EXPECT(zeromini_group_size(NULL) == 0);
  EXPECT(strcmp(zeromini_group_backend(NULL), "") == 0);
  EXPECT(zeromini_group_overlaps(NULL) == 0);
  EXPECT(zeromini_group_timeout(NULL) == 0);
  EXPECT(zeromini_group_in_flight(NULL) == NULL);
  zeromini_free(zeromini_mpi_description(NULL));
  zeromini_free(zeromini_nccl_description(NULL));
  zeromini_group_abort(NULL, "nothing");
  zeromini_group_destroy(NULL);
}

static void LevelsOfAGroupRefuseBadArguments(void) {
  zeromini_group* group = zeromini_self();
  zeromini_level_traffic levels;
  zeromini_level_traffic_init(&levels, sizeof levels);
  EXPECT(zeromini_group_level_traffic(NULL, &levels) ==
         ZEROMINI_INVALID_ARGUMENT);
  EXPECT(zeromini_group_level_traffic(group, NULL) ==
         ZEROMINI_INVALID_ARGUMENT);
  EXPECT(zeromini_group_level_traffic(group, &levels) == ZEROMINI_OK);
  levels.struct_size = 0;
  EXPECT(zeromini_group_level_traffic(group, &levels) ==
         ZEROMINI_INVALID_ARGUMENT);
  zeromini_group_destroy(group);
}

#define GROUP_REFUSED(change, named)                                    \
  do {                                                                  \
    zeromini_group* groups[1];                                          \
    zeromini_group_options options = GroupOptions(1);                   \
    change;                                                             \
    REFUSED(zeromini_thread_group(1, &options, groups, &error), named); \
  } while (0)

static void EveryFieldOfGroupOptionsIsChecked(void) {
  static const int hosts[] = {0};
  GROUP_REFUSED(options.struct_size = 0,
                "zeromini_group_options.struct_size is 0: call "
                "zeromini_group_options_init");
  GROUP_REFUSED(options.timeout_seconds = 0,
                "zeromini_group_options.timeout_seconds is 0");
  GROUP_REFUSED(options.timeout_seconds = -1, "timeout_seconds is -1");
  GROUP_REFUSED(options.timeout_seconds = NAN, "timeout_seconds is nan");
  GROUP_REFUSED(options.num_hosts = 1,
                "zeromini_group_options.hosts is NULL, but num_hosts is 1");
  GROUP_REFUSED(options.hosts = hosts, "zeromini_group_options.num_hosts is 0");
  zeromini_group_options_init(NULL, sizeof(zeromini_group_options));
}

/* A refused collective call breaks the group, so each has one of its own. */
#define COLLECTIVE_REFUSED(call, named)                   \
  do {                                                    \
    zeromini_group* group = zeromini_self();              \
    REFUSED(call, named);                                 \
    EXPECT(zeromini_barrier(group, NULL) != ZEROMINI_OK); \
    zeromini_group_destroy(group);                        \
  } while (0)

static void CollectiveCallsRefuseBadArguments(void) {
  float x[2] = {1, 2};
  float y[2] = {3, 4};
  const int64_t one[1] = {1};
  const int64_t fewer[1] = {-1};
  const zeromini_dtype fp32 = ZEROMINI_FLOAT32;
  const zeromini_dtype none = (zeromini_dtype)5;
  zeromini_group* part;
  zeromini_group* unharmed = zeromini_self();
  COLLECTIVE_REFUSED(
      zeromini_all_reduce(group, x, 2, none, ZEROMINI_SUM, &error),
      "there is no zeromini_dtype 5");
  COLLECTIVE_REFUSED(
      zeromini_all_reduce(group, x, 2, fp32, (zeromini_reduce_op)3, &error),
      "there is no zeromini_reduce_op 3");
  COLLECTIVE_REFUSED(
      zeromini_all_reduce(group, x, -1, fp32, ZEROMINI_SUM, &error), "count");
  COLLECTIVE_REFUSED(
      zeromini_all_reduce(group, NULL, 2, fp32, ZEROMINI_SUM, &error), "null");
  COLLECTIVE_REFUSED(zeromini_reduce_scatter(group, x, y, 2, none, &error),
                     "there is no zeromini_dtype 5");
  COLLECTIVE_REFUSED(zeromini_reduce_scatter(group, x, y, -1, fp32, &error),
                     "count");
  COLLECTIVE_REFUSED(zeromini_reduce_scatter(group, NULL, y, 2, fp32, &error),
                     "null");
  COLLECTIVE_REFUSED(zeromini_reduce_scatter(group, x, NULL, 2, fp32, &error),
                     "null");
  COLLECTIVE_REFUSED(
      zeromini_all_gather(group, x, y, 2, (zeromini_dtype)-1, &error),
      "there is no zeromini_dtype -1");
  COLLECTIVE_REFUSED(zeromini_all_gather(group, x, y, -1, fp32, &error),
                     "count");
  COLLECTIVE_REFUSED(zeromini_all_gather(group, NULL, y, 2, fp32, &error),
                     "null");
  COLLECTIVE_REFUSED(zeromini_all_gather(group, x, NULL, 2, fp32, &error),
                     "null");
  COLLECTIVE_REFUSED(zeromini_all_to_all_v(group, x, one, y, one, none, &error),
                     "there is no zeromini_dtype 5");
  COLLECTIVE_REFUSED(
      zeromini_all_to_all_v(group, x, NULL, y, one, fp32, &error),
      "send_counts is NULL");
  COLLECTIVE_REFUSED(
      zeromini_all_to_all_v(group, x, one, y, NULL, fp32, &error),
      "receive_counts is NULL");
  COLLECTIVE_REFUSED(
      zeromini_all_to_all_v(group, NULL, one, y, one, fp32, &error), "null");
  COLLECTIVE_REFUSED(
      zeromini_all_to_all_v(group, x, fewer, y, one, fp32, &error), "-1");
  COLLECTIVE_REFUSED(zeromini_broadcast(group, NULL, 8, 0, &error), "null");
  COLLECTIVE_REFUSED(zeromini_broadcast(group, x, -1, 0, &error), "count");
  COLLECTIVE_REFUSED(zeromini_broadcast(group, x, 8, 1, &error), "1 rank");
  COLLECTIVE_REFUSED(zeromini_broadcast(group, x, 8, -1, &error), "1 rank");
  COLLECTIVE_REFUSED(zeromini_group_split(group, 0, 0, NULL, &error),
                     "part is NULL");
  REFUSED(zeromini_all_reduce(NULL, x, 2, fp32, ZEROMINI_SUM, &error),
          "group is NULL");
  REFUSED(zeromini_reduce_scatter(NULL, x, y, 2, fp32, &error),
          "group is NULL");
  REFUSED(zeromini_all_gather(NULL, x, y, 2, fp32, &error), "group is NULL");
  REFUSED(zeromini_all_to_all_v(NULL, x, one, y, one, fp32, &error),
          "group is NULL");
  REFUSED(zeromini_group_finish(NULL, 1, &error), "group is NULL");
  REFUSED(zeromini_group_finish(unharmed, NAN, &error), "timeout_seconds");
  ACCEPTED(zeromini_barrier(unharmed, &error));
  zeromini_group_destroy(unharmed);
  REFUSED(zeromini_broadcast(NULL, x, 8, 0, &error), "group is NULL");
  REFUSED(zeromini_barrier(NULL, &error), "group is NULL");
  REFUSED(zeromini_group_split(NULL, 0, 0, &part, &error), "group is NULL");
  REFUSED(zeromini_group_close(NULL, &error), "group is NULL");
  EXPECT(x[0] == 1 && x[1] == 2 && y[0] == 3 && y[1] == 4);
}

static void StreamsRefuseBadArguments(void) {
  zeromini_stream* stream = zeromini_stream_create(NULL);
  REFUSED(zeromini_stream_wait(NULL, 1, &error), "stream is NULL");
  REFUSED(zeromini_stream_wait(stream, -1, &error), "timeout_seconds");
  REFUSED(zeromini_stream_wait(stream, NAN, &error), "timeout_seconds");
  zeromini_stream_enqueue(NULL, NULL, NULL);
  ACCEPTED(zeromini_stream_wait(stream, 30, &error));
  zeromini_stream_enqueue(stream, NULL, NULL);
  REFUSED(zeromini_stream_wait(stream, 30, &error), "task is NULL");
  zeromini_stream_destroy(stream);
  zeromini_stream_destroy(NULL);
}

static void CreatingRefusesBadArguments(void) {
  const zeromini_options options = Options();
  const zeromini_param param = Matrix();
  zeromini_group* group = zeromini_self();
  REFUSED(Create(NULL, &param, 1, group, &error), "options is NULL");
  REFUSED(Create(&options, NULL, 1, group, &error), "params is NULL");
  REFUSED(Create(&options, NULL, 0, group, &error), "num_params is 0");
  REFUSED(Create(&options, &param, -1, group, &error), "num_params is -1");
  REFUSED(Create(&options, &param, INT_MAX, group, &error), "num_params");
  REFUSED(Create(&options, &param, 1, NULL, &error), "group is NULL");
  EXPECT(zeromini_optimizer_create(NULL, NULL, 0, NULL, NULL) == NULL);
  ACCEPTED(Create(&options, &param, 1, group, &error));
  zeromini_optimizer_destroy(NULL);
  zeromini_group_destroy(group);
}

static void NoOptimizerIsRefused(void) {
  const zeromini_step_options step_options = StepOptions();
  const zeromini_hyper_group hyper = Hyper();
  zeromini_memory_report memory;
  zeromini_traffic traffic;
  zeromini_level_traffic levels;
  zeromini_step_report report;
  const char* const named = "optimizer is NULL";
  REFUSED(zeromini_grad_ready(NULL, 0, gradient, NULL, &error), named);
  REFUSED(zeromini_set_param(NULL, 0, weights, &error), named);
  REFUSED(zeromini_gather(NULL, 0, ZEROMINI_PASS_NONE, &error), named);
  REFUSED(zeromini_release(NULL, 0, NULL, &error), named);
  REFUSED(zeromini_step(NULL, &step_options, NULL, &error), named);
  REFUSED(zeromini_wait_param(NULL, 0, NULL, &error), named);
  REFUSED(zeromini_wait_all(NULL, &error), named);
  REFUSED(zeromini_broadcast_params(NULL, &error), named);
  REFUSED(zeromini_consolidated_state(NULL, 0, NULL, NULL, NULL, &error),
          named);
  REFUSED(zeromini_set_hyper_group(NULL, 0, &hyper, &error), named);
  REFUSED(zeromini_optimizer_close(NULL, &error), named);
  EXPECT(zeromini_param_data(NULL, 0) == NULL);
  EXPECT(zeromini_grad_data(NULL, 0) == NULL);
  EXPECT(zeromini_momentum_count(NULL, 0) == 0);
  EXPECT(zeromini_second_moment_count(NULL, 0) == 0);
  EXPECT(zeromini_optimizer_plan(NULL) == NULL);
  zeromini_step_report_init(&report, sizeof report);
  EXPECT(zeromini_last_report(NULL, &report) == ZEROMINI_INVALID_ARGUMENT);
  zeromini_memory_report_init(&memory, sizeof memory);
  zeromini_level_traffic_init(&levels, sizeof levels);
  EXPECT(zeromini_memory(NULL, &memory) == ZEROMINI_INVALID_ARGUMENT);
  EXPECT(zeromini_optimizer_traffic(NULL, &traffic) ==
         ZEROMINI_INVALID_ARGUMENT);
  EXPECT(zeromini_optimizer_level_traffic(NULL, &levels) ==
         ZEROMINI_INVALID_ARGUMENT);
  zeromini_free(NULL);
}

static void TheOptimizerRefusesBadArguments(void) {
  static const int kNoParams[] = {-1, 1, INT_MIN, INT_MAX};
  const zeromini_hyper_group hyper = Hyper();
  zeromini_group* group = zeromini_self();
  zeromini_optimizer* optimizer = Make(group);
  size_t i;
  for (i = 0; i < sizeof kNoParams / sizeof *kNoParams; ++i) {
    const int no = kNoParams[i];
    REFUSED(zeromini_grad_ready(optimizer, no, gradient, NULL, &error), "of 1");
    REFUSED(zeromini_set_param(optimizer, no, weights, &error), "of 1");
    REFUSED(zeromini_wait_param(optimizer, no, NULL, &error), "of 1");
    REFUSED(
        zeromini_consolidated_state(optimizer, no, NULL, NULL, NULL, &error),
        "of 1");
    REFUSED(zeromini_set_hyper_group(optimizer, no, &hyper, &error), "of 1");
    EXPECT(zeromini_param_data(optimizer, no) == NULL);
    EXPECT(zeromini_grad_data(optimizer, no) == NULL);
    EXPECT(zeromini_momentum_count(optimizer, no) == 0);
    EXPECT(zeromini_second_moment_count(optimizer, no) == 0);
  }
  REFUSED(zeromini_grad_ready(optimizer, 0, NULL, NULL, &error),
          "zeromini_grad_data()");
  REFUSED(zeromini_set_param(optimizer, 0, NULL, &error), "null");
  REFUSED(zeromini_set_hyper_group(optimizer, 0, NULL, &error),
          "hyper is NULL");
  REFUSED(zeromini_step(optimizer, NULL, NULL, &error), "options is NULL");
  REFUSED(zeromini_gather(optimizer, 0, (zeromini_gather_pass)3, &error),
          "there is no zeromini_gather_pass 3");
  EXPECT(zeromini_last_report(optimizer, NULL) == ZEROMINI_INVALID_ARGUMENT);
  EXPECT(zeromini_memory(optimizer, NULL) == ZEROMINI_INVALID_ARGUMENT);
  EXPECT(zeromini_optimizer_traffic(optimizer, NULL) ==
         ZEROMINI_INVALID_ARGUMENT);
  EXPECT(zeromini_optimizer_level_traffic(optimizer, NULL) ==
         ZEROMINI_INVALID_ARGUMENT);
  zeromini_optimizer_destroy(optimizer);
  zeromini_group_destroy(group);
}

static void ALayerSetThatIsNotThereIsRefused(void) {
  zeromini_options options = Options();
  zeromini_param param = Matrix();
  zeromini_group* group = zeromini_self();
  zeromini_optimizer* optimizer;
  options.stage = 3;
  options.memory = ZEROMINI_MEMORY_FLAT;
  param.data = NULL;
  optimizer = zeromini_optimizer_create(&options, &param, 1, group, NULL);
  REFUSED(zeromini_gather(optimizer, INT_MAX, ZEROMINI_PASS_NONE, &error),
          "2147483647");
  REFUSED(zeromini_gather(optimizer, ZEROMINI_LAYER_SET_OF_LAYER,
                          ZEROMINI_PASS_NONE, &error),
          "is ZEROMINI_LAYER_SET_OF_LAYER, which only a "
          "zeromini_param.layer_set can be");
  ACCEPTED(zeromini_gather(optimizer, ZEROMINI_NO_LAYER_SET, ZEROMINI_PASS_NONE,
                           &error));
  REFUSED(zeromini_release(optimizer, INT_MIN, NULL, &error), "-2147483648");
  zeromini_optimizer_destroy(optimizer);
  zeromini_group_destroy(group);
}

enum { kRanks = 2 };
typedef struct Rank {
  zeromini_group* group;
  zeromini_code codes[3];
  char* error;
  float weights[kElements];
} Rank;

/* Rank 1 forgets to initialise its structs. */
static void* Forgetful(void* context) {
  Rank* rank = (Rank*)context;
  const int forgets = zeromini_group_rank(rank->group) == 1;
  zeromini_options options = Options();
  zeromini_step_options step_options = StepOptions();
  zeromini_param param = Matrix();
  zeromini_optimizer* optimizer;
  float x = 1;
  param.data = rank->weights;
  if (forgets) options.struct_size = 0;
  rank->codes[0] = Create(&options, &param, 1, rank->group, &rank->error);
  options = Options();
  optimizer = zeromini_optimizer_create(&options, &param, 1, rank->group, NULL);
  zeromini_grad_ready(optimizer, 0, gradient, NULL, NULL);
  if (forgets) step_options.struct_size = 0;
  rank->codes[1] = zeromini_step(optimizer, &step_options, NULL, NULL);
  step_options = StepOptions();
  zeromini_grad_ready(optimizer, 0, gradient, NULL, NULL);
  if (zeromini_step(optimizer, &step_options, NULL, NULL) != ZEROMINI_OK) {
    rank->codes[1] = ZEROMINI_OK; /* Training did not go on. */
  }
  rank->codes[2] =
      zeromini_all_reduce(rank->group, &x, 1, (zeromini_dtype)(forgets ? 9 : 0),
                          ZEROMINI_SUM, NULL);
  zeromini_optimizer_destroy(optimizer);
  return NULL;
}

static void AMistakeOfOneRankFailsOnAllAtOnce(void) {
  zeromini_group* groups[kRanks];
  pthread_t threads[kRanks];
  Rank ranks[kRanks];
  const time_t start = time(NULL);
  const zeromini_group_options patient = GroupOptions(600);
  int r;
  ACCEPTED(zeromini_thread_group(kRanks, &patient, groups, &error));
  memset(ranks, 0, sizeof ranks);
  for (r = 0; r < kRanks; ++r) {
    ranks[r].group = groups[r];
    pthread_create(&threads[r], NULL, Forgetful, &ranks[r]);
  }
  for (r = 0; r < kRanks; ++r) pthread_join(threads[r], NULL);
  for (r = 0; r < kRanks; ++r) {
    CheckRefusal(__LINE__, "create", ranks[r].codes[0], ranks[r].error,
                 "rank 1: options: zeromini_options.struct_size is 0");
    EXPECT(ranks[r].codes[1] == ZEROMINI_INVALID_ARGUMENT);
    EXPECT(ranks[r].codes[2] == ZEROMINI_INVALID_ARGUMENT);
    zeromini_group_destroy(groups[r]);
  }
  EXPECT(time(NULL) - start < 300); /* Half of what a peer would wait. */
}

/* Rank 1 gathers in a pass that is none. */
static void* GathersWrongly(void* context) {
  Rank* rank = (Rank*)context;
  const int wrong = zeromini_group_rank(rank->group) == 1;
  zeromini_options options = Options();
  zeromini_param param = Matrix();
  zeromini_optimizer* optimizer;
  options.stage = 3;
  options.memory = ZEROMINI_MEMORY_FLAT;
  param.data = NULL;
  param.layer_set = 0;
  optimizer = zeromini_optimizer_create(&options, &param, 1, rank->group, NULL);
  rank->codes[0] = zeromini_gather(
      optimizer, 0, (zeromini_gather_pass)(wrong ? 3 : 2), &rank->error);
  if (rank->codes[0] == ZEROMINI_OK) {
    rank->codes[0] = zeromini_wait_param(optimizer, 0, NULL, &rank->error);
  }
  zeromini_optimizer_destroy(optimizer);
  return NULL;
}

static void AGatherThatOneRankRefusesFailsOnAll(void) {
  zeromini_group* groups[kRanks];
  pthread_t threads[kRanks];
  Rank ranks[kRanks];
  const zeromini_group_options options = GroupOptions(20);
  int r;
  ACCEPTED(zeromini_thread_group(kRanks, &options, groups, &error));
  memset(ranks, 0, sizeof ranks);
  for (r = 0; r < kRanks; ++r) {
    ranks[r].group = groups[r];
    pthread_create(&threads[r], NULL, GathersWrongly, &ranks[r]);
  }
  for (r = 0; r < kRanks; ++r) pthread_join(threads[r], NULL);
  for (r = 0; r < kRanks; ++r) {
    CheckRefusal(__LINE__, "gather", ranks[r].codes[0], ranks[r].error,
                 "rank 1, gather: there is no zeromini_gather_pass 3");
    zeromini_group_destroy(groups[r]);
  }
}

static const NamedTest kTests[] = {
    TEST(GroupsRefuseBadArguments),
    TEST(LevelsOfAGroupRefuseBadArguments),
    TEST(EveryFieldOfGroupOptionsIsChecked),
    TEST(CollectiveCallsRefuseBadArguments),
    TEST(StreamsRefuseBadArguments),
    TEST(CreatingRefusesBadArguments),
    TEST(NoOptimizerIsRefused),
    TEST(TheOptimizerRefusesBadArguments),
    TEST(ALayerSetThatIsNotThereIsRefused),
    TEST(AMistakeOfOneRankFailsOnAllAtOnce),
    TEST(AGatherThatOneRankRefusesFailsOnAll),
};

int main(void) { return RunAll(kTests, sizeof kTests / sizeof *kTests); }
