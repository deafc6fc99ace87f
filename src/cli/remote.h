/* A rocmforge server as these commands see it: HTTP through libcurl, answers as server-sent events. What goes wrong is an
 * rf_error with codes of its own (remote.connect, remote.auth, ...) or with the server's. A server that is full (429) is asked
 * again as its Retry-After says, a few times, and that is said on standard error. Ctrl-C cancels the request there, too.
 * One thread. */
#ifndef ROCMFORGE_CLI_REMOTE_H
#define ROCMFORGE_CLI_REMOTE_H

#include "cli/answer.h"

typedef struct remote remote;

int remote_open(remote **out, const args *a); /* --host, --api-key, --cacert; the exit status, its message printed */
void remote_close(remote *r);                 /* NULL is fine */

/* Continues a text as the command line does, by POST /completion. What came, or why nothing did, is in *w. */
void remote_generate(remote *r, const char *text, size_t n, answer *w);
/* The answer to a conversation, by POST /v1/chat/completions. kwargs: chat_template_kwargs; NULL: none. */
void remote_chat(remote *r, json_t *messages, json_t *kwargs, answer *w);

/* One JSON exchange: method "GET" or "POST" (without a body). NULL: *e says why. */
json_t *remote_json(remote *r, const char *method, const char *path, rf_error *e);
const char *remote_url(const remote *r);

#endif
