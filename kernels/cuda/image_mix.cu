#include "kernels/image_mix.h"

#include <algorithm>

#include "kernels/base/dispatch.h"
#include "kernels/cuda/vector.cuh"

// x = w own + (1 − w) partner,   w = 0 inside the group's box, else its pixel weight
// own, partner = value / (255 std) − mean / std, or noise inside an erased box
// target = v smooth(label) + (1 − v) smooth(partner's label),   v the group's target weight, partner = row XOR 1
namespace qm::cuda {
namespace {

struct PixelScale {
  float scale[3], shift[3];
};

template <class T>
__device__ __forceinline__ MixGroup mix_of(const ImageMix<T>& p, std::int64_t row) {
  return p.groups ? p.groups[(p.record->first_position + row) / p.mix_group] : MixGroup{};
}

/// N neighbouring pixels of an image as they lie in memory; four begin at a multiple of 4 bytes.
template <int N>
struct Pixels {
  std::uint8_t value[3 * N];

  __device__ __forceinline__ explicit Pixels(const std::uint8_t* from) {
    if constexpr (N % 4 == 0) {
      std::uint32_t word[3 * N / 4];
      for (int k = 0; k < 3 * N / 4; ++k) word[k] = reinterpret_cast<const std::uint32_t*>(from)[k];
      for (int k = 0; k < 3 * N; ++k) value[k] = static_cast<std::uint8_t>(word[k / 4] >> 8 * (k % 4));
    } else {
      for (int k = 0; k < 3 * N; ++k) value[k] = from[k];
    }
  }
};

// N neighbouring pixels a thread, of an image whose number of pixels is a multiple of N. Grid (rows, parts of an image):
// images, x (rows, height, width, 3); groups (groups of the global batch) or null; erased (rows, boxes) or null; record
// one.
template <int N, class T>
__global__ void image_mix_pixel_kernel(ImageMix<T> p, PixelScale pixel) {
  const std::int64_t row = blockIdx.x, pixels = p.height * p.width;
  const MixGroup mix = mix_of(p, row);
  const float pixel_weight = static_cast<float>(mix.pixel_weight);
  // The last row of an unmixed batch may have no partner.
  const bool mixes = pixel_weight != 1 || (mix.bottom > mix.top && mix.right > mix.left);
  const std::int64_t partner_row = mixes ? row ^ 1 : row;
  for (std::int64_t first = (blockIdx.y * std::int64_t{kBlock} + threadIdx.x) * N; first < pixels;
       first += std::int64_t{gridDim.y} * kBlock * N) {
    const Pixels<N> own(p.images + (row * pixels + first) * 3);
    const Pixels<N> partner(p.images + (partner_row * pixels + first) * 3);
    float x[3 * N];
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const auto at = static_cast<std::uint32_t>(first) + n, width = static_cast<std::uint32_t>(p.width);
      const int i = static_cast<int>(at / width), j = static_cast<int>(at % width);
      const bool boxed = i >= mix.top && i < mix.bottom && j >= mix.left && j < mix.right;
      const float weight = boxed ? 0.0f : pixel_weight;
#pragma unroll
      for (int c = 0; c < 3; ++c) {
        const auto value_of = [&](const Pixels<N>& image, std::int64_t of) {
          const float value = static_cast<float>(image.value[3 * n + c]) * pixel.scale[c] - pixel.shift[c];
          return p.erased ? erased_or(value, p.erased + of * p.boxes, p.boxes, i, j, p.width, c) : value;
        };
        x[3 * n + c] = value_of(own, row);
        if (weight != 1) x[3 * n + c] = weight * x[3 * n + c] + (1 - weight) * value_of(partner, partner_row);
      }
    }
    T* const to = p.x + (row * pixels + first) * 3;
    if constexpr (N % 4 == 0) {
      Vector<T, 3 * N>::of(x).store(to);
    } else {
      for (int k = 0; k < 3 * N; ++k) to[k] = from_real<T>(x[k]);
    }
  }
}

// A thread a target: labels (batch), targets (count) = (batch, classes); groups and record as above.
template <class T>
__global__ void image_mix_target_kernel(std::int64_t count, ImageMix<T> p) {
  using R = Real<T>;
  const std::int64_t at = global_thread();
  if (at >= count) return;
  const std::int64_t row = at / p.classes, c = at % p.classes;
  const MixGroup mix = mix_of(p, row);
  const double on = 1 - p.label_smoothing;
  R target = static_cast<R>(p.label_smoothing / static_cast<double>(p.classes));
  if (c == p.labels[row]) target += static_cast<R>(on * mix.target_weight);
  if (mix.target_weight != 1 && c == p.labels[row ^ 1]) target += static_cast<R>(on * (1 - mix.target_weight));
  p.targets[at] = target;
}

}  // namespace

template <class T>
void image_mix(const Stream& stream, const ImageMix<T>& p) {
  if (p.batch == 0) return;
  PixelScale pixel;
  for (int c = 0; c < 3; ++c) {
    pixel.scale[c] = static_cast<float>(1 / (255 * p.std[c]));
    pixel.shift[c] = static_cast<float>(p.mean[c] / p.std[c]);
  }
  const std::int64_t pixels = p.height * p.width;
  QM_CHECK(pixels < std::int64_t{1} << 32, ShapeError, "image_mix: expected images of fewer than 2^32 pixels, got ",
           p.height, "x", p.width);
  const auto launch = [&]<int N>() {
    const auto parts = static_cast<unsigned int>(std::min<std::int64_t>(ceil_div(pixels, kBlock * N), 65535));
    const dim3 grid(static_cast<unsigned int>(p.batch), parts);
    image_mix_pixel_kernel<N><<<grid, kBlock, 0, native(stream)>>>(p, pixel);
    check_launch("image_mix_pixel");
  };
  if (pixels % 4 == 0 && vectors_fit<4>(4, p.images, p.x)) {
    launch.template operator()<4>();
  } else {
    launch.template operator()<1>();
  }
  if (!p.targets) return;
  const std::int64_t targets = p.batch * p.classes;
  image_mix_target_kernel<<<blocks_for(targets), kBlock, 0, native(stream)>>>(targets, p);
  check_launch("image_mix_target");
}

QM_INSTANTIATE_CUDA(image_mix, ImageMix)

}  // namespace qm::cuda
