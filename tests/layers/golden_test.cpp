// The published implementation's inputs, outputs and gradients (MODEL.md, "golden files"): every file of the folder, in
// double and in float, and in float on a GPU. A suite's case is a kind of file; it prints a line a file.
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "autograd/ops/selective_scan.h"
#include "autograd/ops/soft_cross_entropy.h"
#include "autograd/optim/adamw.h"
#include "autograd/tape.h"
#include "kernels/quad_scan.h"
#include "layers/quadmamba.h"
#include "tests/support/golden.h"
#include "tests/support/gpu.h"

namespace qm::test {
namespace {

FineOrder fine_order_of(const GoldenFile& file) {
  const std::string order = file.text("fine_order");
  QM_CHECK(order == "quadtree" || order == "window_raster", IoError, file.name(), ": fine_order ", order);
  return order == "quadtree" ? FineOrder::kQuadtree : FineOrder::kWindowRaster;
}

/// (first, rows, columns) → (first, columns, rows): between the publication's layout and channels last.
GoldenArray swap_last(const GoldenArray& array, std::int64_t first, std::int64_t rows, std::int64_t columns) {
  GoldenArray swapped{{first, columns, rows}, std::vector<double>(array.values.size()), array.stored_float32};
  for (std::int64_t f = 0; f < first; ++f) {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < columns; ++c) {
        swapped.values[(f * columns + c) * rows + r] = array.values[(f * rows + r) * columns + c];
      }
    }
  }
  return swapped;
}

void for_each_file(const std::string& kind, const std::function<void(const GoldenFile&, Device)>& check,
                   Device device = {}) {
  const auto files = golden_files(kind);
  if (files.empty()) GTEST_SKIP() << "no golden files of kind " << kind << " in ../shared/golden or $QM_GOLDEN_DIR";
  for (const auto& path : files) check(GoldenFile(path), device);
}

void for_each_file_on_gpu(const std::string& kind, const std::function<void(const GoldenFile&, Device)>& check) {
  QM_NEEDS_GPU();
  for_each_file(kind, check, kGpu);
}

TEST(golden, every_file_is_of_a_kind_that_a_case_checks) {
  const std::size_t files = golden_files().size();
  std::size_t checked = 0;
  if (files == 0) GTEST_SKIP() << "no golden files in ../shared/golden or $QM_GOLDEN_DIR";
  for (const char* kind : {"selective_scan", "quad_partition", "block", "model", "train"}) {
    checked += golden_files(kind).size();
  }
  EXPECT_EQ(checked, files);
}

// ---- selective scan --------------------------------------------------------------------------------------------------

template <class T>
void check_selective_scan(const GoldenFile& file, Device device) {
  const auto dims = file.numbers("dims");
  const auto batch = static_cast<std::int64_t>(dims[0]), directions = static_cast<std::int64_t>(dims[1]),
             channels = static_cast<std::int64_t>(dims[2]), length = static_cast<std::int64_t>(dims[3]),
             states = static_cast<std::int64_t>(dims[4]);
  // Sequences are (B, K·D, L) and B, C (B, K, N, L) in the file.
  const auto per_channel = [&](const std::string& name) {
    return swap_last(file.array(name), batch, directions * channels, length);
  };
  const auto per_state = [&](const std::string& name) {
    return swap_last(file.array(name), batch, directions * states, length);
  };
  const auto leaf = [&](const GoldenArray& array, const Shape& shape) {
    Tensor tensor = array.tensor<T>(device).reshape(shape);
    return tensor.set_requires_grad();
  };
  const Shape channel_shape{batch, length, directions, channels}, state_shape{batch, length, directions, states};
  const SelectiveScanInputs in{.u = leaf(per_channel("inputs/u"), channel_shape),
                               .delta = leaf(per_channel("inputs/delta"), channel_shape),
                               .A = leaf(file.array("inputs/A"), {directions * channels, states}),
                               .B = leaf(per_state("inputs/B"), state_shape),
                               .C = leaf(per_state("inputs/C"), state_shape),
                               .D = leaf(file.array("inputs/D"), {directions * channels}),
                               .delta_bias = leaf(file.array("inputs/delta_bias"), {directions * channels})};
  Tape tape;
  Tensor y;
  {
    Tape::Recording recording(tape);
    y = selective_scan(in);
  }
  tape.backward({y}, {per_channel("inputs/grad_y").template tensor<T>(device)});

  GoldenComparison compare(file.name(), dtype_of_v<T>);
  compare.expect("y", y, per_channel("outputs/y"), Limit::kOutput);
  compare.expect("grad u", in.u.grad(), per_channel("grads/u"), Limit::kGradient);
  compare.expect("grad delta", in.delta.grad(), per_channel("grads/delta"), Limit::kGradient);
  compare.expect("grad A", in.A.grad(), file.array("grads/A"), Limit::kGradient);
  compare.expect("grad B", in.B.grad(), per_state("grads/B"), Limit::kGradient);
  compare.expect("grad C", in.C.grad(), per_state("grads/C"), Limit::kGradient);
  compare.expect("grad D", in.D.grad(), file.array("grads/D"), Limit::kGradient);
  compare.expect("grad delta_bias", in.delta_bias.grad(), file.array("grads/delta_bias"), Limit::kGradient);
  compare.judge();
}

