/* One run_<op> for every op of the list: finds the values, splits rows into chunks, calls the tier's kernels. Small nodes
 * (a decode's single row) run at once on the calling thread: pool_run with one chunk costs nothing. */
#include "backend/cpu/cpu_state.h"
#include "backend/cpu/rope_table.h"
#include "base/mem.h"

#include <string.h>

typedef struct rows_job rows_job;
struct rows_job {
    cpu_backend *c;
    const node *n;
    void (*row)(const rows_job *j, uint32_t r, uint32_t worker);
    cpu_value in[3], out;
    cpu_act act;
    uint32_t n_rows, per_chunk;
};

static void rows_chunk(void *ctx, uint32_t chunk, uint32_t worker) {
    const rows_job *j = ctx;
    uint32_t end = min_u32((chunk + 1) * j->per_chunk, j->n_rows);
    for (uint32_t r = chunk * j->per_chunk; r < end; r++) j->row(j, r, worker);
}

enum { CHUNK_VALUES = 16 << 10 }; /* floats of a chunk, about: some microseconds of work */

static void run_rows(cpu_backend *c, const node *n, void (*row)(const rows_job *, uint32_t, uint32_t)) {
    rows_job j = {.c = c, .n = n, .row = row, .n_rows = cpu_rows(c, n), .out = cpu_value_of(c, n)};
    for (uint32_t i = 0; i < n->n_in && i < 3; i++) j.in[i] = cpu_value_of(c, n->in[i]);
    if (n->dtype == DTYPE_Q8 || n->dtype == DTYPE_Q8K) j.act = cpu_act_of(c, n);
    j.per_chunk = max_u32(1, CHUNK_VALUES / max_u32(1, n->width));
    pool_run(c->pool, rows_chunk, &j, (j.n_rows + j.per_chunk - 1) / j.per_chunk);
}

static const float *row_in(const rows_job *j, uint32_t i, uint32_t r) {
    if (!j->in[i].data) return NULL; /* an op of fewer inputs */
    return (const float *)(void *)(j->in[i].data + r * j->in[i].stride);
}
static float *row_out(const rows_job *j, uint32_t r) { return (float *)(void *)(j->out.data + r * j->out.stride); }

/* --- inputs: copied into the activation block, so that every node finds its inputs the same way */
static void fill(cpu_backend *c, const node *n, const int32_t *src) {
    cpu_value v = cpu_value_of(c, n);
    for (uint32_t r = 0; r < cpu_rows(c, n); r++) memcpy(v.data + r * v.stride, src + r, sizeof *src);
}
static void run_tokens(cpu_backend *c, const node *n) { fill(c, n, c->in->token); }
static void run_positions(cpu_backend *c, const node *n) { fill(c, n, c->in->pos); }
static void run_token_types(cpu_backend *c, const node *n) {
    cpu_value v = cpu_value_of(c, n);
    for (uint32_t r = 0; r < cpu_rows(c, n); r++) memset(v.data + r * v.stride, 0, sizeof(int32_t));
}
static void run_out_rows(cpu_backend *c, const node *n) { fill(c, n, c->in->out_row); }
static void run_weight(cpu_backend *c, const node *n) { (void)c, (void)n; }
static void run_view(cpu_backend *c, const node *n) { (void)c, (void)n; }

static int32_t index_at(const rows_job *j, uint32_t r) {
    int32_t i;
    memcpy(&i, j->in[1].data + r * j->in[1].stride, sizeof i);
    return i;
}

static void get_row(const rows_job *j, uint32_t r, uint32_t worker) {
    (void)worker;
    const cpu_weight *w = &j->c->weight[j->n->in[0]->id];
    uint32_t i = (uint32_t)index_at(j, r); /* checked against the vocabulary at submission */
    if (w->panels)
        panel_get_row(row_out(j, r), w->data + i / PANEL_ROWS * w->panel_size, i % PANEL_ROWS, w->type, w->k);
    else
        quant_lookup(w->type)->decode(row_out(j, r), w->data + i * w->row_bytes, w->k);
}
static void run_get_rows(cpu_backend *c, const node *n) { run_rows(c, n, get_row); }

static void take_row(const rows_job *j, uint32_t r, uint32_t worker) {
    (void)worker;
    memcpy(row_out(j, r), row_in(j, 0, (uint32_t)index_at(j, r)), j->n->width * sizeof(float));
}
static void run_take_rows(cpu_backend *c, const node *n) { run_rows(c, n, take_row); }

