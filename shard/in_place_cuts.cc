#include <algorithm>
#include <numeric>

#include "shard/bucket_layout.h"

namespace zeromini {
namespace {

// Segments tried for each set of unit sizes, and moves of one parameter.
constexpr int kTriesPerStep = 32;
constexpr int kMoves = 16;

struct ParamUnits {
  int64_t elements = 0;
  int64_t row_elements = 0;
  absl::Span<const Stretch> stretches;
};

std::vector<ParamUnits> GroupByParam(absl::Span<const Slice> slices,
                                     const std::vector<Stretch>& stretches) {
  std::vector<ParamUnits> result;
  size_t at = 0;
  for (size_t i = 0; i < slices.size(); ++i) {
    const size_t begin = at;
    while (at < stretches.size() && stretches[at].param == static_cast<int>(i))
      ++at;
    result.push_back(
        {slices[i].elements(), slices[i].param->row_elements,
         absl::MakeConstSpan(stretches).subspan(begin, at - begin)});
  }
  return result;
}

// The last unit edge at or before `element`.
int64_t EdgeBefore(const ParamUnits& param, int64_t element) {
  const auto after =
      std::upper_bound(param.stretches.begin(), param.stretches.end(), element,
                       [&](int64_t e, const Stretch& s) {
                         return e < s.first_row * param.row_elements;
                       });
  const Stretch& stretch = *(after - 1);
  const int64_t start = stretch.first_row * param.row_elements;
  return element - (element - start) % stretch.unit_elements;
}

// The first place at or after `position` where every cut inside the parameter
// is a unit edge; -1 if a few moves find none.
int64_t PlaceParam(const ParamUnits& param, int64_t position, int64_t segment) {
  for (int move = 0; move < kMoves; ++move) {
    int64_t shift = 0;
    for (int64_t cut = (position / segment + 1) * segment;
         cut < position + param.elements; cut += segment) {
      shift = cut - position - EdgeBefore(param, cut - position);
      if (shift > 0) break;
    }
    if (shift == 0) return position;
    position += shift;
  }
  return -1;
}

std::optional<InPlaceCuts> TrySegment(const std::vector<ParamUnits>& params,
                                      int64_t segment, int64_t capacity) {
  InPlaceCuts cuts;
  cuts.segment = segment;
  int64_t position = 0;
  for (const ParamUnits& param : params) {
    position = PlaceParam(param, position, segment);
    if (position < 0) return std::nullopt;
    cuts.param_offset.push_back(position);
    position += param.elements;
    if (position > capacity) return std::nullopt;
  }
  return cuts;
}

// A parameter with two cuts inside needs a segment that is a multiple of its
// unit, so multiples of units and of their common multiples are worth a try.
std::vector<int64_t> Candidates(const std::vector<Stretch>& stretches,
                                int64_t smallest, int64_t largest) {
  std::vector<int64_t> sizes;
  for (const Stretch& s : stretches) sizes.push_back(s.unit_elements);
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  std::vector<int64_t> steps = sizes;
  int64_t common = 1;
  for (int64_t size : sizes) {
    for (int64_t other : sizes) {
      if (other >= size) break;
      const int64_t both = size / std::gcd(size, other);
      if (both <= largest / other) steps.push_back(both * other);
    }
    const int64_t factor = size / std::gcd(size, common);
    if (common == 0 || factor > largest / common) continue;
    common *= factor;
    steps.push_back(common);
  }
  std::vector<int64_t> segments = {smallest};
  for (int64_t step : steps) {
    int64_t segment = (smallest + step - 1) / step * step;
    for (int i = 0; i < kTriesPerStep && segment <= largest; ++i) {
      segments.push_back(segment);
      segment += step;
    }
  }
  std::sort(segments.begin(), segments.end());
  segments.erase(std::unique(segments.begin(), segments.end()), segments.end());
  return segments;
}

}  // namespace

std::optional<InPlaceCuts> CutInPlace(absl::Span<const Slice> slices,
                                      const std::vector<Stretch>& stretches,
                                      int ranks, int64_t largest_segment) {
  const std::vector<ParamUnits> grouped = GroupByParam(slices, stretches);
  int64_t total = 0;
  for (const ParamUnits& param : grouped) total += param.elements;
  const int64_t smallest = (total + ranks - 1) / ranks;
  if (smallest > largest_segment) return std::nullopt;
  for (int64_t segment : Candidates(stretches, smallest, largest_segment)) {
    std::optional<InPlaceCuts> cuts =
        TrySegment(grouped, segment, segment * ranks);
    if (cuts.has_value()) return cuts;
  }
  return std::nullopt;
}

}  // namespace zeromini
