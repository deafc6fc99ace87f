#include "context/message.h"

#include "base/json.h"
#include "base/mem.h"

#include <string.h>

/* --- lists ------------------------------------------------------------------------------------------------------------ */
typedef struct {
    message_list list; /* first: what callers see */
    size_t cap;
} owned_list;

message_list *message_list_new(void) {
    owned_list *o = mem_zalloc(sizeof *o);
    return o ? &o->list : NULL;
}

static void free_message(context_message *m) {
    context_edge *edges = (context_edge *)(uintptr_t)m->edges;
    for (size_t i = 0; i < m->n_edges; i++) mem_free((char *)(uintptr_t)edges[i].name);
    mem_free(edges);
    mem_free((char *)(uintptr_t)m->text); /* the others stand behind it */
}

void message_list_free(message_list *l) {
    if (!l) return;
    for (size_t i = 0; i < l->n; i++) free_message(&l->item[i]);
    mem_free(l->item);
    mem_free((owned_list *)(void *)l);
}

static bool has_room(message_list *l) {
    owned_list *o = (owned_list *)(void *)l;
    if (l->n < o->cap) return true;
    size_t cap = o->cap ? 2 * o->cap : 16;
    context_message *item = mem_resize(l->item, cap * sizeof *item);
    if (!item) return false;
    l->item = item;
    o->cap = cap;
    return true;
}

static const char *put(char **at, const char *p, size_t n) {
    char *to = *at;
    memcpy(to, p, n);
    to[n] = 0;
    *at += n + 1;
    return to;
}

bool message_list_add(message_list *l, const context_message *m) {
    size_t role = strlen(m->role), conversation = strlen(m->conversation), metadata = strlen(m->metadata);
    char *block = has_room(l) ? mem_alloc(m->n_text + role + conversation + metadata + 4) : NULL;
    if (!block) return false;
    context_message *to = &l->item[l->n++];
    *to = *m;
    to->edges = NULL;
    to->n_edges = 0;
    to->text = put(&block, m->text, m->n_text);
    to->role = put(&block, m->role, role);
    to->conversation = put(&block, m->conversation, conversation);
    to->metadata = put(&block, m->metadata, metadata);
    return true;
}

bool message_add_edge(message_list *l, size_t i, str name, int64_t to) {
    context_message *m = &l->item[i];
    context_edge *edges = mem_resize((context_edge *)(uintptr_t)m->edges, (m->n_edges + 1) * sizeof *edges);
    if (!edges) return false;
    m->edges = edges;
    char *copy = mem_strndup(name.p, name.n);
    if (!copy) return false;
    edges[m->n_edges++] = (context_edge){copy, to};
    return true;
}

/* --- what a new one may be ---------------------------------------------------------------------------------------------- */

bool message_is_name(const char *z, size_t most) {
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t n = z ? strlen(z) : 0;
    return n >= 1 && n <= most && strspn(z, allowed) == n;
}

static status check_text(const context_message *m, err *e) {
    if (!m->text || m->n_text == 0) return fail(e, ERR_RANGE, "text: a message holds at least one byte");
    if (m->n_text > MESSAGE_TEXT_MOST)
        return fail(e, ERR_RANGE, "text: %zu bytes; a message holds at most %d", m->n_text, MESSAGE_TEXT_MOST);
    if (memchr(m->text, 0, m->n_text)) return fail(e, ERR_RANGE, "text: holds a NUL byte");
    return str_is_utf8((str){m->text, m->n_text}) ? OK : fail(e, ERR_RANGE, "text: is not UTF-8");
}

static status check_metadata(const char *text, strbuf *compact, err *e) {
    str s = str_of(text);
    if (s.n > MESSAGE_METADATA_MOST)
        return fail(e, ERR_RANGE, "metadata: %zu bytes; at most %d", s.n, MESSAGE_METADATA_MOST);
    json_t *v;
    json_error_t why;
    status st = json_read(&v, s, JSON_REJECT_DUPLICATES, &why);
    if (st == ERR_NOMEM) return fail(e, st, "metadata");
    if (st) return fail(e, ERR_RANGE, "metadata: no JSON object: %s", why.text);
    st = json_is_object(v) ? json_write(v, compact, e) : fail(e, ERR_RANGE, "metadata: is no JSON object");
    json_decref(v);
    return st;
}

status message_check(context_message *m, strbuf *compact, err *e) {
    if (!m->role) m->role = "user";
    if (!m->conversation) m->conversation = "default";
    status s = check_text(m, e);
    if (s) return s;
    if (!message_is_name(m->role, MESSAGE_NAME_MOST))
        return fail(e, ERR_RANGE, "role: give 1 to %d of A-Z a-z 0-9 . _ -", MESSAGE_NAME_MOST);
    if (!message_is_name(m->conversation, MESSAGE_CONVERSATION_MOST))
        return fail(e, ERR_RANGE, "conversation: give 1 to %d of A-Z a-z 0-9 . _ -", MESSAGE_CONVERSATION_MOST);
    for (size_t i = 0; i < m->n_edges; i++)
        if (!message_is_name(m->edges[i].name, MESSAGE_NAME_MOST))
            return fail(e, ERR_RANGE, "edges: a name is 1 to %d of A-Z a-z 0-9 . _ -", MESSAGE_NAME_MOST);
    if (m->time_us < 0) return fail(e, ERR_RANGE, "time_us: before 1970");
    strbuf_clear(compact);
    s = check_metadata(m->metadata ? m->metadata : "{}", compact, e);
    m->metadata = compact->p;
    return s;
}
