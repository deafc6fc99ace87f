#include "context/rows.h"

#include "base/mem.h"

#include <inttypes.h>

/* Deletions kept for indexes to learn of; one that stopped earlier is built anew. */
#define GONE_KEPT "100000"
#define COLUMNS   "m.id, m.seq, m.time_us, m.text, m.role, m.conversation, m.metadata"

/* --- filters ---------------------------------------------------------------------------------------------------------- */

void rows_where(strbuf *text, const rows_filter *f) {
    if (f->conversation) strbuf_puts(text, " AND m.conversation = ?11");
    if (f->role) strbuf_puts(text, " AND m.role = ?12");
    if (f->from_us) strbuf_puts(text, " AND m.time_us >= ?13");
    if (f->until_us) strbuf_puts(text, " AND m.time_us < ?14");
}

void rows_bind(sql_query *q, const rows_filter *f) {
    if (f->conversation) sql_text(q, 11, str_of(f->conversation));
    if (f->role) sql_text(q, 12, str_of(f->role));
    if (f->from_us) sql_int(q, 13, f->from_us);
    if (f->until_us) sql_int(q, 14, f->until_us);
}

sql_query rows_ask(sql_conn *c, const strbuf *text) {
    if (text->failed || !text->p) return (sql_query){.c = c, .rc = SQLITE_NOMEM, .once = true};
    return sql_ask_once(c, text->p);
}

/* --- adding ----------------------------------------------------------------------------------------------------------- */

status rows_link(sql_conn *c, int64_t from, const char *name, int64_t to, err *e) {
    int64_t there = 0;
    sql_query q = sql_ask(c, "SELECT count(*) FROM message WHERE id IN (?1, ?2)");
    sql_int(&q, 1, from);
    sql_int(&q, 2, to);
    status s = sql_number(&q, 0, &there, e);
    if (!s && (there != 2 || from == to)) return fail(e, ERR_RANGE, "edges: no other message has the id %" PRId64, to);
    if (s) return s;
    q = sql_ask(c, "INSERT OR IGNORE INTO edge(source, name, target) VALUES (?1, ?2, ?3)");
    sql_int(&q, 1, from);
    sql_text(&q, 2, str_of(name));
    sql_int(&q, 3, to);
    return sql_done(&q, e);
}

typedef struct {
    int64_t id, seq; /* 0: there is none */
} last_message;

static status find_last(sql_conn *c, const char *conversation, last_message *out, err *e) {
    *out = (last_message){0};
    sql_query q = sql_ask(c, "SELECT id, seq FROM message WHERE conversation = ?1 ORDER BY id DESC LIMIT 1");
    sql_text(&q, 1, str_of(conversation));
    if (sql_row(&q)) *out = (last_message){sql_get_int(&q, 0), sql_get_int(&q, 1)};
    return sql_end(&q, e);
}

/* FTS5's own triggers are not to be had: a schema is not trusted to call virtual tables (TRUSTED_SCHEMA). */
static status add_words(sql_conn *c, int64_t id, const context_message *m, err *e) {
    sql_query q = sql_ask(c, "INSERT INTO words(rowid, text) VALUES (?1, ?2)");
    sql_int(&q, 1, id);
    sql_text(&q, 2, (str){m->text, m->n_text});
    return sql_done(&q, e);
}

