#include "exec/exec.h"

#include "base/mem.h"
#include "graph/ops.h"

#include <math.h>
#include <string.h>

struct exec {
    const gguf *file;
    model_info model;
    graph g;
    bool has_graph;
    plan p;
    kv_layout kv;
    backend **backends;
    uint32_t n_backends;
    uint32_t max_tok, max_out;
    float *logits, *hidden, *scores; /* where a result's backend is no host memory; else NULL and the value is peeked */
    float *copied;                   /* for copies between backends: the largest crossing value */
    const uint32_t **page_table;
    uint32_t n_seq_max;
    sample_scratch **sampler; /* [n_samplers]: one for each thread of the result's backend */
    uint32_t n_samplers;
    uint32_t *first_out; /* [n_seq_max] row of each sequence of the step */
    backend_draw *draw;  /* [max_out] of the step, by the result's backend */
    uint8_t *row_drawn;  /* [max_out] rows whose token stands in its place already */
    uint32_t n_draws;
    err draw_failed; /* of a sequence that has none of its own */
    const float *last_logits, *last_hidden, *last_scores;
    size_t logits_stride, hidden_stride, scores_stride; /* floats */
};

typedef struct {
    const backend *b;
    const exec_options *opt;
    uint32_t i;
} candidate;

static bool device_supports(const void *ctx, const node *n) {
    const candidate *c = ctx;
    return c->b->ops->supports(c->b, n) && (!c->opt->may || c->opt->may(c->opt->choose_ctx, n, c->i));
}

static double device_cost(const void *ctx, const node *n) {
    const candidate *c = ctx;
    return plan_cost(&c->opt->speed[c->i], n);
}

/* Everything that comes before memory is touched: model, graph, placement, plan, cache layout. */
static status prepare(exec *x, const gguf *file, const exec_options *opt, err *e) {
    x->file = file;
    x->max_tok = opt->max_tok;
    x->max_out = opt->max_out;
    status s = model_info_read(&x->model, file, e);
    if (s) return s;
    graph_init(&x->g, e);
    x->has_graph = true;
    x->g.keep_hidden = opt->hidden;
    s = model_build(&x->g, &x->model, file, e);
    if (!s) s = graph_optimise(&x->g, opt->passes, NULL, NULL, e);
    plan_device dev[PLAN_MAX_DEVICES];
    candidate c[PLAN_MAX_DEVICES];
    for (uint32_t i = 0; i < x->n_backends; i++) {
        c[i] = (candidate){x->backends[i], opt, i};
        dev[i] = (plan_device){.name = x->backends[i]->ops->kind, .supports = device_supports, .ctx = &c[i]};
        if (opt->speed) dev[i].cost = device_cost;
    }
    plan_options po = {.strategy = opt->strategy,
                       .choose = opt->choose,
                       .choose_ctx = opt->choose_ctx,
                       .moved = opt->moved,
                       .max_tok = opt->max_tok,
                       .max_out = opt->max_out};
    if (!s) s = plan_place(&x->g, dev, x->n_backends, &po, e);
    if (!s) s = plan_make(&x->p, &x->g, x->n_backends, &po, e);
    if (s) return s;
    x->kv = (kv_layout){.n_layers = x->model.n_kv_layers,
                        .page_tokens = opt->page_tokens,
                        .n_pages = opt->n_pages,
                        .type_k = opt->type_k,
                        .type_v = opt->type_v};
    x->kv.layer = mem_array(x->model.n_kv_layers, sizeof *x->kv.layer);
    if (!x->kv.layer) return fail(e, ERR_NOMEM, "KV layout");
    for (uint32_t i = 0; i < x->model.n_kv_layers; i++) {
        const model_layer *l = &x->model.layer[i];
        x->kv.layer[i] = (kv_layer){.n_kv_head = l->n_kv_head, .d_k = l->d_k, .d_v = l->d_v};
    }
    return kv_layout_make(&x->kv, e);
}

/* Memory for a result's rows, where they cannot be read in place. */
static bool reserve_rows(const exec *x, const node *n, float **rows) {
    size_t stride;
    backend *b = x->backends[n->device];
    if (b->ops->peek(b, n, &stride)) return true;
    *rows = mem_array(x->max_out, n->width * sizeof **rows);
    return *rows != NULL;
}

