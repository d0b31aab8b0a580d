#include "data/image.h"

#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>
#include <utility>

// After <cstdio>: jpeglib.h uses FILE without including what declares it.
// clang-format off
#include <jpeglib.h>
#include <jerror.h>
// clang-format on

#include "kernels/base/error.h"

// libjpeg and libpng report errors by longjmp. A jump must not pass over a C++ object with a destructor, so each
// decoder and encoder is an object that owns the library's state, and the library is entered through `survives` alone,
// with bodies that create nothing but plain values.

namespace qm {
namespace {

/// Runs `body`; false if it ended in a longjmp to `jump`. Never inlined: setjmp leaves changed locals of its own frame
/// undefined, and this frame has none.
template <class Body>
[[gnu::noinline]] bool survives(jmp_buf& jump, const Body& body) {
  if (setjmp(jump) != 0) return false;
  body();
  return true;
}

void check_extent(std::int64_t height, std::int64_t width) {
  QM_CHECK(height > 0 && width > 0 && height <= kMaxPixels / width, IoError, "image of ", width, " x ", height,
           " pixels: expected 1 to ", kMaxPixels);
}

void check_inside(const Box& box, ImageSize size) {
  const bool inside = box.top >= 0 && box.left >= 0 && box.height > 0 && box.width > 0 &&
                      box.height <= size.height - box.top && box.width <= size.width - box.left;
  QM_CHECK(inside, ShapeError, "region of ", box.height, " x ", box.width, " at (", box.top, ", ", box.left,
           ") of an image of ", size.height, " x ", size.width);
}

Image allocate_image(std::int64_t height, std::int64_t width) {
  check_extent(height, width);
  try {
    return Image{height, width, std::vector<std::uint8_t>(static_cast<std::size_t>(height * width * 3))};
  } catch (const std::bad_alloc&) {
    throw OutOfMemory(concat("image of ", width, " x ", height, " pixels: out of memory"));
  }
}

void check_encodable(const Image& image) {
  check_extent(image.height, image.width);
  QM_CHECK(static_cast<std::int64_t>(image.pixels.size()) == image.height * image.width * 3, IoError, "image of ",
           image.width, " x ", image.height, " pixels holds ", image.pixels.size(), " bytes");
}

// ---- JPEG -----------------------------------------------------------------------------------------------------------

struct JpegErrors {
  jpeg_error_mgr manager;  // first: libjpeg hands back a pointer to it
  jmp_buf jump;
  char message[JMSG_LENGTH_MAX];

  void install() {
    jpeg_std_error(&manager);
    manager.error_exit = [](j_common_ptr info) { fail(info); };
    // Warnings are about damage that the decoder patches over. Data that end too early are no such thing.
    manager.emit_message = [](j_common_ptr info, int level) {
      if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) fail(info);
    };
  }

  void check(bool survived) const {
    if (survived) return;
    const bool is_memory = manager.msg_code == JERR_OUT_OF_MEMORY || manager.msg_code == JERR_NO_BACKING_STORE;
    QM_CHECK(!is_memory, OutOfMemory, "JPEG: out of memory: ", message);
    throw IoError(concat("JPEG: ", message));
  }

 private:
  [[noreturn]] static void fail(j_common_ptr info) {
    auto* errors = reinterpret_cast<JpegErrors*>(info->err);
    if (info->err->msg_code == JWRN_JPEG_EOF) {
      std::snprintf(errors->message, sizeof errors->message, "data end before the image does");
    } else {
      info->err->format_message(info, errors->message);
    }
    longjmp(errors->jump, 1);
  }
};

/// Adobe's inverted CMYK to RGB as PIL does it: channel − channel · ink, in its rounded division by 255.
void cmyk_to_rgb(const std::uint8_t* cmyk, std::int64_t count, std::uint8_t* rgb) {
  for (std::int64_t i = 0; i < count; ++i) {
    const int light = cmyk[4 * i + 3];
    for (int channel = 0; channel < 3; ++channel) {
      const int product = (255 - cmyk[4 * i + channel]) * light + 128;
      const int value = light - (((product >> 8) + product) >> 8);
      rgb[3 * i + channel] = static_cast<std::uint8_t>(value < 0 ? 0 : value);
    }
  }
}

class JpegDecoder {
 public:
  JpegDecoder() { std::memset(&info_, 0, sizeof info_); }
  ~JpegDecoder() { jpeg_destroy_decompress(&info_); }
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  Image decode(std::span<const std::uint8_t> bytes) {
    start(bytes);
    Image image = allocate_image(info_.image_height, info_.image_width);
    std::vector<std::uint8_t> cmyk_row(info_.out_color_space == JCS_CMYK ? image.width * 4 : 0);
    errors_.check(survives(errors_.jump, [&] { read_rows(image.pixels.data(), cmyk_row.data()); }));
    return image;
  }

