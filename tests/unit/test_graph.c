#include "graph_sample.h"

#include "check.h"

#include <math.h>

#include "base/mem.h"
#include "graph/plan.h"

static sample_file file;

static int tear_down(void **state) {
    (void)state;
    sample_free(&file);
    return 0;
}

static node *find(const graph *g, graph_op op) {
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i]->op == op) return g->nodes[i];
    fail_msg("no %s", graph_op_name(op));
    return NULL;
}

static void build(graph *g, err *e) {
    graph_init(g, e);
    sample_llama(g, &file, QUANT_Q8_0);
    if (g->failed) fail_msg("%s", e->text);
}

/* --- adding */

static void test_shapes(void **state) {
    (void)state;
    static const struct {
        graph_op op;
        graph_rows rows;
        graph_dtype dtype;
        uint32_t width;
    } want[] = {
        {OP_TOKENS, ROWS_TOK, DTYPE_I32, 1},      {OP_OUT_ROWS, ROWS_OUT, DTYPE_I32, 1},
        {OP_WEIGHT, ROWS_ONE, DTYPE_WEIGHT, 256}, {OP_GET_ROWS, ROWS_TOK, DTYPE_F32, 256},
        {OP_ROPE_TABLE, ROWS_TOK, DTYPE_F32, 64}, {OP_KV_APPEND, ROWS_TOK, DTYPE_NONE, 0},
        {OP_ATTENTION, ROWS_TOK, DTYPE_F32, 256}, {OP_TAKE_ROWS, ROWS_OUT, DTYPE_F32, 256},
        {OP_SILU, ROWS_TOK, DTYPE_F32, 512},      {OP_RMS_NORM, ROWS_TOK, DTYPE_F32, 256},
    };
    err e = {0};
    graph g;
    build(&g, &e);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const node *n = find(&g, want[i].op);
        assert_true(n->rows == want[i].rows && n->dtype == want[i].dtype && n->width == want[i].width);
    }
    assert_true(g.result->rows == ROWS_OUT && g.result->width == SAMPLE_VOCAB);
    assert_int_equal(graph_verify(&g, &e), OK);
    graph_free(&g);
}

/* The first reason stays, later calls pass NULL through. */
static void test_the_first_failure_sticks(void **state) {
    (void)state;
    err e = {0};
    graph g;
    build(&g, &e);
    uint32_t n = g.n_nodes;
    node *norm = find(&g, OP_RMS_NORM);
    assert_null(graph_add1(&g, OP_SOFTCAP, NULL, "cap_of_nothing", norm)); /* no params: 0 */
    assert_int_equal(g.failed, ERR_GRAPH);
    assert_non_null(strstr(e.text, "cap_of_nothing"));
    assert_null(graph_add2(&g, OP_ADD, NULL, "later", norm, norm));
    assert_null(graph_weight(&g, find(&g, OP_WEIGHT)->weight, "later"));
    assert_null(strstr(e.text, "later"));
    assert_int_equal(g.n_nodes, n);
    err other = {0};
    assert_int_equal(graph_verify(&g, &other), ERR_GRAPH);
    assert_string_equal(other.text, e.text);
    graph_free(&g);
}

static const gguf_tensor *spare(uint64_t k, uint64_t m, uint64_t n_expert, quant_type type) {
    static gguf_tensor t[64];
    static uint32_t n;
    gguf_tensor *to = &t[n++ % 64];
    *to = (gguf_tensor){.name = str_of("spare"), .n_dims = 3, .dim = {k, m, n_expert, 1}, .type = type};
    return to;
}

