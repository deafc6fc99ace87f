/* The host form of src/backend/gpu/kernels/target.h: kernels compiled as C++ for the interpreter (interpreter.h), once with
 * WAVE 32 and once with WAVE 64. Every lane is a fiber; only the calls below switch between them, so a kernel's plain code
 * runs lane after lane, in an order that changes from block to block.
 *
 * The calls are collectives: a barrier is met by every lane of the block, a shuffle by the 32 lanes of the team, a matrix tile
 * by the wave, all of them at the same place in the code. One that some lane does not reach ends the launch with an error.
 *
 * KERNEL enters the kernel in the interpreter's list when the library is loaded. SHARED arrays lie in a section of their own,
 * which is filled with SIMT_POISON (a NaN as f32, a huge number otherwise) before every block. */
#ifndef ROCMFORGE_TESTS_SIMT_SIMT_H
#define ROCMFORGE_TESTS_SIMT_SIMT_H

#include <stddef.h>
#include <stdint.h>

#if !defined(WAVE) || (WAVE != 32 && WAVE != 64)
#error "build with -DWAVE=32 or -DWAVE=64"
#endif
#ifndef SIMT_FILE
#error "build with -DSIMT_FILE=name, the kernel file's name: its shared arrays lie in a section of that name"
#endif

/* No pass of the compiler may move a collective under another condition, or join two of them: the address it is called from
 * says which one a lane is at. */
#define SIMT_MEET __attribute__((convergent, nomerge))
#define DEVICE    static inline __attribute__((always_inline, convergent, nomerge, unused))
#define UNROLL    /* rolled loops: a tenth of the time to compile */

#define SIMT_TEXT_(x)    #x
#define SIMT_TEXT(x)     SIMT_TEXT_(x)
#define SIMT_JOIN_(a, b) a##b
#define SIMT_JOIN(a, b)  SIMT_JOIN_(a, b)
#define SIMT_SECTION     "simt_" SIMT_TEXT(SIMT_FILE)
#define SHARED           static __attribute__((section(SIMT_SECTION), no_sanitize("address")))

extern "C" {
typedef struct {
    uint32_t thread, block_x, block_y, block_z;
} simt_place;
typedef struct { /* a kernel of one file and one wave width, linked into the interpreter's list */
    const char *name, *file;
    void (*run)(const void *args);
    size_t args_bytes;
    uint32_t max_threads, wave;
    unsigned char *shared, *shared_end;
} simt_kernel;

extern simt_place simt_at; /* of the lane that runs */
void simt_add(const simt_kernel *k);
SIMT_MEET void simt_barrier(void);
SIMT_MEET int32_t simt_team_xor(int32_t v, uint32_t mask);
SIMT_MEET int32_t simt_team_get(int32_t v, uint32_t from);
SIMT_MEET const void *simt_wave_show(const char *what, const void *mine, size_t n_bytes);

/* The linker's bounds of the section: absent (0) when the file has no shared array. */
extern unsigned char SIMT_JOIN(__start_simt_, SIMT_FILE)[] __attribute__((weak, visibility("hidden")));
extern unsigned char SIMT_JOIN(__stop_simt_, SIMT_FILE)[] __attribute__((weak, visibility("hidden")));
}

#define KERNEL(name, args_type, max_threads) \
    static void name(const args_type a) SIMT_MEET; \
    static void simt_run_##name(const void *args) { name(*(const args_type *)args); } \
    __attribute__((constructor)) static void simt_add_##name() { \
        static const simt_kernel self = {#name, \
                                         SIMT_TEXT(SIMT_FILE), \
                                         simt_run_##name, \
                                         sizeof(args_type), \
                                         (max_threads), \
                                         WAVE, \
                                         SIMT_JOIN(__start_simt_, SIMT_FILE), \
                                         SIMT_JOIN(__stop_simt_, SIMT_FILE)}; \
        simt_add(&self); \
    } \
    static void name(const args_type a)

DEVICE uint32_t thread_x() { return simt_at.thread; }
DEVICE uint32_t block_x() { return simt_at.block_x; }
DEVICE uint32_t block_y() { return simt_at.block_y; }
DEVICE uint32_t block_z() { return simt_at.block_z; }
DEVICE void barrier() { simt_barrier(); }
DEVICE int32_t team_xor(int32_t v, uint32_t mask) { return simt_team_xor(v, mask); }
DEVICE int32_t team_get(int32_t v, uint32_t from) { return simt_team_get(v, from); }

/* Matrix tiles. wave_show: every lane of the wave shows a copy of its operands (any plain struct of at most 1 KiB) and gets
 * everyone's, [WAVE] by the lane's number in its wave, to read until its next call. `what` names it in errors. wave_meet only
 * checks that the whole wave is there. */
template <class T> DEVICE const T *wave_show(const char *what, const T &mine) {
    return (const T *)simt_wave_show(what, &mine, sizeof mine);
}
DEVICE void wave_meet(const char *what) { simt_wave_show(what, nullptr, 0); }

/* c + sum of the four products of signed bytes */
DEVICE int32_t dot4(int32_t a, int32_t b, int32_t c) {
    uint32_t sum = (uint32_t)c;
    for (int i = 0; i < 32; i += 8) sum += (uint32_t)((int32_t)(int8_t)(a >> i) * (int32_t)(int8_t)(b >> i));
    return (int32_t)sum;
}

#endif
