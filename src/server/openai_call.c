#include "server/openai_call.h"

#include "base/mem.h"
#include "server/prepare.h"

#include <string.h>

enum { WORTH_A_THREAD = 64 * 1024 }; /* bytes of text: more would hold up the loop for milliseconds */

static openai_call *call_new(app *a, exchange *x, bool chat) {
    openai_call *c = mem_zalloc(sizeof *c);
    if (!c) {
        reply_fail(x, 503, "memory.exhausted", NULL, "no memory for another request");
        return NULL;
    }
    *c = (openai_call){.app = a, .x = x, .chat = chat, .n = 1, .params = rf_request_defaults()};
    c->id = openai_new_id(chat ? "chatcmpl-" : "cmpl-");
    c->created = openai_now();
    c->fields_open = fields_open(&c->f, x);
    if (!c->fields_open) {
        mem_free(c);
        return NULL;
    }
    c->n_prompt = chat ? 1 : 0;
    if (chat) c->prompt = mem_zalloc(sizeof *c->prompt);
    if (!chat || c->prompt) return c;
    reply_fail(x, 503, "memory.exhausted", NULL, "no memory for another request");
    c->n_prompt = 0;
    openai_call_drop(c);
    return NULL;
}

static void close_fields(openai_call *c) {
    sampler_lists_free(&c->lists);
    if (c->fields_open) fields_close(&c->f);
    c->fields_open = false;
    openai_inputs_drop_ids(c->prompt, c->n_prompt);
}

void openai_call_drop(openai_call *c) {
    if (!c) return;
    close_fields(c);
    for (uint32_t i = 0; i < c->n_choices; i++) {
        openai_choice *o = &c->choice[i];
        reasoning_free(&o->split);
        strbuf_free(&o->thought);
        strbuf_free(&o->answer);
        json_decref(o->logprobs);
        json_decref(o->pending);
    }
    openai_inputs_free(c->prompt, c->n_prompt);
    mem_free(c->choice);
    json_decref(c->variables);
    json_decref(c->warnings);
    json_decref(c->timings);
    strbuf_free(&c->answer);
    recall_free(&c->recalled);
    mem_free(c);
}

/* --- fields ----------------------------------------------------------------------------------------------------------- */

static void read_length(openai_call *c) {
    static const char *const names[] = {"n_predict", "max_tokens", "max_completion_tokens"}; /* the last one wins */
    for (int i = 0; i < 3; i++) {
        int64_t n = 0;
        if (!fields_integer(&c->f, names[i], -1, INT32_MAX, &n)) continue;
        if (n == 0 && c->chat) fields_bad(&c->f, names[i], "must be at least 1");
        c->params.max_tokens = n;
    }
}

static void read_stream(openai_call *c) {
    fields_bool(&c->f, "stream", &c->stream);
    json_t *v = fields_any(&c->f, "stream_options");
    if (!v) return;
    if (!json_is_object(v)) {
        fields_bad(&c->f, "stream_options", "must be an object");
        return;
    }
    if (!c->stream) fields_bad(&c->f, "stream_options", "means something only with \"stream\": true");
    const char *key;
    json_t *value;
    json_object_foreach(v, key, value) {
        if (json_is_null(value)) continue;
        if (!strcmp(key, "include_usage")) {
            if (!json_is_boolean(value)) fields_bad(&c->f, "stream_options.include_usage", "must be true or false");
            c->include_usage = json_is_true(value);
        } else if (!strcmp(key, "include_obfuscation")) { /* pads events against observers: TLS is left to do that */
            if (!json_is_boolean(value))
                fields_bad(&c->f, "stream_options.include_obfuscation", "must be true or false");
        } else {
            fields_bad(&c->f, "stream_options", "knows include_usage and include_obfuscation only");
        }
    }
}

/* What other servers have and this one has not yet: refused unless it asks for nothing. */
static void refuse_unbuilt(openai_call *c) {
    static const char *const empty[] = {"tools",
                                        "functions",
                                        "stop_token_ids",
                                        "bad_words",
                                        "allowed_token_ids",
                                        "lora",
                                        "samplers",
                                        "grammar",
                                        "json_schema",
                                        "guided_json",
                                        "guided_regex",
                                        "guided_choice",
                                        "guided_grammar",
                                        "documents",
                                        "structured_outputs",
                                        "response_fields",
                                        "prompt_logprobs",
                                        "cache_salt",
                                        "audio",
                                        "prediction",
                                        "web_search_options",
                                        "use_beam_search",
                                        "min_tokens",
                                        "min_keep",
                                        "n_probs",
                                        "dynatemp_range",
                                        "mirostat",
                                        "xtc_probability",
                                        "dry_multiplier",
                                        "t_max_predict_ms",
                                        "return_tokens",
                                        "post_sampling_probs",
                                        "logits_processors"};
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) fields_empty(&c->f, empty[i]);
    /* Parts of samplers that are off: what they would be set to does not matter. */
    static const char *const idle[] = {"dynatemp_exponent",  "xtc_threshold",      "dry_base",
                                       "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers",
                                       "mirostat_tau",       "mirostat_eta"};
    for (size_t i = 0; i < sizeof idle / sizeof *idle; i++) fields_accept(&c->f, idle[i]);
    fields_neutral(&c->f, "typical_p", 1);
    fields_neutral(&c->f, "length_penalty", 1);
}

