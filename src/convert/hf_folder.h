/* A Hugging Face folder: its JSON files, and its weights in one safetensors file or several. Names of shards come from
 * the index and are plain file names: nothing outside the folder is opened unless a link in it leads there.
 * What is opened is owned by whoever opened it. One thread at a time; hf_weights is immutable after open. */
#ifndef ROCMFORGE_CONVERT_HF_FOLDER_H
#define ROCMFORGE_CONVERT_HF_FOLDER_H

#include "base/json.h"
#include "convert/safetensors.h"
#include "gguf/names.h"

enum { HF_MAX_PATH = 4096, HF_MAX_JSON = 128 << 20, HF_MAX_SHARDS = 1024 };

/* "DIR/NAME"; ERR_IO when it is too long. */
MUST_CHECK status hf_path(char out[HF_MAX_PATH], const char *dir, const char *name, err *e);
bool hf_has(const char *dir, const char *name); /* there is such a file, whatever it holds */

/* A JSON file of the folder: an object or array, with its key "" for none. Absent: *out NULL and OK, unless `needed`. */
MUST_CHECK status hf_json_open(json_t **out, const char *dir, const char *name, bool needed, err *e);
/* A text file of the folder; *out.p NULL when there is none. mem_free it. */
MUST_CHECK status hf_text_open(strbuf *out, const char *dir, const char *name, err *e);

/* Values of one object, by key; absent or null leaves *out as it was. `file` is for the message: ERR_CONVERT_CONFIG names
 * both. */
MUST_CHECK status hf_get_u32(const json_t *v, const char *file, const char *key, uint32_t lo, uint32_t hi,
                             uint32_t *out, err *e);
MUST_CHECK status hf_get_f64(const json_t *v, const char *file, const char *key, double lo, double hi, double *out,
                             err *e);
MUST_CHECK status hf_get_bool(const json_t *v, const char *file, const char *key, bool *out, err *e);
MUST_CHECK status hf_get_text(const json_t *v, const char *file, const char *key, const char **out, err *e);

typedef struct {
    safetensors *shard;
    size_t n_shards;
    st_tensor *tensor; /* of all shards, each in the order of its data */
    size_t n;
    names by_name;
} hf_weights;

MUST_CHECK status hf_weights_open(hf_weights *w, const char *dir, err *e); /* on failure w is left to close */
void hf_weights_close(hf_weights *w);                                      /* {0} is fine */
const st_tensor *hf_weights_find(const hf_weights *w, str name);           /* NULL: absent */
MUST_CHECK status hf_weights_check(const hf_weights *w, err *e); /* ERR_FILE_CHANGED when any shard changed since */

#endif
