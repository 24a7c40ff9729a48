#include "runtime/step/grad_bucket.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "zeromini/internal/check.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {

absl::StatusOr<std::unique_ptr<GradBucket>> GradBucket::Create(
    const BucketContext& context, int bucket,
    const std::vector<std::vector<int>>& sharers) {
  auto result = std::unique_ptr<GradBucket>(new GradBucket(context, bucket));
  const BucketPlan& layout = result->layout_;
  for (int param : layout.params) {
    Slot slot;
    slot.param = param;
    for (int sharer : sharers[param]) slot.sources.push_back({sharer, 0});
    slot.packing = std::make_shared<const Packing>(Packing{
        context.plan.params[param], context.method, result->PiecesOf(param)});
    result->slots_.push_back(std::move(slot));
  }
  const int64_t segment_bytes = layout.wire_segment * int64_t{sizeof(float)};
  if (context.stage == 1) {
    result->wire_data_ = context.store.flat_gradients(bucket);
    result->in_home_ = result->wire_data_ != nullptr;
  }
  // Micro-steps of stage 1 add up in a wire that lasts from the first to the
  // last; all others are held only from arrival to exchange.
  result->pooled_ =
      context.stage >= 2 || (!result->in_home_ && context.micro_steps == 1);
  if (result->pooled_) {
    ZEROMINI_ASSIGN_OR_RETURN(
        result->shard_,
        context.device.Allocate(segment_bytes, MemoryKind::kGradients));
  } else if (!result->in_home_) {
    ZEROMINI_ASSIGN_OR_RETURN(
        result->wire_,
        context.device.Allocate(segment_bytes * context.plan.options.ranks,
                                MemoryKind::kGradients));
    result->wire_data_ = Floats(result->wire_);
  }
  return result;
}

std::vector<GradBucket::Piece> GradBucket::PiecesOf(int param) const {
  const int64_t row_elements = context_.plan.params[param].wire_row_elements;
  std::vector<Piece> pieces;
  for (size_t rank = 0; rank < layout_.runs.size(); ++rank) {
    for (const Run& run : layout_.runs[rank]) {
      if (run.param != param) continue;
      const int64_t offset =
          static_cast<int64_t>(rank) * layout_.wire_segment + run.wire_offset;
      if (!pieces.empty()) {
        Piece& last = pieces.back();
        const bool joins =
            last.rows.first + last.rows.count == run.first_row &&
            last.wire_offset + last.rows.count * row_elements == offset;
        if (joins) {
          last.rows.count += run.rows;
          continue;
        }
      }
      pieces.push_back({offset, {run.first_row, run.rows}});
    }
  }
  return pieces;
}

GradBucket::Slot& GradBucket::SlotOf(int param) {
  const auto slot =
      std::find_if(slots_.begin(), slots_.end(),
                   [param](const Slot& s) { return s.param == param; });
  ZEROMINI_CHECK(slot != slots_.end());
  return *slot;
}

const GradBucket::Slot& GradBucket::SlotOf(int param) const {
  return const_cast<GradBucket*>(this)->SlotOf(param);
}

int GradBucket::Slot::Arrived() const {
  int arrived = 0;
  for (const Source& source : sources) arrived += source.arrived;
  return arrived;
}

absl::Status GradBucket::Admit(Slot& slot, int given_as, bool at_home) {
  const auto source =
      std::find_if(slot.sources.begin(), slot.sources.end(),
                   [=](const Source& s) { return s.param == given_as; });
  ZEROMINI_CHECK(source != slot.sources.end());
  const std::string& name = context_.plan.params[given_as].name;
  if (source->arrived >= context_.micro_steps) {
    return absl::FailedPreconditionError(absl::StrCat(
        "gradient of '", name, "' has been given already: ", source->arrived,
        " of ", context_.micro_steps, " in this step on rank ", context_.rank));
  }
  if (slot.Arrived() > 0 && slot.at_home != at_home) {
    return absl::FailedPreconditionError(
        absl::StrCat("gradient of '", name, "' is given ",
                     at_home ? "at GradData() after one by pointer"
                             : "by pointer after one at GradData()",
                     " in this step on rank ", context_.rank,
                     "; give those of all micro-steps in one way"));
  }
  slot.at_home = at_home;
  ++source->arrived;
  return absl::OkStatus();
}

