/* Messages and edges as rows. Every function works inside the transaction of the connection it is given (store.h), which the
 * caller ends; a failure means that the transaction is to be undone. */
#ifndef ROCMFORGE_CONTEXT_ROWS_H
#define ROCMFORGE_CONTEXT_ROWS_H

#include "context/message.h"
#include "context/sql.h"

/* The layout of rf_context_filter. */
typedef struct {
    const char *conversation, *role; /* NULL: any */
    int64_t from_us, until_us;       /* from <= time < until; 0: open */
    int64_t after;                   /* rows_list alone */
    uint32_t limit;
    bool newest_first;
} rows_filter;

/* " AND m.conversation = ?11 ..." for a statement that calls message m, and its values. Own values stand at 1 to 10. */
void rows_where(strbuf *text, const rows_filter *f);
void rows_bind(sql_query *q, const rows_filter *f);
/* A question of that text, or one that fails for want of memory. */
sql_query rows_ask(sql_conn *c, const strbuf *text);

/* m as message_check left it; its "follows" is made here. ERR_RANGE for an edge that leads nowhere. */
MUST_CHECK status rows_add(sql_conn *c, const context_message *m, int64_t *id, err *e);
MUST_CHECK status rows_link(sql_conn *c, int64_t from, const char *name, int64_t to, err *e);
/* Appends the message of this id, if there is one, with its edges. */
MUST_CHECK status rows_get(sql_conn *c, int64_t id, message_list *l, err *e);
MUST_CHECK status rows_list(sql_conn *c, const rows_filter *f, message_list *l, err *e);
MUST_CHECK status rows_delete(sql_conn *c, int64_t id, bool *existed, err *e);
MUST_CHECK status rows_clear(sql_conn *c, const char *conversation, int64_t *n, err *e); /* NULL: everything */
/* The ids that an edge joins with this one, either way, ascending; *out: mem_free. */
MUST_CHECK status rows_beside(sql_conn *c, int64_t id, int64_t **out, size_t *n, err *e);

typedef struct {
    int64_t messages, conversations, edges;
} rows_counts;
MUST_CHECK status rows_count(sql_conn *c, rows_counts *out, err *e);

#endif
