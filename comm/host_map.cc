#include "comm/host_map.h"

#include <map>

namespace zeromini {

HostMap HostMap::FromColors(absl::Span<const int> colors) {
  HostMap map;
  std::map<int, int> host_of_color;
  for (size_t r = 0; r < colors.size(); ++r) {
    const int next = static_cast<int>(host_of_color.size());
    const int host = host_of_color.try_emplace(colors[r], next).first->second;
    if (host == next) map.ranks_of_.emplace_back();
    map.host_of_.push_back(host);
    map.index_of_.push_back(static_cast<int>(map.ranks_of_[host].size()));
    map.ranks_of_[host].push_back(static_cast<int>(r));
  }
  return map;
}

}  // namespace zeromini
