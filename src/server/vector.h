/* What stands between an engine's row and the vector a user sees, the same on the command line and over HTTP: its length, its
 * dimensions, its base64 form, and texts that are longer than the context. Pure functions, any thread. */
#ifndef ROCMFORGE_SERVER_VECTOR_H
#define ROCMFORGE_SERVER_VECTOR_H

#include "base/json.h"
#include "rocmforge.h"

/* To Euclidean length 1, summed in double; a vector of zeros stays one. In place. */
void vector_normalize(float *v, size_t n);

/* The fewest dimensions that this model's vectors may be cut to (the first so many, length 1 again), when it was trained for
 * that; 0: it was not, or nothing in the file says so. Decided from the architecture and the names in the file, see the table. */
uint32_t vector_least_dimensions(const rf_model *m);

/* Cuts the ids of a prompt that ends in `text` to `most`, which is fewer: the text loses its end, what the tokenizer put before and
 * behind it stays ([CLS] text [SEP]). pair: they came from rf_tokenize_pair. false: no room for any of the text. */
bool vector_truncate(const rf_model *m, str text, bool pair, int32_t *ids, size_t *n_ids, size_t most, rf_error *e);

const char *vector_pooling_name(rf_pooling p);             /* "mean"; RF_POOLING_MODEL: "model" */
bool vector_read_pooling(const char *name, rf_pooling *p); /* false: no such name */

json_t *vector_number(float x);                  /* nine digits, which give the float back; NULL: no memory */
json_t *vector_json(const float *v, size_t n);   /* a list of numbers that give the same floats back; NULL: no memory */
json_t *vector_base64(const float *v, size_t n); /* RFC 4648, of little-endian float32; NULL: no memory */

#endif
