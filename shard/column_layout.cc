#include "shard/column_layout.h"

#include "shard/rank_place.h"
#include "shard/stretch.h"
#include "zeromini/internal/check.h"

namespace zeromini {
namespace {

int64_t ColumnsOfAll(const Plan& plan, bool expert) {
  int64_t columns = 0;
  for (const PlannedParam& param : plan.params) {
    if (param.expert != expert || !param.has_state()) continue;
    columns +=
        MatricesIn(param.blocks, 0, param.rows).count() * param.row_elements;
  }
  return columns;
}

HeldMatrices HeldBy(const Plan& plan, const OptimizerOptions& options,
                    int rank) {
  HeldMatrices held;
  for (const BucketPlan& bucket : plan.buckets) {
    const RankPlace place = PlaceOf(plan.options, options, bucket.expert, rank);
    for (const Run& run : bucket.runs[place.rank]) held.Add(plan, run);
  }
  return held;
}

}  // namespace

int64_t HeldMatrices::Add(const Plan& plan, const Run& run) {
  const PlannedParam& param = plan.params[run.param];
  if (!HasMatrices(param)) return 0;  // As most, and there are many runs.
  const IndexRange here = MatricesIn(param.blocks, run.first_row, run.rows);
  int64_t columns = 0;
  for (int64_t matrix = here.begin; matrix < here.end; ++matrix) {
    const bool added = held_.insert({run.param, matrix}).second;
    if (added) columns += param.row_elements;
  }
  return columns;
}

int64_t SharedColumns(const Plan& plan, int expert_slices) {
  return ColumnsOfAll(plan, false) + expert_slices * ColumnsOfAll(plan, true);
}

ColumnLayout ColumnsOf(const Plan& plan, const OptimizerOptions& options,
                       int rank) {
  ColumnLayout layout;
  layout.shared = SharedColumns(plan, options.expert_slices);
  if (layout.shared == 0) return layout;
  const int64_t of_slice = ColumnsOfAll(plan, true);
  const int slice = PlaceOf(plan.options, options, true, rank).slice;
  int64_t dense_at = 0;
  int64_t expert_at = ColumnsOfAll(plan, false) + slice * of_slice;
  const HeldMatrices held = HeldBy(plan, options, rank);
  for (size_t p = 0; p < plan.params.size(); ++p) {
    const PlannedParam& param = plan.params[p];
    layout.first_of_param.push_back(
        static_cast<int64_t>(layout.local_at.size()));
    if (!param.has_state()) continue;
    int64_t& shared_at = param.expert ? expert_at : dense_at;
    int64_t index = 0;
    for (const ColumnedMatrix& matrix : MatricesOf(param)) {
      const bool here = held.Has(static_cast<int>(p), index++);
      layout.local_at.push_back(here ? layout.local : -1);
      if (here) {
        layout.matrices.push_back(
            {param.row_elements, matrix.counted_rows, layout.local, shared_at,
             static_cast<int64_t>(p), matrix.form == MomentForm::kFactored});
        layout.local += param.row_elements;
      }
      shared_at += param.row_elements;
    }
  }
  return layout;
}

int64_t ColumnLayout::LocalAt(int param, int64_t matrix) const {
  return local_at[first_of_param[param] + matrix];
}

void PlaceColumns(const ColumnLayout& columns, ShardLayout* layout) {
  for (RunState& run : layout->runs) {
    for (SpanState& span : run.spans) {
      if (span.span.matrix < 0) continue;
      span.columns_at = columns.LocalAt(run.run->param, span.span.matrix);
      ZEROMINI_CHECK(span.columns_at >= 0);
    }
  }
}

ColumnBytes BytesOf(const ColumnLayout& columns) {
  ColumnBytes bytes;
  bytes.moments = columns.local * int64_t{sizeof(float)};
  bytes.digits = kColumnDigits * columns.local * int64_t{sizeof(int64_t)};
  bytes.tops = columns.local;
  bytes.factors = columns.local * int64_t{sizeof(float)};
  bytes.agreed = columns.shared;
  bytes.matrices = static_cast<int64_t>(columns.matrices.size()) *
                   int64_t{sizeof(ColumnMatrix)};
  return bytes;
}

}  // namespace zeromini