static bool reserve_samplers(exec *x) {
    backend *host = x->backends[x->g.result->device];
    uint32_t n = host->ops->host_work(host, NULL, NULL, 0);
    x->sampler = mem_array(n, sizeof *x->sampler);
    bool ok = x->sampler != NULL;
    for (; ok && x->n_samplers < n; x->n_samplers += ok) {
        x->sampler[x->n_samplers] = sample_scratch_new(x->model.n_vocab);
        ok = x->sampler[x->n_samplers] != NULL;
    }
    return ok;
}

/* Host memory of the executor itself: what crosses between backends, and the page tables of a step. */
static status reserve(exec *x, err *e) {
    size_t crossing = 0;
    for (uint32_t i = 0; i < x->p.n_order; i++) {
        const node *n = x->p.order[i];
        size_t rows = n->rows == ROWS_TOK ? x->max_tok : n->rows == ROWS_OUT ? x->max_out : 1;
        if (n->op == OP_COPY && rows * graph_row_bytes(n->dtype, n->width) > crossing)
            crossing = rows * graph_row_bytes(n->dtype, n->width);
    }
    x->n_seq_max = x->max_tok;
    x->page_table = mem_array(x->n_seq_max, sizeof *x->page_table);
    x->first_out = mem_array(x->n_seq_max, sizeof *x->first_out);
    x->draw = mem_array(x->max_out, sizeof *x->draw);
    x->row_drawn = mem_array(x->max_out, sizeof *x->row_drawn);
    if (crossing) x->copied = mem_alloc(crossing);
    bool rows = reserve_rows(x, x->g.result, &x->logits) && (!x->g.hidden || reserve_rows(x, x->g.hidden, &x->hidden));
    rows = rows && (!x->g.scores || reserve_rows(x, x->g.scores, &x->scores));
    rows = rows && reserve_samplers(x) && x->first_out && x->draw && x->row_drawn;
    return rows && x->page_table && (!crossing || x->copied) ? OK : fail(e, ERR_NOMEM, "executor");
}

status exec_open(exec **out, const gguf *g, const exec_options *opt, backend *const *backends, uint32_t n_backends,
                 void (*progress)(void *, uint64_t, uint64_t), void *ctx, err *e) {
    *out = NULL;
    exec *x = mem_zalloc(sizeof *x);
    if (x) x->backends = mem_array(n_backends, sizeof *x->backends);
    if (!x || !x->backends) {
        for (uint32_t i = 0; i < n_backends; i++) backends[i]->ops->close(backends[i]);
        mem_free(x);
        return fail(e, ERR_NOMEM, "executor");
    }
    memcpy(x->backends, backends, n_backends * sizeof *backends);
    x->n_backends = n_backends;
    status s = prepare(x, g, opt, e);
    for (uint32_t i = 0; !s && i < n_backends; i++)
        s = backends[i]->ops->load(backends[i], &x->p, i, &x->kv, progress, ctx, e);
    if (!s) s = reserve(x, e);
    status changed = gguf_check(g, e); /* what was repacked, or refused, must have been the file's */
    if (changed) s = changed;
    if (s)
        exec_close(x);
    else
        *out = x;
    return s;
}

void exec_close(exec *x) {
    if (!x) return;
    for (uint32_t i = 0; i < x->n_backends; i++) x->backends[i]->ops->close(x->backends[i]);
    plan_free(&x->p);
    if (x->has_graph) graph_free(&x->g);
    model_info_free(&x->model);
    for (uint32_t i = 0; i < x->n_samplers; i++) sample_scratch_free(x->sampler[i]);
    mem_free(x->sampler);
    mem_free(x->first_out);
    mem_free(x->draw);
    mem_free(x->row_drawn);
    mem_free(x->backends);
    mem_free(x->kv.layer);
    mem_free(x->page_table);
    mem_free(x->copied);
    mem_free(x->logits);
    mem_free(x->hidden);
    mem_free(x->scores);
    mem_free(x);
}

static uint32_t rows_of(const step_input *in, const node *n) {
    return n->rows == ROWS_TOK ? in->n_tok : n->rows == ROWS_OUT ? in->n_out : 1;
}

/* A value crosses from the backend that made it to the one that wants it. Reading waits for what was queued before. */
static status cross(exec *x, const node *n, const step_input *in, err *e) {
    const node *from = n->in[0];
    backend *src = x->backends[from->device], *dst = x->backends[n->device];
    bool taken = false;
    status s = dst->ops->take ? dst->ops->take(dst, n, rows_of(in, n), src, &taken, e) : OK;
    if (s || taken) return s;
    s = src->ops->read(src, from, rows_of(in, n), x->copied, e);
    return s ? s : dst->ops->write(dst, n, rows_of(in, n), x->copied, e);
}

