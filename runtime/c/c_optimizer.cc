// The optimizer of c.h.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/c/c_check.h"
#include "runtime/c/c_convert.h"
#include "runtime/c/c_handles.h"
#include "runtime/c/c_message.h"
#include "runtime/group/agreement.h"
#include "zeromini/c.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/kernels.h"
#include "zeromini/optimizer.h"

namespace {

using zeromini::Communicator;
using zeromini::Optimizer;
using zeromini::c_api::CheckEnum;
using zeromini::c_api::CheckNotNull;
using zeromini::c_api::CheckOut;
using zeromini::c_api::Fail;
using zeromini::c_api::FromC;
using zeromini::c_api::NumberOf;
using zeromini::c_api::OnHandle;
using zeromini::c_api::RefuseExchange;
using zeromini::c_api::ToC;
using zeromini::c_api::WithoutThrowing;

zeromini::Stream StreamOf(void* stream) {
  if (stream == nullptr) return {};
  return static_cast<zeromini_stream*>(stream)->impl->handle();
}

// `call` on the optimizer, unless it is null.
template <typename Call>
zeromini_code On(zeromini_optimizer* optimizer, char** error, Call call) {
  return OnHandle("optimizer", optimizer, error, std::move(call));
}

// Of what only reads the optimizer and has no message.
template <typename Call>
zeromini_code Report(const zeromini_optimizer* optimizer,
                     const absl::Status& room, Call call) {
  if (optimizer == nullptr || !room.ok()) return ZEROMINI_INVALID_ARGUMENT;
  call(*optimizer->impl);
  return ZEROMINI_OK;
}

bool HasParam(const zeromini_optimizer* optimizer, int param) {
  return optimizer != nullptr && param >= 0 &&
         param < static_cast<int>(optimizer->impl->plan().params.size());
}

bool HasState(const zeromini_optimizer* optimizer, int param) {
  return HasParam(optimizer, param) &&
         optimizer->impl->plan().params[param].has_state();
}

// Takes part in the agreement that Optimizer::Create() begins with, so that no
// peer waits for a rank whose arguments never became C++.
absl::Status RefuseOnAllRanks(const absl::Status& why, Communicator& group) {
  return zeromini::AgreeOnStatus(why, group.control());
}

absl::StatusOr<std::unique_ptr<zeromini_optimizer>> Create(
    const zeromini_options* options, const zeromini_param* params,
    int num_params, zeromini_group* group) {
  ZEROMINI_RETURN_IF_ERROR(CheckNotNull("group", group));
  const auto chosen = FromC(options);
  if (!chosen.ok()) return RefuseOnAllRanks(chosen.status(), *group->impl);
  const auto specs = FromC(params, num_params);
  if (!specs.ok()) return RefuseOnAllRanks(specs.status(), *group->impl);
  ZEROMINI_ASSIGN_OR_RETURN(auto made,
                            Optimizer::Create(*chosen, *specs, *group->impl));
  const zeromini::Plan* const plan = &made->plan();
  return std::unique_ptr<zeromini_optimizer>(new zeromini_optimizer{
      std::move(made),
      group->impl.get(),
      {plan, nullptr,
       std::make_unique<const zeromini::OptimizerOptions>(*chosen)}});
}

absl::Status Step(Optimizer& optimizer, const zeromini_step_options* options,
                  zeromini_step_report* report) {
  const auto chosen = FromC(options);
  absl::Status given = chosen.status();
  if (given.ok() && report != nullptr) given = CheckOut("report", report);
  if (!given.ok()) {
    // Joins the step of the peers with a rate that no rank takes.
    zeromini::StepOptions none;
    none.learning_rate = std::numeric_limits<double>::quiet_NaN();
    optimizer.Step(none).status().IgnoreError();
    return given;
  }
  ZEROMINI_ASSIGN_OR_RETURN(const auto taken, optimizer.Step(*chosen));
  if (report != nullptr) ToC(taken, report);
  return absl::OkStatus();
}

}  // namespace

zeromini_optimizer* zeromini_optimizer_create(const zeromini_options* options,
                                              const zeromini_param* params,
                                              int num_params,
                                              zeromini_group* group,
                                              char** error) {
  std::unique_ptr<zeromini_optimizer> made;
  const absl::Status status = WithoutThrowing([&]() -> absl::Status {
    ZEROMINI_ASSIGN_OR_RETURN(made, Create(options, params, num_params, group));
    return absl::OkStatus();
  });
  Fail(status, error);
  return made.release();
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
  return On(optimizer, error, [&](Optimizer& on) {
    return on.GradReady(param, grad, StreamOf(stream));
  });
}

zeromini_code zeromini_set_param(zeromini_optimizer* optimizer, int param,
                                 const void* data, char** error) {
  return On(optimizer, error,
            [&](Optimizer& on) { return on.SetParam(param, data); });
}

