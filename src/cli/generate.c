/* rocmforge generate: continues a text and streams what the model says. */
#include "base/json.h"
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    const args *a;
    rf_request *r;
    json_t *tokens, *logprobs; /* with --json */
    char *text;
    size_t n_text, cap;
    bool failed_memory;
    rf_event end;
    rf_error error;
    bool prompt_shown;
} run;

static void keep_text(run *g, const char *p, size_t n) {
    if (g->n_text + n + 1 > g->cap) {
        size_t cap = (g->n_text + n + 1) * 2;
        char *more = realloc(g->text, cap);
        if (!more) {
            g->failed_memory = true;
            return;
        }
        g->text = more;
        g->cap = cap;
    }
    memcpy(g->text + g->n_text, p, n);
    g->n_text += n;
}

static void keep_logprob(run *g, const rf_event *ev) {
    json_t *top = json_array();
    for (uint32_t i = 0; i < ev->n_top; i++)
        json_array_append_new(top,
                              json_pack("{si sf}", "id", (int)ev->top[i].id, "logprob", (double)ev->top[i].logprob));
    json_array_append_new(g->logprobs,
                          json_pack("{si sf so}", "id", (int)ev->id, "logprob", (double)ev->logprob, "top", top));
}

static void on_token(run *g, const rf_event *ev) {
    if (g->prompt_shown) fprintf(stderr, "\r%60s\r", "");
    g->prompt_shown = false;
    if (ev->n_text && g->a->json) keep_text(g, ev->text, ev->n_text);
    if (ev->n_text && !g->a->json && !cli_put(ev->text, ev->n_text)) rf_request_cancel(g->r);
    if (!g->a->json || ev->id < 0) return;
    json_array_append_new(g->tokens, json_integer(ev->id));
    if (g->logprobs) keep_logprob(g, ev);
}

static void on_event(void *user, const rf_event *ev) {
    run *g = user;
    switch (ev->kind) {
    case RF_EVENT_TOKEN: on_token(g, ev); break;
    case RF_EVENT_PROMPT:
        if (g->a->quiet || !isatty(STDERR_FILENO) || ev->prompt_done >= ev->prompt_total) break;
        fprintf(stderr, "\rreading the prompt: %u of %u tokens ", ev->prompt_done, ev->prompt_total);
        g->prompt_shown = true;
        break;
    case RF_EVENT_FINISHED: g->end = *ev; break;
    case RF_EVENT_FAILED:
        g->end.kind = RF_EVENT_FAILED;
        g->error = *ev->error;
        break;
    case RF_EVENT_LOGITS:
    case RF_EVENT_EMBEDDING: break;
    }
}

static uint64_t choose_seed(int64_t asked) {
    if (asked >= 0) return (uint64_t)asked;
    uint32_t seed;
    if (getentropy(&seed, sizeof seed)) seed = (uint32_t)time(NULL);
    return seed; /* 32 bits, so that it is easily typed again */
}

