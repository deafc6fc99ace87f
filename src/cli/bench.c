/* rocmforge bench: the table everyone pastes, `model size params backend threads test t/s`, plus the bytes read a second and
 * their share of what this machine's memory was measured to give. Measured through the same requests that users make. */
#include "cli/cli.h"

#include <errno.h>
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_VALUES = 16, MAX_RUNS = 1000 };

typedef struct {
    long v[MAX_VALUES];
    int n;
} list;

/* "512", "128,512" or nothing (the fallback). */
static int parse_list(list *l, const char *name, const char *text, long fallback, long most) {
    *l = (list){.v = {fallback}, .n = 1};
    if (!text) return 0;
    l->n = 0;
    for (const char *p = text;;) {
        char *end;
        errno = 0;
        long v = strtol(p, &end, 10);
        if (end == p || errno || v < 0 || v > most || l->n == MAX_VALUES || (*end && *end != ','))
            return cli_usage("usage.range", "%s %.60s: give numbers from 0 to %ld, comma separated", name, text, most);
        l->v[l->n++] = v;
        if (!*end) return 0;
        p = end + 1;
    }
}

typedef struct {
    long n_prompt, n_gen, depth; /* one of n_prompt, n_gen is 0 */
    long threads;
} test;

typedef struct {
    int64_t prompt_us, predicted_us;
    bool failed;
    rf_error error;
} sample_time;

static void on_event(void *user, const rf_event *ev) {
    sample_time *t = user;
    if (ev->kind == RF_EVENT_FINISHED) t->prompt_us = ev->prompt_us, t->predicted_us = ev->predicted_us;
    if (ev->kind == RF_EVENT_FAILED) t->failed = true, t->error = *ev->error;
}

/* A prompt of arbitrary ids: their meaning does not matter, only their number. */
static int32_t *make_prompt(long n, uint32_t n_vocab) {
    int32_t *ids = malloc((size_t)(n ? n : 1) * sizeof *ids);
    uint32_t x = 12345;
    for (long i = 0; ids && i < n; i++) {
        x = x * 1664525u + 1013904223u;
        ids[i] = (int32_t)((x >> 8) % n_vocab);
    }
    return ids;
}

static int run_once(rf_engine *g, const int32_t *ids, long n_ids, long n_gen, sample_time *out) {
    rf_request_params p = rf_request_defaults();
    rf_request *r;
    rf_error e;
    p.tokens = ids;
    p.n_tokens = (size_t)n_ids;
    p.max_tokens = n_gen;
    p.temperature = 0;
    p.ignore_eos = true;
    p.no_cache = true; /* every run reads its whole prompt */
    *out = (sample_time){0};
    if (!rf_request_start(&r, g, &p, on_event, out, &e)) return cli_fail(&e);
    cli_on_interrupt(r);
    rf_request_wait(r);
    cli_on_interrupt(NULL);
    rf_request_free(r);
    if (cli_interrupted()) return EXIT_INTERRUPTED;
    return out->failed ? cli_fail(&out->error) : 0;
}

/* Tokens a second of one run. Prompt: to its first token, output layer included. Generation: the steps after the first
 * token, n_gen of them. With a depth, prompt time is that of depth + n less that of depth alone. */
static int measure(rf_engine *g, const test *t, const int32_t *ids, double *rate) {
    sample_time all, before = {0};
    long n_ids = t->depth + t->n_prompt;
    if (t->n_gen && n_ids == 0) n_ids = 1;
    int rc = run_once(g, ids, n_ids, t->n_gen + 1, &all);
    if (!rc && t->n_prompt && t->depth) rc = run_once(g, ids, t->depth, 1, &before);
    double us = t->n_gen ? (double)all.predicted_us : (double)(all.prompt_us - before.prompt_us);
    *rate = us > 0 ? (double)(t->n_gen ? t->n_gen : t->n_prompt) * 1e6 / us : 0;
    return rc;
}

typedef struct {
    json_t *rows, *profiles; /* profiles: of each test, rf_engine_profile's; with --profile */
    const char *format, *model, *size_label;
    double size, params, bytes_per_token, kv_bytes_per_token;
    char backend[160], platform[8]; /* "CPU", "HIP", "CUDA" */
} report;

static void test_name(char *out, size_t size, const test *t) {
    int n = snprintf(out, size, t->n_gen ? "tg%ld" : "pp%ld", t->n_gen ? t->n_gen : t->n_prompt);
    if (t->depth) snprintf(out + n, size - (size_t)n, " @ d%ld", t->depth);
}

