/* rocmforge inspect, plan: what the library tells, as JSON or for people to read. */
#include "cli/cli.h"

#include <stdarg.h>
#include <string.h>

static const char *text_of(const json_t *v, const char *key) {
    const char *s = json_string_value(json_object_get(v, key));
    return s ? s : "";
}
static double number_of(const json_t *v, const char *key) { return json_number_value(json_object_get(v, key)); }
static long long int_of(const json_t *v, const char *key) { return json_integer_value(json_object_get(v, key)); }

static void row(const char *name, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void row(const char *name, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    printf("%-16s ", name);
    vprintf(fmt, ap);
    putchar('\n');
    va_end(ap);
}

/* Text from a file, made fit for a terminal: no control characters, those of U+0080 to U+009F neither. It is UTF-8, as all
 * that the library tells. */
static void print_clean(const char *s) {
    for (; *s; s++) {
        bool c1 = (unsigned char)*s == 0xC2 && (unsigned char)s[1] < 0xA0;
        putchar((unsigned char)*s < 0x20 || *s == 0x7F || c1 ? '?' : *s);
        s += c1;
    }
}

static void print_model(json_t *v) {
    json_t *m = json_object_get(v, "model"), *t = json_object_get(v, "tokenizer");
    char size[24], file[24];
    cli_bytes(size, sizeof size, number_of(m, "weight_bytes"));
    cli_bytes(file, sizeof file, number_of(v, "file_bytes"));
    printf("%-16s ", "name");
    print_clean(text_of(m, "name"));
    putchar('\n');
    row("architecture", "%s", text_of(m, "architecture"));
    row("parameters", "%.2f M", number_of(m, "n_params") / 1e6);
    row("file", "GGUF v%lld, %s, %lld shard%s, %s", int_of(v, "gguf_version"), file, int_of(v, "shards"),
        int_of(v, "shards") == 1 ? "" : "s", text_of(m, "file_type"));
    row("layers", "%lld, width %lld, feed-forward %lld", int_of(m, "n_layer"), int_of(m, "n_embd"), int_of(m, "n_ff"));
    row("attention", "%lld heads, %lld for keys and values, %lld wide", int_of(m, "n_head"), int_of(m, "n_head_kv"),
        int_of(m, "head_dim"));
    if (json_object_get(m, "n_expert"))
        row("experts", "%lld, %lld used", int_of(m, "n_expert"), int_of(m, "n_expert_used"));
    if (json_object_get(m, "pooling"))
        row("embeddings", "%spooling %s", json_object_get(m, "encoder") ? "an encoder, " : "", text_of(m, "pooling"));
    row("context", "%lld tokens trained", int_of(m, "context_train"));
    bool bpe = strcmp(text_of(t, "model"), "gpt2") == 0; /* no other kind has pre-tokenizers to choose from */
    row("vocabulary", "%lld tokens, %s%s%s", int_of(m, "n_vocab"), text_of(t, "model"), bpe ? ", pre-tokenizer " : "",
        bpe ? text_of(t, "pre") : "");
    row("chat template", "%s", json_is_true(json_object_get(m, "has_chat_template")) ? "yes" : "none in the file");
    const char *type;
    json_t *n;
    printf("%-16s %lld:", "tensors", int_of(v, "n_tensors"));
    json_object_foreach(json_object_get(v, "types"), type, n) printf(" %lld %s", json_integer_value(n), type);
    putchar('\n');
}

static void print_tensors(json_t *all) {
    size_t i, k;
    json_t *t, *d;
    json_array_foreach(all, i, t) {
        char size[24];
        cli_bytes(size, sizeof size, number_of(t, "bytes"));
        print_clean(text_of(t, "name"));
        printf("  %s  [", text_of(t, "type"));
        json_array_foreach(json_object_get(t, "shape"), k, d) printf("%s%lld", k ? ", " : "", json_integer_value(d));
        printf("]  %s\n", size);
    }
}

enum { SHOWN_BYTES = 200 };

/* The longest beginning of s of at most n bytes that splits no character. */
static size_t cut(const char *s, size_t n) {
    while (n && ((unsigned char)s[n] & 0xC0) == 0x80) n--;
    return n;
}

static void print_metadata(json_t *all) {
    const char *key;
    json_t *v;
    json_object_foreach(all, key, v) {
        char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
        print_clean(key);
        fputs(" = ", stdout);
        if (text && strlen(text) > SHOWN_BYTES) strcpy(text + cut(text, SHOWN_BYTES - 3), "...");
        print_clean(text ? text : "?");
        putchar('\n');
        rf_free(text);
    }
}

int cmd_inspect(const args *a) {
    rf_model *m = NULL;
    rf_error e;
    int rc = cli_open_model(&m, a);
    if (rc) return rc;
    if (a->graph) {
        char *dump = rf_model_graph(m, -1, &e);
        rc = dump ? 0 : cli_fail(&e);
        if (dump) cli_put(dump, strlen(dump));
        rf_free(dump);
        rf_model_close(m);
        return rc;
    }
    unsigned flags = (a->tensors ? RF_INSPECT_TENSORS : 0u) | (a->metadata ? RF_INSPECT_METADATA : 0u);
    char *text = rf_model_inspect(m, flags, &e);
    rc = text ? 0 : cli_fail(&e);
    json_t *v = cli_json(text);
    if (v && a->json) {
        rc = cli_print_json(json_incref(v));
    } else if (v) {
        print_model(v);
        if (a->metadata) print_metadata(json_object_get(v, "metadata"));
        if (a->tensors) print_tensors(json_object_get(v, "tensors"));
    }
    json_decref(v);
    rf_model_close(m);
    return rc;
}

static void print_gpu(json_t *g) {
    static const char *const kinds[] = {"weights", "kv", "activations", "scratch"};
    static const char *const sums[] = {"need", "margin", "available"};
    json_t *b = json_object_get(g, "bytes");
    char s[24];
    printf("GPU %lld, %s (%s), %lld layers\n", int_of(g, "index"), text_of(g, "name"), text_of(g, "arch"),
           int_of(g, "layers"));
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        cli_bytes(s, sizeof s, number_of(b, kinds[i]));
        printf("  %-22s %10s\n", kinds[i], s);
    }
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++) {
        cli_bytes(s, sizeof s, number_of(g, sums[i]));
        printf("%-24s %10s\n", sums[i], s);
    }
}

