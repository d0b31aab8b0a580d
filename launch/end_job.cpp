#include "launch/end_job.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>

#include "dist/rank_names.h"
#include "kernels/base/error.h"

namespace qm {
namespace {

/// An error stays one line whatever a file's name or a value of the command line holds.
std::string on_one_line(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char letter) { return letter < 0x20 || letter == 0x7f; }, ' ');
  return text;
}

}  // namespace

void print_error(const std::string& what, const Environment& environment) {
  const std::string rank = environment.size() > 1 ? concat(" [", name_of_rank(environment.rank()), "]") : "";
  std::cerr << concat("quadmamba", rank, ": ", on_one_line(what),
                      "\n");  // one write: lines of several ranks stay whole
}

void tell_launcher(const std::string& line) {
  if (const char* file = std::getenv("QM_STATUS_FILE")) std::ofstream(file, std::ios::app) << line + "\n" << std::flush;
}

int end_job(const std::string& what, const Environment& environment) {
  if (environment.has_last_word()) {
    print_error(what, environment);
    tell_launcher(std::to_string(kFailed));
  }
  environment.abort(kFailed);
  return kFailed;
}

}  // namespace qm