zeromini_code zeromini_gather(zeromini_optimizer* optimizer, int layer_set,
                              zeromini_gather_pass pass, char** error) {
  return On(optimizer, error, [&](Optimizer& on) -> absl::Status {
    const absl::Status given =
        CheckEnum("zeromini_gather_pass", NumberOf(pass), ZEROMINI_PASS_NONE);
    if (!given.ok()) return RefuseExchange(*optimizer->group, "gather", given);
    return on.Gather(layer_set, static_cast<zeromini::GatherPass>(pass));
  });
}

zeromini_code zeromini_release(zeromini_optimizer* optimizer, int layer_set,
                               void* stream, char** error) {
  return On(optimizer, error, [&](Optimizer& on) {
    return on.Release(layer_set, StreamOf(stream));
  });
}

zeromini_code zeromini_step(zeromini_optimizer* optimizer,
                            const zeromini_step_options* options,
                            zeromini_step_report* report, char** error) {
  return On(optimizer, error,
            [&](Optimizer& on) { return Step(on, options, report); });
}

zeromini_code zeromini_last_report(const zeromini_optimizer* optimizer,
                                   zeromini_step_report* report) {
  return Report(optimizer, CheckOut("report", report),
                [&](const Optimizer& on) { ToC(on.LastReport(), report); });
}

zeromini_code zeromini_wait_param(zeromini_optimizer* optimizer, int param,
                                  void* stream, char** error) {
  return On(optimizer, error, [&](Optimizer& on) {
    return on.WaitParam(param, StreamOf(stream));
  });
}

zeromini_code zeromini_wait_all(zeromini_optimizer* optimizer, char** error) {
  return On(optimizer, error, [](Optimizer& on) { return on.WaitAll(); });
}

zeromini_code zeromini_broadcast_params(zeromini_optimizer* optimizer,
                                        char** error) {
  return On(optimizer, error,
            [](Optimizer& on) { return on.BroadcastParams(); });
}

int64_t zeromini_momentum_count(const zeromini_optimizer* optimizer,
                                int param) {
  if (!HasState(optimizer, param)) return 0;
  const auto& planned = optimizer->impl->plan().params[param];
  return planned.rows * planned.row_elements;
}

int64_t zeromini_second_moment_count(const zeromini_optimizer* optimizer,
                                     int param) {
  if (!HasState(optimizer, param)) return 0;
  return optimizer->impl->plan().params[param].blocks_total;
}

zeromini_code zeromini_consolidated_state(zeromini_optimizer* optimizer,
                                          int param, float* momentum,
                                          float* second_moment, int64_t* steps,
                                          char** error) {
  return On(optimizer, error, [&](Optimizer& on) -> absl::Status {
    ZEROMINI_ASSIGN_OR_RETURN(const auto state, on.ConsolidatedState(param));
    if (momentum != nullptr) {
      std::copy(state.momentum.begin(), state.momentum.end(), momentum);
    }
    if (second_moment != nullptr) {
      std::copy(state.second_moment.begin(), state.second_moment.end(),
                second_moment);
    }
    if (steps != nullptr) *steps = state.steps;
    return absl::OkStatus();
  });
}

zeromini_code zeromini_set_hyper_group(zeromini_optimizer* optimizer, int group,
                                       const zeromini_hyper_group* hyper,
                                       char** error) {
  return On(optimizer, error, [&](Optimizer& on) -> absl::Status {
    ZEROMINI_ASSIGN_OR_RETURN(const auto chosen, FromC(hyper, "hyper"));
    return on.SetHyperGroup(group, chosen);
  });
}

const zeromini_plan* zeromini_optimizer_plan(
    const zeromini_optimizer* optimizer) {
  return optimizer == nullptr ? nullptr : &optimizer->plan;
}

zeromini_code zeromini_memory(const zeromini_optimizer* optimizer,
                              zeromini_memory_report* report) {
  return Report(optimizer, CheckOut("report", report),
                [&](const Optimizer& on) { ToC(on.Memory(), report); });
}

zeromini_code zeromini_optimizer_traffic(const zeromini_optimizer* optimizer,
                                         zeromini_traffic* traffic) {
  return Report(optimizer, CheckNotNull("traffic", traffic),
                [&](const Optimizer& on) { *traffic = ToC(on.traffic()); });
}

zeromini_code zeromini_optimizer_level_traffic(
    const zeromini_optimizer* optimizer, zeromini_level_traffic* traffic) {
  return Report(optimizer, CheckOut("traffic", traffic),
                [&](const Optimizer& on) { ToC(on.traffic(), traffic); });
}

zeromini_code zeromini_optimizer_close(zeromini_optimizer* optimizer,
                                       char** error) {
  return On(optimizer, error, [](Optimizer& on) { return on.Close(); });
}

void zeromini_optimizer_destroy(zeromini_optimizer* optimizer) {
  delete optimizer;
}
