#include "runtime/row_packing.h"

#include <algorithm>

namespace zeromini {
namespace {

void CopyContiguous(const KernelTable& kernels, const float* in, float* out,
                    int64_t elements, Stream stream) {
  kernels.copy({in, out, /*rows=*/1, /*columns=*/elements, elements, elements,
                /*transpose=*/false},
               stream);
}

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

void PackRows(const KernelTable& kernels, const PlannedParam& param,
              RowRange rows, const float* tensor, float* packed,
              Stream stream) {
  if (!param.transposed) {
    CopyContiguous(kernels, tensor + rows.first * param.row_elements, packed,
                   rows.count * param.row_elements, stream);
    return;
  }
  const int64_t columns = param.shape.back();
  ForEachSlice(param, rows,
               [&](int64_t row, int64_t slice, int64_t column, int64_t count) {
                 kernels.copy(
                     {tensor + slice + column,
                      packed + row * param.row_elements, param.row_elements,
                      count, columns, param.row_elements, /*transpose=*/true},
                     stream);
               });
}

void UnpackRows(const KernelTable& kernels, const PlannedParam& param,
                RowRange rows, const float* packed, float* tensor,
                Stream stream) {
  if (!param.transposed) {
    CopyContiguous(kernels, packed, tensor + rows.first * param.row_elements,
                   rows.count * param.row_elements, stream);
    return;
  }
  const int64_t columns = param.shape.back();
  ForEachSlice(param, rows,
               [&](int64_t row, int64_t slice, int64_t column, int64_t count) {
                 kernels.copy({packed + row * param.row_elements,
                               tensor + slice + column, count,
                               param.row_elements, param.row_elements, columns,
                               /*transpose=*/true},
                              stream);
               });
}

}  // namespace zeromini
