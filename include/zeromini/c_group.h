/* Codes, streams and groups of ranks of the C API, whose rules c.h states.
 * Programs include c.h. */

#ifndef ZEROMINI_C_GROUP_H_
#define ZEROMINI_C_GROUP_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The codes of absl::Status, all of them. */
typedef enum zeromini_code {
  ZEROMINI_OK = 0,
  ZEROMINI_CANCELLED = 1,
  ZEROMINI_UNKNOWN = 2,
  ZEROMINI_INVALID_ARGUMENT = 3,
  ZEROMINI_DEADLINE_EXCEEDED = 4,
  ZEROMINI_NOT_FOUND = 5,
  ZEROMINI_ALREADY_EXISTS = 6,
  ZEROMINI_PERMISSION_DENIED = 7,
  ZEROMINI_RESOURCE_EXHAUSTED = 8,
  ZEROMINI_FAILED_PRECONDITION = 9,
  ZEROMINI_ABORTED = 10,
  ZEROMINI_OUT_OF_RANGE = 11,
  ZEROMINI_UNIMPLEMENTED = 12,
  ZEROMINI_INTERNAL = 13,
  ZEROMINI_UNAVAILABLE = 14,
  ZEROMINI_DATA_LOSS = 15,
  ZEROMINI_UNAUTHENTICATED = 16
} zeromini_code;

typedef enum zeromini_dtype {
  ZEROMINI_FLOAT32 = 0,
  ZEROMINI_BFLOAT16 = 1,
  ZEROMINI_FLOAT16 = 2,
  ZEROMINI_INT64 = 3,
  ZEROMINI_BYTE = 4
} zeromini_dtype;

typedef enum zeromini_reduce_op {
  ZEROMINI_SUM = 0,
  ZEROMINI_MAX = 1,
  ZEROMINI_MIN = 2
} zeromini_reduce_op;

typedef struct zeromini_stream zeromini_stream;
typedef struct zeromini_group zeromini_group;
typedef struct zeromini_mpi_session zeromini_mpi_session;

const char* zeromini_version(void); /* "0.1.0" */
void zeromini_free(void* memory);   /* Error messages and other strings. */

/* ---- Warnings (log.h). ---- */

typedef enum zeromini_log_level {
  ZEROMINI_LOG_INFO = 0,
  ZEROMINI_LOG_WARNING = 1
} zeromini_log_level;

/* Takes one message without a line end, which is gone after the call. Any
 * thread may call it, also while another does. It and its context live as long
 * as what they are given to. */
typedef void (*zeromini_log_sink)(void* context, zeromini_log_level level,
                                  const char* message);

/* ---- Streams: in-order queues of work on a thread of their own. ---- */

/* If there is no thread for it, waiting for it says so. */
zeromini_stream* zeromini_stream_create(const char* name);

/* Runs what is queued, and waits for it. Not from a task of the stream. */
void zeromini_stream_destroy(zeromini_stream* stream);

/* Later. A task that returns nonzero poisons the stream: the rest is dropped.
 */
void zeromini_stream_enqueue(zeromini_stream* stream, int (*task)(void*),
                             void* context);

/* Waits for all that is queued now; the stream's error, or a deadline. */
zeromini_code zeromini_stream_wait(zeromini_stream* stream,
                                   double timeout_seconds, char** error);

/* ---- Groups of ranks (communicator.h, group.h, mpi.h). ---- */

typedef struct zeromini_group_options {
  size_t struct_size;
  double timeout_seconds; /* Positive: of any wait inside an exchange. */
  const int* hosts;       /* By rank: which host it is on. NULL: as they are. */
  int num_hosts;
  zeromini_log_sink log; /* Where warnings go; NULL: stderr. */
  void* log_context;
} zeromini_group_options;

void zeromini_group_options_init(zeromini_group_options* options,
                                 size_t struct_size);

/* A group of one. */
zeromini_group* zeromini_self(void);

/* `size` ranks in this process: groups[r] is rank r's, for a thread of its own.
 * `options`, here and below, may be NULL: the defaults. */
zeromini_code zeromini_thread_group(int size,
                                    const zeromini_group_options* options,
                                    zeromini_group** groups, char** error);

/* Collective over the trainer's own communicator, which is duplicated and never
 * freed or used itself: zeromini_wrap_mpi(&comm, sizeof comm, NULL, &error). */
