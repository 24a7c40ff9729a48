// HostMap: which ranks share a host. Pure arithmetic, equal on all ranks.

#ifndef ZEROMINI_COMM_HOST_MAP_H_
#define ZEROMINI_COMM_HOST_MAP_H_

#include <vector>

#include "absl/types/span.h"

namespace zeromini {

class HostMap {
 public:
  // `colors`: one per rank; equal means same host. Hosts are numbered in the
  // order of their lowest rank.
  static HostMap FromColors(absl::Span<const int> colors);

  int ranks() const { return static_cast<int>(host_of_.size()); }
  int hosts() const { return static_cast<int>(ranks_of_.size()); }

  int host_of(int rank) const { return host_of_[rank]; }
  // The rank's place among the ranks of its host.
  int index_of(int rank) const { return index_of_[rank]; }
  const std::vector<int>& ranks_of(int host) const { return ranks_of_[host]; }

  // The rank of `host` that deals with the segment of `rank`, who is elsewhere:
  // sends it the host's sum, receives its weights. Spreads a host's links over
  // its ranks, also where hosts have different numbers of them.
  int Courier(int host, int rank) const {
    const std::vector<int>& ranks = ranks_of_[host];
    return ranks[index_of_[rank] % static_cast<int>(ranks.size())];
  }

 private:
  std::vector<int> host_of_;
  std::vector<int> index_of_;
  std::vector<std::vector<int>> ranks_of_;
};

}  // namespace zeromini

#endif  // ZEROMINI_COMM_HOST_MAP_H_
