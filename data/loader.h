// Loader: decodes and augments batches ahead of the trainer on its own threads.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "autograd/tensor.h"
#include "data/random_erasing.h"
#include "data/transform.h"

namespace qm {

class ShardSet;

struct LoaderConfig {
  std::uint64_t seed = 0;
  std::int64_t height = 0, width = 0;  ///< size of the images handed out
  std::int64_t threads = 1;            ///< that decode
  std::int64_t prefetch = 1;           ///< batches in work or ready beyond the one handed out
  AugmentConfig augment;               ///< of training requests
  ErasingConfig erasing{};             ///< of training requests
  std::int64_t window = 0;             ///< training order by window_order() with so many samples; 0 = of all samples
  std::int64_t repeats = 1;            ///< times a sample comes in an epoch's order (repeated_order)
  std::int64_t global_batch = 0;       ///< needed with repeats
  bool defers_pixel_ops = false;       ///< RandAugment and colour jitter are drawn but left to the caller to apply
  EvalTransformConfig eval;            ///< of evaluation requests
};

/// `count` consecutive positions of an epoch. A training request takes the sample at position p from
/// the epoch's order (data/sampler.h: of all, or by window; repeated) and augments it; an evaluation request takes
/// sample p as it is.
struct BatchRequest {
  std::uint32_t epoch = 0;
  std::int64_t first_position = 0;
  std::int64_t count = 0;
  bool training = true;
};

struct Batch {
  BatchRequest request;
  Tensor images;                   ///< uint8 (count, height, width, 3) on the CPU
  Tensor labels;                   ///< int32 (count) on the CPU
  std::vector<std::uint64_t> ids;  ///< global sample ids
  Tensor erased;                   ///< ErasedBox, uint8 (count, boxes · sizeof) on the CPU; undefined where none is
  /// PixelOp, uint8 (count, most_pixel_ops() · sizeof) on the CPU: what was deferred, then kNone. Undefined where none is.
  Tensor pixel_ops;
};

/// Batches come in the order of their requests, and their contents do not depend on the number of threads.
class Loader {
 public:
  /// The next batch wanted, or nothing after the last. Called on the thread that constructs the loader and calls
  /// next(), up to `prefetch` batches ahead, and not again once it returned nothing.
  using NextRequest = std::function<std::optional<BatchRequest>()>;

  /// Starts the threads and the first `prefetch` batches. `shards` must outlive the loader. Throws ConfigError on a
  /// size, thread count or prefetch depth below 1.
  Loader(const ShardSet& shards, LoaderConfig config, NextRequest next_request);
  /// Drops what is in work: returns once each thread has finished the one sample it is at.
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// Waits for the next batch; nothing after the last. Throws IoError naming shard, sample and cause where a sample of
  /// the batch cannot be read or decoded (of several the one at the lowest position); that batch is then dropped and
  /// the next call goes on with the following one. Throws ConfigError on a request outside the data.
  std::optional<Batch> next();

  /// Seconds that next() has spent waiting for the threads since construction.
  double wait_seconds() const;

 private:
  class Workers;
  std::unique_ptr<Workers> workers_;
};

}  // namespace qm
