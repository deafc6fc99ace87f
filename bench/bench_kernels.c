/* The CPU's quantised matrix kernels, alone, on one thread: every type and tier that this CPU has.
 *
 *   bench_kernels [tier|all [type|all [n_tok]]]
 *
 * For a panel set that stays in L2 and one that does not fit any cache: GB/s of panel bytes with one column, GOPS (two per
 * weight and column) with 64; for the large set also panel_pack in GB/s of file bytes. CSV on standard output; a figure is
 * the best of several rounds. n_tok (default 64) is the stride of the activations. */
#include "backend/cpu/cpu_ops.h"
#include "base/mem.h"
#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const quant_type types[] = {QUANT_Q4_0, QUANT_Q4_1, QUANT_Q5_0, QUANT_Q5_1, QUANT_Q8_0,
                                   QUANT_Q2_K, QUANT_Q3_K, QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K};
enum { N_TYPES = sizeof types / sizeof *types, K = 2048, MAX_COL = 64 };
static const size_t SMALL = 256 << 10, LARGE = 192 << 20;

/* This thread's own time: what others do on the machine costs us less truth that way. */
static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void fill(void *p, size_t n) {
    uint64_t *w = p;
    for (size_t i = 0; i < n / 8; i++) w[i] = rng_u64(1, i) & 0x3FFF3FFF3FFF3FFF; /* halves are finite */
}

static bool act_open(cpu_act *x, uint32_t n_tok, uint32_t scale_block) {
    const size_t n_block = K / 32;
    *x = (cpu_act){.code = mem_map(n_block * 32 * n_tok),
                   .scale = mem_map(n_block * 4 * n_tok),
                   .sum = mem_map(n_block * 4 * n_tok),
                   .n_tok = n_tok,
                   .scale_block = scale_block};
    if (!x->code || !x->scale || !x->sum) return false;
    fill(x->code, n_block * 32 * n_tok);
    fill(x->sum, n_block * 4 * n_tok);
    for (size_t i = 0; i < n_block * n_tok; i++) x->scale[i] = 0.01f;
    return true;
}

static void act_close(cpu_act *x) {
    mem_unmap(x->code, (size_t)K * x->n_tok);
    mem_unmap(x->scale, (size_t)K / 8 * x->n_tok);
    mem_unmap(x->sum, (size_t)K / 8 * x->n_tok);
}

/* Seconds of one pass over n panels, the best of several. */
static double pass_seconds(linear_panel_fn fn, const uint8_t *panels, size_t n, size_t bytes, const cpu_act *x,
                           uint32_t n_col, int rounds) {
    static float acc[MAX_COL * 16];
    double best = 1e9;
    for (int r = 0; r < rounds; r++) {
        const double from = seconds();
        for (size_t j = 0; j < n; j++) fn(acc, panels + j * bytes, K, x, 0, n_col);
        const double s = seconds() - from;
        if (s < best) best = s;
    }
    return best;
}

static double pack_seconds(uint8_t *panels, size_t n, size_t bytes, const uint8_t *rows, size_t stride,
                           quant_type type) {
    double best = 1e9;
    for (int r = 0; r < 3; r++) {
        const double from = seconds();
        for (size_t j = 0; j < n; j++) panel_pack(panels + j * bytes, rows + j * 16 * stride, stride, 16, type, K);
        const double s = seconds() - from;
        if (s < best) best = s;
    }
    return best;
}

static void bench(const cpu_ops *ops, quant_type type, uint8_t *panels, const uint8_t *rows, uint32_t n_tok) {
    const linear_panel_fn fn = ops->linear_panel[type];
    const quant_info *q = quant_lookup(type);
    const size_t bytes = panel_bytes(type, K), stride = K / q->block_elems * q->block_bytes;
    const size_t n[2] = {SMALL / bytes, LARGE / bytes};
    cpu_act x;
    if (!fn || !act_open(&x, n_tok, q->block_elems)) return;
    const double pack = pack_seconds(panels, n[1], bytes, rows, stride, type);
    for (int i = 0; i < 2; i++) {
        const double one = pass_seconds(fn, panels, n[i], bytes, &x, 1, i ? 6 : 1000);
        const double many = pass_seconds(fn, panels, i ? n[1] / 8 : n[0], bytes, &x, MAX_COL, i ? 3 : 100);
        const double ops_many = 2.0 * K * 16 * MAX_COL * (double)(i ? n[1] / 8 : n[0]);
        printf("%s,%s,%s,%.1f,%.0f,%.1f\n", ops->name, q->name, i ? "memory" : "L2",
               (double)(n[i] * bytes) / one * 1e-9, ops_many / many * 1e-9, (double)(n[1] * 16 * stride) / pack * 1e-9);
        fflush(stdout);
    }
    act_close(&x);
}

int main(int argc, char **argv) {
    const char *tier_name = argc > 1 ? argv[1] : "all", *type_name = argc > 2 ? argv[2] : "all";
    const uint32_t n_tok = argc > 3 && atoi(argv[3]) >= MAX_COL ? (uint32_t)atoi(argv[3]) : MAX_COL;
    uint8_t *panels = mem_map(LARGE), *rows = mem_map(LARGE);
    if (!panels || !rows) return 1;
    fill(rows, LARGE);
    printf("tier,type,panels,GB/s 1 column,GOPS 64 columns,GB/s pack\n");
    for (cpu_tier t = TIER_AVX2; t <= cpu_tier_best(); t++) {
        cpu_ops ops = {.name = t == TIER_AVX2 ? "avx2" : "avx512"};
        if (t == TIER_AVX2)
            cpu_ops_avx2_linear(&ops);
        else
            cpu_ops_avx512_linear(&ops);
        if (strcmp(tier_name, "all") != 0 && strcmp(tier_name, ops.name) != 0) continue;
        for (int i = 0; i < N_TYPES; i++)
            if (strcmp(type_name, "all") == 0 || strcmp(type_name, quant_lookup(types[i])->name) == 0)
                bench(&ops, types[i], panels, rows, n_tok);
    }
    mem_unmap(panels, LARGE);
    mem_unmap(rows, LARGE);
    return 0;
}
