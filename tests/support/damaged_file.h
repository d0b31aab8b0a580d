// Files on purpose cut short, flipped, or not allowed to grow.
#pragma once

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "kernels/base/error.h"

namespace qm {

inline std::vector<std::uint8_t> bytes_of_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write_bytes(const std::string& path, const std::vector<std::uint8_t>& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  ASSERT_TRUE(file.flush()) << path;
}

/// The text of the ErrorType that `body` throws; "" (and a failure) if it throws none.
template <class ErrorType = IoError, class Body>
std::string error_of(Body&& body) {
  try {
    body();
  } catch (const ErrorType& error) {
    return error.what();
  }
  ADD_FAILURE() << "expected an error";
  return "";
}

/// Expects `read` to throw an IoError of one line naming `path`.
template <class Read>
void expect_named_error(const std::string& path, Read&& read) {
  const std::string text = error_of(read);
  EXPECT_TRUE(text.starts_with(path + ": ")) << text;
  EXPECT_EQ(text.find('\n'), std::string::npos) << text;
}

/// Damages each byte of the file in turn, once in one bit and once in all, and expects `read` to name it every time.
template <class Read>
void expect_every_flip_detected(const std::string& path, Read&& read) {
  const std::vector<std::uint8_t> bytes = bytes_of_file(path);
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  const auto put = [&](std::size_t i, int byte) {
    file.seekp(static_cast<std::streamoff>(i));
    file.put(static_cast<char>(byte));
    file.flush();
  };
  for (std::size_t i = 0; i < bytes.size() && !::testing::Test::HasFailure(); ++i) {
    SCOPED_TRACE(concat("byte ", i, " of ", bytes.size()));
    for (const int flip : {1 << (i % 8), 0xff}) {
      put(i, bytes[i] ^ flip);
      expect_named_error(path, read);
    }
    put(i, bytes[i]);
  }
  EXPECT_NO_THROW(read());
}

/// Cuts the file to every length below its own, longest first, and then appends a byte to the whole.
template <class Read>
void expect_every_length_detected(const std::string& path, Read&& read) {
  std::vector<std::uint8_t> bytes = bytes_of_file(path);
  for (std::size_t length = bytes.size(); length-- > 0 && !::testing::Test::HasFailure();) {
    SCOPED_TRACE(concat("length ", length, " of ", bytes.size()));
    std::filesystem::resize_file(path, length);
    expect_named_error(path, read);
  }
  bytes.push_back(0);
  write_bytes(path, bytes);
  expect_named_error(path, read);
}

/// While alive, files of this process cannot grow beyond `bytes`: writing more fails as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_;
  void (*handler_)(int);
};

/// While alive, this process can open no further file.
class DescriptorLimit {
 public:
  DescriptorLimit() {
    getrlimit(RLIMIT_NOFILE, &before_);
    rlimit none = before_;
    none.rlim_cur = 0;
    setrlimit(RLIMIT_NOFILE, &none);
  }
  ~DescriptorLimit() { setrlimit(RLIMIT_NOFILE, &before_); }
  DescriptorLimit(const DescriptorLimit&) = delete;
  DescriptorLimit& operator=(const DescriptorLimit&) = delete;

 private:
  rlimit before_;
};

/// Names in a folder, sorted.
inline std::vector<std::string> entries_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace qm
