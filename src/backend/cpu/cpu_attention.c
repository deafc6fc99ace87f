/* Attention over pages. The unit of work is (block of a sequence's tokens) x (kv head): all query heads of the group meet
 * one chunk of 64 keys after the other, left to right, each chunk's keys and values converted to f32 once for all of them.
 * When few units hold most of the work (a single long decode, a piece of a long prompt beside short decodes), their chunks
 * become work of their own; each chunk's (m, l, o) is then kept apart and merged left to right afterwards: the same
 * operations in the same order.
 *
 * One thread's scratch:  K chunk [64 * d_k] | V chunk [64 * d_v] | m [UNIT_Q] | l [UNIT_Q] | o [UNIT_Q * d_v]  */
#include "backend/cpu/cpu_state.h"

#include "base/fmath.h"

#include <string.h>

/* queries of a unit: tokens x heads of the group, at most; groups of 16 keys in a chunk */
enum { UNIT_Q = CPU_MAX_GROUP, GROUPS = ATTN_CHUNK / KV_LANES };

typedef struct {
    cpu_backend *c;
    const node *n;
    const kv_layer *l;
    cpu_value q, y;
    const float *sinks;
    uint32_t group;    /* query heads a kv head */
    uint32_t unit_tok; /* tokens a unit */
    uint32_t n_units, n_heads;
} attn_job;

typedef struct {
    uint32_t tok0, n_tok, head; /* head: kv head */
    uint32_t last;              /* position of its sequence's last token in this step */
} unit;

static uint32_t max_dim(const kv_layout *kv, bool key) {
    uint32_t d = 1;
    for (uint32_t i = 0; i < kv->n_layers; i++) d = max_u32(d, key ? kv->layer[i].d_k : kv->layer[i].d_v);
    return d;
}

size_t cpu_attention_floats(const kv_layout *kv, const plan *p) {
    (void)p;
    size_t dk = max_dim(kv, true), dv = max_dim(kv, false);
    return ATTN_CHUNK * (dk + dv) + 2 * UNIT_Q + UNIT_Q * dv + 64;
}

/* Units end where a sequence, or a block of unit_tok tokens, ends. Walks the batch to unit number `want`; blocks outer,
 * heads inner. With want past the end returns how many there are. */
static uint32_t find_unit(const attn_job *j, uint32_t want, unit *out) {
    const step_input *in = j->c->in;
    uint32_t n = 0;
    for (uint32_t t = 0; t < in->n_tok;) {
        uint32_t end = t + 1;
        while (end < in->n_tok && end - t < j->unit_tok && in->seq[end] == in->seq[t]) end++;
        if (want < n + j->n_heads) {
            *out = (unit){t, end - t, want - n, 0};
            while (end < in->n_tok && in->seq[end] == in->seq[t]) end++;
            out->last = (uint32_t)in->pos[end - 1];
            return n;
        }
        n += j->n_heads;
        t = end;
    }
    return n;
}

/* First key a query at pos sees. */
static uint32_t first_key(const node *n, uint32_t pos) {
    uint32_t w = n->p.attn.window;
    return w && pos >= w ? pos - w + 1 : 0;
}

/* Past the last key it sees. */
static uint32_t end_key(const node *n, const unit *u, uint32_t pos) {
    return u->last - pos < n->p.attn.ahead ? u->last + 1 : pos + n->p.attn.ahead + 1;
}

typedef struct {
    const float *q[UNIT_Q];
    uint32_t lo[UNIT_Q], hi[UNIT_Q];
    float slope[UNIT_Q]; /* ALiBi */
    int32_t at[UNIT_Q];
} chunk_queries;

/* See graph_params.attn.alibi. */
static float alibi_slope(float alibi, uint32_t n_head, uint32_t h) {
    uint32_t p = 1;
    while (p * 2 <= n_head) p *= 2;
    double power = h < p ? h + 1.0 : h - p + 0.5;
    return (float)rf_pow(2.0, -(double)alibi * power / p);
}