TEST(golden, selective_scan_fp64) { for_each_file("selective_scan", check_selective_scan<double>); }
TEST(golden, selective_scan_fp32) { for_each_file("selective_scan", check_selective_scan<float>); }
TEST(gpu, golden_selective_scan_fp32) { for_each_file_on_gpu("selective_scan", check_selective_scan<float>); }

// ---- quadtree partition ----------------------------------------------------------------------------------------------
//
// The fused kernel never forms the partition by itself. The file therefore judges the index functions and the formulas
// written out here, and these judge the kernel, whose scan becomes the identity for B = C = 0 and skips of one half: then
// its sequence is the partition, its output the merge of that, and its gradients those of the two together.

/// MODEL.md's steps 5 and 7 for one image, from QuadOrder alone. Maps are (L, channels) row-major, sequences (L, channels).
template <class T>
struct PartitionFormulas {
  QuadOrder order;
  std::int64_t channels;
  int selected;

  template <class Visit>
  void for_each_token(Visit visit) const {
    for (std::int64_t i = 0; i < order.height; ++i) {
      for (std::int64_t j = 0; j < order.width; ++j) visit(QuadOrder::Token{i, j}, order.address({i, j}));
    }
  }
  std::vector<T> partition(const T* x) const {
    std::vector<T> sequence(order.length() * channels, T(0));
    for_each_token([&](QuadOrder::Token token, std::int64_t address) {
      for (std::int64_t c = 0; c < channels; ++c) {
        sequence[order.position(token, selected) * channels + c] += x[address * channels + c];
      }
    });
    return sequence;
  }
  std::vector<T> merge(const T* y) const {
    std::vector<T> map(order.length() * channels);
    for_each_token([&](QuadOrder::Token token, std::int64_t address) {
      for (std::int64_t c = 0; c < channels; ++c) {
        map[address * channels + c] = y[order.position(token, selected) * channels + c];
      }
    });
    return map;
  }
  /// Σ_{t∈r} ⟨map_t, sequence[f(t)] − sequence[c(t)]⟩ for the four quadrants.
  std::vector<T> one_hot(const T* map, const T* sequence) const {
    std::vector<T> grad(4, T(0));
    for_each_token([&](QuadOrder::Token token, std::int64_t address) {
      for (std::int64_t c = 0; c < channels; ++c) {
        grad[order.quadrant(token)] +=
            map[address * channels + c] * (sequence[order.fine_position(token) * channels + c] -
                                           sequence[order.coarse_position(token) * channels + c]);
      }
    });
    return grad;
  }
};

