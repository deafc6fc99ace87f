/* What a step is told, in one block: made in pinned memory, up in one copy. Arrays stand one after another for the step's own
 * number of rows, so that a decode copies little; their places depend on the number of rows alone, so that a captured step
 * finds them again. A padded step has rows that nobody asked for: token 0 of no sequence (ATTN_NONE), which the kernels of the
 * cache and of attention skip; what the others compute for them nobody reads. */
#include "backend/cpu/rope_table.h"
#include "backend/gpu/attention_plan.h"
#include "backend/gpu/gpu_sample.h"
#include "base/mem.h"

#include <string.h>

enum { STEP_ALIGN = 64, TABLE_TOKENS = 16, MOST_POSITIONS = 1 << 18, MOST_PAGE_ENTRIES = 1 << 24, LEAST_CHUNKS = 4 };

static uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }

static uint64_t page_entries(const plan *p, const kv_layout *kv) {
    uint64_t n = (uint64_t)p->max_tok * kv->n_pages;
    return n < MOST_PAGE_ENTRIES ? n : MOST_PAGE_ENTRIES;
}

/* --- places ------------------------------------------------------------------------------------------------------------ */

typedef struct {
    uint32_t n_tok, n_out, n_seq, n_tile, n_tables, n_rot[GPU_MAX_TABLES];
    uint64_t n_pages;
    gpu_draws_up draws;
} step_shape;

static void put(gpu_step *s, step_array a, size_t n_bytes) {
    s->at[a] = s->n_bytes;
    s->n_bytes = (s->n_bytes + n_bytes + STEP_ALIGN - 1) / STEP_ALIGN * STEP_ALIGN;
}

static void lay_out(gpu_step *s, const step_shape *h) {
    size_t tok = h->n_tok;
    s->n_bytes = 0;
    put(s, STEP_TOKEN, tok * 4);
    put(s, STEP_POS, tok * 4);
    put(s, STEP_SEQ, tok * 4);
    put(s, STEP_OUT_ROW, (size_t)h->n_out * 4);
    put(s, STEP_FIRST_PAGE, (size_t)h->n_seq * 4);
    put(s, STEP_SINGLE, tok * sizeof(attn_single));
    put(s, STEP_TILE, h->n_tile * sizeof(attn_tile_of));
    for (uint32_t i = 0; i < GPU_MAX_TABLES; i++)
        put(s, STEP_TABLE + i, i < h->n_tables ? tok * h->n_rot[i] * sizeof(float) : 0);
    put(s, STEP_PAGE, h->n_pages * 4);
    put(s, STEP_JOB, h->draws.n_jobs * sizeof(sample_job));
    put(s, STEP_EDIT, h->draws.n_edits * sizeof(sample_edit));
}

static bool is_table_here(const node *n, uint32_t device) { return n->op == OP_ROPE_TABLE && n->device == device; }

status gpu_step_measure(const plan *p, uint32_t device, const kv_layout *kv, size_t *n_bytes, err *e) {
    step_shape h = {.n_tok = p->max_tok, .n_out = p->max_out, .n_seq = p->max_tok, .n_tile = p->max_tok};
    h.n_pages = page_entries(p, kv);
    h.draws = gpu_draws_most(p, device);
    for (uint32_t i = 0; i < p->n_order; i++) {
        if (!is_table_here(p->order[i], device)) continue;
        if (h.n_tables == GPU_MAX_TABLES)
            return fail(e, ERR_UNSUPPORTED, "more than %d rope tables on one GPU", GPU_MAX_TABLES);
        h.n_rot[h.n_tables++] = p->order[i]->width;
    }
    gpu_step s;
    lay_out(&s, &h);
    *n_bytes = s.n_bytes;
    return OK;
}

/* --- rope tables ------------------------------------------------------------------------------------------------------- */

static status open_table(gpu_backend *g, const node *n, err *e) {
    gpu_rope_table *t = &g->table[g->n_tables++];
    uint64_t n_pos = (uint64_t)g->kv->n_pages * g->kv->page_tokens;
    t->n = n;
    t->n_pos = n_pos < MOST_POSITIONS ? (uint32_t)n_pos : MOST_POSITIONS;
    t->row = mem_map((size_t)t->n_pos * n->width * sizeof *t->row);
    t->made = mem_array(t->n_pos, 1);
    if (!t->row || !t->made) return fail(e, ERR_NOMEM, "rope table");
    if (n->n_in < 2) return OK;
    const gguf_tensor *f = n->in[1]->weight;
    t->factors = mem_array(f->dim[0], sizeof *t->factors);
    if (!t->factors) return fail(e, ERR_NOMEM, "rope table");
    quant_lookup(f->type)->decode(t->factors, f->data, (size_t)f->dim[0]);
    return OK;
}