/* The unit's queries that see any key of the chunk, with their bounds. All queries of a token share them, so the seeing
 * ones are a run of tokens (what a token sees moves with it); returns how many queries, *first: the
 * first of those tokens. groups: the groups of 16 keys that hold a seen one. */
static uint32_t find_queries(const attn_job *j, const unit *u, uint32_t key0, chunk_queries *cq, uint32_t *first,
                             uint32_t groups[2]) {
    const step_input *in = j->c->in;
    uint32_t n = 0;
    float alibi = j->n->p.attn.alibi;
    groups[0] = GROUPS, groups[1] = 0;
    for (uint32_t t = 0; t < u->n_tok; t++) {
        uint32_t pos = (uint32_t)in->pos[u->tok0 + t], from = first_key(j->n, pos);
        uint32_t to = end_key(j->n, u, pos);
        uint32_t lo = from > key0 ? from - key0 : 0, hi = to > key0 ? min_u32(to - key0, ATTN_CHUNK) : 0;
        if (lo >= hi) continue;
        if (n == 0) *first = t;
        groups[0] = min_u32(groups[0], lo / KV_LANES);
        groups[1] = max_u32(groups[1], (hi + KV_LANES - 1) / KV_LANES);
        const float *q = (const float *)(void *)(j->q.data + (u->tok0 + t) * j->q.stride);
        for (uint32_t h = 0; h < j->group; h++, n++) {
            cq->q[n] = q + (size_t)(u->head * j->group + h) * j->l->d_k;
            cq->lo[n] = lo;
            cq->hi[n] = hi;
            cq->at[n] = (int32_t)pos - (int32_t)key0;
            if (alibi == 0.0f) continue;
            cq->slope[n] =
                n < j->group ? alibi_slope(alibi, j->n->p.attn.n_head, u->head * j->group + h) : cq->slope[h];
        }
    }
    return n;
}

/* Group g of the chunk, as the cache stores it. */
static void point_at_group(const attn_job *j, const unit *u, uint32_t key0, uint32_t g, attn_chunk_args *a) {
    const cpu_backend *c = j->c;
    const kv_layer *kv = j->l;
    uint32_t pos = key0 + g * KV_LANES, slot = pos % c->kv->page_tokens;
    uint32_t page = c->in->page_table[c->in->seq[u->tok0]][pos / c->kv->page_tokens];
    const uint8_t *head = c->kv_block + page * c->kv->page_bytes + kv->offset + u->head * kv->head_bytes;
    size_t ke = (size_t)slot * kv->d_k, ve = (size_t)slot * kv->d_v; /* values before this group */
    a->k[g] = head + kv_code_bytes(c->kv->type_k, ke);
    a->v[g] = head + kv->v + kv_code_bytes(c->kv->type_v, ve);
    a->k_scales[g] = head + kv->k_scales + ke / 32 * 2;
    a->v_scales[g] = head + kv->v_scales + ve / 32 * 2;
}

/* Many queries: the group is converted once for all of them. */
static void convert_group(const cpu_backend *c, const kv_layer *kv, uint32_t g, float *scratch, attn_chunk_args *a) {
    float *k = scratch + (size_t)g * KV_LANES * kv->d_k;
    float *v = scratch + (size_t)ATTN_CHUNK * kv->d_k + (size_t)g * KV_LANES * kv->d_v;
    if (c->kv->type_k != QUANT_F32) {
        c->ops.kv_load(k, a->k[g], a->k_scales[g], c->kv->type_k, kv->d_k, true);
        a->k[g] = k;
    }
    if (c->kv->type_v != QUANT_F32) {
        c->ops.kv_load(v, a->v[g], a->v_scales[g], c->kv->type_v, kv->d_v, false);
        a->v[g] = v;
    }
}

