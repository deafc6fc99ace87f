#include "convert/convert.h"

#include "base/mem.h"
#include "convert/hf_tensors.h"
#include "convert/hf_tokenizer.h"
#include "model/model.h"
#include "text/tokenizer.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct {
    const char *dir, *out;
    const convert_options *opt;
    char *name;
    quant_type type; /* QUANT_COUNT until it is known */
    hf_warnings warnings;
    hf_weights weights;
    hf_config config;
    hf_tokenizer tokenizer;
    out_tensors tensors;
    gguf_writer *w;
    float *factors; /* [n_factors], of rope */
    uint32_t n_factors;
    uint64_t n_params;
    convert_state state;
    json_t *report;
} conversion;

/* --- what it is called --------------------------------------------------------------------------------------------------- */

static status check_folder(const char *dir, err *e) {
    struct stat st;
    if (stat(dir, &st)) return fail(e, ERR_IO, "%s: there is no such folder", dir);
    if (S_ISDIR(st.st_mode)) return OK;
    return fail(e, ERR_USAGE, "%s: is a file; convert takes the folder that holds config.json and *.safetensors", dir);
}

/* The last part of the folder's path. */
static status set_name(conversion *k, err *e) {
    if (k->opt->name) {
        k->name = mem_strndup(k->opt->name, strlen(k->opt->name));
    } else {
        char real[PATH_MAX];
        const char *path = realpath(k->dir, real) ? real : k->dir, *slash = strrchr(path, '/');
        k->name = mem_strndup(slash ? slash + 1 : path, strlen(slash ? slash + 1 : path));
    }
    if (!k->name) return fail(e, ERR_NOMEM, "no memory for a name");
    return str_is_utf8(str_of(k->name))
               ? OK
               : fail(e, ERR_RANGE, "the name of the model is no valid UTF-8: give one with --name");
}

static status set_type(conversion *k, err *e) {
    static const quant_type known[] = {QUANT_F32, QUANT_F16, QUANT_BF16, QUANT_Q8_0};
    k->type = QUANT_COUNT;
    if (!k->opt->type) return OK;
    if (quant_from_name(k->opt->type, &k->type))
        for (size_t i = 0; i < 4; i++)
            if (k->type == known[i]) return OK;
    return fail(e, ERR_RANGE, "the type %.40s is none of f32, f16, bf16, q8_0", k->opt->type);
}

/* --- keys ---------------------------------------------------------------------------------------------------------------- */

static uint32_t file_type(quant_type t) { /* llama.cpp's numbers of general.file_type */
    return t == QUANT_F32 ? 0 : t == QUANT_F16 ? 1 : t == QUANT_Q8_0 ? 7 : 32;
}

static void put_size_label(conversion *k) {
    static const struct {
        double unit;
        char letter;
    } units[] = {{1e12, 'T'}, {1e9, 'B'}, {1e6, 'M'}, {1e3, 'K'}};
    char label[32];
    const double n = (double)k->n_params;
    size_t u = 0;
    while (u < 3 && n < 0.9995 * units[u].unit) u++;
    snprintf(label, sizeof label, "%.*f%c", n < 9.95 * units[u].unit ? 1 : 0, n / units[u].unit, units[u].letter);
    gguf_put_str(k->w, "general.size_label", str_of(label));
}

/* How the model's makers sample from it. */
static status put_sampling(conversion *k, err *e) {
    static const struct {
        const char *from, *to;
        double lo, hi;
    } floats[] = {{"temperature", "general.sampling.temp", 0, 100},
                  {"top_p", "general.sampling.top_p", 0, 1},
                  {"min_p", "general.sampling.min_p", 0, 1},
                  {"repetition_penalty", "general.sampling.penalty_repeat", 0, 100}};
    static const char file[] = "generation_config.json";
    json_t *v;
    uint32_t top_k = UINT32_MAX;
    status s = hf_json_open(&v, k->dir, file, false, e);
    for (size_t i = 0; !s && i < 4; i++) {
        double x = -1;
        s = hf_get_f64(v, file, floats[i].from, floats[i].lo, floats[i].hi, &x, e);
        if (!s && x >= 0) gguf_put_f32(k->w, floats[i].to, (float)x);
    }
    if (!s) s = hf_get_u32(v, file, "top_k", 0, INT32_MAX, &top_k, e);
    if (!s && top_k != UINT32_MAX) gguf_put_i32(k->w, "general.sampling.top_k", (int32_t)top_k);
    json_decref(v);
    return s;
}

static status put_keys(conversion *k, err *e) {
    gguf_writer *w = k->w;
    gguf_put_str(w, "general.architecture", str_of(k->config.arch->name));
    gguf_put_str(w, "general.type", str_of("model"));
    gguf_put_str(w, "general.name", str_of(k->name));
    put_size_label(k);
    gguf_put_u32(w, "general.file_type", file_type(k->type));
    gguf_put_u32(w, "general.quantization_version", 2);
    status s = put_sampling(k, e);
    hf_config_put(&k->config, w);
    hf_tokenizer_put(&k->tokenizer, w);
    return s;
}

/* --- tensors ------------------------------------------------------------------------------------------------------------- */

static status put_factors(conversion *k, err *e) {
    k->n_factors = hf_rope_factors(&k->config, NULL);
    if (!k->n_factors) return OK;
    k->factors = mem_array(k->n_factors, sizeof *k->factors);
    if (!k->factors) return fail(e, ERR_NOMEM, "no memory for rope's factors");
    hf_rope_factors(&k->config, k->factors);
    gguf_put_tensor(k->w, "rope_freqs.weight", 1, (uint64_t[1]){k->n_factors}, QUANT_F32);
    return OK;
}

