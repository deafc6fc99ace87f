/* Attention for tokens that stand alone: their chunks of 64 keys apart, then the merge (args_attention.h: split).
 *
 * A block has one chunk of one token, for up to H query heads of a kv head. Keys and values pass through shared memory as they
 * are stored, a slice at a time; each slice is on its way, in registers, while the one before is worked on:
 *
 *   slice    of keys: 128 dimensions of all 64 keys, of values: 128 outputs of all 64 (f32: half of that). At most 16 KiB, as 16
 *            bytes a load; a team has a group of sixteen keys
 *   scores   thread = 2 keys x H / 4 heads, one fma chain over d_k each
 *   weights  half a team a head, lane = key mod 16, as the CPU's sixteen partial sums
 *   values   thread = 2 outputs x H / 2 heads, one fma chain over the seen keys each
 *
 * Must move: the keys and values once, and 4 (d_v + 2) bytes a head out and in again. */
#include "backend/gpu/kernels/attention_kv.h"
#include "backend/gpu/kernels/quantize_unit.h"

enum {
    SLICE_D = 128,                          /* dimensions or outputs of a slice */
    SLICE_UNITS = 8,                        /* 16-byte loads of a lane */
    KEY_GROUP_BYTES = 4096 + 32,            /* of sixteen keys in shared memory: the banks of the four differ */
    SLICE_BYTES = 4 * KEY_GROUP_BYTES,      /* values take 16 KiB of it */
    SLICE_SCALES = SLICE_D / KV_SCALED * 64 /* of a slice */
};

struct split_shared {
    word4 slice[SLICE_BYTES / 16];
    uint16_t scales[SLICE_SCALES]; /* keys [group][block][16], values [key][block] */
};

/* What the block knows of its chunk. */
struct split_chunk {
    uint32_t first_page, head; /* kv head */
    uint32_t key0, lo, hi;     /* seen: key0 + lo <= key < key0 + hi */
};

/* A slice on its way. */
struct split_load {
    word4 unit[SLICE_UNITS];
    word4 k_scales;
    uint16_t v_scales[2];
};

DEVICE uint32_t bits_of(uint32_t type) { return type == KV_F32 ? 32 : type == KV_Q8_0 ? 8 : type == KV_Q4_0 ? 4 : 16; }
DEVICE bool is_scaled(uint32_t type) { return type == KV_Q8_0 || type == KV_Q4_0; }

/* Keys and dimensions of a slice: f32 needs twice the room. */
DEVICE uint32_t key_slice_d(uint32_t type) { return type == KV_F32 ? SLICE_D / 2 : SLICE_D; }
DEVICE uint32_t value_slice_keys(uint32_t type) { return type == KV_F32 ? ATTN_KEYS / 2 : ATTN_KEYS; }

/* Dimensions d0 .. of this team's group of keys; nothing if none of it is seen. */
DEVICE void load_keys(split_load *r, const attention_args &a, const split_chunk &c, uint32_t d0) {
    const uint32_t group = team_in_block(), lane = lane_in_team(), bits = bits_of(a.kv.type_k);
    if (group < c.lo / KV_GROUP || group * KV_GROUP >= c.hi) return;
    uint32_t slot;
    const uint8_t *page = kv_page(a.kv, c.first_page, c.head, c.key0 + group * KV_GROUP, &slot);
    const uint32_t n_d = min32(key_slice_d(a.kv.type_k), a.kv.d_k - d0), n = n_d * bits / 8;
    const word4 *from = (const word4 *)(page + (uint64_t)(slot * a.kv.d_k + d0 * KV_GROUP) * bits / 8);
    UNROLL
    for (uint32_t i = 0; i < SLICE_UNITS; i++)
        if (i * TEAM + lane < n) r->unit[i] = from[i * TEAM + lane];
    if (is_scaled(a.kv.type_k) && lane < n_d / KV_SCALED * 2) {
        const uint32_t first = slot * (a.kv.d_k / KV_SCALED) + d0 / KV_SCALED * KV_GROUP;
        r->k_scales = ((const word4 *)(page + a.kv.k_scales + first * 2))[lane];
    }
}

