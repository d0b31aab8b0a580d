#include "data/loader.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "data/image.h"
#include "data/sampler.h"
#include "data/shard.h"
#include "kernels/base/error.h"

namespace qm {
namespace {

using Order = std::vector<std::uint32_t>;

/// A batch in the making. Samples are claimed and counted under the workers' mutex; each claimed sample's pixels are
/// then written by its thread alone.
struct Job {
  Batch batch;
  std::vector<std::int64_t> samples;  // (count) indices into the shards
  std::int64_t claimed = 0;
  std::int64_t done = 0;
  std::exception_ptr error;  // of the failed sample at the lowest position
  std::int64_t error_row = 0;

  std::int64_t count() const { return batch.request.count; }
};

void check_config(const LoaderConfig& config) {
  QM_CHECK(config.height >= 1 && config.width >= 1, ConfigError, "loader: images of ", config.height, " x ",
           config.width);
  QM_CHECK(config.threads >= 1, ConfigError, "loader: ", config.threads, " threads: expected at least 1");
  QM_CHECK(config.prefetch >= 1, ConfigError, "loader: ", config.prefetch,
           " batches decoded ahead: expected at least 1");
  QM_CHECK(config.repeats >= 1 && (config.repeats == 1 || config.global_batch >= 1), ConfigError,
           "loader: ", config.repeats, " repeats in a global batch of ", config.global_batch);
}

}  // namespace

class Loader::Workers {
 public:
  Workers(const ShardSet& shards, LoaderConfig config, NextRequest next_request)
      : shards_(shards), config_(std::move(config)), next_request_(std::move(next_request)) {
    check_config(config_);
    thread_augment_ = config_.defers_pixel_ops ? without_pixel_ops(config_.augment) : config_.augment;
    request_up_to(config_.prefetch);
    for (std::int64_t i = 0; i < config_.threads; ++i) {
      threads_.emplace_back([this](const std::stop_token& stop) { work(stop); });
    }
  }

  ~Workers() {
    for (auto& thread : threads_) thread.request_stop();  // all of them, before the first is joined
  }

  std::optional<Batch> next() {
    if (jobs_.empty()) return std::nullopt;
    const std::shared_ptr<Job> job = jobs_.front();
    wait_for(*job);
    request_up_to(config_.prefetch + 1);  // first: if it throws, this batch is still there for the next call
    {
      const std::lock_guard lock(mutex_);
      jobs_.pop_front();
    }
    if (job->error) std::rethrow_exception(job->error);
    return std::move(job->batch);
  }

  double wait_seconds() const { return wait_seconds_; }

 private:
  // ---- the caller's thread ------------------------------------------------------------------------------------------

  void request_up_to(std::int64_t depth) {
    while (!ended_ && static_cast<std::int64_t>(jobs_.size()) < depth) {
      const std::optional<BatchRequest> request = next_request_();
      if (!request) {
        ended_ = true;
        return;
      }
      std::shared_ptr<Job> job = make_job(*request);
      {
        const std::lock_guard lock(mutex_);
        jobs_.push_back(std::move(job));
      }
      work_there_.notify_all();
    }
  }

  std::shared_ptr<Job> make_job(const BatchRequest& request) {
    const std::int64_t first = request.first_position;
    QM_CHECK(first >= 0 && request.count >= 0 && request.count <= shards_.size() - first, ConfigError,
             "loader: positions ", first, " to ", first + request.count, " of ", shards_.size(), " samples");
    auto job = std::make_shared<Job>();
    Batch& batch = job->batch;
    batch.request = request;
    batch.images = Tensor::empty({request.count, config_.height, config_.width, 3}, DType::kUInt8);
    batch.labels = Tensor::empty({request.count}, DType::kInt32);
    std::int32_t* labels = batch.labels.data<std::int32_t>();
    const Order* order = request.training ? &order_of(request.epoch) : nullptr;
    for (std::int64_t row = 0; row < request.count; ++row) {
      const std::int64_t sample = order ? (*order)[first + row] : first + row;
      job->samples.push_back(sample);
      batch.ids.push_back(shards_.id(sample));
      labels[row] = shards_.label(sample);
    }
    if (request.training && config_.erasing.probability > 0) batch.erased = draw_boxes(request);
    if (request.training && config_.defers_pixel_ops) batch.pixel_ops = draw_ops(request);
    return job;
  }

  Tensor draw_boxes(const BatchRequest& request) const {
    const std::int64_t boxes = config_.erasing.count;
    const Tensor erased =
        Tensor::empty({request.count, boxes * static_cast<std::int64_t>(sizeof(ErasedBox))}, DType::kUInt8);
    auto* first = reinterpret_cast<ErasedBox*>(erased.data<std::uint8_t>());
    for (std::int64_t row = 0; row < request.count; ++row) {
      const std::span<ErasedBox> own(first + row * boxes, static_cast<std::size_t>(boxes));
      draw_erasing(config_.erasing, key_of(request, row), config_.height, config_.width, own);
    }
    return erased;
  }

