// SHA-256 (FIPS 180-4): one short name for a lot of data, equal only for equal data.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace qm {

class Sha256 {
 public:
  void update(std::span<const std::uint8_t> bytes);
  /// The characters and their number, so that ("ab", "c") and ("a", "bc") differ.
  void update_text(std::string_view text);
  /// The bytes of a number or an array of numbers, as they lie in memory.
  template <class T, std::size_t N>
  void update_values(std::span<const T, N> values) {
    update({reinterpret_cast<const std::uint8_t*>(values.data()), values.size_bytes()});
  }

  /// Ends the message; the object is spent.
  std::array<std::uint8_t, 32> digest();
  std::string hex_digest();

 private:
  void compress(const std::uint8_t* block);

  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::uint8_t, 64> pending_{};
  std::uint64_t length_ = 0;  // bytes; the last length_ % 64 of them are pending
};

}  // namespace qm