status rows_add(sql_conn *c, const context_message *m, int64_t *id, err *e) {
    last_message last;
    status s = find_last(c, m->conversation, &last, e);
    if (s) return s;
    sql_query q = sql_ask(c, "INSERT INTO message(conversation, seq, role, time_us, text, metadata)"
                             " VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
    sql_text(&q, 1, str_of(m->conversation));
    sql_int(&q, 2, last.seq + 1);
    sql_text(&q, 3, str_of(m->role));
    sql_int(&q, 4, m->time_us);
    sql_text(&q, 5, (str){m->text, m->n_text});
    sql_text(&q, 6, str_of(m->metadata));
    s = sql_done(&q, e);
    if (s) return s;
    *id = sqlite3_last_insert_rowid(c->db);
    s = add_words(c, *id, m, e);
    if (!s && last.id) s = rows_link(c, *id, "follows", last.id, e);
    for (size_t i = 0; !s && i < m->n_edges; i++) s = rows_link(c, *id, m->edges[i].name, m->edges[i].to, e);
    return s;
}

/* --- reading ---------------------------------------------------------------------------------------------------------- */

static status take_row(sql_query *q, message_list *l) {
    str text = sql_get_text(q, 3);
    context_message m = {.id = sql_get_int(q, 0),
                         .seq = sql_get_int(q, 1),
                         .time_us = sql_get_int(q, 2),
                         .text = text.p,
                         .n_text = text.n,
                         .role = sql_get_text(q, 4).p,
                         .conversation = sql_get_text(q, 5).p,
                         .metadata = sql_get_text(q, 6).p};
    if (q->rc == SQLITE_ROW && !message_list_add(l, &m)) q->rc = SQLITE_NOMEM;
    return q->rc == SQLITE_ROW ? OK : ERR_NOMEM;
}

static status add_edges(sql_conn *c, message_list *l, size_t i, err *e) {
    sql_query q = sql_ask(c, "SELECT name, target FROM edge WHERE source = ?1 ORDER BY name, target");
    sql_int(&q, 1, l->item[i].id);
    while (sql_row(&q)) {
        str name = sql_get_text(&q, 0);
        if (q.rc == SQLITE_ROW && !message_add_edge(l, i, name, sql_get_int(&q, 1))) q.rc = SQLITE_NOMEM;
        if (q.rc != SQLITE_ROW) break;
    }
    return sql_end(&q, e);
}

status rows_get(sql_conn *c, int64_t id, message_list *l, err *e) {
    const size_t before = l->n;
    sql_query q = sql_ask(c, "SELECT " COLUMNS " FROM message m WHERE m.id = ?1");
    sql_int(&q, 1, id);
    if (sql_row(&q)) (void)take_row(&q, l);
    status s = sql_end(&q, e);
    return s || l->n == before ? s : add_edges(c, l, before, e);
}

static status count_matching(sql_conn *c, const rows_filter *f, int64_t *n, err *e) {
    strbuf text = {0};
    strbuf_puts(&text, "SELECT count(*) FROM message m WHERE 1");
    rows_where(&text, f);
    sql_query q = rows_ask(c, &text);
    rows_bind(&q, f);
    status s = sql_number(&q, 0, n, e);
    strbuf_free(&text);
    return s;
}

status rows_list(sql_conn *c, const rows_filter *f, message_list *l, err *e) {
    strbuf text = {0};
    strbuf_puts(&text, "SELECT " COLUMNS " FROM message m WHERE 1");
    if (f->after) strbuf_puts(&text, f->newest_first ? " AND m.id < ?1" : " AND m.id > ?1");
    rows_where(&text, f);
    strbuf_printf(&text, " ORDER BY m.id %s LIMIT %u", f->newest_first ? "DESC" : "ASC", f->limit + 1);
    sql_query q = rows_ask(c, &text);
    if (f->after) sql_int(&q, 1, f->after);
    rows_bind(&q, f);
    while (sql_row(&q)) {
        l->more = l->n == f->limit;
        if (l->more || take_row(&q, l)) break;
    }
    status s = sql_end(&q, e);
    strbuf_free(&text);
    for (size_t i = 0; !s && i < l->n; i++) s = add_edges(c, l, i, e);
    return s ? s : count_matching(c, f, &l->total, e);
}

status rows_beside(sql_conn *c, int64_t id, int64_t **out, size_t *n, err *e) {
    *out = NULL;
    *n = 0;
    size_t cap = 0;
    sql_query q =
        sql_ask(c, "SELECT target FROM edge WHERE source = ?1 UNION SELECT source FROM edge WHERE target = ?1");
    sql_int(&q, 1, id);
    while (sql_row(&q)) {
        if (*n == cap) {
            int64_t *more = mem_resize(*out, (cap = cap ? 2 * cap : 8) * sizeof *more);
            if (!more) {
                q.rc = SQLITE_NOMEM;
                break;
            }
            *out = more;
        }
        (*out)[(*n)++] = sql_get_int(&q, 0);
    }
    status s = sql_end(&q, e);
    if (s) mem_free(*out), *out = NULL;
    return s;
}

status rows_count(sql_conn *c, rows_counts *out, err *e) {
    sql_query q =
        sql_ask(c, "SELECT (SELECT count(*) FROM message), (SELECT count(DISTINCT conversation) FROM message),"
                   " (SELECT count(*) FROM edge)");
    if (sql_row(&q)) *out = (rows_counts){sql_get_int(&q, 0), sql_get_int(&q, 1), sql_get_int(&q, 2)};
    return sql_end(&q, e);
}

/* --- deleting --------------------------------------------------------------------------------------------------------- */

static status trim_gone(sql_conn *c, err *e) {
    return sql_exec(c, "DELETE FROM gone WHERE n <= (SELECT max(n) FROM gone) - " GONE_KEPT, e);
}

/* Whoever followed it follows the one it followed. */
static status bridge(sql_conn *c, int64_t id, err *e) {
    sql_query q = sql_ask(c, "INSERT OR IGNORE INTO edge(source, name, target) SELECT n.source, 'follows', p.target"
                             " FROM edge n, edge p WHERE n.target = ?1 AND n.name = 'follows' AND p.source = ?1"
                             " AND p.name = 'follows' AND n.source != p.target");
    sql_int(&q, 1, id);
    return sql_done(&q, e);
}

status rows_delete(sql_conn *c, int64_t id, bool *existed, err *e) {
    *existed = false;
    status s = bridge(c, id, e);
    if (s) return s;
    sql_query words = sql_ask(c, "INSERT INTO words(words, rowid, text) SELECT 'delete', id, text FROM message"
                                 " WHERE id = ?1");
    sql_int(&words, 1, id);
    s = sql_done(&words, e);
    if (s) return s;
    sql_query q = sql_ask(c, "DELETE FROM message WHERE id = ?1");
    sql_int(&q, 1, id);
    s = sql_done(&q, e);
    *existed = !s && sqlite3_changes64(c->db) > 0;
    return s || !*existed ? s : trim_gone(c, e);
}

static status clear_one(sql_conn *c, const char *conversation, int64_t *n, err *e) {
    sql_query words = sql_ask(c, "INSERT INTO words(words, rowid, text) SELECT 'delete', id, text FROM message"
                                 " WHERE conversation = ?1");
    sql_text(&words, 1, str_of(conversation));
    status s = sql_done(&words, e);
    if (s) return s;
    sql_query q = sql_ask(c, "DELETE FROM message WHERE conversation = ?1");
    sql_text(&q, 1, str_of(conversation));
    s = sql_done(&q, e);
    if (!s) *n = sqlite3_changes64(c->db);
    return s ? s : trim_gone(c, e);
}

/* After everything went, nobody's index goes on: the deletions are one gap (vectors.h). */
static status clear_all(sql_conn *c, int64_t *n, err *e) {
    sql_query q = sql_ask(c, "DELETE FROM message");
    status s = sql_done(&q, e);
    if (s) return s;
    *n = sqlite3_changes64(c->db);
    return sql_exec(c,
                    "INSERT INTO words(words) VALUES ('delete-all'); DELETE FROM gone; DELETE FROM model;"
                    " INSERT INTO gone(message) VALUES (0)",
                    e);
}

status rows_clear(sql_conn *c, const char *conversation, int64_t *n, err *e) {
    *n = 0;
    return conversation ? clear_one(c, conversation, n, e) : clear_all(c, n, e);
}
