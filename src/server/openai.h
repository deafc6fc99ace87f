/* What the OpenAI routes share: the model's name and card, ids, usage, fields that mean the same everywhere, and a prompt on
 * its way to the engine. A generation's reply stands in openai_reply.h. Loop thread. */
#ifndef ROCMFORGE_SERVER_OPENAI_H
#define ROCMFORGE_SERVER_OPENAI_H

#include "base/json.h"
#include "server/app.h"
#include "server/fields.h"

typedef struct {
    char text[48];
} openai_id;

openai_id openai_new_id(const char *prefix); /* "chatcmpl-" and 24 random digits */
int64_t openai_now(void);                    /* seconds since 1970 */
const char *openai_fingerprint(app *a);      /* program version and a hash of the model; lives as long as a */
/* {prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details {cached_tokens}, cached_tokens}; NULL: no memory */
json_t *openai_usage(uint64_t n_prompt, uint64_t n_completion, uint64_t n_cached);
uint64_t openai_random_seed(void);

/* "model": any name, or with --strict-model the loaded one (404 model_not_found). false: it replied, f is closed. */
bool openai_check_model(fields *f);
void openai_ignored_fields(fields *f); /* what clients send by habit: taken, with a word in `warnings` */
/* The array of warnings under its key, when it is not empty. Takes warnings. */
void openai_put_warnings(json_t *reply, json_t *warnings);
/* Replies 400 context_length_exceeded when n tokens of prompt leave no room for one more; param names the field. */
bool openai_fits(exchange *x, size_t n_tokens, const char *param);

void openai_chat(app *a, exchange *x);
void openai_completion(app *a, exchange *x);
void openai_embeddings(app *a, exchange *x);
void openai_rerank(app *a, exchange *x);
void llamacpp_embedding(app *a, exchange *x); /* llama.cpp's form of it */

#endif
