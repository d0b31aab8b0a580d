// Real ImageNet images for tests: an archive of 295 of them beside the sources, in ../shared/data, or where QM_DATA_DIR
// points. Without it tests that need it are skipped.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace qm {

inline constexpr std::int64_t kRealImages = 295;

inline std::string real_images_path() {
  const char* folder = std::getenv("QM_DATA_DIR");
  return (folder ? std::string(folder) : std::string(QM_SOURCE_DIR "/../shared/data")) + "/imagenet-sample.tar";
}

#define QM_NEEDS_REAL_IMAGES() \
  if (!std::filesystem::exists(real_images_path())) GTEST_SKIP() << real_images_path() << " is not there"

}  // namespace qm
