// The text files that pack may be given: the classes in their order, and labels of images that lie flat.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace qm {

/// The class names of a shard (*.h5), or of UTF-8 text with one a line. Blanks around a name and empty lines at the end
/// do not count. Throws IoError naming the file, and the line: what is no printable text, an empty line between names,
/// a name for a second time; no names at all.
std::vector<std::string> read_class_names(const std::string& path);

/// Labels by file name, from UTF-8 text of "NAME LABEL" lines, between which there may be empty ones. Of a NAME that is
/// a path only the last part counts, since archives and lists have their files in other folders. Throws IoError naming
/// the file, and the line: what is no printable text, no NAME or LABEL, a file name for a second time; no labels at
/// all.
std::map<std::string, std::string> read_labels(const std::string& path);

}  // namespace qm
