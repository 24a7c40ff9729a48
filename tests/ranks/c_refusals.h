/* For tests of hostile arguments to c.h: each must give a code and a message
 * that names the argument or the field, never a crash and never OK. Each test
 * runs in a process of its own, so that a crash is that test's failure. */

#ifndef ZEROMINI_TESTS_RANKS_C_REFUSALS_H_
#define ZEROMINI_TESTS_RANKS_C_REFUSALS_H_

#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "zeromini/c.h"

static const char* test_name = "";
static int failures = 0;

static inline void Failed(int line, const char* what, const char* found) {
  fprintf(stderr, "%s:%d: %s: %s\n", test_name, line, what, found);
  ++failures;
}

#define EXPECT(condition)                                       \
  do {                                                          \
    if (!(condition)) Failed(__LINE__, #condition, "not true"); \
  } while (0)

static inline void CheckRefusal(int line, const char* call, zeromini_code code,
                                char* error, const char* named) {
  if (code != ZEROMINI_INVALID_ARGUMENT) {
    char text[64];
    snprintf(text, sizeof text, "code %d instead of 3", (int)code);
    Failed(line, call, text);
  } else if (error == NULL || strstr(error, named) == NULL) {
    Failed(line, call, error == NULL ? "no message" : error);
  }
  zeromini_free(error);
}

/* `call`, which puts its message into `error`, is refused by that name. */
#define REFUSED(call, named)                           \
  do {                                                 \
    char* error = NULL;                                \
    const zeromini_code code = (call);                 \
    CheckRefusal(__LINE__, #call, code, error, named); \
  } while (0)

#define ACCEPTED(call)                                               \
  do {                                                               \
    char* error = NULL;                                              \
    if ((call) != ZEROMINI_OK) {                                     \
      Failed(__LINE__, #call, error == NULL ? "no message" : error); \
    }                                                                \
    zeromini_free(error);                                            \
  } while (0)

enum { kRows = 6, kColumns = 4, kElements = kRows * kColumns };
static const int64_t kShape[] = {kRows, kColumns};
static float weights[kElements];
static float gradient[kElements];

static inline zeromini_param Matrix(void) {
  zeromini_param param;
  zeromini_param_init(&param, sizeof param);
  param.name = "matrix";
  param.shape = kShape;
  param.dims = 2;
  param.rule = ZEROMINI_RULE_ROWS;
  param.data = weights;
  return param;
}

static inline zeromini_hyper_group Hyper(void) {
  zeromini_hyper_group hyper;
  zeromini_hyper_group_init(&hyper, sizeof hyper);
  return hyper;
}

static inline zeromini_options Options(void) {
  zeromini_options options;
  zeromini_options_init(&options, sizeof options);
  return options;
}

static inline zeromini_group_options GroupOptions(double timeout_seconds) {
  zeromini_group_options options;
  zeromini_group_options_init(&options, sizeof options);
  options.timeout_seconds = timeout_seconds;
  return options;
}

static inline zeromini_plan_options PlanOptions(void) {
  zeromini_plan_options options;
  zeromini_plan_options_init(&options, sizeof options);
  return options;
}

static inline zeromini_step_options StepOptions(void) {
  zeromini_step_options options;
  zeromini_step_options_init(&options, sizeof options);
  options.learning_rate = 0.1;
  return options;
}

static inline zeromini_code AsCode(int refused) {
  return refused ? ZEROMINI_INVALID_ARGUMENT : ZEROMINI_OK;
}

/* The code of creating, and destroying at once. */
static inline zeromini_code Create(const zeromini_options* options,
                                   const zeromini_param* params, int num_params,
                                   zeromini_group* group, char** error) {
  zeromini_optimizer* made =
      zeromini_optimizer_create(options, params, num_params, group, error);
  const int refused = made == NULL;
  zeromini_optimizer_destroy(made);
  return refused ? ZEROMINI_INVALID_ARGUMENT : ZEROMINI_OK;
}

static inline zeromini_code CreateOnOne(const zeromini_options* options,
                                        const zeromini_param* params,
                                        int num_params, char** error) {
  zeromini_group* group = zeromini_self();
  const zeromini_code code = Create(options, params, num_params, group, error);
  zeromini_group_destroy(group);
  return code;
}

static inline zeromini_optimizer* Make(zeromini_group* group) {
  const zeromini_options options = Options();
  const zeromini_param param = Matrix();
  zeromini_optimizer* made =
      zeromini_optimizer_create(&options, &param, 1, group, NULL);
  EXPECT(made != NULL);
  return made;
}

static inline zeromini_code Give(zeromini_optimizer* optimizer) {
  return zeromini_grad_ready(optimizer, 0, gradient, NULL, NULL);
}

typedef void (*Test)(void);
typedef struct NamedTest {
  const char* name;
  Test run;
} NamedTest;

#define TEST(name) \
  { #name, name }
/* Of a child process: good, failed or how it ended. */
static inline int RunApart(const NamedTest* test) {
  int status = 0;
  const pid_t child = fork();
  if (child == 0) {
    test_name = test->name;
    test->run();
    fflush(stderr);
    exit(failures == 0 ? 0 : 1); /* Not _exit(): leaks are looked for. */
  }
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) {
    printf("%s: CRASHED with signal %d\n", test->name, WTERMSIG(status));
  } else {
    printf("%s: %s\n", test->name,
           WEXITSTATUS(status) == 0 ? "good" : "FAILED");
  }
  fflush(stdout);
  return status != 0;
}

static inline int RunAll(const NamedTest* tests, size_t count) {
  size_t i;
  int failed = 0;
  for (i = 0; i < count; ++i) failed += RunApart(&tests[i]);
  return failed == 0 ? 0 : 1;
}

#endif /* ZEROMINI_TESTS_RANKS_C_REFUSALS_H_ */
