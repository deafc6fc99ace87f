#include "server/recall.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char heading[] = "Earlier messages that may help, oldest first:";

static bool no_memory(rf_error *e) {
    *e = (rf_error){"memory.exhausted", "Backend", 503, true, "no memory to recall messages"};
    return false;
}

/* --- what is asked ---------------------------------------------------------------------------------------------------- */

static str text_of(const json_t *v) { return (str){json_string_value(v), json_string_length(v)}; }

bool recall_question(const json_t *messages, strbuf *out) {
    const json_t *content = NULL;
    for (size_t i = json_array_size(messages); i-- > 0 && !content;) {
        const json_t *m = json_array_get(messages, i);
        const char *role = json_string_value(json_object_get(m, "role"));
        if (role && !strcmp(role, "user")) content = json_object_get(m, "content");
    }
    if (json_is_string(content)) strbuf_add(out, json_string_value(content), json_string_length(content));
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *text = json_object_get(json_array_get(content, i), "text");
        if (!json_is_string(text)) continue;
        if (out->n) strbuf_puts(out, "\n");
        strbuf_add(out, json_string_value(text), json_string_length(text));
    }
    return !out->failed;
}

static bool is_among(const json_t *messages, const rf_message *m) {
    const str own = {m->text, m->n_text};
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *content = json_object_get(json_array_get(messages, i), "content");
        if (json_is_string(content) && str_eq(text_of(content), own)) return true;
    }
    return false;
}

/* The same was said before: once is enough. */
static bool is_chosen(const rf_message *const *chosen, uint32_t n, const rf_message *m) {
    for (uint32_t i = 0; i < n; i++)
        if (str_eq((str){chosen[i]->text, chosen[i]->n_text}, (str){m->text, m->n_text})) return true;
    return false;
}

/* --- the note --------------------------------------------------------------------------------------------------------- */

