#include "convert/hf_config.h"

#include "convert/hf_folder.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_LAYERS = 1 << 12, MAX_WIDTH = 1 << 22, MAX_HEADS = 1 << 14 };
static const char file[] = "config.json";

void hf_warn(hf_warnings *w, const char *fmt, ...) {
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (json_array_append_new(w->list, json_text(text, strlen(text)))) w->failed = true;
}

/* --- reading ------------------------------------------------------------------------------------------------------------- */

status hf_config_u32(const hf_config *c, const char *key, uint32_t lo, uint32_t hi, uint32_t *out, err *e) {
    return hf_get_u32(c->v, file, key, lo, hi, out, e);
}

status hf_config_must(const hf_config *c, const char *key, json_t *wanted, err *e) {
    const json_t *have = json_object_get(c->v, key);
    if (!wanted) return fail(e, ERR_NOMEM, "no memory to check %s", file);
    bool number = json_is_number(have) && json_is_number(wanted);
    bool same = !have || json_is_null(have) || json_equal(have, wanted) ||
                (number && json_number_value(have) == json_number_value(wanted));
    strbuf a = {0}, b = {0};
    status s = OK;
    if (!same && (json_write(have, &a, e) || json_write(wanted, &b, e)))
        s = ERR_NOMEM;
    else if (!same)
        s = fail(e, ERR_CONVERT_CONFIG, "%s: %s is %.80s; only %.80s is built in for %s", file, key, a.p, b.p,
                 c->class);
    strbuf_free(&a);
    strbuf_free(&b);
    json_decref(wanted);
    return s;
}

/* The first of several spellings that the config has. */
static status number_of(const hf_config *c, const char *const keys[4], uint32_t lo, uint32_t hi, bool needed,
                        uint32_t *out, err *e) {
    for (int i = 0; i < 4 && keys[i]; i++) {
        const json_t *v = json_object_get(c->v, keys[i]);
        if (v && !json_is_null(v)) return hf_config_u32(c, keys[i], lo, hi, out, e);
    }
    if (!needed || *out) return OK;
    return fail(e, ERR_CONVERT_CONFIG, "%s: %s is missing", file, keys[0]);
}

static const hf_arch *find_arch(const char *class) {
    for (const hf_arch *const *a = hf_archs; *a; a++)
        for (int i = 0; i < HF_MAX_CLASSES && (*a)->classes[i]; i++)
            if (strcmp((*a)->classes[i], class) == 0) return *a;
    return NULL;
}

static status unknown_class(const char *class, err *e) {
    char known[400];
    int n = 0;
    for (const hf_arch *const *a = hf_archs; *a && n < (int)sizeof known; a++)
        n += snprintf(known + n, sizeof known - (size_t)n, "%s%s", n ? ", " : "", (*a)->classes[0]);
    return fail(e, ERR_ARCH, "%s: the architecture %.80s is not built in (built in: %s, and their kin)", file, class,
                known);
}

static status read_class(hf_config *c, err *e) {
    const json_t *list = json_object_get(c->v, "architectures");
    c->class = json_string_value(json_array_get(list, 0));
    if (!c->class) return fail(e, ERR_CONVERT_CONFIG, "%s: architectures is missing or names none", file);
    c->arch = find_arch(c->class);
    return c->arch ? OK : unknown_class(c->class, e);
}

static status read_sizes(hf_config *c, err *e) {
    status s = number_of(c, (const char *const[4]){"num_hidden_layers", "n_layers", "n_layer"}, 1, MAX_LAYERS, true,
                         &c->n_layer, e);
    if (!s) s = number_of(c, (const char *const[4]){"hidden_size", "n_embd"}, 1, MAX_WIDTH, true, &c->d_model, e);
    if (!s) s = number_of(c, (const char *const[4]){"intermediate_size", "n_inner"}, 1, MAX_WIDTH, true, &c->d_ff, e);
    if (!s)
        s = number_of(c, (const char *const[4]){"num_attention_heads", "n_head"}, 1, MAX_HEADS, true, &c->n_head, e);
    if (!s)
        s = number_of(c, (const char *const[4]){"max_position_embeddings", "n_positions"}, 1, INT32_MAX, true,
                      &c->context, e);
    if (!c->n_kv_head) c->n_kv_head = c->n_head;
    if (!s) s = hf_config_u32(c, "num_key_value_heads", 1, MAX_HEADS, &c->n_kv_head, e);
    if (!s) s = hf_config_u32(c, "head_dim", 1, 1 << 14, &c->d_head, e);
    if (!s) s = hf_config_u32(c, "vocab_size", 1, 1 << 21, &c->n_vocab, e);
    if (s) return s;
    if (!c->d_head && c->d_model % c->n_head)
        return fail(e, ERR_CONVERT_CONFIG, "%s: hidden_size %" PRIu32 " is no multiple of num_attention_heads %" PRIu32,
                    file, c->d_model, c->n_head);
    if (!c->d_head) c->d_head = c->d_model / c->n_head;
    if (c->context <= c->first_position)
        return fail(e, ERR_CONVERT_CONFIG, "%s: no position is left behind the first %" PRIu32, file,
                    c->first_position);
    c->context -= c->first_position;
    return OK;
}

