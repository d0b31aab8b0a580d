#include "autograd/ops/image_mix.h"

#include "tests/support/gradient_check.h"
#include "tests/support/tensors.h"

namespace qm {
namespace {

// Channels with mean ½, 0 and ¼ and deviations 1, ½ and 2: pixel p becomes p/255 − ½, 2 p/255, p/510 − ⅛.
const ImageNormalization kNormalization{{0.5, 0, 0.25}, {1, 0.5, 2}};

double normalized(double value, int channel) {
  return (value / 255 - kNormalization.mean[channel]) / kNormalization.std[channel];
}

/// `count` images of 2×3 pixels; all channels of pixel p of image b are 40 b + 5 p.
Tensor ramp_images(std::int64_t count) {
  std::vector<std::uint8_t> pixels;
  for (std::int64_t b = 0; b < count; ++b) {
    for (std::int64_t i = 0; i < 18; ++i) pixels.push_back(static_cast<std::uint8_t>(40 * b + 5 * (i / 3)));
  }
  return Tensor::from(pixels, {count, 2, 3, 3});
}

MixSettings settings(const MixGroup* groups = nullptr, const StepRecord* record = nullptr) {
  return {.normalization = kNormalization,
          .label_smoothing = 0,
          .classes = 3,
          .group = 2,
          .groups = groups,
          .record = record};
}

/// Compares an image with expected pixel values before normalisation (6 pixels, equal in all channels).
void expect_image(const Tensor& x, std::int64_t image, const std::vector<double>& pixels) {
  for (int p = 0; p < 6; ++p) {
    for (int c = 0; c < 3; ++c) {
      EXPECT_NEAR(x.data<double>()[image * 18 + p * 3 + c], normalized(pixels[p], c), 1e-14)
          << "image " << image << ", pixel " << p << ", channel " << c;
    }
  }
}

void expect_targets(const Tensor& targets, const std::vector<double>& expected) {
  const auto actual = values_of(targets);
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 1e-15) << i;
}

TEST(autograd, image_mix_normalizes) {
  const Tensor x = normalize_images(ramp_images(1), kNormalization, DType::kFloat64);
  expect_image(x, 0, {0, 5, 10, 15, 20, 25});
  const Tensor full = Tensor::from(std::vector<std::uint8_t>{255, 255, 255}, {1, 1, 1, 3});
  const auto white = values_of(normalize_images(full, kNormalization, DType::kFloat64));
  EXPECT_NEAR(white[0], 0.5, 1e-15);
  EXPECT_NEAR(white[1], 2.0, 1e-15);
  EXPECT_NEAR(white[2], 0.375, 1e-15);
}

TEST(autograd, image_mix_none) {
  const auto mixed = mix_images(ramp_images(3), integers({2, 0, 1}), settings(), DType::kFloat64);
  expect_image(mixed.x, 2, {80, 85, 90, 95, 100, 105});
  expect_targets(mixed.targets, {0, 0, 1, 1, 0, 0, 0, 1, 0});
}

// ¾ own + ¼ partner: image 0 holds 0 + 5p and image 1 40 + 5p, so 10 + 5p and 30 + 5p. The second group is left as it
// is.
TEST(autograd, image_mix_mixup) {
  const MixGroup groups[] = {{.pixel_weight = 0.75, .target_weight = 0.75}, {}};
  const StepRecord record;
  const auto mixed = mix_images(ramp_images(4), integers({2, 0, 1, 0}), settings(groups, &record), DType::kFloat64);
  expect_image(mixed.x, 0, {10, 15, 20, 25, 30, 35});
  expect_image(mixed.x, 1, {30, 35, 40, 45, 50, 55});
  expect_image(mixed.x, 2, {80, 85, 90, 95, 100, 105});
  expect_targets(mixed.targets, {0.25, 0, 0.75, 0.75, 0, 0.25, 0, 1, 0, 1, 0, 0});
}

// The box covers row 1, columns 0 and 1: two of six pixels come from the partner.
TEST(autograd, image_mix_cutmix) {
  const MixGroup groups[] = {{.target_weight = 2.0 / 3, .top = 1, .bottom = 2, .left = 0, .right = 2}};
  const StepRecord record;
  const auto mixed = mix_images(ramp_images(2), integers({1, 2}), settings(groups, &record), DType::kFloat64);
  expect_image(mixed.x, 0, {0, 5, 10, 55, 60, 25});
  expect_image(mixed.x, 1, {40, 45, 50, 15, 20, 65});
  expect_targets(mixed.targets, {0, 2.0 / 3, 1.0 / 3, 0, 1.0 / 3, 2.0 / 3});
}

TEST(autograd, image_mix_smoothing) {
  // 0.3 over three classes: 0.1 each, and 0.7 more for the label; mixed ¾ and ¼.
  MixSettings smooth = settings();
  smooth.label_smoothing = 0.3;
  expect_targets(mix_images(ramp_images(2), integers({0, 1}), smooth, DType::kFloat64).targets,
                 {0.8, 0.1, 0.1, 0.1, 0.8, 0.1});
  const MixGroup groups[] = {{.pixel_weight = 0.75, .target_weight = 0.75}};
  const StepRecord record;
  smooth.groups = groups;
  smooth.record = &record;
  expect_targets(mix_images(ramp_images(2), integers({0, 1}), smooth, DType::kFloat64).targets,
                 {0.625, 0.275, 0.1, 0.275, 0.625, 0.1});
  // Equal labels: the whole mass is theirs.
  expect_targets(mix_images(ramp_images(2), integers({2, 2}), smooth, DType::kFloat64).targets,
                 {0.1, 0.1, 0.8, 0.1, 0.1, 0.8});
}

// A micro-batch that begins at position 2 of the global batch takes the second group's numbers.
TEST(autograd, image_mix_group_follows_the_position) {
  const MixGroup groups[] = {{}, {.pixel_weight = 0.5, .target_weight = 0.5}};
  const StepRecord record{.first_position = 2};
  const auto mixed = mix_images(ramp_images(2), integers({0, 1}), settings(groups, &record), DType::kFloat64);
  expect_image(mixed.x, 0, {20, 25, 30, 35, 40, 45});
  expect_targets(mixed.targets, {0.5, 0.5, 0, 0.5, 0.5, 0});
}

ErasedBox box_of(EraseFill fill, std::int32_t top, std::int32_t bottom, std::int32_t left, std::int32_t right) {
  return {.seed = 3,
          .epoch = 1,
          .position = 7,
          .stream = 256,
          .fill = fill,
          .top = top,
          .bottom = bottom,
          .left = left,
          .right = right};
}

Tensor box_tensor(const std::vector<ErasedBox>& boxes, std::int64_t rows) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(boxes.data());
  const std::size_t size = boxes.size() * sizeof(ErasedBox);
  return Tensor::from(std::vector<std::uint8_t>(bytes, bytes + size), {rows, static_cast<std::int64_t>(size) / rows});
}

