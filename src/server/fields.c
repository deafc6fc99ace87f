#include "server/fields.h"

#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define EXACT 9007199254740992.0 /* 2^53: whole numbers beyond are not all doubles */

/* --- refusing --------------------------------------------------------------------------------------------------------- */
__attribute__((format(printf, 5, 0))) static void refuse(fields *f, int http, const char *code, const char *name,
                                                         const char *fmt, va_list args) {
    if (f->failed) return; /* the first one is told */
    f->failed = true;
    f->http = http;
    f->code = code;
    snprintf(f->param, sizeof f->param, "%s", name ? name : "");
    const int n = name ? snprintf(f->message, sizeof f->message, "%s%s", f->param, *fmt == ':' ? "" : " ") : 0;
    vsnprintf(f->message + n, sizeof f->message - (size_t)n, fmt, args);
}

__attribute__((format(printf, 4, 5))) static void refuse_body(fields *f, int http, const char *code, const char *fmt,
                                                              ...) {
    va_list args;
    va_start(args, fmt);
    refuse(f, http, code, NULL, fmt, args);
    va_end(args);
}

void fields_bad(fields *f, const char *name, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    refuse(f, 400, "request.field", name, fmt, args);
    va_end(args);
}

void fields_no_memory(fields *f, const char *what) {
    refuse_body(f, 503, "memory.exhausted", "no memory for %s", what);
}

void fields_failed(fields *f, const char *name, const rf_error *e) {
    if (!f->failed && e->http >= 500) f->fault = *e;
    fields_bad(f, name, ": %s", e->message);
}

__attribute__((format(printf, 3, 4))) static void unsupported(fields *f, const char *name, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    refuse(f, 400, "request.unsupported", name, fmt, args);
    va_end(args);
}

/* --- the body --------------------------------------------------------------------------------------------------------- */
static str trim(str s) {
    while (s.n && (s.p[0] == ' ' || s.p[0] == '\t')) s.p++, s.n--;
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t')) s.n--;
    return s;
}

static str cut(str *s, char at) { /* up to `at`, which is passed */
    const char *end = s->n ? memchr(s->p, at, s->n) : NULL;
    str head = {s->p, end ? (size_t)(end - s->p) : s->n};
    s->p = end ? end + 1 : s->p + s->n;
    s->n -= head.n + (end ? 1 : 0);
    return head;
}

static bool is_nocase(str s, const char *z) { return s.n == strlen(z) && strncasecmp(s.p, z, s.n) == 0; }

/* "application/json", with charset=utf-8 at most: a page elsewhere cannot send that without being asked (CORS). */
static bool is_json_type(str type) {
    if (!is_nocase(trim(cut(&type, ';')), "application/json")) return false;
    while (type.n) {
        str value = trim(cut(&type, ';'));
        const str name = cut(&value, '=');
        if (!is_nocase(name, "charset")) return false;
        if (!is_nocase(value, "utf-8") && !is_nocase(value, "\"utf-8\"")) return false;
    }
    return true;
}

/* Brackets open at once, and values, in a scan without recursion; strings are passed over. NULL: within the limits. */
static const char *over_limits(str body) {
    int depth = 0, n_values = 0;
    bool text = false;
    for (size_t i = 0; i < body.n; i++) {
        const char c = body.p[i];
        if (text) {
            if (c == '\\') i++;
            if (c == '"') text = false;
            continue;
        }
        if (c == '"') text = true;
        if ((c == '[' || c == '{') && ++depth > FIELDS_DEPTH) return "nests too deep";
        if (c == ']' || c == '}') depth--;
        if ((c == ',' || c == '[' || c == '{') && ++n_values > FIELDS_VALUES) return "holds too many values";
    }
    return NULL;
}

