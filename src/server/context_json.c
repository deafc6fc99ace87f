#include "server/context_json.h"

#include "base/mem.h"
#include "server/recall.h"
#include "server/vector.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* --- queries ---------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum { TEXT, NUMBER, SWITCH, STEPS, TIME, CHOICE } kind;
    int64_t lo, hi;
    const char *choices; /* CHOICE: between spaces; what is told of any that is wrong */
} params[N_CONTEXT_PARAMS] = {
    [CONTEXT_Q] = {"q", TEXT, 0, 0, NULL},
    [CONTEXT_K] = {"k", NUMBER, 1, 1000, NULL},
    [CONTEXT_EXPAND] = {"expand", STEPS, 0, 16, NULL},
    [CONTEXT_MODE] = {"mode", CHOICE, 0, 0, " auto vector words hybrid "},
    [CONTEXT_CONVERSATION] = {"conversation", TEXT, 0, 0, NULL},
    [CONTEXT_ROLE] = {"role", TEXT, 0, 0, NULL},
    [CONTEXT_SINCE] = {"since", TIME, 0, 0, NULL},
    [CONTEXT_UNTIL] = {"until", TIME, 0, 0, NULL},
    [CONTEXT_LIMIT] = {"limit", NUMBER, 1, 1000, NULL},
    [CONTEXT_AFTER] = {"after", NUMBER, 0, INT64_MAX, NULL},
    [CONTEXT_ORDER] = {"order", CHOICE, 0, 0, " asc desc "},
    [CONTEXT_ALL] = {"all", SWITCH, 0, 1, NULL},
};

int64_t context_number(const char *text) {
    if (!strcmp(text, "true")) return 1;
    if (!strcmp(text, "false")) return 0;
    const size_t n = strlen(text);
    if (n == 0 || n > 18 || strspn(text, "0123456789") != n) return -1;
    return strtoll(text, NULL, 10);
}

/* Seconds since 1970, or a date and maybe a time of it in UTC. */
int64_t context_instant(const char *text) {
    struct tm t = {0};
    char *end;
    double seconds = strtod(text, &end), fraction = 0;
    if (*text >= '0' && *text <= '9' && !*end) {
        if (strpbrk(text, "xXpPeE")) return 0;
    } else {
        const char *rest = strptime(text, "%Y-%m-%d", &t);
        if (rest && (*rest == 'T' || *rest == ' ')) rest = strptime(rest + 1, "%H:%M:%S", &t);
        if (rest && *rest == '.') {
            const size_t n = strspn(rest + 1, "0123456789");
            fraction = strtod(rest, NULL);
            rest = n ? rest + 1 + n : NULL;
        }
        if (!rest || strcmp(rest, *rest ? "Z" : "")) return 0;
        seconds = (double)timegm(&t) + fraction;
    }
    return seconds >= 0 && seconds < 1e11 ? (int64_t)(seconds * 1e6) : 0;
}

rf_context_mode context_mode(const char *text) {
    for (int i = RF_CONTEXT_AUTO; text && i <= RF_CONTEXT_HYBRID; i++)
        if (!strcmp(text, recall_mode_name((rf_context_mode)i))) return (rf_context_mode)i;
    return RF_CONTEXT_AUTO;
}

static bool is_choice(const char *choices, const char *text) {
    char padded[24];
    if (!*text || strlen(text) > 20 || strchr(text, ' ')) return false;
    snprintf(padded, sizeof padded, " %s ", text);
    return strstr(choices, padded) != NULL;
}

/* Whether a value is good; else what it has to be. */
static bool check(context_param p, const strbuf *v, char *message, size_t size) {
    const char *text = v->p ? v->p : "", *name = params[p].name;
    const int64_t n = context_number(text), lo = params[p].lo, hi = params[p].hi;
    const bool word = n >= 0 && *text >= 'a';
    switch (params[p].kind) {
    case TEXT: snprintf(message, size, "%s is empty", name); return v->n > 0 && !memchr(text, 0, v->n);
    case NUMBER:
        snprintf(message, size, "%s must be a whole number of %lld to %lld", name, (long long)lo, (long long)hi);
        return n >= lo && n <= hi && !word;
    case SWITCH: snprintf(message, size, "%s must be true or false", name); return n >= lo && n <= hi;
    case STEPS:
        snprintf(message, size, "%s must be a number of steps, 0 to %lld, or true (1) or false", name, (long long)hi);
        return n >= lo && n <= hi;
    case TIME:
        snprintf(message, size, "%s must be seconds since 1970, or a time as 2026-11-21T10:20:30Z", name);
        return strlen(text) == v->n && v->n < 40 && context_instant(text) > 0;
    default:
        snprintf(message, size, "%s must be one of:%.60s", name, params[p].choices);
        return strlen(text) == v->n && is_choice(params[p].choices, text);
    }
}

