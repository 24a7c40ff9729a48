// ShardState's views: state by rows, readable and settable.

#include <algorithm>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/state/rounding_seed.h"
#include "runtime/state/shard_state.h"
#include "shard/stretch.h"
#include "zeromini/internal/check.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

constexpr int64_t kFloatBytes = sizeof(float);

char* Advance(void* pointer, int64_t bytes) {
  return pointer == nullptr ? nullptr : static_cast<char*>(pointer) + bytes;
}

uint16_t* AdvanceScales(uint16_t* scales, int64_t count) {
  return scales == nullptr ? nullptr : scales + count;
}

absl::Status CopyFloats(const KernelTable& kernels, const void* from, void* to,
                        int64_t count, Stream on) {
  if (count == 0) return absl::OkStatus();
  return CopyContiguous(kernels, from, to, count, CopyTypes{}, on);
}

}  // namespace

StateView ShardState::ViewOf(int bucket, const RunState& run) const {
  StateView view;
  view.param = run.run->param;
  view.first_row = run.run->first_row;
  view.rows = run.run->rows;
  view.state_rows = run.state_rows();
  view.state_row_elements = run.state_row_elements();
  view.format = run.format.state;
  const StateCodecArgs momentum = MomentumCodec(bucket, run, {0, view.rows});
  view.momentum = momentum.packed;
  if (view.format == StateFormat::kInt8) view.momentum_scales = momentum.scales;
  if (run.element_moments()) {
    const StateCodecArgs moments =
        SecondMomentCodec(bucket, run, {0, view.rows});
    view.second_moment = moments.packed;
    if (view.format == StateFormat::kInt8) {
      view.second_moment_scales = moments.scales;
    }
  } else if (!run.spans.empty()) {
    view.first_block = run.spans.front().span.first_block;
    for (const SpanState& span : run.spans) view.blocks += span.span.scalars();
    view.second_moment =
        block_scalars(bucket) + run.spans.front().second_moment_offset;
    FillColumns(&view);
  }
  view.master_format = run.format.master;
  if (view.master_format != MasterFormat::kNone) {
    view.master = master(bucket, run);
  }
  return view;
}

// A run's matrices are consecutive, and so are their columns: this rank has
// them all.
void ShardState::FillColumns(StateView* view) const {
  const PlannedParam& param = plan_->params[view->param];
  const IndexRange matrices =
      MatricesIn(param.blocks, view->first_row, view->rows);
  view->first_matrix = matrices.begin;
  view->matrices = matrices.count();
  view->column_moments =
      view->matrices == 0
          ? nullptr
          : columns_.moments() +
                columns_.layout().LocalAt(view->param, matrices.begin);
}

std::vector<StateView> ShardState::Views(int param) const {
  std::vector<StateView> views;
  for (int bucket : plan_->params[param].buckets) {
    for (const RunState& run : parts_[bucket].layout.runs) {
      if (run.run->param == param) views.push_back(ViewOf(bucket, run));
    }
  }
  return views;
}

StateView ShardState::Slice(const StateView& view, RowRange rows) const {
  const PlannedParam& param = plan_->params[view.param];
  ZEROMINI_CHECK(rows.count > 0 && rows.first >= view.first_row &&
                 rows.first + rows.count <= view.first_row + view.rows);
  const int64_t skipped = rows.first - view.first_row;
  const int64_t elements = StateElements(param, view.first_row, skipped);
  const int64_t scales = elements / view.state_row_elements *
                         ScalesPerRow(view.format, view.state_row_elements);
  StateView slice = view;
  slice.first_row = rows.first;
  slice.rows = rows.count;
  slice.state_rows =
      StateElements(param, rows.first, rows.count) / view.state_row_elements;
  slice.momentum = Advance(view.momentum, elements * StateBytes(view.format));
  slice.momentum_scales = AdvanceScales(view.momentum_scales, scales);
  slice.master = Advance(view.master, skipped * param.row_elements *
                                          MasterBytes(view.master_format));
  if (param.element_state) {
    slice.second_moment =
        Advance(view.second_moment, elements * StateBytes(view.format));
    slice.second_moment_scales =
        AdvanceScales(view.second_moment_scales, scales);
  } else if (view.blocks > 0) {
    const IndexRange blocks = BlocksIn(param.blocks, rows.first, rows.count);
    slice.first_block = blocks.begin;
    slice.blocks = blocks.count();
    slice.second_moment =
        Advance(view.second_moment,
                (slice.first_block - view.first_block) * kFloatBytes);
  }
  if (view.matrices > 0) FillColumns(&slice);
  return slice;
}