static status read_norm(hf_config *c, err *e) {
    static const char *const rms[] = {"rms_norm_eps", NULL}, *const layer[] = {"layer_norm_eps", "layer_norm_epsilon",
                                                                               "norm_eps", NULL};
    for (const char *const *key = c->arch->rms ? rms : layer; *key; key++) {
        status s = hf_get_f64(c->v, file, *key, 0, 1, &c->eps, e);
        if (s) return s;
    }
    return OK;
}

static status read_activation(const hf_config *c, err *e) {
    static const char *const keys[] = {"hidden_act", "hidden_activation", "activation_function"};
    const char *const *known = c->arch->activations;
    for (size_t i = 0; i < 3 && known[0]; i++) {
        const char *act = NULL;
        status s = hf_get_text(c->v, file, keys[i], &act, e);
        if (s) return s;
        bool found = !act;
        for (int k = 0; k < 4 && known[k] && !found; k++) found = strcmp(known[k], act) == 0;
        if (!found)
            return fail(e, ERR_CONVERT_CONFIG, "%s: %s is %.40s; only %s is built in for %s", file, keys[i], act,
                        known[0], c->class);
    }
    return OK;
}

/* --- rope ---------------------------------------------------------------------------------------------------------------- */

static status scaled(const hf_config *c, const json_t *r, hf_rope *out, err *e) {
    out->original = c->context;
    out->low = 1.0;
    out->high = 4.0;
    status s = hf_get_f64(r, file, "factor", 1e-3, 1e6, &out->factor, e);
    if (!s) s = hf_config_u32(c, "original_max_position_embeddings", 1, INT32_MAX, &out->original, e);
    if (!s) s = hf_get_u32(r, file, "original_max_position_embeddings", 1, INT32_MAX, &out->original, e);
    if (!s) s = hf_get_f64(r, file, "low_freq_factor", 1e-3, 1e6, &out->low, e);
    if (!s) s = hf_get_f64(r, file, "high_freq_factor", 1e-3, 1e6, &out->high, e);
    if (s) return s;
    if (!out->factor) return fail(e, ERR_CONVERT_CONFIG, "%s: the rope scaling has no factor", file);
    if (out->kind == HF_ROPE_LLAMA3 && !(out->low < out->high))
        return fail(e, ERR_CONVERT_CONFIG, "%s: low_freq_factor %g is not below high_freq_factor %g", file, out->low,
                    out->high);
    return OK;
}

/* Of YaRN's parameters the engine takes the factor and the first context; the others have their defaults. */
static status check_yarn(const json_t *r, const hf_rope *rope, err *e) {
    const struct {
        const char *key;
        double value;
    } fixed[] = {{"beta_fast", 32},
                 {"beta_slow", 1},
                 {"extrapolation_factor", 1},
                 {"attention_factor", rope->factor <= 1 ? 1 : 0.1 * log(rope->factor) + 1},
                 {"mscale", 1}};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        double v = fixed[i].value;
        status s = hf_get_f64(r, file, fixed[i].key, -1e6, 1e6, &v, e);
        if (s) return s;
        if (fabs(v - fixed[i].value) > 1e-4)
            return fail(e, ERR_CONVERT_CONFIG, "%s: yarn with %s %g; only %g is built in", file, fixed[i].key, v,
                        fixed[i].value);
    }
    return OK;
}

static status read_scaling(hf_config *c, const json_t *r, err *e) {
    static const char *const kinds[] = {"default", "linear", "yarn", "llama3"};
    const char *type = kinds[0];
    status s = hf_get_text(r, file, "type", &type, e);
    if (!s) s = hf_get_text(r, file, "rope_type", &type, e);
    if (s) return s;
    size_t k = 0;
    while (k < 4 && strcmp(type, kinds[k]) != 0) k++;
    if (k == 4)
        return fail(e, ERR_CONVERT_CONFIG, "%s: rope scaling %.40s is not built in (built in: linear, yarn, llama3)",
                    file, type);
    c->rope.kind = (hf_rope_kind)k;
    if (json_object_get(r, "mrope_section"))
        return fail(e, ERR_CONVERT_CONFIG, "%s: a rope in sections (mrope_section) is not built in", file);
    if (c->rope.kind == HF_ROPE_NONE) return OK;
    s = scaled(c, r, &c->rope, e);
    return s || c->rope.kind != HF_ROPE_YARN ? s : check_yarn(r, &c->rope, e);
}

