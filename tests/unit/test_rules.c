/* Every rule once where it applies and once where it must not; then random graphs: whatever passes run, the same bits. */
#include "check.h"

#include "base/rng.h"
#include "graph/rewrite.h"
#include "graph_eval.h"
#include "graph_sample.h"

static sample_file file;
static graph g;
static err e;
static node *x, *y, *pos, *out_rows; /* [T, 256] twice */

static const gguf_tensor *tensor(quant_type type, uint64_t k, uint64_t m, uint64_t n_expert) {
    return sample_tensor(&file, type, "t", k, m, n_expert);
}

static node *weight(quant_type type, uint64_t k, uint64_t m) { return graph_weight(&g, tensor(type, k, m, 1), "w"); }

static int set_up(void **state) {
    (void)state;
    graph_init(&g, &e);
    file.seed = 5;
    node *tokens = graph_add(&g, OP_TOKENS, NULL, "tokens", 0, NULL);
    pos = graph_add(&g, OP_POSITIONS, NULL, "positions", 0, NULL);
    out_rows = graph_add(&g, OP_OUT_ROWS, NULL, "out_rows", 0, NULL);
    x = graph_add2(&g, OP_GET_ROWS, NULL, "x", weight(QUANT_F32, 256, SAMPLE_VOCAB), tokens);
    y = graph_add2(&g, OP_GET_ROWS, NULL, "y", weight(QUANT_F32, 256, SAMPLE_VOCAB), tokens);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    graph_free(&g);
    sample_free(&file);
    return 0;
}

static node *linear(quant_type type, node *in, uint64_t m) {
    return graph_add2(&g, OP_LINEAR, NULL, "linear", in, weight(type, in->width, m));
}
static node *add(node *a, node *b) { return graph_add2(&g, OP_ADD, NULL, "add", a, b); }
static node *one(graph_op op, node *a) { return graph_add1(&g, op, NULL, graph_op_name(op), a); }
static node *norm(node *a) {
    return graph_add2(&g, OP_RMS_NORM, &(graph_params){.norm = {1e-5f, a->width, 0}}, "norm", a,
                      weight(QUANT_F32, a->width, 1));
}

static uint32_t count(graph_op op) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < g.n_nodes; i++) n += g.nodes[i]->op == op && g.nodes[i]->n_uses > 0;
    return n;
}

static const eval_step step = {.n_tok = 9, .n_out = 3, .token = {1, 5, 7, 40, 3, 2, 1, 0, 9}, .out_row = {8, 2, 5}};

static bool same_bits(float *a, float *b, const node *result) {
    size_t rows = result->rows == ROWS_OUT ? step.n_out : step.n_tok;
    bool same = memcmp(a, b, rows * result->width * sizeof *a) == 0;
    free(a);
    free(b);
    return same;
}

/* Runs one table over the graph; how often `rule` applied. The result's bits must stay. */
static uint32_t run(const graph_rule *rules, const char *rule, node *result) {
    graph_stat stats[GRAPH_MAX_STATS];
    if (g.failed) fail_msg("%s", e.text);
    g.result = result;
    float *before = eval_graph(&g, &step);
    if (rewrite_run(&g, rules, stats, &e)) fail_msg("%s", e.text);
    assert_true(same_bits(before, eval_graph(&g, &step), g.result));
    for (uint32_t i = 0; rules[i].name; i++)
        if (strcmp(rules[i].name, rule) == 0) return stats[i].applied;
    fail_msg("no rule %s", rule);
    return 0;
}

/* --- no-ops */

static void test_scale_by_one(void **state) {
    (void)state;
    node *s1 = graph_add1(&g, OP_SCALE, &(graph_params){.f = 1}, "", x);
    node *s2 = graph_add1(&g, OP_SCALE, &(graph_params){.f = 0.5f}, "", s1);
    assert_int_equal(run(rules_noop, "scale_by_one", s2), 1);
    assert_true(s2->in[0] == x && g.result == s2);
}

