#include "convert/hf_folder.h"

#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --- files --------------------------------------------------------------------------------------------------------------- */

status hf_path(char out[HF_MAX_PATH], const char *dir, const char *name, err *e) {
    int n = snprintf(out, HF_MAX_PATH, "%s/%s", dir, name);
    return n < HF_MAX_PATH ? OK : fail(e, ERR_IO, "%.100s...: the path is too long", dir);
}

bool hf_has(const char *dir, const char *name) {
    char path[HF_MAX_PATH];
    return !hf_path(path, dir, name, NULL) && access(path, F_OK) == 0;
}

/* What was parsed counts only if the file stayed what it was. */
static status parse(json_t **out, const file_map *m, err *e) {
    json_error_t why;
    const char *path = file_map_path(m);
    if (file_map_size(m) > HF_MAX_JSON)
        return fail(e, ERR_CONVERT_CONFIG, "%s: %zu bytes, at most %d are read", path, file_map_size(m), HF_MAX_JSON);
    status s = json_read(out, (str){(const char *)file_map_data(m), file_map_size(m)}, JSON_REJECT_DUPLICATES, &why);
    if (s == ERR_NOMEM) return fail(e, s, "no memory to read %s", path);
    status changed = file_map_check(m, e);
    if (changed) return changed;
    if (s) return fail(e, ERR_CONVERT_CONFIG, "%s:%d: %s", path, why.line, why.text);
    return OK;
}

status hf_json_open(json_t **out, const char *dir, const char *name, bool needed, err *e) {
    char path[HF_MAX_PATH];
    file_map *m = NULL;
    *out = NULL;
    status s = hf_path(path, dir, name, e);
    if (!s && !hf_has(dir, name)) return needed ? fail(e, ERR_CONVERT_CONFIG, "%s: there is no such file", path) : OK;
    if (!s) s = file_map_open(&m, path, e);
    if (!s) s = parse(out, m, e);
    file_map_close(m);
    if (s) {
        json_decref(*out);
        *out = NULL;
    }
    return s;
}

status hf_text_open(strbuf *out, const char *dir, const char *name, err *e) {
    char path[HF_MAX_PATH];
    file_map *m = NULL;
    *out = (strbuf){0};
    status s = hf_path(path, dir, name, e);
    if (s || !hf_has(dir, name)) return s;
    s = file_map_open(&m, path, e);
    if (!s && file_map_size(m) > HF_MAX_JSON)
        s = fail(e, ERR_CONVERT_CONFIG, "%s: %zu bytes, at most %d are read", path, file_map_size(m), HF_MAX_JSON);
    if (!s) {
        strbuf_add(out, (const char *)file_map_data(m), file_map_size(m));
        s = out->failed || !out->p ? fail(e, ERR_NOMEM, "no memory to read %s", path) : file_map_check(m, e);
    }
    file_map_close(m);
    if (s) strbuf_free(out);
    return s;
}

/* --- values -------------------------------------------------------------------------------------------------------------- */

static const json_t *value(const json_t *v, const char *key) {
    const json_t *x = json_object_get(v, key);
    return json_is_null(x) ? NULL : x;
}

status hf_get_u32(const json_t *v, const char *file, const char *key, uint32_t lo, uint32_t hi, uint32_t *out, err *e) {
    const json_t *x = value(v, key);
    if (!x) return OK;
    if (!json_is_integer(x)) return fail(e, ERR_CONVERT_CONFIG, "%s: %s is no whole number", file, key);
    const json_int_t n = json_integer_value(x);
    if (n < lo || n > hi)
        return fail(e, ERR_CONVERT_CONFIG, "%s: %s is %" JSON_INTEGER_FORMAT ", outside %" PRIu32 " to %" PRIu32, file,
                    key, n, lo, hi);
    *out = (uint32_t)n;
    return OK;
}

