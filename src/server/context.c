#include "server/context.h"

#include "base/log.h"
#include "base/mem.h"
#include "server/context_json.h"

#include <stdio.h>
#include <string.h>

enum { MESSAGES_MOST = 1000 /* of one POST, of one page */, PAGE = 100 };

/* One request on its way: read on the loop, done on a thread, told on the loop. */
typedef struct call call;
struct call {
    app *app;
    bool (*work)(call *c); /* on a thread. false: `error` says why */
    json_t *reply;
    rf_error error;
    fields f; /* of a body: texts are borrowed from it */
    bool has_body, one;
    strbuf text[N_CONTEXT_PARAMS]; /* of the query */
    rf_context_query query;
    rf_context_filter filter;
    rf_message *messages;
    size_t n_messages;
    int64_t *ids;
};

static void drop(call *c) {
    if (!c) return;
    if (c->has_body) fields_close(&c->f);
    for (int i = 0; i < N_CONTEXT_PARAMS; i++) strbuf_free(&c->text[i]);
    context_messages_free(c->messages, c->n_messages);
    mem_free(c->ids);
    json_decref(c->reply);
    mem_free(c);
}

bool context_is_there(app *a, exchange *x) {
    if (a->opt->context) return true;
    reply_fail(x, 404, "request.not_found", NULL, "this server keeps no messages: start it with --context FILE");
    return false;
}

static call *open_call(app *a, exchange *x, bool (*work)(call *c)) {
    if (!context_is_there(a, x)) return NULL;
    call *c = mem_zalloc(sizeof *c);
    if (!c) {
        reply_fail(x, 503, "memory.exhausted", NULL, "no memory for another request");
        return NULL;
    }
    c->app = a;
    c->work = work;
    return c;
}

static void run(void *user) {
    call *c = user;
    if (!c->work(c) && !c->error.code[0]) c->error = (rf_error){"memory.exhausted", "Backend", 503, true, "no memory"};
}

static void done(void *user, exchange *x) {
    call *c = user;
    if (x && c->error.code[0]) {
        reply_error(x, &c->error, NULL);
    } else if (x) {
        reply_json(x, 200, c->reply);
        c->reply = NULL;
    }
    drop(c);
}

bool context_run(app *a, exchange *x, const worker_task *t) {
    if (workers_run(a->workers, x, t)) return true;
    reply_fail(x, 429, "request.queue_full", NULL, "too many requests wait for the context store");
    return false;
}

static void start(call *c, exchange *x) {
    if (!context_run(c->app, x, &(worker_task){.run = run, .done = done, .user = c})) drop(c);
}

/* The query's parameters; any that the route does not take is refused by name. */
static bool read_query(call *c, exchange *x, unsigned taken) {
    char message[160];
    const char *param = context_read_query(x, taken, c->text, message, sizeof message);
    if (param && *message)
        reply_fail(x, 400, "request.field", param, "%s", message);
    else if (param)
        reply_fail(x, 503, "memory.exhausted", NULL, "no memory for the query");
    return !param;
}

static const char *given(const call *c, context_param p) { return c->text[p].n ? c->text[p].p : NULL; }

static int64_t number(const call *c, context_param p, int64_t otherwise) {
    return c->text[p].n ? context_number(c->text[p].p) : otherwise;
}

static int64_t moment(const call *c, context_param p) { return c->text[p].n ? context_instant(c->text[p].p) : 0; }

/* --- vectors that are missing ------------------------------------------------------------------------------------------- */

typedef struct {
    app *app;
    bool more;
    rf_error error; /* code empty: none */
} catch_up;

static void embed_some(void *user) {
    enum { AT_ONCE = 32 };
    catch_up *u = user;
    rf_context_counts counts;
    size_t n = 0;
    bool ok = rf_context_stats(u->app->opt->context, &counts, &u->error);
    if (ok && counts.n_unembedded) ok = rf_context_embed(u->app->opt->context, AT_ONCE, &n, &u->error);
    u->more = ok && n == AT_ONCE;
}

/* What cannot be embedded now stays as it is: found by its words, and counted by /context/stats. */
static void embedded_some(void *user, exchange *x) {
    (void)x;
    catch_up *u = user;
    if (u->error.code[0])
        log_event(LOG_WARN, "server", "messages without a vector stay so",
                  (log_field[]){log_s("code", u->error.code), log_s("message", u->error.message), {0}});
    if (!u->more || u->app->draining ||
        !workers_run(u->app->workers, NULL, &(worker_task){.run = embed_some, .done = embedded_some, .user = u}))
        mem_free(u);
}

void context_catch_up(app *a) {
    catch_up *u = mem_zalloc(sizeof *u);
    if (!u) return;
    u->app = a;
    if (!workers_run(a->workers, NULL, &(worker_task){.run = embed_some, .done = embedded_some, .user = u}))
        mem_free(u);
}

/* --- GET /context/search ---------------------------------------------------------------------------------------------- */

