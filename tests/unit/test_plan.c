/* Placement and packing: no two values alive together overlap, every node finds its inputs on its device, and what comes out
 * of planned memory on one, two or three devices has the bits of the plain graph. */
#include "check.h"

#include "base/rng.h"
#include "graph/plan.h"
#include "graph_eval.h"
#include "graph_sample.h"

static sample_file file;
static err e;
static const eval_step step = {.n_tok = 9, .n_out = 3, .token = {1, 5, 7, 40, 3, 2, 1, 0, 9}, .out_row = {8, 2, 5}};

static bool can_all(const void *ctx, const node *n) {
    (void)ctx, (void)n;
    return true;
}
static bool can_not(const void *ctx, const node *n) { return n->op != *(const graph_op *)ctx; }

static void llama(graph *g, unsigned mask) {
    graph_init(g, &e);
    sample_llama(g, &file, QUANT_Q8_0);
    if (graph_optimise(g, mask, NULL, NULL, &e)) fail_msg("%s", e.text);
}

static int tear_down(void **state) {
    (void)state;
    sample_free(&file);
    return 0;
}

/* --- the checks */

static const node *storage(const node *n) { return n->op == OP_VIEW ? storage(n->in[0]) : n; }

/* Pairwise and from the definition: alive from its place in the order to the last reader, views read for their parent. */
static void check_no_overlap(const plan *p) {
    uint32_t *last = calloc(p->n_order, sizeof *last);
    for (uint32_t i = 0; i < p->n_order; i++) {
        for (uint32_t j = i; j < p->n_order; j++)
            for (uint32_t k = 0; k < p->order[j]->n_in; k++)
                if (storage(p->order[j]->in[k]) == p->order[i]) last[i] = j;
        if (last[i] < i) last[i] = i;
        if (storage(p->g->result) == p->order[i]) last[i] = p->n_order;
    }
    for (uint32_t i = 0; i < p->n_order; i++) {
        const node *a = p->order[i];
        const plan_buffer *x = &p->buffer[a->id];
        if (a->op != OP_VIEW) assert_true(x->offset % 64 == 0 && x->offset + x->n_bytes <= p->act_bytes[a->device]);
        for (uint32_t j = i + 1; j < p->n_order; j++) {
            const plan_buffer *y = &p->buffer[p->order[j]->id];
            if (a->device != p->order[j]->device || j > last[i] || !x->n_bytes || !y->n_bytes) continue;
            if (x->offset < y->offset + y->n_bytes && y->offset < x->offset + x->n_bytes)
                fail_msg("%u and %u overlap", a->id, p->order[j]->id);
        }
    }
    free(last);
}

static void check_sizes(const plan *p) {
    for (uint32_t i = 0; i < p->n_order; i++) {
        const node *n = p->order[i];
        const plan_buffer *b = &p->buffer[n->id];
        uint32_t rows = n->rows == ROWS_TOK ? p->max_tok : n->rows == ROWS_OUT ? p->max_out : 1;
        if (n->op == OP_VIEW) {
            const plan_buffer *from = &p->buffer[n->in[0]->id];
            assert_true(b->offset == from->offset + n->p.view.offset * 4 && b->stride == from->stride &&
                        b->n_bytes == 0);
        } else {
            assert_true(b->n_bytes == rows * graph_row_bytes(n->dtype, n->width));
            assert_true(b->stride == graph_row_bytes(n->dtype, n->width));
        }
    }
}

static void check_segments(const plan *p) {
    uint32_t at = 0;
    for (uint32_t i = 0; i < p->n_segments; i++) {
        const plan_segment *s = &p->segment[i];
        assert_true(s->first == at && s->n > 0);
        for (uint32_t k = 0; k < s->n; k++) {
            assert_int_equal(p->order[at + k]->device, s->device);
            if (p->order[at + k]->op == OP_COPY) assert_int_equal(s->n, 1);
        }
        at += s->n;
    }
    assert_int_equal(at, p->n_order);
}

