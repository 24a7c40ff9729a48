#include "runtime/device/row_packing.h"

#include <algorithm>

#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

// Calls visit(packed row, slice offset in the tensor, first column, columns)
// for each slice that the rows of a [.., in, out] tensor touch.
template <typename Visit>
absl::Status ForEachSlice(const PlannedParam& param, RowRange rows,
                          Visit visit) {
  const int64_t columns = param.shape.back();
  int64_t row = rows.first;
  const int64_t end = rows.first + rows.count;
  while (row < end) {
    const int64_t slice = row / columns;
    const int64_t column = row % columns;
    const int64_t count = std::min(end - row, columns - column);
    ZEROMINI_RETURN_IF_ERROR(
        visit(row - rows.first, slice * columns * param.row_elements + column,
              count));
    row += count;
  }
  return absl::OkStatus();
}

CopyArgs Contiguous(const void* from, void* to, int64_t elements,
                    CopyTypes types, const StepScalars* only_if) {
  return {from,      to,       /*rows=*/1,          elements,
          elements,  elements, /*transpose=*/false, types.in,
          types.out, only_if};
}

}  // namespace

absl::Status CopyContiguous(const KernelTable& kernels, const void* from,
                            void* to, int64_t elements, CopyTypes types,
                            Stream stream) {
  return kernels.copy(Contiguous(from, to, elements, types, nullptr), stream);
}

absl::Status PackRows(const KernelTable& kernels, const RowCopy& copy,
                      Stream stream) {
  const PlannedParam& param = copy.param;
  const CopyTypes types = copy.types;
  if (!param.transposed) {
    const void* from =
        ElementAt(copy.from, copy.rows.first * param.row_elements, types.in);
    return kernels.copy(
        Contiguous(from, copy.to, copy.rows.count * param.row_elements, types,
                   copy.only_if),
        stream);
  }
  const int64_t columns = param.shape.back();
  return ForEachSlice(
      param, copy.rows, [&](int64_t row, int64_t at, int64_t count) {
        return kernels.copy(
            {ElementAt(copy.from, at, types.in),
             ElementAt(copy.to, row * param.row_elements, types.out),
             param.row_elements, count, columns, param.row_elements,
             /*transpose=*/true, types.in, types.out, copy.only_if},
            stream);
      });
}

absl::Status UnpackRows(const KernelTable& kernels, const RowCopy& copy,
                        Stream stream) {
  const PlannedParam& param = copy.param;
  const CopyTypes types = copy.types;
  if (!param.transposed) {
    void* to =
        ElementAt(copy.to, copy.rows.first * param.row_elements, types.out);
    return kernels.copy(
        Contiguous(copy.from, to, copy.rows.count * param.row_elements, types,
                   copy.only_if),
        stream);
  }
  const int64_t columns = param.shape.back();
  return ForEachSlice(
      param, copy.rows, [&](int64_t row, int64_t at, int64_t count) {
        return kernels.copy(
            {ElementAt(copy.from, row * param.row_elements, types.in),
             ElementAt(copy.to, at, types.out), count, param.row_elements,
             param.row_elements, columns, /*transpose=*/true, types.in,
             types.out, copy.only_if},
            stream);
      });
}

}  // namespace zeromini
