#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "shard/layout_cost.h"
#include "shard/set_layout.h"
#include "shard/units.h"

namespace zeromini {
namespace {

// A parameter whose tensor can be its own wire.
struct Member {
  int index = 0;
  const PlannedParam* param = nullptr;
  std::vector<Stretch> stretches;  // Its units, as `blocks` allows to cut them.
  int64_t largest = 0;             // Of them, in elements.
  int64_t smallest = 0;

  int64_t elements() const { return Elements(*param); }
};

// The largest unit that may stay whole, in elements, if nothing else is in its
// bucket: one on each rank, in a buffer.
int64_t LargestWhole(const PlannedParam& param, const PlanOptions& options) {
  if (!MaySplit(param)) return std::numeric_limits<int64_t>::max();
  if (options.blocks == BlockCuts::kSplitAtCuts) return param.row_elements;
  if (HasGradientHome(options, param.dtype)) {
    return std::numeric_limits<int64_t>::max();
  }
  return LargestBuffered(options) / options.ranks;
}

// Units that are cut at rows wherever they lie are rows: a tensor of them then
// lies beside others of such rows, and takes no buffer of its own.
Member MemberOf(int index, const PlannedParam& param,
                const PlanOptions& options) {
  const int64_t whole = LargestWhole(param, options);
  Member member;
  member.index = index;
  member.param = &param;
  member.stretches = UnitsOf({&param, 0, param.rows}, 0);
  member.smallest = std::numeric_limits<int64_t>::max();
  for (Stretch& stretch : member.stretches) {
    if (stretch.unit_elements > whole) stretch = RowsOf(stretch);
    member.largest = std::max(member.largest, stretch.unit_elements);
    member.smallest = std::min(member.smallest, stretch.unit_elements);
  }
  return member;
}

// Largest units first, and each divides those before it: then all of a
// region's edges are edges of the units that follow.
using Family = std::vector<Member>;

// Members of one size are in forward order or, in every second size, in the
// reverse: a bucket with the last of one size and the first of the next then
// has neighbours in backward, too.
void Order(Family* family) {
  bool reverse = false;
  for (size_t begin = 0; begin < family->size();) {
    size_t end = begin;
    while (end < family->size() &&
           (*family)[end].largest == (*family)[begin].largest) {
      ++end;
    }
    if (reverse) {
      std::reverse(family->begin() + static_cast<std::ptrdiff_t>(begin),
                   family->begin() + static_cast<std::ptrdiff_t>(end));
    }
    reverse = !reverse;
    begin = end;
  }
}

std::vector<Family> FamiliesOf(std::vector<Member> members) {
  std::stable_sort(
      members.begin(), members.end(),
      [](const Member& a, const Member& b) { return a.largest > b.largest; });
  std::vector<Family> families;
  std::vector<int64_t> smallest;
  for (Member& member : members) {
    size_t f = 0;
    while (f < families.size() && smallest[f] % member.largest != 0) ++f;
    if (f == families.size()) {
      families.emplace_back();
      smallest.push_back(member.smallest);
    }
    smallest[f] = std::min(smallest[f], member.smallest);
    families[f].push_back(std::move(member));
  }
  for (Family& family : families) Order(&family);
  return families;
}

// Elements of a region with units of one size.
struct Zone {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t unit = 0;
  int64_t row = 0;  // May be cut there if the unit is too large.
  bool may_split = false;

  int64_t UnitWithin(int64_t allowed) const {
    return unit > allowed && may_split ? row : unit;
  }
};

// Cuts one family's region into buckets.
class RegionCutter {
 public:
  RegionCutter(const Family& family, const PlanOptions& options,
               const BucketSizes& sizes)
      : family_(family), options_(options), sizes_(sizes) {
    for (const Member& member : family) {
      starts_.push_back(total_);
      for (const Stretch& stretch : member.stretches) {
        const int64_t row = member.param->row_elements;
        const int64_t begin = total_ + stretch.first_row * row;
        const int64_t elements = stretch.units * stretch.unit_elements;
        zones_.push_back({begin, begin + elements, stretch.unit_elements, row,
                          MaySplit(*member.param)});
        of_unit_[stretch.unit_elements] += elements;
      }
      total_ += member.elements();
    }
    bounded_ = !HasGradientHome(options, family.front().param->dtype);
  }

  // Nothing if a cut would not be an edge, which units of one tensor that do
  // not divide each other can cause.
  std::optional<SetLayout> Cut() {
    SetLayout result;
    const int region = result.AddRegion(0);
    int64_t at = 0;
    while (at < total_) {
      while (zones_[zone_].end <= at) ++zone_;
      const int64_t segment = SegmentAt(at);
      if (!AllEdges(at, segment)) return std::nullopt;
      AddBucket(at, segment, &result);
      at += segment * options_.ranks;
    }
    result.regions[region].elements = at;
    for (size_t m = 0; m < family_.size(); ++m) {
      result.homes.push_back({family_[m].index, region, starts_[m]});
    }
    return result;
  }

 private:
  // A unit that is larger than any rank's share of what is left, or than its
  // share of a buffer, cannot stay whole.
  int64_t Allowed(int64_t at) const {
    const int64_t share = (total_ - at) / options_.ranks;
    if (!bounded_) return share;
    return std::min(share, LargestBuffered(options_) / options_.ranks);
  }

