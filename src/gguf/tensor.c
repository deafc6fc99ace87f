#include "gguf/shard.h"

#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

static status read_name(reader *r, gguf_tensor *t, size_t i, err *e) {
    uint64_t n;
    t->name = read_str(r, GGUF_MAX_NAME, &n);
    if (n > GGUF_MAX_NAME)
        return fail(e, ERR_GGUF_TENSOR, "tensor %zu: a name of %" PRIu64 " bytes, the longest is %d", i, n,
                    GGUF_MAX_NAME);
    if (r->bad) return fail(e, ERR_GGUF_TRUNCATED, "the file ends in the name of tensor %zu", i);
    if (n == 0) return fail(e, ERR_GGUF_TENSOR, "tensor %zu has an empty name", i);
    if (memchr(t->name.p, 0, t->name.n))
        return fail(e, ERR_GGUF_TENSOR, "tensor %zu: '%.*s' goes on after a NUL byte", i, STR(t->name));
    if (!str_is_utf8(t->name))
        return fail(e, ERR_GGUF_TENSOR, "tensor %zu: '%.*s' is not valid UTF-8", i, STR(t->name));
    return OK;
}

/* *n_elems: their product, which fits in 63 bits so that later code may count in either signedness. */
static status read_shape(reader *r, gguf_tensor *t, uint64_t *n_elems, err *e) {
    uint32_t n_dims = read_u32(r);
    if (n_dims > GGUF_MAX_DIMS)
        return fail(e, ERR_GGUF_TENSOR, "tensor '%.*s' has %" PRIu32 " dimensions, at most %d are read", STR(t->name),
                    n_dims, GGUF_MAX_DIMS);
    t->n_dims = n_dims ? n_dims : 1;
    *n_elems = 1;
    for (uint32_t i = 0; i < GGUF_MAX_DIMS; i++) {
        t->dim[i] = i < n_dims ? read_u64(r) : 1;
        if (r->bad) return fail(e, ERR_GGUF_TRUNCATED, "the file ends in the shape of tensor '%.*s'", STR(t->name));
        if (t->dim[i] == 0)
            return fail(e, ERR_GGUF_TENSOR, "tensor '%.*s': dimension %" PRIu32 " is 0", STR(t->name), i);
        if (__builtin_mul_overflow(*n_elems, t->dim[i], n_elems) || *n_elems > INT64_MAX)
            return fail(e, ERR_GGUF_TENSOR, "tensor '%.*s': dimension %" PRIu32 " of %" PRIu64 " makes it too large",
                        STR(t->name), i, t->dim[i]);
    }
    return OK;
}

static status read_type(reader *r, gguf_tensor *t, uint64_t n_elems, err *e) {
    uint32_t type = read_u32(r);
    if (r->bad) return fail(e, ERR_GGUF_TRUNCATED, "the file ends in tensor '%.*s'", STR(t->name));
    const quant_info *info = quant_lookup(type);
    if (!info) return fail(e, ERR_GGUF_TENSOR, "tensor '%.*s' has the unknown type %" PRIu32, STR(t->name), type);
    if (t->dim[0] % info->block_elems)
        return fail(e, ERR_GGUF_TENSOR, "tensor '%.*s': rows of %" PRIu64 " elements are no whole blocks of %s (%u)",
                    STR(t->name), t->dim[0], info->name, info->block_elems);
    if (__builtin_mul_overflow(n_elems / info->block_elems, (uint64_t)info->block_bytes, &t->n_bytes) ||
        t->n_bytes > INT64_MAX)
        return fail(e, ERR_GGUF_TENSOR, "tensor '%.*s': its size in bytes overflows", STR(t->name));
    t->type = (quant_type)type;
    return OK;
}

/* Where the data section of the file begins and what it holds. */
typedef struct {
    const uint8_t *base;
    uint64_t size, align;
} section;

/* *end: where the data of the tensor before ended. Order and overlap are checked together: the format's writers lay data
 * out in the order of the infos, and tensors that share bytes would let a small file stand for a large one. */
