#include "runtime/step/step_decider.h"

#include <atomic>
#include <cstring>
#include <utility>

#include "runtime/options/option_checks.h"
#include "shard/step_words.h"
#include "shard/sum_spans.h"
#include "zeromini/internal/check.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

template <typename T>
T* ArrayAt(const Buffer& buffer, int64_t at) {
  return reinterpret_cast<T*>(static_cast<char*>(buffer.get()) + at);
}

}  // namespace

struct StepDecider::Times {
  std::atomic<int64_t> landed{0};
  std::atomic<int64_t> decided{0};
};

double MeanScale(const OptimizerOptions& options, int ranks,
                 double loss_scale) {
  const double contributions = static_cast<double>(ranks) * options.micro_steps;
  return (options.reduction == Reduction::kMean ? 1 / contributions : 1) /
         loss_scale;
}

uint64_t AgreementWord(const StepQuestion& question) {
  FnvHash hash;
  hash.Add(question.options.learning_rate).Add(question.options.loss_scale);
  hash.Add(static_cast<double>(question.number));
  for (const HyperGroup& group : question.groups) AddGroup(group, &hash);
  return hash.value();
}

bool Decays(const PlannedParam& param, const std::vector<HyperGroup>& groups) {
  return param.decays || groups[param.hyper_group].decay_norms_and_biases;
}

int StepAnswer::RanksPresent(int param) const {
  return static_cast<int>(words[ParamWord(param)] % kNotFiniteUnit);
}

int StepAnswer::RanksNotFinite(int param) const {
  return static_cast<int>(words[ParamWord(param)] / kNotFiniteUnit);
}

StepDecider::StepDecider(const Plan& plan, const OptimizerOptions& options,
                         const RankGroups& groups, Device& device,
                         const ShardState& state)
    : plan_(plan),
      options_(options),
      groups_(groups),
      device_(device),
      steps_(state.steps()),
      columns_(state.columns()),
      layout_(DecisionLayoutOf(plan, options)),
      slots_(kInFlight) {}

absl::StatusOr<std::unique_ptr<StepDecider>> StepDecider::Create(
    const Plan& plan, const OptimizerOptions& options, const RankGroups& groups,
    Device& device, const ShardState& state) {
  auto decider = std::unique_ptr<StepDecider>(
      new StepDecider(plan, options, groups, device, state));
  ZEROMINI_RETURN_IF_ERROR(decider->Allocate());
  return decider;
}

absl::Status StepDecider::Allocate() {
  const auto allocate = [this](int64_t bytes, Buffer* buffer) -> absl::Status {
    ZEROMINI_ASSIGN_OR_RETURN(*buffer,
                              device_.Allocate(bytes, MemoryKind::kTables));
    return absl::OkStatus();
  };
  ZEROMINI_RETURN_IF_ERROR(allocate(layout_.summed_bytes(), &words_));
  ZEROMINI_RETURN_IF_ERROR(allocate(layout_.in_bytes, &in_));
  ZEROMINI_RETURN_IF_ERROR(allocate(layout_.scalars_bytes, &scalars_));
  ZEROMINI_RETURN_IF_ERROR(allocate(sizeof(StepDecision), &decision_));
  for (Slot& slot : slots_) {
    ZEROMINI_ASSIGN_OR_RETURN(slot.in, device_.AllocateHost(layout_.in_bytes));
    ZEROMINI_ASSIGN_OR_RETURN(slot.out,
                              device_.AllocateHost(layout_.out_bytes()));
    slot.times = std::make_shared<Times>();
  }
  last_times_ = slots_.front().times;
  return absl::OkStatus();
}

absl::Status StepDecider::SetSplits(const std::vector<SplitTarget>& splits) {
  num_splits_ = static_cast<int64_t>(splits.size());
  if (splits.empty()) return absl::OkStatus();
  const int64_t bytes = num_splits_ * int64_t{sizeof(SplitTarget)};
  ZEROMINI_ASSIGN_OR_RETURN(splits_,
                            device_.Allocate(bytes, MemoryKind::kTables));
  return device_.Copy(splits.data(), splits_.get(), bytes, Stream{});
}

