// GradientReducer: sums gradients over ranks in buckets while backward still computes the rest.
//
// All gradients lie in one flat tensor. A bucket is a contiguous stretch of it, padding between parameters included;
// its all-reduce starts once backward has announced all its parameters. Backward finishes the last layers first, so
// buckets start from the last to the first, and in that order whatever the order of announcements: all ranks agree.
//
//   reducer.begin();            // before the last micro-batch's backward
//   tape.backward(loss);        // hooks call reducer.mark_ready(index)
//   reducer.finish();           // the flat tensor holds Σ over ranks
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "dist/communicator.h"

namespace qm {

/// Where a parameter's gradient lies in the flat tensor, in elements.
struct GradientRange {
  std::int64_t offset = 0;
  std::int64_t count = 0;
};

class GradientReducer {
 public:
  /// `ranges`: one a parameter, in the order of the flat tensor, without overlap. A bucket is closed once it holds
  /// `bucket_bytes` or more. Throws ShapeError naming the parameter's index if a range does not fit.
  GradientReducer(Communicator& communicator, const Tensor& flat_gradients, std::vector<GradientRange> ranges,
                  std::size_t bucket_bytes);

  /// From here on marks count. Throws CommError if the previous round was not finished.
  void begin();
  /// Parameter `index` has its whole gradient. Outside begin() … finish() it does nothing: the backward passes of
  /// earlier micro-batches run the same hooks. Throws CommError on an unknown index, or one marked twice.
  void mark_ready(std::size_t index);
  /// Waits until the flat tensor holds the sums. Throws CommError naming the parameters that were never marked.
  void finish();

  std::size_t buckets() const { return buckets_.size(); }

 private:
  struct Bucket {
    Tensor gradients;  ///< a view on the flat tensor
    std::size_t parameters = 0;
    std::size_t unmarked = 0;
  };

  void check_ranges(std::int64_t flat_count) const;
  void build_buckets(const Tensor& flat_gradients, std::size_t bucket_bytes);
  void start_complete_buckets();

  Communicator& communicator_;
  std::vector<GradientRange> ranges_;
  std::vector<Bucket> buckets_;                     ///< in the order they start: last parameters first
  std::vector<std::size_t> bucket_of_;              ///< per parameter
  std::vector<bool> marked_;                        ///< per parameter, this round
  std::vector<std::unique_ptr<Request>> requests_;  ///< of the buckets started, in order
  bool active_ = false;
};

}  // namespace qm