status hf_get_f64(const json_t *v, const char *file, const char *key, double lo, double hi, double *out, err *e) {
    const json_t *x = value(v, key);
    if (!x) return OK;
    if (!json_is_number(x)) return fail(e, ERR_CONVERT_CONFIG, "%s: %s is no number", file, key);
    const double n = json_number_value(x);
    if (!(n >= lo && n <= hi))
        return fail(e, ERR_CONVERT_CONFIG, "%s: %s is %g, outside %g to %g", file, key, n, lo, hi);
    *out = n;
    return OK;
}

status hf_get_bool(const json_t *v, const char *file, const char *key, bool *out, err *e) {
    const json_t *x = value(v, key);
    if (!x) return OK;
    if (!json_is_boolean(x)) return fail(e, ERR_CONVERT_CONFIG, "%s: %s is neither true nor false", file, key);
    *out = json_is_true(x);
    return OK;
}

status hf_get_text(const json_t *v, const char *file, const char *key, const char **out, err *e) {
    const json_t *x = value(v, key);
    if (!x) return OK;
    if (!json_is_string(x)) return fail(e, ERR_CONVERT_CONFIG, "%s: %s is no string", file, key);
    *out = json_string_value(x);
    return OK;
}

/* --- weights ------------------------------------------------------------------------------------------------------------- */

static const char index_name[] = "model.safetensors.index.json", single_name[] = "model.safetensors";

