// The part of Trainer for steps that are not finite: what to do about them, and which number it was.
#include "kernels/base/dispatch.h"
#include "launch/finite_check.h"
#include "launch/trainer.h"

namespace qm {
namespace {

/// So many steps skipped one after another are no accident any more.
constexpr std::int64_t kMostSkipsInARow = 20;

std::string joined(const std::vector<std::uint64_t>& ids) {
  std::string text;
  for (const std::uint64_t id : ids) text += (text.empty() ? "" : ", ") + std::to_string(id);
  return text;
}

}  // namespace

void Trainer::check_finite() {
  const std::int64_t step = step_.optimizer().not_finite().to_vector<std::int32_t>().at(0);
  if (step == 0) return;
  throw Error(concat("the loss or a gradient is not finite at step ", step, ": ", replay(step - 1),
                     "; nothing was saved since the last checkpoint"));
}

bool Trainer::skip_if_not_finite() {
  if (recipe_.train.not_finite != NotFinite::kSkip) return false;
  if (step_.optimizer().not_finite().to_vector<std::int32_t>().at(0) == 0) {
    skips_in_a_row_ = 0;
    return false;
  }
  const std::string what = replay(state_.step);
  QM_CHECK(++skips_in_a_row_ < kMostSkipsInARow, Error, "the loss or a gradient is not finite at step ",
           state_.step + 1, ", as in the ", kMostSkipsInARow - 1, " steps before: ", what);
  log_.line(concat("skipped step ", state_.step + 1, ", whose loss or gradients are not finite: ", what));
  step_.optimizer().not_finite().zero();
  return true;
}

/// Collective. The weights have not moved since before the step, so the step computed again is the same step. What
/// comes first on the lowest rank that finds something, with the samples of its portion of the batch.
std::string Trainer::replay(std::int64_t step) {
  const TrainingState state = state_;
  state_.step = step;
  std::string finding;
  FiniteCheck check(network_.parameters);
  check.look_at_weights();
  finding = check.finding();
  if (finding.empty()) {
    const auto loader = make_loader();
    step_.begin_replay(step, step / steps_per_epoch_);
    for (std::size_t micro = 0; micro < step_.micro_batches().size() && check.finding().empty(); ++micro) {
      const auto batch = loader->next();
      QM_CHECK(batch, Error, "the loader ended before step ", state_.step);
      step_.replay(*batch, micro, [&check](Tape& tape) { check.watch(tape); });
      if (!check.finding().empty()) finding = concat(check.finding(), "; samples ", joined(batch->ids));
    }
  }
  state_ = state;
  const std::vector<std::string> findings = communicator_.all_gather_bytes(finding);
  for (std::size_t rank = 0; rank < findings.size(); ++rank) {
    if (!findings[rank].empty()) return concat("rank ", rank, ": ", findings[rank]);
  }
  return "computed again it is finite, so that memory, a device or the exchange between ranks is to be suspected";
}

}  // namespace qm
