// Streams and groups of c.h.

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/c/c_check.h"
#include "runtime/c/c_convert.h"
#include "runtime/c/c_handles.h"
#include "runtime/c/c_message.h"
#include "zeromini/c.h"
#include "zeromini/group.h"
#include "zeromini/internal/exchange_wait.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::internal {
// Declared here, not through mpi.h, which needs an MPI.
absl::StatusOr<std::unique_ptr<Communicator>> WrapMpiHandle(
    const void* comm, size_t handle_bytes, const GroupOptions& options);
}  // namespace zeromini::internal

namespace {

using zeromini::Communicator;
using zeromini::WaitForExchanges;
using zeromini::c_api::CheckEnum;
using zeromini::c_api::CheckNotNull;
using zeromini::c_api::CheckOut;
using zeromini::c_api::CheckRange;
using zeromini::c_api::CheckSeconds;
using zeromini::c_api::CopyString;
using zeromini::c_api::Fail;
using zeromini::c_api::FromC;
using zeromini::c_api::NumberOf;
using zeromini::c_api::OnHandle;
using zeromini::c_api::RefuseExchange;
using zeromini::c_api::ToC;
using zeromini::c_api::WithoutThrowing;

constexpr int kMostThreadRanks = 1 << 16;

// The value of `call`, a StatusOr of what `Handle` holds, as a handle.
template <typename Handle, typename Call>
Handle* MakeHandle(char** error, Call call) {
  std::unique_ptr<Handle> handle;
  const absl::Status status = WithoutThrowing([&]() -> absl::Status {
    ZEROMINI_ASSIGN_OR_RETURN(auto impl, call());
    handle.reset(new Handle{std::move(impl)});
    return absl::OkStatus();
  });
  Fail(status, error);
  return handle.release();
}

// `call` on the group, unless it is null.
template <typename Call>
zeromini_code OnGroup(zeromini_group* group, char** error, Call call) {
  return OnHandle("group", group, error, std::move(call));
}

// A collective call. Refused arguments break the group, as those do that the
// group refuses itself.
template <typename Call>
zeromini_code Collective(zeromini_group* group, const char* name,
                         const absl::Status& arguments, char** error,
                         Call call) {
  return OnGroup(group, error, [&](Communicator& ranks) -> absl::Status {
    return arguments.ok() ? call(ranks)
                          : RefuseExchange(ranks, name, arguments);
  });
}

char* Describe(std::string (*description)(bool*), int* available) {
  bool is_there = false;
  const std::string text = description(&is_there);
  if (available != nullptr) *available = is_there ? 1 : 0;
  return CopyString(text);
}

absl::Status CheckDType(const zeromini_dtype& dtype) {
  return CheckEnum("zeromini_dtype", NumberOf(dtype), ZEROMINI_BYTE);
}

}  // namespace

const char* zeromini_version(void) { return ZEROMINI_VERSION; }
void zeromini_free(void* memory) { std::free(memory); }

zeromini_stream* zeromini_stream_create(const char* name) {
  using Made = absl::StatusOr<std::unique_ptr<zeromini::HostStream>>;
  return MakeHandle<zeromini_stream>(nullptr, [&]() -> Made {
    return zeromini::HostStream::Create(name == nullptr ? "" : name);
  });
}

void zeromini_stream_destroy(zeromini_stream* stream) {
  if (stream == nullptr) return;
  // The C++ stream drops what is queued.
  stream->impl->Record()->Wait(absl::InfiniteFuture()).IgnoreError();
  delete stream;
}

void zeromini_stream_enqueue(zeromini_stream* stream, int (*task)(void*),
                             void* context) {
  if (stream == nullptr) return;
  stream->impl->Enqueue([task, context]() -> absl::Status {
    if (task == nullptr) return absl::InvalidArgumentError("a task is NULL");
    const int code = task(context);
    if (code == 0) return absl::OkStatus();
    return absl::UnknownError(absl::StrCat("a task returned ", code));
  });
}

zeromini_code zeromini_stream_wait(zeromini_stream* stream,
                                   double timeout_seconds, char** error) {
  absl::Status given = CheckNotNull("stream", stream);
  if (given.ok()) given = CheckSeconds("timeout_seconds", timeout_seconds);
  if (!given.ok()) return Fail(given, error);
  return Fail(stream->impl->Record()->Wait(absl::Now() +
                                           absl::Seconds(timeout_seconds)),
              error);
}

