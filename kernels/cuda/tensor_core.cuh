// The instructions that feed the tensor cores and copy to shared memory behind a thread's back (sm_80 and later).
//
// A fragment is a warp's share of a small matrix. With g = lane / 4 and q = lane % 4, of the product D += A B of
// m16n8k16 a lane holds
//   A (16 × 16)   a0: A[g][2q, 2q+1]   a1: A[g+8][2q, 2q+1]   a2: A[g][2q+8, 2q+9]   a3: A[g+8][2q+8, 2q+9]
//   B (16 × 8)    b0: B[2q, 2q+1][g]   b1: B[2q+8, 2q+9][g]
//   D (16 × 8)    d0, d1: D[g][2q, 2q+1]   d2, d3: D[g+8][2q, 2q+1]
#pragma once

#include "kernels/cuda/launch.cuh"

namespace qm::cuda {

struct FragmentA {
  std::uint32_t a[4];
};
struct FragmentB {
  std::uint32_t b[2];
};

__device__ __forceinline__ void multiply_add(float (&d)[4], const FragmentA& a, const FragmentB& b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a.a[0]), "r"(a.a[1]), "r"(a.a[2]), "r"(a.a[3]), "r"(b.b[0]), "r"(b.b[1]));
}

/// The lane, asked for anew: what is computed from it then occupies no registers in between.
__device__ __forceinline__ unsigned lane_again() {
  unsigned lane;
  asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
  return lane;
}

__device__ __forceinline__ std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

/// Four 8 × 8 matrices of 16-bit numbers; lane i gives the address of row i % 8 of matrix i / 8.
__device__ __forceinline__ void load_matrices(std::uint32_t (&m)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(shared_address(row))
               : "memory");
}
/// Two second factors, whose columns are the rows that the lanes give.
__device__ __forceinline__ void load_matrices(FragmentB (&two)[2], const void* row) {
  std::uint32_t m[4];
  load_matrices(m, row);
  two[0] = {{m[0], m[1]}};
  two[1] = {{m[2], m[3]}};
}
/// Four matrices, each transposed.
__device__ __forceinline__ void load_transposed(std::uint32_t (&m)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(shared_address(row))
               : "memory");
}
/// Two second factors, whose rows are the rows that the lanes give.
__device__ __forceinline__ void load_transposed(FragmentB (&two)[2], const void* row) {
  std::uint32_t m[4];
  load_transposed(m, row);
  two[0] = {{m[0], m[1]}};
  two[1] = {{m[2], m[3]}};
}
/// Two matrices, transposed; lanes 0 to 15 give the addresses.
__device__ __forceinline__ void load_transposed(std::uint32_t (&m)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(m[0]), "=r"(m[1])
               : "r"(shared_address(row))
               : "memory");
}

/// 16 bytes of shared memory at an address.
__device__ __forceinline__ uint4 load_shared(std::uint32_t address) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address)
               : "memory");
  return v;
}
__device__ __forceinline__ void store_shared(const uint4& v, std::uint32_t address) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
               : "memory");
}

/// 16 bytes from global to an address of shared memory, or 16 zeros where `row` is negative; done when its group is
/// waited for.
__device__ __forceinline__ void copy_async(std::uint32_t to, const void* from, int row) {
  asm volatile(
      "{ .reg .pred zero; setp.lt.s32 zero, %2, 0; cp.async.cg.shared.global [%0], [%1], 16, zero; }" ::"r"(to),
      "l"(from), "r"(row)
      : "memory");
}
/// The same for 4 bytes.
__device__ __forceinline__ void copy_async_word(std::uint32_t to, const void* from, int row) {
  asm volatile("{ .reg .pred zero; setp.lt.s32 zero, %2, 0; cp.async.ca.shared.global [%0], [%1], 4, zero; }" ::"r"(to),
               "l"(from), "r"(row)
               : "memory");
}
/// Ends the group of copies that this thread has issued since the group before.
__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
/// Waits until at most `kPending` of this thread's newest groups are still under way.
template <int kPending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// A barrier among `threads` threads of the block, all of whose warps give the same id (1 to 15; 0 is __syncthreads).
__device__ __forceinline__ void barrier_of(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/// A barrier in shared memory, at which some warps arrive and others wait. It counts its phases, which end with the
/// arrival of as many as it was made for, and orders what was written before an arrival before what is read after the
/// wait. The block's barrier must follow init().
class SharedBarrier {
 public:
  __device__ __forceinline__ void init(int arrivals) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(&state_)), "r"(arrivals) : "memory");
  }
  __device__ __forceinline__ void arrive() {
    asm volatile("{ .reg .b64 state; mbarrier.arrive.shared.b64 state, [%0]; }" ::"r"(shared_address(&state_))
                 : "memory");
  }
  /// Until a phase ends; at most the next one may have begun. `parity`: of the phase's number.
  __device__ __forceinline__ void wait(unsigned parity) const {
    while (!has_ended(parity)) {
    }
  }

 private:
  __device__ __forceinline__ bool has_ended(unsigned parity) const {
    unsigned ended;
#if __CUDA_ARCH__ >= 900
#define QM_MBARRIER_WAIT "try_wait"  // sleeps a while before it says no
#else
#define QM_MBARRIER_WAIT "test_wait"
#endif
    asm volatile("{ .reg .pred ended; mbarrier." QM_MBARRIER_WAIT
                 ".parity.shared.b64 ended, [%1], %2; selp.u32 %0, 1, 0, ended; }"
                 : "=r"(ended)
                 : "r"(shared_address(&state_)), "r"(parity)
                 : "memory");
#undef QM_MBARRIER_WAIT
    return ended != 0;
  }

  std::uint64_t state_;
};

// ---- powers of two --------------------------------------------------------------------------------------------------

__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
/// The same, computed anew even where the result is known: for numbers that would occupy registers too long.
__device__ __forceinline__ float exp2_again(float x) {
  float y;
  asm volatile("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float log2_fast(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace qm::cuda
