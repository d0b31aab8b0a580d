// Folders and archives for pack to read, and what it finds there.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "data/pack.h"
#include "tests/support/damaged_file.h"
#include "tests/support/images.h"
#include "tests/support/tar.h"
#include "tests/support/temporary_folder.h"

namespace qm {

using Bytes = std::vector<std::uint8_t>;
using Names = std::vector<std::string>;

inline Bytes text(const std::string& text) {
  return Bytes(text.begin(), text.end());
}

inline Bytes tar_of(const std::vector<std::pair<std::string, Bytes>>& files) {
  Bytes tar;
  for (const auto& [name, contents] : files) append_tar_entry(tar, name, contents);
  end_tar(tar);
  return tar;
}

/// Six images of three classes, as a tree and as archives of every kind.
struct Archives {
  Archives() {
    std::uint32_t content = 0;
    Bytes tree, nested, flat, labels;
    for (const char* name : {"ant", "bee", "cat"}) {
      Bytes inner;
      std::filesystem::create_directories(folder / concat("tree/", name));
      for (const char* file : {"a.JPEG", "b.JPEG"}) {
        const Bytes bytes = jpeg(content++);
        const std::string flat_name = concat("val_", content, ".JPEG");
        write_bytes(folder / concat("tree/", name, "/", file), bytes);
        append_tar_entry(tree, concat("set/train/", name, "/", file), bytes);
        append_tar_entry(inner, file, bytes);
        append_tar_entry(flat, flat_name, bytes);
        for (const char c : concat(flat_name, " ", name, "\n")) labels.push_back(static_cast<std::uint8_t>(c));
      }
      append_tar_entry(inner, "notes.txt", text("no image"));
      end_tar(inner);
      append_tar_entry(nested, concat(name, ".tar"), inner);
    }
    for (Bytes* tar : {&tree, &nested, &flat}) end_tar(*tar);
    write_bytes(folder / "tree.tar", tree);
    write_bytes(folder / "nested.tar", nested);
    write_bytes(folder / "flat.tar", flat);
    write_bytes(folder / "labels.txt", labels);
  }

  PackOptions options(const std::string& input) const {
    return {.input = folder / input, .split = "train", .output = folder / (input + "-shards")};
  }

  TemporaryFolder folder;
};

inline PackSource source_of(const std::string& input) {
  return PackSource({.input = input, .inside = "", .labels = "", .classes = ""});
}

/// Of every image its name without the input's, and its class.
inline std::vector<std::pair<std::string, std::string>> listed(const PackSource& source, const std::string& input) {
  std::vector<std::pair<std::string, std::string>> images;
  for (const SourceImage& image : source.images()) {
    images.emplace_back(image.name.substr(input.size() + 1),
                        source.class_names()[static_cast<std::size_t>(image.label)]);
  }
  return images;
}

/// All that is wrong with a source, sorted: "PATH: cause", without the input's path before it.
inline Names problems_of(const PackSource& source, const std::string& input) {
  Names problems;
  for (const BadImage& bad : source.problems()) problems.push_back(bad.path.substr(input.size()) + ": " + bad.cause);
  std::ranges::sort(problems);
  return problems;
}

}  // namespace qm
