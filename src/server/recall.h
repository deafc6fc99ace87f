/* Recall: earlier messages of a context store that have to do with what is said now, put before the model as a note of bounded
 * length, and new turns kept there. For chat over HTTP and on the command line. What is called here waits for the disk and maybe
 * for an engine. Any thread. */
#ifndef ROCMFORGE_SERVER_RECALL_H
#define ROCMFORGE_SERVER_RECALL_H

#include "base/json.h"
#include "rocmforge.h"

enum { RECALL_MOST = 64, RECALL_BUDGET = 512, RECALL_NAME_BYTES = 129 };

typedef struct {
    uint32_t k;                           /* messages at most, 1 .. RECALL_MOST; 0: no recall */
    uint32_t budget;                      /* tokens of the whole note at most */
    char conversation[RECALL_NAME_BYTES]; /* where to look, and to keep; empty: everywhere, and in "default" */
    bool store;
} recall_options;

typedef struct {
    strbuf note; /* empty: nothing was found, or nothing fits */
    int64_t id[RECALL_MOST];
    uint32_t n, n_tokens;
    rf_context_mode mode;
    int64_t stored[2]; /* ids of the question and of the answer; 0: not kept */
} recalled;

/* What the last user of a list of chat messages says, put together from its parts. Empty: nothing. false: no memory. */
bool recall_question(const json_t *messages, strbuf *out);

/* Looks for the question and writes the note; `messages`, which the model is given anyway, are not told again. A question that is
 * longer than the store's engine reads is looked for by its words. */
bool recall_find(rf_context *c, const rf_model *m, const recall_options *o, str question, const json_t *messages,
                 recalled *out, rf_error *e);
/* Puts the note before the conversation: at the end of its first message, where that is a system's, else as one of its own.
 * false: no memory. */
bool recall_put(json_t *messages, const recalled *r);
/* Keeps both, or neither; one without text is left out. */
bool recall_store(rf_context *c, const recall_options *o, str question, str answer, recalled *out, rf_error *e);

/* {messages, tokens, ids, mode}, and `stored` [ids] where something was to be kept. NULL: no memory */
json_t *recall_usage(const recall_options *o, const recalled *r);
const char *recall_mode_name(rf_context_mode m);
void recall_free(recalled *r);

#endif