/* One chunk for the queries of a unit that see any of it. m, l, o: the states of all the unit's queries. */
static void run_chunk(const attn_job *j, const unit *u, uint32_t chunk, uint32_t worker, float *m, float *l, float *o) {
    const cpu_backend *c = j->c;
    chunk_queries cq;
    uint32_t first = 0, groups[2], n = find_queries(j, u, chunk * ATTN_CHUNK, &cq, &first, groups),
             at = first * j->group;
    if (!n) return;
    bool direct = n <= ATTN_DIRECT;
    attn_chunk_args a = {.d_k = j->l->d_k,
                         .d_v = j->l->d_v,
                         .type_k = direct ? c->kv->type_k : QUANT_F32,
                         .type_v = direct ? c->kv->type_v : QUANT_F32,
                         .scale = j->n->p.attn.scale,
                         .softcap = j->n->p.attn.softcap,
                         .n_q = n,
                         .q = cq.q,
                         .lo = cq.lo,
                         .hi = cq.hi,
                         .slope = j->n->p.attn.alibi != 0.0f ? cq.slope : NULL,
                         .at = cq.at,
                         .m = m + at,
                         .l = l + at,
                         .o = o + (size_t)at * j->l->d_v};
    for (uint32_t g = groups[0]; g < groups[1]; g++) {
        point_at_group(j, u, chunk * ATTN_CHUNK, g, &a);
        if (!direct) convert_group(c, j->l, g, c->scratch[worker].attn, &a);
    }
    c->ops.attn_chunk(&a);
}

/* o / l into the result; a sink is one more key without a value. */
static void finish(const attn_job *j, const unit *u, float *m, float *l, float *o) {
    const cpu_backend *c = j->c;
    uint32_t d = j->l->d_v;
    for (uint32_t t = 0; t < u->n_tok; t++) {
        float *y = (float *)(void *)(j->y.data + (u->tok0 + t) * j->y.stride);
        for (uint32_t h = 0; h < j->group; h++) {
            uint32_t i = t * j->group + h, head = u->head * j->group + h;
            float *oi = o + (size_t)i * d;
            if (j->sinks) {
                float one = 1.0f;
                c->ops.attn_merge(&m[i], &l[i], oi, &j->sinks[head], &one, c->zeros, d);
            }
            c->ops.scale(y + (size_t)head * d, oi, 1.0f / l[i], d);
        }
    }
}

static uint32_t n_chunks_before(const attn_job *j, const unit *u, uint32_t *first) {
    const step_input *in = j->c->in;
    uint32_t from = first_key(j->n, (uint32_t)in->pos[u->tok0]);
    *first = from / ATTN_CHUNK;
    return (end_key(j->n, u, (uint32_t)in->pos[u->tok0 + u->n_tok - 1]) - 1) / ATTN_CHUNK + 1;
}

static void unit_chunk(void *ctx, uint32_t number, uint32_t worker) {
    const attn_job *j = ctx;
    unit u = {0};
    find_unit(j, j->n_units - 1 - number, &u); /* long units (late tokens) first: the short ones fill the gaps */
    float *m = j->c->scratch[worker].attn + (size_t)ATTN_CHUNK * (j->l->d_k + j->l->d_v), *l = m + UNIT_Q,
          *o = l + UNIT_Q;
    memset(l, 0, UNIT_Q * sizeof *l);
    uint32_t first, end = n_chunks_before(j, &u, &first);
    for (uint32_t chunk = first; chunk < end; chunk++) run_chunk(j, &u, chunk, worker, m, l, o);
    finish(j, &u, m, l, o);
}

/* --- few big units: their chunks apart, then merged. State of (unit, chunk): m [n_q] | l [n_q] | o [n_q][d_v]. ---------- */
enum { SPLIT_CHUNKS = 4, MOST_BIG = 64 }; /* chunks of one piece of work; units that are split */

typedef struct {
    attn_job *j;
    uint32_t n_big, big[MOST_BIG]; /* numbers of the units whose chunks are apart; the others stay whole */
    uint32_t max_chunks;           /* states of a unit */
    size_t n_q, state;             /* queries of a unit at most, floats of one state */
} split_job;

size_t cpu_attention_split_floats(const kv_layout *kv, const plan *p, uint32_t n_threads) {
    (void)p;
    size_t max_chunks = (size_t)kv->n_pages * kv->page_tokens / ATTN_CHUNK + 1, most = 0;
    for (uint32_t i = 0; i < p->n_order; i++) {
        const node *n = p->order[i];
        if (n->op != OP_ATTENTION) continue;
        size_t group = n->p.attn.n_head / n->p.attn.n_kv_head, state = group * (2 + (size_t)n->p.attn.d_v);
        size_t units = min_u32(2 * n_threads, n->p.attn.n_kv_head * p->max_tok);
        if (n_threads > 1 && units * max_chunks * state > most) most = units * max_chunks * state;
    }
    return most;
}

