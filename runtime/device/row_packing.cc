#include "runtime/device/row_packing.h"

#include <algorithm>

namespace zeromini {
namespace {

// Calls visit(packed row, slice offset in the tensor, first column, columns)
// for each slice that the rows of a [.., in, out] tensor touch.
template <typename Visit>
void ForEachSlice(const PlannedParam& param, RowRange rows, Visit visit) {
  const int64_t columns = param.shape.back();
  int64_t row = rows.first;
  const int64_t end = rows.first + rows.count;
  while (row < end) {
    const int64_t slice = row / columns;
    const int64_t column = row % columns;
    const int64_t count = std::min(end - row, columns - column);
    visit(row - rows.first, slice * columns * param.row_elements, column,
          count);
    row += count;
  }
}

}  // namespace

void CopyContiguous(const KernelTable& kernels, const void* in, void* out,
                    int64_t elements, CopyTypes types, Stream stream) {
  kernels.copy({in, out, /*rows=*/1, /*columns=*/elements, elements, elements,
                /*transpose=*/false, types.in, types.out},
               stream);
}

void PackRows(const KernelTable& kernels, const PlannedParam& param,
              RowRange rows, const void* tensor, void* packed, CopyTypes types,
              Stream stream) {
  if (!param.transposed) {
    CopyContiguous(kernels,
                   ElementAt(tensor, rows.first * param.row_elements, types.in),
                   packed, rows.count * param.row_elements, types, stream);
    return;
  }
  const int64_t columns = param.shape.back();
  ForEachSlice(param, rows,
               [&](int64_t row, int64_t slice, int64_t column, int64_t count) {
                 kernels.copy(
                     {ElementAt(tensor, slice + column, types.in),
                      ElementAt(packed, row * param.row_elements, types.out),
                      param.row_elements, count, columns, param.row_elements,
                      /*transpose=*/true, types.in, types.out},
                     stream);
               });
}

void UnpackRows(const KernelTable& kernels, const PlannedParam& param,
                RowRange rows, const void* packed, void* tensor, DType dtype,
                Stream stream) {
  if (!param.transposed) {
    CopyContiguous(kernels, packed,
                   ElementAt(tensor, rows.first * param.row_elements, dtype),
                   rows.count * param.row_elements, {dtype, dtype}, stream);
    return;
  }
  const int64_t columns = param.shape.back();
  ForEachSlice(param, rows,
               [&](int64_t row, int64_t slice, int64_t column, int64_t count) {
                 kernels.copy(
                     {ElementAt(packed, row * param.row_elements, dtype),
                      ElementAt(tensor, slice + column, dtype), count,
                      param.row_elements, param.row_elements, columns,
                      /*transpose=*/true, dtype, dtype},
                     stream);
               });
}

}  // namespace zeromini
