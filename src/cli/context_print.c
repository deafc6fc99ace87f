#include "cli/context_print.h"

#include "base/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* --- JSON ------------------------------------------------------------------------------------------------------------- */

static json_t *edges_of(const rf_message *m) {
    json_t *all = json_array();
    for (size_t i = 0; i < m->n_edges; i++)
        json_array_append_new(all, json_pack("{ss sI}", "name", m->edges[i].name, "to", (json_int_t)m->edges[i].to));
    return all;
}

static json_t *message_json(const rf_message *m) {
    json_t *metadata = json_loads(m->metadata, 0, NULL);
    return json_pack("{sI so ss ss sI sf so* so}", "id", (json_int_t)m->id, "text", json_text(m->text, m->n_text),
                     "role", m->role, "conversation", m->conversation, "seq_id", (json_int_t)m->seq, "timestamp",
                     (double)m->time_us / 1e6, "metadata", metadata, "edges", edges_of(m));
}

static json_t *ways_of(unsigned found_by) {
    static const char *const name[] = {"vector", "words", "edge"};
    json_t *all = json_array();
    for (unsigned i = 0; i < 3; i++)
        if (found_by & 1u << i) json_array_append_new(all, json_string(name[i]));
    return all;
}

static json_t *hit_json(const rf_context_hit *h) {
    json_t *v = message_json(h->message);
    bool known = !isnan(h->similarity);
    if (!v) return NULL;
    json_object_set_new(v, "similarity", known ? json_real((double)h->similarity) : json_null());
    json_object_set_new(v, "score", json_real(h->score));
    json_object_set_new(v, "found_by", ways_of(h->found_by));
    if (!h->near_id) return v;
    json_object_set_new(v, "near_id", json_integer(h->near_id));
    json_object_set_new(v, "steps", json_integer(h->steps));
    return v;
}

/* A time in microseconds has 16 digits: more than cli_print_json keeps. Takes v. */
static int print_json(json_t *v) {
    strbuf text = {0};
    status s = v ? json_write(v, &text, NULL) : ERR_NOMEM;
    strbuf_puts(&text, "\n");
    if (!s && !text.failed) cli_put(text.p, text.n);
    const bool ok = !s && !text.failed;
    strbuf_free(&text);
    json_decref(v);
    return ok ? EXIT_DONE : cli_error("memory.exhausted", "no memory for the output");
}

/* --- lines ------------------------------------------------------------------------------------------------------------ */

/* On one line, whatever it holds: as a JSON string. */
static bool print_text(const rf_message *m) {
    json_t *v = json_text(m->text, m->n_text);
    char *quoted = v ? json_dumps(v, JSON_ENCODE_ANY) : NULL;
    json_decref(v);
    if (!quoted) return false;
    printf("%s", quoted);
    rf_free(quoted);
    return true;
}

static int no_memory(void) { return cli_error("memory.exhausted", "no memory for the output"); }

static int print_hit(const rf_context_hit *h) {
    char similarity[16];
    snprintf(similarity, sizeof similarity, isnan(h->similarity) ? "n/a" : "%.4f", (double)h->similarity);
    printf("%s[sim=%s] ", h->near_id ? "  " : "", similarity);
    if (!print_text(h->message)) return no_memory();
    printf(" (seq=%" PRId64 ")\n", h->message->seq);
    return cli_flush() ? EXIT_DONE : EXIT_FAILED;
}

int context_print_hits(const args *a, const rf_context_hits *hits) {
    static const char *const mode[] = {"auto", "vector", "words", "hybrid"};
    int rc = EXIT_DONE;
    if (!a->json) {
        for (size_t i = 0; !rc && i < hits->n; i++) rc = print_hit(&hits->hit[i]);
        return rc;
    }
    json_t *all = json_array();
    for (size_t i = 0; i < hits->n; i++)
        if (json_array_append_new(all, hit_json(&hits->hit[i]))) rc = EXIT_FAILED;
    if (rc) json_decref(all);
    if (rc) return no_memory();
    return print_json(json_pack("{so so sI sI ss sb}", "query", json_text(a->second, strlen(a->second)), "messages",
                                all, "total_messages", (json_int_t)hits->total_messages, "result_count",
                                (json_int_t)hits->n, "mode", mode[hits->mode], "exact", hits->exact));
}

/* "12 2026-11-21T10:20:30Z default/3 user: "text"" */
static int print_message(const rf_message *m) {
    char when[32] = "?";
    time_t seconds = (time_t)(m->time_us / 1000000);
    struct tm t;
    if (gmtime_r(&seconds, &t)) strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &t);
    printf("%" PRId64 " %s %s/%" PRId64 " %s: ", m->id, when, m->conversation, m->seq, m->role);
    if (!print_text(m)) return no_memory();
    printf("\n");
    return cli_flush() ? EXIT_DONE : EXIT_FAILED;
}

int context_print_list(const args *a, const rf_messages *found) {
    int rc = EXIT_DONE;
    if (!a->json) {
        for (size_t i = 0; !rc && i < found->n; i++) rc = print_message(&found->item[i]);
        if (!rc && found->more)
            cli_note("%zu of %" PRId64 " messages; --after %" PRId64 " lists the next", found->n, found->total,
                     found->item[found->n - 1].id);
        return rc;
    }
    json_t *all = json_array();
    for (size_t i = 0; i < found->n; i++)
        if (json_array_append_new(all, message_json(&found->item[i]))) rc = EXIT_FAILED;
    if (rc) json_decref(all);
    if (rc) return no_memory();
    json_t *next = found->more ? json_integer(found->item[found->n - 1].id) : json_null();
    return print_json(json_pack("{so sI sb so}", "messages", all, "total", (json_int_t)found->total, "more",
                                found->more, "next_after", next));
}

/* --- times ------------------------------------------------------------------------------------------------------------ */

int64_t context_time(const char *text) {
    struct tm t = {0};
    char *end;
    double seconds = strtod(text, &end);
    if (end == text || *end) {
        const char *rest = strptime(text, "%Y-%m-%d", &t);
        if (rest && (*rest == 'T' || *rest == ' ')) rest = strptime(rest + 1, "%H:%M:%S", &t);
        if (!rest || strcmp(rest, *rest ? "Z" : "")) return -1;
        seconds = (double)timegm(&t);
    }
    return seconds >= 0 && seconds < 1e11 ? (int64_t)(seconds * 1e6) : -1;
}
