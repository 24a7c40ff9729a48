/* C API of zeromini: optimizer.h, the groups and plans, one to one, in C99.
 * What a field or call means beyond what is said here its C++ namesake says, in
 * the header that is named.
 *
 * (1) Handles are opaque. Whoever creates one destroys it, with the destroy
 *     function of its type, which accepts NULL. What a handle was made from
 *     (an optimizer's group, a group's MPI session) must outlive it.
 * (2) A call that can fail takes `char** error` last. It returns a handle, NULL
 *     on failure, or a zeromini_code, which is 0 on success. On success *error
 *     is left alone; on failure it becomes a message that zeromini_free()
 *     releases. `error` may be NULL.
 * (3) Structs begin with struct_size. Fill one with its init function, giving
 *     sizeof; then set what differs. A library that is newer than the program
 *     thus knows what the program knows, and adds defaults for the rest. An
 *     older one refuses what it does not know, if it is set. A struct that was
 *     not initialised is refused: its struct_size is 0 or no size it ever had.
 * (4) Strings and arrays that a program passes are copied before the call
 *     returns, except tensors. Tensors belong to the program.
 * (5) A stream is a `void*`: with ZEROMINI_HOST a zeromini_stream, or NULL for
 *     the calling thread.
 * (6) "Collective" calls must be made by every rank of the group, in the same
 *     order. Threads: as the C++ type of the same name; grad_ready and
 *     wait_param may be called from any thread, group_abort at any time.
 * (7) No argument ends the program. A NULL that is not allowed, a number out of
 *     range, a value that an enum does not have or a field's array with a count
 *     of 0 gives ZEROMINI_INVALID_ARGUMENT, whose message names the argument or
 *     field. If one rank's optimizer_create, step or exchange is refused, so
 *     are those of the others; a group is then broken, an optimizer is not.
 *     What returns no code returns 0, NULL, "" or, for a rank, -1 if its handle
 *     is NULL.
 * (8) Not in C: Schedule and LossScale, values that a program can keep itself,
 *     from zeromini_step_report.not_finite; safetensors.h, files; kernels.h;
 *     communicators of one's own, and so CountingCommunicator; stream() and
 *     control() of a group, and Exchange: exchanges of C have ended when they
 *     return, and are fp32 where tensors are; GroupOptions::make_stream, for
 *     tests; HostStream's Record(), WaitFor() and Poison(); FindPreset(),
 *     PresetNames(), and names of enumerators, as AlgorithmName(); numbers of a
 *     plan (PaddingFraction() and the rest) and of its parameters
 *     (ColumnGroupRowsOf(), MatricesOf()), which its JSON has or can be had
 *     from it; sums of a report's fields, as MemoryReport::total().
 */

#ifndef ZEROMINI_C_H_
#define ZEROMINI_C_H_

#include <stddef.h>
#include <stdint.h>

#include "zeromini/c_group.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct zeromini_plan zeromini_plan;
typedef struct zeromini_optimizer zeromini_optimizer;

/* ---- Parameters (param_spec.h). ---- */

typedef enum zeromini_rule_kind {
  ZEROMINI_RULE_AUTO = 0,     /* By name; a warning says what was chosen. */
  ZEROMINI_RULE_ELEMENT = 1,  /* Ordinary Adam (biases). */
  ZEROMINI_RULE_ROWS = 2,     /* One scalar per row. */
  ZEROMINI_RULE_HEADS = 3,    /* One per rows_per_head rows; 0 elsewhere. */
  ZEROMINI_RULE_WHOLE = 4,    /* One for the tensor (norms). */
  ZEROMINI_RULE_FUSED = 5,    /* By `segments`, repeated; none elsewhere. */
  ZEROMINI_RULE_FACTORED = 6, /* Of a matrix: averages of rows and columns. */
  ZEROMINI_RULE_COLUMNS = 7   /* Of a matrix: one scalar per column. */
} zeromini_rule_kind;

typedef enum zeromini_block_kind { /* BlockSegment::kind, which may be none. */
                                   ZEROMINI_BLOCK_AUTO = 0,
                                   ZEROMINI_BLOCK_HEAD = 1,
                                   ZEROMINI_BLOCK_ROW = 2,
                                   ZEROMINI_BLOCK_WHOLE = 3
} zeromini_block_kind;

