#include "data/memory_image.h"

#include <algorithm>
#include <cstring>

namespace qm {

namespace {

/// Calls visit(page, offset in the page, position in the range, bytes) for each page that a range touches.
template <class Visit>
void for_each_page(std::uint64_t page_bytes, std::uint64_t offset, std::uint64_t count, Visit&& visit) {
  for (std::uint64_t done = 0; done < count;) {
    const std::uint64_t in_page = (offset + done) % page_bytes;
    const std::uint64_t bytes = std::min(page_bytes - in_page, count - done);
    visit((offset + done) / page_bytes, in_page, done, static_cast<std::size_t>(bytes));
    done += bytes;
  }
}

}  // namespace

void MemoryImage::resize(std::uint64_t size) {
  pages_.erase(pages_.lower_bound((size + kPageBytes - 1) / kPageBytes), pages_.end());
  if (const auto last = pages_.find(size / kPageBytes); last != pages_.end()) {
    std::fill(last->second.get() + size % kPageBytes, last->second.get() + kPageBytes, std::uint8_t{0});
  }
  size_ = size;
}

void MemoryImage::write(std::uint64_t offset, std::span<const std::uint8_t> bytes) {
  for_each_page(kPageBytes, offset, bytes.size(), [&](auto page, auto in_page, auto done, std::size_t count) {
    auto& memory = pages_[page];
    if (!memory) memory = std::make_unique<std::uint8_t[]>(kPageBytes);
    std::memcpy(memory.get() + in_page, bytes.data() + done, count);
  });
  size_ = std::max(size_, offset + bytes.size());
}

void MemoryImage::read(std::uint64_t offset, std::span<std::uint8_t> bytes) const {
  for_each_page(kPageBytes, offset, bytes.size(), [&](auto page, auto in_page, auto done, std::size_t count) {
    const auto found = pages_.find(page);
    if (found == pages_.end()) {
      std::memset(bytes.data() + done, 0, count);
    } else {
      std::memcpy(bytes.data() + done, found->second.get() + in_page, count);
    }
  });
}

}  // namespace qm