static void refuse_json(fields *f, const json_error_t *e) {
    const char *why = "not valid JSON";
    switch (json_error_code(e)) {
    case json_error_duplicate_key: why = "a key appears twice"; break;
    case json_error_numeric_overflow: why = "a number is too large"; break;
    case json_error_premature_end_of_input: why = "it ends too early"; break;
    case json_error_null_character:
    case json_error_null_byte_in_key: why = "a key holds a NUL"; break;
    case json_error_end_of_input_expected: why = "something follows the JSON value"; break;
    case json_error_out_of_memory: refuse_body(f, 503, "memory.exhausted", "no memory for this body"); return;
    default: break;
    }
    refuse_body(f, 400, "request.json", "the body: %s (line %d, column %d)", why, e->line, e->column);
}

void fields_parse(fields *f, str content_type, str body) {
    const char *over;
    *f = (fields){.temperature_most = 2};
    if (!is_json_type(content_type)) {
        refuse_body(f, 415, "http.media_type", "the Content-Type must be application/json");
    } else if (body.n == 0) {
        refuse_body(f, 400, "request.json", "the body is empty; it must be a JSON object");
    } else if (!str_is_utf8(body)) {
        refuse_body(f, 400, "request.json", "the body is not valid UTF-8");
    } else if ((over = over_limits(body))) {
        refuse_body(f, 400, "request.json", "the body %s (%d levels, %d values are taken)", over, FIELDS_DEPTH,
                    FIELDS_VALUES);
    } else {
        json_error_t e;
        f->body = json_loadb(body.p, body.n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &e);
        if (!f->body)
            refuse_json(f, &e);
        else if (!json_is_object(f->body))
            refuse_body(f, 400, "request.json", "the body must be a JSON object");
    }
    f->at = f->body;
}

static bool reply_refusal(fields *f) {
    if (f->fault.code[0])
        reply_error(f->x, &f->fault, NULL);
    else
        reply_fail(f->x, f->http, f->code, f->param[0] ? f->param : NULL, "%s", f->message);
    fields_close(f);
    return false;
}

bool fields_open(fields *f, exchange *x) {
    fields_parse(f, exchange_header(x, "content-type"), x->body);
    f->x = x;
    f->app = x->app;
    return f->failed ? reply_refusal(f) : true;
}

void fields_close(fields *f) {
    json_decref(f->body);
    json_decref(f->warnings);
    f->body = f->at = f->warnings = NULL;
}

/* --- one field -------------------------------------------------------------------------------------------------------- */
static bool was_asked(const fields *f, const char *key) {
    for (uint32_t i = 0; i < f->n_seen; i++)
        if (strcmp(f->seen[i], key) == 0) return true;
    return false;
}

json_t *fields_any(fields *f, const char *name) {
    if (f->n_seen < FIELDS_MOST && !was_asked(f, name)) f->seen[f->n_seen++] = name;
    if (f->failed) return NULL;
    json_t *v = json_object_get(f->at, name);
    return json_is_null(v) ? NULL : v;
}

/* What the value is, for messages: the client's own text is not repeated. */
static const char *kind(const json_t *v) {
    static const char *const names[] = {"an object", "a list", "a string", "an integer",
                                        "a number",  "true",   "false",    "null"};
    return names[json_typeof(v)];
}

bool fields_integer(fields *f, const char *name, int64_t lo, int64_t hi, int64_t *out) {
    const json_t *v = fields_any(f, name);
    if (!v) return false;
    const double real = json_is_real(v) ? json_real_value(v) : 0;
    if (!json_is_number(v) || (json_is_real(v) && floor(real) != real)) {
        fields_bad(f, name, "must be an integer, not %s", kind(v));
        return false;
    }
    const bool exact = real >= -EXACT && real <= EXACT;
    const int64_t n = json_is_integer(v) ? json_integer_value(v) : exact ? (int64_t)real : 0;
    if (!exact || n < lo || n > hi) {
        fields_bad(f, name, "must be between %lld and %lld", (long long)lo, (long long)hi);
        return false;
    }
    *out = n;
    return true;
}