/* Each line: one thing that is wrong about inputs or params. */
static void test_wrong_nodes_are_refused(void **state) {
    (void)state;
    err e = {0};
    graph g;
    build(&g, &e);
    node *x = find(&g, OP_GET_ROWS), *silu = find(&g, OP_SILU), *tokens = find(&g, OP_TOKENS),
         *table = find(&g, OP_ROPE_TABLE);
    node *out_rows = find(&g, OP_OUT_ROWS), *take = find(&g, OP_TAKE_ROWS), *append = find(&g, OP_KV_APPEND);
    node *w = graph_weight(&g, spare(256, 8, 1, QUANT_F32), ""),
         *vec = graph_weight(&g, spare(256, 1, 1, QUANT_F32), "");
    node *w512 = graph_weight(&g, spare(512, 8, 1, QUANT_F32), ""),
         *w3 = graph_weight(&g, spare(256, 8, 4, QUANT_F32), "");
    node *wk = graph_weight(&g, spare(256, 8, 1, QUANT_Q4_K), ""),
         *factors = graph_weight(&g, spare(31, 1, 1, QUANT_F32), "");
    node *q8 = graph_add1(&g, OP_QUANTIZE, &(graph_params){.dtype = DTYPE_Q8}, "", x);
    node *route = graph_add1(&g, OP_ROUTE, &(graph_params){.route = {.n_used = 2, .scale = 1}}, "",
                             graph_add2(&g, OP_LINEAR, NULL, "", x, graph_weight(&g, spare(256, 5, 1, QUANT_F32), "")));
    assert_false(g.failed);
    graph_params heads = {.attn = {.n_head = 4, .n_kv_head = 2, .d_k = 64, .d_v = 64, .scale = 1}};
    graph_params odd_heads = heads, far_layer = heads, endless = heads, other_layer = heads;
    odd_heads.attn.n_head = 3, far_layer.attn.kv_layer = 1024, endless.attn.scale = INFINITY,
    other_layer.attn.kv_layer = 1;
    graph_params norm = {.norm = {1e-5f, 256, 0}}, nan_norm = {.norm = {NAN, 256, 0}},
                 odd_norm = {.norm = {1e-5f, 100, 0}};
    graph_params rope = {.rope = {64, 64, 0}}, odd_rope = {.rope = {96, 64, 0}}, long_rope = {.rope = {32, 64, 0}};
    graph_params two = {.expert = {2, 0}}, slots = {.expert = {2, 1}}, three = {.expert = {3, 0}};
    const struct {
        graph_op op;
        const graph_params *p;
        uint32_t n_in;
        node *in[GRAPH_MAX_IN];
    } bad[] = {
        {OP_ADD, NULL, 1, {x}},
        {OP_ADD, NULL, 3, {x, x, x}},
        {OP_ADD, NULL, 2, {x, NULL}},
        {OP_ADD, NULL, 2, {x, silu}},
        {OP_ADD, NULL, 2, {x, take}},
        {OP_ADD, NULL, 2, {tokens, tokens}},
        {OP_ADD, NULL, 2, {x, w}},
        {OP_MUL, NULL, 2, {silu, vec}},
        {OP_SWIGLU, NULL, 2, {x, silu}},
        {OP_SILU, NULL, 1, {tokens}},
        {OP_GET_ROWS, NULL, 2, {w, x}},
        {OP_GET_ROWS, NULL, 2, {x, tokens}},
        {OP_TAKE_ROWS, NULL, 2, {x, tokens}},
        {OP_TAKE_ROWS, NULL, 2, {take, out_rows}},
        {OP_LINEAR, NULL, 2, {x, w512}},
        {OP_LINEAR, NULL, 2, {x, x}},
        {OP_LINEAR, NULL, 2, {x, w3}},
        {OP_LINEAR, NULL, 2, {q8, wk}},
        {OP_LINEAR, NULL, 2, {q8, w}},
        {OP_LINEAR, NULL, 2, {tokens, w}},
        {OP_LINEAR, &(graph_params){.linear = {1}}, 3, {x, w, x}},
        {OP_LINEAR, &(graph_params){.linear = {1}}, 2, {x, w}},
        {OP_LINEAR, &(graph_params){.linear = {2}}, 3, {x, w, x}},
        {OP_ROUTE, &(graph_params){.route = {.n_used = 0, .scale = 1}}, 1, {x}},
        {OP_ROUTE, &(graph_params){.route = {.n_used = 65, .scale = 1}}, 1, {x}},
        {OP_ROUTE, &(graph_params){.route = {.n_used = 2, .scale = NAN}}, 1, {x}},
        {OP_LINEAR_EXPERT, &two, 3, {x, w3, x}},
        {OP_LINEAR_EXPERT, &two, 3, {x, w3, route}}, /* routed over 5, the weight has 4 */
        {OP_LINEAR_EXPERT, &three, 3, {x, w3, route}},
        {OP_LINEAR_EXPERT, &slots, 3, {x, w3, route}},
        {OP_COMBINE, NULL, 2, {x, x}},
        {OP_SCALE, &(graph_params){.f = NAN}, 1, {x}},
        {OP_SOFTCAP, &(graph_params){.f = -1}, 1, {x}},
        {OP_RMS_NORM, &nan_norm, 2, {x, vec}},
        {OP_RMS_NORM, &odd_norm, 2, {x, vec}},
        {OP_RMS_NORM, &norm, 2, {x, w}},
        {OP_RMS_NORM, NULL, 2, {x, vec}},
        {OP_LAYER_NORM, &norm, 3, {x, vec, w}},
        {OP_ROPE_TABLE, NULL, 1, {tokens}},
        {OP_ROPE_TABLE, &(graph_params){.rope_table = {.n_rot = 63, .base = 1}}, 1, {tokens}},
        {OP_ROPE_TABLE, &(graph_params){.rope_table = {.n_rot = 64, .base = INFINITY}}, 1, {tokens}},
        {OP_ROPE_TABLE, &(graph_params){.rope_table = {.n_rot = 64, .base = 1}}, 2, {tokens, factors}},
        {OP_ROPE_TABLE, &(graph_params){.rope_table = {.n_rot = 64, .base = 1}}, 1, {x}},
        {OP_ROPE, &odd_rope, 2, {x, table}},
        {OP_ROPE, &long_rope, 2, {x, table}},
        {OP_ROPE, &rope, 2, {x, x}},
        {OP_ROPE, &rope, 2, {take, table}},
        {OP_KV_APPEND, &heads, 2, {x, x}},
        {OP_KV_APPEND, &far_layer, 2, {append->in[0], append->in[1]}},
        {OP_KV_APPEND, NULL, 2, {append->in[0], append->in[1]}},
        {OP_ATTENTION, &heads, 2, {silu, append}},
        {OP_ATTENTION, &heads, 2, {x, x}},
        {OP_ATTENTION, &odd_heads, 2, {x, append}},
        {OP_ATTENTION, &endless, 2, {x, append}},
        {OP_ATTENTION, &other_layer, 2, {x, append}},
        {OP_ATTENTION, &heads, 3, {x, append, vec}},
        {OP_QUANTIZE, NULL, 1, {x}},
        {OP_QUANTIZE, &(graph_params){.dtype = DTYPE_Q8}, 1, {q8}},
        {OP_QUANTIZE, &(graph_params){.dtype = DTYPE_Q8K}, 1, {table}},
        {OP_NORM_QUANTIZE, &norm, 2, {x, vec}},
        {OP_VIEW, NULL, 1, {x}},
        {OP_VIEW, &(graph_params){.view = {200, 57}}, 1, {x}},
        {OP_VIEW, &(graph_params){.view = {UINT32_MAX, 2}}, 1, {x}},
        {OP_COPY, NULL, 1, {q8}},
        {OP_COPY, NULL, 1, {append}},
        {OP_WEIGHT, NULL, 0, {NULL}},
        {OP_COUNT, NULL, 0, {NULL}},
        {OP_TOKENS, NULL, 7, {NULL}},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        node *n = graph_add(&g, bad[i].op, bad[i].p, "bad", bad[i].n_in, bad[i].in);
        if (n || g.failed != ERR_GRAPH) fail_msg("line %zu (%s) was accepted", i, graph_op_name(bad[i].op));
        g.failed = OK;
    }
    graph_params fine = heads;
    fine.attn.kv_layer = 0;
    assert_non_null(graph_add2(&g, OP_ATTENTION, &fine, "", x, append)); /* the table's neighbour that is right */
    static const quant_type blocks[] = {QUANT_Q4_0, QUANT_Q6_K};
    for (size_t i = 0; i < 2; i++) {
        assert_null(graph_weight(&g, spare(48, 8, 1, blocks[i]), ""));
        g.failed = OK;
    }
    assert_null(graph_weight(&g, spare(64, (uint64_t)1 << 32, 1, QUANT_F32), ""));
    graph_free(&g);
}

