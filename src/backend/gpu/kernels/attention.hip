/* Attention for tokens that stand alone: their chunks of 64 keys apart, then the merge (args_attention.h: split). One file
 * with attention_tile.hip would be one too many: that form shares nothing but how the cache is read.
 *
 * attention_split: a block has four teams and as many chunks of one token and kv head. A team reads its chunk once:
 *
 *   scores   lane = 8 keys (16 bytes of f16) x a quarter of the heads, one fma chain over d_k per key and head
 *   weights  half a team per head, lane = key mod 16, as the CPU's sixteen partial sums
 *   values   lane = 8 outputs (16 bytes of f16) x half the heads, one fma chain over the seen keys
 *
 * Must move: the keys and values once, and 4 (d_v + 2) bytes a head and chunk out and in again. */
#include "backend/gpu/kernels/attention_kv.h"

enum { SPLIT_PASS = 128 }; /* outputs at once */

/* Vectors of eight that a lane has in flight. */
template <int TYPE> DEVICE constexpr int split_unroll() { return TYPE == KV_F32 ? 4 : 8; }

/* What a team knows of its chunk. */
struct split_chunk {
    uint32_t first_page, head; /* kv head */
    uint32_t key0, lo, hi;     /* seen: key0 + lo <= key < key0 + hi */
};

/* q: [d_k][H] in shared memory; the scores go to p [64][H]. Groups without a seen key are not read: another's stand in. */
template <int TYPE, int H>
DEVICE void split_scores(const attention_args &a, const split_chunk &c, const float *q, float *p) {
    constexpr int N = H / 4, UNROLLED = split_unroll<TYPE>();
    const uint32_t lane = lane_in_team(), oct = lane & 7, h0 = lane / 8 * N;
    const uint32_t group = max32(c.lo / KV_GROUP, min32(oct / 2, (c.hi - 1) / KV_GROUP));
    uint32_t slot;
    const uint8_t *page = kv_page(a.kv, c.first_page, c.head, c.key0 + group * KV_GROUP, &slot);
    const uint8_t *k = page + code_bytes<TYPE>(slot * a.kv.d_k + oct % 2 * 8);
    const uint8_t *scales =
        page + a.kv.k_scales + (slot / KV_GROUP * (a.kv.d_k / KV_SCALED) * KV_GROUP + oct % 2 * 8) * 2;
    const uint32_t step = code_bytes<TYPE>(KV_GROUP);
    float acc[N][8], scale[8];
    UNROLL
    for (int h = 0; h < N; h++) UNROLL
    for (int i = 0; i < 8; i++) acc[h][i] = 0.0f;
    uint32_t d = 0;
    for (; d + UNROLLED <= a.kv.d_k; d += UNROLLED) {
        raw8<TYPE> raw[UNROLLED];
        UNROLL
        for (int u = 0; u < UNROLLED; u++) raw[u] = load8<TYPE>(k + (d + u) * step);
        if (has_scales<TYPE>() && d % KV_SCALED == 0) load_scales8(scale, scales + d / KV_SCALED * KV_GROUP * 2);
        UNROLL
        for (int u = 0; u < UNROLLED; u++) {
            if (u % 2 == 0) in_order();
            float v[8];
            unpack8<TYPE>(v, raw[u]);
            UNROLL
            for (int i = 0; i < 8; i++) {
                if (has_scales<TYPE>()) v[i] = v[i] * scale[i];
                UNROLL
                for (int h = 0; h < N; h++) acc[h][i] = fma32(q[(d + u) * H + h0 + h], v[i], acc[h][i]);
            }
        }
    }
    if constexpr (!has_scales<TYPE>()) /* their d_k is a multiple of 32 */
        for (; d < a.kv.d_k; d++) {
            float v[8];
            unpack8<TYPE>(v, load8<TYPE>(k + d * step));
            UNROLL
            for (int i = 0; i < 8; i++) UNROLL
            for (int h = 0; h < N; h++) acc[h][i] = fma32(q[d * H + h0 + h], v[i], acc[h][i]);
        }
    UNROLL
    for (int i = 0; i < 8; i++) UNROLL
    for (int h = 0; h < N; h++) p[(oct * 8 + i) * H + h0 + h] = score_of(acc[h][i], a.scale, a.softcap);
}

