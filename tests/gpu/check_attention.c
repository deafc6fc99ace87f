/* Attention and the cache: kv_append, attention_split + attention_merge and attention_tile against the CPU's reference, equal bit for bit. A case is one layer's shape and a batch of several sequences at different depths; its pages
 * stand in random order among unused ones, all memory that nothing wrote is NaN. */
#include "gpu_check.h"

#include "backend/cpu/cpu_ops.h"
#include "backend/gpu/attention_plan.h"
#include "kv/kv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(KV_F32 == (int)QUANT_F32 && KV_F16 == (int)QUANT_F16 && KV_Q4_0 == (int)QUANT_Q4_0, "types");
_Static_assert(KV_Q8_0 == (int)QUANT_Q8_0 && KV_BF16 == (int)QUANT_BF16, "types");
_Static_assert(ATTN_KEYS == (int)ATTN_CHUNK, "the chunk");

enum { MOST_SEQ = 8, LAYERS = 2 };

typedef struct {
    quant_type type_k, type_v;
    uint32_t d_k, d_v, n_kv, group, page_tokens, n_rot, neox, window;
    float softcap;
    bool sinks;
    uint32_t n_seq, depth[MOST_SEQ], n_new[MOST_SEQ]; /* tokens before this step, and in it */
} shape;

typedef struct {
    const shape *s;
    kv_layout kv;
    kv_layer layer[LAYERS];
    uint8_t *block, *before; /* the cache with this step's tokens, and without */
    uint32_t n_tok, n_head, n_page[MOST_SEQ], first_page[MOST_SEQ], *page;
    uint32_t *seq;
    int32_t *pos;
    float *q, *k, *v, *table, *rotated_q, *sinks, *want;
    uint32_t n_table;
    uint64_t rng;
} bench;

static void *take(size_t n) {
    void *p = malloc(n ? n : 1);
    if (!p) {
        fprintf(stderr, "no memory\n");
        exit(2);
    }
    return p;
}

