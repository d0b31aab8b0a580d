// A folder that exists for one test.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

#include "kernels/base/error.h"

namespace qm {

/// Creates a fresh folder under the system's temporary one and removes it with its contents at the end of its scope.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "quadmamba-test-XXXXXX").string();
    QM_CHECK(mkdtemp(pattern.data()) != nullptr, IoError, pattern, ": cannot create a temporary folder");
    path_ = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// The path of an entry, as text.
  std::string operator/(const std::string& entry) const { return (path_ / entry).string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace qm
