// Which tensors of a module overlap in memory. For zeromini/torch.h.

#ifndef ZEROMINI_INTERNAL_TORCH_OVERLAPS_H_
#define ZEROMINI_INTERNAL_TORCH_OVERLAPS_H_

#include <torch/torch.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "zeromini/internal/torch_specs.h"

namespace zeromini {
namespace internal {

struct MemoryRange {
  std::string what;  // "parameter 'a'".
  uintptr_t begin = 0;
  uintptr_t end = 0;
  bool taken_over = false;  // By the optimizer; else it is left alone.
};

// Of the elements that its strides reach; empty if it has no memory here.
inline MemoryRange RangeOf(const char* kind, const std::string& name,
                           const torch::Tensor& tensor) {
  MemoryRange range;
  range.what = absl::StrCat(kind, " '", name, "'");
  const bool here = tensor.defined() && tensor.layout() == torch::kStrided &&
                    tensor.device().is_cpu() && tensor.numel() > 0;
  const void* data = here ? DataOf(tensor) : nullptr;
  if (data == nullptr) return range;
  int64_t last = 0;
  for (int64_t d = 0; d < tensor.dim(); ++d) {
    last += (tensor.size(d) - 1) * tensor.stride(d);
  }
  range.begin = reinterpret_cast<uintptr_t>(data);
  range.end = range.begin + (last + 1) * tensor.element_size();
  return range;
}

inline std::vector<MemoryRange> BufferRanges(const torch::nn::Module& module) {
  std::vector<MemoryRange> ranges;
  for (const auto& item : module.named_buffers()) {
    ranges.push_back(RangeOf("buffer", item.key(), item.value()));
  }
  return ranges;
}

// Knows which of some tensors overlap another one in part: not with both ends.
class RangesInPart {
 public:
  explicit RangesInPart(
      const torch::OrderedDict<std::string, torch::Tensor>& tensors) {
    for (const auto& item : tensors) {
      const MemoryRange range = RangeOf("", item.key(), item.value());
      if (range.begin != range.end) ends_[{range.begin, range.end}] = 0;
    }
    uintptr_t furthest = 0;
    for (auto& [range, before] : ends_) {
      before = furthest;
      furthest = std::max(furthest, range.second);
    }
  }

  bool Has(const torch::Tensor& tensor) const {
    const MemoryRange range = RangeOf("", "", tensor);
    const auto at = ends_.find({range.begin, range.end});
    if (at == ends_.end()) return false;
    const auto next = std::next(at);
    return at->second > range.begin ||
           (next != ends_.end() && next->first.first < range.end);
  }

 private:
  // How far the ranges that are sorted before each one reach.
  std::map<std::pair<uintptr_t, uintptr_t>, uintptr_t> ends_;
};

// What the optimizer takes over overlaps nothing of its kind but what is tied
// to it: that begins and ends with it. Where it moves that, it overlaps nothing
// that stays behind, either.
inline absl::Status CheckOverlaps(std::vector<MemoryRange> ranges, bool moves) {
  std::sort(ranges.begin(), ranges.end(),
            [](const MemoryRange& a, const MemoryRange& b) {
              return a.begin < b.begin;
            });
  // Those that reach furthest so far, by taken_over.
  const MemoryRange* furthest[2] = {nullptr, nullptr};
  for (const MemoryRange& range : ranges) {
    if (range.begin == range.end) continue;
    for (const MemoryRange* other : furthest) {
      if (other == nullptr || other->end <= range.begin) continue;
      const bool both = range.taken_over && other->taken_over;
      const bool tied = range.begin == other->begin && range.end == other->end;
      const bool one = moves && range.taken_over != other->taken_over;
      if (!one && (!both || tied)) continue;
      const bool first = other->taken_over;
      return absl::InvalidArgumentError(absl::StrCat(
          first ? other->what : range.what, " and ",
          first ? range.what : other->what,
          both ? " share a part of their memory"
               : " share memory, and only the first would be moved out of it",
          "; give one of them memory of its own (set_data(t.clone())), or "
          "leave them out (TorchAttachOptions::include)"));
    }
    const MemoryRange*& last = furthest[range.taken_over ? 1 : 0];
    if (last == nullptr || last->end < range.end) last = &range;
  }
  return absl::OkStatus();
}

}  // namespace internal
}  // namespace zeromini

#endif  // ZEROMINI_INTERNAL_TORCH_OVERLAPS_H_
