/* The messages of a chat and what else its template is given: checked, and brought to the form templates are written for. */
#include "server/openai_call.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    openai_call *c;
    str template;
    size_t at; /* which message */
    bool no_memory;
} reader;

/* Refuses messages[at] and what `where` says of it: ".content". */
__attribute__((format(printf, 3, 4))) static void bad(reader *r, const char *where, const char *fmt, ...) {
    char name[64], why[160];
    snprintf(name, sizeof name, "messages[%zu]%s", r->at, where);
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    fields_bad(&r->c->f, name, "%s", why);
}

static bool template_says(const reader *r, const char *word) {
    return r->template.n && memmem(r->template.p, r->template.n, word, strlen(word));
}

/* --- roles ------------------------------------------------------------------------------------------------------------ */

/* The name a template knows a role by; NULL: refused. Most know nothing of developer and function, which came later and
 * went earlier than they. */
static const char *role_of(reader *r, const json_t *message) {
    static const char *const known[] = {"system", "user", "assistant", "tool", "developer", "function"};
    const json_t *v = json_object_get(message, "role");
    const char *role = json_string_value(v);
    if (!role) {
        bad(r, ".role", "must be a string");
        return NULL;
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(role, known[i])) continue;
        if (i == 4 && !template_says(r, "developer")) return "system";
        return i == 5 ? "tool" : known[i];
    }
    bad(r, ".role", "must be system, developer, user, assistant or tool");
    return NULL;
}

/* --- content ---------------------------------------------------------------------------------------------------------- */

static const json_t *text_of_part(reader *r, size_t k, const json_t *part) {
    char where[40];
    snprintf(where, sizeof where, ".content[%zu]", k);
    const char *type = json_string_value(json_object_get(part, "type"));
    if (!type) {
        bad(r, where, "must be an object with a \"type\"");
        return NULL;
    }
    const bool refusal = !strcmp(type, "refusal");
    if (!refusal && strcmp(type, "text")) {
        bad(r, where, "is not text: images, audio and files are not built yet");
        return NULL;
    }
    const json_t *text = json_object_get(part, refusal ? "refusal" : "text");
    if (json_is_string(text)) return text;
    snprintf(where, sizeof where, ".content[%zu].text", k);
    bad(r, where, "must be a string");
    return NULL;
}

/* Parts stay parts: rf_render joins them for templates that want one text. */
static json_t *copy_parts(reader *r, const json_t *parts) {
    json_t *out = json_array();
    if (!json_array_size(parts)) bad(r, ".content", "must not be an empty list");
    for (size_t k = 0; k < json_array_size(parts) && !r->c->f.failed; k++) {
        const json_t *text = text_of_part(r, k, json_array_get(parts, k));
        if (!text) break;
        if (json_array_append_new(out, json_pack("{ss sO}", "type", "text", "text", text))) r->no_memory = true;
    }
    return out;
}

static bool may_be_silent(const json_t *message, const char *role) {
    static const char *const instead[] = {"tool_calls", "function_call", "reasoning_content", "refusal"};
    for (size_t i = 0; i < sizeof instead / sizeof *instead; i++) {
        const json_t *v = json_object_get(message, instead[i]);
        if (v && !json_is_null(v)) return strcmp(role, "assistant") == 0;
    }
    return false;
}

static json_t *content_of(reader *r, json_t *message, const char *role) {
    json_t *v = json_object_get(message, "content");
    if (json_is_string(v)) return json_incref(v);
    if (json_is_array(v)) return copy_parts(r, v);
    if (v && !json_is_null(v))
        bad(r, ".content", "must be a string or a list of parts");
    else if (!may_be_silent(message, role))
        bad(r, ".content", "is missing");
    return json_string(""); /* templates add it to text: null would not do */
}

/* --- calls of tools --------------------------------------------------------------------------------------------------- */

/* Clients send arguments as a string of JSON; templates that write or walk them as an object want them so. */
static bool wants_objects(const reader *r) {
    static const char *const signs[] = {"arguments | tojson", "arguments|tojson", "arguments.items()",
                                        "arguments|items", "arguments | items"};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (template_says(r, signs[i])) return true;
    return false;
}

