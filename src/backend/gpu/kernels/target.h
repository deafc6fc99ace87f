/* The one header of the kernels that knows the target. A kernel is written once, from the mathematics, and built four ways:
 *
 *   AMD      clang -x hip  --cuda-device-only --offload-arch=gfx1100 ...   the code objects that ship
 *   NVIDIA   clang -x cuda --cuda-device-only --cuda-gpu-arch=sm_80 ...    PTX, HIP's second platform; sm_80 is the first with
 *            mma of int8 (m16n8k32) and bf16; later GPUs take it too (tools/gpu_kernels.py has all flags)
 *   host     clang++ -DGPU_HOST=1                                          for the interpreter (tests/simt), wave 32 or 64
 *
 * Rules for kernels: one argument, a struct of fixed-size members (GPU_PTR for pointers) that C includes too; block sizes are
 * multiples of 64; every lane of a block reaches every barrier, and every lane of a team every shuffle; no pointer but from
 * the argument; no recursion, no global variables. Arithmetic is that of the CPU's reference, bit for bit: f32, fma where the
 * reference has one, no contraction, sums in the same order (backend/cpu/cpu_ops.h says which). A team is 32 neighbouring
 * lanes on every target: a wave of 64 is two teams that may differ in what they do, not in which barriers they meet. */
#ifndef ROCMFORGE_BACKEND_GPU_KERNELS_TARGET_H
#define ROCMFORGE_BACKEND_GPU_KERNELS_TARGET_H

#include <stdint.h>

#if defined(GPU_HOST)
#include "simt.h" /* tests/simt: DEVICE, SHARED, KERNEL, lane and block numbers, barrier, shuffles */
DEVICE void team_sync() { (void)team_xor(0, 1); }
DEVICE void keep_order() {}
DEVICE uint32_t uniform(uint32_t v) { return v; }
DEVICE uint32_t opaque(uint32_t v) { return v; }
DEVICE void device_release() {}
DEVICE void device_acquire() {}
DEVICE uint32_t device_add(uint32_t *p, uint32_t n) { return __atomic_fetch_add(p, n, __ATOMIC_RELAXED); }
#else

#define DEVICE static inline __attribute__((device, always_inline))
#define SHARED __attribute__((shared))
#define UNROLL _Pragma("unroll")

#if defined(__AMDGCN__)
#define KERNEL(name, args_type, max_threads) \
    extern "C" __attribute__((global, amdgpu_flat_work_group_size(64, max_threads))) void name(const args_type a)
#if defined(__GFX9__)
#define WAVE 64
#else
#define WAVE 32
#endif

DEVICE uint32_t thread_x() { return __builtin_amdgcn_workitem_id_x(); }
DEVICE uint32_t block_x() { return __builtin_amdgcn_workgroup_id_x(); }
DEVICE uint32_t block_y() { return __builtin_amdgcn_workgroup_id_y(); }
DEVICE uint32_t block_z() { return __builtin_amdgcn_workgroup_id_z(); }
DEVICE void barrier() {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
    __builtin_amdgcn_s_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}
/* Value of v in the lane of this team whose number is lane ^ mask (mask below 32), or in lane `from` of the team. */
DEVICE int32_t team_xor(int32_t v, uint32_t mask) {
    uint32_t lane = __builtin_amdgcn_mbcnt_hi(~0u, __builtin_amdgcn_mbcnt_lo(~0u, 0));
    return __builtin_amdgcn_ds_bpermute((int)((lane ^ mask) << 2), v);
}
DEVICE int32_t team_get(int32_t v, uint32_t from) {
    uint32_t lane = __builtin_amdgcn_mbcnt_hi(~0u, __builtin_amdgcn_mbcnt_lo(~0u, 0));
    return __builtin_amdgcn_ds_bpermute((int)(((lane & ~31u) | (from & 31u)) << 2), v);
}
/* Shared memory written by lanes of a team before it is read by its lanes after it. */
DEVICE void team_sync() {
    __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "wavefront");
    __builtin_amdgcn_wave_barrier();
}
/* What stands before it is scheduled before what follows: keeps registers from filling up with work begun early. */
DEVICE void keep_order() { __builtin_amdgcn_sched_barrier(0); }
/* What this lane has written is there for other blocks; what it reads from now on is what they have written. */
DEVICE void device_release() { __builtin_amdgcn_fence(__ATOMIC_RELEASE, "agent"); }
DEVICE void device_acquire() { __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "agent"); }
/* Adds to a number that blocks share; returns what it was. */
DEVICE uint32_t device_add(uint32_t *p, uint32_t n) {
    return __scoped_atomic_fetch_add(p, n, __ATOMIC_RELAXED, __MEMORY_SCOPE_DEVICE);
}
/* v, which all lanes of the block hold alike: tells the compiler so. */
DEVICE uint32_t uniform(uint32_t v) { return (uint32_t)__builtin_amdgcn_readfirstlane((int)v); }
/* v, a lane's own, of which the compiler is not to know where it comes from: a base that all lanes share plus opaque(offset) is
 * an address of scalar and lane registers, not a 64-bit pointer of each lane that is kept and moved on through a loop. */
DEVICE uint32_t opaque(uint32_t v) {
    __asm("" : "+v"(v));
    return v;
}
/* c + sum of the four products of signed bytes */
DEVICE int32_t dot4(int32_t a, int32_t b, int32_t c) {
#if defined(__gfx1100__) || defined(__gfx1101__) || defined(__gfx1102__) || defined(__gfx1103__) || \
    defined(__gfx1150__) || defined(__gfx1151__) || defined(__gfx1152__) || defined(__gfx1153__) || \
    defined(__gfx1200__) || defined(__gfx1201__)
    return __builtin_amdgcn_sudot4(true, a, true, b, c, false);
#else
    return __builtin_amdgcn_sdot4(a, b, c, false);
#endif
}

