/* The data of the tensors: read from the shards, decoded to F32, changed where the architecture wants it, encoded, written. */
#include "convert/hf_tensors.h"

#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { CHUNK = 1 << 20 }; /* elements */

typedef struct {
    const out_tensor *o;
    const hf_config *c;
    gguf_writer *w;
    const out_progress *progress;
    uint8_t *raw; /* [4 * CHUNK]: as they stand in the shard; then encoded */
    float *x;     /* [CHUNK] */
} stream;

/* n elements of a part, from element `at` on. */
static status read_elems(const stream *s, const st_tensor *t, uint64_t at, size_t n, float *x, err *e) {
    const size_t size = t->dtype->bytes;
    if (!file_map_read(t->file, t->data + at * size, s->raw, n * size)) {
        status lost = file_map_check(t->file, e);
        return lost ? lost
                    : fail(e, ERR_FILE_CHANGED, "%s: tensor '%.*s' could not be read", file_map_path(t->file),
                           STR(t->name));
    }
    quant_lookup((uint32_t)t->dtype->quant)->decode(x, s->raw, n);
    return OK;
}

/* The row of the source that becomes row r: inside a head, transformers turns row i with row i + half, this engine's rope
 * neighbours, so the two halves are interleaved. */
static uint64_t source_row(const stream *s, uint64_t n_rows, uint64_t r) {
    if (!(s->o->how & (HF_PERMUTE_Q | HF_PERMUTE_K))) return r;
    const uint64_t n_head = s->o->how & HF_PERMUTE_Q ? s->c->n_head : s->c->n_kv_head, d = n_rows / n_head;
    const uint64_t head = r / d, i = r % d;
    return head * d + i / 2 + (i % 2) * (d / 2);
}

static bool is_finite(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return (bits & 0x7F800000) != 0x7F800000;
}

/* What the type cannot hold: F16 ends at 65504 (65520 and above would round to infinity), and so does a scale of Q8_0. */
static status check_range(const stream *s, const float *x, size_t n, err *e) {
    const float most = s->o->type == QUANT_F16 ? 65520.0f : s->o->type == QUANT_Q8_0 ? 65504.0f * 127 : INFINITY;
    for (size_t i = 0; i < n; i++) {
        if (is_finite(x[i]) && fabsf(x[i]) < most) continue;
        if (!is_finite(x[i]))
            return fail(e, ERR_CONVERT_TENSOR, "tensor %s holds a value that is no number or infinite", s->o->name);
        return fail(e, ERR_CONVERT_TENSOR, "tensor %s holds %g, which %s cannot: use --type bf16 or f32", s->o->name,
                    (double)x[i], quant_lookup(s->o->type)->name);
    }
    return OK;
}

static void put_le16(uint8_t *p, uint16_t v) {
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static void encode(quant_type type, uint8_t *dst, const float *x, size_t n) {
    if (type == QUANT_F32) memcpy(dst, x, n * sizeof *x);
    if (type == QUANT_Q8_0) quant_encode_q8_0(dst, x, n);
    for (size_t i = 0; type == QUANT_F16 && i < n; i++) put_le16(dst + 2 * i, f32_to_f16(x[i]));
    for (size_t i = 0; type == QUANT_BF16 && i < n; i++) put_le16(dst + 2 * i, f32_to_bf16(x[i]));
}

static status emit(stream *s, size_t n, err *e) {
    const quant_info *q = quant_lookup(s->o->type);
    const size_t bytes = n / q->block_elems * q->block_bytes;
    for (size_t i = 0; s->o->how & HF_PLUS_ONE && i < n; i++) s->x[i] += 1.0f;
    status rc = check_range(s, s->x, n, e);
    if (rc) return rc;
    encode(s->o->type, s->raw, s->x, n);
    rc = gguf_write_data(s->w, s->raw, bytes, e);
    if (rc || !s->progress->progress || s->progress->progress(s->progress->user, s->o->name, bytes)) return rc;
    return fail(e, ERR_CANCELLED, "the conversion was stopped; nothing was kept");
}

/* As they lie: in pieces of CHUNK, which are whole blocks of every type. */
static status write_run(stream *s, const st_tensor *t, uint64_t first, uint64_t n, err *e) {
    status rc = OK;
    for (uint64_t at = 0; !rc && at < n; at += CHUNK) {
        const size_t part = n - at < CHUNK ? (size_t)(n - at) : CHUNK;
        rc = read_elems(s, t, first + at, part, s->x, e);
        if (!rc) rc = emit(s, part, e);
    }
    return rc;
}

/* Rows in another order, as many at once as fit. Rows are at most CHUNK long: check_permute's tensors are d_model wide. */
static status write_rows(stream *s, const st_tensor *t, uint64_t n_rows, uint64_t row, err *e) {
    const uint64_t most = CHUNK / row;
    status rc = OK;
    if (most == 0) return fail(e, ERR_CONVERT_TENSOR, "tensor %s has rows of %" PRIu64 " elements", s->o->name, row);
    for (uint64_t r = 0; !rc && r < n_rows;) {
        uint64_t n = 0;
        for (; !rc && n < most && r < n_rows; n++, r++)
            rc = read_elems(s, t, source_row(s, n_rows, r) * row, row, s->x + n * row, e);
        if (!rc) rc = emit(s, n * row, e);
    }
    return rc;
}

static status write_part(stream *s, const st_tensor *t, err *e) {
    const uint64_t row = t->n_dims == 1 ? 1 : t->dim[1];
    if (s->o->how & (HF_PERMUTE_Q | HF_PERMUTE_K)) return write_rows(s, t, t->dim[0], row, e);
    const uint64_t skip = s->o->how & HF_POSITIONS ? s->c->first_position * row : 0;
    return write_run(s, t, skip, t->n_elems - skip, e);
}

status out_tensors_write(const out_tensors *t, const hf_config *c, gguf_writer *w, const out_progress *p, err *e) {
    stream s = {.c = c, .w = w, .progress = p, .raw = mem_alloc(sizeof(float) * CHUNK)};
    s.x = mem_alloc(sizeof(float) * CHUNK);
    status rc = s.raw && s.x ? OK : fail(e, ERR_NOMEM, "no memory for the buffers");
    for (size_t i = 0; !rc && i < t->n; i++) {
        s.o = &t->tensor[i];
        for (uint32_t k = 0; !rc && k < s.o->n_parts; k++) rc = write_part(&s, s.o->part[k], e);
    }
    mem_free(s.raw);
    mem_free(s.x);
    return rc;
}
