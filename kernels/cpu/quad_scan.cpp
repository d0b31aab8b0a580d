#include "kernels/quad_scan.h"

#include "kernels/base/dispatch.h"
#include "kernels/cpu/core_scan.h"
#include "kernels/cpu/parallel.h"

namespace qm::cpu {
namespace {

/// One image of the operation: where its tokens and projections lie, and the order its sequence takes them in.
template <class T>
struct QuadImage {
  const QuadScanShape& shape;
  const PackedScanWeights<T>& weights;
  const T* x;
  const T* projection;
  int selected;

  template <class Params>
  QuadImage(const Params& p, const PackedScanWeights<T>& packed, std::int64_t b)
      : shape(p.shape),
        weights(packed),
        x(p.x + b * length() * p.shape.scan.channels),
        projection(p.projection + b * length() * token_projections()),
        selected(p.selected[b]) {}

  std::int64_t length() const { return shape.order.length(); }
  std::int64_t channels() const { return shape.scan.channels; }
  std::int64_t token_projections() const { return shape.scan.directions * shape.scan.projection(); }
  /// Direction 1 walks the sequence backwards.
  std::int64_t position(std::int64_t k, std::int64_t l) const { return k == 0 ? l : length() - 1 - l; }

  /// Index of a token in the cropped output (in tokens), or −1 where it lies in the padding.
  std::int64_t output(std::int64_t address) const {
    const std::int64_t i = address / shape.order.width, j = address % shape.order.width;
    return i < shape.out_height && j < shape.out_width ? i * shape.out_width + j : -1;
  }

  /// sum (width) = Σ over the tokens at a position of rows of `map` (tokens, stride).
  void gather(const T* map, std::int64_t position, std::int64_t stride, std::int64_t width, T* sum) const {
    std::int64_t addresses[2];
    const int found = shape.order.tokens_at(position, selected, addresses);
    if (found == 0) {
      std::fill(sum, sum + width, T(0));
    } else {
      std::copy_n(map + addresses[0] * stride, width, sum);
    }
    for (std::int64_t c = 0; found == 2 && c < width; ++c) sum[c] += map[addresses[1] * stride + c];
  }

  /// The projection of direction k at a position.
  void gather_projection(std::int64_t position, std::int64_t k, T* sum) const {
    gather(projection + k * shape.scan.projection(), position, token_projections(), shape.scan.projection(), sum);
  }

  auto loader(std::int64_t k) const {
    return [this, k, step_projection = std::vector<T>(shape.scan.projection())](std::int64_t l,
                                                                               ScanToken<T>& step) mutable {
      gather(x, position(k, l), channels(), channels(), step.u.data());
      gather_projection(position(k, l), k, step_projection.data());
      weights.expand(k, step_projection.data(), step);
    };
  }
};

/// ⟨v, row(f) − row(c)⟩ for rows of `sequence` (positions, width). The rows are subtracted first: they are often close.
template <class T>
T fine_minus_coarse(const T* v, const T* sequence, std::int64_t fine, std::int64_t coarse, std::int64_t width) {
  const T* f = sequence + fine * width;
  const T* c = sequence + coarse * width;
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < width; ++i) sum += v[i] * (f[i] - c[i]);
  return sum;
}

/// Gradients of one image in sequence order: gs (positions, D) and gq (positions, K, R + 2N).
template <class T>
struct SequenceGradients {
  std::vector<T> u, projection;
};

template <class T>
void scan_image_backward(const QuadImage<T>& image, const T* grad_z, SequenceGradients<T>& grads,
                         PackedScanGradients<T>& grad_weights) {
  const ScanShape& scan = image.shape.scan;
  std::fill(grads.u.begin(), grads.u.end(), T(0));
  std::vector<T> step_projection(scan.projection());
  for (std::int64_t k = 0; k < scan.directions; ++k) {
    const auto load_grad = [&](std::int64_t l, T* grad_y) {
      // y[p] is read by exactly the tokens that the partition puts at p.
      std::int64_t addresses[2];
      const int found = image.shape.order.tokens_at(image.position(k, l), image.selected, addresses);
      std::fill(grad_y, grad_y + scan.channels, T(0));
      for (int i = 0; i < found; ++i) {
        const std::int64_t out = image.output(addresses[i]);
        for (std::int64_t d = 0; out >= 0 && d < scan.channels; ++d) grad_y[d] += grad_z[out * scan.channels + d];
      }
    };
    const auto emit = [&](std::int64_t l, ScanTokenGradient<T>& grad) {
      const std::int64_t position = image.position(k, l);
      T* grad_u = grads.u.data() + position * scan.channels;
#pragma omp simd
      for (std::int64_t d = 0; d < scan.channels; ++d) grad_u[d] += grad.u[d];
      image.gather_projection(position, k, step_projection.data());
      grad_weights.contract(k, image.weights, step_projection.data(), grad,
                            grads.projection.data() + position * image.token_projections() + k * scan.projection());
    };
    scan_backward<T>(image.weights.direction(k, image.length()), image.loader(k), load_grad, emit,
                     grad_weights.A + k * scan.states * scan.channels, grad_weights.skip + k * scan.channels);
  }
}

/// Tokens take the gradient of their position; the one-hot that of moving a quadrant from coarse to fine positions.
template <class T>
void merge_gradients(const QuadImage<T>& image, const T* y, const T* grad_z, const SequenceGradients<T>& grads,
                     T* grad_x, T* grad_projection, T* grad_one_hot) {
  const QuadOrder& order = image.shape.order;
  const std::int64_t channels = image.channels(), projections = image.token_projections();
  // Summed in double: thousands of terms of either sign nearly cancel, and the predictor learns from what is left.
  double sums[4] = {};
  for (std::int64_t i = 0; i < order.height; ++i) {
    for (std::int64_t j = 0; j < order.width; ++j) {
      const QuadOrder::Token token{i, j};
      const std::int64_t address = order.address(token);
      const std::int64_t fine = order.fine_position(token), coarse = order.coarse_position(token);
      const std::int64_t taken = order.position(token, image.selected);
      std::copy_n(grads.u.data() + taken * channels, channels, grad_x + address * channels);
      std::copy_n(grads.projection.data() + taken * projections, projections, grad_projection + address * projections);

      double& grad = sums[order.quadrant(token)];
      grad += fine_minus_coarse(image.x + address * channels, grads.u.data(), fine, coarse, channels);
      grad += fine_minus_coarse(image.projection + address * projections, grads.projection.data(), fine, coarse,
                                projections);
      const std::int64_t out = image.output(address);
      if (out >= 0) grad += fine_minus_coarse(grad_z + out * channels, y, fine, coarse, channels);
    }
  }
  for (int q = 0; q < 4; ++q) grad_one_hot[q] = static_cast<T>(sums[q]);
}

}  // namespace