zeromini_group* zeromini_wrap_mpi(const void* mpi_comm, size_t bytes,
                                  const zeromini_group_options* options,
                                  char** error);

/* For a program that does not initialise MPI itself. Destroying the session
 * finalises MPI; close its groups before. */
zeromini_mpi_session* zeromini_mpi_session_start(char** error);
int zeromini_mpi_session_rank(const zeromini_mpi_session* session);
int zeromini_mpi_session_size(const zeromini_mpi_session* session);
zeromini_group* zeromini_mpi_session_world(
    zeromini_mpi_session* session, const zeromini_group_options* options,
    char** error); /* Collective. */
void zeromini_mpi_session_destroy(zeromini_mpi_session* session);

/* "Open MPI 4.1.4", or why it is absent; zeromini_free() releases it.
 * `available`, which may be NULL, becomes 0 or 1. */
char* zeromini_mpi_description(int* available);
char* zeromini_nccl_description(int* available);

int zeromini_group_rank(const zeromini_group* group);
int zeromini_group_size(const zeromini_group* group);
const char* zeromini_group_backend(const zeromini_group* group);
int zeromini_group_overlaps(const zeromini_group* group); /* 0 or 1. */
double zeromini_group_timeout(const zeromini_group* group);

/* The exchange that this rank is in, for a last message; zeromini_free()
 * releases it. Any thread. */
char* zeromini_group_in_flight(const zeromini_group* group);

/* Purposes of bytes: 0 gradients, 1 weights, 2 scalars, 3 state, 4 control. */
#define ZEROMINI_PURPOSES 5

/* What the backend has really sent, by purpose and level. */
typedef struct zeromini_level_traffic {
  size_t struct_size;
  int64_t inside_host_bytes[ZEROMINI_PURPOSES];
  int64_t between_hosts_bytes[ZEROMINI_PURPOSES];
} zeromini_level_traffic;

void zeromini_level_traffic_init(zeromini_level_traffic* traffic,
                                 size_t struct_size);

/* Of this group alone, since it was made. Any thread. Fails for NULL and for a
 * struct without struct_size only. */
zeromini_code zeromini_group_level_traffic(const zeromini_group* group,
                                           zeromini_level_traffic* traffic);

/* Collective. Each returns once this rank's part is done. all_reduce works in
 * place; reduce_scatter takes size*count elements to `count`, all_gather
 * `count` to size*count. */
zeromini_code zeromini_all_reduce(zeromini_group* group, void* data,
                                  int64_t count, zeromini_dtype dtype,
                                  zeromini_reduce_op op, char** error);
zeromini_code zeromini_reduce_scatter(zeromini_group* group, const void* in,
                                      void* out, int64_t count,
                                      zeromini_dtype dtype, char** error);
zeromini_code zeromini_all_gather(zeromini_group* group, const void* in,
                                  void* out, int64_t count,
                                  zeromini_dtype dtype, char** error);
zeromini_code zeromini_broadcast(zeromini_group* group, void* data,
                                 int64_t bytes, int root, char** error);
/* Both arrays of counts have a number for each rank, this one included. */
zeromini_code zeromini_all_to_all_v(zeromini_group* group, const void* in,
                                    const int64_t* send_counts, void* out,
                                    const int64_t* receive_counts,
                                    zeromini_dtype dtype, char** error);
zeromini_code zeromini_barrier(zeromini_group* group, char** error);

/* Local: waits until what an optimizer has given this rank's group to exchange
 * has run; its first error, or ZEROMINI_DEADLINE_EXCEEDED. */
zeromini_code zeromini_group_finish(zeromini_group* group,
                                    double timeout_seconds, char** error);

/* Collective. Ranks of equal `color`, ordered by (key, rank). A negative color
 * gives OK and a NULL group. */
zeromini_code zeromini_group_split(zeromini_group* group, int color, int key,
                                   zeromini_group** part, char** error);

/* Any thread. Breaks the group; `why` is what later calls report. */
void zeromini_group_abort(zeromini_group* group, const char* why);
zeromini_code zeromini_group_close(zeromini_group* group,
                                   char** error);   /* Collective. */
void zeromini_group_destroy(zeromini_group* group); /* Never communicates. */

#ifdef __cplusplus
}
#endif

#endif /* ZEROMINI_C_GROUP_H_ */
