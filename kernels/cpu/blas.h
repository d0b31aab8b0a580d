// Row-major matrix products on OpenBLAS for float and double.
#pragma once

#include <cstdint>

namespace qm::cpu {

/// C (m, n) = alpha · op(A) op(B) + beta · C, where op transposes if asked; lda, ldb, ldc are row lengths in memory.
template <class T>
void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, T alpha, const T* a,
          std::int64_t lda, const T* b, std::int64_t ldb, T beta, T* c, std::int64_t ldc);

}  // namespace qm::cpu