static context_param find_param(str name) {
    for (int i = 0; i < N_CONTEXT_PARAMS; i++)
        if (str_is(name, params[i].name)) return (context_param)i;
    return N_CONTEXT_PARAMS;
}

/* A name that the route takes, once. */
static const char *check_name(str name, unsigned taken, unsigned *seen, context_param *p, char *message, size_t size) {
    *p = find_param(name);
    if (*p == N_CONTEXT_PARAMS || !(taken & 1u << *p)) {
        snprintf(message, size, "the query holds %.*s, which this route does not take",
                 (int)(name.n < 40 ? name.n : 40), name.p);
        return *p == N_CONTEXT_PARAMS ? "query" : params[*p].name;
    }
    if (*seen & 1u << *p) {
        snprintf(message, size, "%s is given twice", params[*p].name);
        return params[*p].name;
    }
    *seen |= 1u << *p;
    return NULL;
}

const char *context_read_query(const exchange *x, unsigned taken, strbuf *text, char *message, size_t size) {
    unsigned seen = 0;
    for (size_t at = 0; at < x->query.n;) {
        const char *from = x->query.p + at, *amp = memchr(from, '&', x->query.n - at);
        const size_t n = amp ? (size_t)(amp - from) : x->query.n - at;
        const char *equals = memchr(from, '=', n), *bad;
        context_param p;
        at += n + 1;
        if (n == 0) continue;
        bad = check_name((str){from, equals ? (size_t)(equals - from) : n}, taken, &seen, &p, message, size);
        if (bad) return bad;
        if (!exchange_query(x, params[p].name, &text[p]) || text[p].failed) {
            snprintf(message, size, "%s is no well-formed text", params[p].name);
            if (text[p].failed) *message = 0;
            return params[p].name;
        }
        if (!check(p, &text[p], message, size)) return params[p].name;
    }
    return NULL;
}

/* --- bodies ----------------------------------------------------------------------------------------------------------- */

typedef struct {
    fields *f;
    json_t *v;
    bool in_list;
    size_t i;
} reader;

static void bad(const reader *r, const char *key, const char *why) {
    char name[64];
    if (r->in_list)
        snprintf(name, sizeof name, "messages[%zu]%s%s", r->i, *key ? "." : "", key);
    else
        snprintf(name, sizeof name, "%s", key);
    fields_bad(r->f, name, "%s", why);
}

static json_t *value_of(const reader *r, const char *key) {
    json_t *v = r->in_list ? json_object_get(r->v, key) : fields_any(r->f, key);
    return json_is_null(v) ? NULL : v;
}

static const char *string_of(const reader *r, const char *key, size_t *n) {
    const json_t *v = value_of(r, key);
    if (v && !json_is_string(v)) bad(r, key, "must be a string");
    if (n) *n = json_string_length(v);
    if (v && !n && strlen(json_string_value(v) ? json_string_value(v) : "") != json_string_length(v))
        bad(r, key, "holds a NUL");
    return json_string_value(v);
}

/* `timestamp`: seconds since 1970, or a time as text. */
static int64_t time_of(const reader *r) {
    const json_t *v = value_of(r, "timestamp");
    if (!v) return 0;
    const double s = json_number_value(v);
    const int64_t us = json_is_string(v)   ? context_instant(json_string_value(v))
                       : s > 0 && s < 1e11 ? (int64_t)llround(s * 1e6)
                                           : 0;
    if (us <= 0) bad(r, "timestamp", "must be seconds since 1970, or a time as 2026-11-21T10:20:30Z");
    return us;
}

static char *metadata_of(const reader *r) {
    const json_t *v = value_of(r, "metadata");
    strbuf b = {0};
    if (!v) return NULL;
    if (!json_is_object(v))
        bad(r, "metadata", "must be an object");
    else if (json_write(v, &b, NULL))
        fields_no_memory(r->f, "metadata");
    return b.p;
}

static bool read_edge(const json_t *v, rf_context_edge *out) {
    const json_t *name = json_object_get(v, "name"), *to = json_object_get(v, "to");
    if (!json_is_integer(to) || (name && !json_is_string(name)) || json_object_size(v) > 1 + (size_t)(name != NULL))
        return false;
    *out = (rf_context_edge){name ? json_string_value(name) : "follows", json_integer_value(to)};
    return strlen(out->name) == (name ? json_string_length(name) : 7);
}

static void read_edges(const reader *r, rf_message *m) {
    enum { MOST = 256 };
    const json_t *v = value_of(r, "edges");
    const size_t n = json_array_size(v);
    if (!v) return;
    if (!json_is_array(v) || n > MOST) {
        bad(r, "edges", "must be a list of at most 256");
        return;
    }
    rf_context_edge *edges = n ? mem_array(n, sizeof *edges) : NULL;
    if (n && !edges) fields_no_memory(r->f, "edges");
    m->edges = edges;
    for (size_t i = 0; edges && i < n; i++)
        if (!read_edge(json_array_get(v, i), &edges[i])) bad(r, "edges", "must hold objects {\"name\", \"to\"}");
    m->n_edges = edges ? n : 0;
}

