#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/c_convert.h"
#include "zeromini/c.h"
#include "zeromini/group.h"
#include "zeromini/optimizer.h"

namespace zeromini::internal {
// Declared here, not through mpi.h, which needs an MPI.
absl::StatusOr<std::unique_ptr<Communicator>> WrapMpiHandle(
    const void* comm, size_t handle_bytes, const GroupOptions& options);
}  // namespace zeromini::internal

struct zeromini_stream {
  std::unique_ptr<zeromini::HostStream> impl;
};
struct zeromini_group {
  std::unique_ptr<zeromini::Communicator> impl;
};
struct zeromini_mpi_session {
  std::unique_ptr<zeromini::MpiSession> impl;
};
struct zeromini_optimizer {
  std::unique_ptr<zeromini::Optimizer> impl;
};

namespace {

using zeromini::c_api::CopyString;
using zeromini::c_api::Fail;

zeromini::Stream StreamOf(void* stream) {
  if (stream == nullptr) return {};
  return static_cast<zeromini_stream*>(stream)->impl->handle();
}

zeromini::GroupOptions GroupOptionsOf(double timeout_seconds) {
  zeromini::GroupOptions options;
  if (timeout_seconds > 0) options.timeout = absl::Seconds(timeout_seconds);
  return options;
}

zeromini_group* GroupOrFail(
    absl::StatusOr<std::unique_ptr<zeromini::Communicator>> group,
    char** error) {
  if (!group.ok()) {
    Fail(group.status(), error);
    return nullptr;
  }
  return new zeromini_group{*std::move(group)};
}

// Waits until the group's stream has passed what was just enqueued.
zeromini_code Finish(zeromini_group* group, const absl::Status& enqueued,
                     char** error) {
  zeromini::HostStream* stream =
      zeromini::HostStream::From(group->impl->stream());
  if (!enqueued.ok() || stream == nullptr) return Fail(enqueued, error);
  return Fail(stream->Record()->Wait(absl::InfiniteFuture()), error);
}

bool HasParam(const zeromini_optimizer* optimizer, int param) {
  return param >= 0 &&
         param < static_cast<int>(optimizer->impl->plan().params.size());
}

zeromini_code CheckParam(const zeromini_optimizer* optimizer, int param,
                         char** error) {
  if (HasParam(optimizer, param)) return ZEROMINI_OK;
  return Fail(absl::InvalidArgumentError(absl::StrCat(
                  "parameter ", param, " of ",
                  optimizer->impl->plan().params.size(), " does not exist")),
              error);
}

}  // namespace

const char* zeromini_version(void) { return ZEROMINI_VERSION; }
void zeromini_free(void* memory) { std::free(memory); }

zeromini_stream* zeromini_stream_create(const char* name) {
  return new zeromini_stream{
      zeromini::HostStream::Create(name == nullptr ? "" : name)};
}

void zeromini_stream_destroy(zeromini_stream* stream) { delete stream; }

void zeromini_stream_enqueue(zeromini_stream* stream, int (*task)(void*),
                             void* context) {
  stream->impl->Enqueue([task, context]() -> absl::Status {
    const int code = task(context);
    if (code == 0) return absl::OkStatus();
    return absl::UnknownError(absl::StrCat("a task returned ", code));
  });
}

zeromini_code zeromini_stream_wait(zeromini_stream* stream,
                                   double timeout_seconds, char** error) {
  return Fail(stream->impl->Record()->Wait(absl::Now() +
                                           absl::Seconds(timeout_seconds)),
              error);
}

zeromini_group* zeromini_self(void) {
  return new zeromini_group{zeromini::Self()};
}

zeromini_code zeromini_thread_group(int size, double timeout_seconds,
                                    zeromini_group** groups, char** error) {
  auto ranks = zeromini::ThreadGroup(size, GroupOptionsOf(timeout_seconds));
  if (!ranks.ok()) return Fail(ranks.status(), error);
  for (int r = 0; r < size; ++r) {
    groups[r] = new zeromini_group{std::move((*ranks)[r])};
  }
  return ZEROMINI_OK;
}

zeromini_group* zeromini_wrap_mpi(const void* mpi_comm, size_t bytes,
                                  double timeout_seconds, char** error) {
  return GroupOrFail(zeromini::internal::WrapMpiHandle(
                         mpi_comm, bytes, GroupOptionsOf(timeout_seconds)),
                     error);
}

zeromini_mpi_session* zeromini_mpi_session_start(char** error) {
  auto session = zeromini::MpiSession::Start();
  if (!session.ok()) {
    Fail(session.status(), error);
    return nullptr;
  }
  return new zeromini_mpi_session{*std::move(session)};
}