/* In double, as the scheduler adds up rows: the bits of one embedding made either way. */
static void mean_row(const rows_job *j, uint32_t r, uint32_t worker) {
    (void)worker;
    const step_input *in = j->c->in;
    uint32_t first = (uint32_t)index_at(j, r), end = first, seq = in->seq[first];
    while (first > 0 && in->seq[first - 1] == seq) first--;
    while (end < in->n_tok && in->seq[end] == seq) end++;
    for (uint32_t k = 0; k < j->n->width; k++) {
        double sum = 0;
        for (uint32_t t = first; t < end; t++) sum += (double)row_in(j, 0, t)[k];
        row_out(j, r)[k] = (float)(sum / (end - first));
    }
}
static void run_mean_rows(cpu_backend *c, const node *n) { run_rows(c, n, mean_row); }

/* --- elementwise */
#define ROW(name, call) \
    static void name##_row(const rows_job *j, uint32_t r, uint32_t worker) { \
        (void)worker; \
        const cpu_ops *ops = &j->c->ops; \
        float *y = row_out(j, r); \
        const float *a = row_in(j, 0, r), *b = row_in(j, 1, r); \
        size_t n = j->n->width; \
        (void)b; \
        call; \
    } \
    static void run_##name(cpu_backend *c, const node *n) { run_rows(c, n, name##_row); }
ROW(add, ops->add(y, a, b, n))
ROW(mul, ops->mul(y, a, b, n))
ROW(scale, ops->scale(y, a, j->n->p.f, n))
ROW(softcap, ops->softcap(y, a, j->n->p.f, n))
ROW(softmax, ops->softmax(y, a, n))
ROW(silu, ops->silu(y, a, n))
ROW(gelu, ops->gelu(y, a, n))
ROW(gelu_erf, ops->gelu_erf(y, a, n))
ROW(swiglu, ops->swiglu(y, a, b, n))
ROW(geglu, ops->geglu(y, a, b, n))
ROW(layer_norm, ops->layer_norm(y, a, b, row_in(j, 2, r), n, j->n->p.norm.eps))
#undef ROW

static void norm_groups(const rows_job *j, float *y, const float *x) {
    uint32_t g = j->n->p.norm.group;
    for (uint32_t i = 0; i + g <= j->n->width; i += g)
        j->c->ops.rms_norm(y + i, x + i, row_in(j, 1, 0), g, j->n->p.norm.eps);
}
static void rms_norm_row(const rows_job *j, uint32_t r, uint32_t worker) {
    (void)worker;
    norm_groups(j, row_out(j, r), row_in(j, 0, r));
}
static void run_rms_norm(cpu_backend *c, const node *n) { run_rows(c, n, rms_norm_row); }

/* --- into int8 */
static void quantize_row(const rows_job *j, uint32_t r, uint32_t worker) {
    (void)worker;
    j->c->ops.quantize(&j->act, r, row_in(j, 0, r), j->n->width);
}
static void run_quantize(cpu_backend *c, const node *n) { run_rows(c, n, quantize_row); }

static void norm_quantize_row(const rows_job *j, uint32_t r, uint32_t worker) {
    float *y = j->c->scratch[worker].row;
    norm_groups(j, y, row_in(j, 0, r));
    j->c->ops.quantize(&j->act, r, y, j->n->width);
}
static void run_norm_quantize(cpu_backend *c, const node *n) { run_rows(c, n, norm_quantize_row); }

static void swiglu_quantize_row(const rows_job *j, uint32_t r, uint32_t worker) {
    float *y = j->c->scratch[worker].row;
    j->c->ops.swiglu(y, row_in(j, 0, r), row_in(j, 1, r), j->n->width);
    j->c->ops.quantize(&j->act, r, y, j->n->width);
}
static void run_swiglu_quantize(cpu_backend *c, const node *n) { run_rows(c, n, swiglu_quantize_row); }

static void geglu_quantize_row(const rows_job *j, uint32_t r, uint32_t worker) {
    float *y = j->c->scratch[worker].row;
    j->c->ops.geglu(y, row_in(j, 0, r), row_in(j, 1, r), j->n->width);
    j->c->ops.quantize(&j->act, r, y, j->n->width);
}
static void run_geglu_quantize(cpu_backend *c, const node *n) { run_rows(c, n, geglu_quantize_row); }

