/* llama.cpp's routes, in its field names and reply forms. llamacpp.c: /completion; llamacpp_text.c: /tokenize, /detokenize,
 * /apply-template; slots.c: /props, /slots. Loop thread. */
#ifndef ROCMFORGE_SERVER_LLAMACPP_H
#define ROCMFORGE_SERVER_LLAMACPP_H

#include "base/json.h"
#include "server/app.h"

/* generation_settings: what a request runs with, as llama.cpp names it. NULL: no memory. */
json_t *llamacpp_settings_json(const rf_request_params *p, bool stream, bool timings_per_token);

void llamacpp_tokenize(app *a, exchange *x);
void llamacpp_detokenize(app *a, exchange *x);
void llamacpp_apply_template(app *a, exchange *x);
void llamacpp_props(app *a, exchange *x);
void llamacpp_slots(app *a, exchange *x);

#endif