static bool search(call *c) {
    rf_context_hits *hits;
    if (!rf_context_search(c->app->opt->context, &c->query, &hits, &c->error)) return false;
    c->reply = context_hits_json(hits, (str){c->query.text, c->query.n_text});
    rf_context_hits_free(hits);
    return c->reply != NULL;
}

static void run_search(app *a, exchange *x) {
    call *c = open_call(a, x, search);
    if (!c) return;
    if (!read_query(c, x,
                    1u << CONTEXT_Q | 1u << CONTEXT_K | 1u << CONTEXT_EXPAND | 1u << CONTEXT_MODE | CONTEXT_FILTERS)) {
        drop(c);
        return;
    }
    if (!c->text[CONTEXT_Q].n) {
        reply_fail(x, 400, "request.field", "q", "q is missing: what is to be found?");
        drop(c);
        return;
    }
    c->query = (rf_context_query){.text = c->text[CONTEXT_Q].p,
                                  .n_text = c->text[CONTEXT_Q].n,
                                  .k = (uint32_t)number(c, CONTEXT_K, 5),
                                  .expand = (uint32_t)number(c, CONTEXT_EXPAND, 0),
                                  .mode = context_mode(given(c, CONTEXT_MODE)),
                                  .conversation = given(c, CONTEXT_CONVERSATION),
                                  .role = given(c, CONTEXT_ROLE),
                                  .from_us = moment(c, CONTEXT_SINCE),
                                  .until_us = moment(c, CONTEXT_UNTIL)};
    start(c, x);
}

/* --- POST /context/messages ------------------------------------------------------------------------------------------- */

static bool add(call *c) {
    if (!rf_context_add(c->app->opt->context, c->messages, c->n_messages, c->ids, &c->error)) return false;
    json_t *ids = json_array();
    bool ok = ids != NULL;
    for (size_t i = 0; ok && i < c->n_messages; i++) ok = !json_array_append_new(ids, json_integer(c->ids[i]));
    c->reply = json_pack("{so sI}", "ids", ids, "count", (json_int_t)c->n_messages);
    if (c->one && json_object_set_new(c->reply, "id", json_integer(c->ids[0]))) ok = false;
    return ok && c->reply;
}

/* A body that is a list is taken as {"messages": list}. */
static void parse_body(call *c, exchange *x) {
    strbuf b = {0};
    size_t at = 0;
    while (at < x->body.n && strchr(" \t\r\n", x->body.p[at]) && x->body.p[at]) at++;
    const bool list = at < x->body.n && x->body.p[at] == '[';
    if (list) {
        strbuf_puts(&b, "{\"messages\":");
        strbuf_add(&b, x->body.p, x->body.n);
        strbuf_puts(&b, "}");
    }
    const bool lost = list && b.failed;
    str body = list ? (str){b.p, b.n} : x->body;
    fields_parse(&c->f, exchange_header(x, "content-type"), lost ? str_of("{}") : body);
    if (lost) fields_no_memory(&c->f, "the body");
    strbuf_free(&b);
    c->f.x = x;
    c->f.app = c->app;
    c->has_body = true;
}

static void read_messages(call *c) {
    fields *f = &c->f;
    json_t *list = f->failed ? NULL : fields_any(f, "messages");
    const size_t n = list ? json_array_size(list) : 1;
    c->one = !list;
    if (f->failed) return;
    if (list && (!json_is_array(list) || n == 0 || n > MESSAGES_MOST)) {
        fields_bad(f, "messages", "must be a list of 1 to %d", MESSAGES_MOST);
        return;
    }
    c->messages = mem_array(n, sizeof *c->messages);
    c->ids = mem_array(n, sizeof *c->ids);
    if (!c->messages || !c->ids) {
        fields_no_memory(f, "the messages");
        return;
    }
    c->n_messages = n;
    for (size_t i = 0; i < n && !f->failed; i++)
        context_read_message(f, list ? json_array_get(list, i) : f->body, list != NULL, i, &c->messages[i]);
}

static void run_add(app *a, exchange *x) {
    call *c = open_call(a, x, add);
    if (!c) return;
    parse_body(c, x);
    read_messages(c);
    if (fields_finish(&c->f))
        start(c, x);
    else
        drop(c);
}

/* --- GET /context/messages[/ID], /context/stats ------------------------------------------------------------------------- */

static bool list(call *c) {
    rf_messages *found;
    if (!rf_context_list(c->app->opt->context, &c->filter, &found, &c->error)) return false;
    c->reply = context_list_json(found);
    rf_messages_free(found);
    return c->reply != NULL;
}

static void run_list(app *a, exchange *x) {
    call *c = open_call(a, x, list);
    if (!c) return;
    if (!read_query(c, x, 1u << CONTEXT_LIMIT | 1u << CONTEXT_AFTER | 1u << CONTEXT_ORDER | CONTEXT_FILTERS)) {
        drop(c);
        return;
    }
    c->filter =
        (rf_context_filter){.conversation = given(c, CONTEXT_CONVERSATION),
                            .role = given(c, CONTEXT_ROLE),
                            .from_us = moment(c, CONTEXT_SINCE),
                            .until_us = moment(c, CONTEXT_UNTIL),
                            .after = number(c, CONTEXT_AFTER, 0),
                            .limit = (uint32_t)number(c, CONTEXT_LIMIT, PAGE),
                            .newest_first = given(c, CONTEXT_ORDER) && !strcmp(given(c, CONTEXT_ORDER), "desc")};
    start(c, x);
}