DEVICE void put_keys(split_shared *s, const split_load &r, const attention_args &a, uint32_t d0) {
    const uint32_t group = team_in_block(), lane = lane_in_team();
    const uint32_t n = min32(key_slice_d(a.kv.type_k), a.kv.d_k - d0) * bits_of(a.kv.type_k) / 8;
    word4 *to = s->slice + group * (KEY_GROUP_BYTES / 16);
    UNROLL
    for (uint32_t i = 0; i < SLICE_UNITS; i++)
        if (i * TEAM + lane < n) to[i * TEAM + lane] = r.unit[i];
    if (lane < SLICE_D / KV_SCALED * 2) ((word4 *)s->scales)[group * (SLICE_D / KV_SCALED * 2) + lane] = r.k_scales;
}

/* Where unit i of this lane lies in a slice of values that begins at key j0 and output d0: its key, and *column in units. */
DEVICE uint32_t value_unit(uint32_t type, uint32_t j0, uint32_t i, uint32_t *column) {
    const uint32_t width = bits_of(type),
                   u = i * TEAM + lane_in_team(); /* units of a row: 128 values of so many bits */
    *column = u & (width - 1);
    return j0 + team_in_block() * (value_slice_keys(type) / 4) + u / width;
}

DEVICE void load_values(split_load *r, const attention_args &a, const split_chunk &c, uint32_t j0, uint32_t d0) {
    const uint32_t type = a.kv.type_v, bits = bits_of(type), d_v = a.kv.d_v, n = min32(SLICE_D, d_v - d0) * bits / 128;
    const uint32_t group = (j0 + team_in_block() * (value_slice_keys(type) / 4)) / KV_GROUP;
    if (group < c.lo / KV_GROUP || group * KV_GROUP >= c.hi) return;
    uint32_t slot;
    const uint8_t *page = kv_page(a.kv, c.first_page, c.head, c.key0 + group * KV_GROUP, &slot);
    UNROLL
    for (uint32_t i = 0; i < SLICE_UNITS; i++) {
        uint32_t column;
        const uint32_t j = value_unit(type, j0, i, &column);
        if (i * TEAM < value_slice_keys(type) / 4 * bits && column < n && j >= c.lo && j < c.hi) {
            const uint32_t first = (slot + j - group * KV_GROUP) * d_v + d0;
            r->unit[i] = ((const word4 *)(page + a.kv.v + (uint64_t)first * bits / 8))[column];
        }
    }
    if (!is_scaled(type)) return;
    UNROLL
    for (uint32_t i = 0; i < 2; i++) { /* sixteen keys' scales of four blocks */
        const uint32_t j = group * KV_GROUP + i * 8 + lane_in_team() / 4, block = d0 / KV_SCALED + lane_in_team() % 4;
        const uint16_t *scales = (const uint16_t *)(page + a.kv.v_scales);
        if (j >= c.lo && j < c.hi && block < d_v / KV_SCALED)
            r->v_scales[i] = scales[(slot + j - group * KV_GROUP) * (d_v / KV_SCALED) + block];
    }
}

DEVICE void put_values(split_shared *s, const split_load &r, const attention_args &a) {
    const uint32_t type = a.kv.type_v, bits = bits_of(type);
    UNROLL
    for (uint32_t i = 0; i < SLICE_UNITS; i++) {
        uint32_t column;
        const uint32_t j = value_unit(type, 0, i, &column);
        if (i * TEAM < value_slice_keys(type) / 4 * bits) s->slice[j * bits + column] = r.unit[i];
    }
    UNROLL
    for (uint32_t i = 0; i < 2; i++)
        s->scales[(team_in_block() * KV_GROUP + i * 8) * 4 + lane_in_team()] = r.v_scales[i];
}

/* Two neighbouring stored values: as they come, and as floats but for their scale. A byte becomes a float by way of 2^23, whose
 * last bits count units. */
template <int TYPE> DEVICE word2 load2(const void *codes, uint32_t i) {
    if constexpr (TYPE == KV_F32)
        return ((const word2 *)codes)[i];
    else if constexpr (TYPE == KV_Q8_0)
        return (word2){((const uint16_t *)codes)[i] ^ 0x8080u, 0};
    else if constexpr (TYPE == KV_Q4_0) {
        const uint32_t two = ((const uint8_t *)codes)[i];
        return (word2){(two & 15) | two >> 4 << 8, 0};
    } else
        return (word2){((const uint32_t *)codes)[i], 0};
}

/* The same of two neighbouring keys, dimension d: q4_0 has two dimensions in a byte. */
template <int TYPE> DEVICE word2 load_keys2(const uint8_t *k, uint32_t d) {
    if constexpr (TYPE == KV_Q4_0)
        return (word2){((const uint16_t *)k)[d / 2 * 8] >> (d % 2 * 4) & 0x0f0fu, 0};
    else
        return load2<TYPE>(k, d * 8);
}