static void test_views(void **state) {
    (void)state;
    node *all = graph_add1(&g, OP_VIEW, &(graph_params){.view = {0, 256}}, "", x);
    node *part = graph_add1(&g, OP_VIEW, &(graph_params){.view = {64, 128}}, "", all);
    node *inner = graph_add1(&g, OP_VIEW, &(graph_params){.view = {32, 64}}, "", part);
    assert_int_equal(run(rules_noop, "view_of_all", add(inner, inner)), 1);
    const node *v = g.result->in[0];
    assert_true(v->op == OP_VIEW && v->in[0] == x && v->p.view.offset == 96 && v->width == 64);
    tear_down(NULL), set_up(NULL);
    node *left = graph_add1(&g, OP_VIEW, &(graph_params){.view = {0, 128}}, "", x);
    assert_int_equal(run(rules_noop, "view_of_all", left), 0);
    assert_int_equal(run(rules_noop, "view_of_view", left), 0);
}

/* --- CSE */

static void test_cse_merges_the_same(void **state) {
    (void)state;
    node *w = weight(QUANT_F32, 256, 256);
    node *a = graph_add2(&g, OP_LINEAR, NULL, "a", x, w), *b = graph_add2(&g, OP_LINEAR, NULL, "b", x, w);
    assert_int_equal(run(rules_cse, "cse", add(one(OP_SILU, a), one(OP_SILU, b))), 2); /* and then the silus */
    assert_true(g.result->in[0] == g.result->in[1] && count(OP_LINEAR) == 1);
}

/* The older project's CSE merged nodes of equal shape whose inputs differed. Nothing here is equal. */
static void test_cse_keeps_equal_shapes_apart(void **state) {
    (void)state;
    node *w = weight(QUANT_F32, 256, 256), *w2 = weight(QUANT_F32, 256, 256);
    node *sum = add(graph_add2(&g, OP_LINEAR, NULL, "", x, w), graph_add2(&g, OP_LINEAR, NULL, "", y, w)); /* inputs */
    sum = add(sum, graph_add2(&g, OP_LINEAR, NULL, "", x, w2));                                            /* weights */
    sum = add(sum, graph_add1(&g, OP_SCALE, &(graph_params){.f = 2}, "", x));                              /* params */
    sum = add(sum, graph_add1(&g, OP_SCALE, &(graph_params){.f = 3}, "", x));
    sum = add(sum, one(OP_SILU, x)); /* ops */
    sum = add(sum, one(OP_GELU, x));
    node *halves[2];
    for (uint32_t i = 0; i < 2; i++)
        halves[i] = graph_add1(&g, OP_VIEW, &(graph_params){.view = {128 * i, 128}}, "", x);
    node *product = graph_add2(&g, OP_MUL, NULL, "", halves[0], halves[1]);
    sum = add(linear(QUANT_F32, product, 256), sum);
    sum = add(graph_add2(&g, OP_ADD, NULL, "", x, sum), graph_add2(&g, OP_ADD, NULL, "", sum, x)); /* order */
    assert_int_equal(run(rules_cse, "cse", sum), 0);
}

/* --- lowering */

static void test_quantize_before_linears(void **state) {
    (void)state;
    node *sum = add(linear(QUANT_Q8_0, x, 256), linear(QUANT_Q4_0, x, 256));
    sum = add(linear(QUANT_Q6_K, x, 256), sum);
    assert_int_equal(run(rules_lower, "quantize_linear", sum), 3);
    assert_int_equal(count(OP_QUANTIZE), 2); /* one q8 for two linears, one q8k */
    assert_int_equal(run(rules_lower, "quantize_linear", g.result), 0);
}

static void test_float_weights_and_tables_stay(void **state) {
    (void)state;
    node *tokens = x->in[1], *table = weight(QUANT_Q8_0, 256, SAMPLE_VOCAB);
    node *sum = add(linear(QUANT_F32, x, 256), graph_add2(&g, OP_GET_ROWS, NULL, "", table, tokens));
    assert_int_equal(run(rules_lower, "quantize_linear", sum), 0);
}

static node *experts(quant_type type, node *in, uint32_t per_slot, node *route) {
    graph_params p = {.expert = {2, per_slot}};
    node *w = graph_weight(&g, tensor(type, per_slot ? in->width / 2 : in->width, 64, 4), "experts");
    return graph_add3(&g, OP_LINEAR_EXPERT, &p, "experts", in, w, route);
}

