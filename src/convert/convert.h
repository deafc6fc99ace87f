/* A Hugging Face folder becomes a GGUF file. The folder's files are checked as they are read; the file that comes out is opened
 * by this engine's own readers, model and tokenizer, once its header is written and before its weights are: what they
 * would refuse is refused here, in the first second. Weights are streamed; nothing is kept of a run that fails.
 *
 *   folder: config.json -> hf_config   *.safetensors -> hf_folder, safetensors   tokenizer.* -> hf_tokenizer
 *           names and types -> hf_tensors   rows -> hf_write -> gguf_write -> file
 */
#ifndef ROCMFORGE_CONVERT_CONVERT_H
#define ROCMFORGE_CONVERT_CONVERT_H

#include "base/err.h"
#include "base/json.h"

typedef struct {
    uint64_t done, total;  /* bytes of weights */
    const char *tensor;    /* the one being written */
    const char *temporary; /* what is written to, until all is there */
} convert_state;

typedef struct {
    const char *type; /* "f32", "f16", "bf16", "q8_0"; NULL: what most of the folder's weights are */
    const char *name; /* general.name; NULL: the folder's */
    bool (*progress)(void *user, const convert_state *s); /* after each piece; false: stop. NULL: none */
    void *user;
} convert_options;

/* *report: {architecture, name, type, tensors, parameters, bytes, tokens, tokenizer, pre_tokenizer, warnings: [...]}. */
MUST_CHECK status convert_folder(json_t **report, const char *dir, const char *out, const convert_options *opt, err *e);

#endif