static void test_weights_are_one_node_a_tensor(void **state) {
    (void)state;
    err e = {0};
    graph g;
    build(&g, &e);
    node *w = find(&g, OP_WEIGHT);
    assert_ptr_equal(graph_weight(&g, w->weight, "again"), w);
    graph_free(&g);
}

static void test_params_of_other_ops_do_not_leak_in(void **state) {
    (void)state;
    err e = {0};
    graph g;
    build(&g, &e);
    graph_params p;
    memset(&p, 0xFF, sizeof p);
    p.f = 2;
    node *x = find(&g, OP_GET_ROWS), *n = graph_add1(&g, OP_SCALE, &p, "s", x);
    g.result = n;
    assert_int_equal(graph_verify(&g, &e), OK);
    graph_free(&g);
}

static void test_row_bytes(void **state) {
    (void)state;
    assert_int_equal(graph_row_bytes(DTYPE_F32, 10), 40);
    assert_int_equal(graph_row_bytes(DTYPE_I32, 1), 4);
    assert_int_equal(graph_row_bytes(DTYPE_ROUTE, 8), 64);
    assert_int_equal(graph_row_bytes(DTYPE_NONE, 0), 0);
    assert_int_equal(graph_row_bytes(DTYPE_WEIGHT, 100), 0);
    for (uint32_t w = 32; w < 2000; w += 32) /* codes, f32 scales, two i16 sums, each array on a 64-byte boundary */
        for (uint32_t rows = 1; rows < 100; rows += 7) {
            size_t need = ((size_t)w * rows + 63) / 64 * 64 + ((size_t)w / 32 * rows * 4 + 63) / 64 * 64;
            assert_true(graph_row_bytes(DTYPE_Q8, w) * rows >= need + ((size_t)w / 32 * rows * 4 + 63) / 64 * 64);
            if (w % 256) continue;
            assert_true(graph_row_bytes(DTYPE_Q8K, w) * rows >= need + ((size_t)w / 256 * rows * 4 + 63) / 64 * 64);
        }
}

