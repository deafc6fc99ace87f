/* Kernels of the interpreter's own test (test_simt.c): some right, the rest each wrong in one way; for the emulator's test
 * (test_emulator.c) only the first, built for AMD. */
#include "backend/gpu/kernels/target.h"
#include "selftest_args.h"

/* out[block] = sum of in[block * n .. + n) by teams and a shared array */
KERNEL(simt_sum, simt_test_args, 256) {
    SHARED int32_t part[256 / TEAM];
    int32_t sum = 0;
    for (uint32_t i = thread_x(); i < a.n; i += 256) sum += a.in[block_x() * a.n + i];
    for (uint32_t m = TEAM / 2; m; m /= 2) sum += team_xor(sum, m);
    if (!lane_in_team()) part[team_in_block()] = sum;
    barrier();
    if (thread_x()) return;
    for (uint32_t i = 1; i < 256 / TEAM; i++) sum += part[i];
    a.out[block_x()] = sum;
}

#if defined(GPU_HOST)
/* out[thread] = in of the wave's lanes in reverse, through wave_show */
KERNEL(simt_reverse, simt_test_args, 128) {
    typedef struct {
        int32_t v, square;
    } seen;
    const uint32_t me = thread_x() % WAVE;
    int32_t x = a.in[thread_x()];
    for (int round = 0; round < 3; round++) {
        const seen mine = {x, x * x};
        const seen *all = wave_show("reverse", mine);
        x = all[WAVE - 1 - me].v;
        if (all[me].square != all[me].v * all[me].v) x = -1;
    }
    wave_meet("end");
    a.out[thread_x()] =
        x + team_get(x, 0) - team_get(x, 0) + dot4(0x7f80ff01, 0x7f808001, 3) - (127 * 127 + 128 * 128 + 128 + 1 + 3);
}

/* out[thread] = bits of a shared word nobody wrote */
KERNEL(simt_unwritten, simt_test_args, 64) {
    SHARED uint32_t never[64];
    a.out[thread_x()] = (int32_t)never[thread_x()];
    never[thread_x()] = 1;
}

/* Half of a team shuffles, the rest has returned. */
KERNEL(simt_wrong_returned, simt_test_args, 64) {
    if (thread_x() >= 48) return;
    a.out[thread_x()] = team_xor(1, 1);
}
/* Two halves of a team shuffle at different places. */
KERNEL(simt_wrong_place, simt_test_args, 64) {
    int32_t x;
    if (lane_in_team() < 16)
        x = team_xor(a.in[0], 1);
    else
        x = team_xor(a.in[1], 1);
    a.out[thread_x()] = x;
}
/* One team waits at the barrier that the other does not know of. */
KERNEL(simt_wrong_barrier, simt_test_args, 64) {
    if (team_in_block()) barrier();
    a.out[thread_x()] = 0;
}
/* Lanes of a team at a shuffle and at a barrier. */
KERNEL(simt_wrong_mix, simt_test_args, 64) {
    if (thread_x() & 1)
        barrier();
    else
        a.out[thread_x()] = team_get(1, 0);
}
KERNEL(simt_wrong_operand, simt_test_args, 64) { a.out[thread_x()] = team_xor(1, 32 + (a.n & 0)); }
/* A tile that one team of a wave of 64 leaves out; right with waves of 32. */
KERNEL(simt_wrong_tile, simt_test_args, 64) {
    if (team_in_block()) wave_meet("tile");
    a.out[thread_x()] = 0;
}
/* Wild pointers: to where there is no memory, to what is no address; a stack that runs out; a division. One lane of 64 each. */
DEVICE volatile int32_t *wild(const simt_test_args &a, uint64_t at) { return (volatile int32_t *)(at + a.n); }
KERNEL(simt_wrong_write, simt_test_args, 64) {
    if (thread_x() == 37) *wild(a, 0x1230) = 1;
    if (team_xor(1, 1) != 1) a.out[0] = 0;
}
KERNEL(simt_wrong_read, simt_test_args, 64) {
    if (thread_x() == 5) a.out[0] = *wild(a, 0x4560);
}
KERNEL(simt_wrong_address, simt_test_args, 64) {
    if (thread_x() == 63) a.out[0] = *wild(a, 0x7FBADBAD7FBADBAC);
}
static int32_t deeper(int32_t n) {
    volatile int32_t kept[64];
    kept[n & 63] = n;
    return n == 1 << 30 ? 0 : deeper(n + 1) + kept[n & 63];
}
KERNEL(simt_wrong_depth, simt_test_args, 64) {
    if (thread_x() == 2) a.out[0] = deeper((int32_t)a.n);
}
KERNEL(simt_wrong_division, simt_test_args, 64) {
    volatile int32_t zero = (int32_t)a.n;
    if (thread_x() == 1) a.out[0] = 7 / zero;
}
/* One word behind the buffer. */
KERNEL(simt_wrong_outside, simt_test_args, 64) { a.out[a.n + thread_x() / 63] = 0; }
/* Reads what the neighbour wrote without a barrier: wrong in one order of the lanes. */
KERNEL(simt_wrong_race, simt_test_args, 64) {
    SHARED int32_t box[64];
    box[thread_x()] = (int32_t)thread_x();
    a.out[block_x() * 64 + thread_x()] = box[(thread_x() + 1) % 64];
}
#endif
