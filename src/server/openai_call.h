/* One generation asked for in OpenAI's form, chat or text: what was asked (openai_call.c), its way to the engine, and the
 * reply, whole or as a stream of events (openai_reply.c). A call owns itself from the moment it runs: it is freed when its
 * job is released, or when it was refused. Loop thread; only `prepare` may run on another, while the loop leaves it alone. */
#ifndef ROCMFORGE_SERVER_OPENAI_CALL_H
#define ROCMFORGE_SERVER_OPENAI_CALL_H

#include "server/job.h"
#include "server/openai.h"
#include "server/openai_input.h"
#include "server/reasoning.h"
#include "server/recall.h"

enum {
    OPENAI_MOST_CHOICES = 16,  /* n */
    OPENAI_MOST_PROMPTS = 128, /* of one /v1/completions, and of its choices together */
    OPENAI_MOST_TAG_TOKENS = 8
};

typedef struct {
    reasoning split;
    strbuf thought, answer; /* so far, or since the last event of a stream */
    json_t *logprobs;       /* likewise: chat an array, text an object of arrays. NULL: none */
    json_t *pending;        /* of a token without text yet: dropped when it turns out to have ended the answer */
    size_t n_chars;         /* of text so far, for text_offset */
    bool begun;
    rf_finish finish;
    uint32_t n_prompt, n_predicted, n_cached;
} openai_choice;

typedef struct openai_call openai_call;
struct openai_call {
    app *app;
    exchange *x; /* until the job has it */
    fields f;
    bool fields_open, chat;
    rf_request_params params;
    sampler_lists lists;
    bool stream, include_usage, logprobs, echo, split_reasoning;
    uint32_t n;           /* choices of each prompt */
    json_t *variables;    /* chat: what the template is given */
    openai_input *prompt; /* [n_prompt]; one for a chat */
    uint32_t n_prompt;
    rf_error error; /* of prepare; code empty: none */
    /* the reply */
    openai_id id;
    int64_t created;
    json_t *warnings;
    const reasoning_tags *tags;
    bool opened;                           /* the prompt opened the tag of thoughts */
    int32_t shown[OPENAI_MOST_TAG_TOKENS]; /* control tokens that make up the tags: their text is wanted */
    uint32_t n_shown;
    openai_choice *choice; /* [n_choices] */
    uint32_t n_choices, n_finished;
    /* recall */
    recall_options recall; /* all zero: not asked for */
    recalled recalled;
    strbuf answer;                /* of choice 0, where it is to be kept */
    json_t *timings;              /* of the job, which may be gone when the answer was kept */
    void (*then)(openai_call *c); /* what follows the store's work */
    bool streaming, no_memory;    /* streaming: the head was sent */
};

/* A route's whole way: the body is opened, read_fields checks what the route takes, then the call runs, or has replied. */
void openai_call_serve(app *a, exchange *x, bool chat, void (*read_fields)(openai_call *c));
void openai_call_fields(openai_call *c); /* those that chat and text share */
void openai_call_drop(openai_call *c);   /* frees one that was refused: replied by its caller */

/* openai_reply.c: what the job calls. */
void openai_reply_event(job *j, const job_event *ev);
void openai_reply_tick(job *j);
void openai_reply_done(job *j);

/* openai_logprobs.c. An entry of a token, where its text begins at character `offset` of the whole. NULL: no memory. */
json_t *openai_logprob(const openai_call *c, const job_event *ev, size_t offset);
json_t *openai_logprobs_new(bool chat);
bool openai_logprobs_add(json_t *all, json_t *entry, bool chat); /* takes entry; all NULL, or false: no memory */

/* openai_context.c. `context` of a chat is read; messages are found and put before the conversation, then `then` goes on (or it
 * replied, and the call is dropped); question and answer are kept, then `then` ends the reply at c->x, and the call is dropped:
 * false: it cannot be, c->error says why, and nothing was begun. What `usage` says of it; NULL: no memory. */
void openai_context_read(openai_call *c);
void openai_context_find(openai_call *c, void (*then)(openai_call *c));
bool openai_context_keep(openai_call *c, exchange *x, void (*then)(openai_call *c));
json_t *openai_context_usage(const openai_call *c);

/* openai_messages.c: `messages` checked and put into c->variables with everything else a template may be given. */
void openai_messages(openai_call *c);

#endif
