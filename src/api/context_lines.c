/* The context store as JSON lines: out as it stands, in all or none. */
#include "api/context.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 256, MOST_LINES = 1 << 20, MOST_EDGES = 10000 };

/* --- export ----------------------------------------------------------------------------------------------------------- */

static json_t *edges_of(const context_message *m) {
    json_t *all = json_array();
    for (size_t i = 0; i < m->n_edges; i++)
        api_append(&all, json_pack("{ss sI}", "name", m->edges[i].name, "to", (json_int_t)m->edges[i].to));
    return all;
}

static status line_of(const context_message *m, strbuf *out, err *e) {
    json_t *metadata = NULL;
    json_error_t why;
    status s = json_read(&metadata, str_of(m->metadata), 0, &why);
    if (s == ERR_RANGE) s = ERR_STORE_DAMAGED;
    if (s) return fail(e, s, "the metadata of message %" PRId64, m->id);
    json_t *v = json_pack("{sI ss sI ss sI so so so}", "id", (json_int_t)m->id, "conversation", m->conversation, "seq",
                          (json_int_t)m->seq, "role", m->role, "time_us", (json_int_t)m->time_us, "text",
                          json_text(m->text, m->n_text), "metadata", metadata, "edges", edges_of(m));
    strbuf_clear(out);
    s = v ? json_write(v, out, e) : fail(e, ERR_NOMEM, "export");
    json_decref(v);
    strbuf_puts(out, "\n");
    return !s && out->failed ? fail(e, ERR_NOMEM, "export") : s;
}

typedef struct {
    bool (*write)(void *user, const char *line, size_t n);
    void *user;
} sink;

static status export_page(const message_list *l, sink to, strbuf *line, err *e) {
    status s = OK;
    for (size_t i = 0; !s && i < l->n; i++) {
        s = line_of(&l->item[i], line, e);
        if (!s && !to.write(to.user, line->p, line->n))
            s = fail(e, ERR_OUTPUT_CLOSED, "the reader of the export went away");
    }
    return s;
}

static status export_all(sql_conn *conn, sink to, err *e) {
    rows_filter f = {.limit = PAGE};
    strbuf line = {0};
    status s = OK;
    for (bool more = true; !s && more;) {
        message_list *l = message_list_new();
        s = l ? rows_list(conn, &f, l, e) : fail(e, ERR_NOMEM, "export");
        if (!s) s = export_page(l, to, &line, e);
        more = !s && l->more;
        if (more) f.after = l->item[l->n - 1].id;
        message_list_free(l);
    }
    strbuf_free(&line);
    return s;
}

bool rf_context_export(rf_context *c, bool (*write)(void *user, const char *line, size_t n), void *user, rf_error *e) {
    err why = {0};
    sql_conn *conn;
    status s = store_read(c->store, &conn, &why);
    if (s) return api_result(s, &why, e);
    s = export_all(conn, (sink){write, user}, &why);
    store_read_end(c->store, conn);
    return api_result(s, &why, e);
}

/* --- import: the lines as messages ------------------------------------------------------------------------------------ */
typedef struct {
    int64_t id; /* in the file */
    size_t line;
} line_id;

typedef struct {
    json_t **v; /* [n]; what the messages' strings belong to */
    context_message *m;
    strbuf *metadata;
    str *texts;
    int64_t *ids;
    line_id *known; /* [n_known], by id */
    size_t n, n_known, cap;
} import;

static void import_close(import *p) {
    for (size_t i = 0; i < p->n; i++) {
        json_decref(p->v[i]);
        strbuf_free(&p->metadata[i]);
        mem_free((context_edge *)(uintptr_t)p->m[i].edges);
    }
    mem_free(p->v);
    mem_free(p->m);
    mem_free(p->metadata);
    mem_free(p->texts);
    mem_free(p->ids);
    mem_free(p->known);
}