bool fields_number(fields *f, const char *name, double lo, double hi, double *out) {
    const json_t *v = fields_any(f, name);
    if (!v) return false;
    if (!json_is_number(v)) {
        fields_bad(f, name, "must be a number, not %s", kind(v));
        return false;
    }
    const double n = json_number_value(v);
    if (!(n >= lo && n <= hi)) {
        fields_bad(f, name, "must be between %g and %g", lo, hi);
        return false;
    }
    *out = n;
    return true;
}

bool fields_bool(fields *f, const char *name, bool *out) {
    const json_t *v = fields_any(f, name);
    if (!v) return false;
    if (!json_is_boolean(v)) {
        fields_bad(f, name, "must be true or false, not %s", kind(v));
        return false;
    }
    *out = json_is_true(v);
    return true;
}

bool fields_string(fields *f, const char *name, const char **out, size_t *n) {
    const json_t *v = fields_any(f, name);
    if (!v) return false;
    if (!json_is_string(v)) {
        fields_bad(f, name, "must be a string, not %s", kind(v));
        return false;
    }
    *out = json_string_value(v);
    *n = json_string_length(v);
    return true;
}

static void warn(fields *f, const char *name) {
    if (!f->warnings) f->warnings = json_array();
    json_t *text = json_sprintf("%s is ignored: it has no effect here", name);
    if (f->warnings && text) json_array_append(f->warnings, text); /* without memory: one word less */
    json_decref(text);
}

void fields_ignore(fields *f, const char *name) {
    if (fields_any(f, name)) warn(f, name);
}

void fields_accept(fields *f, const char *name) { fields_any(f, name); }

void fields_refuse(fields *f, const char *name, const char *why) {
    if (fields_any(f, name)) unsupported(f, name, "%s", why);
}

void fields_neutral(fields *f, const char *name, double neutral) {
    double v = neutral;
    if (fields_number(f, name, -HUGE_VAL, HUGE_VAL, &v) && v != neutral)
        unsupported(f, name, "is not supported yet; leave it out or give %g", neutral);
}

static bool is_empty(const json_t *v) {
    switch (json_typeof(v)) {
    case JSON_OBJECT: return json_object_size(v) == 0;
    case JSON_ARRAY: return json_array_size(v) == 0;
    case JSON_STRING: return json_string_length(v) == 0;
    case JSON_INTEGER:
    case JSON_REAL: return json_number_value(v) == 0;
    default: return json_is_false(v) || json_is_null(v);
    }
}

void fields_empty(fields *f, const char *name) {
    const json_t *v = fields_any(f, name);
    if (v && !is_empty(v)) unsupported(f, name, "is not supported yet");
}

void fields_timeout(fields *f, int64_t *timeout_us) {
    double seconds;
    if (fields_number(f, "timeout", 0.001, 86400, &seconds)) *timeout_us = (int64_t)(seconds * 1e6);
}

json_t *fields_take_warnings(fields *f) {
    json_t *w = f->warnings;
    f->warnings = NULL;
    return w;
}

bool fields_model(fields *f) {
    const char *name;
    size_t n;
    if (!fields_string(f, "model", &name, &n)) return true;
    const app *a = f->app;
    if (!a->opt->strict_model || str_is((str){name, n}, a->model_name)) return true;
    reply_fail(f->x, 404, "request.not_found", "model",
               "this server has another model loaded; GET /v1/models names it");
    fields_close(f);
    return false;
}

/* --- the end ---------------------------------------------------------------------------------------------------------- */
static void find_unknown(fields *f) {
    const char *key;
    json_t *v;
    json_object_foreach(f->at, key, v) {
        if (was_asked(f, key)) continue;
        strbuf name = {0};
        for (size_t i = 0; key[i] && i < 48; i++) /* told as far as it is plain */
            strbuf_printf(&name, "%c", key[i] > ' ' && key[i] < 0x7F && !strchr("\"\\<>&", key[i]) ? key[i] : '?');
        fields_bad(f, name.p ? name.p : "?", "is not a field of this route");
        strbuf_free(&name);
        return;
    }
}

bool fields_finish(fields *f) {
    if (!f->failed) find_unknown(f);
    return f->failed ? reply_refusal(f) : true;
}
