// Sweeps: the scans of a map's tokens with bfloat16 activations and one state, what quad_scan and cross_scan run in
// training. (kernels/cuda/core_scan.cuh takes every other case.)
//
// A block holds channels of some images and walks their whole sequences, tile by tile of 16 tokens: half of its warps
// from the front, the other half from the back. Nothing is combined afterwards, since a state never leaves its thread:
// a thread is a channel. Both directions' results are added where they meet: until the middle a direction stores what
// it has; from there on it finds the other's, adds its own and stores the sum. So every result is one of two numbers
// added in either order: the same bits in every run.
//
// A tile of a warp is 16 tokens × 32 channels, its rows in the order in which the direction scans them: both directions
// run the same instructions. A warp brings its own tiles of the maps, ahead of the scan, and stores its own results.
// What all channels share of a tile, where its tokens lie and their (δ | B | C), one more warp a direction brings
// (core_sweep_tokens.cuh). The pre-activation of Δ is a product of the token's δ (16 × R) with the channel's weights,
// made by the tensor cores, as are backward's sums over channels (∂δ, ∂B, ∂C) and over tokens (∂dt_weight).
//
// Exponentials are powers of two. With Δ' = Δ / ln 2 = log₂(1 + 2^{x log₂ e}):
//   exp(Δ A) = 2^{Δ' A},   Δ B u = Δ' (ln 2 · B) u,   sigmoid(x) = softplus'(x) = 1 − 2^{−Δ'}
#pragma once

#include <algorithm>
#include <limits>
#include <type_traits>

#include "kernels/cuda/scan_core.cuh"
#include "kernels/cuda/scan_weights.cuh"
#include "kernels/cuda/tensor_core.cuh"
#include "kernels/cuda/vector.cuh"

namespace qm::cuda {

inline constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;
inline constexpr int kChunk = 8;  ///< numbers a 16-byte access

// ---- what is swept --------------------------------------------------------------------------------------------------

/// What a position is compared for: whether its fine token should have come here, its coarse one, or neither
/// (kernels/quad_scan.h, grad_one_hot).
struct SweepCompared {
  enum Holds { kFine, kCoarse, kBoth, kNone };  ///< its tokens there; of both, the coarse one is the first

  int other;  ///< the fine or the coarse token, whichever is not there; of both, the fine one; of none, −1
  int role;   ///< below

  __device__ __forceinline__ static int role_of(Holds holds, int fine_quadrant, int coarse_quadrant) {
    return holds * 16 + fine_quadrant * 4 + coarse_quadrant;
  }
  __device__ __forceinline__ static Holds holds(int role) { return static_cast<Holds>(role / 16); }
  __device__ __forceinline__ static int fine_quadrant(int role) { return role / 4 % 4; }
  __device__ __forceinline__ static int coarse_quadrant(int role) { return role % 4; }
};

/// The tokens at the positions of a sequence.
struct SweepOrder {
  const int* first;     ///< (images, length) a token; −1 where there is none
  const int* second;    ///< (images, length) another one there, or −1; null = nowhere
  std::int64_t stride;  ///< between images: length, or 0 where all share one order
  const SweepCompared* compared = nullptr;  ///< (images, length); of a backward sweep that compares
};

/// Two directions along one order. Maps are (batch, length, D), rows of them D numbers.
///
/// Results lie by token: those of a position at its first token's and, when they are complete, at its second's too.
struct Sweep {
  int batch, length, tiles, channels, rank, directions;
  int along[2];  ///< the directions that go forwards and backwards
  SweepOrder order;
  bool plain;                  ///< whether every position holds one token, and no map is cropped
  const bfloat16* x;           ///< (batch, length, D), by token
  const bfloat16* projection;  ///< (batch, length, K, R + 2), by token
  ScanWeights<bfloat16> weights;
  /// (batch, K, tiles, D): the state before each tile; forward writes it unless null, backward reads it
  float* states;
  bool adds;  ///< whether results are added to what is there
  int warps;  ///< that scan, a direction

  // The map after the merge: cropped where it was padded.
  int width, out_height, out_width;

