/* A message and lists of them, as callers give and get them. The layouts are those of rf_message and rf_messages
 * (rocmforge.h), which says what each field means and what it may hold. A list owns all that its messages point to; it
 * belongs to one thread at a time. */
#ifndef ROCMFORGE_CONTEXT_MESSAGE_H
#define ROCMFORGE_CONTEXT_MESSAGE_H

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MESSAGE_TEXT_MOST = 1 << 20,
    MESSAGE_METADATA_MOST = 64 << 10,
    MESSAGE_NAME_MOST = 64, /* of a role or an edge */
    MESSAGE_CONVERSATION_MOST = 128
};

typedef struct {
    const char *name;
    int64_t to;
} context_edge;

typedef struct {
    int64_t id, seq, time_us;
    const char *text;
    size_t n_text;
    const char *role, *conversation, *metadata;
    const context_edge *edges;
    size_t n_edges;
} context_message;

typedef struct {
    context_message *item;
    size_t n;
    int64_t total;
    bool more;
} message_list;

message_list *message_list_new(void); /* NULL: out of memory */
void message_list_free(message_list *l);
/* A copy of m behind the others; its edges are left out. false: out of memory. */
bool message_list_add(message_list *l, const context_message *m);
bool message_add_edge(message_list *l, size_t i, str name, int64_t to); /* to the list's own message */

bool message_is_name(const char *z, size_t most); /* [A-Za-z0-9._-]{1,most} */
/* What a new message may be: ERR_RANGE names the field. Fills in what was left out; metadata is written to *compact. */
MUST_CHECK status message_check(context_message *m, strbuf *compact, err *e);

#endif
