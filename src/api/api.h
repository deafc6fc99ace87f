/* What the files of this room share: the objects behind rocmforge.h. */
#ifndef ROCMFORGE_API_API_H
#define ROCMFORGE_API_API_H

#include "rocmforge.h"

#include "base/err.h"
#include "base/json.h"
#include "exec/exec.h"
#include "gguf/gguf.h"
#include "model/model.h"
#include "text/template.h"
#include "text/tokenizer.h"

/* A chat template read once, or why that failed. Immutable after open: any thread. */
typedef struct {
    chat_template *parsed; /* NULL: code and why say it */
    status code;
    err why;
} api_chat;
/* source.p NULL: there is none. Fails for want of memory only. */
status api_chat_open(api_chat *c, str source, err *e);
void api_chat_close(api_chat *c);

struct rf_model {
    gguf *file;
    tokenizer *text;
    api_chat chat;
    model_info info; /* strings are views into file */
};

/* An engine's shape, with every default settled. */
typedef struct {
    exec_options exec;
    uint32_t context, parallel, threads;
    int tier;
    char reason[160]; /* why this device */
} api_shape;

/* Checks the options against the model. ERR_RANGE, ERR_USAGE, ERR_UNSUPPORTED, ERR_CPU_TIER. */
status api_shape_make(api_shape *s, const rf_model *m, const rf_engine_options *opt, err *e);
status api_open_backend(backend **out, const api_shape *s, err *e);

status api_chat_of_model(rf_model *m, err *e);     /* fills m->chat */
status api_check_graph(const rf_model *m, err *e); /* what the file's weights and hyperparameters cannot run as */
/* ERR_MEMORY_PLAN unless what this shape needs, and the margin, are available. b: as api_open_backend gave it. */
status api_check_memory(const rf_model *m, const api_shape *s, backend *b, err *e);
uint64_t api_available_bytes(void); /* what this process may still take: the system's and its control group's word */

/* What was made from the file's bytes, or refused because of them, counts only if the file still is what was opened. */
status api_if_unchanged(const gguf *file, status s, err *e); /* s, or ERR_FILE_CHANGED; file NULL: s */

bool api_result(status s, const err *e, rf_error *out); /* s == OK, else fills *out */
/* Put an item (its reference is taken) into an array or object; without memory, or with no item for lack of it, *all
 * becomes NULL and stays so: a list is whole or none. */
void api_append(json_t **all, json_t *item);
void api_set(json_t **all, const char *key, json_t *item);
json_t *api_text(const strbuf *b);            /* NULL when it could not grow, or out of memory */
char *api_json(json_t *v, status *s, err *e); /* takes v; NULL: no memory */

#endif
