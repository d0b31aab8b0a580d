// How messages name ranks: by number and, in a job of several hosts, by the host to look at.
#pragma once

#include <string>
#include <vector>

namespace qm {

/// Of this process; "?" where the system does not say.
std::string name_of_host();

/// The host of each rank: from here on names of ranks tell it, where that is not the same for all. Before other threads
/// name any.
void set_hosts_of_ranks(std::vector<std::string> hosts);

/// "rank 2", "rank 2 on node5".
std::string name_of_rank(int rank);
/// "rank 2", "ranks 1, 3", "ranks 1 on node4, 3 on node5"; "" for none.
std::string names_of_ranks(const std::vector<int>& ranks);

}  // namespace qm