StateCodecArgs ShardState::MomentumCodec(const StateView& view) const {
  const PlannedParam& param = plan_->params[view.param];
  StateCodecArgs codec = {};
  codec.packed = view.momentum;
  codec.scales = view.momentum_scales;
  codec.rows = view.state_rows;
  codec.row_elements = view.state_row_elements;
  codec.format = view.format;
  codec.seed = RoundingSeed(Rounded::kMomentum, param.name);
  codec.first_element = StateElements(param, 0, view.first_row);
  return codec;
}

StateCodecArgs ShardState::SecondMomentCodec(const StateView& view) const {
  StateCodecArgs codec = MomentumCodec(view);
  codec.packed = view.second_moment;
  codec.scales = view.second_moment_scales;
  codec.squares = true;
  codec.seed =
      RoundingSeed(Rounded::kSecondMoment, plan_->params[view.param].name);
  return codec;
}

int64_t ShardState::MomentCount(const StateView& view) const {
  const PlannedParam& param = plan_->params[view.param];
  if (!param.keeps_second_moment()) return 0;
  return param.element_state ? view.state_rows * view.state_row_elements
                             : view.blocks;
}

int64_t ShardState::MasterSize(const StateView& view) const {
  return view.rows * plan_->params[view.param].row_elements *
         MasterBytes(view.master_format);
}

absl::Status ShardState::Unpack(const StateView& view, float** out) const {
  const PlannedParam& param = plan_->params[view.param];
  StateCodecArgs momentum = MomentumCodec(view);
  momentum.unpacked = *out;
  *out += view.state_rows * view.state_row_elements;
  StateCodecArgs moments = SecondMomentCodec(view);
  moments.unpacked = *out;
  const int64_t count = MomentCount(view);
  *out += count;
  float* const columns = *out;
  *out += ColumnCount(view);
  const bool elements = param.element_state;
  return device_->Launch(
      device_->compute(),
      [&kernels = device_->kernels(), momentum, moments, count, elements,
       from = view.column_moments, columns,
       column_count = ColumnCount(view)](Stream on) -> absl::Status {
        ZEROMINI_RETURN_IF_ERROR(kernels.unpack_state(momentum, on));
        ZEROMINI_RETURN_IF_ERROR(
            CopyFloats(kernels, from, columns, column_count, on));
        if (elements && count > 0) return kernels.unpack_state(moments, on);
        return CopyFloats(kernels, moments.packed, moments.unpacked, count, on);
      });
}

absl::Status ShardState::Finish(absl::Duration patience) const {
  return device_->Synchronize(device_->Record(device_->compute()),
                              absl::Now() + patience);
}

absl::StatusOr<StateValues> ShardState::Read(const StateView& view,
                                             absl::Duration patience) const {
  const int64_t momentum = view.state_rows * view.state_row_elements;
  const int64_t moments = MomentCount(view);
  const int64_t columns = ColumnCount(view);
  const int64_t bytes = (momentum + moments + columns) * kFloatBytes;
  const Stream compute = device_->compute();
  ZEROMINI_ASSIGN_OR_RETURN(Buffer there,
                            device_->Allocate(bytes, MemoryKind::kBuckets));
  ZEROMINI_ASSIGN_OR_RETURN(Buffer here,
                            device_->AllocateHost(bytes + MasterSize(view)));
  char* const master = Advance(here.get(), bytes);
  float* out = Floats(there);
  ZEROMINI_RETURN_IF_ERROR(Unpack(view, &out));
  ZEROMINI_RETURN_IF_ERROR(
      device_->Copy(there.get(), here.get(), bytes, compute));
  if (MasterSize(view) > 0) {
    ZEROMINI_RETURN_IF_ERROR(
        device_->Copy(view.master, master, MasterSize(view), compute));
  }
  device_->Keep(there, compute);
  device_->Keep(here, compute);
  ZEROMINI_RETURN_IF_ERROR(Finish(patience));
  const float* values = Floats(here);
  return StateValues{
      {values, values + momentum},
      {values + momentum, values + momentum + moments},
      {values + momentum + moments, values + momentum + moments + columns},
      {master, master + MasterSize(view)}};
}

