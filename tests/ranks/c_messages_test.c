/* Codes, errors and warnings of c.h: what they are called in C. */

#define _POSIX_C_SOURCE 200809L
#include "c_refusals.h"

/* By number, as absl::StatusCode has them. */
static void EveryCodeHasAName(void) {
  static const zeromini_code kCodes[] = {ZEROMINI_OK,
                                         ZEROMINI_CANCELLED,
                                         ZEROMINI_UNKNOWN,
                                         ZEROMINI_INVALID_ARGUMENT,
                                         ZEROMINI_DEADLINE_EXCEEDED,
                                         ZEROMINI_NOT_FOUND,
                                         ZEROMINI_ALREADY_EXISTS,
                                         ZEROMINI_PERMISSION_DENIED,
                                         ZEROMINI_RESOURCE_EXHAUSTED,
                                         ZEROMINI_FAILED_PRECONDITION,
                                         ZEROMINI_ABORTED,
                                         ZEROMINI_OUT_OF_RANGE,
                                         ZEROMINI_UNIMPLEMENTED,
                                         ZEROMINI_INTERNAL,
                                         ZEROMINI_UNAVAILABLE,
                                         ZEROMINI_DATA_LOSS,
                                         ZEROMINI_UNAUTHENTICATED};
  int i;
  EXPECT(sizeof kCodes / sizeof *kCodes == 17);
  for (i = 0; i < 17; ++i) EXPECT((int)kCodes[i] == i);
}

/* Stage 3, with a budget that the group's own weights do not fit. */
static void AGatherBeyondTheBudgetIsResourceExhausted(void) {
  zeromini_options options = Options();
  zeromini_param param = Matrix();
  zeromini_group* group = zeromini_self();
  zeromini_optimizer* optimizer;
  options.stage = 3;
  options.memory = ZEROMINI_MEMORY_FLAT;
  options.gather_budget_bytes = 4;
  param.data = NULL;
  param.layer_set = 0;
  optimizer = zeromini_optimizer_create(&options, &param, 1, group, NULL);
  EXPECT(optimizer != NULL);
  EXPECT(zeromini_gather(optimizer, 0, ZEROMINI_PASS_NONE, NULL) ==
         ZEROMINI_RESOURCE_EXHAUSTED);
  zeromini_optimizer_destroy(optimizer);
  zeromini_group_destroy(group);
}

static void ADeviceThatTheLibraryLacksIsUnimplemented(void) {
  char* failure = NULL;
  zeromini_options options = Options();
  const zeromini_param param = Matrix();
  zeromini_group* group = zeromini_self();
  options.device = ZEROMINI_CUDA;
  EXPECT(zeromini_optimizer_create(&options, &param, 1, group, &failure) ==
         NULL);
  EXPECT(strstr(failure, "set zeromini_options.device to ZEROMINI_HOST") !=
         NULL);
  zeromini_free(failure);
  zeromini_group_destroy(group);
}

typedef struct Warnings {
  int count;
  char last[512];
} Warnings;

static void KeepWarning(void* context, zeromini_log_level level,
                        const char* message) {
  Warnings* warnings = (Warnings*)context;
  EXPECT(level == ZEROMINI_LOG_WARNING);
  ++warnings->count;
  snprintf(warnings->last, sizeof warnings->last, "%s", message);
}

static void WarningsGoToTheSinkAndNameFieldsOfC(void) {
  Warnings warnings = {0, ""};
  zeromini_options options = Options();
  zeromini_param param = Matrix();
  zeromini_group* group = zeromini_self();
  zeromini_optimizer* optimizer;
  param.rule = ZEROMINI_RULE_AUTO;
  options.log = KeepWarning;
  options.log_context = &warnings;
  optimizer = zeromini_optimizer_create(&options, &param, 1, group, NULL);
  EXPECT(optimizer != NULL && warnings.count == 1);
  EXPECT(strstr(warnings.last, "matrix") != NULL);
  EXPECT(strstr(warnings.last, "rule") != NULL);
  EXPECT(strstr(warnings.last, "::") == NULL);
  zeromini_optimizer_destroy(optimizer);
  zeromini_group_destroy(group);
}

static void ErrorsNameFieldsAndValuesOfC(void) {
  char* failure = NULL;
  zeromini_options options = Options();
  zeromini_param param = Matrix();
  const zeromini_step_options step_options = StepOptions();
  zeromini_group* group = zeromini_self();
  zeromini_optimizer* optimizer =
      zeromini_optimizer_create(&options, &param, 1, group, NULL);
  EXPECT(zeromini_step(optimizer, &step_options, NULL, &failure) ==
         ZEROMINI_FAILED_PRECONDITION);
  EXPECT(strstr(failure, "absent_gradients is ZEROMINI_FAIL") != NULL);
  zeromini_free(failure);
  zeromini_optimizer_destroy(optimizer);
  param.name = "layers.0.attention.wq.weight";
  param.rule = ZEROMINI_RULE_AUTO;
  EXPECT(zeromini_optimizer_create(&options, &param, 1, group, &failure) ==
         NULL);
  EXPECT(strstr(failure, "head_dim") != NULL);
  EXPECT(strstr(failure, "::") == NULL);
  zeromini_free(failure);
  zeromini_group_destroy(group);
}

static const NamedTest kTests[] = {
    TEST(EveryCodeHasAName),
    TEST(AGatherBeyondTheBudgetIsResourceExhausted),
    TEST(ADeviceThatTheLibraryLacksIsUnimplemented),
    TEST(WarningsGoToTheSinkAndNameFieldsOfC),
    TEST(ErrorsNameFieldsAndValuesOfC),
};

int main(void) { return RunAll(kTests, sizeof kTests / sizeof *kTests); }
