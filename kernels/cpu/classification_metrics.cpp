#include "kernels/classification_metrics.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/dispatch.h"

namespace qm::cpu {

template <class T>
void classification_metrics(const ClassificationMetrics<T>& p) {
  for (std::int64_t b = 0; b < p.batch; ++b) {
    const std::int64_t label = p.labels[b];
    if (label < 0) continue;
    const T* logits = p.logits + b * p.classes;
    const double largest = *std::max_element(logits, logits + p.classes);
    double sum = 0;
    std::int64_t rank = 0;
    for (std::int64_t c = 0; c < p.classes; ++c) {
      sum += std::exp(static_cast<double>(logits[c]) - largest);
      rank += std::isnan(logits[c]) || logits[c] > logits[label] || (logits[c] == logits[label] && c < label);
    }
    p.sums[0] += largest + std::log(sum) - static_cast<double>(logits[label]);
    const bool is_number = !std::isnan(logits[label]);
    p.sums[1] += is_number && rank < 1;
    p.sums[2] += is_number && rank < 5;
    p.sums[3] += 1;
  }
}

QM_INSTANTIATE_CPU(classification_metrics, ClassificationMetrics)

}  // namespace qm::cpu