void StepDecider::FillParams(const StepQuestion& question,
                             DecisionParam* params) const {
  for (size_t p = 0; p < plan_.params.size(); ++p) {
    const PlannedParam& param = plan_.params[p];
    params[p].word = !param.has_state() ? -1 : ParamWord(static_cast<int>(p));
    params[p].group = param.hyper_group;
    params[p].decays = Decays(param, question.groups) ? 1 : 0;
  }
}

void StepDecider::Fill(const StepQuestion& question, void* in) const {
  const uint64_t agreement = AgreementWord(question);
  auto* const words = static_cast<int64_t*>(in);
  std::memset(words, 0, static_cast<size_t>(layout_.input_at));
  words[kAgreementWord] = static_cast<int64_t>(agreement);
  for (size_t p = 0; p < plan_.params.size(); ++p) {
    words[ParamWord(static_cast<int64_t>(p))] = question.present[p];
  }
  char* const bytes = static_cast<char*>(in);
  DecisionInput input;
  input.ranks = groups_.world().size();
  input.agreement = agreement;
  input.refused = question.refused ? 1 : 0;
  input.require_all = options_.absent_gradients == AbsentGradients::kError;
  input.has_statistics = NeedsStatistics(options_) ? 1 : 0;
  input.mean_scale = question.mean_scale;
  input.max_grad_norm = options_.max_grad_norm;
  input.skip_above = options_.skip_above_grad_norm;
  std::memcpy(bytes + layout_.input_at, &input, sizeof(input));
  auto* const hyper = reinterpret_cast<StepScalars*>(bytes + layout_.hyper_at);
  for (size_t g = 0; g < question.groups.size(); ++g) {
    const HyperGroup& group = question.groups[g];
    hyper[g] = StepScalars();
    hyper[g].learning_rate =
        question.options.learning_rate * group.learning_rate_scale;
    hyper[g].weight_decay = group.weight_decay;
    hyper[g].beta1 = group.beta1;
    hyper[g].beta2 = group.beta2;
    hyper[g].epsilon = group.epsilon;
  }
  FillParams(question,
             reinterpret_cast<DecisionParam*>(bytes + layout_.params_at));
}

absl::Status StepDecider::Decide(const StepQuestion& question) {
  ZEROMINI_CHECK(unread_ < kInFlight);
  Slot& slot = SlotAt(decided_);
  slot.question = question;
  Fill(question, slot.in.get());
  const Stream compute = device_.compute();
  device_.Stamp(compute,
                [times = slot.times](int64_t now) { times->landed = now; });
  ZEROMINI_RETURN_IF_ERROR(
      device_.Copy(slot.in.get(), in_.get(), layout_.in_bytes, compute));
  ZEROMINI_RETURN_IF_ERROR(device_.Launch(
      compute,
      [&kernels = device_.kernels(),
       args = AddWordsArgs{words(), ArrayAt<int64_t>(in_, 0), layout_.words}](
          Stream on) { return kernels.add_words(args, on); }));
  if (layout_.columns > 0) ZEROMINI_RETURN_IF_ERROR(AgreeOnColumns());
  ZEROMINI_RETURN_IF_ERROR(AllReduce(words(), layout_.words + layout_.columns,
                                     DType::kInt64, ReduceOp::kSum));
  ZEROMINI_RETURN_IF_ERROR(EnqueueDecision(slot));
  ++decided_;
  ++unread_;
  return absl::OkStatus();
}

absl::Status StepDecider::LaunchColumns(ColumnKernel kernel) {
  return device_.Launch(device_.compute(),
                        [&kernels = device_.kernels(), kernel,
                         args = columns_.Args(column_words(), scalars_at())](
                            Stream on) { return (kernels.*kernel)(args, on); });
}

