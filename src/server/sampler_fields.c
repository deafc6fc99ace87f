/* The fields that end in a sampler's parameters and in a prompt's ids: the same under every dialect. */
#include "server/fields.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>
#include <sys/random.h>

enum { STOPS_MOST = 64, STOP_BYTES = 4096, BIAS_LIMIT = 1000000 };

static void read_float(fields *f, const char *name, double lo, double hi, float *out) {
    double v;
    if (fields_number(f, name, lo, hi, &v)) *out = (float)v;
}

static void read_int32(fields *f, const char *name, int64_t lo, int32_t *out) {
    int64_t v;
    if (fields_integer(f, name, lo, INT32_MAX, &v)) *out = (int32_t)v;
}

/* --- stop ------------------------------------------------------------------------------------------------------------- */
static void add_stop(fields *f, const json_t *v, const char **stop, size_t *n) {
    if (!json_is_string(v)) {
        fields_bad(f, "stop", "must be a string or a list of strings");
        return;
    }
    const char *text = json_string_value(v);
    const size_t bytes = json_string_length(v);
    if (bytes == 0) return; /* clients send "" for none */
    if (bytes > STOP_BYTES || memchr(text, 0, bytes))
        fields_bad(f, "stop", ": a stop string has at most %d bytes and no NUL", STOP_BYTES);
    else
        stop[(*n)++] = text;
}

static void read_stop(fields *f, rf_request_params *p, sampler_lists *lists) {
    const json_t *v = fields_any(f, "stop");
    if (!v) return;
    const size_t n = json_is_array(v) ? json_array_size(v) : 1;
    if (n > STOPS_MOST) {
        fields_bad(f, "stop", "takes at most %d strings", STOPS_MOST);
        return;
    }
    lists->stop = mem_array(n ? n : 1, sizeof *lists->stop);
    if (!lists->stop) {
        fields_no_memory(f, "the stop strings");
        return;
    }
    if (!json_is_array(v)) add_stop(f, v, lists->stop, &p->n_stop);
    for (size_t i = 0; json_is_array(v) && i < n; i++) add_stop(f, json_array_get(v, i), lists->stop, &p->n_stop);
    p->stop = lists->stop;
}

/* --- logit_bias ------------------------------------------------------------------------------------------------------- */
typedef struct {
    fields *f;
    rf_logit_bias *item;
    size_t n, cap;
} bias_list;

static void add_bias(bias_list *l, int64_t id, float bias) {
    const uint32_t n_vocab = rf_model_n_vocab(l->f->app->model);
    if (id < 0 || id >= (int64_t)n_vocab) {
        fields_bad(l->f, "logit_bias", "names a token that is not one of 0 to %u", n_vocab - 1);
        return;
    }
    if (l->n == l->cap) {
        const size_t cap = l->cap ? 2 * l->cap : 16;
        rf_logit_bias *more = cap <= 4u * (size_t)n_vocab + 16 ? mem_resize(l->item, cap * sizeof *more) : NULL;
        if (!more) {
            fields_bad(l->f, "logit_bias", "has too many entries");
            return;
        }
        l->item = more;
        l->cap = cap;
    }
    l->item[l->n++] = (rf_logit_bias){(int32_t)id, bias};
}

static void add_text_bias(bias_list *l, const char *text, size_t n, float bias) {
    int32_t *ids;
    size_t n_ids;
    rf_error e;
    if (!rf_tokenize(l->f->app->model, text, n, RF_NO_SPECIAL, &ids, &n_ids, &e)) {
        fields_failed(l->f, "logit_bias", &e);
        return;
    }
    for (size_t i = 0; i < n_ids && !l->f->failed; i++) add_bias(l, ids[i], bias);
    rf_free(ids);
}

static bool bias_value(fields *f, const json_t *v, float *out) {
    const double n = json_is_false(v) ? -HUGE_VAL : json_number_value(v); /* false: never (llama.cpp) */
    const bool good = json_is_false(v) || (json_is_number(v) && fabs(n) <= BIAS_LIMIT);
    if (!good) fields_bad(f, "logit_bias", ": a bias must be a number between %d and %d", -BIAS_LIMIT, BIAS_LIMIT);
    *out = (float)n;
    return good;
}

static bool all_digits(const char *s, int64_t *out) {
    int64_t v = 0;
    const char *p = s;
    for (; *p >= '0' && *p <= '9' && v < INT32_MAX; p++) v = v * 10 + (*p - '0');
    *out = v;
    return *s && !*p;
}

/* {"123": -1, " text": false}: the OpenAI form */
static void read_bias_object(bias_list *l, json_t *v) {
    const char *key;
    json_t *item;
    json_object_foreach(v, key, item) {
        float bias;
        int64_t id;
        if (!bias_value(l->f, item, &bias)) return;
        if (all_digits(key, &id))
            add_bias(l, id, bias);
        else
            add_text_bias(l, key, strlen(key), bias);
        if (l->f->failed) return;
    }
}

/* [[123, -1], [" text", false]]: llama.cpp's */
static void read_bias_list(bias_list *l, const json_t *v) {
    for (size_t i = 0; i < json_array_size(v) && !l->f->failed; i++) {
        const json_t *pair = json_array_get(v, i), *what = json_array_get(pair, 0);
        float bias;
        if (json_array_size(pair) != 2 || !(json_is_integer(what) || json_is_string(what))) {
            fields_bad(l->f, "logit_bias", "must be a list of [token, bias], or an object");
            return;
        }
        if (!bias_value(l->f, json_array_get(pair, 1), &bias)) return;
        if (json_is_integer(what))
            add_bias(l, json_integer_value(what), bias);
        else
            add_text_bias(l, json_string_value(what), json_string_length(what), bias);
    }
}

