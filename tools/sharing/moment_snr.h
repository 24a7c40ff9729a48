// How well an average stands for AdamW's second moments: the arithmetic, in
// doubles.

#ifndef ZEROMINI_TOOLS_SHARING_MOMENT_SNR_H_
#define ZEROMINI_TOOLS_SHARING_MOMENT_SNR_H_

#include <array>
#include <cstdint>

namespace zeromini::tools {

// A form of the second moment that keeps fewer numbers than one per element.
enum class SharedForm {
  kWhole,     // One number.
  kHead,      // One per block of rows_per_head rows.
  kRow,       // One per output.
  kColumn,    // One per input.
  kFactored,  // Row means r and column means c: v_ij = r_i c_j / mean(r).
};
inline constexpr int kSharedForms = 5;
const char* SharedFormName(SharedForm form);  // "whole", "head", ...

// Second moments v of a matrix, element (i, j) at data[i * row_stride + j *
// column_stride], i an output and j an input. Not owned.
struct MomentView {
  const float* data = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t row_stride = 0;
  int64_t column_stride = 1;
  int64_t rows_per_head = 0;  // Divides `rows`; 0: there are no heads.
};

// Scale of v (its bias correction, say) changes none of these.
//
// Of a form that keeps means of groups (rows, columns, heads, all): the mean
// over its groups of mean(v)^2 / var(v), var by the number of elements. Of the
// factored form v' the same with mean((v - v')^2) in place of var(v), over rows
// or over columns, whichever is more: it has to do no more than the better of
// the two alone, which is asked along one axis only.
//
// Infinity: no spread that fp32 could tell, a standard deviation of at most
// 2^-24 of the mean. Groups that are all zero, which no gradient has reached,
// are left out; NaN if none is left, or the form is none of the view.
struct MomentSnr {
  std::array<double, kSharedForms> of;  // By SharedForm.
  double factored_error = 0;  // sum((v - v')^2) / sum(v^2); NaN if v is 0.

  double operator[](SharedForm form) const {
    return of[static_cast<int>(form)];
  }
};

// False of heads where there are none, and of all forms but kWhole where the
// view is a single row or column.
bool HasForm(const MomentView& view, SharedForm form);

// Two passes over `view`; takes rows + columns doubles a few times over.
MomentSnr MeasureSnr(const MomentView& view);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_SHARING_MOMENT_SNR_H_
