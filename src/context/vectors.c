#include "context/vectors.h"

#include "context/vec.h"

#include <inttypes.h>
#include <string.h>

status vectors_model(sql_conn *c, const uint8_t *identity, uint32_t n_embd, bool make, vector_model *out, err *e) {
    *out = (vector_model){0};
    sql_query q = sql_ask(c, "SELECT id, n_embd FROM model WHERE identity = ?1");
    sql_blob(&q, 1, identity, VECTOR_IDENTITY);
    if (sql_row(&q)) *out = (vector_model){sql_get_int(&q, 0), (uint32_t)sql_get_int(&q, 1)};
    status s = sql_end(&q, e);
    if (s || (!out->id && !make)) return s;
    if (out->id && out->n_embd != n_embd)
        return fail(e, ERR_STORE_DAMAGED, "%s: vectors of this model have %u floats, not %u", c->path, out->n_embd,
                    n_embd);
    if (out->id) return OK;
    q = sql_ask(c, "INSERT INTO model(identity, n_embd) VALUES (?1, ?2)");
    sql_blob(&q, 1, identity, VECTOR_IDENTITY);
    sql_int(&q, 2, n_embd);
    s = sql_done(&q, e);
    if (!s) *out = (vector_model){sqlite3_last_insert_rowid(c->db), n_embd};
    return s;
}

status vectors_newest_model(sql_conn *c, vector_model *out, err *e) {
    *out = (vector_model){0};
    sql_query q = sql_ask(c, "SELECT id, n_embd FROM model ORDER BY id DESC LIMIT 1");
    if (sql_row(&q)) *out = (vector_model){sql_get_int(&q, 0), (uint32_t)sql_get_int(&q, 1)};
    status s = sql_end(&q, e);
    if (s || !out->id || (out->n_embd >= 1 && out->n_embd <= VEC_MOST)) return s;
    return fail(e, ERR_STORE_DAMAGED, "%s: vectors of %u floats", c->path, out->n_embd);
}

status vectors_add(sql_conn *c, const vector_model *m, int64_t message, const float *v, err *e) {
    sql_query q = sql_ask(c, "INSERT INTO vector(model, message, data) VALUES (?1, ?2, ?3)");
    sql_int(&q, 1, m->id);
    sql_int(&q, 2, message);
    sql_blob(&q, 3, v, m->n_embd * sizeof *v);
    return sql_done(&q, e);
}

status vectors_add_if(sql_conn *c, const vector_model *m, int64_t message, const float *v, err *e) {
    sql_query q = sql_ask(c, "INSERT OR IGNORE INTO vector(model, message, data) SELECT ?1, id, ?3 FROM message"
                             " WHERE id = ?2");
    sql_int(&q, 1, m->id);
    sql_int(&q, 2, message);
    sql_blob(&q, 3, v, m->n_embd * sizeof *v);
    return sql_done(&q, e);
}

status vectors_get_state(sql_conn *c, const vector_model *m, vectors_state *out, err *e) {
    *out = (vectors_state){0};
    sql_query q = sql_ask(c, "SELECT coalesce((SELECT max(id) FROM vector WHERE model = ?1), 0),"
                             " coalesce((SELECT min(n) FROM gone), 0), coalesce((SELECT max(n) FROM gone), 0)");
    sql_int(&q, 1, m->id);
    if (sql_row(&q)) *out = (vectors_state){sql_get_int(&q, 0), sql_get_int(&q, 1), sql_get_int(&q, 2)};
    if (!out->gone_last) out->gone_first = 1;
    return sql_end(&q, e);
}

status vectors_count(sql_conn *c, const vector_model *m, int64_t up_to, int64_t *n, err *e) {
    sql_query q = sql_ask(c, "SELECT count(*) FROM vector WHERE model = ?1 AND id <= ?2");
    sql_int(&q, 1, m->id);
    sql_int(&q, 2, up_to);
    return sql_number(&q, 0, n, e);
}

/* The blob in this column as floats; NULL: it is none, and the question has failed. */
static const float *floats(sql_query *q, int col, const vector_model *m) {
    size_t n;
    const void *p = sql_get_blob(q, col, &n);
    if (p && n == m->n_embd * sizeof(float)) return p;
    q->rc = p || sqlite3_errcode(q->c->db) != SQLITE_NOMEM ? SQLITE_CORRUPT : SQLITE_NOMEM;
    return NULL;
}