static status run_segments(exec *x, const step_input *in, err *e) {
    status s = OK;
    for (uint32_t i = 0; !s && i < x->p.n_segments; i++) {
        const plan_segment *seg = &x->p.segment[i];
        const node *first = x->p.order[seg->first];
        if (first->op == OP_COPY)
            s = rows_of(in, first) ? cross(x, first, in, e) : OK;
        else
            s = x->backends[seg->device]->ops->run(x->backends[seg->device], seg, in, e);
    }
    return s;
}

/* Every backend, whatever failed: until it has waited, it may still read the step's arrays. */
static status wait_all(exec *x, status s, err *e) {
    for (uint32_t i = 0; i < x->n_backends; i++) {
        status late = x->backends[i]->ops->wait(x->backends[i], s ? NULL : e);
        if (!s) s = late;
    }
    return s;
}

/* A result's rows, in place or read into `copied`. */
static status fetch_rows(exec *x, const node *n, uint32_t n_out, float *copied, const float **rows, size_t *stride,
                         err *e) {
    if (!n || !n_out) return OK;
    backend *b = x->backends[n->device];
    size_t n_bytes = 0;
    const void *p = b->ops->peek(b, n, &n_bytes);
    *rows = p ? p : copied;
    *stride = p ? n_bytes / sizeof(float) : n->width;
    return p ? OK : b->ops->read(b, n, n_out, copied, e);
}

static status fetch(exec *x, uint32_t n_out, err *e) {
    status s = fetch_rows(x, x->g.result, n_out, x->logits, &x->last_logits, &x->logits_stride, e);
    if (!s) s = fetch_rows(x, x->g.hidden, n_out, x->hidden, &x->last_hidden, &x->hidden_stride, e);
    return s ? s : fetch_rows(x, x->g.scores, n_out, x->scores, &x->last_scores, &x->scores_stride, e);
}

/* --- draws that the result's backend makes itself ----------------------------------------------------------------------- */

static bool may_draw(const exec_batch *b, uint32_t out) {
    uint32_t seq = b->seq[b->out_row[out]];
    const exec_seq *q = &b->seqs[seq];
    bool alone =
        (out == 0 || b->seq[b->out_row[out - 1]] != seq) && (out + 1 == b->n_out || b->seq[b->out_row[out + 1]] != seq);
    return alone && q->sampling && q->result && !q->logits;
}

static status begin_draws(exec *x, const exec_batch *b, err *e) {
    backend *r = x->backends[x->g.result->device];
    x->n_draws = 0;
    x->draw_failed.code = OK;
    memset(x->row_drawn, 0, b->n_out);
    if (!r->ops->draw_begin) return OK;
    for (uint32_t o = 0; o < b->n_out; o++) {
        exec_seq q = b->seqs[b->seq[b->out_row[o]]];
        if (!may_draw(b, o)) continue;
        x->draw[x->n_draws++] = (backend_draw){.row = o,
                                               .params = q.sampling,
                                               .history = q.history,
                                               .n_history = q.n_history,
                                               .pos = q.sample_pos,
                                               .out = q.result,
                                               .failed = q.failed ? q.failed : &x->draw_failed};
    }
    return r->ops->draw_begin(r, x->g.result, x->draw, x->n_draws, e);
}

static status end_draws(exec *x, const exec_batch *b, err *e) {
    backend *r = x->backends[x->g.result->device];
    status s = r->ops->draw_end ? r->ops->draw_end(r, e) : OK;
    for (uint32_t i = 0; i < x->n_draws; i++) {
        const backend_draw *w = &x->draw[i];
        const exec_seq *q = &b->seqs[b->seq[b->out_row[w->row]]];
        x->row_drawn[w->row] = w->drawn;
        if (!w->drawn && q->left) *q->left = w->why;
    }
    if (s || !x->draw_failed.code) return s;
    if (e) *e = x->draw_failed;
    return x->draw_failed.code;
}

/* Logits that nobody samples are checked here: a number that is not finite never leaves as an answer. */
static status check_finite(const float *row, uint32_t n, err *e) {
    float sum = 0.0f;
    for (uint32_t i = 0; i < n; i++) sum += row[i] * 0.0f; /* stays 0 unless a value is NaN or infinite */
    if (sum == 0.0f) return OK;
    return fail(e, ERR_NUMBERS, "the model's logits are not finite: its weights hold NaN or infinite scales");
}