zeromini_group* zeromini_self(void) {
  return new zeromini_group{zeromini::Self()};
}

zeromini_code zeromini_thread_group(int size,
                                    const zeromini_group_options* options,
                                    zeromini_group** groups, char** error) {
  const auto make = [&]() -> absl::Status {
    ZEROMINI_RETURN_IF_ERROR(CheckRange("size", size, 1, kMostThreadRanks));
    ZEROMINI_RETURN_IF_ERROR(CheckNotNull("groups", groups));
    ZEROMINI_ASSIGN_OR_RETURN(const zeromini::GroupOptions chosen,
                              FromC(options));
    ZEROMINI_ASSIGN_OR_RETURN(auto ranks, zeromini::ThreadGroup(size, chosen));
    for (int r = 0; r < size; ++r) {
      groups[r] = new zeromini_group{std::move(ranks[r])};
    }
    return absl::OkStatus();
  };
  return Fail(WithoutThrowing(make), error);
}

zeromini_group* zeromini_wrap_mpi(const void* mpi_comm, size_t bytes,
                                  const zeromini_group_options* options,
                                  char** error) {
  using Made = absl::StatusOr<std::unique_ptr<Communicator>>;
  return MakeHandle<zeromini_group>(error, [&]() -> Made {
    ZEROMINI_RETURN_IF_ERROR(CheckNotNull("mpi_comm", mpi_comm));
    ZEROMINI_ASSIGN_OR_RETURN(const zeromini::GroupOptions chosen,
                              FromC(options));
    return zeromini::internal::WrapMpiHandle(mpi_comm, bytes, chosen);
  });
}

zeromini_mpi_session* zeromini_mpi_session_start(char** error) {
  return MakeHandle<zeromini_mpi_session>(error, zeromini::MpiSession::Start);
}

int zeromini_mpi_session_rank(const zeromini_mpi_session* session) {
  return session == nullptr ? -1 : session->impl->rank();
}

int zeromini_mpi_session_size(const zeromini_mpi_session* session) {
  return session == nullptr ? 0 : session->impl->size();
}

zeromini_group* zeromini_mpi_session_world(
    zeromini_mpi_session* session, const zeromini_group_options* options,
    char** error) {
  using Made = absl::StatusOr<std::unique_ptr<Communicator>>;
  return MakeHandle<zeromini_group>(error, [&]() -> Made {
    ZEROMINI_RETURN_IF_ERROR(CheckNotNull("session", session));
    ZEROMINI_ASSIGN_OR_RETURN(const zeromini::GroupOptions chosen,
                              FromC(options));
    return session->impl->World(chosen);
  });
}

void zeromini_mpi_session_destroy(zeromini_mpi_session* session) {
  delete session;
}

char* zeromini_mpi_description(int* available) {
  return Describe(zeromini::MpiDescription, available);
}
char* zeromini_nccl_description(int* available) {
  return Describe(zeromini::NcclDescription, available);
}

int zeromini_group_rank(const zeromini_group* group) {
  return group == nullptr ? -1 : group->impl->rank();
}
int zeromini_group_size(const zeromini_group* group) {
  return group == nullptr ? 0 : group->impl->size();
}
const char* zeromini_group_backend(const zeromini_group* group) {
  return group == nullptr ? "" : group->impl->backend();
}
int zeromini_group_overlaps(const zeromini_group* group) {
  return group != nullptr && group->impl->overlaps() ? 1 : 0;
}
double zeromini_group_timeout(const zeromini_group* group) {
  return group == nullptr ? 0 : absl::ToDoubleSeconds(group->impl->timeout());
}

char* zeromini_group_in_flight(const zeromini_group* group) {
  return group == nullptr ? nullptr : CopyString(group->impl->in_flight());
}
zeromini_code zeromini_group_level_traffic(const zeromini_group* group,
                                           zeromini_level_traffic* traffic) {
  if (group == nullptr || !CheckOut("traffic", traffic).ok()) {
    return ZEROMINI_INVALID_ARGUMENT;
  }
  ToC(group->impl->level_traffic(), traffic);
  return ZEROMINI_OK;
}