/* Scores to weights, in place; m and l of the first n_heads heads to the state. */
template <int H>
DEVICE void split_weights(const split_chunk &c, float *p, float *m_out, float *l_out, uint32_t n_heads) {
    const uint32_t lane = lane_in_team(), r = lane & 15;
    UNROLL
    for (uint32_t pair = 0; pair < H / 2; pair++) {
        const uint32_t h = pair * 2 + lane / 16;
        float s[4], m = -__builtin_inff(), part = 0.0f;
        UNROLL
        for (uint32_t g = 0; g < 4; g++) {
            const uint32_t j = g * 16 + r;
            s[g] = p[j * H + h];
            if (j >= c.lo && j < c.hi) m = canon_max(m, s[g]);
        }
        m = half_team_max(m);
        UNROLL
        for (uint32_t g = 0; g < 4; g++) {
            const uint32_t j = g * 16 + r;
            const float e = canon_exp(s[g] - m);
            if (j >= c.lo && j < c.hi) part = part + e;
            p[j * H + h] = e;
        }
        part = half_team_sum(part);
        if (r == 0 && h < n_heads) m_out[h] = m, l_out[h] = part;
    }
}

/* Keys [from, end) of one group of sixteen, whose first value stands at v. */
template <int TYPE, int H, int N>
DEVICE void add_values(float acc[H / 2][8], const float *p, const uint8_t *v, const uint8_t *scales, uint32_t d_v,
                       uint32_t from) {
    constexpr int HALF = H / 2;
    raw8<TYPE> raw[N];
    float scale[N];
    UNROLL
    for (int u = 0; u < N; u++) {
        raw[u] = load8<TYPE>(v + code_bytes<TYPE>((from + u) * d_v));
        if (has_scales<TYPE>()) scale[u] = from_f16(*(const uint16_t *)(scales + (from + u) * (d_v / KV_SCALED) * 2));
    }
    UNROLL
    for (int u = 0; u < N; u++) {
        if (u % 2 == 0) in_order();
        float x[8];
        unpack8<TYPE>(x, raw[u]);
        UNROLL
        for (int i = 0; i < 8; i++) {
            if (has_scales<TYPE>()) x[i] = x[i] * scale[u];
            UNROLL
            for (int h = 0; h < HALF; h++) acc[h][i] = fma32(p[(from + u) * H + h], x[i], acc[h][i]);
        }
    }
}

/* o: of the block's first head in the state; heads are d_v apart. */
template <int TYPE, int H>
DEVICE void split_values(const attention_args &a, const split_chunk &c, const float *p, float *o, uint32_t n_heads) {
    constexpr int HALF = H / 2, UNROLLED = split_unroll<TYPE>();
    const uint32_t lane = lane_in_team(), h0 = lane / 16 * HALF, d_v = a.kv.d_v;
    for (uint32_t d = lane % 16 * 8; d < d_v; d += SPLIT_PASS) {
        float acc[HALF][8];
        UNROLL
        for (int h = 0; h < HALF; h++) UNROLL
        for (int i = 0; i < 8; i++) acc[h][i] = 0.0f;
        for (uint32_t g = c.lo / KV_GROUP; g * KV_GROUP < c.hi; g++) {
            uint32_t slot, j = max32(c.lo, g * KV_GROUP), end = min32(c.hi, (g + 1) * KV_GROUP);
            const uint8_t *page = kv_page(a.kv, c.first_page, c.head, c.key0 + g * KV_GROUP, &slot);
            const uint8_t *v = page + a.kv.v + code_bytes<TYPE>(slot * d_v + d);
            const uint8_t *scales = page + a.kv.v_scales + (slot * (d_v / KV_SCALED) + d / KV_SCALED) * 2;
            const float *pg = p + g * KV_GROUP * H + h0;
            for (j -= g * KV_GROUP, end -= g * KV_GROUP; j + UNROLLED <= end; j += UNROLLED)
                add_values<TYPE, H, UNROLLED>(acc, pg, v, scales, d_v, j);
            for (; j < end; j++) add_values<TYPE, H, 1>(acc, pg, v, scales, d_v, j);
        }
        UNROLL
        for (int h = 0; h < HALF; h++)
            if (h0 + h < n_heads) {
                word4 *to = (word4 *)(o + (uint64_t)(h0 + h) * d_v + d);
                to[0] = (word4){as_bits(acc[h][0]), as_bits(acc[h][1]), as_bits(acc[h][2]), as_bits(acc[h][3])};
                to[1] = (word4){as_bits(acc[h][4]), as_bits(acc[h][5]), as_bits(acc[h][6]), as_bits(acc[h][7])};
            }
    }
}

