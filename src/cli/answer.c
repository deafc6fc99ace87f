#include "cli/answer.h"

#include "base/json.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void answer_begin(answer *w, const args *a) {
    *w = (answer){.a = a, .show = !a->json};
    reasoning_begin(&w->split, NULL, false);
    if (a->json) w->tokens = json_array();
    if (a->json && a->top_logprobs >= 0) w->logprobs = json_array();
}

void answer_free(answer *w) {
    reasoning_free(&w->split);
    for (uint32_t i = 0; i < w->n_tag; i++) rf_free(w->tag[i].text);
    strbuf_free(&w->text);
    strbuf_free(&w->thinking);
    json_decref(w->tokens);
    json_decref(w->logprobs);
    json_decref(w->recall);
    json_decref(w->info);
    json_decref(w->warnings);
    *w = (answer){0};
}

/* --- while it comes --------------------------------------------------------------------------------------------------- */
void answer_progress(answer *w, uint32_t done, uint32_t total) {
    if (w->a->quiet || done == 0 || done >= total || !isatty(STDERR_FILENO)) return;
    fprintf(stderr, "\rreading the prompt: %u of %u tokens ", done, total);
    w->note_shown = true;
}

static void put(answer *w, const char *p, size_t n) {
    if (!cli_put(p, n)) w->deaf = true;
}

/* A terminal gets no control characters of a model: they could do anything there. */
static void put_text(answer *w, const char *p, size_t n) {
    if (!isatty(STDOUT_FILENO)) {
        put(w, p, n);
        return;
    }
    for (size_t at = 0; at < n;) {
        size_t end = at;
        while (end < n && ((unsigned char)p[end] >= 32 || p[end] == '\n' || p[end] == '\t') && p[end] != 127 &&
               !(p[end] == '\xc2' && end + 1 < n && (unsigned char)p[end + 1] < 0xA0)) /* U+0080 to U+009F */
            end++;
        if (end > at) put(w, p + at, end - at);
        at = end + (end < n && p[end] == '\xc2' ? 2 : 1);
    }
}

static void dim(answer *w, bool on) {
    if (w->dimmed == on) return;
    w->dimmed = on;
    const char *code = on ? "\033[2m" : "\033[0m";
    if (isatty(STDOUT_FILENO) && !getenv("NO_COLOR")) put(w, code, strlen(code));
    if (!on) put(w, "\n\n", 2);
}

/* What came after the first `from` bytes is shown, where it is to be. */
static void show(answer *w, bool thinking, size_t from) {
    const strbuf *b = thinking ? &w->thinking : &w->text;
    if (b->n == from || !w->show || (thinking && !w->show_think)) return;
    dim(w, thinking);
    put_text(w, b->p + from, b->n - from);
}

void answer_add_part(answer *w, bool thinking, const char *p, size_t n) {
    strbuf *b = thinking ? &w->thinking : &w->text;
    size_t from = b->n;
    strbuf_add(b, p, n);
    show(w, thinking, from);
}

static void hide_note(answer *w) {
    if (w->note_shown) fprintf(stderr, "\r%60s\r", "");
    w->note_shown = false;
}

static void feed(answer *w, const char *p, size_t n) {
    size_t thought = w->thinking.n, said = w->text.n;
    reasoning_feed(&w->split, p, n, &w->thinking, &w->text);
    show(w, true, thought);
    show(w, false, said);
}

void answer_add(answer *w, int32_t id, const char *p, size_t n) {
    hide_note(w);
    for (uint32_t i = 0; n == 0 && i < w->n_tag; i++)
        if (w->tag[i].id == id) p = w->tag[i].text, n = strlen(p);
    if (n) feed(w, p, n);
}