static void check_cache_layers(const graph *g) {
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i]->op == OP_ATTENTION) assert_int_equal(g->nodes[i]->device, g->nodes[i]->in[1]->device);
}

static void check_plan(const plan *p) {
    check_no_overlap(p);
    check_sizes(p);
    check_segments(p);
    check_cache_layers(p->g);
}

/* --- random */

static uint32_t by_dice(void *ctx, const node *n) {
    const uint64_t *seed_and_n = ctx;
    return (uint32_t)(rng_u64(seed_and_n[0], n->id) % seed_and_n[1]);
}

static void plan_randomly(sample_file *f, uint64_t seed, uint32_t n_dev, const float *want, size_t n_bytes) {
    graph g;
    plan p;
    graph_init(&g, &e);
    sample_random(&g, f, seed, 16);
    unsigned mask = seed % 3 ? PASS_ALL : (unsigned)(rng_u64(98, seed) % (PASS_ALL + 1));
    plan_device dev[3] = {{"a", can_all, NULL, NULL}, {"b", can_all, NULL, NULL}, {"c", can_all, NULL, NULL}};
    uint64_t dice[2] = {seed, n_dev};
    plan_options opt = {.choose = by_dice, .choose_ctx = dice, .max_tok = 9 + seed % 5, .max_out = 3 + seed % 3};
    if (graph_optimise(&g, mask, NULL, NULL, &e) || plan_place(&g, dev, n_dev, &opt, &e) ||
        plan_make(&p, &g, n_dev, &opt, &e))
        fail_msg("seed %d: %s", (int)seed, e.text);
    check_plan(&p);
    float *got = eval_plan(&p, &step);
    if (memcmp(got, want, n_bytes) != 0) fail_msg("seed %d on %u devices: other bits", (int)seed, n_dev);
    free(got);
    plan_free(&p);
    graph_free(&g);
}

static void test_planned_memory_keeps_every_bit(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 90; seed++) {
        sample_file f = {.seed = seed};
        graph g;
        graph_init(&g, &e);
        sample_random(&g, &f, seed, 16);
        float *want = eval_graph(&g, &step);
        size_t n_bytes = step.n_out * g.result->width * sizeof *want;
        for (uint32_t n_dev = 1; n_dev <= 3; n_dev++) plan_randomly(&f, seed, n_dev, want, n_bytes);
        free(want);
        graph_free(&g);
        sample_free(&f);
    }
}

/* --- packing */

static void test_memory_is_used_again(void **state) {
    (void)state;
    graph g;
    plan p;
    llama(&g, PASS_ALL);
    plan_options opt = {.max_tok = 100, .max_out = 4};
    assert_int_equal(plan_make(&p, &g, 1, &opt, &e), OK);
    check_plan(&p);
    size_t sum = 0, widest = 0;
    for (uint32_t i = 0; i < p.n_order; i++) {
        sum += p.buffer[p.order[i]->id].n_bytes;
        if (p.order[i]->width > widest) widest = p.order[i]->width;
    }
    assert_true(p.act_bytes[0] < sum / 2 &&
                p.act_bytes[0] >= widest * 400); /* the widest value and its input at least */
    assert_true(p.n_segments == 1 && p.act_bytes[1] == 0);
    size_t small = p.act_bytes[0];
    plan_free(&p);
    opt.max_tok = 200;
    assert_int_equal(plan_make(&p, &g, 1, &opt, &e), OK);
    assert_true(p.act_bytes[0] > small * 19 / 10 && p.act_bytes[0] < small * 21 / 10);
    plan_free(&p);
    plan_free(&p);
    graph_free(&g);
}