/* rope_scaling, or since transformers 5 rope_parameters, which may be one for each kind of layer. */
static status read_rope(hf_config *c, err *e) {
    static const char *const bases[] = {"rotary_emb_base", "rope_theta", "global_rope_theta"};
    static const char *const locals[] = {"local_rope_theta", "rope_local_base_freq"};
    const json_t *r = json_object_get(c->v, "rope_parameters");
    if (!json_is_object(r)) r = json_object_get(c->v, "rope_scaling");
    if (r && !json_is_null(r) && !json_is_object(r))
        return fail(e, ERR_CONVERT_CONFIG, "%s: rope_scaling is no object", file);
    const json_t *full = json_object_get(r, "full_attention"), *local = json_object_get(r, "sliding_attention");
    status s = OK;
    for (size_t i = 0; !s && i < 3; i++) s = hf_get_f64(c->v, file, bases[i], 1, 1e15, &c->rope.base, e);
    for (size_t i = 0; !s && i < 2; i++) s = hf_get_f64(c->v, file, locals[i], 1, 1e15, &c->rope.local_base, e);
    if (!s) s = hf_get_f64(full ? full : r, file, "rope_theta", 1, 1e15, &c->rope.base, e);
    if (!s) s = hf_get_f64(local, file, "rope_theta", 1, 1e15, &c->rope.local_base, e);
    if (!s) s = read_scaling(c, full ? full : r, e);
    if (!s) s = hf_config_must(c, "partial_rotary_factor", json_real(1), e);
    return s;
}

uint32_t hf_rope_factors(const hf_config *c, float *out) {
    const hf_rope *r = &c->rope;
    if (r->kind != HF_ROPE_LLAMA3) return 0;
    const double pi = 3.14159265358979323846;
    const uint32_t n = c->d_head / 2;
    for (uint32_t i = 0; out && i < n; i++) { /* Llama 3.1: long waves are stretched, short ones kept, a ramp between */
        const double wave = 2 * pi * pow(r->base, 2.0 * i / c->d_head);
        const double smooth = (r->original / wave - r->low) / (r->high - r->low);
        out[i] = wave < r->original / r->high  ? 1.0f
                 : wave > r->original / r->low ? (float)r->factor
                                               : (float)(1 / ((1 - smooth) / r->factor + smooth));
    }
    return n;
}

/* --- pooling ------------------------------------------------------------------------------------------------------------- */

static status read_pooling_file(hf_config *c, const char *dir, const char *path, err *e) {
    static const struct {
        const char *key, *mode;
        uint32_t value;
    } modes[] = {{"pooling_mode_mean_tokens", "mean", 1},
                 {"pooling_mode_cls_token", "cls", 2},
                 {"pooling_mode_lasttoken", "lasttoken", 3}};
    char name[300];
    json_t *v;
    if (strstr(path, "..") || path[0] == '/' || snprintf(name, sizeof name, "%s/config.json", path) >= (int)sizeof name)
        return fail(e, ERR_CONVERT_CONFIG, "modules.json: '%.80s' is no folder of a module", path);
    status s = hf_json_open(&v, dir, name, true, e);
    const char *mode = "";
    if (!s) s = hf_get_text(v, name, "pooling_mode", &mode, e);
    for (size_t i = 0; !s && !c->pooling && i < 3; i++) {
        bool on = strcmp(mode, modes[i].mode) == 0;
        s = hf_get_bool(v, name, modes[i].key, &on, e);
        if (on) c->pooling = modes[i].value;
    }
    if (!s && !c->pooling)
        s = fail(e, ERR_CONVERT_CONFIG, "%s: this pooling is not built in (built in: mean, cls, lasttoken)", name);
    json_decref(v);
    return s;
}

/* sentence-transformers' list of what comes after the model. */
static status read_modules(hf_config *c, const char *dir, hf_warnings *warnings, err *e) {
    json_t *list, *module;
    size_t i;
    status s = hf_json_open(&list, dir, "modules.json", false, e);
    json_array_foreach(list, i, module) {
        const char *type = "", *path = "";
        if (!s) s = hf_get_text(module, "modules.json", "type", &type, e);
        if (!s) s = hf_get_text(module, "modules.json", "path", &path, e);
        if (s) break;
        const char *last = strrchr(type, '.');
        if (strcmp(last ? last + 1 : type, "Pooling") == 0 && !c->pooling) s = read_pooling_file(c, dir, path, e);
        if (strcmp(last ? last + 1 : type, "Dense") == 0)
            hf_warn(warnings,
                    "the layer %.80s behind the model (modules.json) is left out: embeddings are those before it",
                    path);
    }
    json_decref(list);
    return s;
}