typedef enum zeromini_moment_form { /* MomentForm */
                                    ZEROMINI_FORM_BLOCKS = 0,
                                    ZEROMINI_FORM_FACTORED = 1,
                                    ZEROMINI_FORM_COLUMNS = 2
} zeromini_moment_form;

/* Has no struct_size: initialise all of it. */
typedef struct zeromini_segment {
  int64_t rows;
  int64_t rows_per_block;
  zeromini_block_kind kind; /* For people: it changes no number. */
  zeromini_moment_form form;
} zeromini_segment;

/* Of zeromini_param.layer_set alone: the set of its layer, or the next. */
#define ZEROMINI_LAYER_SET_OF_LAYER (-1)
/* The set of what belongs to no layer, in a parameter and in gather alike. */
#define ZEROMINI_NO_LAYER_SET (-2)

typedef struct zeromini_param {
  size_t struct_size;
  const char* name;
  const int64_t* shape;
  int dims;           /* 1 to 64. */
  int output_is_last; /* 0 or 1. */
  int64_t slices;
  int64_t padding_rows;
  zeromini_dtype dtype;
  zeromini_rule_kind rule;
  int64_t rows_per_head;
  const zeromini_segment* segments;
  int num_segments;
  int layer;
  int layer_set;       /* At least 0, or one of the two above. */
  int hyper_group;     /* -1: the first that matches, else 0. */
  int frozen;          /* 0 or 1. */
  const char* tied_to; /* NULL: not tied. */
  /* The full tensor, equal on all ranks, or broadcast_params (stages 1 and 2)
   * or set_param must follow. External memory: what is trained. Flat memory:
   * copied by optimizer_create as initial weights; NULL: they are zeros. */
  void* data;
  int expert; /* 0 or 1: see expert_slices. */
} zeromini_param;

void zeromini_param_init(zeromini_param* param, size_t struct_size);

/* ---- Options (options.h). ---- */

typedef enum zeromini_algorithm {
  ZEROMINI_ADAMW = 0,
  ZEROMINI_ADAM_MINI = 1,
  ZEROMINI_SGD = 2
} zeromini_algorithm;
typedef enum zeromini_master_format { /* types.h */
                                      ZEROMINI_MASTER_NONE = 0,
                                      ZEROMINI_MASTER_FLOAT32 = 1,
                                      ZEROMINI_MASTER_REMAINDER16 = 2,
                                      ZEROMINI_MASTER_REMAINDER8 = 3
} zeromini_master_format;
typedef enum zeromini_state_format {
  ZEROMINI_STATE_FLOAT32 = 0,
  ZEROMINI_STATE_BFLOAT16 = 1,
  ZEROMINI_STATE_INT8 = 2
} zeromini_state_format;
typedef enum zeromini_gather_pass {
  ZEROMINI_PASS_FORWARD = 0,
  ZEROMINI_PASS_BACKWARD = 1,
  ZEROMINI_PASS_NONE = 2
} zeromini_gather_pass;
typedef enum zeromini_reduction {
  ZEROMINI_REDUCE_MEAN = 0,
  ZEROMINI_REDUCE_SUM = 1
} zeromini_reduction;
typedef enum zeromini_on_bad_gradient { /* Absent, or not finite. */
                                        ZEROMINI_FAIL = 0,
                                        ZEROMINI_SKIP = 1,
                                        ZEROMINI_IGNORE = 2 /* Not finite. */
} zeromini_on_bad_gradient;
typedef enum zeromini_device { /* types.h */
                               ZEROMINI_HOST = 0,
                               ZEROMINI_CUDA = 1 /* Unimplemented so far. */
} zeromini_device;
typedef enum zeromini_kernels {
  ZEROMINI_KERNELS_NATIVE = 0, /* The device's own. */
  ZEROMINI_KERNELS_REFERENCE = 1
} zeromini_kernels;
typedef enum zeromini_memory_form {
  ZEROMINI_MEMORY_EXTERNAL = 0,
  ZEROMINI_MEMORY_FLAT = 1
} zeromini_memory_form;
typedef enum zeromini_naming {
  ZEROMINI_NAMING_OWN = 0,
  ZEROMINI_NAMING_OFFICIAL = 1
} zeromini_naming;
typedef enum zeromini_value_blocks {
  ZEROMINI_VALUE_ROWS = 0,
  ZEROMINI_VALUE_WHOLE = 1
} zeromini_value_blocks;

