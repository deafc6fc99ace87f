/* rocmforge embed: texts to vectors, or pairs of a query and a document to scores. Many run in the engine at once, the results
 * come in the order of the texts. */
#include "base/json.h"
#include "base/str.h"
#include "cli/cli.h"
#include "server/vector.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PARALLEL_DEFAULT = 16, ROWS_A_STEP = 64, CONTEXT_DEFAULT = 8192, PAGE_MOST = 64 };

typedef struct {
    str text; /* borrowed from the input */
    int32_t *ids;
    size_t n_ids;
    bool cut;
} item;

/* A request's place while it runs. What the engine's thread writes is read after rf_request_wait. */
typedef struct {
    rf_request *r;
    float *row; /* NULL: none came */
    uint32_t n;
    bool failed, ended;
    rf_error error;
} place;

typedef struct {
    const args *a;
    rf_model *m;
    rf_engine *engine;
    rf_pooling pooling; /* never RF_POOLING_MODEL */
    size_t most;        /* tokens of a text */
    char *input;        /* what `text` points into; NULL: the arguments */
    item *items;
    size_t n_items, n_tokens, n_cut;
    json_t *data; /* --json: what came so far */
} run;

/* --- the texts -------------------------------------------------------------------------------------------------------- */

static int add_item(run *e, str text) {
    if (text.n == 0) return cli_usage("usage.range", "text %zu is empty: it has no vector", e->n_items + 1);
    e->items[e->n_items++].text = text;
    return 0;
}

static int split_lines(run *e, str all) {
    size_t most = 1;
    for (size_t i = 0; i < all.n; i++) most += all.p[i] == '\n';
    e->items = calloc(most, sizeof *e->items);
    if (!e->items) return cli_error("memory.exhausted", "no memory for %zu texts", most);
    int rc = 0;
    for (size_t at = 0; !rc && at < all.n;) {
        const char *end = memchr(all.p + at, '\n', all.n - at);
        size_t n = end ? (size_t)(end - all.p) - at : all.n - at, next = at + n + 1;
        if (n && all.p[at + n - 1] == '\r') n--;
        rc = add_item(e, (str){all.p + at, n});
        at = next;
    }
    return rc;
}

static int read_texts(run *e) {
    const args *a = e->a;
    if (a->prompt) {
        e->items = calloc(1, sizeof *e->items);
        return e->items ? add_item(e, str_of(a->prompt)) : cli_error("memory.exhausted", "no memory for a text");
    }
    size_t n;
    if (!a->file && isatty(STDIN_FILENO))
        cli_note("reading texts from standard input, one a line; end them with Ctrl-D");
    e->input = cli_read_all(a->file, &n);
    int rc = e->input ? split_lines(e, (str){e->input, n}) : EXIT_FAILED;
    return rc || e->n_items ? rc : cli_usage("usage.argument", "no text was given");
}

static bool tokenize(const run *e, item *it, str *cut_from, rf_error *why) {
    *cut_from = it->text;
    if (e->pooling != RF_POOLING_RANK) return rf_tokenize(e->m, it->text.p, it->text.n, 0, &it->ids, &it->n_ids, why);
    const char *tab = memchr(it->text.p, '\t', it->text.n);
    const size_t n_query = (size_t)(tab - it->text.p);
    *cut_from = (str){tab + 1, it->text.n - n_query - 1};
    return rf_tokenize_pair(e->m, it->text.p, n_query, cut_from->p, cut_from->n, &it->ids, &it->n_ids, why);
}

static int prepare_one(run *e, size_t i) {
    item *it = &e->items[i];
    str text;
    rf_error why;
    const bool pair = e->pooling == RF_POOLING_RANK;
    if (pair && !memchr(it->text.p, '\t', it->text.n))
        return cli_usage("usage.range", "text %zu has no tab: to rank, give QUERY<tab>DOCUMENT", i + 1);
    if (!tokenize(e, it, &text, &why)) return cli_fail(&why);
    if (it->n_ids > e->most && !e->a->truncate)
        return cli_error("request.context_length", "text %zu has %zu tokens, the context %zu; --truncate cuts it",
                         i + 1, it->n_ids, e->most);
    it->cut = it->n_ids > e->most;
    if (it->cut && !vector_truncate(e->m, text, pair, it->ids, &it->n_ids, e->most, &why)) return cli_fail(&why);
    e->n_cut += it->cut;
    e->n_tokens += it->n_ids;
    return 0;
}

/* --- results ---------------------------------------------------------------------------------------------------------- */

static json_t *entry_of(const run *e, size_t i, json_t *row) {
    json_t *v = json_pack("{sI so sI}", "index", (json_int_t)i, e->pooling == RF_POOLING_RANK ? "scores" : "embedding",
                          row, "tokens", (json_int_t)e->items[i].n_ids);
    if (v && e->items[i].cut) json_object_set_new(v, "truncated", json_true());
    return v;
}

static int put_row(run *e, size_t i, place *p) {
    const size_t asked = (size_t)e->a->dimensions, n = asked && asked < p->n ? asked : p->n;
    if (e->pooling != RF_POOLING_RANK && (e->a->normalize || !e->a->no_normalize)) vector_normalize(p->row, n);
    json_t *row = vector_json(p->row, n);
    if (!e->a->json) return cli_print_json(row);
    return row && !json_array_append_new(e->data, entry_of(e, i, row)) ? 0 : cli_error("memory.exhausted", "no memory");
}

static int print_document(run *e) {
    json_t *v =
        json_pack("{ss ss sO s{sI sI}}", "model", e->a->model, "pooling", vector_pooling_name(e->pooling), "data",
                  e->data, "usage", "prompt_tokens", (json_int_t)e->n_tokens, "total_tokens", (json_int_t)e->n_tokens);
    return cli_print_json(v);
}

