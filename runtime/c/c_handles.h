// What C's opaque handles are, and how a call of C becomes one of C++.

#ifndef ZEROMINI_RUNTIME_C_C_HANDLES_H_
#define ZEROMINI_RUNTIME_C_C_HANDLES_H_

#include <exception>
#include <memory>
#include <new>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/c/c_check.h"
#include "runtime/c/c_message.h"
#include "zeromini/c.h"
#include "zeromini/group.h"
#include "zeromini/optimizer.h"
#include "zeromini/options.h"
#include "zeromini/plan.h"
#include "zeromini/stream.h"

struct zeromini_stream {
  std::unique_ptr<zeromini::HostStream> impl;
};
struct zeromini_group {
  std::unique_ptr<zeromini::Communicator> impl;
};
struct zeromini_mpi_session {
  std::unique_ptr<zeromini::MpiSession> impl;
};
struct zeromini_plan {
  const zeromini::Plan* impl = nullptr;
  std::unique_ptr<const zeromini::Plan> own;  // Null: an optimizer's.
  // That PlanFor() or Create() made it with; null: MakePlan() did.
  std::unique_ptr<const zeromini::OptimizerOptions> options;
};
struct zeromini_optimizer {
  std::unique_ptr<zeromini::Optimizer> impl;
  zeromini::Communicator* group;  // What it was created with.
  zeromini_plan plan;
};

namespace zeromini::c_api {

// The status of `call`. What the standard library throws (no memory, no thread)
// must not reach a C program, which cannot catch it.
template <typename Call>
absl::Status WithoutThrowing(Call call) {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("there is no memory left on the host");
  } catch (const std::exception& thrown) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the C++ library failed: ", thrown.what()));
  }
}

// `call` on what `handle` holds, unless it is null; messages call it
// `argument`.
template <typename Handle, typename Call>
zeromini_code OnHandle(const char* argument, Handle* handle, char** error,
                       Call call) {
  const absl::Status given = CheckNotNull(argument, handle);
  if (!given.ok()) return Fail(given, error);
  return Fail(WithoutThrowing([&] { return call(*handle->impl); }), error);
}

// Refuses the arguments of an exchange, which breaks the group: the peers have
// made the call and would wait.
inline absl::Status RefuseExchange(Communicator& ranks, const char* name,
                                   const absl::Status& arguments) {
  const absl::Status refused = absl::InvalidArgumentError(absl::StrCat(
      "rank ", ranks.rank(), ", ", name, ": ", arguments.message()));
  ranks.Abort(refused);
  return refused;
}

}  // namespace zeromini::c_api

#endif  // ZEROMINI_RUNTIME_C_C_HANDLES_H_
