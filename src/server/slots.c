/* GET /props and /slots: what the server is, and what runs on it. Never a word of a prompt. */
#include "server/llamacpp.h"

#include "server/job.h"

#include <string.h>

static json_t *engine_info(const app *a) {
    char *text = rf_engine_info(a->engine);
    json_t *v = text ? json_loads(text, 0, NULL) : NULL;
    rf_free(text);
    return v;
}

static int int_of(const json_t *info, const char *key) { return (int)json_integer_value(json_object_get(info, key)); }

/* --- /props ----------------------------------------------------------------------------------------------------------- */
/* Text of a special token that the file names, "" for none. */
static json_t *special_text(const app *a, const json_t *tokenizer, const char *key) {
    const json_t *id = json_object_get(tokenizer, key);
    const int32_t token = (int32_t)json_integer_value(id);
    char *text;
    size_t n;
    rf_error e;
    if (!json_is_integer(id) || !rf_detokenize(a->model, &token, 1, true, &text, &n, &e)) return json_string("");
    json_t *v = json_text(text, n);
    rf_free(text);
    return v;
}

static json_t *template_text(const app *a) {
    const char *own = a->opt->chat_template;
    size_t n = own ? strlen(own) : 0;
    const char *text = own ? own : rf_model_template(a->model, &n);
    return text ? json_text(text, n) : json_string("");
}

static json_t *inspect(const app *a) {
    char *text = rf_model_inspect(a->model, 0, NULL);
    json_t *v = text ? json_loads(text, 0, NULL) : NULL;
    rf_free(text);
    return v;
}

void llamacpp_props(app *a, exchange *x) {
    const rf_request_params p = rf_request_defaults();
    json_t *info = engine_info(a), *file = inspect(a);
    const json_t *tokenizer = json_object_get(file, "tokenizer");
    json_t *v =
        json_pack("{s{so si} si so so s{sb sb} so so so ss+ sb}", "default_generation_settings", "params",
                  llamacpp_settings_json(&p, false, false), "n_ctx", int_of(info, "context"), "total_slots",
                  int_of(info, "parallel"), "model_alias", json_text_of(str_of(a->model_name)), "model_path",
                  json_text_of(str_of(a->opt->model_path)), "modalities", "vision", 0, "audio", 0, "chat_template",
                  template_text(a), "bos_token", special_text(a, tokenizer, "bos"), "eos_token",
                  special_text(a, tokenizer, "eos"), "build_info", "rocmforge ", rf_version(), "is_sleeping", 0);
    json_decref(info);
    json_decref(file);
    reply_json(x, 200, v);
}

/* --- /slots ----------------------------------------------------------------------------------------------------------- */
typedef struct {
    json_t *all;
    int n_ctx, n;
} slot_list;

static void add_slot(void *ctx, const job *j, uint32_t choice, uint32_t n_prompt, uint32_t n_done,
                     uint32_t n_predicted) {
    slot_list *l = ctx;
    json_t *v = json_pack("{si sI si sb sb ss si sI sI s[{sb sI}]}", "id", l->n++, "id_task", (json_int_t)j->id,
                          "n_ctx", l->n_ctx, "speculative", 0, "is_processing", 1, "request_id", j->request_id,
                          "choice", (int)choice, "n_prompt_tokens", (json_int_t)n_prompt, "n_prompt_tokens_processed",
                          (json_int_t)n_done, "next_token", "has_next_token", 1, "n_decoded", (json_int_t)n_predicted);
    json_array_append_new(l->all, v);
}

static void add_idle(slot_list *l) {
    json_array_append_new(l->all, json_pack("{si si si sb sb}", "id", l->n++, "id_task", -1, "n_ctx", l->n_ctx,
                                            "speculative", 0, "is_processing", 0));
}

static bool wants_a_slot(const exchange *x) {
    strbuf v = {0};
    const bool there = exchange_query(x, "fail_on_no_slot", &v) && v.n && strcmp(v.p, "0") != 0;
    strbuf_free(&v);
    return there;
}

void llamacpp_slots(app *a, exchange *x) {
    if (!a->opt->slots) {
        reply_fail(x, 404, "request.not_found", NULL, "/slots is switched off on this server");
        return;
    }
    json_t *info = engine_info(a);
    const int parallel = int_of(info, "parallel");
    slot_list l = {.all = json_array(), .n_ctx = int_of(info, "context")};
    json_decref(info);
    jobs_each(a->jobs, add_slot, &l);
    if (l.n >= parallel && wants_a_slot(x)) {
        json_decref(l.all);
        reply_fail(x, 503, "request.no_slot", NULL, "no slot is idle");
        return;
    }
    while (l.n < parallel) add_idle(&l);
    reply_json(x, 200, l.all);
}
