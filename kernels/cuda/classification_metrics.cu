#include "kernels/classification_metrics.h"

#include "kernels/base/dispatch.h"
#include "kernels/cuda/column_sum.cuh"
#include "kernels/cuda/reduce.cuh"

// A row with label l: cross-entropy ln Σ_c e^{x_c} − x_l; rank = #{x_c > x_l or NaN} + #{x_c = x_l, c < l}, a hit in top-1
// below 1, in top-5 below 5, unless x_l is NaN.
namespace qm::cuda {
namespace {

// A block a row, in double: logits (batch, classes), labels (batch), of_row (batch, 4) as the sums; zeros for padding.
template <class T>
__global__ void classification_metrics_kernel(ClassificationMetrics<T> p, double* of_row) {
  const T* logits = p.logits + blockIdx.x * p.classes;
  double* results = of_row + blockIdx.x * std::int64_t{4};
  const std::int64_t label = p.labels[blockIdx.x];
  if (label < 0) {
    if (threadIdx.x < 4) results[threadIdx.x] = 0;
    return;
  }
  const double of_label = to_real(logits[label]);
  double largest = -INFINITY;
  for (std::int64_t c = threadIdx.x; c < p.classes; c += kBlock) largest = max(largest, double(to_real(logits[c])));
  largest = block_max(largest);
  double sum = 0;
  long long ahead = 0;
  for (std::int64_t c = threadIdx.x; c < p.classes; c += kBlock) {
    const double logit = to_real(logits[c]);
    sum += exp(logit - largest);
    ahead += isnan(logit) || logit > of_label || (logit == of_label && c < label);
  }
  sum = block_sum(sum);
  const long long rank = block_sum(ahead);
  if (threadIdx.x != 0) return;
  results[0] = largest + log(sum) - of_label;
  results[1] = !isnan(of_label) && rank < 1;
  results[2] = !isnan(of_label) && rank < 5;
  results[3] = 1;
}

}  // namespace

template <class T>
void classification_metrics(const Stream& stream, const ClassificationMetrics<T>& p) {
  if (p.batch == 0) return;
  const Scratch<double> of_row(stream, p.batch * 4);
  classification_metrics_kernel<<<blocks_for(p.batch, 1), kBlock, 0, native(stream)>>>(p, of_row.data());
  check_launch("classification_metrics");
  add_column_sums(stream, p.batch, 4, of_row.data(), p.sums);
}

QM_INSTANTIATE_CUDA(classification_metrics, ClassificationMetrics)

}  // namespace qm::cuda