  ScaledRegion decode_region(std::span<const std::uint8_t> bytes, const std::function<Box(ImageSize)>& choose,
                             const std::optional<ImageSize>& least) {
    start(bytes);
    const ImageSize size{info_.image_height, info_.image_width};
    check_extent(size.height, size.width);
    const Box box = choose(size);
    check_inside(box, size);
    const std::int64_t shrink = least ? largest_shrink(box, *least) : 1;
    info_.scale_num = 1;
    info_.scale_denom = static_cast<unsigned int>(shrink);
    const Box cover = shrunk(box, shrink);
    ScaledRegion region{allocate_image(cover.height, cover.width), {}};
    const auto scaled = [&](std::int64_t at) { return static_cast<double>(at) / static_cast<double>(shrink); };
    region.box = {scaled(box.top) - static_cast<double>(cover.top), scaled(box.left) - static_cast<double>(cover.left),
                  scaled(box.height), scaled(box.width)};
    std::vector<std::uint8_t> row(static_cast<std::size_t>(size.width * 4));
    errors_.check(
        survives(errors_.jump, [&] { read_box(cover, DCTSIZE / shrink, region.image.pixels.data(), row.data()); }));
    return region;
  }

 private:
  void start(std::span<const std::uint8_t> bytes) {
    errors_.install();
    info_.err = &errors_.manager;
    errors_.check(survives(errors_.jump, [&] { read_header(bytes); }));
  }

  void read_header(std::span<const std::uint8_t> bytes) {
    jpeg_create_decompress(&info_);
    jpeg_mem_src(&info_, bytes.data(), bytes.size());
    jpeg_read_header(&info_, TRUE);
    const bool has_ink = info_.jpeg_color_space == JCS_CMYK || info_.jpeg_color_space == JCS_YCCK;
    info_.out_color_space = has_ink ? JCS_CMYK : JCS_RGB;
  }

  void read_rows(std::uint8_t* pixels, std::uint8_t* cmyk_row) {
    jpeg_start_decompress(&info_);
    const std::size_t row_bytes = std::size_t{info_.output_width} * 3;
    while (info_.output_scanline < info_.output_height) {
      std::uint8_t* rgb_row = pixels + info_.output_scanline * row_bytes;
      if (info_.out_color_space == JCS_CMYK) {
        jpeg_read_scanlines(&info_, &cmyk_row, 1);
        cmyk_to_rgb(cmyk_row, info_.output_width, rgb_row);
      } else {
        jpeg_read_scanlines(&info_, &rgb_row, 1);
      }
    }
    jpeg_finish_decompress(&info_);  // looks for the end marker
  }

  /// 8, 4, 2 or 1.
  static std::int64_t largest_shrink(const Box& box, ImageSize least) {
    std::int64_t shrink = DCTSIZE;
    while (shrink > 1 && (box.height < least.height * shrink || box.width < least.width * shrink)) shrink /= 2;
    return shrink;
  }

  /// The pixels that the box touches in the image shrunk so; it is as large as a division rounded up.
  static Box shrunk(const Box& box, std::int64_t shrink) {
    const std::int64_t top = box.top / shrink, left = box.left / shrink;
    return {top, left, (box.top + box.height + shrink - 1) / shrink - top,
            (box.left + box.width + shrink - 1) / shrink - left};
  }

  /// Whether the columns and rows around a box can be left out. Not where smoothing looks at blocks further away, which it
  /// does in progressive images that lack scans; nor where libjpeg enlarges coarse chroma's blocks as it shrinks the
  /// others, since its crop then leaves out too many of them.
  bool can_leave_out(std::int64_t block) const {
    const int coarsest = std::max(info_.max_h_samp_factor, info_.max_v_samp_factor);
    return !info_.progressive_mode && (block == DCTSIZE || coarsest <= 2);
  }

