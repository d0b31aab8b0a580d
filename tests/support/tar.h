// Tar archives for tests, built in memory.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace qm {

using TarBytes = std::vector<std::uint8_t>;

/// One entry of a ustar archive: header, contents, padding.
inline void append_tar_entry(TarBytes& tar, const std::string& name, const TarBytes& contents, char type = '0') {
  std::string header(512, '\0');
  header.replace(0, name.size(), name);
  std::snprintf(&header[124], 12, "%011zo", contents.size());
  header[156] = type;
  header.replace(257, 8, std::string("ustar\00000", 8));
  header.replace(148, 8, "        ");
  unsigned sum = 0;
  for (const char c : header) sum += static_cast<unsigned char>(c);
  std::snprintf(&header[148], 8, "%06o", sum);
  tar.insert(tar.end(), header.begin(), header.end());
  tar.insert(tar.end(), contents.begin(), contents.end());
  tar.resize((tar.size() + 511) / 512 * 512);
}

/// The two empty blocks that end an archive.
inline void end_tar(TarBytes& tar) { tar.resize(tar.size() + 1024); }

}  // namespace qm
