#include "cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* --- messages --------------------------------------------------------------------------------------------------------- */

/* Arguments can hold anything; a terminal must not get it raw. */
static void print_line(const char *code, const char *fmt, va_list ap) {
    char text[600];
    vsnprintf(text, sizeof text, fmt, ap);
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7F) *p = '?';
    fprintf(stderr, "rocmforge: error[%s]: %s\n", code, text);
}

int cli_usage(const char *code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    print_line(code, fmt, ap);
    va_end(ap);
    return EXIT_USAGE;
}

int cli_error(const char *code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    print_line(code, fmt, ap);
    va_end(ap);
    return EXIT_FAILED;
}

int cli_fail(const rf_error *e) {
    fprintf(stderr, "rocmforge: error[%s]: %s\n", e->code, e->message);
    return strncmp(e->code, "usage.", 6) == 0 || strcmp(e->code, "backend.cpu_tier") == 0 ? EXIT_USAGE : EXIT_FAILED;
}

void cli_note(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

void cli_bytes(char *out, size_t size, double n) {
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int u = 0;
    while (n >= 1024 && u < 4) n /= 1024, u++;
    snprintf(out, size, u && n < 100 ? "%.1f %s" : "%.0f %s", n, unit[u]);
}

/* --- standard output -------------------------------------------------------------------------------------------------- */
static _Atomic bool output_lost;
static _Atomic int output_errno;

static void lost(void) {
    atomic_store(&output_errno, errno);
    atomic_store(&output_lost, true);
}

bool cli_put(const char *p, size_t n) {
    if (fwrite(p, 1, n, stdout) != n || fflush(stdout)) lost();
    return !atomic_load(&output_lost);
}

int cli_finish_output(int status) {
    if (fflush(stdout) || ferror(stdout)) lost();
    if (!atomic_load(&output_lost)) return status;
    int why = atomic_load(&output_errno);
    if (why && why != EPIPE) cli_error("io.failed", "standard output: %s", strerror(why));
    return EXIT_FAILED;
}

int cli_print_json(json_t *v) {
    char *text = v ? json_dumps(v, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(v);
    if (!text) return cli_error("memory.exhausted", "no memory for the JSON output");
    cli_put(text, strlen(text));
    cli_put("\n", 1);
    rf_free(text); /* the library lends jansson its allocator */
    return EXIT_DONE;
}

json_t *cli_json(char *text) {
    json_t *v = text ? json_loads(text, JSON_ALLOW_NUL, NULL) : NULL;
    rf_free(text);
    return v;
}

/* --- input ------------------------------------------------------------------------------------------------------------ */
char *cli_read_all(const char *path, size_t *n) {
    FILE *f = path ? fopen(path, "rb") : stdin;
    if (!f) {
        cli_error("io.failed", "%s: %s", path, strerror(errno));
        return NULL;
    }
    char *all = NULL;
    size_t cap = 0;
    *n = 0;
    for (;;) {
        if (*n + 1 >= cap) {
            cap = cap ? cap * 2 : 4096;
            char *more = realloc(all, cap);
            if (!more) break;
            all = more;
        }
        size_t got = fread(all + *n, 1, cap - *n - 1, f);
        if (got == 0) break;
        *n += got;
    }
    bool bad = ferror(f) || !all || !feof(f);
    if (bad) cli_error("io.failed", "%s: cannot be read to its end", path ? path : "standard input");
    if (path) fclose(f);
    if (bad) {
        free(all);
        return NULL;
    }
    all[*n] = 0;
    return all;
}

/* --- Ctrl-C ----------------------------------------------------------------------------------------------------------- */
static _Atomic(rf_request *) running;
static volatile sig_atomic_t interrupted;

static void on_signal(int sig) {
    rf_request *r = atomic_load(&running);
    interrupted = 1;
    if (r)
        rf_request_cancel(r);
    else
        _exit(128 + sig);
}

bool cli_interrupted(void) { return interrupted != 0; }

void cli_on_interrupt(rf_request *r) {
    atomic_store(&running, r);
    struct sigaction sa = {.sa_handler = r ? on_signal : SIG_DFL};
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
}

/* --- model and engine ------------------------------------------------------------------------------------------------- */
int cli_open_model(rf_model **m, const args *a) {
    rf_error e;
    return rf_model_open(m, a->model, &e) ? 0 : cli_fail(&e);
}

enum { UBATCH_DEFAULT = 512 };

rf_engine_options cli_engine_options(const args *a) {
    rf_engine_options o = {.device = a->device, .context = (uint32_t)a->context, .parallel = (uint32_t)a->parallel};
    o.ubatch = (uint32_t)(a->ubatch ? a->ubatch : UBATCH_DEFAULT);
    if (a->batch && a->batch < o.ubatch) o.ubatch = (uint32_t)a->batch;
    o.threads = (uint32_t)a->threads;
    o.cache_type_k = a->cache_k;
    o.cache_type_v = a->cache_v;
    return o;
}

typedef struct {
    struct timespec start;
    bool shown;
} progress;

static double seconds_since(const struct timespec *t) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - t->tv_sec) + 1e-9 * (double)(now.tv_nsec - t->tv_nsec);
}

static void show_progress(void *user, uint64_t done, uint64_t total) {
    progress *p = user;
    double s = seconds_since(&p->start);
    if (s < 0.3 && !p->shown) return; /* short loads show nothing */
    p->shown = true;
    double rate = (double)done / (s > 0 ? s : 1);
    char have[24], all[24];
    cli_bytes(have, sizeof have, (double)done);
    cli_bytes(all, sizeof all, (double)total);
    int bar = total ? (int)(24.0 * (double)done / (double)total) : 0;
    fprintf(stderr, "\rloading [%-24.*s] %s of %s, %.1f GB/s, %.0f s left ", bar, "########################", have, all,
            rate / 1e9, rate > 0 ? (double)(total - done) / rate : 0);
}

int cli_open_engine(rf_engine **g, rf_model *m, const rf_engine_options *opt, const args *a) {
    rf_engine_options o = *opt;
    progress p = {0};
    rf_error e;
    clock_gettime(CLOCK_MONOTONIC, &p.start);
    if (!a->quiet && isatty(STDERR_FILENO)) o.progress = show_progress, o.user = &p;
    bool ok = rf_engine_open(g, m, &o, &e);
    if (p.shown) fprintf(stderr, "\r%78s\r", "");
    if (!ok) return cli_fail(&e);
    if (a->quiet) return 0;
    json_t *info = cli_json(rf_engine_info(*g)), *dev = json_object_get(info, "device");
    if (dev)
        cli_note("device: %s: %s", json_string_value(json_object_get(dev, "name")),
                 json_string_value(json_object_get(dev, "reason")));
    uint32_t train = rf_model_context_train(m), context = rf_engine_context(*g);
    if (!opt->context && a->command == CMD_GENERATE)
        cli_note("context: %u tokens%s; -c sets another", context,
                 context == train ? " (the trained length)" : " (the model was trained with more)");
    if (train && context > train)
        cli_note("warning: the model was trained with %u tokens of context, -c asks for %u", train, context);
    json_decref(info);
    return 0;
}
