#include "data/pixel_ops.h"

#include <gtest/gtest.h>

#include "data/rand_augment.h"
#include "tests/support/images.h"

namespace qm {
namespace {

using Op = RandAugmentOp;

constexpr std::int64_t kHeight = 41, kWidth = 57;

Image applied(const PixelOp& op, Image image) {
  std::vector<std::uint8_t> scratch;
  apply_pixel_op(op, image.pixels.data(), image.height, image.width, scratch);
  return image;
}

// Digests of PIL 13's results on noise and on slopes.
TEST(data, pixel_ops_equal_pil) {
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
TEST(data, pixel_ops_geometry_equals_pil) {
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

TEST(data, pixel_ops_of_the_smallest_images) {
  for (int kind = 0; kind <= static_cast<int>(PixelOpKind::kAffine); ++kind) {
    for (const auto& [height, width] : {std::pair{1, 1}, {1, 9}, {2, 2}, {9, 1}}) {
      const Image image = noise_image(height, width, 3);
      const Image result = applied({.kind = static_cast<PixelOpKind>(kind), .argument = 0.5}, image);
      EXPECT_EQ(result.pixels.size(), image.pixels.size());
    }
  }
}

}  // namespace
}  // namespace qm
