/* Small random models as GGUF files, for tests of everything that needs a whole model. The file is made anew in the
 * system's folder for temporary files; whoever made it removes it. Same shape and seed, same bytes.
 * The vocabulary has TINY_VOCAB tokens: <unk>, <s>, </s>, then one printable character each, so that every text a model
 * generates (specials banned) is one character a token and can be reasoned about. */
#ifndef ROCMFORGE_TESTS_TINY_GGUF_H
#define ROCMFORGE_TESTS_TINY_GGUF_H

#include "quant/quant.h"

enum { TINY_VOCAB = 100, TINY_BOS = 1, TINY_EOS = 2, TINY_FIRST_TEXT = 3, TINY_PATH = 256 };

typedef struct {
    const char *arch; /* "llama", "qwen3", "gemma3" */
    uint32_t n_layer, d_model, n_head, n_kv_head, d_head, d_ff;
    uint32_t n_expert, n_used; /* 0: dense */
    uint32_t window;           /* gemma3: all layers but the last */
    quant_type type, type_v;   /* of every matrix but the router; of attn_v, which files in mixes have in another */
    uint64_t seed;
} tiny_shape;

tiny_shape tiny_shape_of(const char *arch,
                         quant_type type); /* 2 layers, 4 heads over 2; width 64, or 256 for K types */

void tiny_gguf_write(const tiny_shape *shape, char path[TINY_PATH]); /* a failure ends the test */
/* Puts bytes into the file at a place inside a tensor's data, through the file system: a mapping sees them. */
void tiny_gguf_poke(const char *path, const char *tensor, size_t at, const void *bytes, size_t n_bytes);
void tiny_gguf_touch(const char *path); /* another time of change, whatever the clock's grain */

#endif