static json_t *arguments_of(reader *r, size_t k, json_t *v) {
    char where[64];
    if (v && json_is_object(v)) return json_incref(v);
    json_t *parsed = NULL;
    json_error_t e;
    const str text = {json_string_value(v), json_string_length(v)};
    if (json_is_string(v) && json_read(&parsed, text, JSON_ALLOW_NUL, &e) == ERR_NOMEM) {
        r->no_memory = true;
        return NULL;
    }
    if (parsed && json_is_object(parsed)) {
        if (wants_objects(r)) return parsed;
        json_decref(parsed);
        return json_incref(v);
    }
    json_decref(parsed);
    snprintf(where, sizeof where, ".tool_calls[%zu].function.arguments", k);
    bad(r, where, "must be a JSON object written as a string");
    return NULL;
}

static json_t *copy_call(reader *r, size_t k, json_t *call) {
    char where[64];
    json_t *function = json_object_get(call, "function");
    snprintf(where, sizeof where, ".tool_calls[%zu].function", k);
    if (!json_is_object(function) || !json_is_string(json_object_get(function, "name"))) {
        bad(r, where, "must be an object with a name");
        return NULL;
    }
    json_t *arguments = arguments_of(r, k, json_object_get(function, "arguments"));
    json_t *f = arguments ? json_copy(function) : NULL, *out = f ? json_copy(call) : NULL;
    if (!out || json_object_set(f, "arguments", arguments) || json_object_set(out, "function", f)) r->no_memory = true;
    json_decref(arguments);
    json_decref(f);
    return out;
}

static json_t *copy_calls(reader *r, json_t *calls) {
    if (!json_is_array(calls)) {
        bad(r, ".tool_calls", "must be a list");
        return NULL;
    }
    json_t *out = json_array();
    for (size_t k = 0; k < json_array_size(calls) && !r->c->f.failed; k++) {
        json_t *v = copy_call(r, k, json_array_get(calls, k));
        if (json_array_append_new(out, v)) r->no_memory = true; /* takes v where there is no out too */
    }
    return out;
}

/* --- messages --------------------------------------------------------------------------------------------------------- */

static void check_string(reader *r, const json_t *message, const char *key) {
    char where[40];
    const json_t *v = json_object_get(message, key);
    snprintf(where, sizeof where, ".%s", key);
    if (v && !json_is_null(v) && !json_is_string(v)) bad(r, where, "must be a string");
}

static json_t *copy_message(reader *r, json_t *message) {
    if (!json_is_object(message)) {
        bad(r, "", "must be an object with role and content");
        return NULL;
    }
    const char *role = role_of(r, message);
    if (!role) return NULL;
    static const char *const strings[] = {"name", "tool_call_id", "reasoning_content", "refusal"};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) check_string(r, message, strings[i]);
    const json_t *audio = json_object_get(message, "audio");
    if (audio && !json_is_null(audio)) bad(r, ".audio", "is not built yet");
    json_t *calls = json_object_get(message, "tool_calls"), *out = json_copy(message);
    if (!out || json_object_set_new(out, "role", json_string(role)) ||
        json_object_set_new(out, "content", content_of(r, message, role)))
        r->no_memory = true;
    if (calls && !json_is_null(calls) && json_object_set_new(out, "tool_calls", copy_calls(r, calls)))
        r->no_memory = true;
    return out;
}

static json_t *copy_messages(reader *r) {
    json_t *v = fields_any(&r->c->f, "messages");
    if (!v || !json_is_array(v) || !json_array_size(v)) {
        fields_bad(&r->c->f, "messages", v ? "must be a list of at least one" : "is missing");
        return NULL;
    }
    json_t *out = json_array();
    for (r->at = 0; r->at < json_array_size(v) && !r->c->f.failed; r->at++) {
        json_t *m = copy_message(r, json_array_get(v, r->at));
        if (json_array_append_new(out, m)) r->no_memory = true;
    }
    return out;
}