  /// `block` is the side of a block in pixels. Upsampled chroma depends on the neighbouring block's: a margin of an iMCU,
  /// the smallest unit of whole blocks, makes the pixels inside those of a full decode.
  void read_box(const Box& box, std::int64_t block, std::uint8_t* pixels, std::uint8_t* row) {
    const std::int64_t unit_rows = std::int64_t{info_.max_v_samp_factor} * block;
    const std::int64_t unit_columns = std::int64_t{info_.max_h_samp_factor} * block;
    jpeg_start_decompress(&info_);
    JDIMENSION left = 0;
    if (can_leave_out(block)) {
      left = static_cast<JDIMENSION>(std::max<std::int64_t>(box.left - unit_columns, 0));
      const std::int64_t right = std::min<std::int64_t>(box.left + box.width + unit_columns, info_.output_width);
      JDIMENSION width = static_cast<JDIMENSION>(right) - left;
      if (width < info_.output_width) jpeg_crop_scanline(&info_, &left, &width);  // widens the two to whole units
      const std::int64_t skipped = box.top / unit_rows * unit_rows - unit_rows;
      if (skipped > 0) jpeg_skip_scanlines(&info_, static_cast<JDIMENSION>(skipped));
    }
    const bool has_ink = info_.out_color_space == JCS_CMYK;
    const std::int64_t first = box.left - static_cast<std::int64_t>(left);
    while (info_.output_scanline < box.top + box.height) {
      const std::int64_t y = static_cast<std::int64_t>(info_.output_scanline) - box.top;
      jpeg_read_scanlines(&info_, &row, 1);
      if (y < 0) continue;
      std::uint8_t* out = pixels + y * box.width * 3;
      if (has_ink) {
        cmyk_to_rgb(row + first * 4, box.width, out);
      } else {
        std::memcpy(out, row + first * 3, static_cast<std::size_t>(box.width) * 3);
      }
    }
  }

  jpeg_decompress_struct info_;
  JpegErrors errors_;
};

class JpegEncoder {
 public:
  JpegEncoder() { std::memset(&info_, 0, sizeof info_); }
  ~JpegEncoder() {
    jpeg_destroy_compress(&info_);
    std::free(buffer_);
  }
  JpegEncoder(const JpegEncoder&) = delete;
  JpegEncoder& operator=(const JpegEncoder&) = delete;

  std::vector<std::uint8_t> encode(const Image& image, int quality) {
    errors_.install();
    info_.err = &errors_.manager;
    errors_.check(survives(errors_.jump, [&] { write(image, quality); }));
    return std::vector<std::uint8_t>(buffer_, buffer_ + size_);
  }

 private:
  void write(const Image& image, int quality) {
    jpeg_create_compress(&info_);
    jpeg_mem_dest(&info_, &buffer_, &size_);
    info_.image_height = static_cast<JDIMENSION>(image.height);
    info_.image_width = static_cast<JDIMENSION>(image.width);
    info_.input_components = 3;
    info_.in_color_space = JCS_RGB;
    jpeg_set_defaults(&info_);
    jpeg_set_quality(&info_, quality, TRUE);
    jpeg_start_compress(&info_, TRUE);
    while (info_.next_scanline < info_.image_height) {
      const std::uint8_t* row = image.pixels.data() + std::size_t{info_.next_scanline} * image.width * 3;
      auto* mutable_row = const_cast<std::uint8_t*>(row);  // libjpeg's signature; it only reads
      jpeg_write_scanlines(&info_, &mutable_row, 1);
    }
    jpeg_finish_compress(&info_);
  }

  jpeg_compress_struct info_;
  JpegErrors errors_;
  unsigned char* buffer_ = nullptr;  // libjpeg's, from malloc
  unsigned long size_ = 0;
};

// ---- PNG ------------------------------------------------------------------------------------------------------------

class PngDecoder {
 public:
  explicit PngDecoder(std::span<const std::uint8_t> bytes) : rest_(bytes) {}
  ~PngDecoder() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngDecoder(const PngDecoder&) = delete;
  PngDecoder& operator=(const PngDecoder&) = delete;

  Image decode() {
    png_ = png_create_read_struct_2(
        PNG_LIBPNG_VER_STRING, this, &PngDecoder::fail, [](png_structp, png_const_charp) {}, this,
        &PngDecoder::allocate, [](png_structp, png_voidp memory) { std::free(memory); });
    info_ = png_ == nullptr ? nullptr : png_create_info_struct(png_);
    QM_CHECK(info_ != nullptr, OutOfMemory, "PNG: out of memory");
    check(survives(jump_, [&] { read_header(); }));
    Image image = allocate_image(png_get_image_height(png_, info_), png_get_image_width(png_, info_));
    check(survives(jump_, [&] { read_rows(image.pixels.data(), image.height, image.width); }));
    return image;
  }

 private:
  static PngDecoder& self(png_structp png) { return *static_cast<PngDecoder*>(png_get_error_ptr(png)); }

  [[noreturn]] static void fail(png_structp png, png_const_charp message) {
    PngDecoder& decoder = self(png);
    std::snprintf(decoder.message_, sizeof decoder.message_, "%s", message);
    longjmp(decoder.jump_, 1);
  }

  static png_voidp allocate(png_structp png, png_alloc_size_t bytes) {
    void* memory = std::malloc(bytes);
    if (memory == nullptr) static_cast<PngDecoder*>(png_get_mem_ptr(png))->lacks_memory_ = true;
    return memory;
  }