  __device__ __forceinline__ int out_length() const { return out_height * out_width; }
  /// Where a token lies in the cropped map, or −1.
  __device__ __forceinline__ int output_of(int token) const {
    if (plain || token < 0) return token;
    if (out_width == width) return token < out_height * width ? token : -1;
    const int i = token / width, j = token % width;
    return i < out_height && j < out_width ? i * out_width + j : -1;
  }
};

/// What a kernel is compiled for. kPlain: for plain sweeps. kCompares: for those that compare tokens.
template <int kWarps_, int kColumns_, bool kPlain_ = true, bool kCompares_ = false>
struct SweepKind {
  static constexpr int kWarps = kWarps_;      ///< that scan, a direction, at most
  static constexpr int kColumns = kColumns_;  ///< tiles of 8 that cover (δ | B | C) in whole words
  static constexpr int kSteps = kColumns / 2 > 0 ? kColumns / 2 : 1;  ///< of 16 that cover δ
  static constexpr int kRankTiles = std::min(kColumns, 2 * kSteps);   ///< of 8 that cover δ
  static constexpr bool kPlain = kPlain_, kCompares = kCompares_;
  static constexpr int kTokens = kPlain ? 1 : 2;  ///< at a position, at most
  static constexpr int kThreads = 2 * (kWarps + 1) * kWarp;
  using Comparing = SweepKind<kWarps, kColumns, kPlain, true>;
  using General = SweepKind<kColumns <= 4 ? kWarps : 3, kColumns, false, kCompares>;  // the widest: more registers
};

// ---- a warp's place -------------------------------------------------------------------------------------------------
// The first half of a block's warps but two scans forwards, the second backwards. The last two bring tokens, for a
// direction each.

/// A tile on a direction's walk: the step'th of an image.
struct SweepPlace {
  int image, step;
};

/// One of a block's two directions, and the walk along it. Rows of a tile are numbered in the order of the direction.
struct SweepDirection {
  const Sweep& p;
  bool reversed;   ///< the direction
  bool against;    ///< whether the walk goes against the direction, as backward does
  bool from_back;  ///< the walk

  __device__ __forceinline__ SweepDirection(const Sweep& sweep, bool goes_against)
      : p(sweep),
        reversed(brings_tokens(sweep) ? warp_index() % 2 != 0 : warp_index() >= sweep.warps),
        against(goes_against),
        from_back(reversed != goes_against) {}

  // What is rarely needed is computed each time: registers are scarce.

  /// The direction's number.
  __device__ __forceinline__ int k() const { return p.along[reversed]; }
  /// Numbers before this direction's in the first word of a token's: 1 where R + 2 and k are odd.
  __device__ __forceinline__ int skipped() const { return k() * (p.rank + 2) % 2; }

  /// What this warp does: it brings tokens, or it scans.
  __device__ __forceinline__ static bool brings_tokens(const Sweep& sweep) { return warp_index() >= 2 * sweep.warps; }

  // The walk: image after image of the block, all their tiles.

  __device__ __forceinline__ SweepPlace start() const { return {static_cast<int>(blockIdx.x), 0}; }
  __device__ __forceinline__ bool exists(const SweepPlace& place) const { return place.image < p.batch; }
  __device__ __forceinline__ SweepPlace after(const SweepPlace& place) const {
    return place.step + 1 < p.tiles ? SweepPlace{place.image, place.step + 1}
                                    : SweepPlace{place.image + static_cast<int>(gridDim.x), 0};
  }

  __device__ __forceinline__ int tile_of(const SweepPlace& place) const {
    return from_back ? p.tiles - 1 - place.step : place.step;
  }
  /// The first step whose results the other direction has visited before; the middle tile of an odd number is first
  /// visited from the front.
  __device__ __forceinline__ int meeting() const { return (p.tiles + (from_back ? 0 : 1)) / 2; }
  __device__ __forceinline__ bool adds(const SweepPlace& place) const { return p.adds || place.step >= meeting(); }