static status place(gguf_tensor *t, uint64_t offset, const section *data, uint64_t *end, err *e) {
    uint64_t stop;
    if (offset % data->align)
        return fail(e, ERR_GGUF_TENSOR, "tensor '%.*s': offset %" PRIu64 " is no multiple of the alignment %" PRIu64,
                    STR(t->name), offset, data->align);
    if (__builtin_add_overflow(offset, t->n_bytes, &stop) || stop > INT64_MAX)
        return fail(e, ERR_GGUF_TENSOR, "tensor '%.*s': offset %" PRIu64 " and size %" PRIu64 " overflow", STR(t->name),
                    offset, t->n_bytes);
    if (offset < *end)
        return fail(e, ERR_GGUF_TENSOR, "tensor '%.*s': offset %" PRIu64 " lies inside the data of a tensor before it",
                    STR(t->name), offset);
    if (stop > data->size)
        return fail(e, ERR_GGUF_TRUNCATED,
                    "tensor '%.*s' ends at byte %" PRIu64 " of the data section, which has %" PRIu64
                    ": the file is incomplete",
                    STR(t->name), stop, data->size);
    t->data = data->base + offset;
    *end = stop;
    return OK;
}

static status read_alignment(const shard *s, uint64_t *out, err *e) {
    const gguf_kv *kv = kv_find(s, "general.alignment");
    *out = GGUF_ALIGN_DEFAULT;
    if (!kv) return OK;
    if (kv->type != GGUF_U32)
        return fail(e, ERR_GGUF_KEY, "key 'general.alignment' is of type %s, not u32", gguf_type_name(kv->type));
    *out = load_le32(kv->data);
    if (*out < GGUF_ALIGN_MIN || *out > GGUF_ALIGN_MAX || (*out & (*out - 1)))
        return fail(e, ERR_GGUF_KEY, "key 'general.alignment' is %" PRIu64 ", not a power of two from %d to %d", *out,
                    GGUF_ALIGN_MIN, GGUF_ALIGN_MAX);
    return OK;
}

static status read_infos(shard *s, reader *r, uint64_t *offset, err *e) {
    for (size_t i = 0; i < s->n_tensors; i++) {
        gguf_tensor *t = &s->tensor[i];
        uint64_t n_elems = 0;
        t->file = s->file;
        status rc = read_name(r, t, i, e);
        if (!rc) rc = read_shape(r, t, &n_elems, e);
        if (!rc) rc = read_type(r, t, n_elems, e);
        if (rc) return rc;
        offset[i] = read_u64(r);
        if (r->bad) return fail(e, ERR_GGUF_TRUNCATED, "the file ends in tensor '%.*s'", STR(t->name));
    }
    return OK;
}

static status place_all(shard *s, const reader *r, const uint64_t *offset, err *e) {
    uint64_t align, end = 0;
    status rc = read_alignment(s, &align, e);
    if (rc) return rc;
    const uint8_t *file = file_map_data(s->file);
    uint64_t size = file_map_size(s->file), at = (uint64_t)(r->at - file);
    at = (at + align - 1) & ~(align - 1); /* no overflow: the mapping is below half of the address space */
    section data = {file + (at < size ? at : size), at < size ? size - at : 0, align};
    for (size_t i = 0; !rc && i < s->n_tensors; i++) rc = place(&s->tensor[i], offset[i], &data, &end, e);
    return rc;
}

status tensor_parse(shard *s, reader *r, err *e) {
    uint64_t *offset = mem_array(s->n_tensors, sizeof *offset);
    s->tensor = mem_array(s->n_tensors, sizeof *s->tensor);
    status rc = offset && s->tensor ? OK : fail(e, ERR_NOMEM, "no memory for %zu tensors", s->n_tensors);
    if (!rc) rc = read_infos(s, r, offset, e);
    if (!rc) rc = place_all(s, r, offset, e);
    mem_free(offset);
    return rc;
}