  static void read_bytes(png_structp png, png_bytep out, std::size_t count) {
    PngDecoder& decoder = self(png);
    if (count > decoder.rest_.size()) png_error(png, "data end before the image does");
    std::memcpy(out, decoder.rest_.data(), count);
    decoder.rest_ = decoder.rest_.subspan(count);
  }

  void check(bool survived) const {
    if (survived) return;
    QM_CHECK(!lacks_memory_, OutOfMemory, "PNG: out of memory: ", message_);
    throw IoError(concat("PNG: ", message_));
  }

  void read_header() {
    png_set_read_fn(png_, this, &PngDecoder::read_bytes);
    png_read_info(png_, info_);
    png_set_palette_to_rgb(png_);
    png_set_expand_gray_1_2_4_to_8(png_);
    png_set_strip_16(png_);
    png_set_strip_alpha(png_);
    png_set_gray_to_rgb(png_);
  }

  void read_rows(std::uint8_t* pixels, std::int64_t height, std::int64_t width) {
    const int passes = png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    if (png_get_rowbytes(png_, info_) != static_cast<std::size_t>(width) * 3) png_error(png_, "rows are not RGB");
    for (int pass = 0; pass < passes; ++pass) {
      for (std::int64_t y = 0; y < height; ++y) png_read_row(png_, pixels + y * width * 3, nullptr);
    }
    png_read_end(png_, nullptr);  // looks for the end marker
  }

  std::span<const std::uint8_t> rest_;  // not read yet
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  bool lacks_memory_ = false;
  jmp_buf jump_;
  char message_[256] = "";
};

bool starts_with(std::span<const std::uint8_t> bytes, std::span<const std::uint8_t> prefix) {
  return bytes.size() >= prefix.size() && std::memcmp(bytes.data(), prefix.data(), prefix.size()) == 0;
}

enum class Format { kJpeg, kPng };

Format format_of(std::span<const std::uint8_t> bytes) {
  static constexpr std::uint8_t kJpegStart[] = {0xff, 0xd8, 0xff};
  static constexpr std::uint8_t kPngStart[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  if (starts_with(bytes, kJpegStart)) return Format::kJpeg;
  if (starts_with(bytes, kPngStart)) return Format::kPng;
  throw IoError(bytes.empty() ? "empty file" : "neither JPEG nor PNG by its first bytes");
}

}  // namespace

Image decode_image(std::span<const std::uint8_t> bytes) {
  return format_of(bytes) == Format::kJpeg ? JpegDecoder().decode(bytes) : PngDecoder(bytes).decode();
}

Image decode_region(std::span<const std::uint8_t> bytes, const std::function<Box(ImageSize)>& choose) {
  if (format_of(bytes) == Format::kJpeg) return JpegDecoder().decode_region(bytes, choose, std::nullopt).image;
  const Image whole = PngDecoder(bytes).decode();
  const Box box = choose({whole.height, whole.width});
  check_inside(box, {whole.height, whole.width});
  Image region = allocate_image(box.height, box.width);
  for (std::int64_t y = 0; y < box.height; ++y) {
    const std::uint8_t* row = whole.pixels.data() + ((box.top + y) * whole.width + box.left) * 3;
    std::memcpy(region.pixels.data() + y * box.width * 3, row, static_cast<std::size_t>(box.width) * 3);
  }
  return region;
}

ScaledRegion decode_scaled_region(std::span<const std::uint8_t> bytes, const std::function<Box(ImageSize)>& choose,
                                  ImageSize least) {
  if (format_of(bytes) == Format::kJpeg) return JpegDecoder().decode_region(bytes, choose, least);
  Image region = decode_region(bytes, choose);
  const RealBox box{0, 0, static_cast<double>(region.height), static_cast<double>(region.width)};
  return {std::move(region), box};
}

std::vector<std::uint8_t> encode_jpeg(const Image& image, int quality) {
  check_encodable(image);
  QM_CHECK(quality >= 1 && quality <= 100, IoError, "JPEG quality ", quality, ": expected 1 to 100");
  return JpegEncoder().encode(image, quality);
}

std::vector<std::uint8_t> encode_png(const Image& image) {
  check_encodable(image);
  png_image header;
  std::memset(&header, 0, sizeof header);
  header.version = PNG_IMAGE_VERSION;
  header.width = static_cast<png_uint_32>(image.width);
  header.height = static_cast<png_uint_32>(image.height);
  header.format = PNG_FORMAT_RGB;
  std::vector<std::uint8_t> bytes(PNG_IMAGE_PNG_SIZE_MAX(header));
  png_alloc_size_t size = bytes.size();
  const int done = png_image_write_to_memory(&header, bytes.data(), &size, 0, image.pixels.data(), 0, nullptr);
  QM_CHECK(done != 0, IoError, "PNG: ", header.message);
  bytes.resize(size);
  return bytes;
}

}  // namespace qm
