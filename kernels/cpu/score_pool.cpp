#include "kernels/score_pool.h"

#include <cmath>

#include "kernels/base/dispatch.h"

namespace qm::cpu {
namespace {

/// ln(1 + eˣ) without overflow.
template <class T>
inline T log_one_plus_exp(T x) {
  return (x > T(0) ? x : T(0)) + std::log1p(std::exp(x > T(0) ? -x : x));
}

/// Calls visit(quadrant, token) for every token of a map.
template <class Visit>
void for_each_token(std::int64_t height, std::int64_t width, Visit visit) {
  for (std::int64_t i = 0; i < height; ++i) {
    for (std::int64_t j = 0; j < width; ++j) visit((i >= height / 2) * 2 + (j >= width / 2), i * width + j);
  }
}

}  // namespace

template <class T>
void score_pool_forward(const ScorePoolForward<T>& p) {
  const T tokens = static_cast<T>(p.height * p.width / 4);
#pragma omp parallel for schedule(static)
  for (std::int64_t b = 0; b < p.batch; ++b) {
    const T* x = p.x + b * p.height * p.width * 2;
    T sums[4] = {};
    for_each_token(p.height, p.width, [&](int quadrant, std::int64_t token) {
      sums[quadrant] -= log_one_plus_exp(x[token * 2 + 1] - x[token * 2]);
    });
    for (int q = 0; q < 4; ++q) p.logits[b * 4 + q] = sums[q] / tokens;
  }
}

template <class T>
void score_pool_backward(const ScorePoolBackward<T>& p) {
  const T tokens = static_cast<T>(p.height * p.width / 4);
#pragma omp parallel for schedule(static)
  for (std::int64_t b = 0; b < p.batch; ++b) {
    const T* x = p.x + b * p.height * p.width * 2;
    T* grad_x = p.grad_x + b * p.height * p.width * 2;
    for_each_token(p.height, p.width, [&](int quadrant, std::int64_t token) {
      const T p1 = T(1) / (T(1) + std::exp(x[token * 2] - x[token * 2 + 1]));
      const T grad = p.grad_logits[b * 4 + quadrant] / tokens * p1;
      grad_x[token * 2] = grad;
      grad_x[token * 2 + 1] = -grad;
    });
  }
}

QM_INSTANTIATE_CPU(score_pool_forward, ScorePoolForward)
QM_INSTANTIATE_CPU(score_pool_backward, ScorePoolBackward)

}  // namespace qm::cpu