template <int TYPE> DEVICE void unpack2(float v[2], word2 w) {
    if constexpr (TYPE == KV_F32)
        v[0] = as_float(w[0]), v[1] = as_float(w[1]);
    else if constexpr (TYPE == KV_F16)
        v[0] = low_f16(w[0]), v[1] = high_f16(w[0]);
    else if constexpr (TYPE == KV_BF16)
        v[0] = as_float(w[0] << 16), v[1] = as_float(w[0] & 0xffff0000u);
    else if constexpr (TYPE == KV_Q8_0) {
        v[0] = as_float(0x4b000000u | (w[0] & 255)) - 8388736.0f;
        v[1] = as_float(0x4b000000u | w[0] >> 8) - 8388736.0f;
    } else {
        v[0] = as_float(0x4b000000u | (w[0] & 255)) - 8388616.0f;
        v[1] = as_float(0x4b000000u | w[0] >> 8) - 8388616.0f;
    }
}

/* M dimensions from d on. q: [H][row] */
template <int TYPE, int H, int M>
DEVICE void score_steps(float acc[H / 4][2], const uint8_t *k, const float *q, uint32_t row, uint32_t d,
                        const float scale[2]) {
    constexpr int N = H / 4;
    word2 w[M];
    float x[N][M];
    UNROLL
    for (int u = 0; u < M; u++) w[u] = load_keys2<TYPE>(k, d + u);
    UNROLL
    for (int h = 0; h < N; h++) UNROLL
    for (int u = 0; u < M; u++) x[h][u] = q[h * row + d + u];
    UNROLL
    for (int u = 0; u < M; u++) {
        float v[2];
        unpack2<TYPE>(v, w[u]);
        UNROLL
        for (int i = 0; i < 2; i++) {
            if (has_scales<TYPE>()) v[i] = v[i] * scale[i];
            UNROLL
            for (int h = 0; h < N; h++) acc[h][i] = fma32(x[h][u], v[i], acc[h][i]);
        }
    }
}

/* One slice's part of the dot products. q: [H][row], at the slice's first dimension. */
template <int TYPE, int H>
DEVICE void add_scores(float acc[H / 4][2], const split_shared *s, const float *q, uint32_t row, uint32_t n_d) {
    const uint32_t lane = lane_in_team(), group = lane / 8, pair = lane % 8;
    const uint8_t *k =
        (const uint8_t *)s->slice + group * KEY_GROUP_BYTES + pair * (TYPE == KV_Q4_0 ? 2 : code_bytes<TYPE>(2));
    const uint16_t *scales = s->scales + group * (SLICE_D / KV_SCALED) * KV_GROUP + pair * 2;
    float scale[2] = {1.0f, 1.0f};
    uint32_t d = 0;
    q += team_in_block() * (H / 4) * row;
    for (; d + 8 <= n_d; d += 8) {
        if (has_scales<TYPE>() && d % KV_SCALED == 0) {
            scale[0] = from_f16(scales[d / KV_SCALED * KV_GROUP]);
            scale[1] = from_f16(scales[d / KV_SCALED * KV_GROUP + 1]);
        }
        score_steps<TYPE, H, 8>(acc, k, q, row, d, scale);
    }
    for (; d < n_d; d++) score_steps<TYPE, H, 1>(acc, k, q, row, d, scale);
}

template <int H>
DEVICE void add_scores_any(float acc[H / 4][2], const split_shared *s, uint32_t type, const float *q, uint32_t row,
                           uint32_t n_d) {
    switch (type) {
    case KV_F32: add_scores<KV_F32, H>(acc, s, q, row, n_d); break;
    case KV_F16: add_scores<KV_F16, H>(acc, s, q, row, n_d); break;
    case KV_BF16: add_scores<KV_BF16, H>(acc, s, q, row, n_d); break;
    case KV_Q4_0: add_scores<KV_Q4_0, H>(acc, s, q, row, n_d); break;
    case KV_Q8_0: add_scores<KV_Q8_0, H>(acc, s, q, row, n_d); break;
    default: break;
    }
}

