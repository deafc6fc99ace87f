#include "cli/cli.h"

#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* --- messages --------------------------------------------------------------------------------------------------------- */

/* Arguments can hold anything; a terminal must not get it raw: fail() escapes control bytes and broken UTF-8. */
static void print_line(const char *code, const char *fmt, va_list ap) {
    char raw[600];
    err clean;
    vsnprintf(raw, sizeof raw, fmt, ap);
    fail(&clean, ERR_USAGE, "%s", raw);
    fprintf(stderr, "rocmforge: error[%s]: %s\n", code, clean.text);
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

/* Codes that say: the value given is out of range, or asks for what is not built. */
static const char *const usage_codes[] = {"usage.argument",   "usage.range",         "request.token",
                                          "backend.cpu_tier", "backend.unsupported", "server.tls"};

int cli_fail(const rf_error *e) {
    fprintf(stderr, "rocmforge: error[%s]: %s\n", e->code, e->message);
    for (size_t i = 0; i < sizeof usage_codes / sizeof *usage_codes; i++)
        if (strcmp(e->code, usage_codes[i]) == 0) return EXIT_USAGE;
    return EXIT_FAILED;
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

static void lost(void) { /* the first reason counts */
    if (!atomic_exchange(&output_lost, true)) atomic_store(&output_errno, errno);
}

bool cli_put(const char *p, size_t n) {
    if (fwrite(p, 1, n, stdout) != n) lost();
    return cli_flush();
}

bool cli_flush(void) {
    if (fflush(stdout)) lost();
    return !atomic_load(&output_lost);
}

int cli_finish_output(int rc) {
    if (fflush(stdout) || ferror(stdout)) lost();
    if (!atomic_load(&output_lost)) return rc;
    int why = atomic_load(&output_errno);
    if (why && why != EPIPE && why != EBADF) cli_error("io.failed", "standard output: %s", strerror(why));
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
static char *read_stream(FILE *f, size_t *n) {
    char *all = NULL;
    size_t cap = 0;
    *n = 0;
    for (;;) {
        if (*n + 1 >= cap) {
            cap = cap ? cap * 2 : 1 << 16;
            char *more = realloc(all, cap);
            if (!more) break;
            all = more;
        }
        size_t got = fread(all + *n, 1, cap - *n - 1, f);
        if (got == 0) break;
        *n += got;
    }
    if (all && feof(f) && !ferror(f)) {
        all[*n] = 0;
        return all;
    }
    free(all);
    return NULL;
}

char *cli_read_all(const char *path, size_t *n) {
    bool from_stdin = !path || strcmp(path, "-") == 0;
    FILE *f = from_stdin ? stdin : fopen(path, "rb");
    errno = f ? 0 : errno;
    char *all = f ? read_stream(f, n) : NULL;
    if (!all) cli_error("io.failed", "%s: cannot be read: %s", from_stdin ? "standard input" : path, strerror(errno));
    if (f && !from_stdin) fclose(f);
    return all;
}

/* --- Ctrl-C ----------------------------------------------------------------------------------------------------------- */
static _Atomic(rf_request *) running;
static _Atomic(const char *) half_written; /* a file to remove if the process ends now */
static volatile sig_atomic_t interrupted, holding, staying, bar_shown;
static pthread_t main_thread;

/* The first signal cancels the request that runs, so that what it made is kept. Where none runs (loading, reading input), or
 * for whom that takes too long and who asks again, the process ends here. Only async-signal-safe calls, and only on the
 * main thread, which also frees the request: so the one that is cancelled is alive. */
static void on_signal(int sig) {
    if (!pthread_equal(pthread_self(), main_thread)) {
        pthread_kill(main_thread, sig);
        return;
    }
    rf_request *r = atomic_load(&running);
    bool again = interrupted;
    interrupted = sig;
    if (r) rf_request_cancel(r);
    if ((r || holding) && (!again || (staying && sig == SIGINT))) return;
    const char *path = atomic_load(&half_written);
    if (path) unlink(path);
    if (bar_shown && write(STDERR_FILENO, "\n", 1) < 0) _exit(EXIT_INTERRUPTED);
    _exit(EXIT_INTERRUPTED);
}

bool cli_interrupted(void) { return interrupted != 0; }
void cli_on_interrupt(rf_request *r) {
    atomic_store(&running, r);
    if (r && interrupted) rf_request_cancel(r); /* it came just before */
}
void cli_hold_interrupts(bool on) { holding = on; }
void cli_stay(bool on) { staying = on; }
int cli_interrupted_by(void) { return interrupted; }
void cli_forget_interrupt(void) { interrupted = 0; }
void cli_half_written(const char *path) { atomic_store(&half_written, path); }

/* A standard stream that was closed gets a dead end, so that no model file is opened under its number. Reading standard
 * output's, and writing it, fail with EBADF. */
static void fill_standard_streams(void) {
    static const int mode[3] = {O_WRONLY, O_RDONLY, O_WRONLY};
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", mode[fd]) < 0) return;
}

void cli_start(void) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    fill_standard_streams();
    main_thread = pthread_self();
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of a write, not the end of the process */
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, was;
        sigemptyset(&sa.sa_mask);
        sigaction(signals[i], NULL, &was);
        if (signals[i] != SIGHUP || was.sa_handler != SIG_IGN) sigaction(signals[i], &sa, NULL); /* nohup stays */
    }
}

/* --- model and engine ------------------------------------------------------------------------------------------------- */
int cli_open_model(rf_model **m, const args *a) {
    const unsigned text = CMD_SAMPLED | CMD_LOGITS | CMD_BENCH;
    rf_error e;
    if (!rf_model_open(m, a->model, &e)) return cli_fail(&e);
    if (!(a->command & text) || rf_model_generates(*m)) return 0;
    e = (rf_error){.code = "model.embeds_only"};
    snprintf(e.message, sizeof e.message, "%.400s: the model is an encoder: it gives embeddings, it generates no text",
             a->model);
    rf_model_close(*m);
    *m = NULL;
    return cli_fail(&e);
}

enum { UBATCH_DEFAULT = 512 };

rf_engine_options cli_engine_options(const args *a) {
    rf_engine_options o = {.device = a->device, .context = (uint32_t)a->context, .parallel = (uint32_t)a->parallel};
    o.ubatch = (uint32_t)(a->ubatch ? a->ubatch : UBATCH_DEFAULT);
    if (a->batch && a->batch < o.ubatch) o.ubatch = (uint32_t)a->batch;
    o.threads = (uint32_t)a->threads;
    o.cache_type_k = a->cache_k;
    o.cache_type_v = a->cache_v;
    o.gpu_layers = a->gpu_layers;
    o.split_mode = a->split_mode;
    o.verify = a->verify;
    o.placement = a->placement;
    o.tensor_split = a->tensor_split;
    o.main_gpu = a->main_gpu;
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
    bar_shown = 1;
    double rate = (double)done / (s > 0 ? s : 1);
    char have[24], all[24];
    cli_bytes(have, sizeof have, (double)done);
    cli_bytes(all, sizeof all, (double)total);
    int bar = total ? (int)(24.0 * (double)done / (double)total) : 0;
    fprintf(stderr, "\rloading [%-24.*s] %s of %s, %.1f GB/s, %.0f s left ", bar, "########################", have, all,
            rate / 1e9, rate > 0 ? (double)(total - done) / rate : 0);
}

/* How fast the weights came up into GPUs; several are loaded one after the other. */
static void note_weights(const json_t *gpus) {
    double bytes = 0, seconds = 0;
    char size[24];
    for (size_t i = 0; i < json_array_size(gpus); i++) {
        const json_t *g = json_array_get(gpus, i);
        double n = json_number_value(json_object_get(g, "weight_bytes"));
        double rate = json_number_value(json_object_get(g, "upload_gb_per_s"));
        bytes += n;
        if (rate > 0) seconds += n / (rate * 1e9);
    }
    if (seconds <= 0) return;
    cli_bytes(size, sizeof size, bytes);
    double rate = bytes / seconds / 1e9;
    cli_note("weights: %s into the GPU%s in %.2f s, %.*f GB/s", size, json_array_size(gpus) == 1 ? "" : "s", seconds,
             rate < 1 ? 3 : 1, rate);
}

/* What became less; of the device and its verification their own lines have said it. */
static void note_downgrades(const json_t *all) {
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *d = json_array_get(all, i);
        const char *what = json_string_value(json_object_get(d, "what"));
        if (what && strcmp(what, "device") != 0 && strcmp(what, "verification") != 0)
            cli_note("rocmforge: warning: %s: %s", json_string_value(json_object_get(d, "code")),
                     json_string_value(json_object_get(d, "text")));
    }
}

