#include "kernels/base/current_op.h"

namespace qm {
namespace {

thread_local const char* current_name = nullptr;
thread_local bool current_backward = false;

}  // namespace

CurrentOp::CurrentOp(const char* name, bool backward) : outer_name_(current_name), outer_backward_(current_backward) {
  current_name = name;
  current_backward = backward;
}

CurrentOp::~CurrentOp() {
  current_name = outer_name_;
  current_backward = outer_backward_;
}

std::string CurrentOp::describe() {
  if (!current_name) return "";
  return std::string(current_name) + (current_backward ? " backward" : "");
}

}  // namespace qm
