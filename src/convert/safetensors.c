#include "convert/safetensors.h"

#include "base/json.h"
#include "base/mem.h"
#include "gguf/reader.h"
#include "quant/quant.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const st_dtype dtypes[] = {
    {"F32", 4, QUANT_F32}, {"F16", 2, QUANT_F16}, {"BF16", 2, QUANT_BF16}, {"F64", 8, -1},     {"I64", 8, -1},
    {"I32", 4, -1},        {"I16", 2, -1},        {"I8", 1, -1},           {"U64", 8, -1},     {"U32", 4, -1},
    {"U16", 2, -1},        {"U8", 1, -1},         {"BOOL", 1, -1},         {"F8_E4M3", 1, -1}, {"F8_E5M2", 1, -1},
};
enum { N_DTYPES = sizeof dtypes / sizeof *dtypes, LENGTH_BYTES = 8 };

static const st_dtype *find_dtype(const char *name) {
    for (size_t i = 0; i < N_DTYPES; i++)
        if (strcmp(dtypes[i].name, name) == 0) return &dtypes[i];
    return NULL;
}

static status read_dtype(st_tensor *t, const json_t *v, err *e) {
    if (!json_is_string(v)) return fail(e, ERR_CONVERT_WEIGHTS, "its dtype is missing or no string");
    t->dtype = find_dtype(json_string_value(v));
    return t->dtype ? OK : fail(e, ERR_CONVERT_WEIGHTS, "the dtype %.40s is not built in", json_string_value(v));
}

static status read_shape(st_tensor *t, const json_t *v, err *e) {
    if (!json_is_array(v)) return fail(e, ERR_CONVERT_WEIGHTS, "its shape is missing or no array");
    if (json_array_size(v) > ST_MAX_DIMS)
        return fail(e, ERR_CONVERT_WEIGHTS, "%zu dimensions, at most %d are read", json_array_size(v), ST_MAX_DIMS);
    t->n_dims = (uint32_t)json_array_size(v);
    t->n_elems = 1;
    for (uint32_t i = 0; i < t->n_dims; i++) {
        const json_t *n = json_array_get(v, i);
        if (!json_is_integer(n) || json_integer_value(n) < 0)
            return fail(e, ERR_CONVERT_WEIGHTS, "dimension %" PRIu32 " is no whole number", i);
        t->dim[i] = (uint64_t)json_integer_value(n);
        if (__builtin_mul_overflow(t->n_elems, t->dim[i], &t->n_elems) || t->n_elems > INT64_MAX / 8)
            return fail(e, ERR_CONVERT_WEIGHTS, "dimension %" PRIu32 " of %" PRIu64 " makes it too large", i,
                        t->dim[i]);
    }
    return OK;
}

static bool read_offset(const json_t *v, size_t i, uint64_t *out) {
    const json_t *n = json_array_get(v, i);
    if (!json_is_integer(n) || json_integer_value(n) < 0) return false;
    *out = (uint64_t)json_integer_value(n);
    return true;
}

/* The data section of the file. */
typedef struct {
    const uint8_t *base;
    uint64_t size;
} section;

static status read_place(st_tensor *t, const json_t *v, const section *data, err *e) {
    uint64_t begin, end, want = t->n_elems * t->dtype->bytes; /* n_elems is below 2^60 */
    if (!json_is_array(v) || json_array_size(v) != 2 || !read_offset(v, 0, &begin) || !read_offset(v, 1, &end))
        return fail(e, ERR_CONVERT_WEIGHTS, "its data_offsets are no two whole numbers");
    if (end < begin)
        return fail(e, ERR_CONVERT_WEIGHTS, "it ends at byte %" PRIu64 ", before it begins at %" PRIu64, end, begin);
    if (end - begin != want)
        return fail(e, ERR_CONVERT_WEIGHTS, "%" PRIu64 " bytes for %" PRIu64 " elements of %s", end - begin, t->n_elems,
                    t->dtype->name);
    if (end > data->size)
        return fail(e, ERR_CONVERT_WEIGHTS,
                    "it ends at byte %" PRIu64 " of the data, which has %" PRIu64 ": the file is incomplete", end,
                    data->size);
    t->data = data->base + begin;
    return OK;
}

static status read_tensor(safetensors *s, st_tensor *t, const char *name, const json_t *v, const section *data,
                          err *e) {
    const char *copy = arena_strndup(&s->text, name, strlen(name));
    t->name = str_of(copy);
    if (!copy) return fail(e, ERR_NOMEM, "no memory for a tensor's name");
    t->file = s->file;
    status rc = t->name.n && json_is_object(v) ? OK : fail(e, ERR_CONVERT_WEIGHTS, "an empty name, or no object");
    if (!rc) rc = read_dtype(t, json_object_get(v, "dtype"), e);
    if (!rc) rc = read_shape(t, json_object_get(v, "shape"), e);
    if (!rc) rc = read_place(t, json_object_get(v, "data_offsets"), data, e);
    return rc ? fail_in(e, rc, "tensor '%.*s': ", STR(t->name)) : OK;
}

