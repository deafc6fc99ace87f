/* What one generation gave, wherever it was made: by the engine in this process (local.c) or by a server (remote.c). Text is
 * shown as it comes or kept for --json; at the end the answer is printed in one of both forms, with one exit status.
 * Filled by one thread at a time; answer_free frees what is in it. */
#ifndef ROCMFORGE_CLI_ANSWER_H
#define ROCMFORGE_CLI_ANSWER_H

#include "cli/cli.h"
#include "server/reasoning.h"

enum { ANSWER_TAG_TOKENS = 8 };

typedef struct {
    int32_t id;
    char *text; /* of the library: rf_free */
} tag_token;

typedef struct {
    const args *a;
    reasoning split;                  /* begun where an answer is split here; else all is text */
    tag_token tag[ANSWER_TAG_TOKENS]; /* control tokens that stand for tags of thinking: they come without a text */
    uint32_t n_tag;
    bool chat;       /* summary and JSON say what only conversations have */
    bool show;       /* text goes to standard output as it comes */
    bool show_think; /* thinking, too, dimmed on terminals */
    bool started;    /* the engine or server took it: text may come */
    bool dimmed, note_shown;
    bool deaf; /* standard output is gone: nothing more is wanted */
    strbuf text, thinking;
    json_t *tokens, *logprobs; /* NULL: not asked for */
    uint64_t seed;
    bool failed;
    rf_error error; /* failed */
    rf_finish finish;
    uint32_t n_prompt, n_cached, n_predicted, context; /* context 0: not known */
    int64_t prompt_us, predicted_us;
    json_t *recall;        /* what was recalled and kept; NULL: nothing was to be */
    uint32_t n_host_drawn; /* and why, static */
    const char *host_drawn_why;
    json_t *info, *warnings; /* of the engine: device, load_ms; strings. NULL: not known */
} answer;

void answer_begin(answer *w, const args *a);
void answer_free(answer *w);

void answer_progress(answer *w, uint32_t done, uint32_t total); /* of the prompt, for terminals */
/* The answer to this prompt is to be split by the tags that the template speaks of. */
void answer_split(answer *w, const rf_model *m, str tmpl, const rf_prompt *prompt);
void answer_add(answer *w, int32_t id, const char *p, size_t n); /* a token's text as generated: split here */
void answer_add_part(answer *w, bool thinking, const char *p, size_t n);
void answer_add_token(answer *w, int32_t id, float logprob, const rf_alternative *top, uint32_t n_top);
void answer_end(answer *w);                     /* nothing more comes */
void answer_fail(answer *w, const rf_error *e); /* instead */

/* Prints what is left to print: the end of the text or the JSON object, the error, the summary. The exit status. */
int answer_finish(answer *w);

/* Request parameters as the arguments say, with a seed that is chosen here when none is given. */
rf_request_params answer_params(const args *a);
const char *answer_finish_name(rf_finish f); /* "stop", "length", "cancelled" */

#endif