template <class T>
void check_quad_partition(const GoldenFile& file, Device device) {
  const auto dims = file.numbers("dims");
  const auto batch = static_cast<std::int64_t>(dims[0]), channels = static_cast<std::int64_t>(dims[1]),
             height = static_cast<std::int64_t>(dims[2]), width = static_cast<std::int64_t>(dims[3]);
  const QuadOrder order{height, width, 0, 0, fine_order_of(file)};
  const std::int64_t length = order.length();

  for (std::int64_t p = 0; p < length; ++p) {
    EXPECT_EQ(order.address(order.coarse_token(p)), file.array("outputs/coarse_index").values[p]) << file.name();
    EXPECT_EQ(order.address(order.fine_token(p)), file.array("outputs/fine_index").values[p]) << file.name();
  }

  const auto channels_last = [&](const std::string& name) {
    return swap_last(file.array(name), batch, channels, length);
  };
  const Tensor x = channels_last("inputs/x").template tensor<T>();
  const Tensor grad_sequence = channels_last("inputs/grad_sequence").template tensor<T>();
  const Tensor merge_sequence = channels_last("inputs/merge_sequence").template tensor<T>();
  const Tensor grad_merged = channels_last("inputs/grad_merged").template tensor<T>();
  const Tensor selected = file.array("inputs/selected").tensor<std::int32_t>();

  const auto like_map = [&] { return Tensor::empty({batch, length, channels}, dtype_of_v<T>); };
  const Tensor sequence = like_map(), merged = like_map(), grad_x = like_map(), grad_merge_sequence = like_map();
  const Tensor from_partition = Tensor::empty({batch, 4}, dtype_of_v<T>);
  const Tensor from_merge = Tensor::empty({batch, 4}, dtype_of_v<T>);
  const Tensor identity_grad_x = like_map(), identity_one_hot = Tensor::empty({batch, 4}, dtype_of_v<T>);
  for (std::int64_t b = 0; b < batch; ++b) {
    const PartitionFormulas<T> formulas{order, channels, selected.data<std::int32_t>()[b]};
    const std::int64_t at = b * length * channels;
    const auto put = [](const std::vector<T>& values, const Tensor& to, std::int64_t offset) {
      std::copy(values.begin(), values.end(), to.data<T>() + offset);
    };
    put(formulas.partition(x.data<T>() + at), sequence, at);
    put(formulas.merge(merge_sequence.data<T>() + at), merged, at);
    put(formulas.merge(grad_sequence.data<T>() + at), grad_x, at);
    put(formulas.partition(grad_merged.data<T>() + at), grad_merge_sequence, at);
    put(formulas.one_hot(x.data<T>() + at, grad_sequence.data<T>() + at), from_partition, b * 4);
    put(formulas.one_hot(grad_merged.data<T>() + at, merge_sequence.data<T>() + at), from_merge, b * 4);

    // The kernel's own chain: partition, identity, merge.
    const T* gradient_in_sequence = grad_merge_sequence.data<T>() + at;
    put(formulas.merge(gradient_in_sequence), identity_grad_x, at);
    std::vector<T> one_hot = formulas.one_hot(x.data<T>() + at, gradient_in_sequence);
    const std::vector<T> of_merge = formulas.one_hot(grad_merged.data<T>() + at, merge_sequence.data<T>() + at);
    for (int q = 0; q < 4; ++q) one_hot[q] += of_merge[q];
    put(one_hot, identity_one_hot, b * 4);
  }
  GoldenComparison compare(file.name(), dtype_of_v<T>);
  compare.expect("sequence", sequence, channels_last("outputs/sequence"), Limit::kOutput);
  compare.expect("merged", merged, channels_last("outputs/merged"), Limit::kOutput);
  compare.expect("grad x", grad_x, channels_last("grads/x"), Limit::kGradient);
  compare.expect("grad merge_sequence", grad_merge_sequence, channels_last("grads/merge_sequence"), Limit::kGradient);
  compare.expect("grad one_hot from partition", from_partition, file.array("grads/one_hot_from_partition"),
                 Limit::kGradient);
  compare.expect("grad one_hot from merge", from_merge, file.array("grads/one_hot_from_merge"), Limit::kGradient);

  const ScanShape scan{.directions = 2, .channels = channels, .states = 1, .rank = 1};
  const Tensor projection = Tensor::zeros({batch, length, 2 * scan.projection()}, dtype_of_v<T>, device);
  const Tensor zeros = Tensor::zeros({2 * channels}, dtype_of_v<T>, device);
  const Tensor half = Tensor::from(std::vector<T>(2 * channels, T(0.5)), {2 * channels}).to(device);
  const ScanWeights<T> weights{zeros.data<T>(), zeros.data<T>(), zeros.data<T>(), half.data<T>()};
  const QuadScanShape shape{batch, order, height, width, scan};
  const auto result = [&] { return Tensor::empty({batch, length, channels}, dtype_of_v<T>, device); };
  const Tensor y = result(), z = result(), kernel_grad_x = result(), grad_projection = projection.clone();
  const Tensor kernel_one_hot = Tensor::empty({batch, 4}, dtype_of_v<T>, device);
  const Tensor there_x = x.to(device), there_selected = selected.to(device), there_y = merge_sequence.to(device),
               there_grad_z = grad_merged.to(device);
  quad_scan_forward<T>(y.stream(), {.shape = shape, .x = there_x.data<T>(), .projection = projection.data<T>(),
                                    .selected = there_selected.data<std::int32_t>(), .weights = weights,
                                    .y = y.data<T>(), .z = z.data<T>()});
  quad_scan_backward<T>(y.stream(), {.shape = shape, .x = there_x.data<T>(), .projection = projection.data<T>(),
                                     .selected = there_selected.data<std::int32_t>(), .weights = weights,
                                     .y = there_y.data<T>(), .grad_z = there_grad_z.data<T>(),
                                     .grad_x = kernel_grad_x.data<T>(), .grad_projection = grad_projection.data<T>(),
                                     .grad_one_hot = kernel_one_hot.data<T>(), .grad_weights = {}});
  const auto as_golden = [](const Tensor& tensor) {
    const auto values = tensor.to_vector<T>();
    return GoldenArray{tensor.shape(), std::vector<double>(values.begin(), values.end()), false};
  };
  compare.expect("kernel: sequence", y, channels_last("outputs/sequence"), Limit::kOutput);
  compare.expect("kernel: grad x", kernel_grad_x, as_golden(identity_grad_x), Limit::kGradient);
  compare.expect("kernel: grad one_hot", kernel_one_hot, as_golden(identity_one_hot), Limit::kGradient);
  compare.judge();
}

