#include "runtime/step/grad_bucket.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "zeromini/internal/check.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {

namespace {

// Calls kernels: packs the pieces of a gradient, or adds them to what is there.
// `scratch`: null, or room for the largest piece.
struct PieceWork {
  const PlannedParam& param;
  const ParamMethod& method;
  const std::vector<WirePiece>& pieces;
  const void* source;
  float* wire;
  float* scratch;
  bool full;
};

absl::Status PackPieces(const KernelTable& kernels, const PieceWork& work,
                        Stream on) {
  for (const WirePiece& piece : work.pieces) {
    float* const place = work.wire + piece.offset;
    float* const target = work.scratch == nullptr ? place : work.scratch;
    if (work.full) {
      ZEROMINI_RETURN_IF_ERROR(PackRows(kernels,
                                        {work.param,
                                         piece.rows,
                                         work.source,
                                         target,
                                         {work.param.dtype, DType::kFloat32}},
                                        on));
    } else {
      ZEROMINI_RETURN_IF_ERROR(
          work.method.method->PackGradient(kernels,
                                           {work.param, piece.rows, work.source,
                                            target, work.method.shared.get()},
                                           on));
    }
    if (work.scratch == nullptr) continue;
    ZEROMINI_RETURN_IF_ERROR(
        kernels.accumulate({place, target, piece.elements}, on));
  }
  return absl::OkStatus();
}

int64_t LargestPiece(const std::vector<WirePiece>& pieces) {
  int64_t most = 0;
  for (const WirePiece& piece : pieces) most = std::max(most, piece.elements);
  return most;
}

}  // namespace

absl::StatusOr<std::unique_ptr<GradBucket>> GradBucket::Create(
    const BucketContext& context, int bucket) {
  auto result = std::unique_ptr<GradBucket>(new GradBucket(context, bucket));
  for (const Part& part : result->layout_.parts) {
    result->slots_.push_back(result->MakeSlot(part.param));
  }
  ZEROMINI_RETURN_IF_ERROR(result->Allocate());
  return result;
}

GradBucket::Slot GradBucket::MakeSlot(int param) const {
  const PlannedParam& planned = context_.plan.params[param];
  Slot slot;
  slot.param = param;
  for (int sharer : planned.sharers) slot.sources.push_back({sharer, 0});
  slot.packing = std::make_shared<const Packing>(
      Packing{planned, context_.methods[param],
              WirePieces(context_.plan, bucket_, param, /*full=*/false),
              WirePieces(context_.plan, bucket_, param, /*full=*/true)});
  return slot;
}

// Micro-steps whose full sum is kept add up in a wire that lasts from the first
// to the last; all others are held only from arrival to exchange.
absl::Status GradBucket::Allocate() {
  if (in_home_) {
    wire_data_ = context_.store.flat_gradients(bucket_);
    return absl::OkStatus();
  }
  if (pooled_) {
    ZEROMINI_ASSIGN_OR_RETURN(
        shard_, context_.device.Allocate(GradientSegmentBytes(layout_),
                                         MemoryKind::kGradients));
    return absl::OkStatus();
  }
  ZEROMINI_ASSIGN_OR_RETURN(
      wire_.buffer,
      context_.device.Allocate(WireBytes(), MemoryKind::kGradients));
  wire_data_ = Floats(wire_.buffer);
  return absl::OkStatus();
}

void GradBucket::BeginStep(bool full) {
  std::lock_guard<std::mutex> lock(mutex_);
  full_ = full;
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
        " of ", context_.micro_steps, " in this step on rank ",
        context_.groups.world().rank()));
  }
  if (slot.Arrived() > 0 && slot.at_home != at_home) {
    return absl::FailedPreconditionError(
        absl::StrCat("gradient of '", name, "' is given ",
                     at_home ? "at GradData() after one by pointer"
                             : "by pointer after one at GradData()",
                     " in this step on rank ", context_.groups.world().rank(),
                     "; give those of all micro-steps in one way"));
  }
  slot.at_home = at_home;
  ++source->arrived;
  return absl::OkStatus();
}

std::string GradBucket::Names() const {
  const auto name = [this](const Part& part) {
    return absl::StrCat("'", context_.plan.params[part.param].name, "'");
  };
  const std::vector<Part>& parts = layout_.parts;
  const std::string more =
      parts.size() == 1 ? "" : absl::StrCat(" to ", name(parts.back()));
  return absl::StrCat(name(parts.front()), more, " (bucket ", bucket_,
                      ") on rank ", context_.groups.world().rank());
}

absl::Status GradBucket::EnsureWire() {
  if (wire_data_ != nullptr) return absl::OkStatus();
  absl::StatusOr<LeasePool::Lease> taken = context_.pool.Take(WireBytes());
  if (!taken.ok()) {
    return absl::Status(
        taken.status().code(),
        absl::StrCat("gradients of ", Names(), ": ", taken.status().message()));
  }
  wire_ = *std::move(taken);
  wire_data_ = Floats(wire_.buffer);
  return absl::OkStatus();
}