absl::Status ShardState::CheckSizes(const StateView& view,
                                    const StateValues& values) const {
  const auto momentum =
      static_cast<size_t>(view.state_rows * view.state_row_elements);
  const auto moments = static_cast<size_t>(MomentCount(view));
  const auto columns = static_cast<size_t>(ColumnCount(view));
  const auto master = static_cast<size_t>(MasterSize(view));
  if (values.momentum.size() == momentum &&
      values.second_moment.size() == moments &&
      values.column_moments.size() == columns &&
      values.master.size() == master) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "state of rows ", view.first_row, " to ", view.first_row + view.rows,
      " of '", plan_->params[view.param].name, "' is ", momentum,
      " momenta and ", moments, " second moments with ", columns,
      " averages of columns and ", master, " bytes of master, but ",
      values.momentum.size(), " and ", values.second_moment.size(), " with ",
      values.column_moments.size(), " and ", values.master.size(),
      " are given"));
}

absl::Status ShardState::Pack(const StateView& view, float* from) const {
  StateCodecArgs momenta = MomentumCodec(view);
  momenta.unpacked = from;
  StateCodecArgs squares = SecondMomentCodec(view);
  squares.unpacked = from + view.state_rows * view.state_row_elements;
  const int64_t moments = MomentCount(view);
  return device_->Launch(
      device_->compute(),
      [&kernels = device_->kernels(), momenta, squares, moments,
       columns = squares.unpacked + moments, to = view.column_moments,
       column_count = ColumnCount(view),
       elements =
           plan_->params[view.param].element_state](Stream on) -> absl::Status {
        ZEROMINI_RETURN_IF_ERROR(kernels.pack_state(momenta, on));
        ZEROMINI_RETURN_IF_ERROR(
            CopyFloats(kernels, columns, to, column_count, on));
        if (elements && moments > 0) return kernels.pack_state(squares, on);
        return CopyFloats(kernels, squares.unpacked, squares.packed, moments,
                          on);
      });
}

absl::Status ShardState::Write(const StateView& view, const StateValues& values,
                               absl::Duration patience) {
  ZEROMINI_RETURN_IF_ERROR(CheckSizes(view, values));
  const auto momentum = static_cast<int64_t>(values.momentum.size());
  const int64_t moments = momentum + MomentCount(view);
  const int64_t bytes = (moments + ColumnCount(view)) * kFloatBytes;
  const Stream compute = device_->compute();
  ZEROMINI_ASSIGN_OR_RETURN(Buffer here,
                            device_->AllocateHost(bytes + MasterSize(view)));
  ZEROMINI_ASSIGN_OR_RETURN(Buffer there,
                            device_->Allocate(bytes, MemoryKind::kBuckets));
  char* const master = Advance(here.get(), bytes);
  std::copy(values.momentum.begin(), values.momentum.end(), Floats(here));
  std::copy(values.second_moment.begin(), values.second_moment.end(),
            Floats(here) + momentum);
  std::copy(values.column_moments.begin(), values.column_moments.end(),
            Floats(here) + moments);
  std::copy(values.master.begin(), values.master.end(), master);
  ZEROMINI_RETURN_IF_ERROR(
      device_->Copy(here.get(), there.get(), bytes, compute));
  if (MasterSize(view) > 0) {
    ZEROMINI_RETURN_IF_ERROR(
        device_->Copy(master, view.master, MasterSize(view), compute));
  }
  ZEROMINI_RETURN_IF_ERROR(Pack(view, Floats(there)));
  device_->Keep(here, compute);
  device_->Keep(there, compute);
  return Finish(patience);
}

absl::StatusOr<int64_t> ShardState::ReadSteps(int param,
                                              absl::Duration patience) const {
  ZEROMINI_ASSIGN_OR_RETURN(Buffer here,
                            device_->AllocateHost(sizeof(int64_t)));
  ZEROMINI_RETURN_IF_ERROR(device_->Copy(steps() + param, here.get(),
                                         sizeof(int64_t), device_->compute()));
  device_->Keep(here, device_->compute());
  ZEROMINI_RETURN_IF_ERROR(Finish(patience));
  return *static_cast<const int64_t*>(here.get());
}

absl::Status ShardState::WriteSteps(int param, int64_t steps_done,
                                    absl::Duration patience) {
  ZEROMINI_ASSIGN_OR_RETURN(Buffer here,
                            device_->AllocateHost(sizeof(int64_t)));
  *static_cast<int64_t*>(here.get()) = steps_done;
  ZEROMINI_RETURN_IF_ERROR(device_->Copy(here.get(), steps() + param,
                                         sizeof(int64_t), device_->compute()));
  device_->Keep(here, device_->compute());
  return Finish(patience);
}

}  // namespace zeromini