static void read_response_format(openai_call *c) {
    const json_t *v = fields_any(&c->f, "response_format");
    if (!v) return;
    const json_t *type = json_object_get(v, "type");
    if (!json_is_object(v) || !json_is_string(type))
        fields_bad(&c->f, "response_format", "must be an object with a \"type\"");
    else if (strcmp(json_string_value(type), "text"))
        fields_bad(&c->f, "response_format.type", "must be \"text\": JSON and schemas are not supported yet");
}

static void read_cache(openai_call *c) {
    bool cache = true, skip = true;
    fields_bool(&c->f, "cache_prompt", &cache);
    c->params.no_cache = !cache;
    fields_bool(&c->f, "skip_special_tokens", &skip);
    c->params.special_text = !skip;
}

/* OpenAI samples from the whole distribution unless told otherwise. */
static void read_sampling(openai_call *c) {
    c->params.temperature = 1;
    c->params.top_p = 1;
    c->params.top_k = 0;
    c->params.min_p = 0;
    c->params.seed = openai_random_seed();
    fields_sampler(&c->f, &c->params, &c->lists);
    int64_t n = 1, best_of = 0;
    fields_integer(&c->f, "n", 1, OPENAI_MOST_CHOICES, &n);
    c->n = (uint32_t)n;
    if (fields_integer(&c->f, "best_of", 1, OPENAI_MOST_CHOICES, &best_of) && best_of != n)
        fields_bad(&c->f, "best_of", "is not built yet: leave it out, or give as many as n");
}

void openai_call_fields(openai_call *c) {
    read_length(c);
    read_stream(c);
    read_sampling(c);
    read_cache(c);
    read_response_format(c);
    refuse_unbuilt(c);
    openai_ignored_fields(&c->f);
}

/* --- from fields to tokens -------------------------------------------------------------------------------------------- */

static bool has_input(const rf_prompt *p, size_t from) {
    for (size_t i = 0; i < p->n_input; i++)
        if (p->input[i].at + p->input[i].n > from) return true;
    return false;
}

/* Whether the template left the tag of thoughts open at the end; a user's text there is no tag. */
static void find_opened(openai_call *c, const rf_prompt *p) {
    size_t n = p->n, m = strlen(c->tags->open);
    while (n && strchr(" \n\t\r", p->text[n - 1])) n--;
    c->opened = n >= m && !has_input(p, n - m) && reasoning_is_open(c->tags, (str){p->text, p->n});
}

static str template_of(const app *a) {
    if (a->opt->chat_template) return str_of(a->opt->chat_template);
    size_t n = 0;
    const char *t = rf_model_template(a->model, &n);
    return (str){t, t ? n : 0};
}

static bool render(openai_call *c, rf_error *e) {
    const char *own = c->app->opt->chat_template;
    strbuf request = {0};
    rf_prompt p = {0};
    err why;
    bool ok = json_write(c->variables, &request, &why) == OK;
    if (!ok) *e = (rf_error){"memory.exhausted", "Backend", 503, true, "no memory for the prompt"};
    ok = ok && rf_render(&p, c->app->model, own, own ? strlen(own) : 0, request.p, request.n, e);
    if (ok && c->split_reasoning) find_opened(c, &p);
    ok = ok && rf_tokenize_prompt(c->app->model, &p, &c->prompt[0].ids, &c->prompt[0].n_ids, e);
    rf_prompt_free(&p);
    strbuf_free(&request);
    return ok;
}

/* May run on another thread: touches nothing but c and the model. */
static void prepare(void *user) {
    openai_call *c = user;
    bool ok = true;
    c->error = (rf_error){"memory.exhausted", "Backend", 503, true, "no memory for the prompt"};
    if (c->chat) ok = render(c, &c->error);
    for (uint32_t i = 0; !c->chat && ok && i < c->n_prompt; i++)
        ok = openai_input_tokenize(&c->prompt[i], c->app->model, c->echo, &c->error);
    if (ok) c->error.code[0] = 0;
}

