/* Attention for runs of tokens of one sequence (args_attention.h: tile). A block has up to 64 queries, tokens x heads of one kv
 * head's group, and 128 outputs of each; it walks the chunks left to right, each key and value converted to f32 in shared
 * memory once for all queries. Running m, l and o stay in registers.
 *
 *   scores   thread = 4 queries x keys r, r + 16, r + 32, r + 48: just the keys of one of the CPU's sixteen partial sums, so a
 *            query's maximum and sum are a half team's
 *   values   thread = 4 queries x 8 outputs
 *
 * Must move: the keys and values that a tile sees, once a tile; computes 2 fma a query, key and dimension. */
#include "backend/gpu/kernels/attention_kv.h"

enum {
    SLICE_D = 32,    /* dimensions of keys and queries in shared memory at once */
    SLICE_KEYS = 16, /* values at once */
    KEY_ROW = 68,    /* floats of a row of keys; 4 of them keep the banks apart */
    WEIGHT_ROW = 68
};

/* What merges a chunk into a query's running outputs: o = old * o + add * o_c; or add is one of these. */
#define MERGE_SKIP -1.0f /* the query sees none of the chunk */
#define MERGE_COPY -2.0f /* it has seen nothing before */

struct tile_shared {
    float keys[SLICE_D][KEY_ROW]
        __attribute__((aligned(16))); /* [d][key % 16][key / 16]; values [16][ATTN_TILE_D] lie over it */
    union {
        float q[SLICE_D][ATTN_TILE_QUERIES];
        float p[ATTN_KEYS][WEIGHT_ROW]; /* [key][query] */
    };
    float old[ATTN_TILE_QUERIES], add[ATTN_TILE_QUERIES];
    uint32_t from[ATTN_TILE_QUERIES], end[ATTN_TILE_QUERIES]; /* keys that a query sees */
};

/* What the block knows of its tile. Queries past the end see what the last one sees, and are not stored. */
struct tile_job {
    uint32_t tok0, first_page, head; /* head: kv head */
    uint32_t head0, n_heads, n_q;    /* query heads, queries */
    uint32_t d0;                     /* first output */
    uint32_t chunk, end;             /* chunks that any query sees */
};

/* Eight values as floats, but for their scales. */
template <int TYPE> DEVICE void read8(float v[8], const uint8_t *p) { unpack8<TYPE>(v, load8<TYPE>(p)); }

/* The half bytes at `shift` of eight bytes. */
DEVICE void read_keys_q4_0(float v[8], const uint8_t *p, uint32_t shift) {
    const word2 w = *(const word2 *)p;
    UNROLL
    for (int i = 0; i < 8; i++) v[i] = (float)((int)(w[i / 4] >> (i % 4 * 8 + shift) & 15) - 8);
}

/* Dimensions d0 .. of a chunk's keys that stand in seen groups. Thread: 8 keys of one dimension. */
template <int TYPE>
DEVICE void stage_keys(tile_shared *s, const attention_args &a, const tile_job &t, uint32_t d0, uint32_t lo,
                       uint32_t hi) {
    const uint32_t d = thread_x() / 8, oct = thread_x() % 8, group = oct / 2, key0 = t.chunk * ATTN_KEYS;
    if (d0 + d >= a.kv.d_k || group < lo / KV_GROUP || group * KV_GROUP >= hi) return;
    uint32_t slot;
    const uint8_t *page = kv_page(a.kv, t.first_page, t.head, key0 + group * KV_GROUP, &slot);
    float v[8];
    if constexpr (TYPE == KV_Q4_0) /* a byte: two dimensions of one key */
        read_keys_q4_0(v, page + slot * a.kv.d_k / 2 + (d0 + d) / 2 * KV_GROUP + oct % 2 * 8, d % 2 * 4);
    else
        read8<TYPE>(v, page + code_bytes<TYPE>(slot * a.kv.d_k + (d0 + d) * KV_GROUP + oct % 2 * 8));
    if (has_scales<TYPE>()) {
        float scale[8];
        const uint32_t block = slot / KV_GROUP * (a.kv.d_k / KV_SCALED) + d0 / KV_SCALED;
        load_scales8(scale, page + a.kv.k_scales + (block * KV_GROUP + oct % 2 * 8) * 2);
        UNROLL
        for (int i = 0; i < 8; i++) v[i] = v[i] * scale[i];
    }
    UNROLL
    for (int i = 0; i < 8; i++) s->keys[d][(oct % 2 * 8 + i) * 4 + group] = v[i];
}

