/* Recall in a chat: the field `context`, what is found before the model answers, and what is kept after it did. */
#include "server/context.h"
#include "server/openai_call.h"

#include <string.h>

/* --- the field -------------------------------------------------------------------------------------------------------- */

static void read_count(openai_call *c, const json_t *v, const char *name, int64_t lo, int64_t hi, uint32_t *out) {
    if (!json_is_integer(v) || json_integer_value(v) < lo || json_integer_value(v) > hi)
        fields_bad(&c->f, name, "must be a whole number of %lld to %lld", (long long)lo, (long long)hi);
    else
        *out = (uint32_t)json_integer_value(v);
}

static void read_name(openai_call *c, const json_t *v) {
    const str name = {json_string_value(v), json_string_length(v)};
    if (!json_is_string(v) || !http_is_id(name))
        fields_bad(&c->f, "context.conversation", "must be a name of letters, digits, '.', '_' and '-', at most 128");
    else
        memcpy(c->recall.conversation, name.p, name.n);
}

void openai_context_read(openai_call *c) {
    json_t *v = fields_any(&c->f, "context"), *value;
    const char *key;
    if (!v) return;
    if (!c->app->opt->context)
        fields_bad(&c->f, "context", ": this server keeps no messages: start it with --context FILE");
    else if (!json_is_object(v))
        fields_bad(&c->f, "context", "must be an object: recall, budget_tokens, conversation, store");
    c->recall.budget = RECALL_BUDGET;
    json_object_foreach(v, key, value) {
        if (json_is_null(value)) continue;
        if (!strcmp(key, "recall")) {
            read_count(c, value, "context.recall", 0, RECALL_MOST, &c->recall.k);
        } else if (!strcmp(key, "budget_tokens")) {
            read_count(c, value, "context.budget_tokens", 1, INT32_MAX, &c->recall.budget);
        } else if (!strcmp(key, "conversation")) {
            read_name(c, value);
        } else if (!strcmp(key, "store")) {
            if (!json_is_boolean(value)) fields_bad(&c->f, "context.store", "must be true or false");
            c->recall.store = json_is_true(value);
        } else {
            fields_bad(&c->f, "context", "knows recall, budget_tokens, conversation and store only");
        }
    }
}

/* --- before the answer ------------------------------------------------------------------------------------------------ */

/* On a thread; nobody else touches the call meanwhile. */
static void find(void *user) {
    openai_call *c = user;
    strbuf question = {0};
    json_t *messages = json_object_get(c->variables, "messages");
    c->error = (rf_error){"memory.exhausted", "Backend", 503, true, "no memory to recall messages"};
    if (recall_question(messages, &question) &&
        recall_find(c->app->opt->context, c->app->model, &c->recall, (str){question.p, question.n}, messages,
                    &c->recalled, &c->error) &&
        recall_put(messages, &c->recalled))
        c->error.code[0] = 0;
    strbuf_free(&question);
}

static void found(void *user, exchange *x) {
    openai_call *c = user;
    const bool ok = x && !c->error.code[0];
    if (x && !ok) reply_error(x, &c->error, "context");
    if (ok)
        c->then(c);
    else
        openai_call_drop(c);
}

void openai_context_find(openai_call *c, void (*then)(openai_call *c)) {
    c->then = then;
    if (!c->recall.k)
        then(c);
    else if (!context_run(c->app, c->x, &(worker_task){.run = find, .done = found, .user = c}))
        openai_call_drop(c);
}

/* --- after it --------------------------------------------------------------------------------------------------------- */

static void keep(void *user) {
    openai_call *c = user;
    strbuf question = {0};
    const strbuf *answer = &c->answer;
    c->error = (rf_error){"memory.exhausted", "Backend", 503, true, "no memory to keep the messages"};
    if (!answer->failed && recall_question(json_object_get(c->variables, "messages"), &question) &&
        recall_store(c->app->opt->context, &c->recall, (str){question.p, question.n}, (str){answer->p, answer->n},
                     &c->recalled, &c->error))
        c->error.code[0] = 0;
    strbuf_free(&question);
}

static void kept(void *user, exchange *x) {
    openai_call *c = user;
    c->x = x;
    if (x) c->then(c);
    openai_call_drop(c);
}

bool openai_context_keep(openai_call *c, exchange *x, void (*then)(openai_call *c)) {
    c->then = then;
    c->error.code[0] = 0;
    if (workers_run(c->app->workers, x, &(worker_task){.run = keep, .done = kept, .user = c, .always = true}))
        return true;
    c->error =
        (rf_error){"request.queue_full", "Recoverable", 429, true, "too many requests wait for the context store"};
    return false;
}

json_t *openai_context_usage(const openai_call *c) {
    json_t *v = recall_usage(&c->recall, &c->recalled);
    if (v && c->recall.store && c->error.code[0])
        json_object_set_new(v, "error", json_pack("{ss ss}", "code", c->error.code, "message", c->error.message));
    return v;
}
