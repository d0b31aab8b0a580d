#include "launch/evaluator.h"

#include <algorithm>
#include <cstdio>

#include "autograd/ops/classification_metrics.h"
#include "kernels/base/fault.h"
#include "launch/batches_ahead.h"
#include "launch/stop.h"

namespace qm {
namespace {

/// Samples a batch: the recipe's, or what a rank works on at once in training.
std::int64_t eval_batch(const Recipe& recipe, int ranks) {
  if (recipe.eval.batch > 0) return recipe.eval.batch;
  if (recipe.train.micro_batch > 0) return recipe.train.micro_batch;
  return std::max<std::int64_t>(1, recipe.train.global_batch / ranks);
}

/// Fills a batch up to `size` rows; the label −1 keeps the added ones out of the count.
Batch pad(const Batch& batch, std::int64_t size) {
  const std::int64_t count = batch.request.count;
  if (count == size) return batch;
  Shape shape = batch.images.shape();
  shape[0] = size;
  Batch padded{batch.request, Tensor::zeros(shape, DType::kUInt8), {}, batch.ids, {}, {}};
  padded.images.slice(0, batch.images.shape()).copy_from(batch.images);
  std::vector<std::int32_t> labels = batch.labels.to_vector<std::int32_t>();
  labels.resize(static_cast<std::size_t>(size), -1);
  padded.labels = Tensor::from(labels, {size});
  return padded;
}

}  // namespace

std::string EvalResult::text() const {
  char line[128];
  std::snprintf(line, sizeof line, "top-1 %.2f%%  top-5 %.2f%%  loss %.6f  (%lld images)", 100 * top1, 100 * top5, loss,
                static_cast<long long>(count));
  return line;
}

EvalResult evaluate(const Network& network, const Recipe& recipe, const ShardSet& shards, Communicator& communicator) {
  const auto classes = static_cast<std::int64_t>(shards.class_names().size());
  QM_CHECK(classes == recipe.model.classes, ConfigError, "the data has ", classes, " classes, the model ",
           recipe.model.classes);
  const std::int64_t n = shards.size(), ranks = communicator.size(), rank = communicator.rank();
  const std::int64_t first = n * rank / ranks, last = n * (rank + 1) / ranks;
  const std::int64_t most = (n + ranks - 1) / ranks;  // samples of a rank
  const std::int64_t batch_size = std::min(eval_batch(recipe, communicator.size()), most);

  const Device device = network.device();
  BatchesAhead batches(device, 1);
  std::int64_t position = first;
  Loader loader(shards, loader_config(recipe), [&]() -> std::optional<BatchRequest> {
    if (position >= last) return std::nullopt;
    const BatchRequest request{0, position, std::min(batch_size, last - position), false};
    position += request.count;
    return request;
  });
  const auto put_next = [&] {
    const auto batch = loader.next();
    if (batch) batches.put(pad(*batch, batch_size));
    return batch.has_value();
  };
  const Tensor sums = Tensor::zeros({4}, DType::kFloat64, device);
  bool there = put_next();
  // Every rank goes round as often as that with the most samples: they agree before each batch whether to stop.
  for (std::int64_t done = 0; done < most; done += batch_size) {
    fault_point("evaluate");
    check_stop(communicator);
    if (!there) continue;
    const DeviceBatch& batch = batches.take().front();
    const Tensor x = normalize_images(batch.images, normalization(recipe), network.parameters.activations());
    add_classification_metrics((*network.model)(x, ForwardContext{}), batch.labels, sums);
    there = put_next();  // comes to the device while it is at work on this one
  }
  communicator.all_reduce_sum(sums);
  const std::vector<double> total = sums.to_vector<double>();
  const double count = std::max(total[3], 1.0);
  return {total[1] / count, total[2] / count, total[0] / count, static_cast<std::int64_t>(total[3])};
}

}  // namespace qm
