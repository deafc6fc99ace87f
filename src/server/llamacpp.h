/* llama.cpp's routes, in its field names and reply forms. llamacpp.c: /completion; llamacpp_text.c: /tokenize, /detokenize,
 * /apply-template; slots.c: /props, /slots. Loop thread. */
#ifndef ROCMFORGE_SERVER_LLAMACPP_H
#define ROCMFORGE_SERVER_LLAMACPP_H

#include "base/json.h"
#include "server/app.h"

typedef struct {
    rf_request_params params;
    bool stream, return_tokens, timings_per_token, return_progress;
} llamacpp_settings;

/* /completion's defaults: the engine's, until the end or a full context. */
llamacpp_settings llamacpp_defaults(void);
/* generation_settings: what a request runs with. NULL: no memory. */
json_t *llamacpp_settings_json(const llamacpp_settings *s);

void llamacpp_tokenize(app *a, exchange *x);
void llamacpp_detokenize(app *a, exchange *x);
void llamacpp_apply_template(app *a, exchange *x);
void llamacpp_props(app *a, exchange *x);
void llamacpp_slots(app *a, exchange *x);

#endif