/* OptimizerOptions::second_moment: of Adam-mini's parameters without a rule. */
typedef enum zeromini_second_moment {
  ZEROMINI_SECOND_MOMENT_OFFICIAL = 0,
  ZEROMINI_SECOND_MOMENT_FACTORED = 1 /* Not Adam-mini's: see plan.h. */
} zeromini_second_moment;

typedef enum zeromini_block_cuts {
  ZEROMINI_BLOCKS_WHOLE = 0,
  ZEROMINI_BLOCKS_SPLIT_AT_CUTS = 1
} zeromini_block_cuts;

typedef enum zeromini_bucketing {
  ZEROMINI_BUCKETING_CHEAPEST = 0,
  ZEROMINI_BUCKETING_BY_LAYER = 1
} zeromini_bucketing;

typedef struct zeromini_hyper_group { /* HyperGroup */
  size_t struct_size;
  const char* name;
  double learning_rate_scale; /* 0 moves nothing, and gives a warning. */
  double weight_decay;
  double beta1;
  double beta2;
  double epsilon;
  int decay_norms_and_biases; /* 0 or 1. */
  int own_algorithm; /* A zeromini_algorithm; -1: that of the options. */
  const char* const* patterns; /* Of names: see zeromini_param.hyper_group. */
  int num_patterns;
  /* Beside the patterns: whether `param` joins, 0 or not. NULL: by them alone.
   * Called inside optimizer_create only, on its thread, maybe several times for
   * a parameter; what it is given is gone after the call. */
  int (*matches)(void* context, const zeromini_param* param);
  void* matches_context;
} zeromini_hyper_group;

void zeromini_hyper_group_init(zeromini_hyper_group* hyper, size_t struct_size);

typedef struct zeromini_options {
  size_t struct_size;
  zeromini_algorithm algorithm;
  int stage;
  const zeromini_hyper_group* hyper_groups; /* NULL: one group of defaults. */
  int num_hyper_groups;
  zeromini_reduction reduction;
  double max_grad_norm;
  zeromini_on_bad_gradient non_finite; /* IGNORE: with no limit on norms. */
  zeromini_on_bad_gradient absent_gradients; /* Not IGNORE. */
  int micro_steps;
  zeromini_memory_form memory;
  int64_t hidden; /* ModelShape; 0: unknown. */
  int64_t heads;
  int64_t kv_heads;
  int64_t head_dim;
  zeromini_naming naming;
  zeromini_value_blocks value_blocks;
  int64_t bucket_bytes;
  zeromini_device device;
  zeromini_kernels kernels;
  zeromini_dtype gradient_wire; /* ZEROMINI_FLOAT32 or ZEROMINI_BFLOAT16. */
  zeromini_dtype weight_wire;   /* Of fp32 weights alone; */
  double skip_above_grad_norm;
  double max_grad_value;
  zeromini_master_format master; /* of 16-bit ones alone. */
  zeromini_state_format state;
  int64_t gather_budget_bytes;
  int prefetch;
  int shard_ranks;
  int expert_slices;
  zeromini_log_sink log; /* Where warnings go; NULL: stderr. */
  void* log_context;
  int64_t buffer_budget_bytes;   /* 0: 256 MiB, see options.h. */
  double copy_cost;              /* Of a copied byte, in bytes on the wire; */
  int64_t collective_cost_bytes; /* and of starting a collective. */
  zeromini_block_cuts blocks;
  zeromini_bucketing bucketing;
  zeromini_second_moment second_moment;
} zeromini_options;

void zeromini_options_init(zeromini_options* options, size_t struct_size);

/* ---- Plans (plan.h, plan_map.h). ---- */

typedef struct zeromini_plan_options {
  size_t struct_size;
  zeromini_algorithm algorithm;
  const int* group_algorithms; /* By hyper_group: as own_algorithm there. */
  int num_group_algorithms;
  int ranks;
  int replicas;
  int stage;
  int64_t hidden; /* ModelShape; 0: unknown. */
  int64_t heads;
  int64_t kv_heads;
  int64_t head_dim;
  zeromini_naming naming;
  zeromini_value_blocks value_blocks;
  int64_t bucket_bytes;
  int64_t buffer_budget_bytes; /* These as in zeromini_options. */
  double copy_cost;
  int64_t collective_cost_bytes;
  zeromini_block_cuts blocks;
  zeromini_memory_form memory;
  zeromini_bucketing bucketing;
  zeromini_second_moment second_moment;
} zeromini_plan_options;

