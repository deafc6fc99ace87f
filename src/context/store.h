/* The store's file: opened, checked, made, and lent out as connections, each in a transaction of its own. Rows are the truth.
 *
 *   message   id, conversation, seq, role, time_us, text, metadata    ids ascend and are never used again
 *   edge      source, name, target                                    "follows" leads back along a conversation
 *   words     full text of message (FTS5), kept by rows.c
 *   model     id, identity, n_embd                                    who computed a vector
 *   vector    id, model, message, data (f32, of length 1)             ids ascend: an index knows up to which it came
 *   gone      n, message                                              whose vectors were deleted, for an index to learn
 *
 * What is committed is on the disk (write-ahead log, synchronous=FULL); each page carries a checksum (checked_file.h). A file
 * of another program, or of a newer version, is refused; one that cannot be opened for damage is renamed, never written
 * over. Any number of readers, each with its own state of the rows, and one writer; any thread. Other processes may do the
 * same to the same file: a writer waits for them (busy_ms). */
#ifndef ROCMFORGE_CONTEXT_STORE_H
#define ROCMFORGE_CONTEXT_STORE_H

#include "base/err.h"
#include "context/sql.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct store store;

typedef struct {
    bool read_only;
    uint32_t busy_ms;                             /* 0: 5000 */
    void (*notice)(void *user, const char *line); /* NULL: the log alone */
    void *user;
} store_options;

/* path NULL or ":memory:": in memory. ERR_STORE_*, ERR_IO, ERR_NOMEM. */
MUST_CHECK status store_open(store **out, const char *path, const store_options *opt, err *e);
void store_close(store *s); /* after every connection came back; NULL is fine */

const char *store_path(const store *s); /* NULL: in memory */
bool store_is_read_only(const store *s);
const uint8_t *store_identity(const store *s); /* [16], random, for life; an index names it */
int64_t store_bytes(const store *s);           /* of the file; 0: in memory */
__attribute__((format(printf, 2, 3))) void store_notice(store *s, const char *fmt, ...);

/* A connection that sees one state of the rows until it is handed back. */
MUST_CHECK status store_read(store *s, sql_conn **out, err *e);
void store_read_end(store *s, sql_conn *c);

/* The writer, in a transaction: ended by one of the two. */
MUST_CHECK status store_write(store *s, sql_conn **out, err *e);
MUST_CHECK status store_commit(store *s, sql_conn *c, status so_far, err *e); /* so_far not OK: undone, so_far given */

/* After rows were deleted for good: nothing of them is left in the file or its log, and the file gives back its room where
 * `all` of it went. Others that still read keep their state: then it is ERR_STORE_BUSY, the deletion stands. */
MUST_CHECK status store_wipe(store *s, bool all, err *e);

#endif