template <class T>
void quad_scan_forward(const QuadScanForward<T>& p) {
  const QuadScanShape& s = p.shape;
  const std::int64_t channels = s.scan.channels;
  const PackedScanWeights<T> weights(s.scan, p.weights);
#pragma omp parallel for schedule(static)
  for (std::int64_t b = 0; b < s.batch; ++b) {
    const QuadImage<T> image(p, weights, b);
    T* y = p.y + b * image.length() * channels;
    T* z = p.z + b * s.out_height * s.out_width * channels;
    std::fill(y, y + image.length() * channels, T(0));
    for (std::int64_t k = 0; k < s.scan.directions; ++k) {
      scan_forward<T>(weights.direction(k, image.length()), image.loader(k), [&](std::int64_t l, const T* step) {
        T* y_position = y + image.position(k, l) * channels;
#pragma omp simd
        for (std::int64_t d = 0; d < channels; ++d) y_position[d] += step[d];
      });
    }
    for (std::int64_t i = 0; i < s.order.height; ++i) {
      for (std::int64_t j = 0; j < s.order.width; ++j) {
        const std::int64_t out = image.output(s.order.address({i, j}));
        if (out < 0) continue;
        std::copy_n(y + s.order.position({i, j}, image.selected) * channels, channels, z + out * channels);
      }
    }
  }
}

template <class T>
void quad_scan_backward(const QuadScanBackward<T>& p) {
  const QuadScanShape& s = p.shape;
  const PackedScanWeights<T> weights(s.scan, p.weights);
  std::vector<T> sums(static_cast<std::size_t>(PackedScanGradients<T>::width(s.scan)), T(0));
  const auto backward_images = [&](std::int64_t first, std::int64_t last, T* partial) {
    PackedScanGradients<T> grad_weights(s.scan, partial);
    SequenceGradients<T> grads;
    for (std::int64_t b = first; b < last; ++b) {
      const QuadImage<T> image(p, weights, b);
      const std::int64_t map = image.length() * image.channels();
      const std::int64_t projections = image.length() * image.token_projections();
      const T* grad_z = p.grad_z + b * s.out_height * s.out_width * image.channels();
      grads.u.resize(static_cast<std::size_t>(map));
      grads.projection.resize(static_cast<std::size_t>(projections));
      scan_image_backward(image, grad_z, grads, grad_weights);
      merge_gradients(image, p.y + b * map, grad_z, grads, p.grad_x + b * map, p.grad_projection + b * projections,
                      p.grad_one_hot + b * 4);
    }
  };
  accumulate_over_images(s.batch, static_cast<std::int64_t>(sums.size()), sums.data(), backward_images);
  PackedScanGradients<T>(s.scan, sums.data()).add_to(weights, p.grad_weights);
}

QM_INSTANTIATE_CPU(quad_scan_forward, QuadScanForward)
QM_INSTANTIATE_CPU(quad_scan_backward, QuadScanBackward)

}  // namespace qm::cpu
