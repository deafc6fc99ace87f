/* The context store's messages as JSON, and what clients write of them: queries and bodies, checked by name and range. Pure
 * functions; those that take fields are for the loop thread. */
#ifndef ROCMFORGE_SERVER_CONTEXT_JSON_H
#define ROCMFORGE_SERVER_CONTEXT_JSON_H

#include "server/fields.h"

typedef enum { /* parameters of queries */
               CONTEXT_Q,
               CONTEXT_K,
               CONTEXT_EXPAND,
               CONTEXT_MODE,
               CONTEXT_CONVERSATION,
               CONTEXT_ROLE,
               CONTEXT_SINCE,
               CONTEXT_UNTIL,
               CONTEXT_LIMIT,
               CONTEXT_AFTER,
               CONTEXT_ORDER,
               CONTEXT_ALL,
               N_CONTEXT_PARAMS
} context_param;
enum { CONTEXT_FILTERS = 1 << CONTEXT_CONVERSATION | 1 << CONTEXT_ROLE | 1 << CONTEXT_SINCE | 1 << CONTEXT_UNTIL };

/* Reads the query into text[N_CONTEXT_PARAMS], each checked. `taken`: bits of those the route takes, others are refused. NULL: it
 * is good; else the parameter's name, and *message says what is wrong with it, or is empty: no memory. */
const char *context_read_query(const exchange *x, unsigned taken, strbuf *text, char *message, size_t size);
int64_t context_number(const char *text); /* of one that was checked; "true" and "false" are 1 and 0. -1: it is none */
/* Microseconds since 1970 of "2026-11-21", "2026-11-21T10:20:30.5Z" (UTC) or seconds since 1970. 0: it is no such time. */
int64_t context_instant(const char *text);
rf_context_mode context_mode(const char *text); /* NULL: AUTO; checked before */

/* One message of a body: `v` is `messages[i]` (in_list), or the body itself. Fills *m, which borrows its texts from v; its metadata
 * and edges are freed by context_messages_free. */
void context_read_message(fields *f, json_t *v, bool in_list, size_t i, rf_message *m);
void context_messages_free(rf_message *m, size_t n);

/* {id, text, role, conversation, seq_id, timestamp, metadata, edges}; NULL: no memory */
json_t *context_message_json(const rf_message *m);
json_t *context_list_json(const rf_messages *found); /* {messages, total, more, next_after} */
json_t *context_hits_json(const rf_context_hits *hits,
                          str query); /* {query, messages, total_messages, result_count, mode, exact} */

#endif