static void test_quantize_before_experts(void **state) {
    (void)state;
    node *logits = linear(QUANT_F32, x, 4);
    node *route = graph_add1(&g, OP_ROUTE, &(graph_params){.route = {.n_used = 2, .scale = 1}}, "", logits);
    node *up = experts(QUANT_Q8_0, x, 0, route), *down = experts(QUANT_Q8_0, up, 1, route);
    node *out = graph_add2(&g, OP_COMBINE, NULL, "", down, route);
    assert_int_equal(run(rules_lower, "quantize_linear_expert", out), 2);
    assert_true(down->in[0]->op == OP_QUANTIZE && down->in[0]->width == 128 && logits->in[0] == x);
}

/* --- fusion */

static void test_gated(void **state) {
    (void)state;
    node *a = graph_add2(&g, OP_MUL, NULL, "", one(OP_SILU, x), y); /* either order, either activation */
    node *b = graph_add2(&g, OP_MUL, NULL, "", y, one(OP_GELU, a));
    assert_int_equal(run(rules_fuse, "swiglu", b), 1);
    assert_true(count(OP_SWIGLU) == 1 && count(OP_GEGLU) == 1 && count(OP_MUL) == 0);
    assert_true(g.result->in[1] == y && g.result->in[0]->in[0] == x);
    tear_down(NULL), set_up(NULL);
    node *act = one(OP_SILU, x); /* read by others: kept */
    assert_int_equal(run(rules_fuse, "swiglu", add(graph_add2(&g, OP_MUL, NULL, "", act, y), act)), 0);
    tear_down(NULL), set_up(NULL);
    node *by_vector = graph_add2(&g, OP_MUL, NULL, "", one(OP_SILU, x), weight(QUANT_F32, 256, 1));
    assert_int_equal(run(rules_fuse, "swiglu", by_vector), 0);
}

static void test_stack(void **state) {
    (void)state;
    node *q = linear(QUANT_Q4_0, x, 256), *k = linear(QUANT_Q8_0, x, 64), *v = linear(QUANT_Q4_1, x, 64);
    node *other = linear(QUANT_Q8_0, y, 256), *kv = add(one(OP_SILU, k), one(OP_GELU, v));
    node *out = add(one(OP_SILU, q), add(linear(QUANT_F32, kv, 256), one(OP_SILU, other)));
    assert_int_equal(run(rules_fuse, "stack_linears", out), 1); /* types differ, their activations do not */
    assert_true(q->op == OP_VIEW && k->op == OP_VIEW && v->op == OP_VIEW && other->op == OP_LINEAR);
    const node *s = q->in[0];
    assert_true(s == k->in[0] && s == v->in[0] && s->width == 384 && s->n_in == 4);
    assert_true(q->p.view.offset == 0 && k->p.view.offset == 256 && v->p.view.offset == 320);
    assert_string_equal(s->label, "linear+linear+linear");
}

static void test_stack_wants_one_kind_of_activations(void **state) {
    (void)state;
    node *sum = add(one(OP_SILU, linear(QUANT_Q8_0, x, 64)), one(OP_SILU, linear(QUANT_Q6_K, x, 64)));
    sum = add(sum, one(OP_SILU, linear(QUANT_F32, x, 64)));
    assert_int_equal(run(rules_fuse, "stack_linears", sum), 0);
    assert_int_equal(run(rules_fuse, "stack_linears", linear(QUANT_F32, x, 64)), 0); /* alone, and the result */
}

static void test_stack_of_seven(void **state) {
    (void)state;
    node *sum = y;
    for (uint32_t i = 0; i < 7; i++) {
        node *n = one(OP_SILU, linear(QUANT_Q8_0, x, 256));
        sum = add(n, sum);
    }
    assert_int_equal(run(rules_fuse, "stack_linears", sum), 2); /* five and two: a node has six inputs */
    assert_int_equal(count(OP_LINEAR), 2);
}

static void test_residual(void **state) {
    (void)state;
    node *h = add(linear(QUANT_F32, y, 256), x), *out = add(h, linear(QUANT_F32, one(OP_SILU, h), 256));
    assert_int_equal(run(rules_fuse, "residual", out), 2);
    assert_true(g.result->op == OP_LINEAR && g.result->p.linear.residual && g.result->in[2]->p.linear.residual);
    assert_int_equal(count(OP_ADD), 0);
    tear_down(NULL), set_up(NULL);
    node *lin = linear(QUANT_F32, x, 256);
    assert_int_equal(run(rules_fuse, "residual", add(add(lin, x), lin)), 0); /* read twice */
    tear_down(NULL), set_up(NULL);
    assert_int_equal(run(rules_fuse, "residual", add(linear(QUANT_F32, x, 256), weight(QUANT_F32, 256, 1))),
                     0); /* bias */
}

