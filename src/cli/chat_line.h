/* Lines of a conversation: from a terminal with editing and history (libedit), or from a pipe, one at a time, without a
 * prompt. The history is a file of plain lines, readable by its owner only, appended to as lines come and cut to its newest
 * when it is opened. The prompt goes to standard error, or to standard output where only that is a terminal. Main thread. */
#ifndef ROCMFORGE_CLI_CHAT_LINE_H
#define ROCMFORGE_CLI_CHAT_LINE_H

#include "base/str.h"

typedef struct line_reader line_reader;

typedef enum {
    LINE_TEXT,
    LINE_END,            /* Ctrl-D at an empty prompt, or the end of the input */
    LINE_CLEARED,        /* Ctrl-C: what was typed is dropped */
    LINE_STOP,           /* Ctrl-C at an empty prompt */
    LINE_ENDED_BY_SIGNAL /* SIGTERM, SIGHUP */
} line_result;

/* history: where lines are kept; NULL: nowhere. NULL: out of memory. */
line_reader *line_open(const char *history);
void line_close(line_reader *r); /* NULL is fine */
bool line_on_terminal(const line_reader *r);
/* The next line without its end, *text borrowed until the next call. */
line_result line_read(line_reader *r, const char *prompt, str *text);

/* $XDG_STATE_HOME/rocmforge/history, else ~/.local/state/...; folders are made. false: there is no such place. */
bool line_history_path(strbuf *out);

#endif
