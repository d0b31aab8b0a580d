// Loops of the CPU back-end whose results do not depend on the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace qm::cpu {

/// total[0 … width) += Σ over items, where body(first, last, partial) adds items [first, last) to `partial` (zeroed).
/// Items are cut into chunks of `chunk_items`, whatever the number of threads, and the chunks' sums are added in order.
template <class T, class Body>
void accumulate_in_chunks(std::int64_t items, std::int64_t chunk_items, std::int64_t width, T* total, Body body) {
  const std::int64_t chunks = (items + chunk_items - 1) / chunk_items;
  std::vector<T> partials(static_cast<std::size_t>(chunks * width), T(0));
#pragma omp parallel for schedule(static)
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
    body(chunk * chunk_items, std::min(items, (chunk + 1) * chunk_items), partials.data() + chunk * width);
  }
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
    const T* partial = partials.data() + chunk * width;
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) total[i] += partial[i];
  }
}

/// accumulate_in_chunks over rows of a matrix: at most 64 chunks of at least 32 rows.
template <class T, class Body>
void accumulate_over_rows(std::int64_t rows, std::int64_t width, T* total, Body body) {
  accumulate_in_chunks(rows, std::max<std::int64_t>(32, (rows + 63) / 64), width, total, body);
}

/// accumulate_in_chunks over the images of a batch: at most 64 chunks.
template <class T, class Body>
void accumulate_over_images(std::int64_t images, std::int64_t width, T* total, Body body) {
  accumulate_in_chunks(images, std::max<std::int64_t>(1, (images + 63) / 64), width, total, body);
}

}  // namespace qm::cpu
