/* POST /v1/chat/completions: a conversation through the model's template. */
#include "server/openai_call.h"

#include <string.h>

static void read_logprobs(openai_call *c) {
    int64_t n = 0;
    fields_bool(&c->f, "logprobs", &c->logprobs);
    if (fields_integer(&c->f, "top_logprobs", 0, 20, &n) && n > 0 && !c->logprobs)
        fields_bad(&c->f, "top_logprobs", "needs \"logprobs\": true");
    c->params.n_top = (uint32_t)n;
}

/* "none": thoughts stay in the content, tags and all. */
static void read_reasoning_format(openai_call *c) {
    const char *format = "auto";
    size_t n;
    fields_string(&c->f, "reasoning_format", &format, &n);
    c->split_reasoning = strcmp(format, "none") != 0;
    if (c->split_reasoning && strcmp(format, "auto") && strcmp(format, "deepseek"))
        fields_bad(&c->f, "reasoning_format", "must be none, auto or deepseek");
}

/* Without tools there is nothing to choose. */
static void read_tool_choice(openai_call *c) {
    static const char *const names[] = {"tool_choice", "function_call"};
    for (int i = 0; i < 2; i++) {
        const json_t *v = fields_any(&c->f, names[i]);
        const char *choice = json_string_value(v);
        if (v && (!choice || strcmp(choice, "none")))
            fields_refuse(&c->f, names[i], "is not supported yet: tools are not built");
    }
}

static void read_modalities(openai_call *c) {
    const json_t *v = fields_any(&c->f, "modalities");
    for (size_t i = 0; i < json_array_size(v); i++) {
        const char *name = json_string_value(json_array_get(v, i));
        if (!name || strcmp(name, "text"))
            fields_refuse(&c->f, "modalities", "must be [\"text\"]: others are not supported yet");
    }
    if (v && !json_array_size(v)) fields_bad(&c->f, "modalities", "must be a list of at least one");
}

static void read_fields(openai_call *c) {
    openai_messages(c);
    openai_call_fields(c);
    openai_context_read(c);
    read_logprobs(c);
    read_reasoning_format(c);
    read_tool_choice(c);
    read_modalities(c);
    fields_ignore(&c->f, "verbosity");
}

void openai_chat(app *a, exchange *x) { openai_call_serve(a, x, true, read_fields); }
