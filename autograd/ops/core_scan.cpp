#include "autograd/ops/core_scan.h"

#include "autograd/ops/check.h"

namespace qm {

ScanShape CoreScanWeights::shape(const char* op) const {
  expect_rank(op, "dt_projs_weight", dt_projs_weight, 3);
  expect_rank(op, "A_logs", A_logs, 2);
  const ScanShape scan{.directions = dt_projs_weight.dim(0), .channels = dt_projs_weight.dim(1),
                       .states = A_logs.dim(1), .rank = dt_projs_weight.dim(2)};
  expect_shape(op, "dt_projs_bias", dt_projs_bias, {scan.directions, scan.channels});
  expect_shape(op, "A_logs", A_logs, {scan.directions * scan.channels, scan.states});
  expect_shape(op, "Ds", Ds, {scan.directions * scan.channels});
  return scan;
}

}  // namespace qm
