// Keeps the folders' dependency rules: which folder may include which, and which library is used where.
//
//   folder          may include (besides itself and kernels/base)
//   kernels/base
//   kernels
//   autograd        kernels
//   layers          autograd
//   data            autograd, kernels
//   dist            autograd
//   recipes
//   launch          everything but tests
//   tests           everything
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace qm {
namespace {

namespace fs = std::filesystem;
using Names = std::set<std::string>;

const std::map<std::string, Names> kMayInclude{
    {"kernels/base", {}},
    {"kernels", {}},
    {"autograd", {"kernels"}},
    {"layers", {"autograd"}},
    {"data", {"autograd", "kernels"}},
    {"dist", {"autograd"}},
    {"recipes", {}},
    {"launch", {"kernels", "autograd", "layers", "data", "dist", "recipes"}},
    {"tests", {"kernels", "autograd", "layers", "data", "dist", "recipes", "launch"}},
};

struct LibraryRule {
  std::string prefix;  ///< of the name between < and >
  Names folders;       ///< that may include it
};

const std::vector<LibraryRule> kLibraryRules{
    {"toml++/", {"recipes", "tests"}},
    {"mpi.h", {"dist"}},
    {"hdf5", {"data", "tests"}},
    {"H5", {"data", "tests"}},
    {"jpeglib.h", {"data", "tests"}},
    {"png.h", {"data", "tests"}},
    {"boost/", {"launch"}},
    {"cblas.h", {"kernels"}},
    {"gtest/", {"tests"}},
    {"cuda", {"kernels", "kernels/base"}},
    {"cublas", {"kernels"}},
    {"cudnn", {"kernels"}},
    {"nccl.h", {"dist"}},
};

/// "kernels/base", else the top-level folder of a path relative to the root.
std::string folder_of(const std::string& path) {
  return path.starts_with("kernels/base/") ? "kernels/base" : path.substr(0, path.find('/'));
}

bool is_device_code(const std::string& path) {
  return path.ends_with(".cu") || path.ends_with(".cuh");
}

std::optional<std::string> broken_project_rule(const std::string& file, const std::string& included) {
  const std::string from = folder_of(file);
  const std::string to = folder_of(included);
  if (!kMayInclude.contains(from)) return "is in a folder without rules";
  if (!kMayInclude.contains(to)) return "includes \"" + included + "\", which is not named from the top level";
  if (is_device_code(included) && !is_device_code(file)) return "includes device code \"" + included + "\"";
  if (from != to && to != "kernels/base" && !kMayInclude.at(from).contains(to)) {
    return "includes \"" + included + "\": " + from + " must not depend on " + to;
  }
  return std::nullopt;
}

std::optional<std::string> broken_library_rule(const std::string& file, const std::string& included) {
  for (const LibraryRule& rule : kLibraryRules) {
    if (included.starts_with(rule.prefix) && !rule.folders.contains(folder_of(file))) {
      return "includes <" + included + ">, which is not for " + folder_of(file);
    }
  }
  return std::nullopt;
}

/// The rule that a line of `file` (a path relative to the root) breaks, if it is an #include that breaks one.
std::optional<std::string> broken_rule(const std::string& file, const std::string& line) {
  static const std::regex include(R"(^\s*#\s*include\s*(["<])([^">]+)[">])");
  std::smatch parts;
  if (!std::regex_search(line, parts, include)) return std::nullopt;
  return parts[1] == "<" ? broken_library_rule(file, parts[2]) : broken_project_rule(file, parts[2]);
}

bool is_source(const fs::path& path) {
  static const Names endings{".h", ".cpp", ".cu", ".cuh"};
  return endings.contains(path.extension().string());
}

std::vector<std::string> project_sources(const fs::path& root) {
  std::vector<std::string> files;
  for (const auto& [folder, unused] : kMayInclude) {
    if (folder == "kernels/base") continue;  // inside kernels
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      if (entry.is_regular_file() && is_source(entry.path())) {
        files.push_back(fs::relative(entry.path(), root).string());
      }
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

TEST(tests, include_rules_hold_everywhere) {
  const fs::path root = QM_SOURCE_DIR;
  const std::vector<std::string> files = project_sources(root);
  EXPECT_GT(files.size(), 50u) << "looked in the wrong place: " << root;
  for (const std::string& file : files) {
    std::ifstream stream(root / file);
    std::string line;
    for (int number = 1; std::getline(stream, line); ++number) {
      const auto broken = broken_rule(file, line);
      EXPECT_FALSE(broken) << file << ":" << number << " " << *broken;
    }
  }
}

TEST(tests, include_rules_find_what_is_forbidden) {
  const auto forbidden = [](const char* file, const char* line) {
    EXPECT_TRUE(broken_rule(file, line)) << file << ": " << line;
  };
  forbidden("layers/block.cpp", "#include \"data/shard.h\"");
  forbidden("layers/block.cpp", "#include \"kernels/linear.h\"");
  forbidden("dist/reducer.h", "#include \"layers/module.h\"");
  forbidden("dist/reducer.h", "#include \"kernels/linear.h\"");
  forbidden("recipes/recipe.cpp", "  #  include   \"autograd/tensor.h\"  // why");
  forbidden("kernels/linear.cpp", "#include \"autograd/tensor.h\"");
  forbidden("kernels/base/dtype.h", "#include \"kernels/linear.h\"");
  forbidden("launch/main.cpp", "#include \"tests/support/run_program.h\"");
  forbidden("data/shard.cpp", "#include \"shard.h\"");
  forbidden("data/shard.cpp", "#include \"../data/shard.h\"");
  forbidden("kernels/scan.cpp", "#include \"kernels/cuda/scan.cuh\"");
  forbidden("launch/main.cpp", "#include <toml++/toml.h>");
  forbidden("launch/main.cpp", "#include <mpi.h>");
  forbidden("tests/dist/reducer_test.cpp", "#include <mpi.h>");
  forbidden("launch/main.cpp", "#include<hdf5.h>");
  forbidden("elsewhere/x.cpp", "#include \"data/shard.h\"");
}

TEST(tests, include_rules_leave_the_rest_alone) {
  const auto allowed = [](const char* file, const char* line) {
    const auto broken = broken_rule(file, line);
    EXPECT_FALSE(broken) << file << ": " << line << ": " << *broken;
  };
  allowed("layers/block.cpp", "#include \"autograd/ops/linear.h\"");
  allowed("layers/block.cpp", "#include \"kernels/base/error.h\"");
  allowed("data/shard.cpp", "#include <hdf5.h>");
  allowed("data/shard.cpp", "#include \"kernels/mix.h\"");
  allowed("dist/environment.cpp", "#include <mpi.h>");
  allowed("launch/main.cpp", "#include \"recipes/recipe.h\"");
  allowed("tests/recipes/recipe_test.cpp", "#include <toml++/toml.h>");
  allowed("kernels/cuda/scan.cu", "#include \"kernels/cuda/scan.cuh\"");
  allowed("kernels/linear.cpp", "// #include \"autograd/tensor.h\" would turn the dependency around");
  allowed("kernels/linear.cpp", "#pragma once");
  allowed("kernels/linear.cpp", "");
}

}  // namespace
}  // namespace qm
