/* SQLite, made ours: a connection with its prepared statements, its errors as `status`, and questions whose failures are
 * looked at once, at their end. A connection is held by one thread at a time (store.h lends them). Texts bound to a question
 * are borrowed until query_end; texts read from a row live until the next row.
 * SQLite's memory stays SQLite's: its allocator can only be set for the whole process, before anyone uses it and while no other
 * thread does, which a library cannot know. Programs of our own may (sql_own_memory). */
#ifndef ROCMFORGE_CONTEXT_SQL_H
#define ROCMFORGE_CONTEXT_SQL_H

#include "base/err.h"
#include "base/str.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SQL_CACHED = 48 }; /* statements a connection keeps */

typedef struct sql_conn {
    sqlite3 *db;
    const char *path; /* for messages; borrowed */
    struct {
        const char *text; /* the literal it was made from: compared by address */
        sqlite3_stmt *stmt;
    } kept[SQL_CACHED];
    struct sql_conn *next; /* the pool's */
} sql_conn;

/* What SQLite said last on this connection, as our status and a sentence. */
status sql_fail(const sql_conn *c, int rc, err *e);
/* Runs statements without parameters or results. */
MUST_CHECK status sql_exec(sql_conn *c, const char *text, err *e);
void sql_close(sql_conn *c); /* the connection and its statements; NULL is fine, c->db may be NULL */

/* SQLite's blocks from base/mem.h from now on. Only before anything else of SQLite was called, by a program of one thread. */
bool sql_own_memory(void);

typedef struct {
    sql_conn *c;
    sqlite3_stmt *stmt;
    int rc;    /* sticky */
    bool once; /* not kept: finalized at the end */
} sql_query;

sql_query sql_ask(sql_conn *c, const char *literal);   /* a string literal: the statement is kept */
sql_query sql_ask_once(sql_conn *c, const char *text); /* any text */
void sql_int(sql_query *q, int at, int64_t v);
void sql_text(sql_query *q, int at, str s); /* s.p NULL: SQL's NULL */
void sql_blob(sql_query *q, int at, const void *p, size_t n);
bool sql_row(sql_query *q); /* false: the end, or a failure */
int64_t sql_get_int(const sql_query *q, int col);
double sql_get_real(const sql_query *q, int col);
str sql_get_text(sql_query *q, int col);
const void *sql_get_blob(sql_query *q, int col, size_t *n);
MUST_CHECK status sql_end(sql_query *q, err *e);  /* OK, or why a row did not come */
MUST_CHECK status sql_done(sql_query *q, err *e); /* runs it to its end, then sql_end */
/* The first column of its first row, or `none` where there is no row. */
MUST_CHECK status sql_number(sql_query *q, int64_t none, int64_t *out, err *e);

#endif
