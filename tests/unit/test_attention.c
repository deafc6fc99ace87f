/* Attention by hand: a graph of one attention alone, against the textbook formula in double precision; deep enough that its
 * chunks are computed apart by several threads, with and without sinks, softcap and windows, and equal bits in every tier. */
#include "check.h"

#include <math.h>

#include "backend/cpu/cpu.h"
#include "base/rng.h"
#include "exec/exec.h"
#include "heap_calls.h"

enum {
    H_D = 32,
    H_KV = 2,
    H_GROUP = 3,
    H_HEADS = H_KV * H_GROUP,
    H_OUT = H_HEADS * H_D,
    H_VOCAB = 50,
    H_DEEP = 900,
    PAGE = 16
};

typedef struct {
    gguf_tensor embed, q, k, v, sinks;
    float embed_data[H_VOCAB * H_D], q_data[H_D * H_OUT], k_data[H_D * H_KV * H_D], v_data[H_D * H_KV * H_D],
        sink_data[H_HEADS];
    uint32_t window, ahead;
    float softcap, alibi;
    bool with_sinks;
} hand_model;

static void fill_tensor(gguf_tensor *t, const char *name, float *data, uint64_t d0, uint64_t d1, uint64_t seed,
                        float amplitude) {
    *t = (gguf_tensor){.name = {name, strlen(name)},
                       .n_dims = d1 > 1 ? 2 : 1,
                       .dim = {d0, d1, 1, 1},
                       .type = QUANT_F32,
                       .data = (const uint8_t *)data,
                       .n_bytes = d0 * d1 * 4};
    for (uint64_t i = 0; i < d0 * d1; i++) data[i] = (float)(rng_unit(seed, i) * 2 - 1) * amplitude;
}

static void hand_model_make(hand_model *m) {
    fill_tensor(&m->embed, "embed", m->embed_data, H_D, H_VOCAB, 1, 1.0f);
    fill_tensor(&m->q, "q", m->q_data, H_D, H_OUT, 2, 1.0f);
    fill_tensor(&m->k, "k", m->k_data, H_D, H_KV * H_D, 3, 0.6f);
    fill_tensor(&m->v, "v", m->v_data, H_D, H_KV * H_D, 4, 0.6f);
    fill_tensor(&m->sinks, "sinks", m->sink_data, H_HEADS, 1, 5, 6.0f);
}

static const float H_SCALE = 0.3f;

static status hand_graph(graph *g, const hand_model *m, err *e) {
    graph_init(g, e);
    g->layer = 0;
    node *tokens = graph_add(g, OP_TOKENS, NULL, "tokens", 0, NULL),
         *rows = graph_add(g, OP_OUT_ROWS, NULL, "rows", 0, NULL);
    node *x = graph_add2(g, OP_GET_ROWS, NULL, "x", graph_weight(g, &m->embed, "embed"), tokens);
    node *q = graph_add2(g, OP_LINEAR, NULL, "q", x, graph_weight(g, &m->q, "wq"));
    node *k = graph_add2(g, OP_LINEAR, NULL, "k", x, graph_weight(g, &m->k, "wk"));
    node *v = graph_add2(g, OP_LINEAR, NULL, "v", x, graph_weight(g, &m->v, "wv"));
    graph_params p = {.attn = {.n_head = H_HEADS,
                               .n_kv_head = H_KV,
                               .d_k = H_D,
                               .d_v = H_D,
                               .window = m->window,
                               .ahead = m->ahead,
                               .alibi = m->alibi,
                               .scale = H_SCALE,
                               .softcap = m->softcap}};
    node *append = graph_add2(g, OP_KV_APPEND, &p, "append", k, v);
    node *a = m->with_sinks ? graph_add3(g, OP_ATTENTION, &p, "a", q, append, graph_weight(g, &m->sinks, "sinks"))
                            : graph_add2(g, OP_ATTENTION, &p, "a", q, append);
    g->result = graph_add2(g, OP_TAKE_ROWS, NULL, "out", a, rows);
    return g->failed;
}

typedef struct {
    graph g;
    plan p;
    kv_layout kv;
    kv_layer layer;
    backend *b;
    uint32_t pages[H_DEEP / PAGE + 1];
} hand_rig;

static bool yes(const void *ctx, const node *n) {
    (void)ctx, (void)n;
    return true;
}