static void print_plan(json_t *v) {
    static const char *const kinds[][2] = {{"weights_repacked", "weights, repacked"},
                                           {"weights_mapped", "weights, in the file"},
                                           {"kv", "KV cache"},
                                           {"activations", "activations"},
                                           {"scratch", "scratch"},
                                           {"vocabulary", "vocabulary, header"},
                                           {"tables", "page tables, queues"},
                                           {"process", "program"},
                                           {"staging", "staging, while loading"}};
    json_t *b = json_object_get(v, "bytes");
    char s[24];
    printf("%s, context %lld x %lld, ubatch %lld, KV %s/%s\n", text_of(v, "device"), int_of(v, "context"),
           int_of(v, "parallel"), int_of(v, "ubatch"), text_of(v, "cache_type_k"), text_of(v, "cache_type_v"));
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        cli_bytes(s, sizeof s, number_of(b, kinds[i][0]));
        printf("  %-22s %10s\n", kinds[i][1], s);
    }
    static const char *const sums[][2] = {
        {"expected_resident", "expected resident"}, {"need", "need"}, {"margin", "margin"}, {"available", "available"}};
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++) {
        cli_bytes(s, sizeof s, number_of(v, sums[i][0]));
        printf("%-24s %10s\n", sums[i][1], s);
    }
    size_t i_gpu;
    json_t *gpu;
    json_array_foreach(json_object_get(v, "gpus"), i_gpu, gpu) print_gpu(gpu);
    size_t i;
    json_t *text;
    json_array_foreach(json_object_get(v, "warnings"), i, text) printf("warning: %s\n", json_string_value(text));
    bool fits = json_is_true(json_object_get(v, "fits"));
    printf("%s; the largest context that fits is %lld\n", fits ? "fits" : "DOES NOT FIT", int_of(v, "largest_context"));
}

int cmd_plan(const args *a) {
    rf_model *m = NULL;
    rf_error e;
    int rc = cli_open_model(&m, a);
    if (rc) return rc;
    rf_engine_options opt = cli_engine_options(a);
    char *text = rf_plan(m, &opt, &e);
    rc = text ? 0 : cli_fail(&e);
    json_t *v = cli_json(text);
    if (v && a->json)
        rc = cli_print_json(json_incref(v));
    else if (v)
        print_plan(v);
    json_decref(v);
    rf_model_close(m);
    return rc;
}