DEVICE void stage_keys_any(tile_shared *s, const attention_args &a, const tile_job &t, uint32_t d0, uint32_t lo,
                           uint32_t hi) {
    switch (a.kv.type_k) {
    case KV_F32: stage_keys<KV_F32>(s, a, t, d0, lo, hi); break;
    case KV_F16: stage_keys<KV_F16>(s, a, t, d0, lo, hi); break;
    case KV_BF16: stage_keys<KV_BF16>(s, a, t, d0, lo, hi); break;
    case KV_Q4_0: stage_keys<KV_Q4_0>(s, a, t, d0, lo, hi); break;
    case KV_Q8_0: stage_keys<KV_Q8_0>(s, a, t, d0, lo, hi); break;
    default: break;
    }
}

/* Thread: 8 dimensions of one query, transposed. row: of that query, NULL past the last. */
DEVICE void stage_queries(tile_shared *s, const attention_args &a, const float *row, uint32_t d0) {
    const uint32_t q = thread_x() % ATTN_TILE_QUERIES, d = thread_x() / ATTN_TILE_QUERIES * 8;
    UNROLL
    for (uint32_t i = 0; i < 8; i++) s->q[d + i][q] = row && d0 + d + i < a.kv.d_k ? row[d0 + d + i] : 0.0f;
}

/* Values of 16 keys from key number g * 16 of the chunk on. Thread: 8 outputs of one key. */
template <int TYPE>
DEVICE void stage_values(float *to, const attention_args &a, const tile_job &t, const uint8_t *page, uint32_t slot) {
    const uint32_t d = t.d0 + thread_x() % 16 * 8, d_v = a.kv.d_v;
    float v[8];
    read8<TYPE>(v, page + a.kv.v + code_bytes<TYPE>(slot * d_v + d));
    if (has_scales<TYPE>()) {
        const uint16_t *scales = (const uint16_t *)(page + a.kv.v_scales);
        const float scale = from_f16(scales[slot * (d_v / KV_SCALED) + d / KV_SCALED]);
        UNROLL
        for (int i = 0; i < 8; i++) v[i] = v[i] * scale;
    }
    UNROLL
    for (int i = 0; i < 8; i++) to[i] = v[i];
}

DEVICE void stage_values_any(tile_shared *s, const attention_args &a, const tile_job &t, uint32_t g, uint32_t lo,
                             uint32_t hi) {
    const uint32_t key = thread_x() / 16, j = g * SLICE_KEYS + key, d = t.d0 + thread_x() % 16 * 8, d_v = a.kv.d_v;
    if (j < lo || j >= hi || d >= d_v) return;
    float *to = &s->keys[0][0] + key * ATTN_TILE_D + thread_x() % 16 * 8;
    uint32_t slot;
    const uint8_t *page = kv_page(a.kv, t.first_page, t.head, t.chunk * ATTN_KEYS + j, &slot);
    if (d_v % 8) {
        for (uint32_t i = 0; i < 8 && d + i < d_v; i++)
            to[i] = stored_at(a.kv.type_v, page + a.kv.v, page + a.kv.v_scales, slot * d_v + d + i,
                              slot * (d_v / KV_SCALED) + (d + i) / KV_SCALED);
        return;
    }
    switch (a.kv.type_v) {
    case KV_F32: stage_values<KV_F32>(to, a, t, page, slot); break;
    case KV_F16: stage_values<KV_F16>(to, a, t, page, slot); break;
    case KV_BF16: stage_values<KV_BF16>(to, a, t, page, slot); break;
    case KV_Q4_0: stage_values<KV_Q4_0>(to, a, t, page, slot); break;
    case KV_Q8_0: stage_values<KV_Q8_0>(to, a, t, page, slot); break;
    default: break;
    }
}

