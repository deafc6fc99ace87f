#include "server/openai_input.h"

#include "base/mem.h"

static bool read_ids(fields *f, const char *name, const json_t *v, openai_input *in) {
    const size_t n = json_array_size(v);
    const uint32_t n_vocab = rf_model_n_vocab(f->x->app->model);
    in->ids = mem_array(n, sizeof *in->ids);
    if (!in->ids) {
        fields_no_memory(f, "the ids");
        return false;
    }
    in->n_ids = n;
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(v, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= (json_int_t)n_vocab) {
            fields_bad(f, name, ": element %zu is not a token id of 0 to %u", i, n_vocab - 1);
            return false;
        }
        in->ids[i] = (int32_t)json_integer_value(id);
    }
    return true;
}

static bool read_one(fields *f, const char *name, const json_t *v, openai_input *in) {
    if (json_is_array(v) && json_array_size(v)) return read_ids(f, name, v, in);
    if (!json_is_string(v)) {
        fields_bad(f, name, "must be a string, a list of strings, a list of token ids or a list of such lists");
        return false;
    }
    in->text = json_string_value(v);
    in->n_text = json_string_length(v);
    return true;
}

/* One list of ids, or a list of inputs? */
static bool is_several(const json_t *v) { return json_is_array(v) && !json_is_integer(json_array_get(v, 0)); }

bool openai_inputs_read(fields *f, const char *name, uint32_t most, openai_input **in, uint32_t *n) {
    *in = NULL;
    *n = 0;
    const json_t *v = fields_any(f, name);
    if (f->failed) return false;
    const bool several = is_several(v);
    const size_t count = several ? json_array_size(v) : 1;
    if (!v || count == 0 || count > most) {
        if (!v)
            fields_bad(f, name, "is missing");
        else
            fields_bad(f, name, "must hold 1 to %u of them, not %zu", most, count);
        return false;
    }
    *in = mem_array(count, sizeof **in);
    if (!*in) {
        fields_no_memory(f, "the inputs");
        return false;
    }
    *n = (uint32_t)count;
    for (size_t i = 0; i < count; i++)
        if (!read_one(f, name, several ? json_array_get(v, i) : v, &(*in)[i])) return false;
    return true;
}

void openai_inputs_drop_ids(openai_input *in, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        mem_free(in[i].ids);
        in[i].ids = NULL;
        in[i].text = NULL;
    }
}

void openai_inputs_free(openai_input *in, uint32_t n) {
    openai_inputs_drop_ids(in, n);
    for (uint32_t i = 0; i < n; i++) mem_free(in[i].echo);
    mem_free(in);
}

size_t openai_inputs_bytes(const openai_input *in, uint32_t n) {
    size_t bytes = 0;
    for (uint32_t i = 0; i < n; i++) bytes += in[i].n_text;
    return bytes;
}

bool openai_input_tokenize(openai_input *in, const rf_model *m, bool echo, rf_error *e) {
    if (in->text && !rf_tokenize(m, in->text, in->n_text, 0, &in->ids, &in->n_ids, e)) return false;
    if (!echo) return true;
    if (!in->text) return rf_detokenize(m, in->ids, in->n_ids, true, &in->echo, &in->n_echo, e);
    in->echo = mem_strndup(in->text, in->n_text);
    in->n_echo = in->n_text;
    if (in->echo) return true;
    *e = (rf_error){"memory.exhausted", "Backend", 503, true, "no memory for the prompt"};
    return false;
}