/* --- what else a template may see ------------------------------------------------------------------------------------- */

/* Names that are ours to give: a client that set them would change what a message is, or who said it. */
static bool is_reserved(const char *name) {
    static const char *const ours[] = {"messages",      "tools",
                                       "functions",     "documents",
                                       "bos_token",     "eos_token",
                                       "unk_token",     "pad_token",
                                       "sep_token",     "cls_token",
                                       "mask_token",    "add_generation_prompt",
                                       "chat_template", "continue_final_message",
                                       "tokenize",      "tokenizer",
                                       "strftime_now",  "raise_exception",
                                       "namespace",     "range",
                                       "dict",          "lipsum",
                                       "cycler",        "joiner",
                                       "loop",          "caller",
                                       "varargs",       "kwargs",
                                       "self",          "custom_tools",
                                       "builtin_tools", "additional_special_tokens"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (!strcmp(name, ours[i])) return true;
    return false;
}

static bool is_plain_name(const char *name) {
    const size_t n = strlen(name);
    return n && n <= 64 && strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == n &&
           name[0] > '9' && name[0] != '_';
}

static void read_kwargs(openai_call *c) {
    enum { MOST = 32, TEXT_BYTES = 1024 };
    json_t *v = fields_any(&c->f, "chat_template_kwargs"), *value;
    const char *key;
    if (!v) return;
    if (!json_is_object(v) || json_object_size(v) > MOST) {
        fields_bad(&c->f, "chat_template_kwargs", "must be an object of at most %d values", MOST);
        return;
    }
    json_object_foreach(v, key, value) {
        const bool plain = !json_is_object(value) && !json_is_array(value) && json_string_length(value) <= TEXT_BYTES;
        if (!is_plain_name(key) || is_reserved(key))
            fields_bad(&c->f, "chat_template_kwargs", "holds a name that is not a client's to set");
        else if (!plain)
            fields_bad(&c->f, "chat_template_kwargs", "takes truth values, numbers and short texts");
        else
            json_object_set(c->variables, key, value);
    }
}

static void read_effort(openai_call *c) {
    static const char *const known[] = {"none", "minimal", "low", "medium", "high", "xhigh", "max"};
    const char *effort;
    size_t n;
    if (!fields_string(&c->f, "reasoning_effort", &effort, &n)) return;
    bool ok = false;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) ok |= !strcmp(effort, known[i]);
    if (!ok) fields_bad(&c->f, "reasoning_effort", "must be none, minimal, low, medium, high, xhigh or max");
    json_object_set_new(c->variables, "reasoning_effort", json_string(effort));
    if (strcmp(effort, "none")) return;
    json_object_set_new(c->variables, "enable_thinking", json_false());
    json_object_set_new(c->variables, "thinking", json_false());
}

static void read_generation_prompt(openai_call *c) {
    bool add = true, go_on = false;
    fields_bool(&c->f, "add_generation_prompt", &add);
    if (fields_bool(&c->f, "continue_final_message", &go_on) && go_on)
        fields_refuse(&c->f, "continue_final_message", "is not built yet");
    json_object_set_new(c->variables, "add_generation_prompt", json_boolean(add));
}

void openai_messages(openai_call *c) {
    size_t n = 0;
    const char *own = rf_model_template(c->app->model, &n);
    const server_options *opt = c->app->opt;
    reader r = {.c = c, .template = opt->chat_template ? str_of(opt->chat_template) : (str){own, own ? n : 0}};
    json_error_t e;
    c->variables = opt->template_kwargs ? json_loads(opt->template_kwargs, 0, &e) : json_object();
    if (!json_is_object(c->variables)) {
        json_decref(c->variables);
        c->variables = json_object();
    }
    read_effort(c);
    read_kwargs(c);
    read_generation_prompt(c);
    json_t *messages = copy_messages(&r);
    if (!c->variables || json_object_set_new(c->variables, "messages", messages)) r.no_memory = true;
    if (r.no_memory) fields_no_memory(&c->f, "the messages"); /* unless something was wrong before */
}
