/* rocmforge serve: a model behind HTTP, until SIGTERM or Ctrl-C. */
#include "cli/store.h"
#include "server/server.h"
#include "server/vector.h"

#include <stdlib.h>
#include <string.h>

enum { PARALLEL_DEFAULT = 8, EMBEDDING_ROWS = 32 /* tokens a step of an embedding */ };

/* What the options point to besides the arguments themselves. */
typedef struct {
    server_options opt;
    char host[256];
    char *key_text, *chat_template;
    const char *keys[2 * ARGS_MAX_LIST];
    bool quiet;
} setup;

/* "HOST:PORT", "[::1]:8080", ":8080" or "HOST". */
static int read_addr(setup *s, const char *addr) {
    const char *colon = strrchr(addr, ':'), *end = addr + strlen(addr);
    if (colon && (strchr(colon, ']') || (strchr(addr, ':') != colon && addr[0] != '['))) colon = NULL; /* bare IPv6 */
    if (colon) {
        char *stop;
        long port = strtol(colon + 1, &stop, 10);
        if (stop == colon + 1 || *stop || port < 0 || port > 65535 || colon[1] == '+' || colon[1] == '-')
            return cli_usage("usage.range", "--addr %.120s: give HOST:PORT, the port from 0 to 65535", addr);
        s->opt.port = (uint16_t)port;
        end = colon;
    }
    if (end - addr >= 2 && addr[0] == '[' && end[-1] == ']') addr++, end--;
    if ((size_t)(end - addr) >= sizeof s->host) return cli_usage("usage.range", "--addr %.120s: too long", addr);
    if (end == addr) return 0; /* the port alone */
    memcpy(s->host, addr, (size_t)(end - addr));
    s->opt.host = s->host;
    return 0;
}

/* One key a line; spaces around it are not part of it. */
static int read_key_file(setup *s, const args *a) {
    size_t n;
    s->key_text = cli_read_all(a->api_key_file, &n);
    if (!s->key_text) return EXIT_FAILED;
    uint32_t before = s->opt.n_api_keys;
    char *at = s->key_text;
    for (char *line; (line = strsep(&at, "\r\n"));) {
        line += strspn(line, " \t");
        line[strcspn(line, " \t")] = 0;
        if (!*line || *line == '#') continue;
        if (s->opt.n_api_keys == sizeof s->keys / sizeof *s->keys)
            return cli_usage("usage.range", "%.120s: more keys than %zu", a->api_key_file,
                             sizeof s->keys / sizeof *s->keys);
        s->keys[s->opt.n_api_keys++] = line;
    }
    if (s->opt.n_api_keys == before) return cli_usage("usage.range", "%.120s: holds no key", a->api_key_file);
    return 0;
}

static int read_files(setup *s, const args *a) {
    size_t n;
    for (uint32_t i = 0; i < a->api_keys.n; i++) s->keys[s->opt.n_api_keys++] = a->api_keys.item[i];
    s->opt.api_keys = s->keys;
    int rc = a->api_key_file ? read_key_file(s, a) : 0;
    if (rc || !a->chat_template_file) return rc;
    s->opt.chat_template = s->chat_template = cli_read_all(a->chat_template_file, &n);
    return s->chat_template ? 0 : EXIT_FAILED;
}

static int check_choice(const char *name, const char *value, const char *const choices[3]) {
    if (!value) return 0;
    for (size_t i = 0; i < 3; i++)
        if (strcmp(value, choices[i]) == 0) return 0;
    return cli_usage("usage.range", "%s %.80s: give %s, %s or %s", name, value, choices[0], choices[1], choices[2]);
}

/* Refused rather than without effect. */
static int check_together(const args *a) {
    const char *chunking = a->chunking ? a->chunking : "adaptive";
    if (a->chunk && strcmp(chunking, "fixed")) return cli_usage("usage.argument", "--chunk needs --chunking fixed");
    if (a->step_ms && strcmp(chunking, "adaptive"))
        return cli_usage("usage.argument", "--step-ms needs --chunking adaptive");
    if (a->kv_cache_bytes && !a->kv_cache_dir)
        return cli_usage("usage.argument", "--kv-cache-size needs --kv-cache-dir DIR");
    return 0;
}

