/* Safetensors files. Parses the header, checks every number in it, and hands out views into the mapping: no tensor is
 * copied. Source of the format: the README of huggingface/safetensors.
 *
 *   file:    n u64 | n bytes of JSON | data
 *   JSON:    {"name": {"dtype": "BF16", "shape": [rows, columns], "data_offsets": [begin, end]}, ..., "__metadata__": {...}}
 *
 * Refused by name, beyond what does not parse: headers above 32 MiB (the largest known have 4), names that come twice, element
 * types that are not in the table, more than 8 dimensions, sizes that do not follow from the shape, tensors that overlap,
 * bytes that belong to none.
 * A safetensors owns its mapping; all views die with safetensors_close. Immutable after open: any thread may read. */
#ifndef ROCMFORGE_CONVERT_SAFETENSORS_H
#define ROCMFORGE_CONVERT_SAFETENSORS_H

#include "base/arena.h"
#include "base/err.h"
#include "base/file.h"
#include "base/str.h"

enum { ST_MAX_DIMS = 8, ST_MAX_HEADER = 32 << 20, ST_MAX_TENSORS = 1 << 18 };

typedef struct {
    const char *name; /* "BF16" */
    uint32_t bytes;   /* of an element */
    int quant;        /* the quant_type that has the same elements; -1: integers and others, which are no weights */
} st_dtype;

typedef struct {
    str name;
    const st_dtype *dtype;
    uint32_t n_dims;
    uint64_t dim[ST_MAX_DIMS]; /* as in the file: the last is contiguous */
    uint64_t n_elems;
    const uint8_t *data; /* no alignment; n_elems * dtype->bytes of them */
    const file_map *file;
} st_tensor;

typedef struct {
    file_map *file;
    arena text;
    st_tensor *tensor; /* in the order of their data */
    size_t n;
} safetensors;

MUST_CHECK status safetensors_open(safetensors *s, const char *path, err *e); /* on failure s is left to close */
void safetensors_close(safetensors *s);                                       /* {0} is fine */

#endif
