/* Hostile arguments to the calls of plans. */

#define _POSIX_C_SOURCE 200809L
#include "c_refusals.h"

#define PLAN_REFUSED(change, named)                                          \
  do {                                                                       \
    zeromini_plan_options options = PlanOptions();                           \
    zeromini_param param = Matrix();                                         \
    change;                                                                  \
    REFUSED(AsCode(zeromini_make_plan(&options, &param, 1, &error) == NULL), \
            named);                                                          \
  } while (0)

static void PlansRefuseBadArguments(void) {
  static const int algorithms[] = {3};
  const zeromini_plan_options good = PlanOptions();
  const zeromini_param param = Matrix();
  REFUSED(AsCode(zeromini_make_plan(NULL, &param, 1, &error) == NULL),
          "options is NULL");
  REFUSED(AsCode(zeromini_make_plan(&good, NULL, 1, &error) == NULL),
          "params is NULL");
  REFUSED(AsCode(zeromini_make_plan(&good, &param, 0, &error) == NULL),
          "num_params is 0");
  PLAN_REFUSED(options.struct_size = 0,
               "zeromini_plan_options.struct_size is 0: call "
               "zeromini_plan_options_init");
  PLAN_REFUSED(param.name = NULL, "params[0]: zeromini_param.name is NULL");
  PLAN_REFUSED(options.algorithm = (zeromini_algorithm)3,
               "zeromini_plan_options.algorithm is 3");
  PLAN_REFUSED(options.naming = (zeromini_naming)2,
               "zeromini_plan_options.naming is 2");
  PLAN_REFUSED(options.num_group_algorithms = 1,
               "zeromini_plan_options.group_algorithms is NULL");
  PLAN_REFUSED(
      (options.group_algorithms = algorithms, options.num_group_algorithms = 1),
      "zeromini_plan_options.group_algorithms[0] is 3");
  PLAN_REFUSED(options.ranks = 0, "ranks");
  PLAN_REFUSED(options.replicas = -1, "replicas");
  PLAN_REFUSED(options.stage = 4, "stage");
  PLAN_REFUSED(options.blocks = (zeromini_block_cuts)2,
               "zeromini_plan_options.blocks is 2");
  PLAN_REFUSED(options.bucketing = (zeromini_bucketing)2,
               "zeromini_plan_options.bucketing is 2");
  PLAN_REFUSED(options.second_moment = (zeromini_second_moment)2,
               "zeromini_plan_options.second_moment is 2");
  PLAN_REFUSED(options.memory = (zeromini_memory_form)2,
               "zeromini_plan_options.memory is 2");
  PLAN_REFUSED(options.hidden = -1, "zeromini_plan_options.hidden is -1");
  EXPECT(zeromini_plan_table(NULL) == NULL);
  EXPECT(zeromini_plan_json(NULL) == NULL);
  EXPECT(zeromini_plan_hash(NULL) == 0);
  zeromini_plan_options_init(NULL, 0);
  zeromini_plan_destroy(NULL);
}

static void BytesOfAPlanRefuseBadArguments(void) {
  const zeromini_plan_options bare = PlanOptions();
  zeromini_options options = Options();
  const zeromini_param param = Matrix();
  zeromini_plan* other = zeromini_make_plan(&bare, &param, 1, NULL);
  zeromini_plan* plan = zeromini_plan_for(&options, &param, 1, 2, NULL);
  zeromini_memory_report memory = {0};
  zeromini_step_bytes bytes = {0};
  REFUSED(AsCode(zeromini_plan_for(NULL, &param, 1, 2, &error) == NULL),
          "options is NULL");
  REFUSED(AsCode(zeromini_plan_for(&options, NULL, 1, 2, &error) == NULL),
          "params is NULL");
  REFUSED(AsCode(zeromini_plan_for(&options, &param, 1, 0, &error) == NULL),
          "ranks is 0");
  REFUSED(
      AsCode(zeromini_plan_for(&options, &param, 1, INT_MAX, &error) == NULL),
      "ranks is 2147483647");
  options.shard_ranks = 3;
  REFUSED(AsCode(zeromini_plan_for(&options, &param, 1, 2, &error) == NULL),
          "shard_ranks 3");
  REFUSED(zeromini_memory_of(plan, 0, &memory, &error),
          "zeromini_memory_report.struct_size is 0");
  REFUSED(zeromini_step_bytes_of(plan, 0, &bytes, &error),
          "zeromini_step_bytes.struct_size is 0");
  zeromini_memory_report_init(&memory, sizeof memory);
  zeromini_step_bytes_init(&bytes, sizeof bytes);
  REFUSED(zeromini_memory_of(NULL, 0, &memory, &error), "plan is NULL");
  REFUSED(zeromini_memory_of(plan, 0, NULL, &error), "report is NULL");
  REFUSED(zeromini_memory_of(plan, 2, &memory, &error), "rank is 2");
  REFUSED(zeromini_memory_of(plan, -1, &memory, &error), "rank is -1");
  REFUSED(zeromini_memory_of(other, 0, &memory, &error), "zeromini_plan_for");
  REFUSED(zeromini_step_bytes_of(NULL, 0, &bytes, &error), "plan is NULL");
  REFUSED(zeromini_step_bytes_of(plan, 0, NULL, &error), "bytes is NULL");
  REFUSED(zeromini_step_bytes_of(plan, 2, &bytes, &error), "rank is 2");
  REFUSED(zeromini_step_bytes_of(other, 0, &bytes, &error),
          "zeromini_plan_for");
  EXPECT(zeromini_largest_rank(NULL) == -1);
  EXPECT(zeromini_largest_rank(other) == -1);
  zeromini_step_bytes_init(NULL, 0);
  zeromini_plan_destroy(plan);
  zeromini_plan_destroy(other);
}

static void MapsRefuseBadArguments(void) {
  zeromini_plan_options options = PlanOptions();
  zeromini_param param = Matrix();
  zeromini_plan* from = zeromini_make_plan(&options, &param, 1, NULL);
  zeromini_plan* to;
  zeromini_move* moves = NULL;
  int64_t n = 0;
  param.name = "other";
  to = zeromini_make_plan(&options, &param, 1, NULL);
  REFUSED(zeromini_make_map(NULL, to, 1, &moves, &n, &error), "from is NULL");
  REFUSED(zeromini_make_map(from, NULL, 1, &moves, &n, &error), "to is NULL");
  REFUSED(zeromini_make_map(from, from, 1, NULL, &n, &error), "moves is NULL");
  REFUSED(zeromini_make_map(from, from, 1, &moves, NULL, &error),
          "num_moves is NULL");
  REFUSED(zeromini_make_map(from, from, 0, &moves, &n, &error),
          "expert_slices is 0");
  REFUSED(zeromini_make_map(from, to, 1, &moves, &n, &error), "matrix");
  EXPECT(moves == NULL && n == 0);
  zeromini_plan_destroy(from);
  zeromini_plan_destroy(to);
}

static const NamedTest kTests[] = {
    TEST(PlansRefuseBadArguments),
    TEST(BytesOfAPlanRefuseBadArguments),
    TEST(MapsRefuseBadArguments),
};

int main(void) { return RunAll(kTests, sizeof kTests / sizeof *kTests); }