static status import_open(import *p, size_t most, err *e) {
    *p = (import){.cap = most};
    p->v = mem_array(most, sizeof *p->v);
    p->m = mem_array(most, sizeof *p->m);
    p->metadata = mem_array(most, sizeof *p->metadata);
    p->texts = mem_array(most, sizeof *p->texts);
    p->ids = mem_array(most, sizeof *p->ids);
    p->known = mem_array(most, sizeof *p->known);
    bool ok = p->v && p->m && p->metadata && p->texts && p->ids && p->known;
    return ok ? OK : fail(e, ERR_NOMEM, "import");
}

static status take_integer(const json_t *v, const char *key, int64_t *out, err *e) {
    if (!json_is_integer(v)) return fail(e, ERR_RANGE, "%s: give a whole number", key);
    *out = json_integer_value(v);
    return OK;
}

static status take_string(const json_t *v, const char *key, const char **out, err *e) {
    if (!json_is_string(v)) return fail(e, ERR_RANGE, "%s: give a string", key);
    if (strlen(json_string_value(v)) != json_string_length(v)) return fail(e, ERR_RANGE, "%s: holds a NUL byte", key);
    *out = json_string_value(v);
    return OK;
}

static status take_edge(const json_t *v, context_edge *out, err *e) {
    if (!json_is_object(v) || json_object_size(v) != 2) return fail(e, ERR_RANGE, "edges: give objects of name and to");
    status s = take_string(json_object_get(v, "name"), "edges: name", &out->name, e);
    return s ? s : take_integer(json_object_get(v, "to"), "edges: to", &out->to, e);
}

static status take_edges(const json_t *v, context_message *m, err *e) {
    size_t n = json_array_size(v);
    if (!json_is_array(v) || n > MOST_EDGES)
        return fail(e, ERR_RANGE, "edges: give an array of at most %d", MOST_EDGES);
    context_edge *edges = mem_array(n, sizeof *edges);
    if (!edges) return fail(e, ERR_NOMEM, "edges");
    m->edges = edges;
    m->n_edges = n;
    status s = OK;
    for (size_t i = 0; !s && i < n; i++) s = take_edge(json_array_get(v, i), &edges[i], e);
    return s;
}

static int by_id(const void *a, const void *b) {
    int64_t x = ((const line_id *)a)->id, y = ((const line_id *)b)->id;
    return (x > y) - (x < y);
}

/* Metadata was an object in the file: back to its text, which message_check reads again. */
static status take_metadata(const json_t *v, strbuf *out, context_message *m, err *e) {
    if (!json_is_object(v)) return fail(e, ERR_RANGE, "metadata: is no JSON object");
    status s = json_write(v, out, e);
    m->metadata = out->p;
    return s;
}

static status take_field(import *p, size_t i, const char *key, const json_t *v, strbuf *metadata, err *e) {
    context_message *m = &p->m[i];
    int64_t ignored;
    if (!strcmp(key, "id")) {
        line_id *known = &p->known[p->n_known++];
        known->line = i;
        return take_integer(v, key, &known->id, e);
    }
    if (!strcmp(key, "seq")) return take_integer(v, key, &ignored, e); /* the order of the lines says it */
    if (!strcmp(key, "time_us")) return take_integer(v, key, &m->time_us, e);
    if (!strcmp(key, "role")) return take_string(v, key, &m->role, e);
    if (!strcmp(key, "conversation")) return take_string(v, key, &m->conversation, e);
    if (!strcmp(key, "metadata")) return take_metadata(v, metadata, m, e);
    if (!strcmp(key, "edges")) return take_edges(v, m, e);
    if (strcmp(key, "text")) return fail(e, ERR_RANGE, "%s: an unknown key", key);
    status s = take_string(v, key, &m->text, e);
    m->n_text = s ? 0 : json_string_length(v);
    return s;
}