static void hand_open(hand_rig *h, const hand_model *m, uint32_t threads, int tier) {
    err e = {0};
    plan_device dev = {.name = "cpu", .supports = yes};
    plan_options po = {.max_tok = H_DEEP, .max_out = H_DEEP};
    cpu_options opt = {.n_threads = threads, .tier = tier};
    h->layer = (kv_layer){.n_kv_head = H_KV, .d_k = H_D, .d_v = H_D};
    h->kv = (kv_layout){.layer = &h->layer,
                        .n_layers = 1,
                        .page_tokens = PAGE,
                        .n_pages = H_DEEP / PAGE + 1,
                        .type_k = QUANT_F32,
                        .type_v = QUANT_F32};
    status s = hand_graph(&h->g, m, &e);
    if (!s) s = plan_place(&h->g, &dev, 1, &po, &e);
    if (!s) s = plan_make(&h->p, &h->g, 1, &po, &e);
    if (!s) s = kv_layout_make(&h->kv, &e);
    if (!s) s = cpu_backend_open(&h->b, &opt, &e);
    if (!s) s = h->b->ops->load(h->b, &h->p, 0, &h->kv, NULL, NULL, &e);
    if (s) fail_msg("%s", e.text);
    for (uint32_t i = 0; i < H_DEEP / PAGE + 1; i++) h->pages[i] = H_DEEP / PAGE - i;
}

static void hand_close(hand_rig *h) {
    h->b->ops->close(h->b);
    plan_free(&h->p);
    graph_free(&h->g);
}

/* Positions [from, from + n) of one sequence; rows of the result into out [n][H_OUT]. */
static void hand_step(hand_rig *h, uint32_t from, uint32_t n, float *out) {
    static int32_t token[H_DEEP], pos[H_DEEP];
    static uint32_t seq[H_DEEP];
    const uint32_t *table[1] = {h->pages};
    for (uint32_t i = 0; i < n; i++) {
        token[i] = (int32_t)(rng_u64(9, from + i) % H_VOCAB);
        pos[i] = (int32_t)(from + i);
        seq[i] = 0;
    }
    static int32_t rows[H_DEEP];
    for (uint32_t i = 0; i < n; i++) rows[i] = (int32_t)i;
    step_input in = {.n_tok = n,
                     .n_out = n,
                     .n_seq = 1,
                     .token = token,
                     .pos = pos,
                     .seq = seq,
                     .out_row = rows,
                     .page_table = table};
    for (uint32_t i = 0; i < h->p.n_segments; i++)
        assert_int_equal(h->b->ops->run(h->b, &h->p.segment[i], &in, NULL), OK);
    assert_int_equal(h->b->ops->wait(h->b, NULL), OK);
    assert_int_equal(h->b->ops->read(h->b, h->g.result, n, out, NULL), OK);
}

/* ALiBi, 8 for six heads: those of four heads, 2^-2 .. 2^-8, then the odd ones of eight. */
static const double slopes_of_6[H_HEADS] = {1.0 / 4, 1.0 / 16, 1.0 / 64, 1.0 / 256, 1.0 / 2, 1.0 / 8};

