#include "tools/machine_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace zeromini::tools {
namespace {

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

int64_t AvailableToAll() {
  std::ifstream facts("/proc/meminfo");
  std::string word;
  int64_t kibibytes = 0;
  while (facts >> word) {
    if (word == "MemAvailable:" && facts >> kibibytes) return kibibytes << 10;
  }
  return 0;
}

// What is left of a limit in a control group; "max" and absence are no limit.
int64_t LeftOf(const char* limit_file, const char* used_file) {
  int64_t limit = 0;
  int64_t used = 0;
  if (!(std::ifstream(limit_file) >> limit)) return kNoLimit;
  if (!(std::ifstream(used_file) >> used)) return kNoLimit;
  return std::max<int64_t>(0, limit - used);
}

}  // namespace

int64_t AvailableMemory() {
  const std::string second = "/sys/fs/cgroup/memory.";
  const std::string first = "/sys/fs/cgroup/memory/memory.";
  return std::min(
      {AvailableToAll(),
       LeftOf((second + "max").c_str(), (second + "current").c_str()),
       LeftOf((first + "limit_in_bytes").c_str(),
              (first + "usage_in_bytes").c_str())});
}

}  // namespace zeromini::tools
