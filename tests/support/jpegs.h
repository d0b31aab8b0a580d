// JPEGs of kinds that encode_jpeg() does not write.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "data/image.h"

// After <cstdio>: jpeglib.h uses FILE without including what declares it.
#include <jpeglib.h>

namespace qm {

/// A JPEG as libjpeg writes it. `setup(info)` says what it holds and how; row_of(y) is row y's numbers.
template <class Setup, class RowOf>
std::vector<std::uint8_t> written_by_libjpeg(Setup setup, RowOf row_of) {
  jpeg_compress_struct info;
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* buffer = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &buffer, &size);
  setup(info);
  jpeg_start_compress(&info, TRUE);
  while (info.next_scanline < info.image_height) {
    auto* row = const_cast<JSAMPLE*>(row_of(info.next_scanline));
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  std::vector<std::uint8_t> bytes(buffer, buffer + size);
  std::free(buffer);
  return bytes;
}

/// With the luma's sampling factors, the chroma's being 1.
inline std::vector<std::uint8_t> jpeg_of(const Image& image, int horizontal, int vertical, bool progressive) {
  return written_by_libjpeg(
      [&](jpeg_compress_struct& info) {
        info.image_height = static_cast<JDIMENSION>(image.height);
        info.image_width = static_cast<JDIMENSION>(image.width);
        info.input_components = 3;
        info.in_color_space = JCS_RGB;
        jpeg_set_defaults(&info);
        info.comp_info[0].h_samp_factor = horizontal;
        info.comp_info[0].v_samp_factor = vertical;
        if (progressive) jpeg_simple_progression(&info);
      },
      [&](std::size_t y) { return image.pixels.data() + y * static_cast<std::size_t>(image.width) * 3; });
}

/// While alive, libjpeg has no memory for the coefficients of a whole image, which progressive ones of several rows of
/// blocks need.
class LittleJpegMemory {
 public:
  LittleJpegMemory() { setenv("JPEGMEM", "1", 1); }
  ~LittleJpegMemory() { unsetenv("JPEGMEM"); }
  LittleJpegMemory(const LittleJpegMemory&) = delete;
  LittleJpegMemory& operator=(const LittleJpegMemory&) = delete;
};

}  // namespace qm