int zeromini_mpi_session_rank(const zeromini_mpi_session* session) {
  return session->impl->rank();
}

int zeromini_mpi_session_size(const zeromini_mpi_session* session) {
  return session->impl->size();
}

zeromini_group* zeromini_mpi_session_world(zeromini_mpi_session* session,
                                           double timeout_seconds,
                                           char** error) {
  return GroupOrFail(session->impl->World(GroupOptionsOf(timeout_seconds)),
                     error);
}

void zeromini_mpi_session_destroy(zeromini_mpi_session* session) {
  delete session;
}

int zeromini_group_rank(const zeromini_group* group) {
  return group->impl->rank();
}
int zeromini_group_size(const zeromini_group* group) {
  return group->impl->size();
}
const char* zeromini_group_backend(const zeromini_group* group) {
  return group->impl->backend();
}
int zeromini_group_overlaps(const zeromini_group* group) {
  return group->impl->overlaps() ? 1 : 0;
}
double zeromini_group_timeout(const zeromini_group* group) {
  return absl::ToDoubleSeconds(group->impl->timeout());
}

zeromini_code zeromini_all_reduce(zeromini_group* group, void* data,
                                  int64_t count, zeromini_dtype dtype,
                                  zeromini_reduce_op op, char** error) {
  return Finish(
      group,
      group->impl->AllReduce(data, count, static_cast<zeromini::DType>(dtype),
                             static_cast<zeromini::ReduceOp>(op), {}),
      error);
}

zeromini_code zeromini_reduce_scatter(zeromini_group* group, const void* in,
                                      void* out, int64_t count,
                                      zeromini_dtype dtype, char** error) {
  return Finish(group,
                group->impl->ReduceScatter(
                    in, out, count, static_cast<zeromini::DType>(dtype), {}),
                error);
}

zeromini_code zeromini_all_gather(zeromini_group* group, const void* in,
                                  void* out, int64_t count,
                                  zeromini_dtype dtype, char** error) {
  return Finish(group,
                group->impl->AllGather(in, out, count,
                                       static_cast<zeromini::DType>(dtype), {}),
                error);
}

zeromini_code zeromini_broadcast(zeromini_group* group, void* data,
                                 int64_t bytes, int root, char** error) {
  return Finish(group, group->impl->Broadcast(data, bytes, root, {}), error);
}

zeromini_code zeromini_barrier(zeromini_group* group, char** error) {
  return Fail(group->impl->Barrier(), error);
}

zeromini_code zeromini_group_split(zeromini_group* group, int color, int key,
                                   zeromini_group** part, char** error) {
  auto split = group->impl->Split(color, key);
  if (!split.ok()) return Fail(split.status(), error);
  *part = *split == nullptr ? nullptr : new zeromini_group{*std::move(split)};
  return ZEROMINI_OK;
}

void zeromini_group_abort(zeromini_group* group, const char* why) {
  group->impl->Abort(
      absl::AbortedError(why == nullptr ? "aborted by the program" : why));
}

zeromini_code zeromini_group_close(zeromini_group* group, char** error) {
  return Fail(group->impl->Close(), error);
}

void zeromini_group_destroy(zeromini_group* group) { delete group; }

zeromini_optimizer* zeromini_optimizer_create(const zeromini_options* options,
                                              const zeromini_param* params,
                                              int num_params,
                                              zeromini_group* group,
                                              char** error) {
  std::vector<zeromini::ParamSpec> specs;
  const char* next = reinterpret_cast<const char*>(params);
  for (int i = 0; i < num_params; ++i) {
    const auto& param = *reinterpret_cast<const zeromini_param*>(next);
    specs.push_back(zeromini::c_api::FromC(param));
    next += param.struct_size;
  }
  auto optimizer = zeromini::Optimizer::Create(zeromini::c_api::FromC(*options),
                                               specs, *group->impl);
  if (!optimizer.ok()) {
    Fail(optimizer.status(), error);
    return nullptr;
  }
  return new zeromini_optimizer{*std::move(optimizer)};
}

void* zeromini_param_data(zeromini_optimizer* optimizer, int param) {
  return HasParam(optimizer, param) ? optimizer->impl->ParamData(param)
                                    : nullptr;
}

float* zeromini_grad_data(zeromini_optimizer* optimizer, int param) {
  return HasParam(optimizer, param) ? optimizer->impl->GradData(param)
                                    : nullptr;
}

zeromini_code zeromini_grad_ready(zeromini_optimizer* optimizer, int param,
                                  const void* grad, void* stream,
                                  char** error) {
  return Fail(optimizer->impl->GradReady(param, grad, StreamOf(stream)), error);
}