status vectors_scan(sql_conn *c, const vector_model *m, int64_t after, const rows_filter *f, const float *v,
                    near_list *best, err *e) {
    static const rows_filter any;
    if (!f) f = &any;
    const bool filtered = f->conversation || f->role || f->from_us || f->until_us;
    strbuf text = {0};
    strbuf_puts(&text, !filtered         ? "SELECT v.message, v.data FROM vector v"
                       : f->conversation ? "SELECT v.message, v.data FROM message m CROSS JOIN vector v"
                                         : "SELECT v.message, v.data FROM vector v CROSS JOIN message m");
    strbuf_puts(&text, " WHERE v.model = ?1 AND v.id > ?2");
    if (filtered) strbuf_puts(&text, " AND m.id = v.message");
    rows_where(&text, f);
    sql_query q = rows_ask(c, &text);
    sql_int(&q, 1, m->id);
    sql_int(&q, 2, after);
    rows_bind(&q, f);
    while (sql_row(&q)) {
        const float *data = floats(&q, 1, m);
        if (!data) break;
        near_put(best, sql_get_int(&q, 0), vec_similarity(v, data, m->n_embd));
    }
    strbuf_free(&text);
    return sql_end(&q, e);
}

status vectors_compare(sql_conn *c, const vector_model *m, int64_t message, const rows_filter *f, const float *v,
                       bool *there, float *similarity, err *e) {
    sql_query q = sql_ask(c, "SELECT v.data FROM vector v JOIN message m ON m.id = v.message WHERE v.message = ?1"
                             " AND v.model = ?2 AND (?11 IS NULL OR m.conversation = ?11) AND (?12 IS NULL OR m.role ="
                             " ?12) AND (?13 IS NULL OR m.time_us >= ?13) AND (?14 IS NULL OR m.time_us < ?14)");
    sql_int(&q, 1, message);
    sql_int(&q, 2, m->id);
    if (f) rows_bind(&q, f);
    *there = false;
    if (sql_row(&q)) {
        const float *data = floats(&q, 0, m);
        *there = data != NULL;
        if (data) *similarity = vec_similarity(v, data, m->n_embd);
    }
    return sql_end(&q, e);
}

status vectors_batch(sql_conn *c, const vector_model *m, int64_t after, size_t most, int64_t *ids, int64_t *messages,
                     float *data, size_t *n, err *e) {
    *n = 0;
    sql_query q = sql_ask(c, "SELECT id, message, data FROM vector WHERE model = ?1 AND id > ?2 ORDER BY id LIMIT ?3");
    sql_int(&q, 1, m->id);
    sql_int(&q, 2, after);
    sql_int(&q, 3, (int64_t)most);
    while (sql_row(&q)) {
        const float *v = floats(&q, 2, m);
        if (!v) break;
        ids[*n] = sql_get_int(&q, 0);
        messages[*n] = sql_get_int(&q, 1);
        memcpy(data + *n * m->n_embd, v, m->n_embd * sizeof *v);
        ++*n;
    }
    return sql_end(&q, e);
}

status vectors_gone(sql_conn *c, int64_t after, size_t most, int64_t *numbers, int64_t *messages, size_t *n, err *e) {
    *n = 0;
    sql_query q = sql_ask(c, "SELECT n, message FROM gone WHERE n > ?1 ORDER BY n LIMIT ?2");
    sql_int(&q, 1, after);
    sql_int(&q, 2, (int64_t)most);
    while (sql_row(&q)) {
        numbers[*n] = sql_get_int(&q, 0);
        messages[(*n)++] = sql_get_int(&q, 1);
    }
    return sql_end(&q, e);
}

status vectors_missing(sql_conn *c, const vector_model *m, size_t most, message_list *l, err *e) {
    sql_query q = sql_ask(c, "SELECT id FROM message m WHERE NOT EXISTS (SELECT 1 FROM vector v WHERE v.message = m.id"
                             " AND v.model = ?1) ORDER BY id LIMIT ?2");
    sql_int(&q, 1, m->id);
    sql_int(&q, 2, (int64_t)most);
    status s = OK;
    while (!s && sql_row(&q)) s = rows_get(c, sql_get_int(&q, 0), l, e);
    status end = sql_end(&q, s ? NULL : e);
    return s ? s : end;
}
