#include "data/sha256.h"

#include <gtest/gtest.h>

#include <string>

namespace qm {
namespace {

std::string sha256_of(const std::string& text) {
  Sha256 hash;
  hash.update({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  return hash.hex_digest();
}

TEST(data, sha256_of_published_vectors) {
  EXPECT_EQ(sha256_of(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_of("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_of(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(data, sha256_does_not_depend_on_the_pieces) {
  const std::string text(300, 'q');
  for (std::size_t split = 0; split <= text.size(); split += 7) {
    Sha256 hash;
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(text.data());
    hash.update({bytes, split});
    hash.update({bytes + split, text.size() - split});
    EXPECT_EQ(hash.hex_digest(), sha256_of(text)) << split;
  }
}

TEST(data, sha256_of_texts_keeps_them_apart) {
  Sha256 one, other;
  one.update_text("ab"), one.update_text("c");
  other.update_text("a"), other.update_text("bc");
  EXPECT_NE(one.hex_digest(), other.hex_digest());
}

}  // namespace
}  // namespace qm