zeromini_code zeromini_set_param(zeromini_optimizer* optimizer, int param,
                                 const void* data, char** error) {
  return Fail(optimizer->impl->SetParam(param, data), error);
}

zeromini_code zeromini_gather(zeromini_optimizer* optimizer, int gather_group,
                              zeromini_gather_pass pass, char** error) {
  return Fail(optimizer->impl->Gather(gather_group,
                                      static_cast<zeromini::GatherPass>(pass)),
              error);
}

zeromini_code zeromini_release(zeromini_optimizer* optimizer, int gather_group,
                               void* stream, char** error) {
  return Fail(optimizer->impl->Release(gather_group, StreamOf(stream)), error);
}

zeromini_code zeromini_step(zeromini_optimizer* optimizer,
                            const zeromini_step_options* options,
                            zeromini_step_report* report, char** error) {
  const auto taken = optimizer->impl->Step(zeromini::c_api::FromC(*options));
  if (!taken.ok()) return Fail(taken.status(), error);
  if (report != nullptr) zeromini::c_api::ToC(*taken, report);
  return ZEROMINI_OK;
}

zeromini_code zeromini_wait_param(zeromini_optimizer* optimizer, int param,
                                  void* stream, char** error) {
  return Fail(optimizer->impl->WaitParam(param, StreamOf(stream)), error);
}

zeromini_code zeromini_wait_all(zeromini_optimizer* optimizer, char** error) {
  return Fail(optimizer->impl->WaitAll(), error);
}

zeromini_code zeromini_broadcast_params(zeromini_optimizer* optimizer,
                                        char** error) {
  return Fail(optimizer->impl->BroadcastParams(), error);
}

int64_t zeromini_momentum_count(const zeromini_optimizer* optimizer,
                                int param) {
  if (!HasParam(optimizer, param)) return 0;
  const auto& planned = optimizer->impl->plan().params[param];
  return planned.rows * planned.row_elements;
}

int64_t zeromini_second_moment_count(const zeromini_optimizer* optimizer,
                                     int param) {
  if (!HasParam(optimizer, param)) return 0;
  return optimizer->impl->plan().params[param].blocks_total;
}

zeromini_code zeromini_consolidated_state(zeromini_optimizer* optimizer,
                                          int param, float* momentum,
                                          float* second_moment, int64_t* steps,
                                          char** error) {
  const zeromini_code bad = CheckParam(optimizer, param, error);
  if (bad != ZEROMINI_OK) return bad;
  const auto state = optimizer->impl->ConsolidatedState(param);
  if (!state.ok()) return Fail(state.status(), error);
  if (momentum != nullptr) {
    std::copy(state->momentum.begin(), state->momentum.end(), momentum);
  }
  if (second_moment != nullptr) {
    std::copy(state->second_moment.begin(), state->second_moment.end(),
              second_moment);
  }
  if (steps != nullptr) *steps = state->steps;
  return ZEROMINI_OK;
}

zeromini_code zeromini_set_group(zeromini_optimizer* optimizer, int group,
                                 const zeromini_hyper* hyper, char** error) {
  return Fail(optimizer->impl->SetGroup(group, zeromini::c_api::FromC(*hyper)),
              error);
}

char* zeromini_plan_table(const zeromini_optimizer* optimizer) {
  return CopyString(optimizer->impl->plan().ToTable());
}
char* zeromini_plan_json(const zeromini_optimizer* optimizer) {
  return CopyString(optimizer->impl->plan().ToJson());
}
uint64_t zeromini_plan_hash(const zeromini_optimizer* optimizer) {
  return optimizer->impl->plan().hash;
}

void zeromini_memory(const zeromini_optimizer* optimizer,
                     zeromini_memory_report* report) {
  zeromini::c_api::ToC(optimizer->impl->Memory(), report);
}

void zeromini_optimizer_traffic(const zeromini_optimizer* optimizer,
                                zeromini_traffic* traffic) {
  *traffic = zeromini::c_api::ToC(optimizer->impl->traffic());
}

void zeromini_optimizer_level_traffic(const zeromini_optimizer* optimizer,
                                      zeromini_level_traffic* traffic) {
  zeromini::c_api::ToC(optimizer->impl->traffic(), traffic);
}

zeromini_code zeromini_optimizer_close(zeromini_optimizer* optimizer,
                                       char** error) {
  return Fail(optimizer->impl->Close(), error);
}

void zeromini_optimizer_destroy(zeromini_optimizer* optimizer) {
  delete optimizer;
}
