#include "kernels/pixel_ops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "autograd/ops/pixel_ops.h"
#include "data/rand_augment.h"
#include "kernels/base/graph.h"
#include "tests/support/gpu.h"
#include "tests/support/images.h"

namespace qm {
namespace {

using Op = RandAugmentOp;

constexpr std::int64_t kHeight = 41, kWidth = 57;

Image applied(const PixelOp& op, Image image) {
  std::vector<std::uint8_t> scratch;
  cpu::apply_pixel_op(op, image.pixels.data(), image.height, image.width, scratch);
  return image;
}

// Digests of PIL 13's results on noise and on slopes.
TEST(kernels, pixel_ops_equal_pil) {
  struct Case {
    PixelOpKind kind;
    double argument;
    std::uint64_t digest[2];
  };
  const Case cases[] = {
      {PixelOpKind::kAutoContrast, 0, {0x388409eee931edfaull, 0xd18af2a475f33202ull}},
      {PixelOpKind::kEqualize, 0, {0x90dc634a0a296fa9ull, 0x51fef74c7fed1b3bull}},
      {PixelOpKind::kInvert, 0, {0x11b27f6ed848b7edull, 0x6f921b87ecc33cb6ull}},
      {PixelOpKind::kPosterize, 1, {0x14d4c7497d669fb7ull, 0x65fa0834555dc7b7ull}},
      {PixelOpKind::kPosterize, 2, {0x4b3ec8dc825b8f77ull, 0x7bb2a9102668c7b7ull}},
      {PixelOpKind::kPosterize, 3, {0x23d5f51b45cd0e97ull, 0x54d87a82e982a8b7ull}},
      {PixelOpKind::kPosterize, 4, {0xb02fc5461fb4e627ull, 0x30c033d1f6132917ull}},
      {PixelOpKind::kPosterize, 7, {0xb4715db0024eeebfull, 0x3ac4c5ec295208d1ull}},
      {PixelOpKind::kSolarize, 0, {0x11b27f6ed848b7edull, 0x6f921b87ecc33cb6ull}},
      {PixelOpKind::kSolarize, 26, {0x6afdba30f5011945ull, 0x6f921b87ecc33cb6ull}},
      {PixelOpKind::kSolarize, 103, {0x90a60eb7b83f8fb2ull, 0xd597ca9486997afdull}},
      {PixelOpKind::kSolarize, 128, {0xf51f6c38f6bde665ull, 0xc662c138bc3d60eeull}},
      {PixelOpKind::kSolarize, 200, {0x4f5eb593a5868e1full, 0x9ea27a1ef68c8938ull}},
      {PixelOpKind::kSolarize, 256, {0x388409eee931edfaull, 0xbe819a623b1809f5ull}},
      {PixelOpKind::kSolarizeAdd, 0, {0x388409eee931edfaull, 0xbe819a623b1809f5ull}},
      {PixelOpKind::kSolarizeAdd, 11, {0xa83c120d56333c90ull, 0x2aede8826a6d5c27ull}},
      {PixelOpKind::kSolarizeAdd, 55, {0x864de0b7a891c368ull, 0x2ee81acc045352e7ull}},
      {PixelOpKind::kSolarizeAdd, 99, {0xd9f59bd9ea32dfc0ull, 0x72a2fee83327a3d7ull}},
      {PixelOpKind::kSolarizeAdd, 110, {0x49010805af9fc7baull, 0x3f368ca2ff973b41ull}},
      {PixelOpKind::kColor, 0.0, {0xb35fc2c8cd64479bull, 0x0d68fe48ceee8569ull}},
      {PixelOpKind::kColor, 0.1, {0xad53d09e137447a1ull, 0xae334710bcdfc526ull}},
      {PixelOpKind::kColor, 0.19, {0x15525e7c0a971832ull, 0xe0800129e3e0a940ull}},
      {PixelOpKind::kColor, 0.55, {0x173d4581bc131363ull, 0xbb8545ef8ef295a7ull}},
      {PixelOpKind::kColor, 1.0, {0x388409eee931edfaull, 0xbe819a623b1809f5ull}},
      {PixelOpKind::kColor, 1.37, {0xac632024a70153f1ull, 0x31ab4a0544cc7835ull}},
      {PixelOpKind::kColor, 1.81, {0x0837fd98f53662daull, 0xa8ff7898d861d810ull}},
      {PixelOpKind::kColor, 1.9, {0x909ea825726be9ddull, 0x000cedadf1b9fe88ull}},
      {PixelOpKind::kContrast, 0.0, {0xb822078b13ebb5b7ull, 0x2ef9dc6539c0e7ceull}},
      {PixelOpKind::kContrast, 0.1, {0x8b0a836feb1b2a94ull, 0x8c71e67ab379a04full}},
      {PixelOpKind::kContrast, 0.19, {0xde9d64160e4a9624ull, 0x42de870e7b2e3d2aull}},
      {PixelOpKind::kContrast, 0.55, {0x9aeddd4d4444940cull, 0x06fcda9bf5f141f1ull}},
      {PixelOpKind::kContrast, 1.0, {0x388409eee931edfaull, 0xbe819a623b1809f5ull}},
      {PixelOpKind::kContrast, 1.37, {0xf84557708df89224ull, 0x57bd5b6e0eb5fcb1ull}},
      {PixelOpKind::kContrast, 1.81, {0x18183110c1de5343ull, 0xe6d8561634cde5d6ull}},
      {PixelOpKind::kContrast, 1.9, {0xb49e064a9af89cd9ull, 0x3f15f6411b358d90ull}},
      {PixelOpKind::kBrightness, 0.0, {0x2efc55645ebb7637ull, 0x2efc55645ebb7637ull}},
      {PixelOpKind::kBrightness, 0.1, {0x6a5fd66c559d4d39ull, 0xfe6a8d1b7045980eull}},
      {PixelOpKind::kBrightness, 0.19, {0x58b79694c94c8b61ull, 0x02c4fc60ca1553e1ull}},
      {PixelOpKind::kBrightness, 0.55, {0x5aecca08821e3b91ull, 0x375d9cc357168f40ull}},
      {PixelOpKind::kBrightness, 1.0, {0x388409eee931edfaull, 0xbe819a623b1809f5ull}},
      {PixelOpKind::kBrightness, 1.37, {0x12364a6aafa47eeaull, 0xaf098d47a9b5dcfeull}},
      {PixelOpKind::kBrightness, 1.81, {0xb057acc94084d118ull, 0xf6e731e022fc3168ull}},
      {PixelOpKind::kBrightness, 1.9, {0xf68ca2551e18c5e5ull, 0x88d315c97631b154ull}},
      {PixelOpKind::kSharpness, 0.0, {0x80acb9ceb7e09a69ull, 0xa5dbfee8f6fcc5d6ull}},
      {PixelOpKind::kSharpness, 0.1, {0x8619c23a7db525baull, 0x4c301a5a8541fec6ull}},
      {PixelOpKind::kSharpness, 0.19, {0xb75f25abbf2688f8ull, 0xab8f74377cc04dc3ull}},
      {PixelOpKind::kSharpness, 0.55, {0x74ad72a2744c7f6cull, 0x8497b2e25679b772ull}},
      {PixelOpKind::kSharpness, 1.0, {0x388409eee931edfaull, 0xbe819a623b1809f5ull}},
      {PixelOpKind::kSharpness, 1.37, {0x5ed9acd454fb0e42ull, 0x8a491cc857f65a02ull}},
      {PixelOpKind::kSharpness, 1.81, {0x86482ff3e1103e05ull, 0x7f59ca88e79fc008ull}},
      {PixelOpKind::kSharpness, 1.9, {0xb4b61ee36a580653ull, 0x884719a229d7c009ull}},
      {PixelOpKind::kHue, -0.5, {0x609a891df33a2b44ull, 0xb0a97d316c994573ull}},
      {PixelOpKind::kHue, -0.1, {0x5df118c6057b43b1ull, 0x19f49eae956305ebull}},
      {PixelOpKind::kHue, 0.0, {0x1b67c44d053523c9ull, 0xb08c63caa3252390ull}},
      {PixelOpKind::kHue, 0.07, {0xa74f703bfcdadd45ull, 0x605e1c96b45ebe4bull}},
      {PixelOpKind::kHue, 0.5, {0xe416b451831fe3f1ull, 0x88a46949d3670a3eull}},
      {PixelOpKind::kBlur, 0.1, {0x96a27c6ff3919069ull, 0xbe819a623b1809f5ull}},
      {PixelOpKind::kBlur, 0.5, {0xcc2808a1b573dcb9ull, 0x7ad3d4107ac2d21cull}},
      {PixelOpKind::kBlur, 1.05, {0xd84cca46ce6eb661ull, 0xa103fa51d7e6f577ull}},
      {PixelOpKind::kBlur, 1.81, {0x9e29cff8f6181016ull, 0x0239445bc53ed698ull}},
      {PixelOpKind::kBlur, 2.0, {0xddfca679458152b6ull, 0x587656bb1f64b32bull}},
  };
  const Image images[] = {noise_image(kHeight, kWidth, 1), slope_image(kHeight, kWidth, 2)};
  for (const auto& c : cases) {
    for (int i = 0; i < 2; ++i) {
      const Image result = applied({.kind = c.kind, .argument = c.argument}, images[i]);
      EXPECT_EQ(digest_of(result.pixels), c.digest[i])
          << "kind " << static_cast<int>(c.kind) << ", argument " << c.argument << ", image " << i;
    }
  }
}

// Digests of timm's geometric operations, done by PIL 13 on slopes, bilinear and bicubic. PIL's rounding is met
// exactly, so that a filter with other weights, half a pixel's shift or a turn the wrong way cannot pass.
TEST(kernels, pixel_ops_geometry_equals_pil) {
  struct Case {
    Op op;
    double level;
    bool negate;
    std::uint64_t digest[2];
  };
  const Case cases[] = {
      {Op::kRotate, 1, false, {0xe06f2c9c11dffb16ull, 0x997e112f5ddc75bfull}},
      {Op::kRotate, 1, true, {0xc38f9fb5e928feaaull, 0x538a6862dcb21e90ull}},
      {Op::kRotate, 4.5, false, {0xf368353785dca642ull, 0x0696cf9c1b58ce6eull}},
      {Op::kRotate, 4.5, true, {0x0e086c8c28691211ull, 0xad8af6c235c0eb9cull}},
      {Op::kRotate, 9, false, {0x0c4c743754a119f3ull, 0x1d9f1ac6c774cad4ull}},
      {Op::kRotate, 9, true, {0x948d71a92733b2f3ull, 0x4cf582ce8e756cd7ull}},
      {Op::kRotate, 10, false, {0xb71fabf502d7997cull, 0x010ae4cb9eb0badbull}},
      {Op::kRotate, 10, true, {0x058b91802e309483ull, 0x5ec3e7778a79f643ull}},
      {Op::kShearX, 1, false, {0x71740d53ff6e71f7ull, 0x29bc53a2eb07d880ull}},
      {Op::kShearX, 1, true, {0x00682a00b9b316ebull, 0x61212d4179c6ff13ull}},
      {Op::kShearX, 4.5, false, {0x8faa0b5bf3ed6268ull, 0xe653dc8b2f3e5474ull}},
      {Op::kShearX, 4.5, true, {0xa51ccf36933c2bd8ull, 0xa10c92a38feac214ull}},
      {Op::kShearX, 9, false, {0xa0d3e3abb7af9654ull, 0x2475f930e2b97b23ull}},
      {Op::kShearX, 9, true, {0x032b3d003aa8aacdull, 0xfdc223f7282d60b7ull}},
      {Op::kShearX, 10, false, {0xf7c1846565ec57d8ull, 0x336a2c8b1e1fd43eull}},
      {Op::kShearX, 10, true, {0xa52b72d5ee088fa2ull, 0x25f5e75ae0a0651aull}},
      {Op::kShearY, 1, false, {0x9db444abb727aefcull, 0x8d237d3f2940d9fcull}},
      {Op::kShearY, 1, true, {0xfa8e869dfa16cd1bull, 0x37e1232bdfbfed03ull}},
      {Op::kShearY, 4.5, false, {0xf765f521385cf702ull, 0x01a0ebb79f7aca58ull}},
      {Op::kShearY, 4.5, true, {0x136cfcbd4b24084bull, 0x16b78ee043060f12ull}},
      {Op::kShearY, 9, false, {0x5e98262f78ea837bull, 0xb4e089425736bbe0ull}},
      {Op::kShearY, 9, true, {0x1a28bd5ca075d82eull, 0x893539fe4c339b23ull}},
      {Op::kShearY, 10, false, {0x874c2dd3e3c9d952ull, 0x4a1850a33f26b426ull}},
      {Op::kShearY, 10, true, {0xee0f857900e69ce1ull, 0x5a780062a08da073ull}},
      {Op::kTranslateXRel, 1, false, {0xa9652a7f8766dff6ull, 0xddfa039234dde41dull}},
      {Op::kTranslateXRel, 1, true, {0xb0a3c2ffa7df779dull, 0x8f806ec7477cace9ull}},
      {Op::kTranslateXRel, 4.5, false, {0xc0bacadbfe6e03d3ull, 0xb49dfb50e338db31ull}},
      {Op::kTranslateXRel, 4.5, true, {0x0cede9f90bc36788ull, 0xbb2758bbd6b2b720ull}},
      {Op::kTranslateXRel, 9, false, {0xed4ebe6ca8e40321ull, 0xad9281296e14ae13ull}},
      {Op::kTranslateXRel, 9, true, {0xd4e051a700d08029ull, 0x8ce4471fe8d325b3ull}},
      {Op::kTranslateXRel, 10, false, {0x6fabfc70f8d31e38ull, 0xd778aeaf2ef9d37cull}},
      {Op::kTranslateXRel, 10, true, {0x44753a557c146998ull, 0x6e759b3691277b15ull}},
      {Op::kTranslateYRel, 1, false, {0xecd918538944d9e8ull, 0x162065fd7b2ea54eull}},
      {Op::kTranslateYRel, 1, true, {0x323cf9bbf2cd395cull, 0xb5daae44bbf2bd93ull}},
      {Op::kTranslateYRel, 4.5, false, {0x89b078f6eca4c030ull, 0xdf43169eae4c7929ull}},
      {Op::kTranslateYRel, 4.5, true, {0x6b6823b0b9523f32ull, 0x05ee01bc6164ba8cull}},
      {Op::kTranslateYRel, 9, false, {0x10c2ec6748bb0d12ull, 0x10871c1c4b8d2c67ull}},
      {Op::kTranslateYRel, 9, true, {0x9b01d1e37f00b4b2ull, 0xeafcd49ea812729eull}},
      {Op::kTranslateYRel, 10, false, {0x43762b0353590928ull, 0xbfc6c156b6ffb96eull}},
      {Op::kTranslateYRel, 10, true, {0xc0b569c9e43fb3c8ull, 0x28a16341d22d9fabull}},
  };
  const Image image = slope_image(kHeight, kWidth, 2);
  for (const auto& c : cases) {
    PixelOp op = pixel_op_at(c.op, c.level, c.negate, kHeight, kWidth);
    op.fill = {124, 116, 104};
    for (const auto interpolation : {Interpolation::kBilinear, Interpolation::kBicubic}) {
      op.interpolation = interpolation;
      EXPECT_EQ(digest_of(applied(op, image).pixels), c.digest[static_cast<int>(interpolation)])
          << to_string(c.op) << ", level " << c.level << (c.negate ? ", negated" : "");
    }
  }
}

TEST(kernels, pixel_ops_of_the_smallest_images) {
  for (int kind = 0; kind <= static_cast<int>(PixelOpKind::kAffine); ++kind) {
    for (const auto& [height, width] : {std::pair{1, 1}, {1, 9}, {2, 2}, {9, 1}}) {
      const Image image = noise_image(height, width, 3);
      const Image result = applied({.kind = static_cast<PixelOpKind>(kind), .argument = 0.5}, image);
      EXPECT_EQ(result.pixels.size(), image.pixels.size());
    }
  }
}

// ---- batches --------------------------------------------------------------------------------------------------------

using Chain = std::vector<PixelOp>;
using Bytes = std::vector<std::uint8_t>;

Tensor batch_of(const std::vector<Image>& images) {
  Bytes pixels;
  for (const Image& image : images) pixels.insert(pixels.end(), image.pixels.begin(), image.pixels.end());
  return Tensor::from(pixels, {static_cast<std::int64_t>(images.size()), images[0].height, images[0].width, 3});
}

/// A chain a row, shorter ones with kNone behind.
Tensor ops_of(const std::vector<Chain>& chains) {
  std::size_t longest = 0;
  for (const Chain& chain : chains) longest = std::max(longest, chain.size());
  Bytes bytes;
  for (Chain chain : chains) {
    chain.resize(longest);
    const auto* first = reinterpret_cast<const std::uint8_t*>(chain.data());
    bytes.insert(bytes.end(), first, first + longest * sizeof(PixelOp));
  }
  return Tensor::from(bytes,
                      {static_cast<std::int64_t>(chains.size()), static_cast<std::int64_t>(longest * sizeof(PixelOp))});
}

/// Every operation that a recipe can draw, at several levels and with both signs, and those of colour jitter.
std::vector<PixelOp> all_ops(std::int64_t height, std::int64_t width) {
  std::vector<PixelOp> ops;
  for (int op = 0; op <= static_cast<int>(Op::kGaussianBlur); ++op) {
    for (const double level : {0.0, 0.7, 1.0, 4.5, 9.0, 9.6, 10.0}) {
      for (const bool negate : {false, true}) {
        for (const auto interpolation : {Interpolation::kBilinear, Interpolation::kBicubic}) {
          PixelOp drawn = pixel_op_at(static_cast<Op>(op), level, negate, height, width);
          drawn.fill = {124, 116, 104};
          drawn.interpolation = interpolation;
          if (std::find(ops.begin(), ops.end(), drawn) == ops.end()) ops.push_back(drawn);
        }
      }
    }
  }
  for (const double turn : {-0.5, -0.1, 0.0, 0.03, 0.5}) ops.push_back({.kind = PixelOpKind::kHue, .argument = turn});
  ops.push_back({.kind = PixelOpKind::kBlur, .argument = 7.3});  // wider than small images
  ops.push_back({});
  return ops;
}

/// Noise, slopes, one colour, two values, a channel that is empty: what histograms are in.
std::vector<Image> kinds_of_images(std::int64_t height, std::int64_t width) {
  std::vector<Image> images{noise_image(height, width, 5), slope_image(height, width, 6), slope_image(height, width, 7),
                            noise_image(height, width, 8), noise_image(height, width, 9)};
  std::ranges::fill(images[2].pixels, std::uint8_t{77});
  for (auto& value : images[3].pixels) value = value < 128 ? 60 : 61;
  for (std::size_t i = 0; i < images[4].pixels.size(); i += 3) images[4].pixels[i] = 0;
  return images;
}

TEST(kernels, pixel_ops_of_a_batch_are_those_of_its_images) {
  const std::vector<PixelOp> ops = all_ops(kHeight, kWidth);
  const std::vector<Image> kinds = kinds_of_images(kHeight, kWidth);
  std::vector<Image> images;
  std::vector<Chain> chains;
  Bytes expected;
  for (std::size_t i = 0; i < 60; ++i) {
    images.push_back(kinds[i % kinds.size()]);
    Chain chain;
    for (std::size_t k = 0; k < i % 4; ++k) chain.push_back(ops[(i * 7 + k * 31) % ops.size()]);
    chains.push_back(chain);
    Image image = images.back();
    for (const PixelOp& op : chain) image = applied(op, image);
    expected.insert(expected.end(), image.pixels.begin(), image.pixels.end());
  }
  const Tensor batch = batch_of(images);
  EXPECT_EQ(apply_pixel_ops(batch, ops_of(chains), true).to_vector<std::uint8_t>(), expected);
  EXPECT_EQ(batch.to_vector<std::uint8_t>(), batch_of(images).to_vector<std::uint8_t>()) << "the images were changed";
  const Tensor blur = ops_of(std::vector<Chain>(60, {{.kind = PixelOpKind::kBlur, .argument = 1}}));
  EXPECT_EQ(apply_pixel_ops(batch, blur, false).to_vector<std::uint8_t>(), batch.to_vector<std::uint8_t>());
  const Tensor none = Tensor::from(Bytes{}, {60, 0});
  EXPECT_EQ(apply_pixel_ops(batch, none, false).to_vector<std::uint8_t>(), batch.to_vector<std::uint8_t>());
}

TEST(kernels, pixel_ops_errors_name_what_came) {
  const Tensor images = Tensor::zeros({2, 4, 5, 3}, DType::kUInt8);
  const auto expect_error = [](const Tensor& batch, const Tensor& ops, const std::string& text) {
    try {
      apply_pixel_ops(batch, ops, false);
      ADD_FAILURE() << "expected: " << text;
    } catch (const ShapeError& error) {
      EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
    }
  };
  const auto bytes = static_cast<std::int64_t>(sizeof(PixelOp));
  expect_error(images, Tensor::zeros({3, bytes}, DType::kUInt8), "expected ops of shape");
  expect_error(images, Tensor::zeros({2, bytes + 1}, DType::kUInt8), "expected ops of shape");
  expect_error(Tensor::zeros({2, 4, 5, 4}, DType::kUInt8), Tensor::zeros({2, bytes}, DType::kUInt8),
               "expected images of shape");
}

void expect_gpu_equals_cpu(const std::vector<Image>& images, const std::vector<Chain>& chains, bool may_blur) {
  const Tensor batch = batch_of(images), ops = ops_of(chains);
  const Bytes cpu = apply_pixel_ops(batch, ops, may_blur).to_vector<std::uint8_t>();
  const Tensor there = batch.to(test::kGpu);
  const Bytes gpu = apply_pixel_ops(there, ops.to(test::kGpu), may_blur).to_vector<std::uint8_t>();
  EXPECT_EQ(there.to_vector<std::uint8_t>(), batch.to_vector<std::uint8_t>()) << "the images were changed";
  const std::size_t size = cpu.size() / images.size();
  for (std::size_t i = 0; i < images.size(); ++i) {
    std::int64_t others = 0;
    for (std::size_t at = i * size; at < (i + 1) * size; ++at) others += cpu[at] != gpu[at];
    ASSERT_EQ(others, 0) << "image " << i << " of " << images[i].height << " x " << images[i].width << ", "
                         << chains[i].size() << " operations, the first of kind "
                         << (chains[i].empty() ? -1 : static_cast<int>(chains[i][0].kind)) << " at "
                         << (chains[i].empty() ? 0 : chains[i][0].argument);
  }
}

TEST(gpu, pixel_ops_equal_the_cpu_bit_for_bit) {
  QM_NEEDS_GPU();
  for (const auto& [height, width] : {std::pair{1, 1}, {1, 9}, {2, 2}, {9, 1}, {3, 3}, {41, 57}, {224, 224}}) {
    for (const Image& image : kinds_of_images(height, width)) {
      std::vector<Chain> chains;
      for (const PixelOp& op : all_ops(height, width)) chains.push_back({op});
      expect_gpu_equals_cpu(std::vector<Image>(chains.size(), image), chains, true);
    }
  }
}

TEST(gpu, pixel_ops_equal_the_cpu_in_chains) {
  QM_NEEDS_GPU();
  const std::vector<PixelOp> ops = all_ops(kHeight, kWidth);
  const std::vector<Image> kinds = kinds_of_images(kHeight, kWidth);
  for (const std::size_t longest : {0u, 1u, 2u, 3u, 6u}) {
    std::vector<Image> images;
    std::vector<Chain> chains;
    for (std::size_t i = 0; i < 200; ++i) {
      images.push_back(kinds[i % kinds.size()]);
      Chain chain;
      for (std::size_t k = 0; k < (i == 0 ? longest : i % (longest + 1)); ++k) {
        chain.push_back(ops[(i * 7 + k * 31) % ops.size()]);
      }
      chains.push_back(chain);
    }
    expect_gpu_equals_cpu(images, chains, true);
    expect_gpu_equals_cpu(images, chains, false);  // as if no operation were a blur
  }
}

/// What a training step does: the same graph, other images and other operations in the same memory.
TEST(gpu, pixel_ops_in_a_graph_follow_their_inputs) {
  QM_NEEDS_GPU();
  const RandAugmentConfig config{.layers = 2, .magnitude = 9, .magnitude_std = 0.5};
  const auto step = [&](std::uint32_t epoch) {
    std::vector<Image> images;
    std::vector<Chain> chains;
    for (std::uint32_t position = 0; position < 64; ++position) {
      images.push_back(slope_image(kHeight, kWidth, epoch * 100 + position));
      Chain chain;
      for (const DrawnOp& drawn : draw_rand_augment(config, {.seed = 3, .epoch = epoch, .position = position}, kHeight,
                                                    kWidth, Interpolation::kBicubic, true)) {
        chain.push_back(drawn.pixel_op);
      }
      chain.resize(2);
      chains.push_back(chain);
    }
    return std::pair{batch_of(images), ops_of(chains)};
  };
  const auto [first_images, first_ops] = step(0);
  const Tensor images = first_images.to(test::kGpu), ops = first_ops.to(test::kGpu);
  const Tensor result = apply_pixel_ops(images, ops, false);
  const auto queue = [&] { result.copy_from(apply_pixel_ops(images, ops, false)); };
  queue();
  const Graph graph(images.stream(), queue);
  for (std::uint32_t epoch = 1; epoch < 5; ++epoch) {
    const auto [next_images, next_ops] = step(epoch);
    images.copy_from(next_images);
    ops.copy_from(next_ops);
    graph.launch();
    EXPECT_EQ(result.to_vector<std::uint8_t>(),
              apply_pixel_ops(next_images, next_ops, false).to_vector<std::uint8_t>());
  }
}

}  // namespace
}  // namespace qm