static bool not_found(call *c) {
    c->error = (rf_error){"request.not_found", "User", 404, false, "no message of this id is kept"};
    return false;
}

static bool get(call *c) {
    rf_messages *found;
    if (!rf_context_get(c->app->opt->context, c->ids, 1, &found, &c->error)) return false;
    const bool there = found->n == 1;
    if (there) c->reply = context_message_json(&found->item[0]);
    rf_messages_free(found);
    return there ? c->reply != NULL : not_found(c);
}

static bool delete_one(call *c) {
    size_t n;
    if (!rf_context_delete(c->app->opt->context, c->ids, 1, &n, &c->error)) return false;
    if (n == 0) return not_found(c);
    c->reply = json_pack("{sI}", "deleted", (json_int_t)n);
    return c->reply != NULL;
}

/* The path's last part is an id: a number from 1. */
static void run_one(app *a, exchange *x, bool (*work)(call *c)) {
    call *c = open_call(a, x, work);
    if (!c) return;
    if (!read_query(c, x, 0)) {
        drop(c);
        return;
    }
    char text[24];
    snprintf(text, sizeof text, "%.*s", (int)(x->param.n < 20 ? x->param.n : 20), x->param.p);
    const int64_t id = context_number(text);
    c->ids = mem_alloc(sizeof *c->ids);
    if (!c->ids || id < 1) {
        if (c->ids)
            reply_fail(x, 404, "request.not_found", NULL, "no message of this id is kept: ids are numbers from 1");
        else
            reply_fail(x, 503, "memory.exhausted", NULL, "no memory for another request");
        drop(c);
        return;
    }
    c->ids[0] = id;
    start(c, x);
}

static void run_get(app *a, exchange *x) { run_one(a, x, get); }
static void run_delete(app *a, exchange *x) { run_one(a, x, delete_one); }

static bool stats(call *c) {
    rf_context_counts s;
    if (!rf_context_stats(c->app->opt->context, &s, &c->error)) return false;
    c->reply =
        json_pack("{sI sI sI sI sI sI sI ss sI sI sI}", "messages", (json_int_t)s.n_messages, "conversations",
                  (json_int_t)s.n_conversations, "edges", (json_int_t)s.n_edges, "vectors", (json_int_t)s.n_vectors,
                  "vectors_of_other_models", (json_int_t)s.n_others, "without_vector", (json_int_t)s.n_unembedded,
                  "dimensions", (json_int_t)s.n_embd, "index", s.index, "indexed", (json_int_t)s.n_indexed,
                  "indexed_and_deleted", (json_int_t)s.n_index_deleted, "file_bytes", (json_int_t)s.file_bytes);
    return c->reply != NULL;
}

static void run_stats(app *a, exchange *x) {
    call *c = open_call(a, x, stats);
    if (c && read_query(c, x, 0))
        start(c, x);
    else
        drop(c);
}

/* --- DELETE /context/messages ----------------------------------------------------------------------------------------- */

static bool clear(call *c) {
    size_t n;
    if (!rf_context_clear(c->app->opt->context, c->filter.conversation, &n, &c->error)) return false;
    c->reply = json_pack("{sI}", "deleted", (json_int_t)n);
    return c->reply != NULL;
}

static void run_clear(app *a, exchange *x) {
    call *c = open_call(a, x, clear);
    if (!c) return;
    bool ok = read_query(c, x, 1u << CONTEXT_ALL | 1u << CONTEXT_CONVERSATION);
    const bool all = ok && given(c, CONTEXT_ALL) && context_number(given(c, CONTEXT_ALL)) == 1;
    c->filter.conversation = given(c, CONTEXT_CONVERSATION);
    if (ok && all == (c->filter.conversation != NULL)) {
        reply_fail(x, 400, "request.field", "all",
                   all ? "give all=true or conversation=NAME, not both"
                       : "to delete every message give all=true, to delete a conversation conversation=NAME");
        ok = false;
    }
    if (ok)
        start(c, x);
    else
        drop(c);
}

const route context_routes[] = {
    {.method = "GET", .path = "/context/search", .run = run_search, .generates = true},
    {.method = "POST", .path = "/context/messages", .run = run_add, .generates = true},
    {.method = "GET", .path = "/context/messages", .run = run_list, .generates = true},
    {.method = "DELETE", .path = "/context/messages", .run = run_clear, .generates = true},
    {.method = "GET", .path = "/context/messages/{id}", .run = run_get, .generates = true},
    {.method = "DELETE", .path = "/context/messages/{id}", .run = run_delete, .generates = true},
    {.method = "GET", .path = "/context/stats", .run = run_stats, .generates = true},
    {.path = NULL}};
