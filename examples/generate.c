/* A program that continues a text, from opening the model to printing what it says as it comes. Build and run:
 *
 *     cc -o generate generate.c $(pkg-config --cflags --libs rocmforge)
 *     ./generate MODEL.gguf "The capital of France is" 16
 */
#include <rocmforge.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    rf_error error; /* filled when the request failed */
    bool failed;
} outcome;

/* Called on the engine's thread. What the event points to lives until this returns. */
static void on_event(void *user, const rf_event *ev) {
    outcome *o = user;
    if (ev->kind == RF_EVENT_TOKEN) {
        fwrite(ev->text, 1, ev->n_text, stdout);
        fflush(stdout);
    } else if (ev->kind == RF_EVENT_FINISHED) {
        fprintf(stderr, "\n[%u tokens read, %u made]\n", ev->n_prompt, ev->n_predicted);
    } else if (ev->kind == RF_EVENT_FAILED) {
        o->failed = true;
        o->error = *ev->error;
    }
}

/* Everything between opening and closing: the prompt's tokens, one request, its end. */
static bool answer(const rf_model *m, rf_engine *g, const char *text, long n, rf_error *e) {
    int32_t *ids;
    size_t n_ids;
    if (!rf_tokenize(m, text, strlen(text), 0, &ids, &n_ids, e)) return false;
    rf_request_params p = rf_request_defaults();
    p.tokens = ids;
    p.n_tokens = n_ids;
    p.max_tokens = n;
    p.temperature = 0; /* the likeliest token each time */
    outcome o = {.failed = false};
    rf_request *r;
    bool ok = rf_request_start(&r, g, &p, on_event, &o, e);
    rf_free(ids); /* the request keeps its own copy */
    if (!ok) return false;
    rf_request_wait(r);
    rf_request_free(r);
    if (o.failed) *e = o.error;
    return !o.failed;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: %s MODEL.gguf TEXT [N]\n", argv[0]);
        return 2;
    }
    rf_error e;
    rf_model *m = NULL;
    rf_engine *g = NULL;
    rf_engine_options options = {.context = 2048}; /* the rest: defaults */
    bool ok = rf_model_open(&m, argv[1], &e) && rf_engine_open(&g, m, &options, &e) &&
              answer(m, g, argv[2], argc > 3 ? atol(argv[3]) : 64, &e);
    if (!ok) fprintf(stderr, "error[%s]: %s\n", e.code, e.message);
    rf_engine_close(g); /* NULL is fine */
    rf_model_close(m);
    return ok ? 0 : 1;
}