/* The same for values that are no multiple of 8 long: one output a lane. */
template <int H>
DEVICE void split_values_plain(const attention_args &a, const split_chunk &c, const float *p, float *o,
                               uint32_t n_heads) {
    const uint32_t d_v = a.kv.d_v;
    for (uint32_t h = 0; h < n_heads; h++)
        for (uint32_t d = lane_in_team(); d < d_v; d += TEAM) {
            float acc = 0.0f;
            for (uint32_t j = c.lo; j < c.hi; j++) {
                uint32_t slot;
                const uint8_t *page = kv_page(a.kv, c.first_page, c.head, c.key0 + j, &slot);
                const uint32_t s = slot * (d_v / KV_SCALED) + d / KV_SCALED;
                const float v = stored_at(a.kv.type_v, page + a.kv.v, page + a.kv.v_scales, slot * d_v + d, s);
                acc = fma32(p[j * H + h], v, acc);
            }
            o[(uint64_t)h * d_v + d] = acc;
        }
}

/* The heads' queries, [d_k][H]; absent heads are zero. */
template <int H>
DEVICE void load_queries(float *q, const attention_args &a, uint32_t tok, uint32_t head0, uint32_t n_heads) {
    const float *row = (const float *)((const uint8_t *)a.q + (uint64_t)tok * a.q_stride) + (uint64_t)head0 * a.kv.d_k;
    for (uint32_t h = 0; h < H; h++)
        for (uint32_t d = thread_x(); d < a.kv.d_k; d += ATTN_SPLIT_THREADS)
            q[d * H + h] = h < n_heads ? row[h * a.kv.d_k + d] : 0.0f;
}

template <int H> DEVICE void split_scores_any(const attention_args &a, const split_chunk &c, const float *q, float *p) {
    switch (a.kv.type_k) {
    case KV_F32: split_scores<KV_F32, H>(a, c, q, p); break;
    case KV_F16: split_scores<KV_F16, H>(a, c, q, p); break;
    case KV_Q8_0: split_scores<KV_Q8_0, H>(a, c, q, p); break;
    default: break;
    }
}

template <int H>
DEVICE void split_values_any(const attention_args &a, const split_chunk &c, const float *p, float *o,
                             uint32_t n_heads) {
    if (a.kv.d_v % 8) return split_values_plain<H>(a, c, p, o, n_heads);
    switch (a.kv.type_v) {
    case KV_F32: split_values<KV_F32, H>(a, c, p, o, n_heads); break;
    case KV_F16: split_values<KV_F16, H>(a, c, p, o, n_heads); break;
    case KV_Q8_0: split_values<KV_Q8_0, H>(a, c, p, o, n_heads); break;
    default: break;
    }
}