static void test_activations_of_weight_types(void **state) {
    (void)state;
    for (uint32_t t = 0; t < QUANT_COUNT; t++) {
        graph_dtype d = DTYPE_NONE;
        bool got = graph_quantised_input((quant_type)t, &d);
        const quant_info *q = quant_lookup(t);
        if (!got) continue;
        assert_true(q->block_elems == (d == DTYPE_Q8 ? 32u : 256u) && q->decode);
    }
    graph_dtype d;
    assert_true(graph_quantised_input(QUANT_Q4_1, &d) && d == DTYPE_Q8);
    assert_true(graph_quantised_input(QUANT_Q4_K, &d) && d == DTYPE_Q8K);
    assert_false(graph_quantised_input(QUANT_F32, &d) || graph_quantised_input(QUANT_BF16, &d));
}

/* --- what the verifier sees */

static node *spoilt_extra(graph *g) {
    static node n;
    n = *g->nodes[0];
    return &n;
}
static void spoil_width(graph *g) { find(g, OP_SILU)->width++; }
static void spoil_rows(graph *g) { find(g, OP_SILU)->rows = ROWS_OUT; }
static void spoil_dtype(graph *g) { find(g, OP_SILU)->dtype = DTYPE_I32; }
static void spoil_order(graph *g) {
    node *n = find(g, OP_SILU), *in = n->in[0];
    uint32_t a = n->id, b = in->id;
    g->nodes[a] = in, g->nodes[b] = n, in->id = a, n->id = b;
}
static void spoil_self(graph *g) { find(g, OP_ADD)->in[0] = find(g, OP_ADD); }
static void spoil_missing(graph *g) { find(g, OP_ADD)->in[1] = NULL; }
static void spoil_foreign(graph *g) { find(g, OP_GET_ROWS)->in[1] = spoilt_extra(g); }
static void spoil_few(graph *g) { find(g, OP_ADD)->n_in = 1; }
static void spoil_many(graph *g) { find(g, OP_ADD)->n_in = 1000; }
static void spoil_op(graph *g) { find(g, OP_SILU)->op = OP_COUNT; }
static void spoil_id(graph *g) { find(g, OP_SILU)->id++; }
static void spoil_node(graph *g) { g->nodes[3] = NULL; }
static void spoil_params(graph *g) { find(g, OP_SILU)->p.f = 1; }
static void spoil_eps(graph *g) { find(g, OP_RMS_NORM)->p.norm.eps = NAN; }
static void spoil_group(graph *g) { find(g, OP_RMS_NORM)->p.norm.group = 0; }
static void spoil_rope(graph *g) { find(g, OP_ROPE)->p.rope.n_rot = 128; }
static void spoil_heads(graph *g) { find(g, OP_ATTENTION)->p.attn.n_kv_head = 0; }
static void spoil_result(graph *g) { g->result = NULL; }
static void spoil_foreign_result(graph *g) { g->result = spoilt_extra(g); }
static void spoil_result_type(graph *g) { g->result = g->nodes[0]; }
static void spoil_tensor(graph *g) { find(g, OP_WEIGHT)->weight = NULL; }
static void spoil_two_tensors(graph *g) { find(g, OP_SILU)->weight = find(g, OP_WEIGHT)->weight; }
static void spoil_weight_shape(graph *g) { find(g, OP_LINEAR)->in[1]->weight = spare(128, 256, 1, QUANT_Q8_0); }
static void spoil_layout(graph *g) { find(g, OP_RMS_NORM)->in[1]->layout = WEIGHT_PANELS; }
static void spoil_layout_value(graph *g) { find(g, OP_WEIGHT)->layout = (weight_layout)2; }
static void spoil_device(graph *g) { find(g, OP_SILU)->device = PLAN_MAX_DEVICES; }
static void spoil_append_read(graph *g) { find(g, OP_TAKE_ROWS)->in[0] = find(g, OP_KV_APPEND); }
static void spoil_append_twice(graph *g) {
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        if (g->nodes[i]->op == OP_KV_APPEND || g->nodes[i]->op == OP_ATTENTION) g->nodes[i]->p.attn.kv_layer = 0;
    }
}
static void spoil_quantised(graph *g) {
    node *q = graph_add1(g, OP_QUANTIZE, &(graph_params){.dtype = DTYPE_Q8K}, "", find(g, OP_TAKE_ROWS));
    g->result = graph_add2(g, OP_LINEAR, NULL, "", g->result->in[0], g->result->in[1]);
    g->result->in[0] = q; /* Q8_0 wants q8 */
}

