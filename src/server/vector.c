#include "server/vector.h"

#include "base/mem.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void vector_normalize(float *v, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)v[i] * (double)v[i];
    const double scale = sum > 0 ? 1 / sqrt(sum) : 0;
    for (size_t i = 0; i < n; i++) v[i] = (float)((double)v[i] * scale);
}

/* --- dimensions ------------------------------------------------------------------------------------------------------- */

/* Models trained so that the first numbers of a vector are a vector (Matryoshka representation learning), as their authors
 * say on the models' cards. GGUF has no key for it, so it goes by architecture and name; `least` is the smallest size the
 * card speaks of. An empty name: every model of the architecture is one. */
static const struct {
    const char *arch, *name;
    uint32_t least;
} trained[] = {{"gemma-embedding", "", 128},     /* EmbeddingGemma: 768, 512, 256, 128 */
               {"qwen3", "qwen3-embedding", 32}, /* 32 and up */
               {"nomic-bert", "nomic-embed-text-v1.5", 64},
               {"nomic-bert-moe", "nomic-embed-text-v2", 256},
               {"jina-bert-v3", "", 32}, /* jina-embeddings-v3: 32 and up */
               {"bert", "mxbai-embed-large", 64},
               {"bert", "snowflake-arctic-embed-m-v1.5", 256},
               {"bert", "snowflake-arctic-embed-l-v2", 256}};

/* "Nomic Embed Text v1.5" and "nomic_embed_text_v1.5" are nomic-embed-text-v1.5. */
static void plain_name(char *out, size_t size, const char *name) {
    size_t i = 0;
    for (; name && name[i] && i + 1 < size; i++) {
        const char c = (char)tolower((unsigned char)name[i]);
        out[i] = c == ' ' || c == '_' ? '-' : c;
    }
    out[i] = 0;
}

/* The file's name for itself, and the name of its family with its version. */
static bool is_called(const json_t *metadata, const char *name) {
    char own[160], base[160], family[160];
    const char *v = json_string_value(json_object_get(metadata, "general.version"));
    plain_name(own, sizeof own, json_string_value(json_object_get(metadata, "general.name")));
    snprintf(base, sizeof base, "%.100s%s%.40s",
             json_is_string(json_object_get(metadata, "general.basename"))
                 ? json_string_value(json_object_get(metadata, "general.basename"))
                 : "",
             v ? "-" : "", v ? v : "");
    plain_name(family, sizeof family, base);
    return strstr(own, name) || strstr(family, name);
}

uint32_t vector_least_dimensions(const rf_model *m) {
    char *text = rf_model_inspect(m, RF_INSPECT_METADATA, NULL);
    json_t *all = text ? json_loads(text, JSON_ALLOW_NUL, NULL) : NULL;
    rf_free(text);
    const json_t *metadata = json_object_get(all, "metadata");
    const char *arch = json_string_value(json_object_get(metadata, "general.architecture"));
    uint32_t least = 0;
    for (size_t i = 0; arch && i < sizeof trained / sizeof *trained; i++)
        if (!strcmp(arch, trained[i].arch) && is_called(metadata, trained[i].name)) least = trained[i].least;
    json_decref(all);
    return least < rf_model_n_embd(m) ? least : 0;
}

/* --- texts that are too long ------------------------------------------------------------------------------------------ */

/* Where the text's own ids begin: what the tokenizer put around them stands before and behind. The last such place, as the
 * same text may stand before it, too (a query). */
static bool find_own(const int32_t *ids, size_t n_ids, const int32_t *own, size_t n_own, size_t *at) {
    if (n_own > n_ids) return false;
    for (*at = n_ids - n_own;; --*at) {
        if (!memcmp(ids + *at, own, n_own * sizeof *own)) return true;
        if (*at == 0) return false;
    }
}

bool vector_truncate(const rf_model *m, str text, bool pair, int32_t *ids, size_t *n_ids, size_t most, rf_error *e) {
    const unsigned flags = RF_NO_SPECIAL | (pair ? RF_NO_PARSE_SPECIAL : 0u);
    int32_t *own;
    size_t n_own, at;
    if (!rf_tokenize(m, text.p, text.n, flags, &own, &n_own, e)) return false;
    const bool found = find_own(ids, *n_ids, own, n_own, &at);
    const size_t tail = found ? *n_ids - at - n_own : 0;
    rf_free(own);
    if (!found || at + tail >= most) {
        *e = (rf_error){"request.context_length", "User", 400, false, ""};
        snprintf(e->message, sizeof e->message, "%zu tokens cannot be cut to the context of %zu%s", *n_ids, most,
                 found ? ": what stands around the text fills it alone" : "");
        return false;
    }
    memmove(ids + most - tail, ids + *n_ids - tail, tail * sizeof *ids);
    *n_ids = most;
    return true;
}

/* --- forms ------------------------------------------------------------------------------------------------------------ */

static const char *const pooling_names[] = {[RF_POOLING_MODEL] = "model",
                                            [RF_POOLING_MEAN] = "mean",
                                            [RF_POOLING_CLS] = "cls",
                                            [RF_POOLING_LAST] = "last",
                                            [RF_POOLING_RANK] = "rank"};
enum { N_POOLING = sizeof pooling_names / sizeof *pooling_names };

const char *vector_pooling_name(rf_pooling p) { return (unsigned)p < N_POOLING ? pooling_names[p] : "?"; }

bool vector_read_pooling(const char *name, rf_pooling *p) {
    for (int i = 0; i < N_POOLING; i++)
        if (!strcmp(name, pooling_names[i])) {
            *p = (rf_pooling)i;
            return true;
        }
    return false;
}

/* Half as long as what a double needs. */
json_t *vector_number(float x) {
    char text[32];
    snprintf(text, sizeof text, "%.9g", (double)x);
    return json_real(strtod(text, NULL));
}

json_t *vector_json(const float *v, size_t n) {
    json_t *all = json_array();
    for (size_t i = 0; all && i < n; i++)
        if (json_array_append_new(all, vector_number(v[i]))) {
            json_decref(all);
            return NULL;
        }
    return all;
}

json_t *vector_base64(const float *v, size_t n_floats) {
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    _Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "floats are sent as they lie");
    const size_t n = n_floats * sizeof *v;
    const unsigned char *p = (const unsigned char *)v;
    char *out = mem_alloc((n + 2) / 3 * 4), *at = out;
    if (!out) return NULL;
    for (size_t i = 0; i < n; i += 3) {
        const size_t left = n - i;
        const unsigned w = p[i] * 65536u + (left > 1 ? p[i + 1] * 256u : 0) + (left > 2 ? p[i + 2] : 0);
        *at++ = digit[w >> 18];
        *at++ = digit[w >> 12 & 63];
        *at++ = left > 1 ? digit[w >> 6 & 63] : '=';
        *at++ = left > 2 ? digit[w & 63] : '=';
    }
    json_t *s = json_text(out, (size_t)(at - out));
    mem_free(out);
    return s;
}