/* q: [at least d_k][H]; p: [4][64 * H], of the block. */
template <int H> DEVICE void split_block(const attention_args &a, float *q, float *p) {
    const attn_single one = a.single[block_z()];
    if (one.tok == ATTN_NONE) return;
    const uint32_t seq = a.kv.seq[one.tok], pos = (uint32_t)a.kv.pos[one.tok];
    const uint32_t last = a.last ? (uint32_t)a.last[seq] : pos, from = first_seen(a.window, pos);
    const uint32_t first = from / ATTN_KEYS, n = last / ATTN_KEYS + 1 - first, mine = block_x() * ATTN_SPLIT_CHUNKS;
    if (mine >= n) return;
    const uint32_t group = a.n_head / a.kv.n_kv_head, parts = (group + H - 1) / H, part = block_y() % parts;
    split_chunk c;
    c.head = block_y() / parts;
    const uint32_t head0 = c.head * group + part * H, n_heads = min32(H, group - part * H);
    load_queries<H>(q, a, one.tok, head0, n_heads);
    barrier();
    const uint32_t number = mine + team_in_block();
    const bool active = number < n;
    c.first_page = a.kv.first_page[seq];
    c.key0 = (first + number) * ATTN_KEYS;
    c.lo = from > c.key0 ? from - c.key0 : 0;
    c.hi = active ? min32(last + 1 - c.key0, ATTN_KEYS) : 0;
    p += team_in_block() * ATTN_KEYS * H;
    uint8_t *state = a.states + (uint64_t)(one.first_state + number) * gpu_attn_state_bytes(a.n_head, a.kv.d_v);
    float *m = (float *)state + head0, *o = (float *)(state + gpu_attn_state_o(a.n_head)) + (uint64_t)head0 * a.kv.d_v;
    if (active) split_scores_any<H>(a, c, q, p);
    barrier();
    if (active) split_weights<H>(c, p, m, m + a.n_head, n_heads);
    barrier();
    if (active) split_values_any<H>(a, c, p, o, n_heads);
}

KERNEL(attention_split_h4, attention_args, ATTN_SPLIT_THREADS) {
    SHARED float q[ATTN_SPLIT_D * 4];
    SHARED float p[ATTN_SPLIT_CHUNKS * ATTN_KEYS * 4];
    split_block<4>(a, q, p);
}

KERNEL(attention_split_h8, attention_args, ATTN_SPLIT_THREADS) {
    SHARED float q[ATTN_SPLIT_D * 8];
    SHARED float p[ATTN_SPLIT_CHUNKS * ATTN_KEYS * 8];
    split_block<8>(a, q, p);
}

KERNEL(attention_split_wide, attention_args, ATTN_SPLIT_THREADS) {
    SHARED float q[ATTN_MAX_D * 8];
    SHARED float p[ATTN_SPLIT_CHUNKS * ATTN_KEYS * 8];
    split_block<8>(a, q, p);
}

/* --- the merge, left to right -------------------------------------------------------------------------------------------
 * What a chunk's merge needs of those before it is the greatest m alone, and a maximum may be taken in any order: so a
 * stage's factors exp(m - m') are computed by one thread a chunk, and what is left in order is a product and an fma. */
enum { MERGE_STAGE = ATTN_MERGE_THREADS };

struct merge_stage {
    float o[MERGE_STAGE][ATTN_MERGE_D];
    float old[MERGE_STAGE], add[MERGE_STAGE], l[MERGE_STAGE]; /* factors of the running state and of the chunk */
    float team_max[ATTN_MERGE_THREADS / TEAM];
};

/* Greatest m up to and with this thread's chunk and `before` it. */
DEVICE float running_max(merge_stage *s, float m, float carry, float *before) {
    const uint32_t lane = lane_in_team(), team = team_in_block();
    float v = m;
    for (uint32_t step = 1; step < TEAM; step *= 2) {
        const float left = team_get_f(v, (lane - step) & 31);
        if (lane >= step) v = canon_max(left, v);
    }
    if (lane == TEAM - 1) s->team_max[team] = v;
    barrier();
    float most = carry;
    for (uint32_t t = 0; t < team; t++) most = canon_max(most, s->team_max[t]);
    const float left = team_get_f(v, (lane - 1) & 31);
    *before = lane ? canon_max(most, left) : most;
    return canon_max(most, v);
}