static void test_verify_sees_every_corruption(void **state) {
    (void)state;
    static void (*const spoil[])(graph * g) = {spoil_width,
                                               spoil_rows,
                                               spoil_dtype,
                                               spoil_order,
                                               spoil_self,
                                               spoil_missing,
                                               spoil_foreign,
                                               spoil_few,
                                               spoil_many,
                                               spoil_op,
                                               spoil_id,
                                               spoil_node,
                                               spoil_params,
                                               spoil_eps,
                                               spoil_group,
                                               spoil_rope,
                                               spoil_heads,
                                               spoil_result,
                                               spoil_foreign_result,
                                               spoil_result_type,
                                               spoil_tensor,
                                               spoil_two_tensors,
                                               spoil_weight_shape,
                                               spoil_layout,
                                               spoil_layout_value,
                                               spoil_device,
                                               spoil_append_read,
                                               spoil_append_twice,
                                               spoil_quantised};
    for (size_t i = 0; i < sizeof spoil / sizeof *spoil; i++) {
        err e = {0};
        graph g;
        build(&g, &e);
        assert_int_equal(graph_verify(&g, &e), OK);
        spoil[i](&g);
        if (graph_verify(&g, &e) != ERR_GRAPH || !e.text[0]) fail_msg("corruption %zu was not seen", i);
        graph_free(&g);
    }
}

/* --- order */

static void test_sort_drops_what_is_not_needed(void **state) {
    (void)state;
    err e = {0};
    graph g;
    build(&g, &e);
    uint32_t before = g.n_nodes;
    graph_add1(&g, OP_SILU, NULL, "idle", find(&g, OP_SILU));
    node *first = g.nodes[0];
    memmove(g.nodes, g.nodes + 1, (g.n_nodes - 1) * sizeof *g.nodes); /* tokens behind its users */
    g.nodes[g.n_nodes - 1] = first;
    assert_int_equal(graph_verify(&g, &e), ERR_GRAPH);
    assert_int_equal(graph_sort(&g, &e), OK);
    assert_int_equal(graph_verify(&g, &e), OK);
    assert_int_equal(g.n_nodes, before);
    assert_int_equal(g.result->n_uses, 1);
    assert_int_equal(find(&g, OP_ROPE_TABLE)->n_uses, 4); /* q and k of two layers */
    node *add = find(&g, OP_ADD);
    add->in[0] = g.result; /* a cycle */
    assert_int_equal(graph_sort(&g, &e), ERR_GRAPH);
    graph_free(&g);
}

/* Chains far deeper than a call stack should be. */
static void test_a_deep_graph(void **state) {
    (void)state;
    err e = {0};
    graph g;
    build(&g, &e);
    node *x = g.result;
    for (uint32_t i = 0; i < 200000; i++) x = graph_add1(&g, OP_SILU, NULL, "", x);
    g.result = x;
    for (uint32_t i = 0; i < g.n_nodes / 2; i++) { /* worst order: backwards */
        node *t = g.nodes[i];
        g.nodes[i] = g.nodes[g.n_nodes - 1 - i];
        g.nodes[g.n_nodes - 1 - i] = t;
    }
    assert_int_equal(graph_sort(&g, &e), OK);
    assert_int_equal(graph_optimise(&g, PASS_ALL, NULL, NULL, &e), OK);
    graph_free(&g);
}