TEST(golden, quad_partition_fp64) { for_each_file("quad_partition", check_quad_partition<double>); }
TEST(golden, quad_partition_fp32) { for_each_file("quad_partition", check_quad_partition<float>); }
TEST(gpu, golden_quad_partition_fp32) { for_each_file_on_gpu("quad_partition", check_quad_partition<float>); }

// ---- parameters ------------------------------------------------------------------------------------------------------

/// Sets every parameter from the file; a name or shape that only one side has is a failure.
template <class T>
void load_parameters(const ParameterStore& store, const GoldenFile& file) {
  const auto arrays = file.group("params");
  EXPECT_EQ(arrays.size(), store.list().size()) << file.name();
  for (const auto& [name, array] : arrays) {
    const Parameter* parameter = store.find(name);
    ASSERT_TRUE(parameter) << file.name() << ": the network has no parameter " << name;
    ASSERT_EQ(to_string(parameter->shape), to_string(array.shape)) << file.name() << ": " << name;
    parameter->tensor.copy_from(array.template tensor<T>());
  }
}

void compare_with_flat(GoldenComparison& compare, const ParameterStore& store, const GoldenFile& file,
                       const std::string& group, const Tensor& flat) {
  for (const auto& [name, array] : file.group(group)) {
    const Parameter* parameter = store.find(name);
    ASSERT_TRUE(parameter) << file.name() << ": the network has no parameter " << name;
    compare.expect(group + "/" + name, ParameterStore::view(*parameter, flat), array, Limit::kGradient);
  }
}

void compare_selected(const GoldenFile& file, const QuadProbe& probe, const GoldenArray& expected) {
  std::vector<double> selected;
  for (const auto& block : probe.selected) {
    for (const auto quadrant : block.to_vector<std::int32_t>()) selected.push_back(quadrant);
  }
  EXPECT_EQ(selected, expected.values) << file.name() << ": selected quadrants";
}

// ---- one block -------------------------------------------------------------------------------------------------------