typedef struct {
    gpu_rope_table *t;
    const step_input *in;
    const uint32_t *tok; /* whose rows are to be made */
    uint32_t n;
} table_job;

static void make_rows(void *ctx, uint32_t chunk, uint32_t worker) {
    (void)worker;
    const table_job *j = ctx;
    uint32_t end = min_u32((chunk + 1) * TABLE_TOKENS, j->n);
    for (uint32_t i = chunk * TABLE_TOKENS; i < end; i++) {
        int32_t pos = j->in->pos[j->tok[i]];
        rope_table_row(j->t->row + (size_t)pos * j->t->n->width, pos, &j->t->n->p, j->t->factors);
    }
}

/* Each position once, on all threads; then every token's row is copied. */
static void fill_table(gpu_backend *g, gpu_rope_table *t, const step_input *in, float *dst) {
    table_job j = {.t = t, .in = in, .tok = g->missing};
    size_t width = t->n->width;
    for (uint32_t i = 0; i < in->n_tok; i++) {
        uint32_t pos = (uint32_t)in->pos[i];
        if (pos >= t->n_pos || t->made[pos]) continue;
        t->made[pos] = 1;
        g->missing[j.n++] = i;
    }
    pool_run(g->pool, make_rows, &j, (j.n + TABLE_TOKENS - 1) / TABLE_TOKENS);
    for (uint32_t i = 0; i < in->n_tok; i++) {
        uint32_t pos = (uint32_t)in->pos[i];
        if (pos < t->n_pos)
            memcpy(dst + i * width, t->row + pos * width, width * sizeof *dst);
        else
            rope_table_row(dst + i * width, in->pos[i], &t->n->p, t->factors);
    }
}

/* --- open and close ---------------------------------------------------------------------------------------------------- */

status gpu_step_open(gpu_backend *g, err *e) {
    void *host = NULL;
    status s = gpu_step_measure(g->p, g->id, g->kv, &g->step_bytes, e);
    if (!s) s = g->d->alloc(g->d, g->dev, g->step_bytes, &g->step, e);
    if (!s) s = g->d->host_alloc(g->d, g->dev, g->step_bytes, &host, e);
    if (s) return s;
    g->step_host = host;
    uint32_t n = g->p->max_tok;
    g->missing = mem_array(n, sizeof *g->missing);
    g->first_page = mem_array(n, sizeof *g->first_page);
    g->single = mem_array(n, sizeof *g->single);
    g->tile = mem_array(n, sizeof *g->tile);
    if (!g->missing || !g->first_page || !g->single || !g->tile) return fail(e, ERR_NOMEM, "a step's lists");
    for (uint32_t i = 0; !s && i < g->p->n_order; i++)
        if (is_table_here(g->p->order[i], g->id)) s = open_table(g, g->p->order[i], e);
    return s;
}

void gpu_step_close(gpu_backend *g) {
    for (uint32_t i = 0; i < g->n_tables; i++) {
        gpu_rope_table *t = &g->table[i];
        mem_unmap(t->row, (size_t)t->n_pos * t->n->width * sizeof *t->row);
        mem_free(t->made);
        mem_free(t->factors);
    }
    g->n_tables = 0;
    mem_free(g->missing);
    mem_free(g->first_page);
    mem_free(g->single);
    mem_free(g->tile);
    if (g->step_host) g->d->host_release(g->d, g->dev, g->step_host);
    if (g->step) g->d->release(g->d, g->dev, g->step);
    g->step_host = NULL, g->step = 0, g->missing = NULL;
}

static uint32_t run_end(const step_input *in, uint32_t t) {
    uint32_t end = t + 1;
    while (end < in->n_tok && in->seq[end] == in->seq[t]) end++;
    return end;
}

/* --- the step ---------------------------------------------------------------------------------------------------------- */

static uint32_t pages_of(const gpu_backend *g, const step_input *in, uint32_t last_tok) {
    return (uint32_t)in->pos[last_tok] / g->kv->page_tokens + 1;
}

/* Where the table of each sequence begins, end to end; returns the length of all. */
static uint64_t find_pages(const gpu_backend *g, const step_input *in, uint32_t *first) {
    uint64_t at = 0;
    for (uint32_t i = 0; i < in->n_seq; i++) first[i] = 0;
    for (uint32_t t = 0, end; t < in->n_tok; t = end) {
        end = run_end(in, t);
        first[in->seq[t]] = (uint32_t)at;
        at += pages_of(g, in, end - 1);
    }
    return at;
}

static void fill_pages(const gpu_backend *g, const step_input *in, uint32_t *page) {
    for (uint32_t t = 0, end; t < in->n_tok; t = end) {
        end = run_end(in, t);
        uint32_t seq = in->seq[t];
        memcpy(page + g->first_page[seq], in->page_table[seq], pages_of(g, in, end - 1) * sizeof *page);
    }
}