#elif defined(__NVPTX__)
#define KERNEL(name, args_type, max_threads) \
    extern "C" __attribute__((global, launch_bounds(max_threads))) void name(const args_type a)
#define KERNEL_BLOCKS(name, args_type, max_threads, blocks) \
    extern "C" __attribute__((global, launch_bounds(max_threads, blocks))) void name(const args_type a)
#define WAVE 32

DEVICE uint32_t thread_x() { return __nvvm_read_ptx_sreg_tid_x(); }
DEVICE uint32_t block_x() { return __nvvm_read_ptx_sreg_ctaid_x(); }
DEVICE uint32_t block_y() { return __nvvm_read_ptx_sreg_ctaid_y(); }
DEVICE uint32_t block_z() { return __nvvm_read_ptx_sreg_ctaid_z(); }
DEVICE void barrier() { __syncthreads(); }
DEVICE int32_t team_xor(int32_t v, uint32_t mask) { return __nvvm_shfl_sync_bfly_i32(0xffffffffu, v, (int)mask, 31); }
DEVICE int32_t team_get(int32_t v, uint32_t from) { return __nvvm_shfl_sync_idx_i32(0xffffffffu, v, (int)from, 31); }
DEVICE void team_sync() { __nvvm_bar_warp_sync(0xffffffffu); }
DEVICE void keep_order() {}
DEVICE uint32_t uniform(uint32_t v) { return v; }
DEVICE uint32_t opaque(uint32_t v) { return v; }
DEVICE void device_release() { __nvvm_membar_gl(); }
DEVICE void device_acquire() { __nvvm_membar_gl(); }
DEVICE uint32_t device_add(uint32_t *p, uint32_t n) { return (uint32_t)__nvvm_atom_add_gen_i((int *)p, (int)n); }
/* LLVM's intrinsic by name, not asm: asm between loads would keep them from being joined into 16-byte ones. */
__attribute__((device)) int32_t dp4a_signed(int32_t a, int32_t b, int32_t c) __asm("llvm.nvvm.idp4a.s.s");
DEVICE int32_t dot4(int32_t a, int32_t b, int32_t c) { return dp4a_signed(a, b, c); }
#else
#error "no such target"
#endif
#endif /* not the host */

/* A kernel of which so many blocks should fit on a multiprocessor: where the compiler takes more registers when it is not told. */
#if !defined(KERNEL_BLOCKS)
#define KERNEL_BLOCKS(name, args_type, max_threads, blocks) KERNEL(name, args_type, max_threads)
#endif

enum { TEAM = 32 };

/* How many of its steps a vector kernel has under way at once: more where registers are many and memory is far. */
#if defined(__NVPTX__) || (defined(GPU_HOST) && WAVE == 32)
enum { LOADS_AHEAD = 4 };
#else
enum { LOADS_AHEAD = 2 };
#endif

DEVICE uint32_t lane_in_team() { return thread_x() & 31u; }
DEVICE uint32_t team_in_block() { return thread_x() >> 5; }
DEVICE float as_float(uint32_t u) { return __builtin_bit_cast(float, u); }
DEVICE uint32_t as_bits(float x) { return __builtin_bit_cast(uint32_t, x); }
DEVICE float team_xor_f(float v, uint32_t mask) { return as_float((uint32_t)team_xor((int32_t)as_bits(v), mask)); }
DEVICE float team_get_f(float v, uint32_t from) { return as_float((uint32_t)team_get((int32_t)as_bits(v), from)); }
DEVICE float fma32(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
DEVICE float from_f16(uint16_t h) { return (float)__builtin_bit_cast(_Float16, h); }
DEVICE uint16_t to_f16(float x) { return __builtin_bit_cast(uint16_t, (_Float16)x); } /* to nearest even */
DEVICE float from_bf16(uint16_t h) { return as_float((uint32_t)h << 16); }
DEVICE uint32_t min32(uint32_t a, uint32_t b) { return a < b ? a : b; }
DEVICE uint32_t max32(uint32_t a, uint32_t b) { return a > b ? a : b; }

/* Four and two words in one load or store; the address a multiple of their size. */
typedef uint32_t word4 __attribute__((ext_vector_type(4)));
typedef uint32_t word2 __attribute__((ext_vector_type(2)));

/* For a launch whose last block goes on with what several have written: every lane of a block calls it behind what it writes.
 * True in all lanes of the block that brings *count to `all`: that block sees what the others wrote, and *count is 0 again for
 * the next launch. Nobody waits. told: one word of shared memory. */
DEVICE bool comes_last(uint32_t *count, uint32_t all, uint32_t *told) {
    device_release();
    barrier();
    if (thread_x() == 0) {
        const bool last = device_add(count, 1) + 1 == all;
        if (last) *count = 0;
        *told = last;
    }
    barrier();
    const bool last = *told != 0;
    if (last) device_acquire();
    return last;
}

/* The one tree over sixteen lanes (canon_sum16): lane i of each half team holds part i; every lane gets the sum. */
DEVICE float half_team_sum(float v) {
    v = v + team_xor_f(v, 8);
    v = v + team_xor_f(v, 4);
    v = v + team_xor_f(v, 2);
    return v + team_xor_f(v, 1);
}

#endif