  __device__ __forceinline__ int position(int tile, int row) const {
    return tile * kTile + (reversed ? kTile - 1 - row : row);
  }
  /// Rows of the last tile may lie beyond the sequence.
  __device__ __forceinline__ bool is_position(int at) const { return at < p.length; }
  __device__ __forceinline__ bool has_end(int tile) const { return (tile + 1) * kTile > p.length; }
};

// ---- launch ---------------------------------------------------------------------------------------------------------

inline int sweep_tiles(std::int64_t length) {
  return static_cast<int>(ceil_div(length, kTile));
}

/// States that a forward sweep leaves for backward: (batch, K, tiles, D).
inline std::int64_t sweep_states(const ScanShape& s, std::int64_t batch, std::int64_t length) {
  return batch * s.directions * sweep_tiles(length) * s.channels;
}

/// Calls body.template operator()<Kind>() with what suits the rank, for plain orders.
template <bool kBackward, class Body>
void with_plain_kind(std::int64_t rank, Body body) {
  const std::int64_t columns = (rank + 3) / 2 * 2;
  if (columns <= 8) return body.template operator()<SweepKind<6, 1>>();
  if (columns <= 16) return body.template operator()<SweepKind<6, 2>>();
  if (columns <= 32) return body.template operator()<std::conditional_t<kBackward, SweepKind<5, 4>, SweepKind<8, 4>>>();
  body.template operator()<std::conditional_t<kBackward, SweepKind<4, 7>, SweepKind<6, 7>>>();
}

/// The same for a quadtree's orders where kQuad, so that others do not compile what they never run.
template <bool kBackward, bool kQuad, class Body>
void with_sweep_kind(const Sweep& sweep, Body body) {
  with_plain_kind<kBackward>(sweep.rank, [&]<class Plain>() {
    if constexpr (kQuad) {
      using Kind = std::conditional_t<kBackward, typename Plain::Comparing, Plain>;
      if (!sweep.plain) return body.template operator()<typename Kind::General>();
      body.template operator()<Kind>();
    } else {
      body.template operator()<Plain>();
    }
  });
}

/// Warps a direction for which a block's shared memory is enough on this GPU, at most Kind's.
template <class Kind, class Shared>
int warps_that_fit() {
  int device = 0, bytes = 0;
  QM_CUDA_CHECK(cudaGetDevice(&device));
  QM_CUDA_CHECK(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  int warps = Kind::kWarps;
  while (warps > 1 && Shared::bytes(warps) > static_cast<std::size_t>(bytes)) --warps;
  return warps;
}

/// How a scan's images and channels are spread over blocks.
struct SweepGrid {
  int image_blocks, channel_blocks, warps;

  /// A multiprocessor holds one block. Beyond what a large GPU runs at once, blocks take several images each, so that
  /// the weights are read, and their gradients' sums written, less often.
  SweepGrid(std::int64_t batch, std::int64_t channels, int most_warps) {
    constexpr int kMultiprocessors = 128;
    const std::int64_t all = ceil_div(channels, kWarp);
    channel_blocks = static_cast<int>(ceil_div(all, most_warps));
    warps = static_cast<int>(ceil_div(all, channel_blocks));
    const std::int64_t images = std::max<std::int64_t>(1, batch * channel_blocks / kMultiprocessors);
    image_blocks = static_cast<int>(ceil_div(batch, images));
  }
  dim3 grid() const { return dim3(static_cast<unsigned>(image_blocks), static_cast<unsigned>(channel_blocks)); }
  int threads() const { return 2 * (warps + 1) * kWarp; }
};

/// Whether the sweeps take a scan of sequences of this length: they number the rows of all images in 32 bits.
inline bool sweeps(const ScanShape& s, std::int64_t batch, std::int64_t length) {
  return s.states == 1 && s.rank <= 48 && s.directions % 2 == 0 && s.channels % kChunk == 0 &&
         s.channels <= (1 << 20) && batch * length <= std::numeric_limits<int>::max() - kTile;
}

/// Shared memory of a block on the GPUs that the kinds are made for.
inline constexpr std::size_t kSweepBytes = 227 * 1024;

template <class Kernel, class... Arguments>
void launch_sweep(const char* name, const Stream& stream, Kernel kernel, const SweepGrid& grid,
                  std::size_t shared_bytes, const Arguments&... arguments) {
  QM_CUDA_CHECK(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)));
  kernel<<<grid.grid(), grid.threads(), shared_bytes, native(stream)>>>(arguments...);
  check_launch(name);
}

}  // namespace qm::cuda