  Tensor draw_ops(const BatchRequest& request) const {
    const std::int64_t most = most_pixel_ops(config_.augment);
    if (most == 0) return {};
    const Tensor ops = Tensor::empty({request.count, most * static_cast<std::int64_t>(sizeof(PixelOp))}, DType::kUInt8);
    auto* own = reinterpret_cast<PixelOp*>(ops.data<std::uint8_t>());
    for (std::int64_t row = 0; row < request.count; ++row, own += most) {
      std::vector<PixelOp> drawn = draw_pixel_ops(config_.augment, key_of(request, row), config_.height, config_.width);
      drawn.resize(static_cast<std::size_t>(most));
      std::copy(drawn.begin(), drawn.end(), own);
    }
    return ops;
  }

  AugmentKey key_of(const BatchRequest& request, std::int64_t row) const {
    return {config_.seed, request.epoch, static_cast<std::uint32_t>(request.first_position + row)};
  }

  const Order& order_of(std::uint32_t epoch) {
    if (!order_ || order_epoch_ != epoch) {
      Order order = config_.window > 0 ? window_order(config_.seed, epoch, shards_.shard_sizes(), config_.window)
                                       : epoch_order(config_.seed, epoch, shards_.size());
      order_ = repeated_order(std::move(order), config_.repeats, config_.global_batch);
      order_epoch_ = epoch;
    }
    return *order_;
  }

  void wait_for(const Job& job) {
    const auto start = std::chrono::steady_clock::now();
    std::unique_lock lock(mutex_);
    batch_done_.wait(lock, [&] { return job.done == job.count(); });
    wait_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  // ---- the threads --------------------------------------------------------------------------------------------------

  void work(const std::stop_token& stop) {
    std::vector<std::uint8_t> encoded;  // reused from sample to sample
    while (true) {
      std::shared_ptr<Job> job;
      std::unique_lock lock(mutex_);
      if (!work_there_.wait(lock, stop, [&] { return (job = unclaimed_job()) != nullptr; })) return;
      if (stop.stop_requested()) return;  // the wait prefers work over the request to stop
      const std::int64_t row = job->claimed++;
      lock.unlock();

      std::exception_ptr error;
      try {
        load(*job, row, encoded);
      } catch (...) {
        error = std::current_exception();
      }

      lock.lock();
      if (error && (!job->error || row < job->error_row)) {
        job->error = error;
        job->error_row = row;
      }
      if (++job->done == job->count()) batch_done_.notify_one();
    }
  }

  std::shared_ptr<Job> unclaimed_job() const {
    const auto found =
        std::find_if(jobs_.begin(), jobs_.end(), [](const auto& job) { return job->claimed < job->count(); });
    return found == jobs_.end() ? nullptr : *found;
  }

  void load(const Job& job, std::int64_t row, std::vector<std::uint8_t>& encoded) const {
    const std::int64_t sample = job.samples[row];
    const BatchRequest& request = job.batch.request;
    std::uint8_t* out = static_cast<std::uint8_t*>(job.batch.images.raw()) + row * config_.height * config_.width * 3;
    shards_.read(sample, encoded);  // names the sample in its errors
    try {
      if (request.training) {
        augment_train(encoded, thread_augment_, key_of(request, row), config_.height, config_.width, out);
      } else {
        transform_eval(decode_image(encoded), config_.eval, config_.height, config_.width, out);
      }
    } catch (const std::exception& error) {
      throw IoError(concat(shards_.describe(sample), ": ", error.what()));
    }
  }

  const ShardSet& shards_;
  const LoaderConfig config_;
  AugmentConfig thread_augment_;  // what the threads do of config_.augment

  // The caller's thread alone.
  NextRequest next_request_;
  bool ended_ = false;
  std::optional<Order> order_;
  std::uint32_t order_epoch_ = 0;
  double wait_seconds_ = 0;

  // Changed under the mutex; only the caller's thread adds and removes jobs.
  std::mutex mutex_;
  std::condition_variable_any work_there_;
  std::condition_variable batch_done_;
  std::deque<std::shared_ptr<Job>> jobs_;  // in the order of their requests

  std::vector<std::jthread> threads_;  // last: joined while all of the above still stands
};

Loader::Loader(const ShardSet& shards, LoaderConfig config, NextRequest next_request)
    : workers_(std::make_unique<Workers>(shards, std::move(config), std::move(next_request))) {}

Loader::~Loader() = default;

std::optional<Batch> Loader::next() {
  return workers_->next();
}

double Loader::wait_seconds() const {
  return workers_->wait_seconds();
}

}  // namespace qm
