/* Writes one GGUF file (version 3, little endian; the format: gguf/gguf.h). First the metadata and what tensors there will
 * be, then their data, in that order and as a stream: nothing of the data is kept.
 *
 *     gguf_write_open(&w, "model.gguf", e);
 *     gguf_put_str(w, "general.architecture", ...); gguf_put_tensor(w, "token_embd.weight", 2, dim, QUANT_F16); ...
 *     gguf_write_header(w, e); gguf_write_data(w, bytes, n, e); ... gguf_write_finish(w, e); gguf_write_close(w);
 *
 * All goes to a file beside it, ".model.gguf.4f09a1", that takes the name once all is on disk: whoever looks for the name finds
 * what was there before, or the whole file. Room on the disk is asked for before the data comes. Closing an unfinished
 * writer removes that file. One thread at a time. */
#ifndef ROCMFORGE_CONVERT_GGUF_WRITE_H
#define ROCMFORGE_CONVERT_GGUF_WRITE_H

#include "base/err.h"
#include "base/str.h"
#include "quant/quant.h"

typedef struct gguf_writer gguf_writer;

/* path: must not exist, or be a GGUF file, which will be replaced. */
MUST_CHECK status gguf_write_open(gguf_writer **out, const char *path, err *e);
void gguf_write_close(gguf_writer *w);                  /* NULL is fine */
const char *gguf_write_temporary(const gguf_writer *w); /* the file that is written */
uint64_t gguf_write_data_bytes(const gguf_writer *w);   /* of the data of all tensors put so far, with padding */

/* Out of memory is remembered, and reported by gguf_write_header. Strings are copied. */
void gguf_put_u32(gguf_writer *w, const char *key, uint32_t v);
void gguf_put_i32(gguf_writer *w, const char *key, int32_t v);
void gguf_put_f32(gguf_writer *w, const char *key, float v);
void gguf_put_bool(gguf_writer *w, const char *key, bool v);
void gguf_put_str(gguf_writer *w, const char *key, str v);
void gguf_put_strs(gguf_writer *w, const char *key, const str *v, size_t n);
void gguf_put_i32s(gguf_writer *w, const char *key, const int32_t *v, size_t n);
void gguf_put_f32s(gguf_writer *w, const char *key, const float *v, size_t n);
void gguf_put_bools(gguf_writer *w, const char *key, const bool *v, size_t n);
void gguf_put_bytes(gguf_writer *w, const char *key, const uint8_t *v, size_t n); /* an array of u8 */
/* dim[0] is contiguous and must be whole blocks of the type. */
void gguf_put_tensor(gguf_writer *w, const char *name, uint32_t n_dims, const uint64_t *dim, quant_type type);

/* Writes all that was put, and takes the room for the data. */
MUST_CHECK status gguf_write_header(gguf_writer *w, err *e);
/* The next bytes of the tensor that is being written; one call ends in it at the latest. Padding is the writer's. */
MUST_CHECK status gguf_write_data(gguf_writer *w, const void *p, size_t n_bytes, err *e);
/* After the last byte of the last tensor: to disk, and to its name. */
MUST_CHECK status gguf_write_finish(gguf_writer *w, err *e);

#endif