/* Scores to weights, in place; m and l of the first n_heads heads to the state. p: [64][H] */
template <int H>
DEVICE void split_weights(const split_chunk &c, float *p, float *m_out, float *l_out, uint32_t n_heads) {
    const uint32_t r = thread_x() % 16, h = thread_x() / 16;
    if (team_in_block() >= H / 2) return;
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

/* M keys from number j of the slice on. p: [key of the slice][H] at this thread's heads. */
template <int TYPE, int H, int M>
DEVICE void value_steps(float acc[H / 2][2], const split_shared *s, const float *p, uint32_t j) {
    constexpr int N = H / 2;
    const uint32_t pair = thread_x() % 64;
    word2 w[M];
    float x[M][N], scale[M];
    UNROLL
    for (int u = 0; u < M; u++) {
        w[u] = load2<TYPE>(s->slice, (j + u) * (SLICE_D / 2) + pair);
        if (has_scales<TYPE>()) scale[u] = from_f16(s->scales[(j + u) * (SLICE_D / KV_SCALED) + pair / 16]);
        UNROLL
        for (int h = 0; h < N; h++) x[u][h] = as_float(((const word2 *)&p[(j + u) * H])[h / 2][h % 2]);
    }
    UNROLL
    for (int u = 0; u < M; u++) {
        float v[2];
        unpack2<TYPE>(v, w[u]);
        UNROLL
        for (int i = 0; i < 2; i++) {
            if (has_scales<TYPE>()) v[i] = v[i] * scale[u];
            UNROLL
            for (int h = 0; h < N; h++) acc[h][i] = fma32(x[u][h], v[i], acc[h][i]);
        }
    }
}

/* Keys j .. end of a slice that begins at key j0; thread: outputs 2 i, 2 i + 1 of the slice, i = thread % 64. */
template <int TYPE, int H>
DEVICE void add_values(float acc[H / 2][2], const split_shared *s, const float *p, uint32_t j0, uint32_t j,
                       uint32_t end) {
    p += j0 * H + thread_x() / 64 * (H / 2);
    if (end <= j) return;
    for (j -= j0, end -= j0; j + 8 <= end; j += 8) value_steps<TYPE, H, 8>(acc, s, p, j);
    for (; j < end; j++) value_steps<TYPE, H, 1>(acc, s, p, j);
}

template <int H>
DEVICE void add_values_any(float acc[H / 2][2], const split_shared *s, uint32_t type, const float *p, uint32_t j0,
                           uint32_t j, uint32_t end) {
    switch (type) {
    case KV_F32: add_values<KV_F32, H>(acc, s, p, j0, j, end); break;
    case KV_F16: add_values<KV_F16, H>(acc, s, p, j0, j, end); break;
    case KV_BF16: add_values<KV_BF16, H>(acc, s, p, j0, j, end); break;
    case KV_Q4_0: add_values<KV_Q4_0, H>(acc, s, p, j0, j, end); break;
    case KV_Q8_0: add_values<KV_Q8_0, H>(acc, s, p, j0, j, end); break;
    default: break;
    }
}

/* Values that are no multiple of 8 long are not aligned: one output a thread, straight from memory. */
template <int H>
DEVICE void split_values_plain(const attention_args &a, const split_chunk &c, const float *p, float *o,
                               uint32_t n_heads) {
    const uint32_t d_v = a.kv.d_v;
    for (uint32_t h = 0; h < n_heads; h++)
        for (uint32_t d = thread_x(); d < d_v; d += ATTN_SPLIT_THREADS) {
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

/* The heads' queries, [H][row]; absent heads are zero. */
template <int H>
DEVICE void load_queries(float *q, uint32_t row, const attention_args &a, uint32_t tok, uint32_t head0,
                         uint32_t n_heads) {
    const float *from = (const float *)((const uint8_t *)a.q + (uint64_t)tok * a.q_stride) + (uint64_t)head0 * a.kv.d_k;
    for (uint32_t h = 0; h < H; h++)
        for (uint32_t d = thread_x(); d < a.kv.d_k; d += ATTN_SPLIT_THREADS)
            q[h * row + d] = h < n_heads ? from[h * a.kv.d_k + d] : 0.0f;
}

/* r: the first slice of keys; it leaves with the first slice of values. */
template <int H>
DEVICE void split_scores(const attention_args &a, const split_chunk &c, split_shared *s, split_load *r, const float *q,
                         uint32_t row, float *p) {
    constexpr int N = H / 4;
    const uint32_t step = key_slice_d(a.kv.type_k);
    float acc[N][2];
    UNROLL
    for (int h = 0; h < N; h++) acc[h][0] = acc[h][1] = 0.0f;
    for (uint32_t d0 = 0; d0 < a.kv.d_k; d0 += step) {
        barrier();
        put_keys(s, *r, a, d0);
        barrier();
        if (d0 + step < a.kv.d_k)
            load_keys(r, a, c, d0 + step);
        else if (a.kv.d_v % 8 == 0)
            load_values(r, a, c, 0, 0);
        add_scores_any<H>(acc, s, a.kv.type_k, q + d0, row, min32(step, a.kv.d_k - d0));
    }
    UNROLL
    for (int i = 0; i < 2; i++) UNROLL
    for (int h = 0; h < N; h++)
        p[(lane_in_team() * 2 + i) * H + team_in_block() * N + h] = score_of(acc[h][i], a.scale, a.softcap);
}

/* o: of the block's first head in the state; heads are d_v apart. */
template <int H>
DEVICE void split_values(const attention_args &a, const split_chunk &c, split_shared *s, split_load *r, const float *p,
                         float *o, uint32_t n_heads) {
    constexpr int N = H / 2;
    const uint32_t step = value_slice_keys(a.kv.type_v), h0 = thread_x() / 64 * N;
    for (uint32_t d0 = 0; d0 < a.kv.d_v; d0 += SLICE_D) {
        float acc[N][2];
        UNROLL
        for (int h = 0; h < N; h++) acc[h][0] = acc[h][1] = 0.0f;
        for (uint32_t j0 = 0; j0 < ATTN_KEYS; j0 += step) {
            barrier();
            put_values(s, *r, a);
            barrier();
            if (j0 + step < ATTN_KEYS)
                load_values(r, a, c, j0 + step, d0);
            else if (d0 + SLICE_D < a.kv.d_v)
                load_values(r, a, c, 0, d0 + SLICE_D);
            add_values_any<H>(acc, s, a.kv.type_v, p, j0, max32(c.lo, j0), min32(c.hi, j0 + step));
        }
        const uint32_t d = d0 + thread_x() % 64 * 2;
        UNROLL
        for (int h = 0; h < N; h++)
            if (d < a.kv.d_v && h0 + h < n_heads)
                *(word2 *)(o + (uint64_t)(h0 + h) * a.kv.d_v + d) = (word2){as_bits(acc[h][0]), as_bits(acc[h][1])};
    }
}

/* --- the merge in place: left to right as attention_merge, which see below, by the block that came last. A pass has 512 outputs,
 * four a thread; a stage 32 chunks, whose factors a team's lanes compute, a head at a time --- */
enum { PLACE_EACH = 4, PLACE_PASS = ATTN_SPLIT_THREADS * PLACE_EACH, PLACE_HEADS = PLACE_PASS / ATTN_MERGE_D + 1 };

struct place_shared {
    float y[ATTN_PLACE_D];
    word4 factor[PLACE_HEADS][TEAM]; /* of the running state, of the chunk; the chunk's l */
    float max[PLACE_HEADS];          /* of the chunks so far */
    uint32_t told;
};
static_assert(sizeof(place_shared) <= SLICE_BYTES, "it lies where the slices lay");

struct place_job {
    const uint8_t *state; /* of the first chunk */
    uint64_t state_bytes;
    uint32_t n, head0; /* chunks; head of the first output */
};

/* Factors of head h of the pass, chunks c0 + lane. */
DEVICE void place_factors(const attention_args &a, const place_job &j, place_shared *s, uint32_t c0, uint32_t h) {
    const uint32_t lane = lane_in_team(), head = j.head0 + h;
    const float carry = c0 ? s->max[h] : -__builtin_inff();
    float m = -__builtin_inff(), l = 0.0f;
    if (c0 + lane < j.n) {
        const float *ml = (const float *)(j.state + (c0 + lane) * j.state_bytes);
        m = ml[head], l = ml[a.n_head + head];
    }
    float v = m;
    for (uint32_t step = 1; step < TEAM; step *= 2) {
        const float left = team_get_f(v, (lane - step) & 31);
        if (lane >= step) v = canon_max(left, v);
    }
    const float left = team_get_f(v, (lane - 1) & 31), before = lane ? canon_max(carry, left) : carry;
    const float max = canon_max(carry, v);
    s->factor[h][lane] = (word4){as_bits(canon_exp(before - max)), as_bits(canon_exp(m - max)), as_bits(l), 0};
    if (lane == TEAM - 1) s->max[h] = max;
}

/* Outputs first .. of the job's heads, n of them, merged into s->y. */
DEVICE void place_pass(const attention_args &a, place_job j, place_shared *s, uint32_t first, uint32_t n) {
    const uint32_t d_v = a.kv.d_v, skip = first / d_v, n_heads = (first + n + d_v - 1) / d_v - skip;
    const uint32_t at = first + min32(thread_x() * PLACE_EACH, n - PLACE_EACH), h = at / d_v - skip;
    const uint64_t at_o = gpu_attn_state_o(a.n_head) + ((uint64_t)j.head0 * d_v + at) * 4;
    float o[PLACE_EACH] = {}, l = 0.0f;
    j.head0 += skip;
    for (uint32_t c0 = 0; c0 < j.n; c0 += TEAM) {
        barrier();
        for (uint32_t i = team_in_block(); i < n_heads; i += ATTN_SPLIT_THREADS / TEAM) place_factors(a, j, s, c0, i);
        barrier();
        const uint32_t end = min32(TEAM, j.n - c0);
        const uint8_t *from = j.state + c0 * j.state_bytes + at_o;
        uint32_t c = 0;
        if (c0 == 0) {
            const word4 w = *(const word4 *)from;
            l = as_float(s->factor[h][0][2]), c = 1;
            UNROLL
            for (int i = 0; i < PLACE_EACH; i++) o[i] = as_float(w[i]);
        }
        _Pragma("unroll 8") for (; c < end; c++) {
            const word4 f = s->factor[h][c], w = *(const word4 *)(from + c * j.state_bytes);
            l = fma32(as_float(f[2]), as_float(f[1]), l * as_float(f[0]));
            UNROLL
            for (int i = 0; i < PLACE_EACH; i++) o[i] = fma32(as_float(w[i]), as_float(f[1]), o[i] * as_float(f[0]));
        }
    }
    if (a.sinks) { /* one more key without a value */
        const float sink = a.sinks[j.head0 + h], m = s->max[h], max = canon_max(m, sink);
        const float old = canon_exp(m - max), add = canon_exp(sink - max);
        l = fma32(1.0f, add, l * old);
        UNROLL
        for (int i = 0; i < PLACE_EACH; i++) o[i] = fma32(0.0f, add, o[i] * old);
    }
    UNROLL
    for (int i = 0; i < PLACE_EACH; i++) s->y[at + i] = o[i] * (1.0f / l);
}

/* set: of kv heads; n: chunks; parts: blocks of a chunk and kv head */
DEVICE void merge_in_place(const attention_args &a, const attn_single &one, uint32_t n, uint32_t set, uint32_t parts,
                           place_shared *s) {
    const uint32_t sets = a.kv.n_kv_head / a.in_place, heads = a.n_head / sets, n_out = heads * a.kv.d_v;
    barrier();
    if (!comes_last(a.come + block_z() * sets + set, n * parts * a.in_place, &s->told)) return;
    place_job j;
    j.state_bytes = gpu_attn_state_bytes(a.n_head, a.kv.d_v);
    j.state = a.states + one.first_state * j.state_bytes;
    j.n = n, j.head0 = set * heads;
    for (uint32_t first = 0; first < n_out; first += PLACE_PASS)
        place_pass(a, j, s, first, min32(n_out - first, PLACE_PASS));
    barrier();
    const uint32_t k = a.n_head * a.kv.d_v;
    uint8_t *row = a.quantised + (uint64_t)one.tok * a.quantised_stride;
    for (uint32_t unit = team_in_block() * UNIT; unit < n_out; unit += ATTN_SPLIT_THREADS / TEAM * UNIT) {
        const uint32_t at = unit + lane_in_team() * EACH;
        eight e = {};
        if (at < n_out) UNROLL
        for (int i = 0; i < EACH; i++) e.v[i] = s->y[at + i];
        put_unit_any(row, e, at < n_out ? set * n_out + at : k, k, a.scale_block);
    }
}

/* q: [H][at least d_k]; p: [64][H] */
template <int H> DEVICE void split_block(const attention_args &a, split_shared *s, float *q, float *p) {
    const attn_single one = a.single[block_z()];
    if (one.tok == ATTN_NONE) return;
    const uint32_t last = a.last ? (uint32_t)a.last[a.kv.seq[one.tok]] : one.pos, from = first_seen(a.window, one.pos);
    const uint32_t first = from / ATTN_KEYS, number = block_x();
    if (number >= last / ATTN_KEYS + 1 - first) return;
    const uint32_t group = a.n_head / a.kv.n_kv_head, parts = (group + H - 1) / H, part = block_y() % parts;
    split_chunk c;
    c.head = block_y() / parts;
    const uint32_t head0 = c.head * group + part * H, n_heads = min32(H, group - part * H);
    c.first_page = one.first_page;
    c.key0 = (first + number) * ATTN_KEYS;
    c.lo = from > c.key0 ? from - c.key0 : 0;
    c.hi = min32(last + 1 - c.key0, ATTN_KEYS);
    split_load r;
    load_keys(&r, a, c, 0);
    const uint32_t row = (a.kv.d_k + 3) & ~3u;
    load_queries<H>(q, row, a, one.tok, head0, n_heads);
    uint8_t *state = a.states + (uint64_t)(one.first_state + number) * gpu_attn_state_bytes(a.n_head, a.kv.d_v);
    float *m = (float *)state + head0, *o = (float *)(state + gpu_attn_state_o(a.n_head)) + (uint64_t)head0 * a.kv.d_v;
    split_scores<H>(a, c, s, &r, q, row, p);
    barrier();
    split_weights<H>(c, p, m, m + a.n_head, n_heads);
    if (a.kv.d_v % 8 == 0) {
        split_values<H>(a, c, s, &r, p, o, n_heads);
    } else {
        barrier();
        split_values_plain<H>(a, c, p, o, n_heads);
    }
    if (a.in_place) merge_in_place(a, one, last / ATTN_KEYS + 1 - first, c.head / a.in_place, parts, (place_shared *)s);
}

KERNEL(attention_split_h4, attention_args, ATTN_SPLIT_THREADS) {
    SHARED split_shared s;
    SHARED float __attribute__((aligned(16))) q[ATTN_SPLIT_D * 4];
    SHARED float __attribute__((aligned(16))) p[ATTN_KEYS * 4];
    split_block<4>(a, &s, q, p);
}

KERNEL(attention_split_h8, attention_args, ATTN_SPLIT_THREADS) {
    SHARED split_shared s;
    SHARED float __attribute__((aligned(16))) q[ATTN_SPLIT_D * 8];
    SHARED float __attribute__((aligned(16))) p[ATTN_KEYS * 8];
    split_block<8>(a, &s, q, p);
}

KERNEL(attention_split_wide, attention_args, ATTN_SPLIT_THREADS) {
    SHARED split_shared s;
    SHARED float __attribute__((aligned(16))) q[ATTN_MAX_D * 8];
    SHARED float __attribute__((aligned(16))) p[ATTN_KEYS * 8];
    split_block<8>(a, &s, q, p);
}

/* --- the merge, left to right -------------------------------------------------------------------------------------------
 * What a chunk's merge needs of those before it is the greatest m alone, and a maximum may be taken in any order: so a
 * stage's factors exp(m - m') are computed by one thread a chunk, and what is left in order is a product and an fma. */
enum { MERGE_STAGE = ATTN_MERGE_THREADS, MERGE_UNITS = 8 };

struct merge_stage {
    float o[MERGE_STAGE][ATTN_MERGE_D];
    word4 factor[MERGE_STAGE]; /* of the running state, of the chunk; the chunk's l */
    float team_max[ATTN_MERGE_THREADS / TEAM];
};

/* A stage on its way: (m, l) of this thread's chunk and 16-byte pieces of outputs. */
struct merge_load {
    word4 unit[MERGE_UNITS];
    float m, l;
};

/* Where the outputs of a head stand. wide: in 16-byte pieces. */
struct merge_job {
    const uint8_t *state;
    uint64_t state_bytes, at_o;
    uint32_t n_head, head, n_d, n; /* n: chunks */
    bool wide;
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

/* Chunks c0 .. of the job. */
DEVICE void load_stage(merge_load *r, const merge_job &j, uint32_t c0) {
    const uint32_t i = thread_x();
    r->m = -__builtin_inff(), r->l = 0.0f;
    if (c0 + i < j.n) {
        const float *ml = (const float *)(j.state + (c0 + i) * j.state_bytes);
        r->m = ml[j.head], r->l = ml[j.n_head + j.head];
    }
    if (!j.wide) return;
    UNROLL
    for (uint32_t u = 0; u < MERGE_UNITS; u++) {
        const uint32_t c = c0 + u * (MERGE_STAGE / MERGE_UNITS) + i / 8;
        if (c < j.n) r->unit[u] = *(const word4 *)(j.state + c * j.state_bytes + j.at_o + i % 8 * 16);
    }
}

DEVICE void put_stage(merge_stage *s, const merge_load &r, const merge_job &j, uint32_t c0) {
    const uint32_t i = thread_x();
    if (j.wide) {
        UNROLL
        for (uint32_t u = 0; u < MERGE_UNITS; u++)
            *(word4 *)&s->o[u * (MERGE_STAGE / MERGE_UNITS) + i / 8][i % 8 * 4] = r.unit[u];
        return;
    }
    for (uint32_t c = team_in_block(); c < MERGE_STAGE && c0 + c < j.n; c += ATTN_MERGE_THREADS / TEAM)
        if (lane_in_team() < j.n_d)
            s->o[c][lane_in_team()] =
                *(const float *)(j.state + (c0 + c) * j.state_bytes + j.at_o + lane_in_team() * 4);
}

/* Running state of one output. */
struct merge_sum {
    float m, l, o;
};

DEVICE merge_sum merge_chunks(const merge_job &j, merge_stage *s) {
    const uint32_t lane = lane_in_team();
    merge_sum sum = {-__builtin_inff(), 0.0f, 0.0f};
    merge_load r;
    load_stage(&r, j, 0);
    for (uint32_t c0 = 0; c0 < j.n; c0 += MERGE_STAGE) {
        const uint32_t n = min32(MERGE_STAGE, j.n - c0);
        float before;
        put_stage(s, r, j, c0);
        const float max = running_max(s, r.m, sum.m, &before);
        s->factor[thread_x()] =
            (word4){as_bits(canon_exp(before - max)), as_bits(canon_exp(r.m - max)), as_bits(r.l), 0};
        barrier();
        load_stage(&r, j, c0 + MERGE_STAGE);
        for (uint32_t t = 0; t < ATTN_MERGE_THREADS / TEAM; t++) sum.m = canon_max(sum.m, s->team_max[t]);
        uint32_t c = 0;
        if (c0 == 0) sum.l = as_float(s->factor[0][2]), sum.o = s->o[0][lane], c = 1;
        _Pragma("unroll 8") for (; c < n; c++) {
            const word4 f = s->factor[c];
            sum.l = fma32(as_float(f[2]), as_float(f[1]), sum.l * as_float(f[0]));
            sum.o = fma32(s->o[c][lane], as_float(f[1]), sum.o * as_float(f[0]));
        }
        barrier();
    }
    return sum;
}

KERNEL(attention_merge, attention_args, ATTN_MERGE_THREADS) {
    SHARED merge_stage s;
    const attn_single one = a.single[block_x()];
    if (one.tok == ATTN_NONE) return;
    const uint32_t head = block_y(), d0 = block_z() * ATTN_MERGE_D;
    const uint32_t seq = a.kv.seq[one.tok], pos = (uint32_t)a.kv.pos[one.tok],
                   last = a.last ? (uint32_t)a.last[seq] : pos;
    merge_job j;
    j.state_bytes = gpu_attn_state_bytes(a.n_head, a.kv.d_v);
    j.state = a.states + one.first_state * j.state_bytes;
    j.at_o = gpu_attn_state_o(a.n_head) + ((uint64_t)head * a.kv.d_v + d0) * 4;
    j.n_head = a.n_head, j.head = head;
    j.n_d = min32(ATTN_MERGE_D, a.kv.d_v - d0);
    j.n = last / ATTN_KEYS + 1 - first_seen(a.window, one.pos) / ATTN_KEYS;
    j.wide = j.n_d == ATTN_MERGE_D && j.at_o % 16 == 0;
    merge_sum sum = merge_chunks(j, &s);
    if (a.sinks) { /* one more key without a value */
        const float sink = a.sinks[head], max = canon_max(sum.m, sink);
        const float old = canon_exp(sum.m - max), add = canon_exp(sink - max);
        sum.l = fma32(1.0f, add, sum.l * old);
        sum.o = fma32(0.0f, add, sum.o * old);
    }
    float *y = (float *)((uint8_t *)a.y + (uint64_t)one.tok * a.y_stride) + (uint64_t)head * a.kv.d_v + d0;
    if (thread_x() < j.n_d) y[thread_x()] = sum.o * (1.0f / sum.l);
}