absl::Status GradBucket::EnsureWire() {
  if (wire_data_ != nullptr) return absl::OkStatus();
  ZEROMINI_ASSIGN_OR_RETURN(WirePool::Lease lease, context_.pool.Take());
  wire_ = std::move(lease.buffer);
  wire_ready_ = std::move(lease.ready);
  wire_data_ = Floats(wire_);
  return absl::OkStatus();
}

absl::Status GradBucket::Pack(const Slot& slot, const void* source,
                              bool accumulate, Stream stream) {
  const PlannedParam& param = slot.packing->param;
  Buffer packed;
  if (accumulate) {
    int64_t rows = 0;
    for (const Piece& piece : slot.packing->pieces) {
      rows = std::max(rows, piece.rows.count);
    }
    ZEROMINI_ASSIGN_OR_RETURN(
        packed, context_.device.Allocate(
                    rows * param.wire_row_elements * int64_t{sizeof(float)},
                    MemoryKind::kBuckets));
  }
  // A caller's stream may get here when the optimizer is gone.
  context_.device.Submit(
      stream, [&kernels = context_.device.kernels(), packing = slot.packing,
               source, packed, wire = wire_data_, wire_memory = wire_,
               flat_memory = context_.store.memory()](Stream on) {
        const PlannedParam& of = packing->param;
        for (const Piece& piece : packing->pieces) {
          float* place = wire + piece.wire_offset;
          float* target = packed == nullptr ? place : Floats(packed);
          packing->method->PackGradient(kernels, of, piece.rows, source, target,
                                        on);
          if (packed == nullptr) continue;
          kernels.accumulate(
              {place, target, piece.rows.count * of.wire_row_elements}, on);
        }
        return absl::OkStatus();
      });
  return absl::OkStatus();
}

absl::Status GradBucket::Add(int param, int given_as, const void* gradient,
                             const float* home, Stream stream) {
  std::lock_guard<std::mutex> lock(mutex_);
  Slot& slot = SlotOf(param);
  // At home the caller accumulates, so what is there is the sum so far.
  const bool at_home = gradient == nullptr || gradient == home;
  ZEROMINI_RETURN_IF_ERROR(Admit(slot, given_as, at_home));
  ZEROMINI_RETURN_IF_ERROR(EnsureWire());
  Device& device = context_.device;
  ZEROMINI_RETURN_IF_ERROR(device.WaitFor(stream, wire_ready_));
  ZEROMINI_RETURN_IF_ERROR(device.WaitFor(stream, busy_));
  if (slot.touched) {
    ZEROMINI_RETURN_IF_ERROR(device.WaitFor(stream, slot.packed));
  }
  if (!at_home || !in_home_) {
    const void* source = gradient == nullptr ? home : gradient;
    const bool accumulate = slot.touched && !at_home;
    ZEROMINI_RETURN_IF_ERROR(Pack(slot, source, accumulate, stream));
  }
  slot.touched = true;
  slot.packed = device.Record(stream);
  if (slot.packed != nullptr) arrivals_.push_back(slot.packed);
  return absl::OkStatus();
}

bool GradBucket::Ready(int number) const { return FirstMissing(number) < 0; }

int GradBucket::FirstMissing(int number) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const int micro_steps =
      context_.stage == 1 ? context_.micro_steps : number + 1;
  for (const Slot& slot : slots_) {
    for (const Source& source : slot.sources) {
      if (source.arrived < micro_steps) return source.param;
    }
  }
  return -1;
}

Event GradBucket::landed() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return landed_;
}