static int by_time(const void *a, const void *b) {
    const rf_message *x = *(const rf_message *const *)a, *y = *(const rf_message *const *)b;
    if (x->time_us != y->time_us) return x->time_us < y->time_us ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static void write_note(const rf_message *const *chosen, uint32_t n, strbuf *out) {
    const rf_message *order[RECALL_MOST];
    memcpy(order, chosen, n * sizeof *order);
    qsort(order, n, sizeof *order, by_time);
    strbuf_clear(out);
    strbuf_puts(out, heading);
    for (uint32_t i = 0; i < n; i++) {
        char when[32] = "";
        struct tm t;
        const time_t s = (time_t)(order[i]->time_us / 1000000);
        if (gmtime_r(&s, &t)) strftime(when, sizeof when, "%Y-%m-%d %H:%M ", &t);
        strbuf_printf(out, "\n[%s%s] ", when, order[i]->role);
        strbuf_add(out, order[i]->text, order[i]->n_text);
    }
}

static bool count_tokens(const rf_model *m, const strbuf *b, size_t *n, rf_error *e) {
    int32_t *ids;
    if (b->failed) return no_memory(e);
    if (!rf_tokenize(m, b->p, b->n, RF_NO_SPECIAL | RF_NO_PARSE_SPECIAL, &ids, n, e)) return false;
    rf_free(ids);
    return true;
}

/* Best first, each whole: one that does not fit is passed over, later ones may be shorter. */
static bool choose(const rf_model *m, const recall_options *o, const rf_context_hits *hits, const json_t *messages,
                   recalled *out, rf_error *e) {
    enum { TOKEN_BYTES_MOST = 256 }; /* longer texts than that many a token are not worth counting */
    const rf_message *chosen[RECALL_MOST];
    strbuf trial = {0};
    bool ok = true;
    for (size_t i = 0; ok && i < hits->n && out->n < o->k; i++) {
        const rf_message *found = hits->hit[i].message;
        size_t n_tokens;
        if (found->n_text / TOKEN_BYTES_MOST > o->budget || is_among(messages, found) ||
            is_chosen(chosen, out->n, found))
            continue;
        chosen[out->n] = found;
        write_note(chosen, out->n + 1, &trial);
        ok = count_tokens(m, &trial, &n_tokens, e);
        if (!ok || n_tokens > o->budget) continue;
        out->id[out->n++] = found->id;
        out->n_tokens = (uint32_t)n_tokens;
    }
    if (ok && out->n) write_note(chosen, out->n, &out->note);
    strbuf_free(&trial);
    return ok && out->note.failed ? no_memory(e) : ok;
}

bool recall_find(rf_context *c, const rf_model *m, const recall_options *o, str question, const json_t *messages,
                 recalled *out, rf_error *e) {
    rf_context_hits *hits = NULL;
    rf_context_query q = {.text = question.p, .n_text = question.n, .k = o->k + (uint32_t)json_array_size(messages)};
    if (!question.n) return true;
    if (q.k > 1000) q.k = 1000;
    if (o->conversation[0]) q.conversation = o->conversation;
    bool ok = rf_context_search(c, &q, &hits, e);
    if (!ok && !strcmp(e->code, "request.context_length")) {
        q.mode = RF_CONTEXT_WORDS;
        ok = rf_context_search(c, &q, &hits, e);
    }
    if (ok) out->mode = hits->mode;
    ok = ok && choose(m, o, hits, messages, out, e);
    rf_context_hits_free(hits);
    return ok;
}

bool recall_put(json_t *messages, const recalled *r) {
    if (!r->note.n) return true;
    json_t *first = json_array_get(messages, 0), *content = json_object_get(first, "content");
    const char *role = json_string_value(json_object_get(first, "role"));
    if (!role || strcmp(role, "system") || !json_is_string(content))
        return !json_array_insert_new(
            messages, 0, json_pack("{ss so}", "role", "system", "content", json_text(r->note.p, r->note.n)));
    strbuf both = {0};
    strbuf_add(&both, json_string_value(content), json_string_length(content));
    if (both.n) strbuf_puts(&both, "\n\n");
    strbuf_add(&both, r->note.p, r->note.n);
    json_t *text = both.failed ? NULL : json_text(both.p, both.n);
    strbuf_free(&both);
    return !json_object_set_new(first, "content", text);
}

/* --- keeping ---------------------------------------------------------------------------------------------------------- */

bool recall_store(rf_context *c, const recall_options *o, str question, str answer, recalled *out, rf_error *e) {
    rf_message m[2] = {0};
    int64_t ids[2] = {0}, *where[2];
    size_t n = 0;
    const str text[2] = {question, answer};
    static const char *const roles[2] = {"user", "assistant"};
    for (int i = 0; i < 2; i++) {
        if (!text[i].n) continue;
        where[n] = &out->stored[i];
        m[n++] = (rf_message){.text = text[i].p,
                              .n_text = text[i].n,
                              .role = roles[i],
                              .conversation = o->conversation[0] ? o->conversation : NULL};
    }
    if (!n) return true;
    if (!rf_context_add(c, m, n, ids, e)) return false;
    for (size_t i = 0; i < n; i++) *where[i] = ids[i];
    return true;
}

/* --- what is told ----------------------------------------------------------------------------------------------------- */

const char *recall_mode_name(rf_context_mode m) {
    static const char *const names[] = {"auto", "vector", "words", "hybrid"};
    return (unsigned)m < 4 ? names[m] : "?";
}

json_t *recall_usage(const recall_options *o, const recalled *r) {
    json_t *ids = json_array(), *stored = o->store ? json_array() : NULL;
    for (uint32_t i = 0; i < r->n; i++) json_array_append_new(ids, json_integer(r->id[i]));
    for (int i = 0; stored && i < 2; i++)
        if (r->stored[i]) json_array_append_new(stored, json_integer(r->stored[i]));
    return json_pack("{si si so ss* so*}", "messages", (int)r->n, "tokens", (int)r->n_tokens, "ids", ids, "mode",
                     r->mode ? recall_mode_name(r->mode) : NULL, "stored", stored);
}

void recall_free(recalled *r) { strbuf_free(&r->note); }