static status use_row(exec *x, const exec_seq *q, const float *row, sample_scratch *scratch, err *e) {
    uint32_t n = x->g.result->width; /* n_vocab; of an encoder d_model */
    if (!q->sampling || !q->result) return check_finite(row, n, e);
    return sample_token(row, n, q->sampling, q->history, q->n_history, q->sample_pos, scratch, q->result, e);
}

typedef struct {
    exec *x;
    const exec_batch *b;
} rows_job;

static status use_rows(const rows_job *job, uint32_t seq, uint32_t worker, err *e) {
    const exec_batch *b = job->b;
    status s = OK;
    for (uint32_t o = job->x->first_out[seq]; !s && o < b->n_out && b->seq[b->out_row[o]] == seq; o++)
        if (!job->x->row_drawn[o])
            s = use_row(job->x, &b->seqs[seq], exec_logits(job->x, o), job->x->sampler[worker], e);
    return s;
}

/* One sequence's rows: its failure is its own affair, the others of the step go on. */
static void use_own_rows(void *ctx, uint32_t i, uint32_t worker) {
    const rows_job *job = ctx;
    const exec_seq *q = &job->b->seqs[i];
    uint32_t first = job->x->first_out[i];
    if (first < job->b->n_out && job->x->row_drawn[first]) return; /* its one row */
    if (q->failed) q->failed->code = use_rows(job, i, worker, q->failed);
}

/* On all threads: a row of a large vocabulary takes one of them a good part of a millisecond. */
static status use_logits(exec *x, const exec_batch *b, err *e) {
    backend *host = x->backends[x->g.result->device];
    rows_job job = {x, b};
    status s = OK;
    for (uint32_t i = 0; i < b->n_seq; i++) x->first_out[i] = b->n_out;
    for (uint32_t o = b->n_out; o-- > 0;) x->first_out[b->seq[b->out_row[o]]] = o;
    host->ops->host_work(host, use_own_rows, &job, b->n_seq);
    for (uint32_t i = 0; !s && i < b->n_seq; i++)
        if (!b->seqs[i].failed) s = use_rows(&job, i, 0, e);
    return s;
}

status exec_step(exec *x, const exec_batch *b, err *e) {
    if (b->n_tok == 0 || b->n_tok > x->max_tok || b->n_out > x->max_out || b->n_seq > x->n_seq_max)
        return fail(e, ERR_INTERNAL, "a step of %u tokens, %u outputs, %u sequences", b->n_tok, b->n_out, b->n_seq);
    for (uint32_t i = 0; i < b->n_seq; i++) x->page_table[i] = b->seqs[i].pages;
    step_input in = {.n_tok = b->n_tok,
                     .n_out = b->n_out,
                     .n_seq = b->n_seq,
                     .token = b->token,
                     .pos = b->pos,
                     .seq = b->seq,
                     .out_row = b->out_row,
                     .page_table = x->page_table};
    status s = begin_draws(x, b, e);
    if (!s) s = run_segments(x, &in, e);
    s = wait_all(x, s, e);
    if (!s) s = end_draws(x, b, e);
    if (!s) s = fetch(x, b->n_out, e);
    if (!s) s = exec_check_file(x, e);
    return s ? s : use_logits(x, b, e);
}

status exec_check_file(const exec *x, err *e) { return gguf_check(x->file, e); }

const float *exec_logits(const exec *x, uint32_t out) { return x->last_logits + (size_t)out * x->logits_stride; }
const float *exec_hidden(const exec *x, uint32_t out) {
    return x->g.hidden ? x->last_hidden + (size_t)out * x->hidden_stride : exec_logits(x, out);
}
const float *exec_scores(const exec *x, uint32_t out) { return x->last_scores + (size_t)out * x->scores_stride; }
const kv_layout *exec_kv(const exec *x) { return &x->kv; }

const model_info *exec_model(const exec *x) { return &x->model; }

void exec_device(const exec *x, strbuf *out) {
    for (uint32_t i = 0; i < x->n_backends; i++) {
        if (i) strbuf_puts(out, " + ");
        x->backends[i]->ops->describe(x->backends[i], out);
    }
}

void exec_traffic(const exec *x, uint64_t *weights, uint64_t *kv_per_token) {
    *weights = 0;
    for (uint32_t i = 0; i < x->p.n_order; i++) {
        const node *n = x->p.order[i];
        if (n->op != OP_LINEAR && n->op != OP_LINEAR_EXPERT) continue;
        for (uint32_t k = 0; k < n->n_in; k++) {
            const gguf_tensor *t = n->in[k]->weight;
            if (n->in[k]->op != OP_WEIGHT) continue;
            *weights += n->op == OP_LINEAR ? t->n_bytes : t->n_bytes / t->dim[2] * n->p.expert.n_used;
        }
    }
    *kv_per_token = x->kv.page_bytes / x->kv.page_tokens;
}