bool cli_beyond_training(const rf_model *m, const rf_engine *g) {
    return rf_model_context_train(m) && rf_engine_context(g) > rf_model_context_train(m);
}

int cli_open_engine(rf_engine **g, rf_model *m, const rf_engine_options *opt, const args *a) {
    *g = NULL;
    rf_engine_options o = *opt;
    progress p = {0};
    rf_error e;
    clock_gettime(CLOCK_MONOTONIC, &p.start);
    if (!a->quiet && isatty(STDERR_FILENO)) o.progress = show_progress, o.user = &p;
    bool ok = rf_engine_open(g, m, &o, &e);
    if (p.shown) fprintf(stderr, "\r%78s\r", "");
    bar_shown = 0;
    if (!ok) return cli_fail(&e);
    if (a->quiet) return 0;
    json_t *info = cli_json(rf_engine_info(*g)), *dev = json_object_get(info, "device");
    if (dev)
        cli_note("device: %s: %s", json_string_value(json_object_get(dev, "name")),
                 json_string_value(json_object_get(dev, "reason")));
    note_weights(json_object_get(dev, "gpus"));
    const char *verified = json_string_value(json_object_get(dev, "verified"));
    if (verified && *verified) cli_note("device's numbers: %s", verified);
    uint32_t train = rf_model_context_train(m), context = rf_engine_context(*g);
    if (!opt->context && (a->command & (CMD_SAMPLED | CMD_SERVE)))
        cli_note("context: %u tokens%s; -c sets another", context,
                 context == train ? " (the trained length)" : " (the model was trained with more)");
    note_downgrades(json_object_get(info, "downgrades"));
    if (cli_beyond_training(m, *g))
        cli_note("rocmforge: warning: the model was trained with %u tokens of context, -c asks for %u", train, context);
    json_decref(info);
    return 0;
}