static int read_options(setup *s, const args *a) {
    static const char *const chunkings[] = {"none", "fixed", "adaptive"}, *const presets[] = {"small", "medium",
                                                                                              "large"};
    server_options *o = &s->opt;
    *o = server_defaults();
    s->quiet = a->quiet;
    int rc = a->addr ? read_addr(s, a->addr) : 0;
    if (!rc) rc = check_choice("--chunking", a->chunking, chunkings);
    if (!rc) rc = check_choice("--kv-preset", a->kv_preset, presets);
    if (!rc) rc = check_together(a);
    if (a->host) o->host = a->host;
    if (a->port >= 0) o->port = (uint16_t)a->port;
    o->model_path = a->model;
    o->alias = a->alias;
    o->insecure = a->insecure;
    o->cors = a->cors.item, o->n_cors = a->cors.n;
    o->allowed_hosts = a->allowed_hosts.item, o->n_allowed_hosts = a->allowed_hosts.n;
    o->tls_cert = a->tls_cert, o->tls_key = a->tls_key;
    if (a->max_body) o->max_body = (uint64_t)a->max_body;
    o->max_connections = (uint32_t)a->max_connections;
    if (a->header_seconds) o->header_seconds = (uint32_t)a->header_seconds;
    if (a->body_seconds) o->body_seconds = (uint32_t)a->body_seconds;
    if (a->idle_seconds) o->idle_seconds = (uint32_t)a->idle_seconds;
    if (a->stall_seconds) o->stall_seconds = (uint32_t)a->stall_seconds;
    if (a->drain_seconds >= 0) o->drain_seconds = (uint32_t)a->drain_seconds;
    o->timeout_us = (int64_t)(a->timeout * 1e6);
    o->strict_model = a->strict_model;
    if (!rc && a->pooling && !vector_read_pooling(a->pooling, &o->pooling))
        rc = cli_usage("usage.range", "--pooling %.80s: give model, mean, cls, last or rank", a->pooling);
    o->slots = !a->no_slots;
    if (a->trace_sample >= 0) o->trace_sample = a->trace_sample;
    if (a->max_traces >= 0) o->trace_most = (uint32_t)a->max_traces;
    o->otlp_endpoint = getenv("OTEL_EXPORTER_OTLP_ENDPOINT"); /* OpenTelemetry's own names: no twins of options */
    o->otlp_headers = getenv("OTEL_EXPORTER_OTLP_HEADERS");
    o->service_name = getenv("OTEL_SERVICE_NAME");
    return rc ? rc : read_files(s, a);
}

static rf_engine_options engine_options(const args *a) {
    rf_engine_options o = cli_engine_options(a);
    if (!o.parallel) o.parallel = PARALLEL_DEFAULT;
    o.logits_rows = o.parallel > EMBEDDING_ROWS ? o.parallel : EMBEDDING_ROWS;
    o.kv_shrink = true;
    o.kv_tokens = (uint32_t)a->kv_tokens;
    o.kv_preset = a->kv_preset;
    o.queue = (uint32_t)a->queue;
    o.chunking = a->chunking;
    o.chunk = (uint32_t)a->chunk;
    o.step_ms = (uint32_t)a->step_ms;
    o.no_prefix_cache = a->no_prefix_cache;
    o.kv_cache_dir = a->kv_cache_dir;
    o.kv_cache_bytes = (uint64_t)a->kv_cache_bytes;
    return o;
}

static void note_engine(const rf_engine *g) {
    rf_stats st;
    rf_engine_stats(g, &st);
    json_t *memory = cli_json(rf_engine_memory(g)), *bytes = json_object_get(memory, "bytes"),
           *info = cli_json(rf_engine_info(g));
    char size[24] = "?";
    if (bytes) cli_bytes(size, sizeof size, json_number_value(bytes));
    cli_note("parallel: %lld requests of up to %u tokens; KV cache: %s, %llu tokens",
             (long long)json_integer_value(json_object_get(info, "parallel")), rf_engine_context(g), size,
             (unsigned long long)st.pages_total * (st.page_tokens ? st.page_tokens : 1));
    json_decref(memory);
    json_decref(info);
}

/* Scripts wait for this line, so it comes even when quiet. */
static void on_ready(void *user, const char *address) {
    const setup *s = user;
    if (!s->quiet && s->opt.n_api_keys == 0 && s->opt.insecure)
        cli_note("rocmforge: warning: no API key: whoever reaches this address may use the model");
    cli_note("listening on %s", address);
}

static int serve(const args *a, setup *s) {
    cli_store kept = {0};
    rf_model *m = NULL;
    rf_engine *g = NULL;
    rf_error e;
    int rc = cli_open_model(&m, a);
    rf_engine_options opt = engine_options(a);
    if (!rc && s->opt.pooling == RF_POOLING_RANK && !rf_model_n_scores(m))
        rc = cli_usage("usage.argument", "this model has no rank head: --pooling rank needs one");
    if (!rc) rc = cli_open_engine(&g, m, &opt, a);
    if (!rc && !a->quiet) {
        note_engine(g);
        cli_note("connections: at most %u", server_raise_files(s->opt.max_connections));
    }
    if (!rc) rc = cli_store_open(&kept, a, m, g);
    s->opt.context = kept.c;
    if (!rc && !server_run(&s->opt, m, g, on_ready, s, &e)) rc = cli_fail(&e);
    cli_store_close(&kept);
    rf_engine_close(g);
    rf_model_close(m);
    return rc;
}

int cmd_serve(const args *a) {
    setup *s = calloc(1, sizeof *s);
    rf_error e;
    if (!s) return cli_error("memory.exhausted", "no memory for the options");
    int rc = read_options(s, a);
    if (!rc && !server_check(&s->opt, &e)) rc = cli_fail(&e);
    if (!rc) rc = serve(a, s);
    free(s->key_text);
    free(s->chat_template);
    free(s);
    return rc;
}