/* --- all of it ----------------------------------------------------------------------------------------------------------- */

static status merge_text_config(hf_config *c, err *e) {
    json_t *text = json_object_get(c->v, "text_config");
    if (!text || json_is_null(text)) return OK;
    if (!json_is_object(text)) return fail(e, ERR_CONVERT_CONFIG, "%s: text_config is no object", file);
    json_incref(text);
    json_object_del(text, "architectures");
    int bad = json_object_update(c->v, text);
    json_decref(text);
    return bad ? fail(e, ERR_NOMEM, "no memory to read %s", file) : OK;
}

status hf_config_open(hf_config *c, const char *dir, hf_warnings *warnings, err *e) {
    *c = (hf_config){.rope.base = 10000};
    status s = hf_json_open(&c->v, dir, file, true, e);
    if (!s && !json_is_object(c->v)) s = fail(e, ERR_CONVERT_CONFIG, "%s is no JSON object", file);
    if (!s) s = read_class(c, e);
    if (!s) s = merge_text_config(c, e);
    if (!s && json_is_object(json_object_get(c->v, "quantization_config")))
        s = fail(e, ERR_CONVERT_CONFIG, "%s: the weights are quantised (quantization_config): convert the original",
                 file);
    c->tied = json_is_true(json_object_get(c->v, "tie_word_embeddings"));
    if (!s && c->arch->read) s = c->arch->read(c, warnings, e);
    if (!s) s = read_sizes(c, e);
    if (!s) s = read_norm(c, e);
    if (!s) s = read_activation(c, e);
    if (!s) s = read_rope(c, e);
    if (!s) s = read_modules(c, dir, warnings, e);
    return s;
}

void hf_config_close(hf_config *c) {
    json_decref(c->v);
    json_decref(c->labels);
    *c = (hf_config){0};
}

/* --- keys ---------------------------------------------------------------------------------------------------------------- */

typedef struct {
    char text[96];
} key_text;

static key_text key_of(const hf_config *c, const char *suffix) {
    key_text k;
    snprintf(k.text, sizeof k.text, "%s.%s", c->arch->name, suffix);
    return k;
}

void hf_put_u32(const hf_config *c, gguf_writer *w, const char *suffix, uint32_t v) {
    gguf_put_u32(w, key_of(c, suffix).text, v);
}
void hf_put_f32(const hf_config *c, gguf_writer *w, const char *suffix, double v) {
    gguf_put_f32(w, key_of(c, suffix).text, (float)v);
}
void hf_put_str(const hf_config *c, gguf_writer *w, const char *suffix, const char *v) {
    gguf_put_str(w, key_of(c, suffix).text, str_of(v));
}
void hf_put_bool(const hf_config *c, gguf_writer *w, const char *suffix, bool v) {
    gguf_put_bool(w, key_of(c, suffix).text, v);
}

static void put_rope(const hf_config *c, gguf_writer *w) {
    const hf_rope *r = &c->rope;
    hf_put_f32(c, w, "rope.freq_base", r->base);
    if (r->local_base != 0) hf_put_f32(c, w, "rope.freq_base_swa", r->local_base);
    hf_put_u32(c, w, "rope.dimension_count", c->d_head);
    if (r->kind != HF_ROPE_LINEAR && r->kind != HF_ROPE_YARN) return;
    hf_put_str(c, w, "rope.scaling.type", r->kind == HF_ROPE_YARN ? "yarn" : "linear");
    hf_put_f32(c, w, "rope.scaling.factor", r->factor);
    if (r->kind == HF_ROPE_YARN) hf_put_u32(c, w, "rope.scaling.original_context_length", r->original);
}

void hf_config_put(const hf_config *c, gguf_writer *w) {
    hf_put_u32(c, w, "block_count", c->n_layer);
    hf_put_u32(c, w, "context_length", c->context);
    hf_put_u32(c, w, "embedding_length", c->d_model);
    hf_put_u32(c, w, "feed_forward_length", c->d_ff);
    hf_put_u32(c, w, "attention.head_count", c->n_head);
    hf_put_u32(c, w, "attention.head_count_kv", c->n_kv_head);
    hf_put_u32(c, w, "vocab_size", c->n_vocab);
    hf_put_f32(c, w, c->arch->rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon", c->eps);
    if (c->arch->encoder) hf_put_bool(c, w, "attention.causal", false);
    if (c->pooling) hf_put_u32(c, w, "pooling_type", c->pooling);
    if (c->rope.base != 0) put_rope(c, w); /* 0: positions are learned, or by slopes */
    if (c->n_expert) {
        hf_put_u32(c, w, "expert_count", c->n_expert);
        hf_put_u32(c, w, "expert_used_count", c->n_expert_used);
    }
    if (c->arch->put) c->arch->put(c, w);
}
