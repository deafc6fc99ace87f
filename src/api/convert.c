/* A Hugging Face folder to a GGUF file. */
#include "api/api.h"

#include "convert/convert.h"

typedef struct {
    const rf_convert_options *opt;
} caller;

static bool on_progress(void *user, const convert_state *s) {
    const caller *c = user;
    const rf_convert_state state = {.done = s->done, .total = s->total, .tensor = s->tensor, .temporary = s->temporary};
    return c->opt->progress(c->opt->user, &state);
}

char *rf_convert(const char *dir, const char *out, const rf_convert_options *opt, rf_error *e) {
    static const rf_convert_options none;
    caller c = {.opt = opt ? opt : &none};
    convert_options o = {.type = c.opt->type, .name = c.opt->name, .user = &c};
    json_t *report = NULL;
    err why = {0};
    o.progress = c.opt->progress ? on_progress : NULL;
    status s = convert_folder(&report, dir, out, &o, &why);
    char *text = s ? NULL : api_json(report, &s, &why);
    return api_result(s, &why, e) ? text : NULL;
}