void zeromini_plan_options_init(zeromini_plan_options* options,
                                size_t struct_size);

/* Needs no group. Reads no `data`, and of hyper groups the index alone. */
zeromini_plan* zeromini_make_plan(const zeromini_plan_options* options,
                                  const zeromini_param* params, int num_params,
                                  char** error);
void zeromini_plan_destroy(zeromini_plan* plan);

/* For people and for machines; zeromini_free() releases them. */
char* zeromini_plan_table(const zeromini_plan* plan);
char* zeromini_plan_json(const zeromini_plan* plan);
uint64_t zeromini_plan_hash(const zeromini_plan* plan);

typedef struct zeromini_move { /* Move, and its MoveTotals. */
  int from_param;
  int to_param;
  int from_rank;
  int to_rank;
  int64_t first_row;
  int64_t rows;
  int64_t first_block;
  int64_t blocks;
  int64_t momentum; /* Elements. */
  int64_t second_moments;
  int64_t first_matrix;
  int64_t matrices;
} zeromini_move;

/* PlanMap::moves; zeromini_free() releases them. */
zeromini_code zeromini_make_map(const zeromini_plan* from,
                                const zeromini_plan* to, int expert_slices,
                                zeromini_move** moves, int64_t* num_moves,
                                char** error);

/* ---- What a rank holds and sends (plan_bytes.h, memory_report.h). ---- */

typedef struct zeromini_memory_report {
  size_t struct_size;
  int64_t weights;
  int64_t gradients;
  int64_t momentum;
  int64_t second_moment;
  int64_t master;
  int64_t statistics;
  int64_t buckets;
  int64_t peak;
  int64_t gathered;
  int64_t method_state;
  int64_t tables;
} zeromini_memory_report;

void zeromini_memory_report_init(zeromini_memory_report* report,
                                 size_t struct_size);

typedef struct zeromini_traffic { /* By purpose. */
  int64_t calls[ZEROMINI_PURPOSES];
  int64_t bytes[ZEROMINI_PURPOSES];
  int64_t padding_bytes[ZEROMINI_PURPOSES];
} zeromini_traffic;

typedef struct zeromini_step_bytes {
  size_t struct_size;
  zeromini_traffic traffic; /* Of gradients, weights and scalars. */
  int64_t copied_gradients;
  int64_t copied_weights;
} zeromini_step_bytes;

void zeromini_step_bytes_init(zeromini_step_bytes* bytes, size_t struct_size);

/* The plan that zeromini_optimizer_create makes of the same on a group of
 * `ranks`, or the error that it gives. Needs no group, and reads no `data`. */
zeromini_plan* zeromini_plan_for(const zeromini_options* options,
                                 const zeromini_param* params, int num_params,
                                 int ranks, char** error);

/* Of such a plan or an optimizer's, which know their options. Those of
 * zeromini_make_plan do not, and are refused. */
zeromini_code zeromini_memory_of(const zeromini_plan* plan, int rank,
                                 zeromini_memory_report* report, char** error);
zeromini_code zeromini_step_bytes_of(const zeromini_plan* plan, int rank,
                                     zeromini_step_bytes* bytes, char** error);
int zeromini_largest_rank(const zeromini_plan* plan); /* -1: refused. */

/* ---- The optimizer (optimizer.h). ---- */

typedef struct zeromini_step_options {
  size_t struct_size;
  double learning_rate; /* Must be set. */
  int wait;             /* 1: weights are in place when step returns. */
  double loss_scale;
} zeromini_step_options;

void zeromini_step_options_init(zeromini_step_options* options,
                                size_t struct_size);

typedef struct zeromini_step_report {
  size_t struct_size;
  int64_t step;
  int skipped;
  double grad_norm;
  double clip_scale;
  int64_t absent_params;
  zeromini_traffic traffic;
  double seconds_total;
  double seconds_exposed_gradients;
  double seconds_scalars;
  double seconds_update;
  double seconds_exposed_weights;
  char skipped_because[256]; /* Cut to fit; empty unless skipped. */
  int64_t inside_host_bytes[ZEROMINI_PURPOSES]; /* As in level_traffic. */
  int64_t between_hosts_bytes[ZEROMINI_PURPOSES];
  int not_finite;       /* 1: skipped because a gradient was not finite. */
  int pending;          /* 1: not decided yet: wait_all, then last_report. */
  int64_t skipped_late; /* Of earlier pending steps, told by this report. */
  int64_t not_finite_late;
} zeromini_step_report;