/* Copies [n][32] outputs of consecutive states, the first at `from`. */
DEVICE void load_outputs(merge_stage *s, const uint8_t *from, uint64_t state_bytes, uint32_t n, uint32_t n_d) {
    if (n_d == ATTN_MERGE_D && state_bytes % 16 == 0 && (uintptr_t)from % 16 == 0) {
        const uint32_t at = thread_x() % 8 * 4;
        for (uint32_t c = thread_x() / 8; c < n; c += ATTN_MERGE_THREADS / 8)
            *(word4 *)&s->o[c][at] = *(const word4 *)(from + c * state_bytes + at * 4);
        return;
    }
    for (uint32_t c = team_in_block(); c < n; c += ATTN_MERGE_THREADS / TEAM)
        if (lane_in_team() < n_d)
            s->o[c][lane_in_team()] = *(const float *)(from + c * state_bytes + lane_in_team() * 4);
}

DEVICE void merge_block(const attention_args &a, merge_stage *s) {
    const attn_single one = a.single[block_x()];
    if (one.tok == ATTN_NONE) return;
    const uint32_t head = block_y(), d0 = block_z() * ATTN_MERGE_D, n_d = min32(ATTN_MERGE_D, a.kv.d_v - d0);
    const uint32_t seq = a.kv.seq[one.tok], pos = (uint32_t)a.kv.pos[one.tok];
    const uint32_t last = a.last ? (uint32_t)a.last[seq] : pos;
    const uint32_t n = last / ATTN_KEYS + 1 - first_seen(a.window, pos) / ATTN_KEYS;
    const uint64_t state_bytes = gpu_attn_state_bytes(a.n_head, a.kv.d_v);
    const uint8_t *state = a.states + one.first_state * state_bytes;
    const uint64_t at_o = gpu_attn_state_o(a.n_head) + ((uint64_t)head * a.kv.d_v + d0) * 4;
    const uint32_t lane = lane_in_team(), i = thread_x();
    float most = -__builtin_inff(), l = 0.0f, o = 0.0f;
    for (uint32_t c0 = 0; c0 < n; c0 += MERGE_STAGE) {
        const uint32_t n_c = min32(MERGE_STAGE, n - c0);
        const uint8_t *stage = state + c0 * state_bytes;
        float m = -__builtin_inff(), before;
        if (i < n_c) {
            const float *ml = (const float *)(stage + i * state_bytes);
            m = ml[head];
            s->l[i] = ml[a.n_head + head];
        }
        load_outputs(s, stage + at_o, state_bytes, n_c, n_d);
        const float max = running_max(s, m, most, &before);
        s->old[i] = canon_exp(before - max);
        s->add[i] = canon_exp(m - max);
        barrier();
        for (uint32_t t = 0; t < ATTN_MERGE_THREADS / TEAM; t++) most = canon_max(most, s->team_max[t]);
        uint32_t c = 0;
        if (c0 == 0) l = s->l[0], o = s->o[0][lane], c = 1;
        for (; c < n_c; c++) {
            l = fma32(s->l[c], s->add[c], l * s->old[c]);
            o = fma32(s->o[c][lane], s->add[c], o * s->old[c]);
        }
        barrier();
    }
    if (a.sinks) { /* one more key without a value */
        const float sink = a.sinks[head], max = canon_max(most, sink), add = canon_exp(sink - max);
        const float old = canon_exp(most - max);
        l = fma32(1.0f, add, l * old);
        o = fma32(0.0f, add, o * old);
    }
    float *y = (float *)((uint8_t *)a.y + (uint64_t)one.tok * a.y_stride) + (uint64_t)head * a.kv.d_v + d0;
    if (i < n_d) y[i] = o * (1.0f / l);
}

KERNEL(attention_merge, attention_args, ATTN_MERGE_THREADS) {
    SHARED merge_stage s;
    merge_block(a, &s);
}