/* Attention as the textbook has it, in double. */
static void textbook(const hand_model *m, uint32_t pos, double out[H_OUT]) {
    static double score[H_DEEP + 1];
    uint32_t first = m->window && pos >= m->window ? pos - m->window + 1 : 0;
    uint32_t last = m->ahead < H_DEEP - 1 - pos ? pos + m->ahead : H_DEEP - 1;
    for (uint32_t head = 0; head < H_HEADS; head++) {
        const float *wq = m->q_data + (size_t)head * H_D * H_D,
                    *x = m->embed_data + (size_t)(rng_u64(9, pos) % H_VOCAB) * H_D;
        const float *wk = m->k_data + (size_t)(head / H_GROUP) * H_D * H_D,
                    *wv = m->v_data + (size_t)(head / H_GROUP) * H_D * H_D;
        double q[H_D], qk[H_D], sum = 0, max = -INFINITY;
        for (uint32_t i = 0; i < H_D; i++) {
            q[i] = 0;
            for (uint32_t j = 0; j < H_D; j++) q[i] += (double)wq[i * H_D + j] * (double)x[j];
        }
        for (uint32_t j = 0; j < H_D; j++) { /* q . (Wk y) = (Wk^T q) . y */
            qk[j] = 0;
            for (uint32_t i = 0; i < H_D; i++) qk[j] += q[i] * (double)wk[i * H_D + j];
        }
        double slope = (double)m->alibi > 0 ? slopes_of_6[head] : 0;
        for (uint32_t t = first; t <= last; t++) {
            const float *y = m->embed_data + (size_t)(rng_u64(9, t) % H_VOCAB) * H_D;
            score[t] = 0;
            for (uint32_t j = 0; j < H_D; j++) score[t] += qk[j] * (double)y[j];
            score[t] *= (double)H_SCALE;
            score[t] -= slope * fabs((double)t - pos);
            if (m->softcap > 0) score[t] = (double)m->softcap * tanh(score[t] / (double)m->softcap);
            max = fmax(max, score[t]);
        }
        if (m->with_sinks) max = fmax(max, (double)m->sink_data[head]);
        double mix[H_D] = {0};
        for (uint32_t t = first; t <= last; t++) {
            const float *y = m->embed_data + (size_t)(rng_u64(9, t) % H_VOCAB) * H_D;
            double w = exp(score[t] - max);
            sum += w;
            for (uint32_t j = 0; j < H_D; j++) mix[j] += w * (double)y[j];
        }
        if (m->with_sinks) sum += exp((double)m->sink_data[head] - max);
        for (uint32_t i = 0; i < H_D; i++) {
            double o = 0;
            for (uint32_t j = 0; j < H_D; j++) o += (double)wv[i * H_D + j] * mix[j];
            out[head * H_D + i] = o / sum;
        }
    }
}

/* The last token of a long past, alone in its step: with several threads its chunks are computed apart. */
static void check_hand_model(const hand_model *m) {
    static float all[H_DEEP * H_OUT], again[H_DEEP * H_OUT], row[H_OUT];
    static double want[H_OUT];
    hand_rig h = {0};
    hand_open(&h, m, 1, TIER_SCALAR);
    hand_step(&h, 0, H_DEEP, all);
    hand_close(&h);
    for (uint32_t pos = 0; pos < H_DEEP; pos += 61) {
        textbook(m, pos, want);
        for (uint32_t i = 0; i < H_OUT; i++)
            if (fabs((double)all[pos * H_OUT + i] - want[i]) > 2e-4)
                fail_msg("position %u, output %u: %g, the textbook says %g", pos, i, (double)all[pos * H_OUT + i],
                         want[i]);
    }
    for (int tier = TIER_SCALAR; tier <= (int)cpu_tier_best(); tier++)
        for (uint32_t threads = 2; threads <= (tier == TIER_SCALAR ? 2 : 4); threads += 2) {
            memset(&h, 0, sizeof h);
            hand_open(&h, m, threads, tier);
            hand_step(&h, 0, H_DEEP, again);
            assert_memory_equal(again, all, sizeof all);
            for (uint32_t pos = 400; pos < H_DEEP && !m->ahead; pos += 13) { /* who looks ahead needs the whole step */
                hand_step(&h, pos, 1, row);
                if (memcmp(row, all + pos * H_OUT, sizeof row) != 0)
                    fail_msg("position %u alone, %u threads, tier %d: other bits", pos, threads, tier);
            }
            hand_close(&h);
        }
}

static void test_attention_by_hand(void **state) {
    (void)state;
    static hand_model m;
    hand_model_make(&m);
    if (!check_sanitized()) check_hand_model(&m);
    m.with_sinks = true;
    check_hand_model(&m);
    m.softcap = 5.0f, m.window = 300;
    check_hand_model(&m);
    m.with_sinks = false, m.window = 700;
    if (!check_sanitized()) check_hand_model(&m);
}

/* Encoders: all keys, a window to both sides, ALiBi to both sides. */
static void test_attention_that_looks_ahead(void **state) {
    (void)state;
    static hand_model m;
    hand_model_make(&m);
    m.ahead = ATTN_SEES_ALL;
    check_hand_model(&m);
    m.alibi = 8.0f;
    check_hand_model(&m);
    m.alibi = 0.0f;
    for (m.ahead = 1; m.ahead < 400; m.ahead = m.ahead * 4 + 3) {
        m.window = m.ahead + 1;
        check_hand_model(&m);
        if (check_sanitized()) break;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_attention_by_hand),
                                       cmocka_unit_test(test_attention_that_looks_ahead)};
    return cmocka_run_group_tests_name("attention", tests, NULL, NULL);
}