static node *quantize(node *in, graph_dtype t) {
    return graph_add1(&g, OP_QUANTIZE, &(graph_params){.dtype = t}, "", in);
}

static void test_norm_quantize(void **state) {
    (void)state;
    node *q = quantize(norm(x), DTYPE_Q8), *out = graph_add2(&g, OP_LINEAR, NULL, "", q, weight(QUANT_Q8_0, 256, 64));
    assert_int_equal(run(rules_fuse, "norm_quantize", out), 1);
    assert_true(g.result->in[0]->op == OP_NORM_QUANTIZE && g.result->in[0]->p.norm.dtype == DTYPE_Q8);
    tear_down(NULL), set_up(NULL);
    node *n = norm(x); /* experts: their router reads the floats */
    node *a = graph_add2(&g, OP_LINEAR, NULL, "", quantize(n, DTYPE_Q8K), weight(QUANT_Q6_K, 256, 64));
    assert_int_equal(run(rules_fuse, "norm_quantize", add(a, linear(QUANT_F32, n, 64))), 0);
}

static void test_gated_quantize(void **state) {
    (void)state;
    node *a = quantize(graph_add2(&g, OP_SWIGLU, NULL, "", x, y), DTYPE_Q8);
    node *b = quantize(graph_add2(&g, OP_MUL, NULL, "", one(OP_GELU, x), y), DTYPE_Q8K);
    node *out = add(graph_add2(&g, OP_LINEAR, NULL, "", a, weight(QUANT_Q4_1, 256, 64)),
                    graph_add2(&g, OP_LINEAR, NULL, "", b, weight(QUANT_Q6_K, 256, 64)));
    assert_int_equal(run(rules_fuse, "gated_quantize", out), 2);
    assert_true(count(OP_SWIGLU_QUANTIZE) == 1 && count(OP_GEGLU_QUANTIZE) == 1 && count(OP_QUANTIZE) == 0);
    tear_down(NULL), set_up(NULL);
    node *act = graph_add2(&g, OP_SWIGLU, NULL, "", x, y);
    node *lin = graph_add2(&g, OP_LINEAR, NULL, "", quantize(act, DTYPE_Q8), weight(QUANT_Q8_0, 256, 256));
    assert_int_equal(run(rules_fuse, "gated_quantize", graph_add2(&g, OP_MUL, NULL, "", lin, act)), 0);
}

/* also_read: somebody else wants the turned keys */
static node *attention(uint32_t head_dim, bool also_read) {
    graph_params t = {.rope_table = {.n_rot = 64, .base = 10000, .freq_scale = 1}}, r = {.rope = {head_dim, 64, 1}};
    node *k = graph_add2(&g, OP_ROPE, &r, "k", y, graph_add1(&g, OP_ROPE_TABLE, &t, "", pos));
    graph_params p = {.attn = {.n_head = 2, .n_kv_head = 2, .d_k = 128, .d_v = 128, .scale = 0.1f}};
    node *a = graph_add2(&g, OP_ATTENTION, &p, "a", x, graph_add2(&g, OP_KV_APPEND, &p, "append", k, y));
    return also_read ? graph_add2(&g, OP_MUL, NULL, "", a, k) : a;
}

static void test_rope_append(void **state) {
    (void)state;
    assert_int_equal(run(rules_fuse, "rope_append", attention(128, false)), 1);
    const node *append = g.result->in[1];
    assert_true(append->op == OP_ROPE_APPEND && append->in[0] == y && append->p.attn.n_rot == 64 &&
                append->p.attn.neox);
    assert_true(count(OP_ROPE) == 0 && count(OP_KV_APPEND) == 0);
    tear_down(NULL), set_up(NULL);
    assert_int_equal(run(rules_fuse, "rope_append", attention(128, true)), 0);
    tear_down(NULL), set_up(NULL);
    assert_int_equal(run(rules_fuse, "rope_append", attention(64, false)),
                     0); /* heads of rope are not those of the cache */
}

