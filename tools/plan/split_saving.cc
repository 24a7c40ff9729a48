#include "tools/plan/split_saving.h"

#include <cmath>
#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "tools/report/run_tables.h"

namespace zeromini::tools {
namespace {

using Json = nlohmann::ordered_json;

constexpr struct {
  const char* key;
  const char* called;
} kBytes[] = {{"padding_bytes", "padding"},
              {"copied_bytes", "copied"},
              {"buffer_bytes", "buffers"},
              {"total_bytes", "memory"},
              {"scalar_bytes", "scalars"}};
constexpr char kLate[] = "late_fraction";

int64_t BytesAt(const Json& plan, const char* group, const char* key) {
  return plan[group][key].get<int64_t>();
}

}  // namespace

Json SplitSaving(const Json& whole, const Json& split) {
  const auto less = [&](const char* group, const char* key) {
    return BytesAt(whole, group, key) - BytesAt(split, group, key);
  };
  Json saving;
  saving["padding_bytes"] = less("step_bytes_per_rank", "padding");
  saving["copied_bytes"] = whole["copied_bytes_per_rank"].get<int64_t>() -
                           split["copied_bytes_per_rank"].get<int64_t>();
  saving["buffer_bytes"] = less("bytes_per_rank", "buckets");
  saving["total_bytes"] = less("bytes_per_rank", "total");
  saving["scalar_bytes"] = less("step_bytes_per_rank", "scalars");
  saving[kLate] = split["early_fraction"].get<double>() -
                  whole["early_fraction"].get<double>();
  return saving;
}

std::string SplitLine(const Json& saving) {
  std::vector<std::string> less;
  std::vector<std::string> more;
  for (const auto& [key, called] : kBytes) {
    const auto bytes = saving[key].get<double>();
    if (bytes == 0) continue;
    (bytes > 0 ? less : more)
        .push_back(absl::StrCat(called, " ", HumanBytes(std::abs(bytes))));
  }
  const auto late = saving[kLate].get<double>();
  if (late != 0) {
    (late > 0 ? less : more)
        .push_back(
            absl::StrFormat("late gradients %.1f%%", 100 * std::abs(late)));
  }
  if (less.empty()) return "";
  const std::string line =
      absl::StrCat("  --blocks split: ", absl::StrJoin(less, ", "), " less");
  if (more.empty()) return line + "\n";
  return absl::StrCat(line, "; ", absl::StrJoin(more, ", "), " more\n");
}

}  // namespace zeromini::tools