absl::Status StepDecider::AgreeOnColumns() {
  ZEROMINI_RETURN_IF_ERROR(LaunchColumns(&KernelTable::column_tops));
  ZEROMINI_RETURN_IF_ERROR(AllReduce(columns_.agreed(), layout_.columns,
                                     DType::kByte, ReduceOp::kMax));
  return LaunchColumns(&KernelTable::column_words);
}

// Between what is on the compute stream before and after.
absl::Status StepDecider::AllReduce(void* data, int64_t count, DType dtype,
                                    ReduceOp op) {
  const Stream compute = device_.compute();
  Communicator& world = groups_.world();
  ZEROMINI_RETURN_IF_ERROR(
      device_.WaitFor(world.stream(), device_.Record(compute)));
  ZEROMINI_RETURN_IF_ERROR(world.AllReduce(
      data, count, dtype, op,
      Exchange{Purpose::kScalars, -1, 0, DType::kFloat32, plan_.hash}));
  return device_.WaitFor(compute, device_.Record(world.stream()));
}

absl::Status StepDecider::EnqueueDecision(Slot& slot) {
  const Stream compute = device_.compute();
  const DecideArgs args = {words(),
                           ArrayAt<DecisionInput>(in_, layout_.input_at),
                           ArrayAt<StepScalars>(in_, layout_.hyper_at),
                           ArrayAt<DecisionParam>(in_, layout_.params_at),
                           params(),
                           static_cast<const SplitTarget*>(splits_.get()),
                           num_splits_,
                           steps_,
                           scalars_at(),
                           static_cast<StepDecision*>(decision_.get())};
  ZEROMINI_RETURN_IF_ERROR(
      device_.Launch(compute, [&kernels = device_.kernels(), args](Stream on) {
        return kernels.decide(args, on);
      }));
  if (layout_.columns > 0) {
    ZEROMINI_RETURN_IF_ERROR(LaunchColumns(&KernelTable::column_moments));
    ZEROMINI_RETURN_IF_ERROR(
        device_.Zero(columns_.agreed(), layout_.columns, compute));
  }
  const int64_t word_bytes = layout_.word_bytes();
  ZEROMINI_RETURN_IF_ERROR(device_.Copy(decision_.get(), slot.out.get(),
                                        sizeof(StepDecision), compute));
  ZEROMINI_RETURN_IF_ERROR(
      device_.Copy(words_.get(), ArrayAt<char>(slot.out, sizeof(StepDecision)),
                   word_bytes, compute));
  ZEROMINI_RETURN_IF_ERROR(
      device_.Zero(words_.get(), layout_.summed_bytes(), compute));
  device_.Stamp(compute,
                [times = slot.times](int64_t now) { times->decided = now; });
  slot.done = device_.Record(compute);
  return absl::OkStatus();
}

const StepQuestion& StepDecider::oldest() const {
  ZEROMINI_CHECK(unread_ > 0);
  return slots_[(decided_ - unread_) % kInFlight].question;
}

absl::StatusOr<StepAnswer> StepDecider::Read(absl::Time deadline) {
  ZEROMINI_CHECK(unread_ > 0);
  Slot& slot = SlotAt(decided_ - unread_);
  // Read or not: who cannot wait for it must not try for ever.
  --unread_;
  ZEROMINI_RETURN_IF_ERROR(device_.Synchronize(slot.done, deadline));
  last_times_ = slot.times;
  StepAnswer answer;
  std::memcpy(&answer.decision, slot.out.get(), sizeof(StepDecision));
  const auto* words = ArrayAt<int64_t>(slot.out, sizeof(StepDecision));
  answer.words.assign(words, words + layout_.words);
  return answer;
}

int64_t StepDecider::landed_nanos() const { return last_times_->landed; }
int64_t StepDecider::decided_nanos() const { return last_times_->decided; }

}  // namespace zeromini