/* --- positions */
static void rope_table_node_row(const rows_job *j, uint32_t r, uint32_t worker) {
    (void)worker;
    int32_t pos;
    memcpy(&pos, j->in[0].data + r * j->in[0].stride, sizeof pos);
    rope_table_row(row_out(j, r), pos, &j->n->p, j->n->n_in > 1 ? row_in(j, 1, 0) : NULL);
}
static void run_rope_table(cpu_backend *c, const node *n) { run_rows(c, n, rope_table_node_row); }

static void rope_row(const rows_job *j, uint32_t r, uint32_t worker) {
    (void)worker;
    uint32_t d = j->n->p.rope.head_dim;
    j->c->ops.rope(row_out(j, r), row_in(j, 0, r), row_in(j, 1, r), j->n->width / d, d, j->n->p.rope.n_rot,
                   j->n->p.rope.neox);
}
static void run_rope(cpu_backend *c, const node *n) { run_rows(c, n, rope_row); }

/* --- in files of their own */
static void run_linear(cpu_backend *c, const node *n) { cpu_run_linear(c, n); }
static void run_linear_expert(cpu_backend *c, const node *n) { cpu_run_linear_expert(c, n); }
static void run_route(cpu_backend *c, const node *n) { cpu_run_route(c, n); }
static void run_combine(cpu_backend *c, const node *n) { cpu_run_combine(c, n); }
static void run_attention(cpu_backend *c, const node *n) { cpu_run_attention(c, n); }
static void run_kv_append(cpu_backend *c, const node *n) { cpu_run_append(c, n); }
static void run_rope_append(cpu_backend *c, const node *n) { cpu_run_append(c, n); }
static void run_copy(cpu_backend *c, const node *n) { (void)c, (void)n; } /* the executor moves it */

static void (*const run_table[OP_COUNT])(cpu_backend *, const node *) = {
#define X(op, name, lo, hi) [op] = run_##name,
    GRAPH_OPS(X)
#undef X
};

void cpu_run_node(cpu_backend *c, const node *n) { run_table[n->op](c, n); }

/* --- scratch: one block, cut for the threads */
static size_t widest_row(const plan *p) {
    size_t most = 64;
    for (uint32_t i = 0; i < p->n_order; i++) {
        const node *n = p->order[i];
        size_t w = n->op == OP_ROUTE || n->n_in ? n->in[0]->width : 0;
        if (n->width > w) w = n->width;
        if (n->dtype == DTYPE_F32 && n == p->g->result) w = 0; /* logits never pass through scratch */
        if (w > most) most = w;
    }
    return align64(most * sizeof(float));
}

typedef struct {
    size_t row, attn, split, gather, rows, total;
    uint32_t max_rows;
} scratch_sizes;

static scratch_sizes sizes(const plan *p, uint32_t device, const kv_layout *kv, uint32_t n_threads) {
    scratch_sizes s = {.row = widest_row(p), .attn = align64(cpu_attention_floats(kv, p) * sizeof(float))};
    s.split = align64(cpu_attention_split_floats(kv, p, n_threads) * sizeof(float));
    s.gather = cpu_moe_gather_bytes(p, device, &s.max_rows);
    s.rows = align64(s.max_rows * sizeof(uint32_t));
    s.total = n_threads * (s.row + s.attn) + s.split + s.gather + s.rows + 4096;
    return s;
}

size_t cpu_scratch_measure(const plan *p, uint32_t device, const kv_layout *kv, uint32_t n_threads) {
    return sizes(p, device, kv, n_threads).total;
}

status cpu_scratch_alloc(cpu_backend *c, err *e) {
    scratch_sizes s = sizes(c->p, c->device, c->kv, c->n_threads);
    c->scratch_bytes = s.total;
    c->scratch_block = mem_map(s.total);
    if (!c->scratch_block) return fail(e, ERR_NOMEM, "cannot reserve %zu MiB for scratch", s.total >> 20);
    uint8_t *at = c->scratch_block;
    c->zeros = (const float *)(void *)at;
    at += 4096;
    for (uint32_t i = 0; i < c->n_threads; i++) {
        c->scratch[i].row = (float *)(void *)at;
        c->scratch[i].attn = (float *)(void *)(at + s.row);
        at += s.row + s.attn;
    }
    c->split = (float *)(void *)at;
    c->split_floats = s.split / sizeof(float);
    c->gather = at + s.split;
    c->expert_rows = (uint32_t *)(void *)(c->gather + s.gather);
    return OK;
}