absl::Status GradBucket::Pack(const Slot& slot, const void* source,
                              bool accumulate, Stream stream) {
  Device& device = context_.device;
  Buffer scratch;
  if (accumulate) {
    ZEROMINI_ASSIGN_OR_RETURN(
        scratch,
        device.Allocate(LargestPiece(PiecesOf(slot)) * int64_t{sizeof(float)},
                        MemoryKind::kBuckets));
  }
  ZEROMINI_RETURN_IF_ERROR(device.Launch(
      stream,
      [&kernels = device.kernels(), packing = slot.packing, source,
       wire = wire_data_, room = Floats(scratch), full = full_](Stream on) {
        return PackPieces(
            kernels,
            {packing->param, packing->method,
             full ? packing->full : packing->pieces, source, wire, room, full},
            on);
      }));
  // A caller's stream may get there when the optimizer is gone.
  for (const Buffer& used : {scratch, wire_.buffer, context_.store.memory(),
                             slot.packing->method.shared}) {
    device.Keep(used, stream);
  }
  return absl::OkStatus();
}

absl::Status GradBucket::Add(int param, const Arrival& arrival, bool* refused) {
  std::lock_guard<std::mutex> lock(mutex_);
  Slot& slot = SlotOf(param);
  const auto [given_as, gradient, home, stream] = arrival;
  // At home the caller accumulates, so what is there is the sum so far.
  const bool at_home = gradient == nullptr || gradient == home;
  const absl::Status admitted = Admit(slot, given_as, at_home);
  *refused = !admitted.ok();
  ZEROMINI_RETURN_IF_ERROR(admitted);
  ZEROMINI_RETURN_IF_ERROR(EnsureWire());
  Device& device = context_.device;
  ZEROMINI_RETURN_IF_ERROR(context_.pool.WaitFor(stream, wire_));
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
      context_.keeps_full ? context_.micro_steps : number + 1;
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

absl::Status GradBucket::ZeroUntouched(Stream stream) {
  for (const Slot& slot : slots_) {
    if (slot.touched) continue;
    for (const WirePiece& piece : PiecesOf(slot)) {
      ZEROMINI_RETURN_IF_ERROR(context_.device.Zero(
          wire_data_ + piece.offset, piece.elements * int64_t{sizeof(float)},
          stream));
    }
  }
  return absl::OkStatus();
}

absl::Status GradBucket::Exchange(float* sum) {
  const RankGroups::Family& groups = context_.groups.of(layout_);
  Communicator& shards = *groups.shards;
  const int64_t segment = wire().segment;
  const int64_t padding = segment * shards.size() - wire().elements;
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

absl::Status GradBucket::AddToShard(const float* sum) {
  const Device& device = context_.device;
  return context_.device.Launch(
      context_.device.compute(),
      [&kernels = device.kernels(), shard = Floats(shard_), sum,
       segment = wire().segment](Stream on) {
        return kernels.accumulate({shard, sum, segment}, on);
      });
}

absl::Status GradBucket::Fire(int number) {
  std::lock_guard<std::mutex> lock(mutex_);
  ZEROMINI_RETURN_IF_ERROR(EnsureWire());
  Device& device = context_.device;
  const Stream stream = context_.groups.of(layout_).shards->stream();
  for (const Event& arrival : arrivals_) {
    ZEROMINI_RETURN_IF_ERROR(device.WaitFor(stream, arrival));
  }
  ZEROMINI_RETURN_IF_ERROR(context_.pool.WaitFor(stream, wire_));
  ZEROMINI_RETURN_IF_ERROR(device.WaitFor(stream, busy_));
  ZEROMINI_RETURN_IF_ERROR(ZeroUntouched(stream));

  float* const own = wire_data_ + rank_ * wire().segment;
  const bool into_shard = pooled_ && number == 0;
  ZEROMINI_RETURN_IF_ERROR(Exchange(into_shard ? Floats(shard_) : own));
  landed_ = device.Record(stream);
  ZEROMINI_RETURN_IF_ERROR(device.WaitFor(device.compute(), landed_));
  if (pooled_) {
    Event read = landed_;
    if (!into_shard) {
      ZEROMINI_RETURN_IF_ERROR(AddToShard(own));
      read = device.Record(device.compute());
    }
    wire_.ready = {std::move(read), nullptr};
    wire_.exchanged = landed_;
    context_.pool.Give(std::exchange(wire_, LeasePool::Lease()));
    wire_data_ = nullptr;
  }
  arrivals_.clear();
  for (Slot& slot : slots_) slot.touched = false;
  return absl::OkStatus();
}

float* GradBucket::shard() const {
  return pooled_ ? Floats(shard_) : wire_data_ + rank_ * wire().segment;
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