static bool is_plain_name(const char *name) {
    size_t n = strlen(name);
    static const char end[] = ".safetensors";
    if (n < sizeof end || n > 255 || name[0] == '.' || strcmp(name + n - (sizeof end - 1), end) != 0) return false;
    return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

static status open_shard(hf_weights *w, const char *dir, const char *name, err *e) {
    char path[HF_MAX_PATH];
    status s = hf_path(path, dir, name, e);
    if (!s) s = safetensors_open(&w->shard[w->n_shards], path, e);
    w->n_shards++; /* also what is half open is closed */
    if (!s) w->n += w->shard[w->n_shards - 1].n;
    return s;
}

/* The shards that the index names, in its order; *files: each name -> its number. */
static status open_listed(hf_weights *w, const char *dir, json_t *map, json_t *files, err *e) {
    const char *name;
    json_t *v;
    status s = OK;
    json_object_foreach(map, name, v) {
        const char *file = json_string_value(v);
        if (!file || !is_plain_name(file))
            return fail(e, ERR_CONVERT_WEIGHTS,
                        "%s: tensor '%.100s' is in '%.100s', which is no name of a safetensors file", index_name, name,
                        file ? file : "?");
        if (json_object_get(files, file)) continue;
        if (json_object_size(files) == HF_MAX_SHARDS)
            return fail(e, ERR_CONVERT_WEIGHTS, "%s names more than %d files", index_name, HF_MAX_SHARDS);
        if (json_object_set_new_nocheck(files, file, json_integer((json_int_t)w->n_shards)))
            return fail(e, ERR_NOMEM, "no memory for the list of shards");
        if (!hf_has(dir, file))
            return fail(e, ERR_CONVERT_WEIGHTS, "%s/%s: there is no such file, but %s names it", dir, file, index_name);
        s = open_shard(w, dir, file, e);
        if (s) return s;
    }
    return OK;
}

/* Each shard holds what the index says, and nothing else. */
static status check_listed(const hf_weights *w, json_t *map, json_t *files, err *e) {
    for (size_t i = 0; i < w->n_shards; i++) {
        const safetensors *shard = &w->shard[i];
        for (size_t t = 0; t < shard->n; t++) {
            const char *name = shard->tensor[t].name.p; /* terminated: it lies in an arena */
            const json_t *said = json_object_get(map, name);
            const json_t *number = said ? json_object_get(files, json_string_value(said)) : NULL;
            if (!number || (size_t)json_integer_value(number) != i)
                return fail(e, ERR_CONVERT_WEIGHTS, "%s: tensor '%.100s' is in it, but %s %s",
                            file_map_path(shard->file), name, index_name,
                            said ? "says it is elsewhere" : "does not list it");
        }
    }
    if (w->n == json_object_size(map)) return OK;
    const char *name;
    json_t *v;
    json_object_foreach(map, name, v) {
        const safetensors *shard = &w->shard[json_integer_value(json_object_get(files, json_string_value(v)))];
        size_t t = 0;
        while (t < shard->n && !str_is(shard->tensor[t].name, name)) t++;
        if (t == shard->n)
            return fail(e, ERR_CONVERT_WEIGHTS, "%s: tensor '%.100s' is missing, but %s says it is here",
                        file_map_path(shard->file), name, index_name);
    }
    return fail(e, ERR_CONVERT_WEIGHTS, "%s lists %zu tensors, its files hold %zu", index_name, json_object_size(map),
                w->n);
}

static status open_several(hf_weights *w, const char *dir, err *e) {
    json_t *index = NULL, *files = NULL;
    status s = hf_json_open(&index, dir, index_name, true, e);
    json_t *map = json_object_get(index, "weight_map");
    if (!s && !json_object_size(map))
        s = fail(e, ERR_CONVERT_WEIGHTS, "%s/%s: weight_map is missing, empty or no object", dir, index_name);
    if (!s) {
        files = json_object();
        w->shard = mem_array(HF_MAX_SHARDS, sizeof *w->shard);
        if (!files || !w->shard) s = fail(e, ERR_NOMEM, "no memory for the list of shards");
    }
    if (!s) s = open_listed(w, dir, map, files, e);
    if (!s) s = check_listed(w, map, files, e);
    json_decref(files);
    json_decref(index);
    return s;
}

static status open_single(hf_weights *w, const char *dir, err *e) {
    w->shard = mem_array(1, sizeof *w->shard);
    if (!w->shard) return fail(e, ERR_NOMEM, "no memory for the list of shards");
    return open_shard(w, dir, single_name, e);
}

static status no_weights(const char *dir, err *e) {
    static const char *const others[] = {"pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5",
                                         "consolidated.safetensors", "adapter_model.safetensors"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (hf_has(dir, others[i]))
            return fail(e, ERR_CONVERT_WEIGHTS, "%s: it holds %s, but only %s and %s are read", dir, others[i],
                        single_name, index_name);
    return fail(e, ERR_CONVERT_WEIGHTS, "%s: it holds neither %s nor %s", dir, single_name, index_name);
}

static status join(hf_weights *w, err *e) {
    size_t twice, at = 0;
    if (w->n > NAMES_MAX) return fail(e, ERR_CONVERT_WEIGHTS, "%zu tensors, at most %d are read", w->n, NAMES_MAX);
    w->tensor = mem_array(w->n + 1, sizeof *w->tensor);
    if (!w->tensor) return fail(e, ERR_NOMEM, "no memory for %zu tensors", w->n);
    for (size_t i = 0; i < w->n_shards; i++)
        for (size_t t = 0; t < w->shard[i].n; t++) w->tensor[at++] = w->shard[i].tensor[t];
    status s = names_build(&w->by_name, w->tensor, w->n, sizeof *w->tensor, &twice, e);
    if (s || twice == w->n) return s;
    return fail(e, ERR_CONVERT_WEIGHTS, "tensor '%.*s' is in two files", STR(w->tensor[twice].name));
}

status hf_weights_open(hf_weights *w, const char *dir, err *e) {
    *w = (hf_weights){0};
    json_init();
    status s = hf_has(dir, single_name)  ? open_single(w, dir, e) /* transformers too looks for it first */
               : hf_has(dir, index_name) ? open_several(w, dir, e)
                                         : no_weights(dir, e);
    return s ? s : join(w, e);
}

void hf_weights_close(hf_weights *w) {
    names_free(&w->by_name);
    for (size_t i = 0; i < w->n_shards; i++) safetensors_close(&w->shard[i]);
    mem_free(w->shard);
    mem_free(w->tensor);
    *w = (hf_weights){0};
}

const st_tensor *hf_weights_find(const hf_weights *w, str name) { return names_find(&w->by_name, name); }

status hf_weights_check(const hf_weights *w, err *e) {
    for (size_t i = 0; i < w->n_shards; i++) {
        status s = file_map_check(w->shard[i].file, e);
        if (s) return s;
    }
    return OK;
}