static rf_request_params params_of(const args *a, int32_t *ids, size_t n_ids) {
    rf_request_params p = rf_request_defaults();
    p.tokens = ids;
    p.n_tokens = n_ids;
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

static double per_second(double n, int64_t us) { return us > 0 ? n * 1e6 / (double)us : 0; }

static const char *finish_name(rf_finish f) {
    return f == RF_FINISH_STOP ? "stop" : f == RF_FINISH_LENGTH ? "length" : "cancelled";
}

static json_t *warnings_of(const rf_model *m, const rf_engine *engine) {
    json_t *all = json_array();
    if (cli_beyond_training(m, engine))
        json_array_append_new(all, json_sprintf("context of %u tokens: the model was trained with %u",
                                                rf_engine_context(engine), rf_model_context_train(m)));
    return all;
}

static int print_result(run *g, rf_model *m, rf_engine *engine, uint64_t seed) {
    json_t *info = cli_json(rf_engine_info(engine));
    const rf_event *e = &g->end;
    uint32_t steps = e->n_predicted ? e->n_predicted - 1 : 0;
    json_t *v = json_pack(
        "{so so si ss sI s{sO sf sf sf sf} sO so}", "text", json_text(g->text ? g->text : "", g->n_text), "tokens",
        json_incref(g->tokens), "prompt_tokens", (int)e->n_prompt, "finish_reason", finish_name(e->finish), "seed",
        (json_int_t)seed, "timings", "load_ms", json_object_get(info, "load_ms"), "prompt_ms",
        (double)e->prompt_us / 1e3, "prompt_per_second", per_second(e->n_prompt, e->prompt_us), "predicted_ms",
        (double)e->predicted_us / 1e3, "predicted_per_second", per_second(steps, e->predicted_us), "device",
        json_object_get(info, "device"), "warnings", warnings_of(m, engine));
    if (g->logprobs && v) json_object_set(v, "logprobs", g->logprobs);
    json_decref(info);
    return cli_print_json(v);
}

static void print_summary(const rf_event *e, const args *a, uint64_t seed) {
    uint32_t steps = e->n_predicted ? e->n_predicted - 1 : 0;
    const char *end = e->finish == RF_FINISH_STOP     ? "the model ended, or a stop text came"
                      : e->finish == RF_FINISH_LENGTH ? "length reached"
                                                      : "cancelled";
    cli_note("prompt: %u token%s, %.1f t/s | generated: %u token%s, %.1f t/s | %s", e->n_prompt,
             e->n_prompt == 1 ? "" : "s", per_second(e->n_prompt, e->prompt_us), e->n_predicted,
             e->n_predicted == 1 ? "" : "s", per_second(steps, e->predicted_us), end);
    if (a->temperature > 0) cli_note("seed: %llu", (unsigned long long)seed);
}

static int finish(run *g, rf_model *m, rf_engine *engine, uint64_t seed) {
    const rf_event *e = &g->end;
    if (!g->a->json && !cli_put("\n", 1)) return EXIT_FAILED; /* nobody listens: say no more */
    if (e->kind == RF_EVENT_FAILED) return cli_fail(&g->error);
    int rc = g->a->json ? print_result(g, m, engine, seed) : 0;
    if (!g->a->json && !g->a->quiet) print_summary(e, g->a, seed);
    return rc ? rc : e->finish == RF_FINISH_CANCELLED ? EXIT_INTERRUPTED : EXIT_DONE;
}

static int generate(const args *a, rf_model *m, rf_engine *engine, const char *text, size_t n) {
    rf_error e;
    int32_t *ids = NULL;
    size_t n_ids = 0;
    unsigned flags = (a->no_bos ? RF_NO_SPECIAL : 0u) | (a->no_parse_special ? RF_NO_PARSE_SPECIAL : 0u);
    if (!rf_tokenize(m, text, n, flags, &ids, &n_ids, &e)) return cli_fail(&e);
    run g = {.a = a};
    if (a->json) g.tokens = json_array();
    if (a->json && a->top_logprobs >= 0) g.logprobs = json_array();
    rf_request_params p = params_of(a, ids, n_ids);
    bool ok = rf_request_start(&g.r, engine, &p, on_event, &g, &e);
    rf_free(ids);
    int rc = EXIT_FAILED;
    if (ok) {
        rf_request *r = g.r;
        cli_hold_interrupts(true); /* from here on the text stays, whenever they come */
        cli_on_interrupt(r);
        rf_request_wait(r);
        cli_on_interrupt(NULL);
        rc = g.failed_memory ? cli_error("memory.exhausted", "no memory for the text") : finish(&g, m, engine, p.seed);
        rf_request_free(r);
    } else {
        rc = cli_fail(&e);
    }
    json_decref(g.tokens);
    json_decref(g.logprobs);
    free(g.text);
    return rc;
}

int cmd_generate(const args *a) {
    rf_model *m = NULL;
    rf_engine *engine = NULL;
    size_t n = a->prompt ? strlen(a->prompt) : 0;
    char *read = NULL;
    if (a->prompt && a->file) return cli_usage("usage.argument", "give -p or -f, not both");
    if (a->stream && a->json) return cli_usage("usage.argument", "give --stream or --json, not both");
    int rc = cli_open_model(&m, a);
    if (!rc && !a->prompt) {
        if (!a->file && isatty(STDIN_FILENO)) cli_note("reading the text from standard input; end it with Ctrl-D");
        read = cli_read_all(a->file, &n);
        rc = read ? 0 : EXIT_FAILED;
    }
    rf_engine_options opt = cli_engine_options(a);
    if (!rc) rc = cli_open_engine(&engine, m, &opt, a);
    if (!rc) rc = generate(a, m, engine, a->prompt ? a->prompt : read, n);
    free(read);
    rf_engine_close(engine);
    rf_model_close(m);
    return rc;
}
