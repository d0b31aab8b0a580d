#include "kernels/cross_scan.h"

#include "kernels/base/dispatch.h"
#include "kernels/cpu/core_scan.h"
#include "kernels/cpu/parallel.h"

namespace qm::cpu {
namespace {

/// One image of the operation: where its tokens and projections lie.
template <class T>
struct CrossImage {
  const CrossScanShape& shape;
  const PackedScanWeights<T>& weights;
  const T* x;
  const T* projection;

  template <class Params>
  CrossImage(const Params& p, const PackedScanWeights<T>& packed, std::int64_t b)
      : shape(p.shape),
        weights(packed),
        x(p.x + b * length() * p.shape.scan.channels),
        projection(p.projection + b * length() * token_projections()) {}

  std::int64_t length() const { return shape.height * shape.width; }
  std::int64_t token_projections() const { return shape.scan.directions * shape.scan.projection(); }
  std::int64_t token(std::int64_t k, std::int64_t l) const {
    return cross_token(shape.height, shape.width, static_cast<int>(k), l);
  }
  std::int64_t projection_at(std::int64_t token, std::int64_t k) const {
    return token * token_projections() + k * shape.scan.projection();
  }

  auto loader(std::int64_t k) const {
    return [this, k](std::int64_t l, ScanToken<T>& step) {
      const std::int64_t t = token(k, l);
      std::copy_n(x + t * shape.scan.channels, shape.scan.channels, step.u.data());
      weights.expand(k, projection + projection_at(t, k), step);
    };
  }
};

}  // namespace

template <class T>
void cross_scan_forward(const CrossScanForward<T>& p) {
  const std::int64_t channels = p.shape.scan.channels;
  const PackedScanWeights<T> weights(p.shape.scan, p.weights);
#pragma omp parallel for schedule(static)
  for (std::int64_t b = 0; b < p.shape.batch; ++b) {
    const CrossImage<T> image(p, weights, b);
    T* z = p.z + b * image.length() * channels;
    std::fill(z, z + image.length() * channels, T(0));
    for (std::int64_t k = 0; k < p.shape.scan.directions; ++k) {
      scan_forward<T>(weights.direction(k, image.length()), image.loader(k), [&](std::int64_t l, const T* y) {
        T* z_token = z + image.token(k, l) * channels;
#pragma omp simd
        for (std::int64_t d = 0; d < channels; ++d) z_token[d] += y[d];
      });
    }
  }
}

template <class T>
void cross_scan_backward(const CrossScanBackward<T>& p) {
  const ScanShape& scan = p.shape.scan;
  const PackedScanWeights<T> weights(scan, p.weights);
  std::vector<T> sums(static_cast<std::size_t>(PackedScanGradients<T>::width(scan)), T(0));
  const auto backward_images = [&](std::int64_t first, std::int64_t last, T* partial) {
    PackedScanGradients<T> grad_weights(scan, partial);
    for (std::int64_t b = first; b < last; ++b) {
      const CrossImage<T> image(p, weights, b);
      const std::int64_t map = image.length() * scan.channels;
      const T* grad_z = p.grad_z + b * map;
      T* grad_x = p.grad_x + b * map;
      T* grad_projection = p.grad_projection + b * image.length() * image.token_projections();
      std::fill(grad_x, grad_x + map, T(0));
      for (std::int64_t k = 0; k < scan.directions; ++k) {
        scan_backward<T>(
            weights.direction(k, image.length()), image.loader(k),
            [&](std::int64_t l, T* grad_y) {
              std::copy_n(grad_z + image.token(k, l) * scan.channels, scan.channels, grad_y);
            },
            [&](std::int64_t l, ScanTokenGradient<T>& grad) {
              const std::int64_t t = image.token(k, l);
#pragma omp simd
              for (std::int64_t d = 0; d < scan.channels; ++d) grad_x[t * scan.channels + d] += grad.u[d];
              const std::int64_t at = image.projection_at(t, k);
              grad_weights.contract(k, weights, image.projection + at, grad, grad_projection + at);
            },
            grad_weights.A + k * scan.states * scan.channels, grad_weights.skip + k * scan.channels);
      }
    }
  };
  accumulate_over_images(p.shape.batch, static_cast<std::int64_t>(sums.size()), sums.data(), backward_images);
  PackedScanGradients<T>(scan, sums.data()).add_to(weights, p.grad_weights);
}

QM_INSTANTIATE_CPU(cross_scan_forward, CrossScanForward)
QM_INSTANTIATE_CPU(cross_scan_backward, CrossScanBackward)

}  // namespace qm::cpu
