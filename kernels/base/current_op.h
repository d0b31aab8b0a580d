// What a thread is computing, for messages about it.
#pragma once

#include <string>

namespace qm {

/// While alive, this thread computes the operation `name` (a literal), or its gradients. Scopes nest.
class CurrentOp {
 public:
  explicit CurrentOp(const char* name, bool backward = false);
  ~CurrentOp();
  CurrentOp(const CurrentOp&) = delete;
  CurrentOp& operator=(const CurrentOp&) = delete;

  /// "linear" or "linear backward"; empty outside of any operation.
  static std::string describe();

 private:
  const char* outer_name_;
  bool outer_backward_;
};

}  // namespace qm