static void test_what_cannot_be_planned(void **state) {
    (void)state;
    graph g;
    plan p;
    llama(&g, PASS_ALL);
    plan_options opt = {.max_tok = 0, .max_out = 1};
    assert_int_equal(plan_make(&p, &g, 1, &opt, &e), ERR_RANGE);
    opt = (plan_options){.max_tok = 1, .max_out = 0};
    assert_int_equal(plan_make(&p, &g, 1, &opt, &e), ERR_RANGE);
    opt = (plan_options){.max_tok = 1, .max_out = 1};
    assert_int_equal(plan_make(&p, &g, 0, &opt, &e), ERR_RANGE);
    assert_int_equal(plan_make(&p, &g, PLAN_MAX_DEVICES + 1, &opt, &e), ERR_RANGE);
    g.nodes[g.n_nodes - 1]->device = 1; /* its input is on 0 */
    assert_int_equal(plan_make(&p, &g, 2, &opt, &e), ERR_GRAPH);
    assert_int_equal(plan_make(&p, &g, 1, &opt, &e), ERR_GRAPH);
    g.nodes[g.n_nodes - 1]->device = 0;
    g.result->width++;
    assert_int_equal(plan_make(&p, &g, 1, &opt, &e), ERR_GRAPH);
    graph_free(&g);
}

static void test_a_graph_nobody_optimised(void **state) {
    (void)state;
    graph g;
    plan p;
    graph_init(&g, &e);
    sample_llama(&g, &file, QUANT_Q8_0);
    node *idle = graph_add1(&g, OP_SILU, NULL, "idle", g.nodes[4]);
    plan_options opt = {.max_tok = 9, .max_out = 3};
    assert_int_equal(plan_make(&p, &g, 1, &opt, &e), OK);
    check_plan(&p);
    for (uint32_t i = 0; i < p.n_order; i++) assert_true(p.order[i] != idle && p.order[i]->op != OP_WEIGHT);
    plan_free(&p);
    graph_free(&g);
}

/* --- strategies */

static uint32_t count_on(const graph *g, uint32_t device, graph_op op) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        n += g->nodes[i]->device == device && g->nodes[i]->op != OP_WEIGHT && (op == OP_COUNT || g->nodes[i]->op == op);
    return n;
}

static void test_first_and_last(void **state) {
    (void)state;
    static const graph_op no_linear = OP_LINEAR;
    plan_device dev[2] = {{"gpu", can_not, NULL, &no_linear}, {"cpu", can_all, NULL, NULL}};
    graph g;
    llama(&g, PASS_ALL);
    plan_options opt = {.strategy = PLACE_FIRST};
    assert_int_equal(plan_place(&g, dev, 2, &opt, &e), OK);
    assert_true(count_on(&g, 0, OP_LINEAR) == 0 && count_on(&g, 1, OP_LINEAR) == 9);
    assert_true(count_on(&g, 0, OP_ATTENTION) == 2 &&
                count_on(&g, 1, OP_NORM_QUANTIZE) == 5); /* made where it is used */
    opt.strategy = PLACE_LAST;                           /* placing again forgets the copies */
    assert_int_equal(plan_place(&g, dev, 2, &opt, &e), OK);
    assert_true(count_on(&g, 0, OP_COUNT) == 0 && count_on(&g, 1, OP_COPY) == 0);
    graph_free(&g);
}

static void test_only(void **state) {
    (void)state;
    static const graph_op no_rope = OP_ROPE;
    plan_device dev[2] = {{"gpu", can_not, NULL, &no_rope}, {"cpu", can_all, NULL, NULL}};
    graph g;
    llama(&g, PASS_ALL);
    plan_options opt = {.strategy = PLACE_ONLY, .only = 1};
    assert_int_equal(plan_place(&g, dev, 2, &opt, &e), OK);
    assert_int_equal(count_on(&g, 0, OP_COUNT), 0);
    opt.only = 0;
    assert_int_equal(plan_place(&g, dev, 2, &opt, &e), ERR_UNSUPPORTED);
    assert_true(strstr(e.text, "rope") && strstr(e.text, "gpu"));
    opt.only = 2;
    assert_int_equal(plan_place(&g, dev, 2, &opt, &e), ERR_UNSUPPORTED);
    opt = (plan_options){.strategy = PLACE_FIRST};
    assert_int_equal(plan_place(&g, dev, 1, &opt, &e), ERR_UNSUPPORTED); /* nobody else there */
    assert_int_equal(plan_place(&g, dev, 0, &opt, &e), ERR_RANGE);
    graph_free(&g);
}

