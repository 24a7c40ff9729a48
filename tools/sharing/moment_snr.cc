#include "tools/sharing/moment_snr.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace zeromini::tools {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Of a variance over the square of the mean: what v itself is rounded to.
constexpr double kResolution = 0x1p-48;

// Counted from the first value, so that equal values have exactly no spread.
class Group {
 public:
  void Add(double value) {
    if (count_ == 0) first_ = value;
    const double beyond = value - first_;
    ++count_;
    sum_ += beyond;
    squares_ += beyond * beyond;
  }
  double mean() const { return first_ + sum_ / static_cast<double>(count_); }
  double variance() const {
    const double count = static_cast<double>(count_);
    return std::max(0.0, (squares_ - sum_ * sum_ / count) / count);
  }

 private:
  double first_ = 0, sum_ = 0, squares_ = 0;
  int64_t count_ = 0;
};

// Mean of the ratios of groups that gradients have reached.
class RatioMean {
 public:
  void Add(double mean, double spread) {
    if (mean == 0) return;
    const double square = mean * mean;
    sum_ += spread <= kResolution * square ? kInfinity : square / spread;
    ++count_;
  }
  double value() const {
    return count_ == 0 ? kNan : sum_ / static_cast<double>(count_);
  }

 private:
  double sum_ = 0;
  int64_t count_ = 0;
};

double SnrOf(const std::vector<Group>& groups) {
  RatioMean ratios;
  for (const Group& group : groups) ratios.Add(group.mean(), group.variance());
  return ratios.value();
}

struct Groups {
  Group whole;
  std::vector<Group> rows, columns, heads;
};

double At(const MomentView& view, int64_t row, int64_t column) {
  return view.data[row * view.row_stride + column * view.column_stride];
}

Groups GroupsOf(const MomentView& view) {
  Groups groups;
  const int64_t height = view.rows_per_head;
  groups.rows.resize(view.rows);
  groups.columns.resize(view.columns);
  groups.heads.resize(height > 0 ? view.rows / height : 0);
  for (int64_t i = 0; i < view.rows; ++i) {
    for (int64_t j = 0; j < view.columns; ++j) {
      const double value = At(view, i, j);
      groups.whole.Add(value);
      groups.rows[i].Add(value);
      groups.columns[j].Add(value);
      if (height > 0) groups.heads[i / height].Add(value);
    }
  }
  return groups;
}

std::vector<double> MeansOf(const std::vector<Group>& groups) {
  std::vector<double> means;
  means.reserve(groups.size());
  for (const Group& group : groups) means.push_back(group.mean());
  return means;
}

// `squares`: of a group each, of residuals.
double RatiosOf(const std::vector<double>& means,
                const std::vector<double>& squares, int64_t members) {
  RatioMean ratios;
  for (size_t g = 0; g < means.size(); ++g) {
    ratios.Add(means[g], squares[g] / static_cast<double>(members));
  }
  return ratios.value();
}

void MeasureFactored(const MomentView& view, const Groups& groups,
                     MomentSnr& snr) {
  const double mean = groups.whole.mean();
  if (mean == 0) return;
  const std::vector<double> rows = MeansOf(groups.rows);
  const std::vector<double> columns = MeansOf(groups.columns);
  std::vector<double> of_rows(rows.size()), of_columns(columns.size());
  double residuals = 0, squares = 0;
  for (int64_t i = 0; i < view.rows; ++i) {
    const double scale = rows[i] / mean;
    for (int64_t j = 0; j < view.columns; ++j) {
      const double value = At(view, i, j);
      const double beyond = value - scale * columns[j];
      of_rows[i] += beyond * beyond;
      of_columns[j] += beyond * beyond;
      residuals += beyond * beyond;
      squares += value * value;
    }
  }
  snr.factored_error = residuals / squares;
  snr.of[static_cast<int>(SharedForm::kFactored)] =
      std::max(RatiosOf(rows, of_rows, view.columns),
               RatiosOf(columns, of_columns, view.rows));
}

}  // namespace

const char* SharedFormName(SharedForm form) {
  switch (form) {
    case SharedForm::kWhole:
      return "whole";
    case SharedForm::kHead:
      return "head";
    case SharedForm::kRow:
      return "row";
    case SharedForm::kColumn:
      return "column";
    case SharedForm::kFactored:
      return "factored";
  }
  return "";
}

bool HasForm(const MomentView& view, SharedForm form) {
  if (form == SharedForm::kWhole) return true;
  if (form == SharedForm::kHead) return view.rows_per_head > 0;
  return view.rows > 1 && view.columns > 1;
}

MomentSnr MeasureSnr(const MomentView& view) {
  MomentSnr snr;
  snr.of.fill(kNan);
  snr.factored_error = kNan;
  const Groups groups = GroupsOf(view);
  const auto set = [&](SharedForm form, const std::vector<Group>& of) {
    if (HasForm(view, form)) snr.of[static_cast<int>(form)] = SnrOf(of);
  };
  set(SharedForm::kWhole, {groups.whole});
  set(SharedForm::kHead, groups.heads);
  set(SharedForm::kRow, groups.rows);
  set(SharedForm::kColumn, groups.columns);
  if (HasForm(view, SharedForm::kFactored)) {
    MeasureFactored(view, groups, snr);
  }
  return snr;
}

}  // namespace zeromini::tools