// The mean colour, 0 after normalisation, in row 1, columns 1 and 2 of the first image.
TEST(autograd, image_mix_erases_before_it_mixes) {
  MixSettings erasing = settings();
  erasing.erased = box_tensor({box_of(EraseFill::kConst, 1, 2, 1, 3), ErasedBox{}}, 2);
  const auto erased = mix_images(ramp_images(2), integers({0, 1}), erasing, DType::kFloat64);
  expect_image(erased.x, 1, {40, 45, 50, 55, 60, 65});
  for (const int pixel : {4, 5}) {
    for (int c = 0; c < 3; ++c) EXPECT_EQ(erased.x.data<double>()[pixel * 3 + c], 0);
  }
  EXPECT_NEAR(erased.x.data<double>()[9], normalized(15, 0), 1e-14);

  const MixGroup groups[] = {{.pixel_weight = 0.75, .target_weight = 0.75}};
  const StepRecord record;
  erasing.groups = groups;
  erasing.record = &record;
  const auto mixed = mix_images(ramp_images(2), integers({0, 1}), erasing, DType::kFloat64);
  for (int c = 0; c < 3; ++c) {
    EXPECT_NEAR(mixed.x.data<double>()[12 + c], 0.25 * normalized(60, c), 1e-14);
    EXPECT_NEAR(mixed.x.data<double>()[18 + 12 + c], 0.75 * normalized(60, c), 1e-14);
  }
}

