// Reading golden files, and comparing against them with the limits that the project promises.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "autograd/tensor.h"

namespace qm::test {

/// A dataset as numbers, with what the comparison needs to know of it.
struct GoldenArray {
  Shape shape;
  std::vector<double> values;
  bool stored_float32 = false;

  template <class T>
  Tensor tensor(Device device = {}) const;
  /// The slice [index] of the first axis.
  GoldenArray at(std::int64_t index) const;
  double norm() const;
};

class GoldenFile {
 public:
  explicit GoldenFile(const std::string& path);

  const std::string& name() const { return name_; }
  std::string text(const std::string& attribute) const;
  double number(const std::string& attribute) const { return numbers(attribute).at(0); }
  std::int64_t integer(const std::string& attribute) const { return static_cast<std::int64_t>(number(attribute)); }
  std::vector<double> numbers(const std::string& attribute) const;

  bool has(const std::string& dataset) const { return arrays_.contains(dataset); }
  /// Throws if the file has no such dataset.
  const GoldenArray& array(const std::string& dataset) const;
  /// The datasets of a group, by their name within it.
  std::map<std::string, GoldenArray> group(const std::string& group) const;

 private:
  std::string name_;
  std::map<std::string, std::string> texts_;
  std::map<std::string, std::vector<double>> numbers_;
  std::map<std::string, GoldenArray> arrays_;
};

/// Where golden files are: ../shared/golden beside the sources, where it exists, and $QM_GOLDEN_DIR, where it is set;
/// fails where that names no folder.
std::vector<std::string> golden_folders();
/// All in these folders; those of a kind.
std::vector<std::string> golden_files();
std::vector<std::string> golden_files(const std::string& kind);

enum class Limit { kOutput, kLoss, kGradient };

/// Collects comparisons of one file and judges them once the largest norm is known.
///
/// float64:  ‖error‖ ≤ (1e-6 for outputs, 1e-5 for gradients and parameters, plus 2e-7 where stored as float32) · ‖ref‖
/// bfloat16: logits ‖error‖ ≤ 3e-2 ‖ref‖, loss ≤ 1e-2 ‖ref‖
/// float32:  outputs ‖error‖ ≤ 1e-5 ‖ref‖; gradients and parameters ‖error‖ ≤ max(5e-4 ‖ref‖, 1e-7 · largest norm)
class GoldenComparison {
 public:
  GoldenComparison(std::string file, DType precision) : file_(std::move(file)), precision_(precision) {}

  void expect(const std::string& what, const Tensor& actual, const GoldenArray& reference, Limit limit);
  /// Reports every failure to GoogleTest and prints one line: the file, what was compared, the worst of each kind.
  void judge() const;

 private:
  struct Entry {
    std::string what;
    double error, reference;
    bool stored_float32;
    Limit limit;
  };
  double allowed(const Entry& entry, double largest) const;

  std::string file_;
  DType precision_;
  std::vector<Entry> entries_;
};

}  // namespace qm::test