static void test_take_rows_early(void **state) {
    (void)state;
    node *a = attention(128, false);
    node *h = norm(graph_add2(&g, OP_LINEAR, NULL, "", quantize(a, DTYPE_Q8), weight(QUANT_Q8_0, 256, 256)));
    node *last = graph_add2(&g, OP_TAKE_ROWS, NULL, "take", add(one(OP_SILU, h), x), out_rows);
    assert_int_equal(run(rules_fuse, "take_rows_early", last), 4); /* add, silu, norm, linear; the quantize with it */
    for (uint32_t i = 0; i < g.n_nodes; i++) {
        const node *n = g.nodes[i];
        if (n->op == OP_LINEAR && n->n_uses) assert_true(n->rows == ROWS_OUT && n->in[0]->rows == ROWS_OUT);
        if (n->op == OP_ATTENTION) assert_true(n->rows == ROWS_TOK);
    }
    assert_int_equal(count(OP_TAKE_ROWS), 2); /* of attention and of x */
}

static void test_take_rows_stays_where_all_rows_are_read(void **state) {
    (void)state;
    node *n = norm(x); /* the cache needs every row of it */
    graph_params p = {.attn = {.n_head = 2, .n_kv_head = 2, .d_k = 128, .d_v = 128, .scale = 0.1f}};
    node *a = graph_add2(&g, OP_ATTENTION, &p, "", y, graph_add2(&g, OP_KV_APPEND, &p, "", n, n));
    node *out =
        add(graph_add2(&g, OP_TAKE_ROWS, NULL, "", n, out_rows), graph_add2(&g, OP_TAKE_ROWS, NULL, "", a, out_rows));
    assert_int_equal(run(rules_fuse, "take_rows_early", out), 0);
}

static void test_take_rows_through_experts(void **state) {
    (void)state;
    node *h = norm(x);
    node *route =
        graph_add1(&g, OP_ROUTE, &(graph_params){.route = {.n_used = 2, .scale = 1}}, "", linear(QUANT_F32, h, 4));
    node *gate = experts(QUANT_Q8_0, h, 0, route), *up = experts(QUANT_F32, h, 0, route);
    node *down = experts(QUANT_Q8_0, graph_add2(&g, OP_MUL, NULL, "", one(OP_SILU, gate), up), 1, route);
    node *out = graph_add2(&g, OP_COMBINE, NULL, "", down, route);
    run(rules_fuse, "take_rows_early", graph_add2(&g, OP_TAKE_ROWS, NULL, "", out, out_rows));
    for (uint32_t i = 0; i < g.n_nodes; i++) {
        const node *n = g.nodes[i];
        if (n->n_uses && (n->op == OP_LINEAR_EXPERT || n->op == OP_ROUTE || n->op == OP_RMS_NORM))
            assert_int_equal(n->rows, ROWS_OUT);
    }
    assert_int_equal(count(OP_ROUTE), 1);
}

/* --- layout and the driver */

static void test_panels(void **state) {
    (void)state;
    node *tied = weight(QUANT_Q8_0, 256, SAMPLE_VOCAB), *table = weight(QUANT_Q8_0, 256, SAMPLE_VOCAB);
    node *f32 = weight(QUANT_F32, 256, SAMPLE_VOCAB), *tokens = x->in[1];
    node *h =
        add(graph_add2(&g, OP_GET_ROWS, NULL, "", tied, tokens), graph_add2(&g, OP_GET_ROWS, NULL, "", table, tokens));
    node *out = add(graph_add2(&g, OP_LINEAR, NULL, "", h, tied), graph_add2(&g, OP_LINEAR, NULL, "", h, f32));
    assert_int_equal(run(rules_layout, "panels", out), 1);
    assert_true(tied->layout == WEIGHT_PANELS && table->layout == WEIGHT_AS_FILED && f32->layout == WEIGHT_AS_FILED);
    assert_int_equal(run(rules_layout, "panels", out), 0);
}

static node *for_ever(graph *gr, node *n) { return graph_add1(gr, OP_SILU, NULL, "again", n->in[0]); }
static node *wrong(graph *gr, node *n) {
    return graph_add1(gr, OP_GELU, NULL, "again", gr->nodes[0] == n ? n : gr->nodes[0]);
}