TEST(autograd, image_mix_erasing_noise) {
  constexpr std::int64_t kSide = 100;
  const Tensor images = Tensor::zeros({2, kSide, kSide, 3}, DType::kUInt8);
  MixSettings erasing = settings();
  erasing.erased =
      box_tensor({box_of(EraseFill::kPixel, 0, kSide, 0, kSide), box_of(EraseFill::kRand, 0, kSide, 0, kSide)}, 2);
  const auto x = values_of(mix_images(images, integers({0, 1}), erasing, DType::kFloat64).x);
  const std::int64_t count = kSide * kSide * 3;
  double sum = 0, squares = 0, neighbours = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    sum += x[i];
    squares += x[i] * x[i];
    neighbours += i % 3 != 2 ? x[i] * x[i + 1] : 0;
    EXPECT_EQ(x[count + i], x[count + i % 3]);  // one colour
  }
  const double error = 4.5 / std::sqrt(static_cast<double>(count));
  EXPECT_NEAR(sum / count, 0, error);
  EXPECT_NEAR(squares / count, 1, error * std::sqrt(2.0));
  EXPECT_NEAR(neighbours / count, 0, error);
  EXPECT_NE(x[count], x[count + 1]);
  EXPECT_NE(x[count + 1], x[count + 2]);
}

// The second box lies over the first.
TEST(autograd, image_mix_later_boxes_win) {
  MixSettings erasing = settings();
  erasing.erased = box_tensor({box_of(EraseFill::kPixel, 0, 2, 0, 3), box_of(EraseFill::kConst, 0, 1, 0, 3)}, 1);
  const auto x = values_of(mix_images(ramp_images(1), integers({0}), erasing, DType::kFloat64).x);
  for (int i = 0; i < 9; ++i) EXPECT_EQ(x[i], 0);
  for (int i = 9; i < 18; ++i) EXPECT_NE(x[i], 0);
}

// A group of one: each row has its own numbers, the partner its own too.
TEST(autograd, image_mix_elements_mix_alone) {
  const MixGroup groups[] = {{.pixel_weight = 0.75, .target_weight = 0.75}, {}};
  const StepRecord record;
  MixSettings single = settings(groups, &record);
  single.group = 1;
  const auto mixed = mix_images(ramp_images(2), integers({0, 1}), single, DType::kFloat64);
  expect_image(mixed.x, 0, {10, 15, 20, 25, 30, 35});
  expect_image(mixed.x, 1, {40, 45, 50, 55, 60, 65});
  expect_targets(mixed.targets, {0.75, 0.25, 0, 0, 1, 0});
}

TEST(autograd, image_mix_errors) {
  const MixGroup groups[] = {{}, {}};
  const StepRecord record;
  EXPECT_THROW(mix_images(ramp_images(3), integers({0, 1, 2}), settings(groups, &record), DType::kFloat64), ShapeError);
  EXPECT_THROW(mix_images(ramp_images(2), integers({0, 1}), settings(groups, nullptr), DType::kFloat64), ShapeError);
  EXPECT_THROW(mix_images(ramp_images(2), integers({0}), settings(), DType::kFloat64), ShapeError);
  const Tensor grey = Tensor::from(std::vector<std::uint8_t>{1, 2}, {1, 1, 2, 1});
  EXPECT_THROW(normalize_images(grey, kNormalization, DType::kFloat64), ShapeError);
}

}  // namespace
}  // namespace qm