template <class T>
void check_block(const GoldenFile& file, Device device) {
  const BlockPlace place{.block = file.integer("block_index"), .block_in_stage = file.integer("block_in_stage"),
                         .quad = file.integer("quad") != 0, .state_size = file.integer("d_state"),
                         .fine_order = fine_order_of(file)};
  ParameterStore store;
  const VssBlock block(Scope(store), file.integer("dim"), place, 0);
  store.allocate(dtype_of_v<T>, device, 0);
  load_parameters<T>(store, file);
  if (testing::Test::HasFatalFailure()) return;

  QuadProbe probe;
  if (place.quad) probe.noise.push_back(file.array("inputs/gumbel").tensor<T>(device));
  Tensor x = file.array("inputs/x").tensor<T>(device);
  x.set_requires_grad();
  Tape tape;
  Tensor y;
  {
    Tape::Recording recording(tape);
    y = close(block(Residual{x, {}, {}}, ForwardContext{nullptr, &probe}));
  }
  tape.backward({y}, {file.array("inputs/grad_y").tensor<T>(device)});

  GoldenComparison compare(file.name(), dtype_of_v<T>);
  compare.expect("y", y, file.array("outputs/y"), Limit::kOutput);
  compare.expect("grad x", x.grad(), file.array("grads/x"), Limit::kGradient);
  compare_with_flat(compare, store, file, "param_grads", store.gradients());
  if (place.quad) {
    compare.expect("score_logits", probe.score_logits.at(0), file.array("outputs/score_logits"), Limit::kOutput);
    compare_selected(file, probe, file.array("outputs/selected"));
  }
  compare.judge();
}

TEST(golden, block_fp64) { for_each_file("block", check_block<double>); }
TEST(golden, block_fp32) { for_each_file("block", check_block<float>); }
TEST(gpu, golden_block_fp32) { for_each_file_on_gpu("block", check_block<float>); }

// ---- whole networks --------------------------------------------------------------------------------------------------

QuadMambaConfig config_of(const GoldenFile& file) {
  QuadMambaConfig config{.dim = file.integer("dims"), .depths = {}, .classes = file.integer("num_classes"),
                         .state_size = file.integer("d_state"), .fine_order = fine_order_of(file), .drop_path = 0};
  const auto depths = file.numbers("depths");
  for (std::size_t s = 0; s < config.depths.size(); ++s) config.depths[s] = static_cast<std::int64_t>(depths.at(s));
  return config;
}

/// (B, 3, H, W) → (B, H, W, 3)
template <class T>
Tensor images_of(const GoldenArray& images, Device device) {
  const Shape& s = images.shape;
  return swap_last(images, s[0], s[1], s[2] * s[3]).template tensor<T>(device).reshape({s[0], s[2], s[3], s[1]});
}

/// One forward and backward pass; the gradients add up in the store.
template <class T>
struct NetworkPass {
  Tensor logits, loss;
  QuadProbe probe;

  NetworkPass(const QuadMamba& network, const GoldenArray& images, const GoldenArray& targets,
              const GoldenArray& gumbel, Device device)
      : NetworkPass(network, images_of<T>(images, device), targets, gumbel, QuadProbe{}) {}

  /// `probe` may force the quadrants; its noise is the file's.
  NetworkPass(const QuadMamba& network, const Tensor& images, const GoldenArray& targets, const GoldenArray& gumbel,
              QuadProbe steering)
      : probe(std::move(steering)) {
    const Device device = images.device();
    for (std::int64_t block = 0; block < gumbel.shape.at(0); ++block) {
      probe.noise.push_back(gumbel.at(block).tensor<T>(device));
    }
    Tape tape;
    {
      Tape::Recording recording(tape);
      logits = network(images, ForwardContext{nullptr, &probe});
      loss = soft_cross_entropy(logits, targets.tensor<T>(device), 1.0 / static_cast<double>(images.dim(0)));
    }
    tape.backward(loss);
  }
};

template <class T>
void check_model(const GoldenFile& file, Device device) {
  ParameterStore store;
  const QuadMamba network(store, config_of(file));
  store.allocate(dtype_of_v<T>, device, 0);
  load_parameters<T>(store, file);
  if (testing::Test::HasFatalFailure()) return;
  const NetworkPass<T> pass(network, file.array("inputs/images"), file.array("inputs/soft_targets"),
                            file.array("inputs/gumbel"), device);

  GoldenComparison compare(file.name(), dtype_of_v<T>);
  compare.expect("logits", pass.logits, file.array("outputs/logits"), Limit::kOutput);
  compare.expect("loss", pass.loss, file.array("outputs/loss"), Limit::kLoss);
  compare_selected(file, pass.probe, file.array("outputs/selected"));
  compare_with_flat(compare, store, file, "param_grads", store.gradients());
  compare.judge();
}