void answer_add_token(answer *w, int32_t id, float logprob, const rf_alternative *top, uint32_t n_top) {
    if (id < 0) return;
    if (w->tokens) json_array_append_new(w->tokens, json_integer(id));
    if (!w->logprobs) return;
    json_t *all = json_array();
    for (uint32_t i = 0; i < n_top; i++)
        json_array_append_new(all, json_pack("{si sf}", "id", (int)top[i].id, "logprob", (double)top[i].logprob));
    json_array_append_new(w->logprobs, json_pack("{si sf so}", "id", (int)id, "logprob", (double)logprob, "top", all));
}

void answer_end(answer *w) {
    hide_note(w);
    size_t thought = w->thinking.n, said = w->text.n;
    reasoning_end(&w->split, &w->thinking, &w->text);
    show(w, true, thought);
    show(w, false, said);
    if (w->dimmed) dim(w, false);
}

void answer_fail(answer *w, const rf_error *e) {
    w->failed = true;
    w->error = *e;
}

/* --- tags of thinking ------------------------------------------------------------------------------------------------- */
static void note_tag(answer *w, const rf_model *m, const char *tag) {
    int32_t *ids = NULL;
    size_t n = 0;
    if (!rf_tokenize(m, tag, strlen(tag), RF_NO_SPECIAL, &ids, &n, NULL)) return;
    for (size_t i = 0; i < n && w->n_tag < ANSWER_TAG_TOKENS; i++) {
        char *shown = NULL, *text = NULL;
        size_t n_shown = 0, n_text = 0;
        bool ok = rf_detokenize(m, &ids[i], 1, false, &shown, &n_shown, NULL);
        if (ok && n_shown == 0 && rf_detokenize(m, &ids[i], 1, true, &text, &n_text, NULL))
            w->tag[w->n_tag++] = (tag_token){ids[i], text};
        rf_free(shown);
    }
    rf_free(ids);
}

static bool from_input(const rf_prompt *p, size_t from) {
    for (size_t i = 0; i < p->n_input; i++)
        if (p->input[i].at + p->input[i].n > from) return true;
    return false;
}

void answer_split(answer *w, const rf_model *m, str tmpl, const rf_prompt *prompt) {
    const reasoning_tags *tags = reasoning_tags_of(tmpl);
    size_t n = prompt->n, k = strlen(tags->open);
    while (n && strchr(" \n\t\r", prompt->text[n - 1])) n--;
    bool own = n >= k && !from_input(prompt, n - k); /* a user's text is no tag */
    if (!w->a->special) note_tag(w, m, tags->open), note_tag(w, m, tags->close);
    reasoning_begin(&w->split, tags, own && reasoning_is_open(tags, (str){prompt->text, prompt->n}));
}

/* --- at its end ------------------------------------------------------------------------------------------------------- */
const char *answer_finish_name(rf_finish f) {
    return f == RF_FINISH_STOP ? "stop" : f == RF_FINISH_LENGTH ? "length" : "cancelled";
}

static double per_second(double n, int64_t us) { return us > 0 ? n * 1e6 / (double)us : 0; }
static uint32_t steps_of(const answer *w) { return w->n_predicted ? w->n_predicted - 1 : 0; }

static void put_json(json_t *obj, const char *key, json_t *v) { /* takes v; what is not known is left out */
    if (v) json_object_set_new(obj, key, v);
}

static json_t *timings_of(const answer *w) {
    json_t *v = json_object();
    put_json(v, "load_ms", json_incref(json_object_get(w->info, "load_ms")));
    put_json(v, "prompt_ms", json_real((double)w->prompt_us / 1e3));
    put_json(v, "prompt_per_second", json_real(per_second(w->n_prompt - w->n_cached, w->prompt_us)));
    put_json(v, "predicted_ms", json_real((double)w->predicted_us / 1e3));
    put_json(v, "predicted_per_second", json_real(per_second(steps_of(w), w->predicted_us)));
    return v;
}

/* What the engine said when it began, and what came of this request. */
static json_t *warnings_of(const answer *w) {
    json_t *all = w->warnings ? json_copy(w->warnings) : json_array(), *drawn = NULL;
    if (w->host_drawn_why)
        drawn = json_sprintf("sampler.host: %u of %u tokens were drawn on the CPU: %s", w->n_host_drawn, w->n_predicted,
                             w->host_drawn_why);
    if (drawn) json_array_append_new(all, drawn);
    return all;
}