/* --- the job ---------------------------------------------------------------------------------------------------------- */

/* Control tokens that make up the tags of thoughts say nothing as text: their ids are noted. */
static void note_shown(openai_call *c, const char *tag) {
    const rf_model *m = c->app->model;
    int32_t *ids = NULL;
    size_t n = 0;
    if (!rf_tokenize(m, tag, strlen(tag), RF_NO_SPECIAL, &ids, &n, NULL)) return;
    for (size_t i = 0; i < n && c->n_shown < OPENAI_MOST_TAG_TOKENS; i++) {
        char *text;
        size_t n_text;
        if (!rf_detokenize(m, &ids[i], 1, false, &text, &n_text, NULL)) break;
        if (n_text == 0) c->shown[c->n_shown++] = ids[i];
        rf_free(text);
    }
    rf_free(ids);
}

static bool make_choices(openai_call *c) {
    c->choice = mem_array((size_t)c->n_prompt * c->n, sizeof *c->choice);
    if (!c->choice) return false;
    c->n_choices = c->n_prompt * c->n;
    if (c->split_reasoning && !c->params.special_text) {
        note_shown(c, c->tags->open);
        note_shown(c, c->tags->close);
    }
    for (uint32_t i = 0; i < c->n_choices; i++) {
        const openai_input *p = &c->prompt[i / c->n];
        for (size_t k = 0; k < p->n_echo; k++) c->choice[i].n_chars += (p->echo[k] & 0xC0) != 0x80;
        reasoning_begin(&c->choice[i].split, c->split_reasoning ? c->tags : NULL, c->opened);
    }
    return true;
}

static void released(job *j) { openai_call_drop(j->user); }

static bool start_job(openai_call *c) {
    job_prompt *prompts = mem_array(c->n_prompt, sizeof *prompts);
    if (!prompts) {
        reply_fail(c->x, 503, "memory.exhausted", NULL, "no memory for another request");
        return false;
    }
    for (uint32_t i = 0; i < c->n_prompt; i++) prompts[i] = (job_prompt){c->prompt[i].ids, c->prompt[i].n_ids};
    job_options o = {.params = c->params,
                     .prompts = prompts,
                     .n_prompts = c->n_prompt,
                     .n = c->n,
                     .operation = c->chat ? "chat" : "text_completion",
                     .route = c->chat ? "/v1/chat/completions" : "/v1/completions",
                     .prompt_field = c->chat ? "messages" : "prompt",
                     .stream = c->stream,
                     .event = openai_reply_event,
                     .tick = openai_reply_tick,
                     .done = openai_reply_done,
                     .released = released,
                     .user = c};
    job *j = job_start(c->app, c->x, &o);
    mem_free(prompts);
    if (!j) return false;
    memcpy(j->response_id, c->id.text, sizeof c->id.text);
    return true;
}

/* Back on the loop. */
static void prepared(void *user, exchange *x) {
    openai_call *c = user;
    const char *param = c->chat ? "messages" : "prompt";
    bool ok = x && !c->error.code[0];
    if (x && !ok) reply_error(x, &c->error, param);
    for (uint32_t i = 0; ok && i < c->n_prompt; i++) ok = openai_fits(x, c->prompt[i].n_ids, param);
    if (ok && !make_choices(c)) {
        reply_fail(x, 503, "memory.exhausted", NULL, "no memory for another request");
        ok = false;
    }
    if (ok) c->warnings = fields_take_warnings(&c->f);
    if (ok && start_job(c))
        close_fields(c); /* the engine copied all of it */
    else
        openai_call_drop(c);
}

/* Renders where it is a chat, makes ids, starts the job. */
static void call_prepare(openai_call *c) {
    if (c->split_reasoning) c->tags = reasoning_tags_of(template_of(c->app));
    const size_t n = c->chat ? c->x->body.n + c->recalled.note.n : openai_inputs_bytes(c->prompt, c->n_prompt);
    prepare_run(c->x, n, prepare, prepared, c);
}

void openai_call_serve(app *a, exchange *x, bool chat, void (*read_fields)(openai_call *c)) {
    openai_call *c = call_new(a, x, chat);
    if (!c) return;
    c->fields_open = openai_check_model(&c->f);
    if (c->fields_open) {
        read_fields(c);
        c->fields_open = fields_finish(&c->f);
    }
    if (c->fields_open)
        openai_context_find(c, call_prepare);
    else
        openai_call_drop(c);
}