static void add_row(report *rep, const test *t, const double *rate, int n, double bandwidth) {
    double mean = 0, var = 0;
    for (int i = 0; i < n; i++) mean += rate[i] / n;
    for (int i = 0; i < n; i++) var += (rate[i] - mean) * (rate[i] - mean) / (n > 1 ? n - 1 : 1);
    double kv = rep->kv_bytes_per_token * ((double)t->depth + (double)t->n_gen / 2);
    double read = t->n_gen ? mean * (rep->bytes_per_token + kv) : 0;
    char name[48], cell[96], size[24], gbs[48] = "|";
    test_name(name, sizeof name, t);
    cli_bytes(size, sizeof size, rep->size);
    if (read > 0 && bandwidth <= 0)
        snprintf(gbs, sizeof gbs, "%.1f", read / 1e9);
    else if (read > 0)
        snprintf(gbs, sizeof gbs, "%.1f (%.0f %% of %.1f)", read / 1e9, 100 * read / bandwidth, bandwidth / 1e9);
    else
        snprintf(gbs, sizeof gbs, "-");
    snprintf(cell, sizeof cell, "%.2f ± %.2f", mean, sqrt(var));
    if (!strcmp(rep->format, "md"))
        printf("| %-30s | %10s | %8.2f M | %-10s | %7ld | %15s | %20s | %-22s |\n", rep->model, size, rep->params / 1e6,
               rep->platform, t->threads, name, cell, gbs);
    else if (!strcmp(rep->format, "csv"))
        printf("\"%s\",%.0f,%.0f,%s,%ld,%ld,%ld,%ld,%.4f,%.4f,%.4f,%.4f\n", rep->model, rep->size, rep->params,
               rep->platform, t->threads, t->n_prompt, t->n_gen, t->depth, mean, sqrt(var), read / 1e9,
               bandwidth / 1e9);
    else {
        json_t *all = json_array();
        for (int i = 0; i < n; i++) json_array_append_new(all, json_real(rate[i]));
        json_array_append_new(rep->rows,
                              json_pack("{ss sf sf ss ss si si si si sf sf so sf sf}", "model", rep->model, "size",
                                        rep->size, "params", rep->params, "backend", rep->platform, "device",
                                        rep->backend, "threads", (int)t->threads, "n_prompt", (int)t->n_prompt, "n_gen",
                                        (int)t->n_gen, "n_depth", (int)t->depth, "avg_ts", mean, "stddev_ts", sqrt(var),
                                        "samples_ts", all, "read_gbs", read / 1e9, "bandwidth_gbs", bandwidth / 1e9));
    }
}

/* --- kernels ---------------------------------------------------------------------------------------------------------- */

/* The measured bandwidth is the CPU's; a GPU's peak is its own. */
static void add_profile(report *rep, rf_engine *g, const test *t, double bandwidth) {
    json_t *all = cli_json(rf_engine_profile(g, true)), *dev, *k;
    char name[48];
    size_t i, n;
    test_name(name, sizeof name, t);
    json_array_foreach(all, i, dev) {
        bool cpu = !strcmp(json_string_value(json_object_get(dev, "kind")), "cpu");
        if (!cpu || bandwidth <= 0) continue;
        json_object_set_new(dev, "peak_gb_per_s", json_real(bandwidth / 1e9));
        json_array_foreach(json_object_get(dev, "kernels"), n, k) {
            double rate = json_number_value(json_object_get(k, "gb_per_s"));
            json_object_set_new(k, "share", json_real(rate * 1e9 / bandwidth));
        }
    }
    if (!strcmp(rep->format, "json"))
        json_object_set(json_array_get(rep->rows, json_array_size(rep->rows) - 1), "profile", all);
    json_array_append_new(rep->profiles, json_pack("{ss so*}", "test", name, "devices", all));
}

static void print_kernel(const json_t *k, double total_ms) {
    double ms = json_number_value(json_object_get(k, "ms"));
    const json_t *share = json_object_get(k, "share");
    char bytes[24], of_peak[16] = "-";
    cli_bytes(bytes, sizeof bytes, json_number_value(json_object_get(k, "bytes")));
    if (share) snprintf(of_peak, sizeof of_peak, "%.1f %%", 100 * json_number_value(share));
    printf("| %-28s | %9lld | %11.3f | %5.1f %% | %12s | %9.1f | %8s |\n",
           json_string_value(json_object_get(k, "name")), (long long)json_integer_value(json_object_get(k, "launches")),
           ms, total_ms > 0 ? 100 * ms / total_ms : 0, bytes, json_number_value(json_object_get(k, "gb_per_s")),
           of_peak);
}