void zeromini_step_report_init(zeromini_step_report* report,
                               size_t struct_size);

/* Collective. */
zeromini_optimizer* zeromini_optimizer_create(const zeromini_options* options,
                                              const zeromini_param* params,
                                              int num_params,
                                              zeromini_group* group,
                                              char** error);

/* Flat memory: where the tensors live, weights in the parameter's dtype; NULL
 * otherwise, for a bad index, and at stage 3 for what is not gathered.
 * Gradients: at stage 1, in fp32, of what is not tied; else NULL. */
void* zeromini_param_data(zeromini_optimizer* optimizer, int param);
float* zeromini_grad_data(zeromini_optimizer* optimizer, int param);

zeromini_code zeromini_grad_ready(zeromini_optimizer* optimizer, int param,
                                  const void* grad, void* stream, char** error);

/* Collective: rank 0's tensor becomes the weights on all ranks, of an expert's
 * that of each slice's first rank. */
zeromini_code zeromini_set_param(zeromini_optimizer* optimizer, int param,
                                 const void* data, char** error);

/* Stage 3: brings the full weights of a layer set together, and lets them go;
 * ZEROMINI_NO_LAYER_SET is one. Collective; gather returns before they are
 * there: wait_param. A pass that is none breaks the group; what optimizer.h
 * refuses is refused on this rank only. */
zeromini_code zeromini_gather(zeromini_optimizer* optimizer, int layer_set,
                              zeromini_gather_pass pass, char** error);
zeromini_code zeromini_release(zeromini_optimizer* optimizer, int layer_set,
                               void* stream, char** error);

/* Collective. `report` may be NULL. */
zeromini_code zeromini_step(zeromini_optimizer* optimizer,
                            const zeromini_step_options* options,
                            zeromini_step_report* report, char** error);

/* Of the last step that gave one. Fails for NULL and for a report without
 * struct_size only. */
zeromini_code zeromini_last_report(const zeromini_optimizer* optimizer,
                                   zeromini_step_report* report);

zeromini_code zeromini_wait_param(zeromini_optimizer* optimizer, int param,
                                  void* stream, char** error);
zeromini_code zeromini_wait_all(zeromini_optimizer* optimizer, char** error);
zeromini_code zeromini_broadcast_params(zeromini_optimizer* optimizer,
                                        char** error); /* Collective. */

/* How many floats consolidated_state writes; 0 for a bad index and for what has
 * no state, being frozen or tied. */
int64_t zeromini_momentum_count(const zeromini_optimizer* optimizer, int param);
int64_t zeromini_second_moment_count(const zeromini_optimizer* optimizer,
                                     int param);

/* Collective; a state event. `momentum` and `second_moment` have room for the
 * counts above. Any of the three may be NULL. Of what is factored second_moment
 * has an average of each row, then of each column; optimizer.h has the order of
 * all forms (Optimizer::ConsolidatedState()). */
zeromini_code zeromini_consolidated_state(zeromini_optimizer* optimizer,
                                          int param, float* momentum,
                                          float* second_moment, int64_t* steps,
                                          char** error);

zeromini_code zeromini_set_hyper_group(zeromini_optimizer* optimizer, int group,
                                       const zeromini_hyper_group* hyper,
                                       char** error);

/* The optimizer's own, which lives as long. */
const zeromini_plan* zeromini_optimizer_plan(
    const zeromini_optimizer* optimizer);

/* These fail for NULL and for a report without struct_size only. */
zeromini_code zeromini_memory(const zeromini_optimizer* optimizer,
                              zeromini_memory_report* report);
zeromini_code zeromini_optimizer_traffic(const zeromini_optimizer* optimizer,
                                         zeromini_traffic* traffic);
zeromini_code zeromini_optimizer_level_traffic(
    const zeromini_optimizer* optimizer, zeromini_level_traffic* traffic);

zeromini_code zeromini_optimizer_close(zeromini_optimizer* optimizer,
                                       char** error); /* Collective. */
void zeromini_optimizer_destroy(zeromini_optimizer* optimizer);

#ifdef __cplusplus
}
#endif

#endif /* ZEROMINI_C_H_ */
