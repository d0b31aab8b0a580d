#include "kernels/cuda/matmul.cuh"

#include <cublasLt.h>

#include <algorithm>
#include <bit>
#include <map>
#include <mutex>
#include <tuple>

// cuBLASLt thinks in columns: a row-major matrix is its transpose there. So the product is handed over as
//
//   Cᵀ (n × m) = op(B)ᵀ (n × k) · op(A)ᵀ (k × m)
//
// with our B as its first factor, our A as its second, and the bias along its rows, which are our columns.
namespace qm::cuda {
namespace {

/// For split sums. Always the same size, since the heuristic's choice depends on it.
constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;

void check_cublas(cublasStatus_t status, const char* expression) {
  QM_CHECK(status == CUBLAS_STATUS_SUCCESS, CudaError, expression, ": ", cublasLtGetStatusName(status), ", ",
           cublasLtGetStatusString(status));
}
#define QM_CUBLAS_CHECK(expression) check_cublas((expression), #expression)

template <class T>
constexpr cudaDataType_t kDataType = CUDA_R_32F;
template <>
constexpr cudaDataType_t kDataType<bfloat16> = CUDA_R_16BF;

/// A product in cuBLASLt's terms. The descriptors live on the stack; making them costs less than looking them up.
class Description {
 public:
  template <class T, class Out>
  Description(const MatrixProduct<T>& p, const Out*) {
    QM_CUBLAS_CHECK(cublasLtMatmulDescInit(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    set(CUBLASLT_MATMUL_DESC_TRANSA, p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (p.bias) {
      QM_CHECK((std::is_same_v<T, Out>), ShapeError, "matmul: a bias has to be of the result's type");
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
    }
    layout(first, kDataType<T>, p.transpose_b ? p.k : p.n, p.transpose_b ? p.n : p.k);
    layout(second, kDataType<T>, p.transpose_a ? p.m : p.k, p.transpose_a ? p.k : p.m);
    layout(result, kDataType<Out>, p.n, p.m);
  }

  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t first, second, result;

 private:
  template <class Value>
  void set(cublasLtMatmulDescAttributes_t attribute, const Value& value) {
    QM_CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(&operation, attribute, &value, sizeof value));
  }
  static void layout(cublasLtMatrixLayoutOpaque_t& matrix, cudaDataType_t type, std::int64_t rows,
                     std::int64_t columns) {
    QM_CUBLAS_CHECK(cublasLtMatrixLayoutInit(&matrix, type, static_cast<std::uint64_t>(rows),
                                             static_cast<std::uint64_t>(columns), rows));
  }
};

/// What the address is a multiple of, up to the 256 bytes that cuBLASLt asks about.
std::uint32_t alignment_of(const void* address) {
  const auto bits = reinterpret_cast<std::uintptr_t>(address) | 256;
  return std::uint32_t{1} << std::countr_zero(bits);
}

/// All that the heuristic's choice depends on.
struct ProductKey {
  int device;
  bool transpose_a, transpose_b, bias, adds;
  std::int64_t m, n, k;
  cudaDataType_t type, result_type;
  std::uint32_t align_a, align_b, align_c;

  auto operator<=>(const ProductKey&) const = default;
};

/// cuBLASLt on one GPU, with the algorithms it has chosen so far. Never timed, so that every run chooses the same.
class Products {
 public:
  /// The one of the current device, which must be `device`.
  static Products& on(Device device) {
    static std::mutex mutex;
    // Never destroyed: cuBLASLt may be gone before a static object is.
    static auto* all = new std::map<int, Products*>;
    std::lock_guard lock(mutex);
    Products*& products = (*all)[device.index];
    if (!products) products = new Products;
    return *products;
  }

  cublasLtHandle_t handle() const { return handle_; }

  cublasLtMatmulAlgo_t algorithm(const ProductKey& key, Description& description) {
    std::lock_guard lock(mutex_);
    const auto found = algorithms_.find(key);
    if (found != algorithms_.end()) return found->second;
    return algorithms_[key] = choose(key, description);
  }

 private:
  Products() { QM_CUBLAS_CHECK(cublasLtCreate(&handle_)); }

  cublasLtMatmulAlgo_t choose(const ProductKey& key, Description& description) const {
    cublasLtMatmulPreferenceOpaque_t preference;
    QM_CUBLAS_CHECK(cublasLtMatmulPreferenceInit(&preference));
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      QM_CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value));
    };
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceBytes);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.align_b);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.align_a);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.align_c);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.align_c);

    cublasLtMatmulHeuristicResult_t result{};
    int found = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle_, &description.operation, &description.first, &description.second, &description.result,
        &description.result, &preference, 1, &result, &found);
    QM_CHECK(status == CUBLAS_STATUS_SUCCESS && found > 0, CudaError, "cuBLASLt has no algorithm for ", key.m, " x ",
             key.n, " x ", key.k, key.transpose_a ? ", first factor transposed" : "",
             key.transpose_b ? ", second factor transposed" : "", key.bias ? ", with bias" : "", ": ",
             cublasLtGetStatusString(status));
    return result.algo;
  }

  cublasLtHandle_t handle_ = nullptr;
  std::mutex mutex_;
  std::map<ProductKey, cublasLtMatmulAlgo_t> algorithms_;
};

}  // namespace

template <class T, class Out>
void matmul(const Stream& stream, const MatrixProduct<T>& p, Out* c) {
  if (p.m == 0 || p.n == 0) return;
  Description description(p, c);
  const ProductKey key{stream.device.index, p.transpose_a,     p.transpose_b,     p.bias != nullptr,
                       p.adds,              p.m,               p.n,               p.k,
                       kDataType<T>,        kDataType<Out>,    alignment_of(p.a), alignment_of(p.b),
                       alignment_of(c)};
  Products& products = Products::on(stream.device);
  const cublasLtMatmulAlgo_t algorithm = products.algorithm(key, description);
  const Scratch<char> workspace(stream, kWorkspaceBytes);
  const float alpha = 1, beta = p.adds ? 1 : 0;
  QM_CUBLAS_CHECK(cublasLtMatmul(products.handle(), &description.operation, &alpha, p.b, &description.first, p.a,
                                 &description.second, &beta, c, &description.result, c, &description.result,
                                 &algorithm, workspace.data(), kWorkspaceBytes, native(stream)));
}

template void matmul(const Stream&, const MatrixProduct<float>&, float*);
template void matmul(const Stream&, const MatrixProduct<bfloat16>&, bfloat16*);
template void matmul(const Stream&, const MatrixProduct<bfloat16>&, float*);

}  // namespace qm::cuda