/* --- dumps: RF_UPDATE_GOLDEN=1 writes them anew */

static void compare_golden(const graph *g, const char *name) {
    char path[512], *text = NULL;
    snprintf(path, sizeof path, "%s/golden_graph_%s.txt", RF_TEST_DATA, name);
    strbuf b = {0};
    assert_int_equal(graph_dump(g, &b), OK);
    if (getenv("RF_UPDATE_GOLDEN")) {
        FILE *f = fopen(path, "w");
        assert_true(f && fwrite(b.p, 1, b.n, f) == b.n && fclose(f) == 0);
    }
    FILE *f = fopen(path, "r");
    if (!f) fail_msg("cannot open %s", path);
    text = calloc(1, b.n + 2);
    size_t n = fread(text, 1, b.n + 1, f);
    fclose(f);
    if (n != b.n || memcmp(text, b.p, n) != 0) fail_msg("the graph differs from %s:\n%s", path, b.p);
    free(text);
    strbuf_free(&b);
}

static bool can_all(const void *ctx, const node *n) {
    (void)ctx, (void)n;
    return true;
}

static uint32_t second_layer_on_1(void *ctx, const node *n) {
    (void)ctx;
    return n->layer == 1;
}

static void test_golden_dumps(void **state) {
    (void)state;
    err e = {0};
    graph g;
    build(&g, &e);
    compare_golden(&g, "llama");
    assert_int_equal(graph_optimise(&g, PASS_ALL, NULL, NULL, &e), OK);
    compare_golden(&g, "llama_optimised");
    plan_device dev[2] = {{"a", can_all, NULL, NULL}, {"b", can_all, NULL, NULL}};
    plan_options opt = {.choose = second_layer_on_1};
    assert_int_equal(plan_place(&g, dev, 2, &opt, &e), OK);
    compare_golden(&g, "llama_two_devices");
    graph_free(&g);
}

/* --- memory */

static status all_of_it(uint64_t seed) {
    err e = {0};
    graph g;
    plan p = {0};
    graph_stat stats[GRAPH_MAX_STATS];
    uint32_t n_stats;
    graph_init(&g, &e);
    if (seed)
        sample_random(&g, &file, seed, 12);
    else
        sample_llama(&g, &file, QUANT_Q8_0);
    plan_device dev[2] = {{"a", can_all, NULL, NULL}, {"b", can_all, NULL, NULL}};
    plan_options opt = {.choose = second_layer_on_1, .max_tok = 32, .max_out = 4};
    strbuf b = {0};
    status s = graph_verify(&g, &e);
    if (!s) s = graph_optimise(&g, PASS_ALL, stats, &n_stats, &e);
    if (!s) s = plan_place(&g, dev, 2, &opt, &e);
    if (!s) s = plan_make(&p, &g, 2, &opt, &e);
    if (!s) s = graph_dump(&g, &b);
    strbuf_free(&b);
    plan_free(&p);
    graph_free(&g);
    return s;
}

static void test_survives_oom(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 4; seed++) {
        sample_free(&file);
        assert_int_equal(all_of_it(seed), OK);
        uint64_t live = mem_live(), n = 1;
        for (bool fired = true; fired; n++) {
            mem_fail_at(n);
            status s = all_of_it(seed);
            fired = mem_fail_off();
            assert_int_equal(s, fired ? ERR_NOMEM : OK);
            assert_int_equal(mem_live(), live);
        }
        assert_true(n > 30);
    }
    sample_free(&file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_the_first_failure_sticks),
        cmocka_unit_test(test_wrong_nodes_are_refused),
        cmocka_unit_test(test_weights_are_one_node_a_tensor),
        cmocka_unit_test(test_params_of_other_ops_do_not_leak_in),
        cmocka_unit_test(test_row_bytes),
        cmocka_unit_test(test_activations_of_weight_types),
        cmocka_unit_test(test_verify_sees_every_corruption),
        cmocka_unit_test(test_sort_drops_what_is_not_needed),
        cmocka_unit_test(test_a_deep_graph),
        cmocka_unit_test(test_golden_dumps),
        cmocka_unit_test(test_survives_oom),
    };
    return cmocka_run_group_tests_name("graph", tests, NULL, tear_down);
}
