#include "autograd/ops/classification_metrics.h"

#include "autograd/ops/check.h"
#include "kernels/classification_metrics.h"

namespace qm {

void add_classification_metrics(const Tensor& logits, const Tensor& labels, const Tensor& sums) {
  expect_rank("classification_metrics", "logits", logits, 2);
  expect_shape("classification_metrics", "labels", labels, {logits.dim(0)});
  expect_shape("classification_metrics", "sums", sums, {4});
  visit_activation(logits.dtype(), "classification_metrics", [&]<class T>() {
    classification_metrics<T>(logits.stream(),
                              {.batch = logits.dim(0), .classes = logits.dim(1), .logits = logits.data<T>(),
                               .labels = labels.data<std::int32_t>(), .sums = sums.data<double>()});
  });
}

}  // namespace qm