/* An attention that a device cannot run takes its append, the writer of its cache, along. */
static void test_append_follows_its_attention(void **state) {
    (void)state;
    static const graph_op no_attention = OP_ATTENTION;
    plan_device dev[2] = {{"gpu", can_not, NULL, &no_attention}, {"cpu", can_all, NULL, NULL}};
    graph g;
    llama(&g, PASS_ALL);
    plan_options opt = {.strategy = PLACE_FIRST};
    assert_int_equal(plan_place(&g, dev, 2, &opt, &e), OK);
    assert_true(count_on(&g, 1, OP_ROPE_APPEND) == 2 && count_on(&g, 1, OP_ATTENTION) == 2);
    assert_int_equal(count_on(&g, 1, OP_LINEAR), 0);
    graph_free(&g);
}

static double fast_linear(const void *ctx, const node *n) {
    double copy = *(const double *)ctx;
    return n->op == OP_LINEAR ? 1 : n->op == OP_COPY ? copy : 10;
}
static double even(const void *ctx, const node *n) {
    double copy = *(const double *)ctx;
    return n->op == OP_LINEAR ? 20 : n->op == OP_COPY ? copy : 2;
}

static void test_automatic_weighs_copies(void **state) {
    (void)state;
    double cheap = 0.5, dear = 1000;
    graph g;
    llama(&g, PASS_ALL);
    plan_options opt = {.strategy = PLACE_AUTOMATIC};
    plan_device dev[2] = {{"a", can_all, fast_linear, &cheap}, {"b", can_all, even, &cheap}};
    assert_int_equal(plan_place(&g, dev, 2, &opt, &e), OK);
    assert_true(count_on(&g, 0, OP_LINEAR) == 9 && count_on(&g, 1, OP_ATTENTION) == 2);
    dev[0].ctx = dev[1].ctx = &dear;
    assert_int_equal(plan_place(&g, dev, 2, &opt, &e), OK);
    assert_int_equal(count_on(&g, 0, OP_COPY) + count_on(&g, 1, OP_COPY), 0);
    graph_free(&g);
}

/* Copies: once a device; never of weights, of the step's arrays, of quantised activations or of views. */
static void test_copies_are_few(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed < 40; seed++) {
        graph g;
        llama(&g, PASS_ALL);
        uint64_t dice[2] = {seed, 3};
        plan_device dev[3] = {{"a", can_all, NULL, NULL}, {"b", can_all, NULL, NULL}, {"c", can_all, NULL, NULL}};
        plan_options opt = {.choose = by_dice, .choose_ctx = dice};
        assert_int_equal(plan_place(&g, dev, 3, &opt, &e), OK);
        for (uint32_t i = 0; i < g.n_nodes; i++) {
            const node *n = g.nodes[i];
            if (n->op == OP_VIEW) assert_int_equal(n->device, n->in[0]->device);
            if (n->op != OP_COPY) continue;
            assert_true(n->dtype == DTYPE_F32 && n->in[0]->op != OP_VIEW && n->in[0]->op != OP_COPY);
            for (uint32_t j = 0; j < i; j++)
                assert_false(g.nodes[j]->op == OP_COPY && g.nodes[j]->in[0] == n->in[0] &&
                             g.nodes[j]->device == n->device);
        }
        graph_free(&g);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_planned_memory_keeps_every_bit),
        cmocka_unit_test(test_memory_is_used_again),
        cmocka_unit_test(test_what_cannot_be_planned),
        cmocka_unit_test(test_a_graph_nobody_optimised),
        cmocka_unit_test(test_first_and_last),
        cmocka_unit_test(test_only),
        cmocka_unit_test(test_append_follows_its_attention),
        cmocka_unit_test(test_automatic_weighs_copies),
        cmocka_unit_test(test_copies_are_few),
    };
    return cmocka_run_group_tests_name("plan", tests, NULL, tear_down);
}
