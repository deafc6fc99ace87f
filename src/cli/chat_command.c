/* The slash commands of a conversation: one table, by which they are found, helped with and run. */
#include "cli/chat.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name, *value, *help;
    bool (*run)(chat *c, const char *rest); /* false: the conversation ends */
} command;
static const command commands[];

static bool run_clear(chat *c, const char *rest) {
    (void)rest;
    talk_clear(&c->talk);
    strbuf_clear(&c->unanswered);
    c->n_used = 0;
    cli_note("cleared%s", c->talk.system ? "; the system prompt stays" : "");
    return true;
}

static bool run_regen(chat *c, const char *rest) {
    (void)rest;
    int rc = chat_again(c);
    return rc == EXIT_USAGE || chat_goes_on(c, rc);
}

static bool run_system(chat *c, const char *rest) {
    talk_set_system(&c->talk, str_of(rest));
    cli_note(*rest ? "system prompt set" : "no system prompt from now on");
    return true;
}

static bool run_save(chat *c, const char *rest) {
    json_t *settings = args_sampling(&c->a);
    if (!*rest)
        cli_usage("usage.argument", "which file? /save FILE");
    else if (talk_save(&c->talk, chat_model_name(c), settings, rest) == 0)
        cli_note("saved: %zu messages", json_array_size(c->talk.messages));
    json_decref(settings);
    return true;
}

/* Sets what the object names in a copy: all of it, or nothing. */
static int take_settings(chat *c, json_t *settings) {
    args a = c->a;
    const char *name;
    json_t *v;
    json_object_foreach(settings, name, v) {
        char *text = json_is_boolean(v) ? NULL : json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
        int rc = args_set_sampling(&a, name, text ? text : json_is_true(v) ? "1" : "0");
        rf_free(text);
        if (rc) return rc;
    }
    c->a = a;
    return 0;
}

static bool run_load(chat *c, const char *rest) {
    talk loaded;
    json_t *settings;
    int rc = talk_load(&loaded, &settings, rest);
    if (!rc) rc = take_settings(c, settings);
    json_decref(settings);
    if (rc) {
        talk_close(&loaded);
        return true;
    }
    talk_close(&c->talk);
    c->talk = loaded;
    strbuf_clear(&c->unanswered);
    c->n_used = 0;
    cli_note("loaded: %zu messages", json_array_size(c->talk.messages));
    return true;
}

static bool run_set(chat *c, const char *rest) {
    size_t n = strcspn(rest, " \t");
    const char *value = rest + n + strspn(rest + n, " \t");
    if (!n || !*value) {
        cli_usage("usage.argument", "which setting? /set NAME VALUE; /show lists them");
        return true;
    }
    json_t *kept = json_string(value), *name = json_stringn(rest, n);
    json_array_append_new(c->kept, kept); /* a stop text is not copied by who keeps it */
    if (kept && name) args_set_sampling(&c->a, json_string_value(name), json_string_value(kept));
    json_decref(name);
    return true;
}

static bool run_show(chat *c, const char *rest) {
    (void)rest;
    json_t *settings = args_sampling(&c->a), *v;
    const char *name;
    cli_note("model: %s", chat_model_name(c));
    if (c->talk.system) cli_note("system: %s", json_string_value(c->talk.system));
    cli_note("messages: %zu", json_array_size(c->talk.messages));
    if (c->n_context) cli_note("context: %u of %u tokens", c->n_used, c->n_context);
    json_object_foreach(settings, name, v) {
        char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
        if (text) cli_note("%s: %s", name, text);
        rf_free(text);
    }
    for (uint32_t i = 0; i < c->a.n_stop; i++) cli_note("stop: %s", c->a.stop[i]);
    json_decref(settings);
    return true;
}

static bool run_help(chat *c, const char *rest) {
    (void)c, (void)rest;
    for (const command *k = commands; k->name; k++)
        if (k->help) cli_note("  %-8s %-11s %s", k->name, k->value ? k->value : "", k->help);
    cli_note("  \"\"\"                  begins and ends a message of several lines\n"
             "Ctrl-C stops an answer. A message that begins with a slash: put a space before it.");
    return true;
}

static bool run_exit(chat *c, const char *rest) {
    (void)c, (void)rest;
    return false;
}

static const command commands[] = {
    {"/clear", NULL, "forget what was said, begin a new conversation", run_clear},
    {"/regen", NULL, "another answer to what was said last", run_regen},
    {"/system", "TEXT", "what the model is told before all else; empty: nothing", run_system},
    {"/save", "FILE", "write the conversation and its settings, as JSON", run_save},
    {"/load", "FILE", "go on with a saved conversation", run_load},
    {"/set", "NAME VALUE", "change a setting, as /set temperature 0.5", run_set},
    {"/show", NULL, "model, context and settings", run_show},
    {"/help", NULL, "this text", run_help},
    {"/?", NULL, NULL, run_help},
    {"/exit", NULL, "end the conversation, as Ctrl-D does", run_exit},
    {"/bye", NULL, NULL, run_exit},
    {"/quit", NULL, NULL, run_exit},
    {0},
};

bool chat_command(chat *c, const char *line) {
    size_t n = strcspn(line, " \t"), end = strlen(line);
    while (end > n && strchr(" \t\r", line[end - 1])) end--;
    const char *at = line + n + strspn(line + n, " \t");
    for (const command *k = commands; k->name; k++) {
        if (strlen(k->name) != n || memcmp(k->name, line, n)) continue;
        char *rest = strndup(at, at < line + end ? (size_t)(line + end - at) : 0);
        if (rest && *rest && !k->value) {
            cli_usage("usage.argument", "%s takes nothing after it", k->name);
            free(rest);
            return true;
        }
        bool going = rest ? k->run(c, rest) : cli_error("memory.exhausted", "no memory") < 0;
        free(rest);
        return going;
    }
    cli_usage("usage.argument", "unknown command %.*s; see /help", (int)(n < 80 ? n : 80), line);
    return true;
}
