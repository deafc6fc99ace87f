/* rocmforge chat: a conversation, by the model's own template, with an engine in this process or with a server. What the
 * parts of it share: chat.c (turns and the loop), chat_command.c (slash commands), chat_recall.c (kept messages). Main thread. */
#ifndef ROCMFORGE_CLI_CHAT_H
#define ROCMFORGE_CLI_CHAT_H

#include "cli/chat_line.h"
#include "cli/chat_talk.h"
#include "cli/remote.h"
#include "cli/store.h"
#include "server/recall.h"

typedef struct {
    args a; /* as given, then as /set says; what /set was given is in `kept` */
    json_t *kept;
    rf_model *m;
    rf_engine *g;
    remote *server; /* instead of model and engine */
    char *tmpl;     /* --chat-template-file; NULL: the model's own */
    size_t n_tmpl;
    json_t *kwargs; /* of the template */
    talk talk;
    strbuf unanswered; /* what was said last, but got no answer: /regen says it again */
    cli_store store;   /* --context */
    recall_options recall;
    recalled recalled;          /* for the last answer, and where it was kept */
    uint32_t n_regen;           /* of the last answer: each has another seed */
    uint32_t n_used, n_context; /* tokens, after the last answer; 0: not known */
    line_reader *lines;
    bool deaf;  /* standard output is gone */
    int failed; /* exit status of a turn that failed; a person at a terminal has seen it, and ends with 0 */
} chat;

/* Says something and prints what comes back; both are kept in the conversation. The exit status of that. */
int chat_say(chat *c, str text);
int chat_again(chat *c);            /* another answer to what was said last */
bool chat_goes_on(chat *c, int rc); /* after a turn of this exit status */
const char *chat_model_name(const chat *c);

/* chat_recall.c: --context and what goes with it; the exit status. What is found goes before the messages; both sides of a turn are
 * kept, messages as the model was given them. */
int chat_open_store(chat *c);
bool chat_recall(chat *c, json_t *messages, rf_error *e);
int chat_keep(chat *c, json_t *messages, answer *w);

/* A line that begins with a slash. false: the conversation ends. */
bool chat_command(chat *c, const char *line);

#endif