static void print_profile(const json_t *p) {
    size_t i, n;
    json_t *dev, *k;
    json_array_foreach(json_object_get(p, "devices"), i, dev) {
        const json_t *all = json_object_get(dev, "kernels"), *peak = json_object_get(dev, "peak_gb_per_s");
        double total = 0;
        json_array_foreach(all, n, k) total += json_number_value(json_object_get(k, "ms"));
        printf("\n%s, %s: %.3f ms in kernels", json_string_value(json_object_get(p, "test")),
               json_string_value(json_object_get(dev, "device")), total);
        if (peak) printf("; peak %.0f GB/s", json_number_value(peak));
        printf("\n\n| %-28s | %9s | %11s | %7s | %12s | %9s | %8s |\n| %.28s | %.8s: | %.10s: | %.6s: | %.11s: | "
               "%.8s: | %.7s: |\n",
               "kernel", "launches", "ms", "of time", "bytes", "GB/s", "of peak", "----------------------------",
               "--------", "----------", "------", "-----------", "--------", "-------");
        json_array_foreach(all, n, k) print_kernel(k, total);
    }
}

static int run_test(const args *a, report *rep, rf_engine *g, const test *t, const int32_t *ids, double bandwidth) {
    double *rate = malloc((size_t)a->repeats * sizeof *rate), warm;
    if (!rate) return cli_error("memory.exhausted", "no memory for %lld results", (long long)a->repeats);
    int rc = measure(g, t, ids, &warm); /* once uncounted: pages, caches, clock */
    if (a->profile) rf_free(rf_engine_profile(g, true));
    for (int i = 0; !rc && i < a->repeats; i++) {
        if (!a->quiet && isatty(STDERR_FILENO)) fprintf(stderr, "\rrun %d of %lld ", i + 1, (long long)a->repeats);
        rc = measure(g, t, ids, &rate[i]);
    }
    if (!a->quiet && isatty(STDERR_FILENO)) fprintf(stderr, "\r%30s\r", "");
    if (!rc) add_row(rep, t, rate, (int)a->repeats, bandwidth);
    if (!rc && a->profile) add_profile(rep, g, t, bandwidth);
    free(rate);
    return rc ? rc : cli_flush() ? 0 : EXIT_FAILED;
}

typedef struct {
    list p, n, d, t;
} plan_lists;

/* "HIP" from "hip". true: it is the CPU. */
static bool note_platform(report *rep, const json_t *device) {
    const json_t *first = json_array_get(json_object_get(device, "gpus"), 0);
    const char *name = json_string_value(json_object_get(first, "platform"));
    size_t n = 0;
    for (const char *p = name ? name : "cpu"; *p && n + 1 < sizeof rep->platform; p++)
        rep->platform[n++] = (char)toupper((unsigned char)*p);
    rep->platform[n] = 0;
    return !name;
}

static int run_threads(const args *a, rf_model *m, report *rep, const plan_lists *l, long threads) {
    long deepest = 0;
    for (int i = 0; i < l->p.n; i++) deepest = l->p.v[i] > deepest ? l->p.v[i] : deepest;
    for (int i = 0; i < l->n.n; i++) deepest = l->n.v[i] + 1 > deepest ? l->n.v[i] + 1 : deepest;
    long depth = 0;
    for (int i = 0; i < l->d.n; i++) depth = l->d.v[i] > depth ? l->d.v[i] : depth;
    rf_engine *g = NULL;
    rf_engine_options opt = cli_engine_options(a);
    opt.threads = (uint32_t)threads;
    opt.context = (uint32_t)(deepest + depth + 1);
    opt.profile = a->profile;
    int rc = cli_open_engine(&g, m, &opt, a);
    int32_t *ids = rc ? NULL : make_prompt(deepest + depth, rf_model_n_vocab(m));
    if (!rc && !ids) rc = cli_error("memory.exhausted", "no memory for the prompt");
    json_t *info = rc ? NULL : cli_json(rf_engine_info(g));
    double bandwidth = 0; /* of the memory that the weights are read from: a GPU's own is not measured */
    if (!rc && note_platform(rep, json_object_get(info, "device")))
        bandwidth = rf_read_bandwidth((uint32_t)threads, 300);
    rep->bytes_per_token = json_number_value(json_object_get(info, "read_bytes_per_token"));
    rep->kv_bytes_per_token = json_number_value(json_object_get(info, "kv_bytes_per_token"));
    const char *dev = json_string_value(json_object_get(json_object_get(info, "device"), "name"));
    snprintf(rep->backend, sizeof rep->backend, "%s", dev ? dev : "");
    json_decref(info);
    for (int d = 0; !rc && d < l->d.n; d++) {
        for (int i = 0; !rc && i < l->p.n; i++)
            if (l->p.v[i]) rc = run_test(a, rep, g, &(test){l->p.v[i], 0, l->d.v[d], threads}, ids, bandwidth);
        for (int i = 0; !rc && i < l->n.n; i++)
            if (l->n.v[i]) rc = run_test(a, rep, g, &(test){0, l->n.v[i], l->d.v[d], threads}, ids, bandwidth);
    }
    free(ids);
    rf_engine_close(g);
    return rc;
}