  int64_t SegmentAt(int64_t at) {
    allowed_ = Allowed(at);
    int64_t unit = 0;
    int64_t smallest = std::numeric_limits<int64_t>::max();
    for (size_t z = zone_; z < zones_.size(); ++z) {
      const int64_t own = zones_[z].UnitWithin(allowed_);
      unit = std::max(unit, own);
      smallest = std::min(smallest, own);
    }
    const int64_t one_each = unit * options_.ranks;
    const int64_t rest = total_ - at;
    const int64_t wanted =
        std::max(sizes_.ElementsFor(of_unit_.at(zones_[zone_].unit)), one_each);
    if (rest < one_each) return unit;
    // What is left over is not worth a bucket of its own; but a buffer for both
    // would be larger, and so would the others of its class.
    const int64_t units = (rest + one_each - 1) / one_each;
    const bool last =
        bounded_ ? units * one_each <= wanted : rest <= wanted + wanted / 2;
    if (unit == smallest && last) return units * unit;
    return std::min(wanted, rest) / one_each * unit;
  }

  bool AllEdges(int64_t at, int64_t segment) const {
    const int64_t end = at + segment * options_.ranks;
    for (size_t z = zone_; z < zones_.size() && zones_[z].begin < end; ++z) {
      const Zone& zone = zones_[z];
      const int64_t from = std::max(at, zone.begin);
      const int64_t first = at + (from - at + segment - 1) / segment * segment;
      const int64_t stop = std::min(end, zone.end);
      const int64_t unit = zone.UnitWithin(allowed_);
      // The next bucket begins at the end of this one: a cut like any other. A
      // unit that is cut at rows need not be a multiple of the units after it.
      if (end < zone.end && (end - zone.begin) % unit != 0) return false;
      // If one is an edge all are that are a multiple of the unit further on.
      if (first >= stop) continue;
      if ((first - zone.begin) % unit != 0) return false;
      if (first + segment < stop && segment % unit != 0) return false;
    }
    return true;
  }

  void AddBucket(int64_t at, int64_t segment, SetLayout* result) {
    const int64_t end = at + segment * options_.ranks;
    while (starts_[member_] + family_[member_].elements() <= at) ++member_;
    std::vector<Slice> slices;
    std::vector<int> indices;
    for (size_t m = member_; m < family_.size() && starts_[m] < end; ++m) {
      const PlannedParam& param = *family_[m].param;
      const int64_t first = std::max(at, starts_[m]);
      const int64_t stop = std::min(end, starts_[m] + family_[m].elements());
      slices.push_back({&param, (first - starts_[m]) / param.row_elements,
                        (stop - first) / param.row_elements});
      indices.push_back(family_[m].index);
    }
    BucketLayout layout;
    layout.plan = StartBucket(slices);
    layout.plan.reason = WhyAt(at, end);
    layout.plan.region_offset = at;
    layout.plan.segment = layout.plan.wire_segment = segment;
    AddRuns(at, slices, &layout.plan);
    layout.splits = SplitsOf(slices, layout.plan);
    result->AddBucket(layout, indices);
    result->buckets.back().region = 0;
  }

  void AddRuns(int64_t at, const std::vector<Slice>& slices,
               BucketPlan* plan) const {
    plan->runs.resize(options_.ranks);
    int64_t in_bucket = std::max(at, starts_[member_]) - at;
    for (size_t i = 0; i < slices.size(); ++i) {
      const Slice& slice = slices[i];
      const int64_t row = slice.param->row_elements;
      for (int64_t done = 0; done < slice.rows;) {
        const int64_t rank = in_bucket / plan->segment;
        const int64_t offset = in_bucket - rank * plan->segment;
        const int64_t rows =
            std::min(slice.rows - done, (plan->segment - offset) / row);
        AddPlainRun(static_cast<int>(rank),
                    {slice.param, slice.first_row + done, rows},
                    static_cast<int>(i), offset, plan);
        done += rows;
        in_bucket += rows * row;
      }
    }
  }

  BucketReason WhyAt(int64_t at, int64_t end) const {
    if (end > total_) return BucketReason::kRemainder;
    for (size_t z = zone_; z < zones_.size() && zones_[z].begin < end; ++z) {
      if (zones_[z].end > at && zones_[z].unit != zones_[zone_].unit) {
        return BucketReason::kJunction;
      }
    }
    return BucketReason::kUnits;
  }

  const Family& family_;
  const PlanOptions& options_;
  const BucketSizes& sizes_;
  bool bounded_ = false;
  std::vector<int64_t> starts_;  // Of each member, in the region.
  std::vector<Zone> zones_;
  std::map<int64_t, int64_t> of_unit_;  // Elements in units of that size.
  int64_t total_ = 0;
  // Of the bucket that is being cut: the largest whole unit, and the first zone
  // and member that reach into it.
  int64_t allowed_ = 0;
  size_t zone_ = 0;
  size_t member_ = 0;
};

}  // namespace

SetLayout LayOutByUnit(const ParamSet& set, const PlanOptions& options,
                       const BucketSizes& sizes) {
  std::vector<Member> members;
  ParamSet packed{{}, set.params};
  for (int index : set.indices) {
    const PlannedParam& param = set.params[index];
    if (param.transposed || !HasPlainUnits(param)) {
      packed.indices.push_back(index);
    } else {
      members.push_back(MemberOf(index, param, options));
    }
  }
  SetLayout layout;
  for (const Family& family : FamiliesOf(std::move(members))) {
    std::optional<SetLayout> cut = RegionCutter(family, options, sizes).Cut();
    if (cut.has_value()) {
      layout.Append(*std::move(cut));
    } else {
      for (const Member& member : family) {
        packed.indices.push_back(member.index);
      }
    }
  }
  std::sort(packed.indices.begin(), packed.indices.end());
  layout.Append(LayOutPacked(packed, options, sizes.buffered));
  return layout;
}

}  // namespace zeromini