static void test_endless_rules_are_stopped(void **state) {
    (void)state;
    static const graph_rule endless[] = {{"endless", OP_SILU, for_ever}, {0}};
    g.result = one(OP_SILU, x);
    assert_int_equal(rewrite_run(&g, endless, NULL, &e), ERR_GRAPH);
    assert_non_null(strstr(e.text, "endless"));
    static const graph_rule broken[] = {{"broken", OP_SILU, wrong}, {0}};
    assert_int_equal(rewrite_run(&g, broken, NULL, &e), ERR_GRAPH);
}

static void test_statistics_and_masks(void **state) {
    (void)state;
    graph_stat stats[GRAPH_MAX_STATS];
    uint32_t n;
    g.result = linear(QUANT_Q8_0, norm(x), 64);
    assert_int_equal(graph_optimise(&g, 0, stats, &n, &e), OK);
    assert_int_equal(n, 0);
    assert_int_equal(graph_optimise(&g, PASS_LOWER, stats, &n, &e), OK);
    assert_true(n == 2 && stats[0].applied == 1 && stats[0].nodes_after == stats[0].nodes_before + 1);
    uint32_t before = g.n_nodes;
    assert_int_equal(graph_optimise(&g, PASS_FUSE | PASS_DCE | PASS_LAYOUT, stats, &n, &e), OK);
    assert_true(count(OP_NORM_QUANTIZE) == 1 && g.n_nodes < before);
    bool seen = false;
    for (uint32_t i = 0; i < n; i++) seen |= strcmp(stats[i].name, "dce") == 0 && stats[i].applied > 0;
    assert_true(seen);
    assert_int_equal(graph_optimise(&g, PASS_ALL, NULL, NULL, &e), OK);
}

/* --- random graphs */

static void test_no_pass_changes_a_bit(void **state) {
    (void)state;
    uint32_t applied[GRAPH_MAX_STATS] = {0}, n_all = 0;
    const char *name[GRAPH_MAX_STATS] = {0};
    for (uint64_t seed = 1; seed <= 150; seed++) {
        sample_file f = {.seed = seed};
        graph plain;
        graph_init(&plain, &e);
        sample_random(&plain, &f, seed, 18);
        for (uint32_t k = 0; k < 2; k++) {
            graph fast;
            graph_stat stats[GRAPH_MAX_STATS];
            uint32_t n;
            graph_init(&fast, &e);
            sample_random(&fast, &f, seed, 18);
            unsigned mask = k ? PASS_ALL : (unsigned)(rng_u64(99, seed) % (PASS_ALL + 1));
            if (graph_optimise(&fast, mask, stats, &n, &e)) fail_msg("seed %d, mask %u: %s", (int)seed, mask, e.text);
            if (!same_bits(eval_graph(&plain, &step), eval_graph(&fast, &step), plain.result))
                fail_msg("seed %d, mask %u: other bits", (int)seed, mask);
            for (uint32_t i = 0; k && i < n; i++) applied[i] += stats[i].applied, name[i] = stats[i].name;
            if (k) n_all = n;
            graph_free(&fast);
        }
        graph_free(&plain);
        sample_free(&f);
    }
    for (uint32_t i = 0; i < n_all; i++)
        if (applied[i] == 0) fail_msg("rule %s was never at work", name[i]);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_scale_by_one),
        T(test_views),
        T(test_cse_merges_the_same),
        T(test_cse_keeps_equal_shapes_apart),
        T(test_quantize_before_linears),
        T(test_float_weights_and_tables_stay),
        T(test_quantize_before_experts),
        T(test_gated),
        T(test_stack),
        T(test_stack_wants_one_kind_of_activations),
        T(test_stack_of_seven),
        T(test_residual),
        T(test_norm_quantize),
        T(test_gated_quantize),
        T(test_rope_append),
        T(test_take_rows_early),
        T(test_take_rows_stays_where_all_rows_are_read),
        T(test_take_rows_through_experts),
        T(test_panels),
        T(test_endless_rules_are_stopped),
        T(test_statistics_and_masks),
        T(test_no_pass_changes_a_bit),
    };
    return cmocka_run_group_tests_name("rules", tests, NULL, NULL);
}