/* One dimension of keys and queries. */
DEVICE void score_step(float acc[4][4], const tile_shared *s, uint32_t d) {
    const word4 q = *(const word4 *)&s->q[d][thread_x() / 16 * 4], k = *(const word4 *)&s->keys[d][thread_x() % 16 * 4];
    UNROLL
    for (int i = 0; i < 4; i++) UNROLL
    for (int j = 0; j < 4; j++) acc[i][j] = fma32(as_float(q[i]), as_float(k[j]), acc[i][j]);
}

/* acc[query][key / 16]: the dot products of this thread's queries and keys. lo, hi: keys of the chunk that any query sees. */
DEVICE void tile_scores(float acc[4][4], tile_shared *s, const attention_args &a, const tile_job &t, const float *row,
                        uint32_t lo, uint32_t hi) {
    UNROLL
    for (int i = 0; i < 16; i++) acc[i / 4][i % 4] = 0.0f;
    for (uint32_t d0 = 0; d0 < a.kv.d_k; d0 += SLICE_D) {
        barrier();
        stage_keys_any(s, a, t, d0, lo, hi);
        stage_queries(s, a, row, d0);
        barrier();
        const uint32_t n = min32(SLICE_D, a.kv.d_k - d0);
        uint32_t d = 0;
        for (; d + 8 <= n; d += 8) UNROLL
        for (uint32_t u = 0; u < 8; u++) score_step(acc, s, d + u);
        for (; d < n; d++) score_step(acc, s, d);
    }
}

/* A query's running state, the same in the sixteen lanes that share it. */
struct tile_state {
    float m, l;
};

/* Scores of one query to weights; returns the chunk's own m and l. from, end: keys of the chunk. */
DEVICE tile_state tile_weights(float p[4], const attention_args &a, uint32_t from, uint32_t end) {
    const uint32_t r = thread_x() % 16;
    tile_state c = {-__builtin_inff(), 0.0f};
    UNROLL
    for (uint32_t g = 0; g < 4; g++) {
        p[g] = score_of(p[g], a.scale, a.softcap);
        if (g * 16 + r >= from && g * 16 + r < end) c.m = canon_max(c.m, p[g]);
    }
    c.m = half_team_max(c.m);
    UNROLL
    for (uint32_t g = 0; g < 4; g++) {
        p[g] = canon_exp(p[g] - c.m);
        if (g * 16 + r >= from && g * 16 + r < end) c.l = c.l + p[g];
    }
    c.l = half_team_sum(c.l);
    return c;
}

/* The merge of m and l, and the factors of the outputs' merge. seen: the query sees any of the chunk. */
DEVICE void merge_state(tile_state *run, tile_state c, bool seen, float *old, float *add) {
    *old = 1.0f, *add = MERGE_SKIP;
    if (!seen || c.l == 0.0f) return;
    *add = MERGE_COPY;
    if (run->l == 0.0f) {
        *run = c;
        return;
    }
    const float max = canon_max(run->m, c.m);
    *old = canon_exp(run->m - max);
    *add = canon_exp(c.m - max);
    run->l = fma32(c.l, *add, run->l * *old);
    run->m = max;
}

