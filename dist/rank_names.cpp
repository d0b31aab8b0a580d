#include "dist/rank_names.h"

#include <unistd.h>

#include <algorithm>
#include <climits>
#include <functional>
#include <utility>

#include "kernels/base/error.h"

namespace qm {
namespace {

std::vector<std::string> hosts_of_ranks;  ///< none as long as they need not be told apart

}  // namespace

std::string name_of_host() {
  char name[HOST_NAME_MAX + 1] = {};
  return ::gethostname(name, HOST_NAME_MAX) == 0 ? name : "?";
}

void set_hosts_of_ranks(std::vector<std::string> hosts) {
  const bool is_one_host = std::ranges::adjacent_find(hosts, std::not_equal_to()) == hosts.end();
  hosts_of_ranks = is_one_host ? std::vector<std::string>() : std::move(hosts);
}

std::string name_of_rank(int rank) {
  return names_of_ranks({rank});
}

std::string names_of_ranks(const std::vector<int>& ranks) {
  std::string names;
  for (const int rank : ranks) {
    names += concat(names.empty() ? "" : ", ", rank);
    const auto index = static_cast<std::size_t>(rank);
    if (index < hosts_of_ranks.size()) names += " on " + hosts_of_ranks[index];
  }
  return names.empty() ? names : (ranks.size() > 1 ? "ranks " : "rank ") + names;
}

}  // namespace qm
