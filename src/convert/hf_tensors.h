/* Which of a folder's weights becomes which tensor of the file, and writing them: row by row from the shards, through one
 * buffer, whatever their size. A weight that has no place, comes twice, or is no float is refused by name; so is a value that
 * the type asked for cannot hold. Sources are borrowed from the hf_weights; a list is owned by its opener. */
#ifndef ROCMFORGE_CONVERT_HF_TENSORS_H
#define ROCMFORGE_CONVERT_HF_TENSORS_H

#include "convert/hf_config.h"
#include "convert/hf_folder.h"

enum { OUT_MAX_NAME = 63, OUT_MAX_DIMS = 3, OUT_MAX_FACTORS = 8192 };

typedef struct {
    char name[OUT_MAX_NAME + 1];
    uint32_t n_dims;
    uint64_t dim[OUT_MAX_DIMS]; /* dim[0] is contiguous */
    quant_type type;
    unsigned how;           /* HF_ flags */
    const st_tensor **part; /* [n_parts]: one, or the experts in their order */
    uint32_t n_parts;
} out_tensor;

typedef struct {
    out_tensor *tensor; /* in the order of their sources */
    size_t n;
    const st_tensor **parts; /* behind all tensor[].part */
} out_tensors;

/* type: QUANT_COUNT for the one that most of the weights have, which then stands in *type. */
MUST_CHECK status out_tensors_open(out_tensors *t, const hf_weights *w, hf_config *c, quant_type *type,
                                   hf_warnings *warnings, err *e);
void out_tensors_close(out_tensors *t); /* {0} is fine */

typedef struct {
    bool (*progress)(void *user, const char *tensor, uint64_t n_bytes); /* after so many bytes more; false: stop */
    void *user;
} out_progress;
/* Writes the data of all of them, as they were put. ERR_CANCELLED when progress said so. */
MUST_CHECK status out_tensors_write(const out_tensors *t, const hf_config *c, gguf_writer *w, const out_progress *p,
                                    err *e);

#endif