/* --- the engine ------------------------------------------------------------------------------------------------------- */

static void on_event(void *user, const rf_event *ev) {
    place *p = user;
    if (ev->kind == RF_EVENT_EMBEDDING && (p->row = malloc(ev->n_embd * sizeof *p->row))) {
        memcpy(p->row, ev->row, ev->n_embd * sizeof *p->row);
        p->n = ev->n_embd;
    }
    if (ev->kind == RF_EVENT_FAILED) p->failed = true, p->error = *ev->error;
}

static int start(run *e, size_t i, place *p) {
    rf_error why;
    rf_request_params q = rf_request_defaults();
    q.tokens = e->items[i].ids;
    q.n_tokens = e->items[i].n_ids;
    q.embedding = true;
    q.pooling = e->pooling;
    *p = (place){0};
    return rf_request_start(&p->r, e->engine, &q, on_event, p, &why) ? 0 : cli_fail(&why);
}

static int finish(run *e, size_t i, place *p) {
    cli_on_interrupt(p->r);
    rf_request_wait(p->r);
    cli_on_interrupt(NULL);
    int rc = cli_interrupted() ? EXIT_INTERRUPTED : p->failed ? cli_fail(&p->error) : 0;
    if (!rc && !p->row) rc = cli_error("memory.exhausted", "no memory for a vector");
    return rc ? rc : put_row(e, i, p);
}

static void clear(place *p) {
    rf_request_free(p->r);
    free(p->row);
    *p = (place){0};
}

static int run_all(run *e) {
    const size_t window = 2 * (size_t)(e->a->parallel ? e->a->parallel : PARALLEL_DEFAULT);
    place *places = calloc(window, sizeof *places);
    int rc = places ? 0 : cli_error("memory.exhausted", "no memory for %zu requests", window);
    size_t started = 0;
    for (size_t i = 0; !rc && i < e->n_items; i++) {
        for (; !rc && started < e->n_items && started < i + window; started++)
            rc = start(e, started, &places[started % window]);
        if (!rc) rc = finish(e, i, &places[i % window]);
        clear(&places[i % window]);
    }
    for (size_t k = 0; places && k < window; k++) clear(&places[k]);
    free(places);
    return rc;
}

/* --- the command ------------------------------------------------------------------------------------------------------ */

static int check_options(run *e) {
    const args *a = e->a;
    rf_pooling asked = RF_POOLING_MODEL;
    if (a->prompt && a->file) return cli_usage("usage.argument", "give -p or -f, not both");
    if (a->pooling && !vector_read_pooling(a->pooling, &asked))
        return cli_usage("usage.range", "--pooling %.80s: give model, mean, cls, last or rank", a->pooling);
    int rc = cli_open_model(&e->m, a);
    if (rc) return rc;
    e->pooling = asked ? asked : rf_model_pooling(e->m);
    if (e->pooling == RF_POOLING_RANK && !rf_model_n_scores(e->m))
        return cli_usage("usage.argument", "this model has no rank head: --pooling rank needs one");
    const uint32_t n = rf_model_n_embd(e->m), least = a->dimensions ? vector_least_dimensions(e->m) : 0;
    if (!a->dimensions || a->dimensions == n) return 0;
    if (e->pooling == RF_POOLING_RANK) return cli_usage("usage.argument", "--dimensions: scores are not vectors");
    if (!least)
        return cli_usage("usage.range",
                         "--dimensions: this model's vectors have %u numbers and were not trained to be cut", n);
    if (a->dimensions < least || a->dimensions > n)
        return cli_usage("usage.range", "--dimensions: give %u to %u for this model", least, n);
    return 0;
}

/* Room for as many texts as run at once: the longest there are, not the longest there could be. */
static int open_engine(run *e) {
    rf_engine_options o = cli_engine_options(e->a);
    size_t longest = 1;
    for (size_t i = 0; i < e->n_items; i++)
        if (e->items[i].n_ids > longest) longest = e->items[i].n_ids;
    if (!o.parallel) o.parallel = PARALLEL_DEFAULT;
    const uint64_t all = (uint64_t)o.parallel * (longest + PAGE_MOST);
    o.context = (uint32_t)e->most;
    o.kv_tokens = (uint32_t)(all > e->most ? all < UINT32_MAX ? all : UINT32_MAX : e->most);
    o.logits_rows = o.parallel > ROWS_A_STEP ? o.parallel : ROWS_A_STEP;
    return cli_open_engine(&e->engine, e->m, &o, e->a);
}

static size_t most_tokens(const run *e) {
    const uint32_t train = rf_model_context_train(e->m);
    if (e->a->context) return (size_t)e->a->context;
    return train && train < CONTEXT_DEFAULT ? train : CONTEXT_DEFAULT;
}

static int embed(run *e) {
    int rc = check_options(e);
    if (!rc) rc = read_texts(e);
    if (!rc) e->most = most_tokens(e);
    for (size_t i = 0; !rc && i < e->n_items; i++) rc = prepare_one(e, i);
    if (!rc && e->n_cut && !e->a->quiet) cli_note("cut to %zu tokens: %zu of %zu texts", e->most, e->n_cut, e->n_items);
    if (!rc) rc = open_engine(e);
    if (!rc) rc = run_all(e);
    return rc || !e->a->json ? rc : print_document(e);
}

int cmd_embed(const args *a) {
    run e = {.a = a, .data = json_array()};
    int rc = embed(&e);
    rf_engine_close(e.engine);
    for (size_t i = 0; i < e.n_items; i++) rf_free(e.items[i].ids);
    free(e.items);
    free(e.input);
    json_decref(e.data);
    rf_model_close(e.m);
    return rc;
}