status exec_measure(const gguf *g, const exec_options *opt, backend *const *backends, uint32_t n_backends,
                    backend_memory *out, err *e) {
    exec *x = mem_zalloc(sizeof *x);
    if (!x) return fail(e, ERR_NOMEM, "memory plan");
    x->backends = (backend **)(uintptr_t)backends; /* borrowed: taken out again below */
    x->n_backends = n_backends;
    status s = prepare(x, g, opt, e);
    for (uint32_t i = 0; !s && i < n_backends; i++)
        s = backends[i]->ops->measure(backends[i], &x->p, i, &x->kv, &out[i], e);
    x->backends = NULL;
    x->n_backends = 0;
    exec_close(x);
    return s;
}

void exec_shares(const exec *x, exec_share *share) {
    for (uint32_t i = 0; i < x->n_backends; i++) share[i] = (exec_share){0};
    for (uint32_t i = 0; i < x->p.n_order; i++) {
        const node *n = x->p.order[i];
        if (op_is_input(n->op) || n->op == OP_VIEW || n->op == OP_COPY || n->op == OP_ROPE_TABLE) continue;
        share[n->device].n_nodes++;
        share[n->device].n_layers += n->op == OP_ATTENTION;
    }
}

status exec_place(const gguf *g, const exec_options *opt, backend *const *backends, uint32_t n_backends,
                  exec_share *share, err *e) {
    exec *x = mem_zalloc(sizeof *x);
    if (!x) return fail(e, ERR_NOMEM, "placement");
    x->backends = (backend **)(uintptr_t)backends; /* borrowed: taken out again below */
    x->n_backends = n_backends;
    status s = prepare(x, g, opt, e);
    if (!s) exec_shares(x, share);
    for (uint32_t d = 0; !s && opt->speed && d < n_backends; d++) {
        plan_speed alone = opt->speed[d];
        alone.handicap = 1;
        for (uint32_t i = 0; i < x->p.n_order; i++)
            if (x->p.order[i]->op != OP_COPY) share[d].alone_s += plan_cost(&alone, x->p.order[i]);
    }
    x->backends = NULL;
    x->n_backends = 0;
    exec_close(x);
    return s;
}

status exec_dump_graph(const gguf *g, unsigned passes, strbuf *out, err *e) {
    model_info m = {0};
    graph gr;
    status s = model_info_read(&m, g, e);
    if (s) return s;
    graph_init(&gr, e);
    gr.keep_hidden = m.encoder; /* with what its rank head makes of them */
    s = model_build(&gr, &m, g, e);
    graph_stat stats[GRAPH_MAX_STATS];
    uint32_t n_stats = 0;
    if (!s) s = graph_optimise(&gr, passes, stats, &n_stats, e);
    for (uint32_t i = 0; !s && i < n_stats; i++)
        strbuf_printf(out, "# %-20s applied %4u  nodes %u -> %u\n", stats[i].name, stats[i].applied,
                      stats[i].nodes_before, stats[i].nodes_after);
    if (!s) s = graph_dump(&gr, out);
    graph_free(&gr);
    model_info_free(&m);
    return s;
}

/* --- pages: every backend holds its layers' part of each, in a block of the same shape -------------------------------- */

size_t exec_page_bytes(const exec *x) { return x->kv.page_bytes * x->n_backends; }

status exec_page_copy(exec *x, uint32_t to, uint32_t from, err *e) {
    status s = OK;
    for (uint32_t i = 0; !s && i < x->n_backends; i++) s = x->backends[i]->ops->page_copy(x->backends[i], to, from, e);
    return s;
}

status exec_page_read(exec *x, uint32_t page, void *dst, err *e) {
    status s = OK;
    for (uint32_t i = 0; !s && i < x->n_backends; i++)
        s = x->backends[i]->ops->page_read(x->backends[i], page, (char *)dst + i * x->kv.page_bytes, e);
    return s;
}

status exec_page_write(exec *x, uint32_t page, const void *src, err *e) {
    status s = OK;
    for (uint32_t i = 0; !s && i < x->n_backends; i++)
        s = x->backends[i]->ops->page_write(x->backends[i], page, (const char *)src + i * x->kv.page_bytes, e);
    return s;
}
