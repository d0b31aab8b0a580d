// Tar archives, read in place: what is inside and where, without unpacking.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/file.h"

namespace qm {

/// A regular file of an archive: `size` bytes of the archive's file from `offset`.
struct TarEntry {
  std::string name;  ///< as in the archive, but without "./", "//" and "x/../"
  std::uint64_t offset = 0, size = 0;
  bool whole = true;  ///< false of the last one of an archive that is cut short inside it: `size` is what is there
};

struct TarListing {
  std::vector<TarEntry> entries;
  std::vector<std::string> problems;  ///< each one place where the archive is damaged or cut short
};

/// Lists the regular files of the archive in bytes [begin, end) of a file: ustar, with GNU and pax long names and sizes.
/// A hard link is one more name of the file that it leads to. Another archive may follow the end of the first. Where a
/// header is damaged the listing goes on with the next good one and names the place; an entry that reaches beyond the end
/// and a hard link to nothing are problems too. Folders, symbolic links and devices are passed over. Throws IoError if
/// not even the first header is one, with a hint where the file is compressed.
TarListing list_tar(const InputFile& file, std::uint64_t begin, std::uint64_t end);

/// Whether a file's first header is that of an archive.
bool is_tar(const InputFile& file);

}  // namespace qm
