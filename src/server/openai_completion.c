/* POST /v1/completions: continues texts or ids as they are given. */
#include "server/openai_call.h"

/* `logprobs` is a number here: of alternatives, with 0 the drawn token's alone. */
static void read_logprobs(openai_call *c) {
    int64_t n = 0;
    const json_t *v = json_object_get(c->f.at, "logprobs");
    if (json_is_false(v)) {
        fields_accept(&c->f, "logprobs");
        return;
    }
    c->logprobs = fields_integer(&c->f, "logprobs", 0, 20, &n);
    c->params.n_top = (uint32_t)n;
}

static void read_fields(openai_call *c) {
    openai_inputs_read(&c->f, "prompt", OPENAI_MOST_PROMPTS, &c->prompt, &c->n_prompt);
    openai_call_fields(c);
    read_logprobs(c);
    fields_bool(&c->f, "echo", &c->echo);
    if (c->echo && c->logprobs)
        fields_bad(&c->f, "echo", "with logprobs is not built yet: there are log-probabilities of new tokens only");
    fields_empty(&c->f, "suffix");
    if (c->n_prompt * c->n > OPENAI_MOST_PROMPTS)
        fields_bad(&c->f, "n", "times the prompts is %u: at most %d", c->n_prompt * c->n, OPENAI_MOST_PROMPTS);
}

void openai_completion(app *a, exchange *x) { openai_call_serve(a, x, false, read_fields); }
