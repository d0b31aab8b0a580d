// CRC-32C (Castagnoli, the polynomial of iSCSI and of SSE 4.2): guards files against damage, not against malice.
#pragma once

#include <cstdint>
#include <span>

namespace qm {

/// CRC-32C of `bytes` appended to bytes whose CRC is `crc` (0 for none): crc32c(b, crc32c(a)) is that of a then b.
std::uint32_t crc32c(std::span<const std::uint8_t> bytes, std::uint32_t crc = 0);

}  // namespace qm
