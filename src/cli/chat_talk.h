/* A conversation: what was said by whom, and what the model is told before all else. As a file it is one JSON object
 * {model, system, messages, settings}. Errors are printed, as everywhere in the command line. One thread. */
#ifndef ROCMFORGE_CLI_CHAT_TALK_H
#define ROCMFORGE_CLI_CHAT_TALK_H

#include "base/str.h"

#include <jansson.h>

typedef struct {
    json_t *system;   /* string; NULL: none */
    json_t *messages; /* array of {role, content, ...}, without the system's */
} talk;

bool talk_open(talk *t, const char *system); /* false: out of memory */
void talk_close(talk *t);
void talk_clear(talk *t);                                         /* the messages */
void talk_set_system(talk *t, str text);                          /* empty: none */
bool talk_add(talk *t, const char *role, str text, str thinking); /* bytes that are no UTF-8 become U+FFFD */
void talk_drop_last(talk *t);
bool talk_last_is(const talk *t, const char *role);
json_t *talk_messages(const talk *t); /* a new array: the system's message first */

int talk_save(const talk *t, const char *model, const json_t *settings, const char *path);
/* Opens a conversation from a file, all of it checked. *settings: its object, or NULL; to be freed. */
int talk_load(talk *t, json_t **settings, const char *path);

#endif