static status read_line(import *p, str line, err *e) {
    const size_t i = p->n;
    json_error_t why;
    status s = json_read(&p->v[i], line, JSON_REJECT_DUPLICATES, &why);
    if (s == ERR_NOMEM) return fail(e, s, "import");
    if (s) return fail(e, ERR_RANGE, "no JSON object: %s", why.text);
    p->n++; /* it is freed from here on */
    if (!json_is_object(p->v[i])) return fail(e, ERR_RANGE, "no JSON object");
    strbuf metadata = {0};
    const char *key;
    json_t *v;
    json_object_foreach(p->v[i], key, v) {
        s = take_field(p, i, key, v, &metadata, e);
        if (s) break;
    }
    if (!s && !p->m[i].time_us) p->m[i].time_us = context_now_us();
    if (!s) s = message_check(&p->m[i], &p->metadata[i], e);
    p->texts[i] = (str){p->m[i].text, p->m[i].n_text};
    strbuf_free(&metadata);
    return s;
}

/* Edges of a line lead to lines before it: `to` becomes that line's number here, and its new id once it has one. */
static status find_edges(import *p, size_t i, err *e) {
    context_edge *edges = (context_edge *)(uintptr_t)p->m[i].edges;
    for (size_t k = 0; k < p->m[i].n_edges; k++) {
        const line_id want = {.id = edges[k].to};
        const line_id *to = p->n_known ? bsearch(&want, p->known, p->n_known, sizeof want, by_id) : NULL;
        if (!to || to->line >= i)
            return fail(e, ERR_RANGE, "edges: no line before it has the id %" PRId64, edges[k].to);
        edges[k].to = (int64_t)to->line;
    }
    return OK;
}

static status read_lines(import *p, const char *lines, size_t n, size_t *number, err *e) {
    status s = OK;
    *number = 0;
    for (size_t at = 0; !s && at < n;) {
        const char *end = memchr(lines + at, '\n', n - at);
        str line = {lines + at, end ? (size_t)(end - lines) - at : n - at};
        at += line.n + 1;
        ++*number;
        while (line.n && strchr(" \t\r", line.p[line.n - 1])) line.n--;
        if (!line.n && at >= n) break; /* the last line's end */
        s = read_line(p, line, e);
    }
    if (s) return s;
    if (p->n_known) qsort(p->known, p->n_known, sizeof *p->known, by_id);
    for (size_t i = 1; i < p->n_known; i++)
        if (p->known[i].id == p->known[i - 1].id) {
            *number = p->known[i].line + 1;
            return fail(e, ERR_RANGE, "id: %" PRId64 " stands twice", p->known[i].id);
        }
    for (size_t i = 0; !s && i < p->n; i++) *number = i + 1, s = find_edges(p, i, e);
    return s;
}

static status put_lines(rf_context *c, import *p, const float *vectors, err *e) {
    sql_conn *conn;
    vector_model m = {0};
    status s = store_write(c->store, &conn, e);
    if (s) return s;
    for (size_t i = 0; !s && i < p->n; i++) {
        context_edge *edges = (context_edge *)(uintptr_t)p->m[i].edges;
        for (size_t k = 0; k < p->m[i].n_edges; k++) edges[k].to = p->ids[edges[k].to];
        s = context_put(c, conn, &p->m[i], 1, vectors ? vectors + i * c->n_embd : NULL, &p->ids[i], e);
    }
    if (!s && vectors) s = context_model(c, conn, false, &m, e);
    s = store_commit(c->store, conn, s, e);
    if (!s) context_kick(c, &m);
    return s;
}

bool rf_context_import(rf_context *c, const char *lines, size_t n, size_t *n_added, rf_error *e) {
    err why = {0};
import p = {0 };
    size_t most = 1, number;
    float *vectors = NULL;
    for (size_t i = 0; i < n; i++) most += lines[i] == '\n';
    if (n_added) *n_added = 0;
    status s = most <= MOST_LINES ? import_open(&p, most, &why)
                                  : fail(&why, ERR_RANGE, "import: more than %d lines at once", MOST_LINES);
    if (!s && (s = read_lines(&p, lines, n, &number, &why))) s = fail_in(&why, s, "line %zu: ", number);
    bool ok = api_result(s, &why, e) && context_embed_texts(c, p.texts, p.n, &vectors, e);
    if (ok && p.n) ok = api_result(put_lines(c, &p, vectors, &why), &why, e);
    if (ok && n_added) *n_added = p.n;
    mem_free(vectors);
    import_close(&p);
    return ok;
}