static void read_bias(fields *f, rf_request_params *p, sampler_lists *lists) {
    json_t *v = fields_any(f, "logit_bias");
    if (!v) return;
    bias_list l = {.f = f};
    if (json_is_object(v))
        read_bias_object(&l, v);
    else if (json_is_array(v))
        read_bias_list(&l, v);
    else
        fields_bad(f, "logit_bias", "must be an object or a list");
    p->logit_bias = lists->bias = l.item;
    p->n_logit_bias = l.n;
}

/* --- all of them ------------------------------------------------------------------------------------------------------ */
/* -1, like none: drawn here, so that the reply can name it */
static void read_seed(fields *f, uint64_t *seed) {
    int64_t v = -1;
    fields_integer(f, "seed", INT64_MIN, INT64_MAX, &v);
    *seed = (uint64_t)v;
    uint32_t drawn;
    if (v == -1 && getrandom(&drawn, sizeof drawn, GRND_NONBLOCK) == (ssize_t)sizeof drawn) *seed = drawn;
}

void fields_sampler(fields *f, rf_request_params *p, sampler_lists *lists) {
    *lists = (sampler_lists){0};
    read_float(f, "temperature", 0, f->temperature_most, &p->temperature);
    read_int32(f, "top_k", -1, &p->top_k);
    if (p->top_k < 0) p->top_k = 0;
    read_float(f, "top_p", 0, 1, &p->top_p);
    read_float(f, "min_p", 0, 1, &p->min_p);
    read_float(f, "repetition_penalty", 0.01, 100, &p->repeat_penalty);
    read_float(f, "repeat_penalty", 0.01, 100, &p->repeat_penalty);
    read_float(f, "presence_penalty", -2, 2, &p->presence_penalty);
    read_float(f, "frequency_penalty", -2, 2, &p->frequency_penalty);
    read_int32(f, "repeat_last_n", -1, &p->repeat_last_n);
    read_seed(f, &p->seed);
    fields_bool(f, "ignore_eos", &p->ignore_eos);
    read_stop(f, p, lists);
    read_bias(f, p, lists);
}

void sampler_lists_free(sampler_lists *l) {
    mem_free(l->bias);
    mem_free(l->stop);
    *l = (sampler_lists){0};
}

/* --- a prompt --------------------------------------------------------------------------------------------------------- */
typedef struct {
    fields *f;
    const char *name;
    unsigned flags;
    int32_t *ids;
    size_t n;
} prompt;

static bool grow_prompt(prompt *p, size_t more) {
    int32_t *ids = mem_resize(p->ids, (p->n + more + 1) * sizeof *ids);
    if (!ids) fields_no_memory(p->f, "the prompt");
    if (ids) p->ids = ids;
    return ids != NULL;
}

static void add_text(prompt *p, const json_t *v, unsigned flags) {
    int32_t *ids;
    size_t n;
    rf_error e;
    if (!rf_tokenize(p->f->app->model, json_string_value(v), json_string_length(v), flags, &ids, &n, &e)) {
        fields_failed(p->f, p->name, &e);
        return;
    }
    if (grow_prompt(p, n) && n) memcpy(p->ids + p->n, ids, n * sizeof *ids);
    if (!p->f->failed) p->n += n;
    rf_free(ids);
}

static void add_id(prompt *p, const json_t *v) {
    const int64_t id = json_integer_value(v);
    const uint32_t n_vocab = rf_model_n_vocab(p->f->app->model);
    if (id < 0 || id >= (int64_t)n_vocab)
        fields_bad(p->f, p->name, "holds an id that is not one of 0 to %u", n_vocab - 1);
    else
        p->ids[p->n++] = (int32_t)id;
}

static bool is_several(const json_t *list) {
    size_t n = json_array_size(list), n_text = 0;
    for (size_t i = 0; i < n; i++) {
        if (json_is_array(json_array_get(list, i))) return true;
        n_text += json_is_string(json_array_get(list, i));
    }
    return n > 1 && n_text == n;
}

/* Only text at the very beginning gets the special tokens that begin a text. */
static void add_list(prompt *p, const json_t *list) {
    const size_t n = json_array_size(list);
    if (!grow_prompt(p, n)) return;
    for (size_t i = 0; i < n && !p->f->failed; i++) {
        const json_t *v = json_array_get(list, i);
        if (json_is_string(v))
            add_text(p, v, i ? p->flags | RF_NO_SPECIAL : p->flags);
        else if (json_is_integer(v) && grow_prompt(p, n - i))
            add_id(p, v);
        else
            fields_bad(p->f, p->name, "must hold token ids and strings only");
    }
}

bool fields_prompt(fields *f, const char *name, bool special, int32_t **ids, size_t *n) {
    *ids = NULL;
    *n = 0;
    const json_t *v = fields_any(f, name);
    prompt p = {.f = f, .name = name, .flags = special ? 0 : RF_NO_PARSE_SPECIAL};
    if (!v)
        fields_bad(f, name, "is missing");
    else if (json_is_string(v))
        add_text(&p, v, p.flags);
    else if (json_is_array(v) && is_several(v))
        fields_bad(f, name, ": several prompts in one request are not supported yet");
    else if (json_is_array(v))
        add_list(&p, v);
    else
        fields_bad(f, name, "must be a string or a list of token ids");
    if (f->failed) {
        mem_free(p.ids);
        return false;
    }
    *ids = p.ids;
    *n = p.n;
    return true;
}
