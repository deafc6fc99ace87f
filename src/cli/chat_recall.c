/* chat --context: earlier messages put before the model, and each turn kept. */
#include "cli/chat.h"

#include "server/http_parser.h"

#include <string.h>

int chat_open_store(chat *c) {
    const args *a = &c->a;
    if (!a->context_db && (a->recall || a->recall_tokens || a->conversation))
        return cli_usage("usage.argument", "--recall, --recall-tokens and --conversation need --context FILE");
    if (a->recall_tokens && !a->recall) return cli_usage("usage.argument", "--recall-tokens needs --recall N");
    if (a->conversation && !http_is_id(str_of(a->conversation)))
        return cli_usage("usage.range", "--conversation %.140s: give at most 128 of letters, digits, '.', '_' and '-'",
                         a->conversation);
    c->recall = (recall_options){.k = (uint32_t)a->recall,
                                 .budget = (uint32_t)(a->recall_tokens ? a->recall_tokens : RECALL_BUDGET),
                                 .store = a->context_db != NULL};
    if (a->conversation) memcpy(c->recall.conversation, a->conversation, strlen(a->conversation));
    return cli_store_open(&c->store, a, c->m, c->g);
}

bool chat_recall(chat *c, json_t *messages, rf_error *e) {
    strbuf question = {0};
    const int64_t kept[2] = {c->recalled.stored[0], c->recalled.stored[1]};
    recall_free(&c->recalled);
    c->recalled = (recalled){.stored = {kept[0], kept[1]}};
    if (!c->recall.k) return true;
    bool ok = recall_question(messages, &question) &&
              recall_find(c->store.c, c->m, &c->recall, (str){question.p, question.n}, messages, &c->recalled, e) &&
              recall_put(messages, &c->recalled);
    strbuf_free(&question);
    if (ok && c->recalled.n && !c->a.quiet)
        cli_note("recalled: %u message%s, %u tokens", c->recalled.n, c->recalled.n == 1 ? "" : "s",
                 c->recalled.n_tokens);
    return ok;
}

/* Another answer to the same question takes the first one's place. */
static bool forget(chat *c, rf_error *e) {
    int64_t *id = c->recalled.stored, ids[2];
    size_t n = 0;
    for (int i = 0; i < 2; i++)
        if (c->n_regen && id[i]) ids[n++] = id[i];
    id[0] = id[1] = 0;
    return !n || rf_context_delete(c->store.c, ids, n, NULL, e);
}

int chat_keep(chat *c, json_t *messages, answer *w) {
    strbuf question = {0};
    rf_error e = {.code = "memory.exhausted", .message = "no memory to keep the messages"};
    if (!c->store.c || w->failed || w->finish == RF_FINISH_CANCELLED) return 0;
    bool ok = recall_question(messages, &question) && forget(c, &e) &&
              recall_store(c->store.c, &c->recall, (str){question.p, question.n}, (str){w->text.p, w->text.n},
                           &c->recalled, &e);
    strbuf_free(&question);
    w->recall = recall_usage(&c->recall, &c->recalled);
    return ok ? 0 : cli_fail(&e);
}
