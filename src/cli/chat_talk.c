#include "cli/chat_talk.h"

#include "base/json.h"
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool talk_open(talk *t, const char *system) {
    *t = (talk){.messages = json_array()};
    if (system && *system) t->system = json_text(system, strlen(system));
    return t->messages && (t->system || !system || !*system);
}

void talk_close(talk *t) {
    json_decref(t->system);
    json_decref(t->messages);
    *t = (talk){0};
}

void talk_clear(talk *t) { json_array_clear(t->messages); }

void talk_set_system(talk *t, str text) {
    json_decref(t->system);
    t->system = text.n ? json_text(text.p, text.n) : NULL;
}

bool talk_add(talk *t, const char *role, str text, str thinking) {
    json_t *m = json_pack("{ss so}", "role", role, "content", json_text(text.n ? text.p : "", text.n));
    if (m && thinking.n) json_put(m, str_of("reasoning_content"), json_text(thinking.p, thinking.n));
    return m && json_array_append_new(t->messages, m) == 0;
}

void talk_drop_last(talk *t) {
    size_t n = json_array_size(t->messages);
    if (n) json_array_remove(t->messages, n - 1);
}

bool talk_last_is(const talk *t, const char *role) {
    size_t n = json_array_size(t->messages);
    const char *is = n ? json_string_value(json_object_get(json_array_get(t->messages, n - 1), "role")) : NULL;
    return is && strcmp(is, role) == 0;
}

json_t *talk_messages(const talk *t) {
    json_t *all = json_array();
    if (all && t->system) json_array_append_new(all, json_pack("{ss sO}", "role", "system", "content", t->system));
    if (all) json_array_extend(all, t->messages);
    return all;
}

/* --- as a file ---------------------------------------------------------------------------------------------------------- */
static int write_file(const char *path, const char *text, size_t n) {
    strbuf part = {0};
    strbuf_printf(&part, "%s.part", path);
    FILE *f = part.failed ? NULL : fopen(part.p, "wb");
    bool ok = f && fwrite(text, 1, n, f) == n && fputc('\n', f) != EOF;
    if (f && fclose(f)) ok = false;
    if (ok && rename(part.p, path)) ok = false;
    int rc = ok ? 0 : cli_error("io.failed", "%s: cannot be written: %s", path, strerror(errno));
    if (!ok && f) unlink(part.p);
    strbuf_free(&part);
    return rc;
}

int talk_save(const talk *t, const char *model, const json_t *settings, const char *path) {
    json_t *v =
        json_pack("{ss sO? sO sO}", "model", model, "system", t->system, "messages", t->messages, "settings", settings);
    char *text = v ? json_dumps(v, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(v);
    if (!text) return cli_error("memory.exhausted", "no memory to save the conversation");
    int rc = write_file(path, text, strlen(text));
    rf_free(text);
    return rc;
}

static int bad(const char *path, const char *why) {
    return cli_error("usage.argument", "%.200s: not a saved conversation: %.200s", path, why);
}

static const char *wrong_message(const json_t *m) {
    static const char *const roles[] = {"user", "assistant", "system", "tool"};
    const char *role = json_string_value(json_object_get(m, "role"));
    for (size_t i = 0; role && i < sizeof roles / sizeof *roles; i++)
        if (strcmp(role, roles[i]) == 0) return json_is_string(json_object_get(m, "content")) ? NULL : "no content";
    return role ? "a role that is unknown" : "a message without a role";
}

static const char *wrong_file(const json_t *v) {
    const json_t *system = json_object_get(v, "system"), *settings = json_object_get(v, "settings");
    const json_t *messages = json_object_get(v, "messages");
    if (!json_is_object(v)) return "no JSON object";
    if (!json_is_array(messages)) return "messages is no array";
    if (system && !json_is_null(system) && !json_is_string(system)) return "system is no text";
    if (settings && !json_is_null(settings) && !json_is_object(settings)) return "settings is no object";
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const char *why = wrong_message(json_array_get(messages, i));
        if (why) return why;
    }
    return NULL;
}

int talk_load(talk *t, json_t **settings, const char *path) {
    size_t n;
    json_error_t where;
    *settings = NULL;
    *t = (talk){0};
    if (!*path || strcmp(path, "-") == 0) return cli_usage("usage.argument", "which file? /load FILE");
    char *text = cli_read_all(path, &n);
    if (!text) return EXIT_FAILED;
    json_t *v = json_loadb(text, n, JSON_REJECT_DUPLICATES, &where);
    free(text);
    const char *why = v ? wrong_file(v) : where.text;
    int rc = why ? bad(path, why) : 0;
    if (!why) {
        json_t *system = json_object_get(v, "system"), *set = json_object_get(v, "settings");
        t->system = json_is_string(system) ? json_incref(system) : NULL;
        t->messages = json_incref(json_object_get(v, "messages"));
        *settings = json_is_object(set) ? json_incref(set) : NULL;
    }
    json_decref(v);
    return rc;
}