static int by_place(const void *a, const void *b) {
    const st_tensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return (x->n_elems > y->n_elems) - (x->n_elems < y->n_elems); /* empty ones stand before */
}

/* The format wants every byte in exactly one tensor. */
static status check_cover(safetensors *s, const section *data, err *e) {
    qsort(s->tensor, s->n, sizeof *s->tensor, by_place);
    uint64_t end = 0;
    for (size_t i = 0; i < s->n; i++) {
        const st_tensor *t = &s->tensor[i];
        uint64_t at = (uint64_t)(t->data - data->base);
        if (at < end)
            return fail(e, ERR_CONVERT_WEIGHTS, "tensor '%.*s' lies in the bytes of '%.*s'", STR(t->name),
                        STR(s->tensor[i - 1].name));
        if (at > end)
            return fail(e, ERR_CONVERT_WEIGHTS, "the %" PRIu64 " bytes before tensor '%.*s' belong to none", at - end,
                        STR(t->name));
        end = at + t->n_elems * t->dtype->bytes;
    }
    if (end == data->size) return OK;
    return fail(e, ERR_CONVERT_WEIGHTS, "the last %" PRIu64 " bytes belong to no tensor", data->size - end);
}

static status read_entries(safetensors *s, json_t *header, const section *data, err *e) {
    const char *name;
    json_t *v;
    if (json_object_size(header) > ST_MAX_TENSORS)
        return fail(e, ERR_CONVERT_WEIGHTS, "%zu tensors, at most %d are read", json_object_size(header),
                    ST_MAX_TENSORS);
    s->tensor = mem_array(json_object_size(header) + 1, sizeof *s->tensor);
    if (!s->tensor) return fail(e, ERR_NOMEM, "no memory for %zu tensors", json_object_size(header));
    json_object_foreach(header, name, v) {
        if (strcmp(name, "__metadata__") == 0) continue;
        status rc = read_tensor(s, &s->tensor[s->n], name, v, data, e);
        if (rc) return rc;
        s->n++;
    }
    return check_cover(s, data, e);
}

static status read_header(safetensors *s, json_t **header, section *data, err *e) {
    const uint8_t *p = file_map_data(s->file);
    const uint64_t size = file_map_size(s->file);
    if (size < LENGTH_BYTES) return fail(e, ERR_CONVERT_WEIGHTS, "%" PRIu64 " bytes are no safetensors file", size);
    const uint64_t n = load_le64(p);
    if (n > ST_MAX_HEADER)
        return fail(e, ERR_CONVERT_WEIGHTS,
                    "a header of %" PRIu64 " bytes, at most %d are read: is this a safetensors file?", n,
                    ST_MAX_HEADER);
    if (n > size - LENGTH_BYTES)
        return fail(e, ERR_CONVERT_WEIGHTS, "the header has %" PRIu64 " bytes, the file %" PRIu64 ": it is incomplete",
                    n, size);
    json_error_t why;
    status rc = json_read(header, (str){(const char *)p + LENGTH_BYTES, n}, JSON_REJECT_DUPLICATES, &why);
    if (rc == ERR_NOMEM) return fail(e, ERR_NOMEM, "no memory for a header of %" PRIu64 " bytes", n);
    if (rc) return fail(e, ERR_CONVERT_WEIGHTS, "its header is no JSON: byte %d: %s", why.position, why.text);
    if (!json_is_object(*header)) return fail(e, ERR_CONVERT_WEIGHTS, "its header is no JSON object");
    *data = (section){p + LENGTH_BYTES + n, size - LENGTH_BYTES - n};
    return OK;
}

status safetensors_open(safetensors *s, const char *path, err *e) {
    json_t *header = NULL;
    section data;
    *s = (safetensors){0};
    status rc = file_map_open(&s->file, path, e);
    if (rc) return rc; /* it names the path */
    rc = read_header(s, &header, &data, e);
    if (!rc) rc = read_entries(s, header, &data, e);
    json_decref(header);
    if (rc && rc != ERR_NOMEM && file_map_lost(s->file)) rc = file_map_check(s->file, e);
    return rc && rc != ERR_FILE_CHANGED ? fail_in(e, rc, "%s: ", path) : rc;
}

void safetensors_close(safetensors *s) {
    mem_free(s->tensor);
    arena_free(&s->text);
    file_map_close(s->file);
    *s = (safetensors){0};
}