/* Sixteen keys' values. masked: some query does not see all of them; j0: the first key's number. */
template <bool MASKED>
DEVICE void value_steps(float acc[4][8], const tile_shared *s, uint32_t j0, const uint32_t from[4],
                        const uint32_t end[4]) {
    const float *v = &s->keys[0][0] + thread_x() % 16 * 4;
    const uint32_t q = thread_x() / 16 * 4;
    UNROLL
    for (uint32_t key = 0; key < SLICE_KEYS; key++) {
        if (key % 2 == 0) keep_order();
        const word4 p = *(const word4 *)&s->p[j0 % ATTN_KEYS + key][q];
        const word4 v0 = *(const word4 *)&v[key * ATTN_TILE_D], v1 = *(const word4 *)&v[key * ATTN_TILE_D + 64];
        UNROLL
        for (int i = 0; i < 4; i++) {
            const bool seen = !MASKED || (j0 + key >= from[i] && j0 + key < end[i]);
            UNROLL
            for (int d = 0; d < 4; d++) {
                const float lo = fma32(as_float(p[i]), as_float(v0[d]), acc[i][d]);
                const float hi = fma32(as_float(p[i]), as_float(v1[d]), acc[i][4 + d]);
                acc[i][d] = seen ? lo : acc[i][d];
                acc[i][4 + d] = seen ? hi : acc[i][4 + d];
            }
        }
    }
}

DEVICE void merge_outputs(float o[4][8], const float acc[4][8], const tile_shared *s) {
    UNROLL
    for (int i = 0; i < 4; i++) {
        const float old = s->old[thread_x() / 16 * 4 + i], add = s->add[thread_x() / 16 * 4 + i];
        UNROLL
        for (int d = 0; d < 8; d++) {
            const float merged = fma32(acc[i][d], add, o[i][d] * old);
            o[i][d] = add == MERGE_SKIP ? o[i][d] : add == MERGE_COPY ? acc[i][d] : merged;
        }
    }
}

/* The chunk's part of the outputs, merged into o. whole: every query sees every key of it. */
DEVICE void tile_values(float o[4][8], tile_shared *s, const attention_args &a, const tile_job &t, uint32_t lo,
                        uint32_t hi, bool whole) {
    float acc[4][8];
    uint32_t from[4], end[4];
    UNROLL
    for (int i = 0; i < 4; i++) {
        from[i] = s->from[thread_x() / 16 * 4 + i];
        end[i] = s->end[thread_x() / 16 * 4 + i];
        UNROLL
        for (int d = 0; d < 8; d++) acc[i][d] = 0.0f;
    }
    for (uint32_t g = lo / SLICE_KEYS; g * SLICE_KEYS < hi; g++) {
        const uint32_t j0 = t.chunk * ATTN_KEYS + g * SLICE_KEYS;
        barrier();
        stage_values_any(s, a, t, g, lo, hi);
        barrier();
        if (whole)
            value_steps<false>(acc, s, j0, from, end);
        else
            value_steps<true>(acc, s, j0, from, end);
    }
    merge_outputs(o, acc, s);
}

/* A sink is one more key without a value; then o / l. */
DEVICE void tile_finish(float o[4][8], const attention_args &a, const tile_job &t, tile_state run[4]) {
    barrier();
    UNROLL
    for (int i = 0; i < 4; i++) {
        const uint32_t q = thread_x() / 16 * 4 + i;
        float old, add;
        if (a.sinks && q < t.n_q) {
            merge_state(&run[i], (tile_state){a.sinks[t.head0 + q % t.n_heads], 1.0f}, true, &old, &add);
            UNROLL
            for (int d = 0; d < 8; d++) o[i][d] = fma32(0.0f, add, o[i][d] * old);
        }
        keep_order();
        if (q >= t.n_q) continue;
        const uint64_t row = (uint64_t)(t.tok0 + q / t.n_heads) * a.y_stride;
        float *y = (float *)((uint8_t *)a.y + row) + (uint64_t)(t.head0 + q % t.n_heads) * a.kv.d_v;
        const float inverse = 1.0f / run[i].l;
        UNROLL
        for (uint32_t d = 0; d < 8; d++) {
            const uint32_t at = t.d0 + d / 4 * 64 + thread_x() % 16 * 4 + d % 4;
            if (at < a.kv.d_v) y[at] = o[i][d] * inverse;
        }
    }
}