static float *split_state(const split_job *s, uint32_t which, uint32_t chunk) {
    return s->j->c->split + ((size_t)which * s->max_chunks + chunk) * s->state;
}

static void split_chunk(const split_job *s, uint32_t which, uint32_t piece, uint32_t worker) {
    uint32_t first, from = piece * SPLIT_CHUNKS;
    unit u = {0};
    find_unit(s->j, s->big[which], &u);
    uint32_t end = n_chunks_before(s->j, &u, &first);
    for (uint32_t chunk = max_u32(first, from); chunk < min_u32(end, from + SPLIT_CHUNKS); chunk++) {
        float *m = split_state(s, which, chunk), *l = m + s->n_q, *o = l + s->n_q;
        memset(l, 0, s->n_q * sizeof *l);
        run_chunk(s->j, &u, chunk, worker, m, l, o);
    }
}

static bool is_big(const split_job *s, uint32_t number) {
    for (uint32_t i = 0; i < s->n_big; i++)
        if (s->big[i] == number) return true;
    return false;
}

/* The pieces of the big units, then the others, whole. */
static void split_work(void *ctx, uint32_t number, uint32_t worker) {
    const split_job *s = ctx;
    uint32_t pieces = (s->max_chunks + SPLIT_CHUNKS - 1) / SPLIT_CHUNKS, n_pieces = s->n_big * pieces;
    if (number < n_pieces) return split_chunk(s, number / pieces, number % pieces, worker);
    number -= n_pieces;
    if (!is_big(s, s->j->n_units - 1 - number)) unit_chunk(s->j, number, worker);
}

static void merge_chunk(void *ctx, uint32_t number, uint32_t worker) {
    (void)worker;
    const split_job *s = ctx;
    const attn_job *j = s->j;
    unit u = {0};
    find_unit(j, s->big[number], &u);
    uint32_t first, end = n_chunks_before(j, &u, &first), d = j->l->d_v, n_q = u.n_tok * j->group;
    float *m = split_state(s, number, first), *l = m + s->n_q, *o = l + s->n_q;
    for (uint32_t chunk = first + 1; chunk < end; chunk++) {
        const float *m2 = split_state(s, number, chunk), *l2 = m2 + s->n_q, *o2 = l2 + s->n_q;
        for (uint32_t q = 0; q < n_q; q++) /* of a chunk that its token does not see there is none */
            j->c->ops.attn_merge(&m[q], &l[q], o + (size_t)q * d, &m2[q], &l2[q], o2 + (size_t)q * d, d);
    }
    finish(j, &u, m, l, o);
}

/* Chunks x tokens of a unit. */
static uint64_t unit_cost(const attn_job *j, uint32_t number, uint32_t *n_tok, uint32_t *end) {
    unit u = {0};
    uint32_t first;
    find_unit(j, number, &u);
    *end = n_chunks_before(j, &u, &first);
    *n_tok = u.n_tok;
    return (uint64_t)(*end - first) * u.n_tok;
}

/* The units of which two a thread would be more than there is to do: no thread should be left with one at the end. */
static void find_big(split_job *s) {
    const attn_job *j = s->j;
    uint64_t all = 0;
    uint32_t n_tok, end, most_tok = 0;
    for (uint32_t i = 0; i < j->n_units; i += j->n_heads) all += unit_cost(j, i, &n_tok, &end) * j->n_heads;
    for (uint32_t i = 0; i < j->n_units; i += j->n_heads) {
        if (unit_cost(j, i, &n_tok, &end) * 2 * j->c->n_threads < all || end <= SPLIT_CHUNKS) continue;
        if (s->n_big + j->n_heads > MOST_BIG) break;
        for (uint32_t h = 0; h < j->n_heads; h++) s->big[s->n_big++] = i + h;
        most_tok = max_u32(most_tok, n_tok);
        s->max_chunks = max_u32(s->max_chunks, end);
    }
    s->n_q = (size_t)most_tok * j->group;
    s->state = s->n_q * (2 + (size_t)j->l->d_v);
}