zeromini_code zeromini_all_reduce(zeromini_group* group, void* data,
                                  int64_t count, zeromini_dtype dtype,
                                  zeromini_reduce_op op, char** error) {
  absl::Status given = CheckDType(dtype);
  if (given.ok()) {
    given = CheckEnum("zeromini_reduce_op", NumberOf(op), ZEROMINI_MIN);
  }
  return Collective(group, "all_reduce", given, error, [&](Communicator& to) {
    const absl::Status enqueued =
        to.AllReduce(data, count, static_cast<zeromini::DType>(dtype),
                     static_cast<zeromini::ReduceOp>(op), {});
    return enqueued.ok() ? WaitForExchanges(to) : enqueued;
  });
}

zeromini_code zeromini_reduce_scatter(zeromini_group* group, const void* in,
                                      void* out, int64_t count,
                                      zeromini_dtype dtype, char** error) {
  return Collective(
      group, "reduce_scatter", CheckDType(dtype), error, [&](Communicator& to) {
        const absl::Status enqueued = to.ReduceScatter(
            in, out, count, static_cast<zeromini::DType>(dtype), {});
        return enqueued.ok() ? WaitForExchanges(to) : enqueued;
      });
}

zeromini_code zeromini_all_gather(zeromini_group* group, const void* in,
                                  void* out, int64_t count,
                                  zeromini_dtype dtype, char** error) {
  return Collective(
      group, "all_gather", CheckDType(dtype), error, [&](Communicator& to) {
        const absl::Status enqueued = to.AllGather(
            in, out, count, static_cast<zeromini::DType>(dtype), {});
        return enqueued.ok() ? WaitForExchanges(to) : enqueued;
      });
}

zeromini_code zeromini_broadcast(zeromini_group* group, void* data,
                                 int64_t bytes, int root, char** error) {
  return OnGroup(group, error, [&](Communicator& to) {
    const absl::Status enqueued = to.Broadcast(data, bytes, root, {});
    return enqueued.ok() ? WaitForExchanges(to) : enqueued;
  });
}

zeromini_code zeromini_all_to_all_v(zeromini_group* group, const void* in,
                                    const int64_t* send_counts, void* out,
                                    const int64_t* receive_counts,
                                    zeromini_dtype dtype, char** error) {
  absl::Status given = CheckDType(dtype);
  if (given.ok()) given = CheckNotNull("send_counts", send_counts);
  if (given.ok()) given = CheckNotNull("receive_counts", receive_counts);
  return Collective(group, "all_to_all_v", given, error, [&](Communicator& to) {
    const size_t ranks = static_cast<size_t>(to.size());
    const absl::Status enqueued =
        to.AllToAllV(in, {send_counts, ranks}, out, {receive_counts, ranks},
                     static_cast<zeromini::DType>(dtype), {});
    return enqueued.ok() ? WaitForExchanges(to) : enqueued;
  });
}

zeromini_code zeromini_group_finish(zeromini_group* group,
                                    double timeout_seconds, char** error) {
  return OnGroup(group, error, [&](Communicator& to) -> absl::Status {
    ZEROMINI_RETURN_IF_ERROR(CheckSeconds("timeout_seconds", timeout_seconds));
    return to.Finish(absl::Now() + absl::Seconds(timeout_seconds));
  });
}

zeromini_code zeromini_barrier(zeromini_group* group, char** error) {
  return OnGroup(group, error, [](Communicator& to) { return to.Barrier(); });
}

zeromini_code zeromini_group_split(zeromini_group* group, int color, int key,
                                   zeromini_group** part, char** error) {
  return Collective(
      group, "group_split", CheckNotNull("part", part), error,
      [&](Communicator& from) -> absl::Status {
        ZEROMINI_ASSIGN_OR_RETURN(auto split, from.Split(color, key));
        *part =
            split == nullptr ? nullptr : new zeromini_group{std::move(split)};
        return absl::OkStatus();
      });
}

void zeromini_group_abort(zeromini_group* group, const char* why) {
  if (group == nullptr) return;
  group->impl->Abort(
      absl::AbortedError(why == nullptr ? "aborted by the program" : why));
}

zeromini_code zeromini_group_close(zeromini_group* group, char** error) {
  return OnGroup(group, error, [](Communicator& to) { return to.Close(); });
}

void zeromini_group_destroy(zeromini_group* group) { delete group; }
