// The exceptions of the project and the checks that throw them.
//
// An error's text says what was expected, what came, and where. Libraries throw and never call exit(); each main
// catches once, prints one line with the rank, and ends the job.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace qm {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A shape, dtype or device that an operation cannot take.
class ShapeError : public Error {
 public:
  using Error::Error;
};

/// A recipe, option or key that is unknown, mistyped or impossible.
class ConfigError : public Error {
 public:
  using Error::Error;
};

/// A file or folder that cannot be read, written or trusted.
class IoError : public Error {
 public:
  using Error::Error;
};

/// Memory that a device does not have.
class OutOfMemory : public Error {
 public:
  using Error::Error;
};

class CudaError : public Error {
 public:
  using Error::Error;
};

/// A failed exchange between processes.
class CommError : public Error {
 public:
  using Error::Error;
};

/// Joins its arguments with operator<<.
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

}  // namespace qm

/// Throws `ErrorType` with the joined text unless `condition` holds. Always on.
#define QM_CHECK(condition, ErrorType, ...)                      \
  do {                                                           \
    if (!(condition)) throw ErrorType(::qm::concat(__VA_ARGS__)); \
  } while (false)