static status put_tensors(conversion *k, err *e) {
    status s = put_factors(k, e);
    for (size_t i = 0; !s && i < k->tensors.n; i++) {
        const out_tensor *o = &k->tensors.tensor[i];
        gguf_put_tensor(k->w, o->name, o->n_dims, o->dim, o->type);
    }
    k->state.total = gguf_write_data_bytes(k->w);
    return s;
}

static void count_params(conversion *k) {
    for (size_t i = 0; i < k->tensors.n; i++) {
        uint64_t n = 1;
        for (uint32_t d = 0; d < k->tensors.tensor[i].n_dims; d++) n *= k->tensors.tensor[i].dim[d];
        k->n_params += n;
    }
}

/* --- what our own readers say -------------------------------------------------------------------------------------------- */

/* generation_config.json may end a text at several tokens; a GGUF names one, and readers know others by their text. */
static status check_ends(conversion *k, const tokenizer *t, err *e) {
    json_t *v, *id;
    size_t i;
    status s = hf_json_open(&v, k->dir, "generation_config.json", false, e);
    json_array_foreach(json_object_get(v, "eos_token_id"), i, id) {
        const json_int_t n = json_integer_value(id);
        if (n < 0 || n >= k->tokenizer.n || tokenizer_is_eog(t, (token_id)n)) continue;
        hf_warn(&k->warnings,
                "token %d, '%.*s', ends texts too (generation_config.json), but no key of the file can say so", (int)n,
                STR(k->tokenizer.text[n]));
    }
    json_decref(v);
    return s;
}

/* The header is on disk, the weights are not: shapes, names and keys are checked as if the model were opened. */
static status check_header(conversion *k, err *e) {
    gguf *g = NULL;
    tokenizer *t = NULL;
    model_info info = {0};
    status s = gguf_open(&g, gguf_write_temporary(k->w), e);
    if (!s) s = model_info_read(&info, g, e);
    if (!s) s = tokenizer_open(&t, g, e);
    if (!s) s = check_ends(k, t, e);
    tokenizer_close(t);
    model_info_free(&info);
    gguf_close(g);
    return s ? fail_in(e, s, "%s would make a file that cannot run: ", k->dir) : OK;
}

/* --- the run ------------------------------------------------------------------------------------------------------------- */

static bool advance(void *user, const char *tensor, uint64_t n_bytes) {
    conversion *k = user;
    k->state.done += n_bytes;
    k->state.tensor = tensor;
    return !k->opt->progress || k->opt->progress(k->opt->user, &k->state);
}

static status read_all(conversion *k, err *e) {
    status s = check_folder(k->dir, e);
    if (!s) s = set_type(k, e);
    if (!s) s = set_name(k, e);
    if (!s) s = hf_config_open(&k->config, k->dir, &k->warnings, e);
    if (!s) s = hf_weights_open(&k->weights, k->dir, e);
    if (!s) s = out_tensors_open(&k->tensors, &k->weights, &k->config, &k->type, &k->warnings, e);
    if (!s) s = hf_tokenizer_open(&k->tokenizer, k->dir, &k->config, &k->warnings, e);
    if (!s) count_params(k);
    return s;
}

static status make_report(conversion *k, err *e) {
    k->report = json_pack("{ss so ss sI sI sI sI ss ss? sO}", "architecture", k->config.arch->name, "name",
                          json_text(k->name, strlen(k->name)), "type", quant_lookup(k->type)->name, "tensors",
                          (json_int_t)k->tensors.n + (k->n_factors > 0), "parameters", (json_int_t)k->n_params, "bytes",
                          (json_int_t)k->state.total, "tokens", (json_int_t)k->tokenizer.n, "tokenizer",
                          k->tokenizer.model, "pre_tokenizer", k->tokenizer.pre, "warnings", k->warnings.list);
    return k->report && !k->warnings.failed ? OK : fail(e, ERR_NOMEM, "no memory for the report");
}

static status write_all(conversion *k, err *e) {
    const out_progress p = {.progress = advance, .user = k};
    status s = gguf_write_open(&k->w, k->out, e);
    if (s) return s;
    k->state.temporary = gguf_write_temporary(k->w);
    s = put_keys(k, e);
    if (!s) s = put_tensors(k, e);
    if (!s) s = gguf_write_header(k->w, e);
    if (!s && k->n_factors) s = gguf_write_data(k->w, k->factors, k->n_factors * sizeof *k->factors, e);
    if (!s && !advance(k, "", 0)) s = fail(e, ERR_CANCELLED, "the conversion was stopped; nothing was kept");
    if (!s) s = check_header(k, e);
    if (!s) s = out_tensors_write(&k->tensors, &k->config, k->w, &p, e);
    if (!s) s = hf_weights_check(&k->weights, e); /* a model made of two is none */
    if (!s) s = make_report(k, e);
    if (!s) s = gguf_write_finish(k->w, e); /* the last that can fail */
    return s;
}

status convert_folder(json_t **report, const char *dir, const char *out, const convert_options *opt, err *e) {
    json_init();
    *report = NULL;
    conversion k = {.dir = dir, .out = out, .opt = opt, .warnings.list = json_array()};
    status s = k.warnings.list ? read_all(&k, e) : fail(e, ERR_NOMEM, "no memory for a list");
    if (!s) s = write_all(&k, e);
    if (s) json_decref(k.report);
    if (!s) *report = k.report;
    gguf_write_close(k.w);
    out_tensors_close(&k.tensors);
    hf_tokenizer_close(&k.tokenizer);
    hf_weights_close(&k.weights);
    hf_config_close(&k.config);
    json_decref(k.warnings.list);
    mem_free(k.factors);
    mem_free(k.name);
    return s;
}
