#include "context/sql.h"

#include "base/mem.h"

#include <errno.h>
#include <malloc.h>
#include <string.h>

static status status_of(int rc) {
    switch (rc & 0xff) {
    case SQLITE_NOMEM: return ERR_NOMEM;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return ERR_STORE_BUSY;
    case SQLITE_FULL: return ERR_STORE_FULL;
    case SQLITE_READONLY:
    case SQLITE_PERM: return ERR_STORE_READ_ONLY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return ERR_STORE_DAMAGED;
    case SQLITE_TOOBIG: return ERR_RANGE;
    case SQLITE_IOERR:
        return rc == SQLITE_IOERR_NOMEM ? ERR_NOMEM : rc == SQLITE_IOERR_DATA ? ERR_STORE_DAMAGED : ERR_IO;
    case SQLITE_CANTOPEN:
    case SQLITE_AUTH: return ERR_IO;
    default: return ERR_INTERNAL;
    }
}

static const char *advice(status s) {
    switch (s) {
    case ERR_STORE_BUSY: return "another process holds it; try again";
    case ERR_STORE_FULL: return "no space is left; nothing was kept";
    case ERR_STORE_READ_ONLY: return "it may not be written";
    case ERR_STORE_DAMAGED: return "a part of the file is damaged; export what can be read, then begin a new one";
    default: return NULL;
    }
}

status sql_fail(const sql_conn *c, int rc, err *e) {
    status s = status_of(rc);
    const char *what = c->db ? sqlite3_errmsg(c->db) : sqlite3_errstr(rc), *then = advice(s);
    int no = c->db ? sqlite3_system_errno(c->db) : 0;
    bool system = no && (s == ERR_IO || s == ERR_STORE_FULL);
    return fail(e, s, "%s: %s%s%s%s%s", c->path, what, system ? ": " : "", system ? strerror(no) : "", then ? "; " : "",
                then ? then : "");
}

status sql_exec(sql_conn *c, const char *text, err *e) {
    int rc = sqlite3_exec(c->db, text, NULL, NULL, NULL);
    return rc ? sql_fail(c, rc, e) : OK;
}

void sql_close(sql_conn *c) {
    if (!c) return;
    for (int i = 0; i < SQL_CACHED; i++) sqlite3_finalize(c->kept[i].stmt);
    sqlite3_close_v2(c->db);
    *c = (sql_conn){0};
}

/* --- questions -------------------------------------------------------------------------------------------------------- */

static int prepare(sql_conn *c, const char *text, unsigned flags, sqlite3_stmt **out) {
    return sqlite3_prepare_v3(c->db, text, -1, flags, out, NULL);
}

sql_query sql_ask(sql_conn *c, const char *literal) {
    sql_query q = {.c = c};
    int i = 0;
    while (i < SQL_CACHED && c->kept[i].text && c->kept[i].text != literal) i++;
    if (i == SQL_CACHED) return sql_ask_once(c, literal);
    if (!c->kept[i].text) {
        q.rc = prepare(c, literal, SQLITE_PREPARE_PERSISTENT, &c->kept[i].stmt);
        if (!q.rc) c->kept[i].text = literal;
    }
    q.stmt = q.rc ? NULL : c->kept[i].stmt;
    return q;
}

sql_query sql_ask_once(sql_conn *c, const char *text) {
    sql_query q = {.c = c, .once = true};
    q.rc = prepare(c, text, 0, &q.stmt);
    return q;
}

void sql_int(sql_query *q, int at, int64_t v) {
    if (!q->rc) q->rc = sqlite3_bind_int64(q->stmt, at, v);
}

void sql_text(sql_query *q, int at, str s) {
    if (q->rc) return;
    q->rc =
        s.p ? sqlite3_bind_text64(q->stmt, at, s.p, s.n, SQLITE_STATIC, SQLITE_UTF8) : sqlite3_bind_null(q->stmt, at);
}

void sql_blob(sql_query *q, int at, const void *p, size_t n) {
    if (!q->rc) q->rc = sqlite3_bind_blob64(q->stmt, at, p, n, SQLITE_STATIC);
}

bool sql_row(sql_query *q) {
    if (q->rc && q->rc != SQLITE_ROW) return false;
    q->rc = sqlite3_step(q->stmt);
    return q->rc == SQLITE_ROW;
}

int64_t sql_get_int(const sql_query *q, int col) { return sqlite3_column_int64(q->stmt, col); }
double sql_get_real(const sql_query *q, int col) { return sqlite3_column_double(q->stmt, col); }

str sql_get_text(sql_query *q, int col) {
    bool none = sqlite3_column_type(q->stmt, col) == SQLITE_NULL;
    const char *p = (const char *)sqlite3_column_text(q->stmt, col);
    if (!p && !none) q->rc = SQLITE_NOMEM;
    return (str){p ? p : "", p ? (size_t)sqlite3_column_bytes(q->stmt, col) : 0};
}

const void *sql_get_blob(sql_query *q, int col, size_t *n) {
    const void *p = sqlite3_column_blob(q->stmt, col);
    *n = p ? (size_t)sqlite3_column_bytes(q->stmt, col) : 0;
    return p;
}

status sql_end(sql_query *q, err *e) {
    int rc = q->rc;
    status s = rc == SQLITE_OK || rc == SQLITE_ROW || rc == SQLITE_DONE ? OK : sql_fail(q->c, rc, e);
    if (q->once)
        sqlite3_finalize(q->stmt);
    else if (q->stmt) {
        sqlite3_reset(q->stmt);
        sqlite3_clear_bindings(q->stmt);
    }
    q->stmt = NULL;
    q->rc = SQLITE_MISUSE; /* it is over */
    return s;
}

status sql_done(sql_query *q, err *e) {
    while (sql_row(q)) {}
    return sql_end(q, e);
}

status sql_number(sql_query *q, int64_t none, int64_t *out, err *e) {
    *out = sql_row(q) ? sql_get_int(q, 0) : none;
    return sql_end(q, e);
}

/* --- memory ----------------------------------------------------------------------------------------------------------- */

static void *take(int n) { return mem_alloc((size_t)n); }
static void *resize(void *p, int n) { return mem_resize(p, (size_t)n); }
static int size_of(void *p) { return p ? (int)malloc_usable_size(p) : 0; }
static int round_up(int n) { return (n + 7) & ~7; }
static int start(void *user) { return (void)user, SQLITE_OK; }
static void stop(void *user) { (void)user; }

bool sql_own_memory(void) {
    static const sqlite3_mem_methods ours = {take, mem_free, resize, size_of, round_up, start, stop, NULL};
    return sqlite3_config(SQLITE_CONFIG_MALLOC, &ours) == SQLITE_OK;
}