static void print_head(const report *rep) {
    if (!strcmp(rep->format, "md"))
        printf("| %-30s | %10s | %10s | %-10s | %7s | %15s | %20s | %-22s |\n| %.30s | %.9s: | %.9s: | %.10s | %.6s: | "
               "%.14s: | %.19s: | %.22s |\n",
               "model", "size", "params", "backend", "threads", "test", "t/s", "GB/s read (of limit)",
               "------------------------------", "---------", "---------", "----------", "------", "--------------",
               "-------------------", "----------------------");
    else if (!strcmp(rep->format, "csv"))
        puts("model,size,params,backend,threads,n_prompt,n_gen,n_depth,avg_ts,stddev_ts,read_gbs,bandwidth_gbs");
}

static bool nothing_but_zeros(const list *l) {
    for (int i = 0; i < l->n; i++)
        if (l->v[i]) return false;
    return true;
}

/* "llama 135M Q4_1"; a file that does not say its size has its parameters counted. */
static void model_name(char *out, size_t size, const json_t *info) {
    const char *label = json_string_value(json_object_get(info, "size_label"));
    double n = json_number_value(json_object_get(info, "n_params"));
    char counted[24];
    snprintf(counted, sizeof counted, n < 1e9 ? "%.1fM" : "%.1fB", n < 1e9 ? n / 1e6 : n / 1e9);
    snprintf(out, size, "%s %s %s", json_string_value(json_object_get(info, "architecture")),
             label && *label ? label : counted, json_string_value(json_object_get(info, "file_type")));
}

int cmd_bench(const args *a) {
    report rep = {.format = a->format ? a->format : "md"};
    if (strcmp(rep.format, "md") && strcmp(rep.format, "json") && strcmp(rep.format, "csv"))
        return cli_usage("usage.range", "--output %.40s: give md, json or csv", rep.format);
    if (a->profile && !strcmp(rep.format, "csv"))
        return cli_usage("usage.argument", "--profile with -o csv: give md or json");
    plan_lists l;
    int rc = parse_list(&l.p, "-p", a->bench_p, 512, 1 << 20);
    if (!rc) rc = parse_list(&l.n, "-n", a->bench_n, 128, 1 << 20);
    if (!rc) rc = parse_list(&l.d, "-d", a->bench_d, 0, 1 << 20);
    if (!rc) rc = parse_list(&l.t, "-t", a->bench_t, 0, 256);
    if (!rc && nothing_but_zeros(&l.p) && nothing_but_zeros(&l.n))
        rc = cli_usage("usage.argument", "nothing to time: give -p or -n a number above 0");
    rf_model *m = NULL;
    rf_error e;
    if (!rc) rc = cli_open_model(&m, a);
    if (rc) return rc;
    json_t *v = cli_json(rf_model_inspect(m, 0, &e)), *info = json_object_get(v, "model"),
           *dev = cli_json(rf_devices(&e));
    char name[80];
    model_name(name, sizeof name, info);
    rep.model = name;
    rep.size = json_number_value(json_object_get(info, "weight_bytes"));
    rep.params = json_number_value(json_object_get(info, "n_params"));
    rep.rows = json_array();
    rep.profiles = json_array();
    long cores = (long)json_integer_value(json_object_get(json_array_get(dev, 0), "threads"));
    print_head(&rep);
    for (int i = 0; !rc && i < l.t.n; i++) rc = run_threads(a, m, &rep, &l, l.t.v[i] ? l.t.v[i] : cores);
    if (!rc && !strcmp(rep.format, "json")) rc = cli_print_json(json_incref(rep.rows));
    for (size_t i = 0; !rc && !strcmp(rep.format, "md") && i < json_array_size(rep.profiles); i++)
        print_profile(json_array_get(rep.profiles, i));
    json_decref(rep.rows);
    json_decref(rep.profiles);
    json_decref(dev);
    json_decref(v);
    rf_model_close(m);
    return rc;
}