void GradBucket::ZeroUntouched(Stream stream) {
  for (const Slot& slot : slots_) {
    if (slot.touched) continue;
    const int64_t row_bytes =
        context_.plan.params[slot.param].wire_row_elements *
        int64_t{sizeof(float)};
    for (const Piece& piece : slot.packing->pieces) {
      context_.device.Zero(wire_data_ + piece.wire_offset,
                           piece.rows.count * row_bytes, stream);
    }
  }
}

absl::Status GradBucket::Exchange(const RankGroups::Family& groups,
                                  float* sum) {
  Communicator& shards = *groups.shards;
  const int64_t segment = layout_.wire_segment;
  const int64_t padding = segment * shards.size() - layout_.wire_elements;
  ZEROMINI_RETURN_IF_ERROR(shards.ReduceScatter(
      wire_data_, sum, segment, DType::kFloat32,
      zeromini::Exchange{Purpose::kGradients, bucket_, padding, context_.wire,
                         context_.plan.hash}));
  if (groups.replicas == nullptr) return absl::OkStatus();
  return groups.replicas->AllReduce(
      sum, segment, DType::kFloat32, ReduceOp::kSum,
      zeromini::Exchange{Purpose::kGradients, bucket_, padding / shards.size(),
                         DType::kFloat32, context_.plan.hash});
}

absl::Status GradBucket::Fire(int number, const RankGroups::Family& groups) {
  std::lock_guard<std::mutex> lock(mutex_);
  ZEROMINI_RETURN_IF_ERROR(EnsureWire());
  Device& device = context_.device;
  const Stream stream = groups.shards->stream();
  for (const Event& arrival : arrivals_) {
    ZEROMINI_RETURN_IF_ERROR(device.WaitFor(stream, arrival));
  }
  ZEROMINI_RETURN_IF_ERROR(device.WaitFor(stream, wire_ready_));
  ZEROMINI_RETURN_IF_ERROR(device.WaitFor(stream, busy_));
  ZeroUntouched(stream);

  const int64_t segment = layout_.wire_segment;
  float* own = wire_data_ + rank_ * segment;
  const bool into_shard = pooled_ && number == 0;
  ZEROMINI_RETURN_IF_ERROR(Exchange(groups, into_shard ? Floats(shard_) : own));
  Event landed = device.Record(stream);
  landed_ = landed;
  ZEROMINI_RETURN_IF_ERROR(device.WaitFor(device.compute(), landed));
  if (pooled_) {
    if (!into_shard) {
      device.Submit(device.compute(), [this, own, segment](Stream on) {
        context_.device.kernels().accumulate({Floats(shard_), own, segment},
                                             on);
        return absl::OkStatus();
      });
      landed = device.Record(device.compute());
    }
    context_.pool.Give(std::move(wire_), std::move(landed), landed_);
    wire_ = nullptr;
    wire_data_ = nullptr;
    wire_ready_ = nullptr;
  }
  arrivals_.clear();
  for (Slot& slot : slots_) slot.touched = false;
  return absl::OkStatus();
}

float* GradBucket::shard() const {
  return pooled_ ? Floats(shard_) : wire_data_ + rank_ * layout_.wire_segment;
}

int GradBucket::arrived(int param) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return SlotOf(param).Arrived();
}

int GradBucket::expected(int param) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return static_cast<int>(SlotOf(param).sources.size()) * context_.micro_steps;
}

bool GradBucket::Lacks(int param, int given_as) const {
  std::lock_guard<std::mutex> lock(mutex_);
  for (const Source& source : SlotOf(param).sources) {
    if (source.param == given_as) {
      return source.arrived < context_.micro_steps;
    }
  }
  return false;
}

void GradBucket::SetBusy(Event event) {
  std::lock_guard<std::mutex> lock(mutex_);
  busy_ = std::move(event);
}

void GradBucket::Reset() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (Slot& slot : slots_) {
    for (Source& source : slot.sources) source.arrived = 0;
    slot.touched = false;
  }
  landed_ = nullptr;
}

}  // namespace zeromini