static int print_json(const answer *w) {
    json_t *v = json_object();
    put_json(v, "text", json_text(w->text.p ? w->text.p : "", w->text.n));
    put_json(v, "tokens", json_incref(w->tokens));
    put_json(v, "prompt_tokens", json_integer(w->n_prompt));
    put_json(v, "finish_reason", json_string(answer_finish_name(w->finish)));
    put_json(v, "seed", json_integer((json_int_t)w->seed));
    put_json(v, "timings", timings_of(w));
    put_json(v, "device", json_incref(json_object_get(w->info, "device")));
    put_json(v, "warnings", warnings_of(w));
    put_json(v, "completion_tokens", json_integer(w->n_predicted));
    put_json(v, "cached_tokens", json_integer(w->n_cached));
    if (w->thinking.n) put_json(v, "reasoning_content", json_text(w->thinking.p, w->thinking.n));
    put_json(v, "logprobs", json_incref(w->logprobs));
    put_json(v, "context", json_incref(w->recall));
    return cli_print_json(v);
}

static void print_summary(const answer *w) {
    const char *end = w->finish == RF_FINISH_STOP     ? "the model ended, or a stop text came"
                      : w->finish == RF_FINISH_LENGTH ? "length reached"
                                                      : "cancelled";
    char cached[40] = "";
    if (w->n_cached) snprintf(cached, sizeof cached, " (%u cached)", w->n_cached);
    cli_note("prompt: %u token%s%s, %.1f t/s | generated: %u token%s, %.1f t/s | %s", w->n_prompt,
             w->n_prompt == 1 ? "" : "s", cached, per_second(w->n_prompt - w->n_cached, w->prompt_us), w->n_predicted,
             w->n_predicted == 1 ? "" : "s", per_second(steps_of(w), w->predicted_us), end);
    if (w->a->temperature > 0 && !w->chat) cli_note("seed: %llu", (unsigned long long)w->seed);
}

int answer_finish(answer *w) {
    if (w->text.failed || w->thinking.failed) return cli_error("memory.exhausted", "no memory for the text");
    if (w->show && w->started && !cli_put("\n", 1)) return EXIT_FAILED; /* nobody listens: say no more */
    if (w->failed) return cli_fail(&w->error);
    int rc = w->a->json ? print_json(w) : 0;
    if (!w->a->json && !w->a->quiet) print_summary(w);
    return rc ? rc : w->finish == RF_FINISH_CANCELLED ? EXIT_INTERRUPTED : EXIT_DONE;
}

/* --- what was asked --------------------------------------------------------------------------------------------------- */
static uint64_t choose_seed(int64_t asked) {
    if (asked >= 0) return (uint64_t)asked;
    uint32_t seed;
    if (getentropy(&seed, sizeof seed)) seed = (uint32_t)time(NULL);
    return seed; /* 32 bits, so that it is easily typed again */
}

rf_request_params answer_params(const args *a) {
    rf_request_params p = rf_request_defaults();
    p.max_tokens = a->max_tokens;
    p.temperature = (float)a->temperature;
    p.top_k = (int32_t)a->top_k;
    p.top_p = (float)a->top_p;
    p.min_p = (float)a->min_p;
    p.repeat_penalty = (float)a->repeat_penalty;
    p.presence_penalty = (float)a->presence_penalty;
    p.frequency_penalty = (float)a->frequency_penalty;
    p.repeat_last_n = (int32_t)a->repeat_last_n;
    p.seed = choose_seed(a->seed);
    p.logit_bias = a->bias;
    p.n_logit_bias = a->n_bias;
    p.stop = a->stop;
    p.n_stop = a->n_stop;
    p.ignore_eos = a->ignore_eos;
    p.special_text = a->special;
    p.n_top = a->top_logprobs > 0 ? (uint32_t)a->top_logprobs : 0;
    return p;
}