/* Which keys each query sees; the chunks of the tile. */
DEVICE void find_keys(tile_shared *s, const attention_args &a, tile_job *t, uint32_t n_tok, uint32_t seq) {
    const uint32_t i = thread_x();
    const uint32_t last = a.last ? (uint32_t)a.last[seq] : (uint32_t)a.kv.pos[t->tok0 + n_tok - 1];
    if (i < ATTN_TILE_QUERIES) {
        const uint32_t pos = (uint32_t)a.kv.pos[t->tok0 + min32(i / t->n_heads, n_tok - 1)];
        s->from[i] = first_seen(a.window, pos);
        s->end[i] = (a.last ? last : pos) + 1;
    }
    t->chunk = first_seen(a.window, (uint32_t)a.kv.pos[t->tok0]) / ATTN_KEYS;
    t->end = last / ATTN_KEYS + 1;
}

DEVICE void run_tile(const attention_args &a, tile_shared *s, tile_job t, const float *row) {
    float o[4][8];
    tile_state run[4];
    UNROLL
    for (int i = 0; i < 4; i++) {
        run[i] = (tile_state){0.0f, 0.0f};
        UNROLL
        for (int d = 0; d < 8; d++) o[i][d] = 0.0f;
    }
    const uint32_t q0 = thread_x() / 16 * 4;
    for (; t.chunk < t.end; t.chunk++) {
        /* queries stand in ascending position: the first sees from the lowest key on, the last up to the highest */
        const uint32_t key0 = t.chunk * ATTN_KEYS, last = ATTN_TILE_QUERIES - 1;
        const uint32_t lo = s->from[0] > key0 ? s->from[0] - key0 : 0, hi = min32(s->end[last] - key0, ATTN_KEYS);
        const bool whole = s->from[last] <= key0 && s->end[0] >= key0 + ATTN_KEYS;
        float p[4][4];
        tile_scores(p, s, a, t, row, lo, hi);
        barrier(); /* the queries are done with: weights take their place */
        UNROLL
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t from = s->from[q0 + i] > key0 ? s->from[q0 + i] - key0 : 0;
            const uint32_t end = s->end[q0 + i] > key0 ? s->end[q0 + i] - key0 : 0;
            float old, add;
            keep_order();
            const tile_state c = tile_weights(p[i], a, from, end);
            merge_state(&run[i], c, from < min32(end, ATTN_KEYS), &old, &add);
            if (thread_x() % 16 == 0) s->old[q0 + i] = old, s->add[q0 + i] = add;
            UNROLL
            for (uint32_t g = 0; g < 4; g++) s->p[g * 16 + thread_x() % 16][q0 + i] = p[i][g];
        }
        tile_values(o, s, a, t, lo, hi, whole);
    }
    tile_finish(o, a, t, run);
}

KERNEL_BLOCKS(attention_tile, attention_args, ATTN_TILE_THREADS, 2) {
    SHARED tile_shared s;
    const attn_tile_of tile = a.tile[block_x()];
    if (tile.tok0 == ATTN_NONE) return;
    const uint32_t group = a.n_head / a.kv.n_kv_head, heads = min32(group, ATTN_TILE_HEADS);
    const uint32_t parts = (group + heads - 1) / heads, part = block_y() % parts, seq = a.kv.seq[tile.tok0];
    tile_job t;
    t.tok0 = tile.tok0;
    t.first_page = a.kv.first_page[seq];
    t.head = block_y() / parts;
    t.head0 = t.head * group + part * heads;
    t.n_heads = min32(heads, group - part * heads);
    t.n_q = tile.n_tok * t.n_heads;
    t.d0 = block_z() * ATTN_TILE_D;
    find_keys(&s, a, &t, tile.n_tok, seq);
    barrier();
    const uint32_t q = thread_x() % ATTN_TILE_QUERIES;
    const float *row = (const float *)((const uint8_t *)a.q + (uint64_t)(t.tok0 + q / t.n_heads) * a.q_stride);
    run_tile(a, &s, t, q < t.n_q ? row + (uint64_t)(t.head0 + q % t.n_heads) * a.kv.d_k : (const float *)0);
}
