// Tar archives for tests, built in memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace qm {

using TarBytes = std::vector<std::uint8_t>;

/// Makes the checksum of the header at `at` right.
inline void set_tar_checksum(TarBytes& tar, std::size_t at) {
  std::fill_n(tar.begin() + static_cast<std::ptrdiff_t>(at) + 148, 8, std::uint8_t{' '});
  unsigned sum = 0;
  for (std::size_t i = 0; i < 512; ++i) sum += tar[at + i];
  std::snprintf(reinterpret_cast<char*>(&tar[at + 148]), 8, "%06o", sum);
}

/// One entry of a ustar archive: header, contents, padding.
inline void append_tar_entry(TarBytes& tar, const std::string& name, const TarBytes& contents, char type = '0',
                             const std::string& link = "") {
  std::string header(512, '\0');
  header.replace(0, name.size(), name);
  std::snprintf(&header[124], 12, "%011zo", contents.size());
  header[156] = type;
  header.replace(157, link.size(), link);
  header.replace(257, 8, std::string("ustar\00000", 8));
  tar.insert(tar.end(), header.begin(), header.end());
  set_tar_checksum(tar, tar.size() - 512);
  tar.insert(tar.end(), contents.begin(), contents.end());
  tar.resize((tar.size() + 511) / 512 * 512);
}

/// The two empty blocks that end an archive.
inline void end_tar(TarBytes& tar) {
  tar.resize(tar.size() + 1024);
}

}  // namespace qm
