// Philox4x32-10, the counter-based generator behind every random number of the project (Salmon et al., "Parallel random
// numbers: as easy as 1, 2, 3", SC 2011). A value depends on its key and counter alone, never on a rank, a thread or on
// what was drawn before it, so order, augmentation and noise do not change with ranks, workers, accumulation or restarts.
#pragma once

#include <cstdint>

#include "kernels/base/host_device.h"

namespace qm {

/// What a stream of random numbers is for. Part of the counter: streams of different purposes never overlap.
/// The values are fixed: changing one changes every run.
enum class RandomPurpose : std::uint32_t {
  kInitialization = 1,
  kDataOrder = 2,
  kAugmentation = 3,
  kMix = 4,
  kGumbel = 5,
  kDropPath = 6,
  kSynthetic = 7,
};

struct PhiloxBlock {
  std::uint32_t word[4];
};

/// The raw bijection: ten rounds over a 128-bit counter under a 64-bit key.
QM_HOST_DEVICE PhiloxBlock philox4x32_10(PhiloxBlock counter, std::uint32_t key0, std::uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = static_cast<std::uint64_t>(0xD2511F53u) * counter.word[0];
    const std::uint64_t product1 = static_cast<std::uint64_t>(0xCD9E8D57u) * counter.word[2];
    counter = PhiloxBlock{{static_cast<std::uint32_t>(product1 >> 32) ^ counter.word[1] ^ key0,
                           static_cast<std::uint32_t>(product1),
                           static_cast<std::uint32_t>(product0 >> 32) ^ counter.word[3] ^ key1,
                           static_cast<std::uint32_t>(product0)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

/// Four random words for (seed, purpose, major, minor, position, draw).
///
/// `position` is the sample's place (in the global batch, in the epoch's order, …), `major` the step or epoch, `minor`
/// tells streams of one purpose apart (block of the network, parameter, …), `draw` (below 2^24) counts the blocks of
/// four words taken from one stream.
QM_HOST_DEVICE PhiloxBlock philox(std::uint64_t seed, RandomPurpose purpose, std::uint32_t major, std::uint32_t minor,
                                  std::uint32_t position, std::uint32_t draw = 0) {
  const PhiloxBlock counter{
      {position, major, minor, (static_cast<std::uint32_t>(purpose) << 24) | (draw & 0x00ffffffu)}};
  return philox4x32_10(counter, static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
}

/// A uniform number in the open interval (0, 1) with 23 bits: exact in float, so the same value on CPU and GPU.
QM_HOST_DEVICE float uniform_open(std::uint32_t word) {
  return (static_cast<float>(word >> 9) + 0.5f) * (1.0f / 8388608.0f);
}

/// A uniform number in (0, 1) with 52 bits, for host-side draws in double.
QM_HOST_DEVICE double uniform_open_double(std::uint32_t high, std::uint32_t low) {
  const std::uint64_t bits = (static_cast<std::uint64_t>(high) << 20) ^ (low >> 12);  // 52 bits
  return (static_cast<double>(bits) + 0.5) * (1.0 / 4503599627370496.0);
}

}  // namespace qm