static float *normals(bench *b, size_t n) {
    float *x = take(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = check_normal(&b->rng);
    return x;
}

/* --- the case on the host ------------------------------------------------------------------------------------------------- */

static void make_layout(bench *b) {
    const shape *s = b->s;
    uint32_t pages = 3;
    for (uint32_t i = 0; i < s->n_seq; i++) {
        b->n_page[i] = (s->depth[i] + s->n_new[i] + s->page_tokens - 1) / s->page_tokens;
        b->first_page[i] = b->n_table;
        b->n_table += b->n_page[i];
    }
    b->kv = (kv_layout){.layer = b->layer,
                        .n_layers = LAYERS,
                        .page_tokens = s->page_tokens,
                        .n_pages = b->n_table + pages,
                        .type_k = s->type_k,
                        .type_v = s->type_v};
    for (uint32_t i = 0; i < LAYERS; i++) b->layer[i] = (kv_layer){.n_kv_head = s->n_kv, .d_k = s->d_k, .d_v = s->d_v};
    err e = {0};
    if (kv_layout_make(&b->kv, &e)) {
        fprintf(stderr, "%s\n", e.text);
        exit(2);
    }
    uint32_t *order = take(b->kv.n_pages * sizeof *order);
    for (uint32_t i = 0; i < b->kv.n_pages; i++) order[i] = i;
    for (uint32_t i = b->kv.n_pages; i > 1; i--) {
        uint32_t j = (uint32_t)(check_random(&b->rng) % i), t = order[i - 1];
        order[i - 1] = order[j], order[j] = t;
    }
    b->page = order; /* the first n_table of them */
}

static uint8_t *head_of(const bench *b, uint32_t seq, uint32_t pos, uint32_t head) {
    const kv_layer *l = &b->layer[LAYERS - 1];
    uint32_t page = b->page[b->first_page[seq] + pos / b->s->page_tokens];
    return b->block + page * b->kv.page_bytes + l->offset + head * l->head_bytes;
}

static void store(bench *b, uint32_t seq, uint32_t pos, const float *k, const float *v) {
    const kv_layer *l = &b->layer[LAYERS - 1];
    uint32_t slot = pos % b->s->page_tokens;
    for (uint32_t h = 0; h < b->s->n_kv; h++) {
        uint8_t *at = head_of(b, seq, pos, h);
        kv_store_k(at, at + l->k_scales, b->s->type_k, l->d_k, slot, k + (size_t)h * l->d_k);
        kv_store_v(at + l->v, at + l->v_scales, b->s->type_v, l->d_v, slot, v + (size_t)h * l->d_v);
    }
}

static void make_rows(bench *b) {
    const shape *s = b->s;
    for (uint32_t i = 0; i < s->n_seq; i++) b->n_tok += s->n_new[i];
    b->seq = take(b->n_tok * sizeof *b->seq);
    b->pos = take(b->n_tok * sizeof *b->pos);
    uint32_t t = 0;
    for (uint32_t i = 0; i < s->n_seq; i++)
        for (uint32_t j = 0; j < s->n_new[i]; j++, t++) b->seq[t] = i, b->pos[t] = (int32_t)(s->depth[i] + j);
    b->n_head = s->n_kv * s->group;
    b->q = normals(b, (size_t)b->n_tok * b->n_head * s->d_k);
    b->k = normals(b, (size_t)b->n_tok * s->n_kv * s->d_k);
    b->v = normals(b, (size_t)b->n_tok * s->n_kv * s->d_v);
    b->sinks = normals(b, b->n_head);
    b->table = take(((size_t)b->n_tok * s->n_rot + 1) * sizeof(float));
    for (uint32_t i = 0; i < b->n_tok * s->n_rot / 2; i++) {
        double angle = check_normal(&b->rng) * 10;
        b->table[2 * i] = (float)cos(angle);
        b->table[2 * i + 1] = (float)sin(angle);
    }
}

/* The cache before the step, and what the step makes of q, k and v. */
static void make_cache(bench *b, const cpu_ops *ops) {
    const shape *s = b->s;
    size_t n_k = (size_t)s->n_kv * s->d_k, n_v = (size_t)s->n_kv * s->d_v, n_q = (size_t)b->n_head * s->d_k;
    b->block = take(b->kv.n_bytes);
    memset(b->block, 0xFF, b->kv.n_bytes);
    for (uint32_t i = 0; i < s->n_seq; i++)
        for (uint32_t pos = 0; pos < s->depth[i]; pos++) {
            float *k = normals(b, n_k), *v = normals(b, n_v);
            store(b, i, pos, k, v);
            free(k), free(v);
        }
    b->before = take(b->kv.n_bytes);
    memcpy(b->before, b->block, b->kv.n_bytes);
    b->rotated_q = take(b->n_tok * n_q * sizeof(float));
    float *k = take(n_k * sizeof *k);
    for (uint32_t t = 0; t < b->n_tok; t++) {
        const float *table = b->table + (size_t)t * s->n_rot;
        ops->rope(b->rotated_q + t * n_q, b->q + t * n_q, table, b->n_head, s->d_k, s->n_rot, s->neox);
        ops->rope(k, b->k + t * n_k, table, s->n_kv, s->d_k, s->n_rot, s->neox);
        store(b, b->seq[t], (uint32_t)b->pos[t], k, b->v + t * n_v);
    }
    free(k);
}

static uint32_t first_key(const shape *s, uint32_t pos) {
    return s->window && pos >= s->window ? pos - s->window + 1 : 0;
}

/* One query's attention as the reference has it. */
static void want_query(const bench *b, const cpu_ops *ops, uint32_t t, uint32_t head, float *y) {
    const shape *s = b->s;
    const kv_layer *l = &b->layer[LAYERS - 1];
    uint32_t pos = (uint32_t)b->pos[t], from = first_key(s, pos), kv_head = head / s->group;
    const float *q = b->rotated_q + ((size_t)t * b->n_head + head) * s->d_k;
    float m = 0, sum = 0;
    for (uint32_t c = from / ATTN_CHUNK; c <= pos / ATTN_CHUNK; c++) {
        uint32_t key0 = c * ATTN_CHUNK, lo = from > key0 ? from - key0 : 0,
                 hi = pos + 1 - key0 < ATTN_CHUNK ? pos + 1 - key0 : ATTN_CHUNK;
        attn_chunk_args a = {.d_k = s->d_k,
                             .d_v = s->d_v,
                             .type_k = s->type_k,
                             .type_v = s->type_v,
                             .scale = 0.125f,
                             .softcap = s->softcap,
                             .n_q = 1,
                             .q = &q,
                             .lo = &lo,
                             .hi = &hi,
                             .m = &m,
                             .l = &sum,
                             .o = y};
        for (uint32_t g = lo / 16; g * 16 < hi; g++) {
            uint32_t slot = (key0 + g * 16) % s->page_tokens;
            const uint8_t *at = head_of(b, b->seq[t], key0 + g * 16, kv_head);
            a.k[g] = at + kv_code_bytes(s->type_k, (size_t)slot * s->d_k);
            a.v[g] = at + l->v + kv_code_bytes(s->type_v, (size_t)slot * s->d_v);
            a.k_scales[g] = at + l->k_scales + slot * (s->d_k / 32) * 2;
            a.v_scales[g] = at + l->v_scales + slot * (s->d_v / 32) * 2;
        }
        ops->attn_chunk(&a);
    }
    if (s->sinks) {
        float one = 1.0f, *zeros = calloc(s->d_v, sizeof *zeros);
        ops->attn_merge(&m, &sum, y, &b->sinks[head], &one, zeros, s->d_v);
        free(zeros);
    }
    ops->scale(y, y, 1.0f / sum, s->d_v);
}

static void make_bench(bench *b, const shape *s, const cpu_ops *ops, uint64_t seed) {
    *b = (bench){.s = s, .rng = seed};
    make_layout(b);
    make_rows(b);
    make_cache(b, ops);
    b->want = take((size_t)b->n_tok * b->n_head * s->d_v * sizeof(float));
    for (uint32_t t = 0; t < b->n_tok; t++)
        for (uint32_t h = 0; h < b->n_head; h++)
            want_query(b, ops, t, h, b->want + ((size_t)t * b->n_head + h) * s->d_v);
}

static void free_bench(bench *b) {
    free(b->block), free(b->before), free(b->page), free(b->seq), free(b->pos);
    free(b->q), free(b->k), free(b->v), free(b->table), free(b->rotated_q), free(b->sinks), free(b->want);
}

/* --- the case on the device ------------------------------------------------------------------------------------------------ */

static gpu_kv put_kv(check_rig *r, const bench *b, gpu_addr block) {
    const kv_layer *l = &b->layer[LAYERS - 1];
    return (gpu_kv){.layer = block + l->offset,
                    .page = check_put(r, b->page, b->n_table * sizeof *b->page),
                    .first_page = check_put(r, b->first_page, b->s->n_seq * sizeof *b->first_page),
                    .seq = check_put(r, b->seq, b->n_tok * sizeof *b->seq),
                    .pos = check_put(r, b->pos, b->n_tok * sizeof *b->pos),
                    .page_bytes = b->kv.page_bytes,
                    .head_bytes = (uint32_t)l->head_bytes,
                    .k_scales = (uint32_t)l->k_scales,
                    .v = (uint32_t)l->v,
                    .v_scales = (uint32_t)l->v_scales,
                    .d_k = l->d_k,
                    .d_v = l->d_v,
                    .n_kv_head = l->n_kv_head,
                    .page_tokens = b->s->page_tokens,
                    .type_k = b->s->type_k,
                    .type_v = b->s->type_v};
}

/* k, v and q stand in one row, as a stacked linear leaves them. */
static void check_append(check_rig *r, const bench *b, const char *name) {
    const shape *s = b->s;
    gpu_addr block = check_put(r, b->before, b->kv.n_bytes);
    size_t n_q = (size_t)b->n_head * s->d_k, n_k = (size_t)s->n_kv * s->d_k, n_v = (size_t)s->n_kv * s->d_v,
           row = n_q + n_k + n_v, n_all = b->n_tok * row;
    float *rows = take(n_all * sizeof *rows), *got = take(n_all * sizeof *got);
    for (uint32_t t = 0; t < b->n_tok; t++) {
        memcpy(rows + t * row, b->q + t * n_q, n_q * sizeof *rows);
        memcpy(rows + t * row + n_q, b->k + t * n_k, n_k * sizeof *rows);
        memcpy(rows + t * row + n_q + n_k, b->v + t * n_v, n_v * sizeof *rows);
    }
    gpu_addr at = check_put(r, rows, n_all * sizeof *rows);
    uint32_t stride = (uint32_t)(row * sizeof *rows);
    kv_append_args a = {.kv = put_kv(r, b, block),
                        .q = at,
                        .y = at,
                        .k = at + n_q * 4,
                        .v = at + (n_q + n_k) * 4,
                        .table = check_put(r, b->table, (size_t)b->n_tok * s->n_rot * 4),
                        .q_stride = stride,
                        .y_stride = stride,
                        .k_stride = stride,
                        .v_stride = stride,
                        .table_stride = s->n_rot * 4,
                        .n_head = b->n_head,
                        .n_rot = s->n_rot,
                        .neox = s->neox};
    check_launch(r, "kv_append", "kv_append", b->n_tok, b->n_head + s->n_kv, 1, KV_APPEND_THREADS, &a, sizeof a);
    uint8_t *cache = take(b->kv.n_bytes);
    check_get(r, cache, block, b->kv.n_bytes);
    check_bytes(r, "kv_append", cache, b->block, b->kv.n_bytes, "%s: the cache", name);
    check_get(r, got, at, n_all * sizeof *got);
    for (uint32_t t = 0; t < b->n_tok; t++) memcpy(rows + t * row, b->rotated_q + t * n_q, n_q * sizeof *rows);
    check_floats(r, "kv_append", got, rows, n_all, "%s: the rows", name);
    free(rows), free(got), free(cache);
}

static attention_args put_attention(check_rig *r, const bench *b) {
    const shape *s = b->s;
    size_t n_q = (size_t)b->n_tok * b->n_head * s->d_k, n_y = (size_t)b->n_tok * b->n_head * s->d_v;
    return (attention_args){.kv = put_kv(r, b, check_put(r, b->block, b->kv.n_bytes)),
                            .q = check_put(r, b->rotated_q, n_q * sizeof(float)),
                            .sinks = s->sinks ? check_put(r, b->sinks, b->n_head * sizeof(float)) : 0,
                            .y = check_put(r, NULL, n_y * sizeof(float)),
                            .q_stride = b->n_head * s->d_k * 4,
                            .y_stride = b->n_head * s->d_v * 4,
                            .n_head = b->n_head,
                            .window = s->window,
                            .scale = 0.125f,
                            .softcap = s->softcap};
}

static void check_result(check_rig *r, const bench *b, gpu_addr y, const char *kernel, const char *name) {
    size_t n = (size_t)b->n_tok * b->n_head * b->s->d_v;
    float *got = take(n * sizeof *got);
    check_get(r, got, y, n * sizeof *got);
    check_floats(r, kernel, got, b->want, n, "%s", name);
    free(got);
}

/* The step in three ways: as the host plans it, all tokens as singles, all as tiles (no room for states). Lists end with
 * entries that are none, as in a graph captured for more. */
enum { AS_PLANNED, AS_SINGLES, AS_TILES };

static void launch_split(check_rig *r, const bench *b, const attention_args *a, const attention_lists *l) {
    const shape *s = b->s;
    uint32_t heads = gpu_attn_split_heads(s->group, s->d_k), y = s->n_kv * ((s->group + heads - 1) / heads);
    const char *kernel = s->d_k > ATTN_SPLIT_D ? "attention_split_wide"
                         : heads == 4          ? "attention_split_h4"
                                               : "attention_split_h8";
    check_launch(r, "attention", kernel, l->max_chunks + 1, y, l->n_singles + 1, ATTN_SPLIT_THREADS, a, sizeof *a);
    check_launch(r, "attention", "attention_merge", l->n_singles + 1, b->n_head,
                 (s->d_v + ATTN_MERGE_D - 1) / ATTN_MERGE_D, ATTN_MERGE_THREADS, a, sizeof *a);
}

static void launch_tiles(check_rig *r, const bench *b, const attention_args *a, const attention_lists *l) {
    const shape *s = b->s;
    uint32_t heads = gpu_attn_tile_heads(s->group);
    check_launch(r, "attention_tile", "attention_tile", l->n_tiles + 1, s->n_kv * ((s->group + heads - 1) / heads),
                 (s->d_v + ATTN_TILE_D - 1) / ATTN_TILE_D, ATTN_TILE_THREADS, a, sizeof *a);
}

static void plan_lists(const bench *b, int how, attention_lists *l, attn_single *single, attn_tile_of *tile) {
    const shape *s = b->s;
    attention_plan(l, single, tile, b->n_tok, b->seq, b->pos, b->first_page, s->group,
                   how == AS_TILES ? 0 : UINT32_MAX);
    if (how == AS_SINGLES) {
        *l = (attention_lists){.n_singles = b->n_tok};
        for (uint32_t t = 0; t < b->n_tok; t++) {
            uint32_t n = (uint32_t)b->pos[t] / ATTN_CHUNK + 1;
            single[t] = (attn_single){t, l->n_states, (uint32_t)b->pos[t], b->first_page[b->seq[t]]};
            l->n_states += n;
            l->max_chunks = n > l->max_chunks ? n : l->max_chunks;
        }
    }
    single[l->n_singles].tok = tile[l->n_tiles].tok0 = ATTN_NONE;
}

static void check_attention(check_rig *r, const bench *b, int how, const char *name) {
    const shape *s = b->s;
    attention_args a = put_attention(r, b);
    attention_lists l;
    attn_single *single = take((b->n_tok + 1) * sizeof *single);
    attn_tile_of *tile = take((b->n_tok + 1) * sizeof *tile);
    plan_lists(b, how, &l, single, tile);
    a.single = check_put(r, single, (l.n_singles + 1) * sizeof *single);
    a.tile = check_put(r, tile, (l.n_tiles + 1) * sizeof *tile);
    a.states = check_put(r, NULL, l.n_states * gpu_attn_state_bytes(b->n_head, s->d_v));
    if (l.n_singles) launch_split(r, b, &a, &l);
    if (l.n_tiles) launch_tiles(r, b, &a, &l);
    check_result(r, b, a.y,
                 how == AS_TILES ? "attention_tile"
                 : l.n_tiles     ? "attention, both forms"
                                 : "attention_split",
                 name);
    free(single), free(tile);
    check_reset(r);
}

static void run_shape(check_rig *r, const shape *s, uint64_t seed) {
    char name[160];
    snprintf(name, sizeof name, "%s/%s d%u/%u kv%u group%u page%u window%u cap%g%s", quant_lookup(s->type_k)->name,
             quant_lookup(s->type_v)->name, s->d_k, s->d_v, s->n_kv, s->group, s->page_tokens, s->window,
             (double)s->softcap, s->sinks ? " sinks" : "");
    if (!check_wanted(r, name)) return;
    cpu_ops ops;
    cpu_ops_ref(&ops);
    bench b;
    make_bench(&b, s, &ops, seed);
    check_append(r, &b, name);
    check_reset(r);
    for (int how = AS_PLANNED; how <= AS_TILES; how++) check_attention(r, &b, how, name);
    free_bench(&b);
}

/* One question a branch of the kernels; the long run asks for the product of most. */
static const shape few[] = {
    {.type_k = QUANT_F16,
     .type_v = QUANT_F16,
     .d_k = 64,
     .d_v = 64,
     .n_kv = 2,
     .group = 3,
     .page_tokens = 16,
     .n_rot = 64,
     .n_seq = 3,
     .depth = {0, 15, 130},
     .n_new = {2, 3, 1}},
    {.type_k = QUANT_F16,
     .type_v = QUANT_F16,
     .d_k = 128,
     .d_v = 128,
     .n_kv = 1,
     .group = 4,
     .page_tokens = 64,
     .n_rot = 128,
     .neox = 1,
     .n_seq = 2,
     .depth = {63, 300},
     .n_new = {2, 1}},
    {.type_k = QUANT_F32,
     .type_v = QUANT_F32,
     .d_k = 40,
     .d_v = 72,
     .n_kv = 1,
     .group = 1,
     .page_tokens = 32,
     .n_rot = 20,
     .neox = 1,
     .softcap = 30.0f,
     .n_seq = 2,
     .depth = {64, 5},
     .n_new = {1, 1}},
    {.type_k = QUANT_Q8_0,
     .type_v = QUANT_Q8_0,
     .d_k = 64,
     .d_v = 96,
     .n_kv = 2,
     .group = 7,
     .page_tokens = 16,
     .n_rot = 64,
     .sinks = true,
     .n_seq = 2,
     .depth = {200, 16},
     .n_new = {1, 2}},
    {.type_k = QUANT_Q8_0,
     .type_v = QUANT_F16,
     .d_k = 192,
     .d_v = 128,
     .n_kv = 1,
     .group = 16,
     .page_tokens = 32,
     .n_rot = 64,
     .window = 50,
     .n_seq = 1,
     .depth = {180},
     .n_new = {2}},
    {.type_k = QUANT_F16,
     .type_v = QUANT_F32,
     .d_k = 20,
     .d_v = 13,
     .n_kv = 3,
     .group = 2,
     .page_tokens = 16,
     .n_rot = 10,
     .window = 70,
     .softcap = 5.0f,
     .sinks = true,
     .n_seq = 2,
     .depth = {128, 0},
     .n_new = {1, 1}},
    {.type_k = QUANT_F16,
     .type_v = QUANT_F16,
     .d_k = 64,
     .d_v = 64,
     .n_kv = 1,
     .group = 2,
     .page_tokens = 32,
     .n_rot = 64,
     .window = 90,
     .n_seq = 2,
     .depth = {0, 100},
     .n_new = {150, 40}},
    {.type_k = QUANT_Q4_0,
     .type_v = QUANT_BF16,
     .d_k = 96,
     .d_v = 72,
     .n_kv = 2,
     .group = 3,
     .page_tokens = 32,
     .n_rot = 96,
     .n_seq = 3,
     .depth = {64, 131, 0},
     .n_new = {1, 1, 17}},
    {.type_k = QUANT_BF16,
     .type_v = QUANT_Q4_0,
     .d_k = 80,
     .d_v = 160,
     .n_kv = 1,
     .group = 6,
     .page_tokens = 16,
     .n_rot = 80,
     .neox = 1,
     .window = 33,
     .n_seq = 2,
     .depth = {100, 10},
     .n_new = {1, 30}},
    {.type_k = QUANT_Q4_0,
     .type_v = QUANT_Q4_0,
     .d_k = 128,
     .d_v = 128,
     .n_kv = 2,
     .group = 4,
     .page_tokens = 64,
     .n_rot = 128,
     .neox = 1,
     .n_seq = 2,
     .depth = {200, 10},
     .n_new = {1, 20}},
    {.type_k = QUANT_Q8_0, /* the merge's second stage */
     .type_v = QUANT_F16,
     .d_k = 32,
     .d_v = 32,
     .n_kv = 1,
     .group = 2,
     .page_tokens = 64,
     .n_rot = 32,
     .sinks = true,
     .n_seq = 2,
     .depth = {8300, 16400},
     .n_new = {1, 1}},
    {.type_k = QUANT_F16,
     .type_v = QUANT_Q8_0,
     .d_k = 576,
     .d_v = 512,
     .n_kv = 1,
     .group = 5,
     .page_tokens = 64,
     .n_rot = 64,
     .n_seq = 1,
     .depth = {70},
     .n_new = {1}},
};

/* For the emulator: a decoding and a few new tokens, two chunks, in each form of the split (4 heads, 8, wide); then a decoding
 * beside a run of new tokens, which together take the split and the tiles. */
static const shape little[] = {
    {.type_k = QUANT_F16,
     .type_v = QUANT_Q8_0,
     .d_k = 32,
     .d_v = 32,
     .n_kv = 1,
     .group = 3,
     .page_tokens = 16,
     .n_rot = 32,
     .sinks = true,
     .n_seq = 2,
     .depth = {64, 5},
     .n_new = {1, 2}},
    {.type_k = QUANT_Q4_0,
     .type_v = QUANT_BF16,
     .d_k = 32,
     .d_v = 13,
     .n_kv = 1,
     .group = 6,
     .page_tokens = 32,
     .n_rot = 16,
     .neox = 1,
     .window = 20,
     .softcap = 5.0f,
     .n_seq = 1,
     .depth = {60},
     .n_new = {5}},
    {.type_k = QUANT_F32,
     .type_v = QUANT_Q4_0,
     .d_k = 288,
     .d_v = 32,
     .n_kv = 1,
     .group = 1,
     .page_tokens = 16,
     .n_rot = 32,
     .n_seq = 1,
     .depth = {3},
     .n_new = {1}},
    {.type_k = QUANT_Q8_0,
     .type_v = QUANT_F16,
     .d_k = 32,
     .d_v = 32,
     .n_kv = 1,
     .group = 2,
     .page_tokens = 16,
     .n_rot = 32,
     .n_seq = 2,
     .depth = {20, 0},
     .n_new = {1, 9}},
};

static void run_long(check_rig *r) {
    static const quant_type types[] = {QUANT_F32, QUANT_F16, QUANT_Q8_0, QUANT_BF16, QUANT_Q4_0};
    static const uint32_t dims[][2] = {{64, 64}, {80, 80}, {96, 96}, {128, 128}, {192, 128}, {256, 256}, {576, 512}};
    static const uint32_t groups[] = {1, 2, 3, 4, 6, 8, 12, 16}, windows[] = {0, 20, 64, 150};
    uint64_t rng = 7;
    for (uint32_t t = 0; t < 25; t++)
        for (uint32_t d = 0; d < 7; d++)
            for (uint32_t g = 0; g < 8; g++) {
                shape s = {.type_k = types[t / 5],
                           .type_v = types[t % 5],
                           .d_k = dims[d][0],
                           .d_v = dims[d][1],
                           .n_kv = 1 + g % 2,
                           .group = groups[g],
                           .page_tokens = 16u << (t + d + g) % 3,
                           .n_rot = dims[d][0] / (1 + g % 2),
                           .neox = d % 2,
                           .window = windows[(t + g + d) % 4],
                           .softcap = (d + g) % 3 == 0 ? 20.0f : 0.0f,
                           .sinks = (t + d) % 2,
                           .n_seq = 8,
                           .depth = {0, 1, 15, 63, 64, 65, 200, 1000},
                           .n_new = {1, 1, 2, 2, 1, 1, 3, 1}};
                if ((kv_has_scales(s.type_k) && s.d_k % 32) || (kv_has_scales(s.type_v) && s.d_v % 32)) continue;
                run_shape(r, &s, check_random(&rng));
            }
}

/* Milliseconds of each kernel on an 8B model's layer, on real devices: the cache and the rows hold the same number everywhere. */
static void time_shape(check_rig *r, const shape *s) {
    bench b = {.s = s};
    make_layout(&b);
    make_rows(&b);
    b.block = take(b.kv.n_bytes);
    memset(b.block, 0x2C, b.kv.n_bytes);
    b.rotated_q = b.q;
    attention_args a = put_attention(r, &b);
    attention_lists l;
    attn_single *single = take((b.n_tok + 1) * sizeof *single);
    attn_tile_of *tile = take((b.n_tok + 1) * sizeof *tile);
    plan_lists(&b, AS_PLANNED, &l, single, tile);
    a.single = check_put(r, single, (l.n_singles + 1) * sizeof *single);
    a.tile = check_put(r, tile, (l.n_tiles + 1) * sizeof *tile);
    a.states = check_put(r, NULL, l.n_states * gpu_attn_state_bytes(b.n_head, s->d_v));
    uint32_t split = gpu_attn_split_heads(s->group, s->d_k), parts = (s->group + split - 1) / split;
    double ms_split = 0, ms_merge = 0, ms_tile = 0, keys = 0;
    for (uint32_t t = 0; t < b.n_tok; t++) keys += b.pos[t] + 1;
    if (l.n_singles) {
        ms_split = check_time(r, "attention", split == 4 ? "attention_split_h4" : "attention_split_h8", l.max_chunks,
                              s->n_kv * parts, l.n_singles, ATTN_SPLIT_THREADS, &a, sizeof a, 20);
        ms_merge = check_time(r, "attention", "attention_merge", l.n_singles, b.n_head,
                              (s->d_v + ATTN_MERGE_D - 1) / ATTN_MERGE_D, ATTN_MERGE_THREADS, &a, sizeof a, 20);
    }
    if (l.n_tiles)
        ms_tile = check_time(r, "attention_tile", "attention_tile", l.n_tiles, s->n_kv,
                             (s->d_v + ATTN_TILE_D - 1) / ATTN_TILE_D, ATTN_TILE_THREADS, &a, sizeof a, 20);
    double bytes = keys * 2 * s->n_kv * (double)kv_code_bytes(s->type_k, s->d_k), flop = keys * 4 * b.n_head * s->d_k;
    printf("time | %s group %u, %u sequences, %u tokens after %u | split %.1f us (%.0f GB/s), merge %.1f us, tile %.1f "
           "us (%.1f Tflop/s)\n",
           quant_lookup(s->type_k)->name, s->group, s->n_seq, b.n_tok, s->depth[0], ms_split * 1e3,
           ms_split > 0 ? bytes / ms_split * 1e-6 : 0, ms_merge * 1e3, ms_tile * 1e3,
           ms_tile > 0 ? flop / ms_tile * 1e-9 : 0);
    free(single), free(tile);
    free(b.block), free(b.page), free(b.seq), free(b.pos);
    free(b.q), free(b.k), free(b.v), free(b.table), free(b.sinks);
    check_reset(r);
}

static void time_all(check_rig *r) {
    static const quant_type types[] = {QUANT_F16, QUANT_Q8_0, QUANT_Q4_0};
    for (uint32_t t = 0; t < 3; t++) {
        shape s = {.type_k = types[t],
                   .type_v = types[t],
                   .d_k = 128,
                   .d_v = 128,
                   .n_kv = 8,
                   .group = 4,
                   .page_tokens = 64,
                   .n_rot = 128,
                   .n_seq = 1};
        for (uint32_t depth = 255; depth < 20000; depth = depth * 8 + 7) {
            s.n_seq = 1, s.depth[0] = depth, s.n_new[0] = 1;
            time_shape(r, &s);
        }
        s.n_seq = 8;
        for (uint32_t i = 0; i < 8; i++) s.depth[i] = 16383, s.n_new[i] = 1;
        time_shape(r, &s);
        s.n_seq = 1, s.depth[0] = 0, s.n_new[0] = 512;
        time_shape(r, &s);
        s.depth[0] = 4096;
        time_shape(r, &s);
    }
}

int main(int argc, char **argv) {
    check_rig *r = check_open(argc, argv);
    for (uint32_t i = 0; i < (check_short() ? 0 : sizeof few / sizeof *few); i++) run_shape(r, &few[i], 100 + i);
    for (uint32_t i = 0; i < (check_short() ? sizeof little / sizeof *little : 0); i++) run_shape(r, &little[i], 1 + i);
    if (check_long()) run_long(r);
    if (getenv("RF_TIME")) time_all(r);
    return check_close(r);
}
