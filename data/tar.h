// Tar archives, read in place: what is inside and where, without unpacking.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/file.h"

namespace qm {

/// A regular file of an archive: `size` bytes of the archive's file from `offset`.
struct TarEntry {
  std::string name;  ///< as in the archive, but without "./", "//" and "x/../"
  std::uint64_t offset = 0, size = 0;
  bool whole = true;  ///< false of the last one of an archive that is cut short inside it, and of a sparse file
};

/// A hard or symbolic link to nothing that the archive holds.
struct DanglingLink {
  std::string name, target;
};

struct TarListing {
  std::vector<TarEntry> entries;
  std::vector<std::string> folders;  ///< that have an entry of their own, named as files are
  std::vector<DanglingLink> dangling;
  std::vector<std::string> special;   ///< names of pipes, devices and entries of types unknown here
  std::vector<std::string> problems;  ///< each one place where the archive is damaged or cut short
  /// Where the first header is that was damaged, if one was: some entries behind it may be what its file holds.
  std::optional<std::uint64_t> damaged_header;
};

/// Lists the archive in bytes [begin, end) of a file: ustar, with GNU and pax long names and sizes. A link is one more
/// name of the file that it leads to. Another archive may follow the end of the first. Where a header is damaged the
/// listing goes on with the next good one and names the place; problems are also an entry that reaches beyond the end,
/// a sparse file, an archive that does not end as archives do, and bytes that are none. Throws IoError if the file
/// cannot be read.
TarListing list_tar(const InputFile& file, std::uint64_t begin, std::uint64_t end);

}  // namespace qm
