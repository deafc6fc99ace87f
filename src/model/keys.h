/* Hyperparameters of one architecture: metadata keys "<arch>.<suffix>", each read with the range it must lie in. An
 * absent key leaves *out alone and is OK, unless it is said to be needed. Errors name the key, its value and the range:
 * ERR_MODEL_KEY; ERR_GGUF_KEY for a key of the wrong type. Borrows everything; lives on the reader's stack. */
#ifndef ROCMFORGE_MODEL_KEYS_H
#define ROCMFORGE_MODEL_KEYS_H

#include "base/err.h"
#include "gguf/gguf.h"

typedef struct {
    const gguf *g;
    const char *arch;
    err *e;
} keys;

enum { KEY_MAX = 128 };
typedef struct {
    char text[KEY_MAX];
} key_name;
key_name keys_name(const keys *k, const char *suffix); /* "llama.block_count" */
bool keys_has(const keys *k, const char *suffix);

MUST_CHECK status keys_u32(const keys *k, const char *suffix, uint32_t lo, uint32_t hi, uint32_t *out);
MUST_CHECK status keys_need_u32(const keys *k, const char *suffix, uint32_t lo, uint32_t hi, uint32_t *out);
MUST_CHECK status keys_f32(const keys *k, const char *suffix, float lo, float hi, float *out);
MUST_CHECK status keys_need_f32(const keys *k, const char *suffix, float lo, float hi, float *out);
/* One number for all layers, or an array with one for each of n_layer: that of `layer`. */
MUST_CHECK status keys_layer_u32(const keys *k, const char *suffix, uint32_t n_layer, uint32_t layer, uint32_t lo,
                                 uint32_t hi, uint32_t *out);

#endif