static bool run_split(attn_job *j) {
    if (j->c->n_threads == 1 || j->n_heads > MOST_BIG) return false;
    split_job s = {.j = j};
    find_big(&s);
    if (!s.n_big || s.state * s.max_chunks * s.n_big > j->c->split_floats) return false;
    uint32_t pieces = (s.max_chunks + SPLIT_CHUNKS - 1) / SPLIT_CHUNKS;
    pool_run(j->c->pool, split_work, &s, s.n_big * pieces + j->n_units);
    pool_run(j->c->pool, merge_chunk, &s, s.n_big);
    return true;
}

void cpu_run_attention(cpu_backend *c, const node *n) {
    attn_job j = {.c = c, .n = n, .l = &c->kv->layer[n->p.attn.kv_layer]};
    j.q = cpu_value_of(c, n->in[0]);
    j.y = cpu_value_of(c, n);
    j.sinks = n->n_in > 2 ? cpu_vector(c, n->in[2]) : NULL;
    j.n_heads = n->p.attn.n_kv_head;
    j.group = n->p.attn.n_head / n->p.attn.n_kv_head;
    j.unit_tok = max_u32(1, min_u32(UNIT_Q / j.group, 32));
    unit none = {0};
    j.n_units = find_unit(&j, UINT32_MAX, &none);
    if (!run_split(&j)) pool_run(c->pool, unit_chunk, &j, j.n_units);
}

/* --- writing keys and values ------------------------------------------------------------------------------------------ */
typedef struct {
    cpu_backend *c;
    const node *n;
    cpu_value k, v, table;
} append_job;

enum { APPEND_TOKENS = 16 };

static void append_token(const append_job *j, uint32_t t, uint32_t worker) {
    const cpu_backend *c = j->c;
    const kv_layer *l = &c->kv->layer[j->n->p.attn.kv_layer];
    uint32_t pos = (uint32_t)c->in->pos[t], slot = pos % c->kv->page_tokens;
    uint32_t page = c->in->page_table[c->in->seq[t]][pos / c->kv->page_tokens];
    uint8_t *at = c->kv_block + page * c->kv->page_bytes + l->offset;
    const float *k = (const float *)(void *)(j->k.data + t * j->k.stride),
                *v = (const float *)(void *)(j->v.data + t * j->v.stride);
    if (j->n->op == OP_ROPE_APPEND) {
        const float *table = (const float *)(void *)(j->table.data + t * j->table.stride);
        c->ops.rope(c->scratch[worker].row, k, table, l->n_kv_head, l->d_k, j->n->p.attn.n_rot, j->n->p.attn.neox);
        k = c->scratch[worker].row;
    }
    for (uint32_t h = 0; h < l->n_kv_head; h++, at += l->head_bytes) {
        kv_store_k(at, at + l->k_scales, c->kv->type_k, l->d_k, slot, k + (size_t)h * l->d_k);
        kv_store_v(at + l->v, at + l->v_scales, c->kv->type_v, l->d_v, slot, v + (size_t)h * l->d_v);
    }
}

static void append_chunk(void *ctx, uint32_t chunk, uint32_t worker) {
    const append_job *j = ctx;
    uint32_t end = min_u32((chunk + 1) * APPEND_TOKENS, j->c->in->n_tok);
    for (uint32_t t = chunk * APPEND_TOKENS; t < end; t++) append_token(j, t, worker);
}

void cpu_run_append(cpu_backend *c, const node *n) {
    append_job j = {.c = c, .n = n, .k = cpu_value_of(c, n->in[0]), .v = cpu_value_of(c, n->in[1])};
    if (n->op == OP_ROPE_APPEND) j.table = cpu_value_of(c, n->in[2]);
    pool_run(c->pool, append_chunk, &j, (c->in->n_tok + APPEND_TOKENS - 1) / APPEND_TOKENS);
}