/* Of a body fields_finish does it. */
static void refuse_others(const reader *r) {
    static const char *const known[] = {"text", "role", "conversation", "timestamp", "metadata", "edges"};
    const char *key;
    json_t *value;
    json_object_foreach(r->v, key, value) {
        bool good = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) good |= !strcmp(key, known[i]);
        if (!good) bad(r, "", "holds a key that is none of text, role, conversation, timestamp, metadata, edges");
    }
}

void context_read_message(fields *f, json_t *v, bool in_list, size_t i, rf_message *m) {
    const reader r = {f, v, in_list, i};
    if (!json_is_object(v)) {
        bad(&r, "", "must be an object with a text");
        return;
    }
    if (in_list) refuse_others(&r);
    m->text = string_of(&r, "text", &m->n_text);
    m->role = string_of(&r, "role", NULL);
    m->conversation = string_of(&r, "conversation", NULL);
    m->time_us = time_of(&r);
    m->metadata = metadata_of(&r);
    read_edges(&r, m);
    if (!m->text)
        bad(&r, "text", "is missing");
    else if (!m->n_text)
        bad(&r, "text", "is empty");
}

void context_messages_free(rf_message *m, size_t n) {
    for (size_t i = 0; m && i < n; i++) {
        mem_free((void *)(uintptr_t)m[i].metadata);
        mem_free((void *)(uintptr_t)m[i].edges);
    }
    mem_free(m);
}

/* --- replies ---------------------------------------------------------------------------------------------------------- */

static json_t *metadata_json(const char *text) {
    json_t *v = NULL;
    json_error_t e;
    if (!text || json_read(&v, str_of(text), JSON_ALLOW_NUL, &e)) v = NULL;
    return v ? v : json_object();
}

static json_t *edges_json(const rf_message *m) {
    json_t *all = json_array();
    for (size_t i = 0; i < m->n_edges; i++)
        json_array_append_new(
            all, json_pack("{ss sI}", "name", m->edges[i].name, "to", (json_int_t)m->edges[i].to)); /* may be NULL */
    return all;
}

json_t *context_message_json(const rf_message *m) {
    return json_pack("{sI so ss ss sI sf so so}", "id", (json_int_t)m->id, "text", json_text(m->text, m->n_text),
                     "role", m->role, "conversation", m->conversation, "seq_id", (json_int_t)m->seq, "timestamp",
                     (double)m->time_us / 1e6, "metadata", metadata_json(m->metadata), "edges", edges_json(m));
}

static bool append(json_t *all, json_t *v) { return all && v && !json_array_append_new(all, v); }

json_t *context_list_json(const rf_messages *found) {
    json_t *all = json_array();
    bool ok = all != NULL;
    for (size_t i = 0; ok && i < found->n; i++) ok = append(all, context_message_json(&found->item[i]));
    if (!ok) {
        json_decref(all);
        return NULL;
    }
    return json_pack("{so sI sb so}", "messages", all, "total", (json_int_t)found->total, "more", (int)found->more,
                     "next_after", found->more && found->n ? json_integer(found->item[found->n - 1].id) : json_null());
}

static json_t *hit_json(const rf_context_hit *h) {
    static const struct {
        unsigned bit;
        const char *name;
    } ways[] = {{RF_FOUND_VECTOR, "vector"}, {RF_FOUND_WORDS, "words"}, {RF_FOUND_EDGE, "edge"}};
    json_t *v = context_message_json(h->message), *found = json_array();
    for (size_t i = 0; i < 3; i++)
        if (h->found_by & ways[i].bit) json_array_append_new(found, json_string(ways[i].name));
    bool ok = v && found;
    ok = ok && !json_object_set_new(v, "similarity",
                                    isnan((double)h->similarity) ? json_null() : vector_number(h->similarity));
    ok = ok && !json_object_set_new(v, "score", json_real(h->score));
    ok = ok && !json_object_set(v, "found_by", found);
    if (ok && h->near_id)
        ok = !json_object_set_new(v, "near_id", json_integer(h->near_id)) &&
             !json_object_set_new(v, "steps", json_integer(h->steps));
    json_decref(found);
    if (ok) return v;
    json_decref(v);
    return NULL;
}

json_t *context_hits_json(const rf_context_hits *hits, str query) {
    json_t *all = json_array();
    bool ok = all != NULL;
    for (size_t i = 0; ok && i < hits->n; i++) ok = append(all, hit_json(&hits->hit[i]));
    if (!ok) {
        json_decref(all);
        return NULL;
    }
    return json_pack("{so so sI sI ss sb}", "query", json_text_of(query), "messages", all, "total_messages",
                     (json_int_t)hits->total_messages, "result_count", (json_int_t)hits->n, "mode",
                     recall_mode_name(hits->mode), "exact", (int)hits->exact);
}
