// Images for tests, and a number to compare many bytes by.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/image.h"

namespace qm {

/// Bytes without structure, the same everywhere: the upper bytes of a 32-bit linear congruential generator.
inline Image noise_image(std::int64_t height, std::int64_t width, std::uint32_t seed) {
  Image image{height, width, {}};
  image.pixels.resize(static_cast<std::size_t>(height * width * 3));
  for (auto& value : image.pixels) {
    seed = seed * 1664525u + 1013904223u;
    value = static_cast<std::uint8_t>(seed >> 24);
  }
  return image;
}

/// Slopes with a little noise, in the middle of the range: what photographs have and noise lacks.
inline Image slope_image(std::int64_t height, std::int64_t width, std::uint32_t seed) {
  Image image = noise_image(height, width, seed);
  for (std::int64_t i = 0; i < height * width * 3; ++i) {
    const std::int64_t y = i / (width * 3), x = i / 3 % width, c = i % 3;
    const std::int64_t slope = 40 + y * 90 / height + x * 70 / width + c * 10;
    image.pixels[i] = static_cast<std::uint8_t>(slope + image.pixels[i] / 16);
  }
  return image;
}

/// slope_image() as a JPEG.
inline std::vector<std::uint8_t> jpeg(std::uint32_t seed, std::int64_t height = 24, std::int64_t width = 32) {
  return encode_jpeg(slope_image(height, width, seed), 90);
}

/// FNV-1a with 64 bits.
inline std::uint64_t digest_of(std::span<const std::uint8_t> bytes) {
  std::uint64_t digest = 0xcbf29ce484222325ull;
  for (const auto byte : bytes) digest = (digest ^ byte) * 0x100000001b3ull;
  return digest;
}

}  // namespace qm