static void fill_u32(uint8_t *base, size_t at, const void *src, uint32_t n, uint32_t n_padded, uint32_t pad) {
    uint32_t *dst = (uint32_t *)(void *)(base + at);
    memcpy(dst, src, n * sizeof *dst);
    for (uint32_t i = n; i < n_padded; i++) dst[i] = pad;
}

static void fill_draws(const gpu_backend *g, const gpu_step *s) {
    const gpu_draws_up d = gpu_draws_now(g);
    if (d.n_jobs) memcpy(g->step_host + s->at[STEP_JOB], d.job, d.n_jobs * sizeof *d.job);
    if (d.n_edits) memcpy(g->step_host + s->at[STEP_EDIT], d.edit, d.n_edits * sizeof *d.edit);
}

static void fill(gpu_backend *g, gpu_step *s, const step_input *in, uint32_t n_single) {
    uint8_t *h = g->step_host;
    attn_single *single = (attn_single *)(void *)(h + s->at[STEP_SINGLE]);
    fill_u32(h, s->at[STEP_TOKEN], in->token, in->n_tok, s->n_tok, 0);
    fill_u32(h, s->at[STEP_POS], in->pos, in->n_tok, s->n_tok, 0);
    fill_u32(h, s->at[STEP_SEQ], in->seq, in->n_tok, s->n_tok, ATTN_NONE);
    fill_u32(h, s->at[STEP_OUT_ROW], in->out_row, in->n_out, s->n_out, 0);
    memcpy(h + s->at[STEP_FIRST_PAGE], g->first_page, in->n_seq * sizeof *g->first_page);
    fill_pages(g, in, (uint32_t *)(void *)(h + s->at[STEP_PAGE]));
    memcpy(single, g->single, n_single * sizeof *single);
    for (uint32_t i = n_single; i < s->n_single; i++) single[i] = (attn_single){.tok = ATTN_NONE};
    memcpy(h + s->at[STEP_TILE], g->tile, s->n_tile * sizeof *g->tile);
    fill_draws(g, s);
    for (uint32_t i = 0; i < g->n_tables; i++)
        fill_table(g, &g->table[i], in, (float *)(void *)(h + s->at[STEP_TABLE + i]));
}

static uint32_t bucket(uint32_t n) { /* 1 to 8, then by 4 to 32, by 8 to 64 */
    uint32_t step = n <= 8 ? 1 : n <= 32 ? 4 : 8;
    return (n + step - 1) / step * step;
}

static uint32_t chunk_bucket(uint32_t n) {
    uint32_t b = LEAST_CHUNKS;
    while (b < n) b *= 2;
    return b;
}

/* Whether the step is one that is captured, and replayed for others like it: some tokens, each with its output. */
static bool may_pad(const gpu_backend *g, const gpu_step *s, const step_input *in) {
    return g->graphs && in->n_tok <= GPU_GRAPH_TOK && in->n_out == in->n_tok && in->n_seq <= in->n_tok &&
           s->n_tile == 0;
}

status gpu_step_begin(gpu_backend *g, const step_input *in, err *e) {
    gpu_step *s = &g->now;
    attention_lists l;
    uint64_t n_pages = find_pages(g, in, g->first_page);
    attention_plan(&l, g->single, g->tile, in->n_tok, in->seq, in->pos, g->first_page, g->group, (uint32_t)g->states);
    *s = (gpu_step){.n_tok = in->n_tok, .n_out = in->n_out, .n_single = l.n_singles, .n_tile = l.n_tiles};
    s->n_chunks = l.max_chunks;
    s->padded = may_pad(g, s, in);
    if (s->padded) {
        s->n_tok = s->n_out = min_u32(bucket(in->n_tok), min_u32(g->p->max_tok, g->p->max_out));
        s->n_single = s->n_tok;
        s->n_chunks = chunk_bucket(s->n_chunks);
    }
    step_shape h = {.n_tok = s->n_tok, .n_out = s->n_out, .n_seq = s->padded ? s->n_tok : in->n_seq};
    h.n_tile = s->n_tile;
    h.n_pages = n_pages;
    h.draws = gpu_draws_now(g);
    h.n_tables = g->n_tables;
    for (uint32_t i = 0; i < g->n_tables; i++) h.n_rot[i] = g->table[i].n->width;
    lay_out(s, &h);
    if (s->n_bytes > g->step_bytes)
        return fail(e, ERR_RANGE, "a step over %u sequences with %llu pages in all", in->n_seq,
                    (unsigned long long)h.n_pages);
    g->run_out = in->n_out;
    fill(g, s, in, l.n_singles);
    g->count.steps++;
    g->count.copies_in++;
    g->count.bytes_in += s->n_bytes;
    g->pending = true;
    return g->d->copy_in(g->d, g->dev, g->step, g->step_host, s->n_bytes, g->stream, e);
}