TEST(golden, model_fp64) { for_each_file("model", check_model<double>); }
TEST(golden, model_fp32) { for_each_file("model", check_model<float>); }
TEST(gpu, golden_model_fp32) { for_each_file_on_gpu("model", check_model<float>); }

/// In bfloat16 another quadrant may win by a rounding, so the file's are forced.
void check_model_bf16(const GoldenFile& file, Device device) {
  ParameterStore store;
  const QuadMamba network(store, config_of(file));
  store.allocate(DType::kFloat32, device, 0, DType::kBFloat16);
  load_parameters<float>(store, file);
  if (testing::Test::HasFatalFailure()) return;
  store.round();
  QuadProbe probe;
  const GoldenArray selected = file.array("outputs/selected");
  for (std::int64_t block = 0; block < selected.shape.at(0); ++block) {
    std::vector<std::int32_t> quadrants;
    for (const double quadrant : selected.at(block).values) quadrants.push_back(static_cast<std::int32_t>(quadrant));
    probe.forced.push_back(Tensor::from(quadrants, {static_cast<std::int64_t>(quadrants.size())}).to(device));
  }
  const NetworkPass<float> pass(network, images_of<float>(file.array("inputs/images"), device).to(DType::kBFloat16),
                                file.array("inputs/soft_targets"), file.array("inputs/gumbel"), probe);

  GoldenComparison compare(file.name(), DType::kBFloat16);
  compare.expect("logits", pass.logits, file.array("outputs/logits"), Limit::kOutput);
  compare.expect("loss", pass.loss, file.array("outputs/loss"), Limit::kLoss);
  compare.judge();
}
TEST(gpu, golden_model_bf16) { for_each_file_on_gpu("model", check_model_bf16); }

template <class T>
void check_train(const GoldenFile& file, Device device) {
  ParameterStore store;
  const QuadMamba network(store, config_of(file));
  store.allocate(dtype_of_v<T>, device, 0);
  load_parameters<T>(store, file);
  if (testing::Test::HasFatalFailure()) return;

  std::vector<AdamWSegment> segments;
  for (const auto& parameter : store.list()) {
    segments.push_back({parameter.offset, parameter.count(), parameter.decays()});
  }
  AdamW optimizer({.beta1 = file.number("beta1"), .beta2 = file.number("beta2"), .epsilon = file.number("eps"),
                   .weight_decay = file.number("weight_decay"), .clip_norm = file.number("clip_grad_norm"),
                   .ema = true},
                  store.values(), store.gradients(), segments);
  std::vector<T> losses;
  std::vector<double> norms;
  for (std::int64_t step = 0; step < file.integer("steps"); ++step) {
    store.gradients().zero();
    const NetworkPass<T> pass(network, file.array("inputs/images").at(step), file.array("inputs/soft_targets").at(step),
                              file.array("inputs/gumbel").at(step), device);
    StepRecord record;
    record.step = static_cast<std::uint32_t>(step);
    record.learning_rate = file.number("lr");
    record.ema_decay = file.number("ema_decay");
    optimizer.correct_bias(record);
    optimizer.step(static_cast<const StepRecord*>(record_tensor(record, device).raw()), pass.loss);
    losses.push_back(pass.loss.template to_vector<T>().at(0));
    norms.push_back(optimizer.grad_norm().to_vector<double>().at(0));
    if (file.has("outputs/selected")) compare_selected(file, pass.probe, file.array("outputs/selected").at(step));
  }

  const auto count = static_cast<std::int64_t>(losses.size());
  GoldenComparison compare(file.name(), dtype_of_v<T>);
  compare.expect("losses", Tensor::from(losses, {count}), file.array("outputs/losses"), Limit::kOutput);
  compare.expect("grad_norms", Tensor::from(norms, {count}), file.array("outputs/grad_norms"), Limit::kGradient);
  compare_with_flat(compare, store, file, "final_params", store.values());
  compare_with_flat(compare, store, file, "final_ema", optimizer.ema());
  compare.judge();
}

TEST(golden, train_fp64) { for_each_file("train", check_train<double>); }
TEST(golden, train_fp32) { for_each_file("train", check_train<float>); }
TEST(gpu, golden_train_fp32) { for_each_file_on_gpu("train", check_train<float>); }

}  // namespace
}  // namespace qm::test
