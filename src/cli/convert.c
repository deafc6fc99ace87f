/* rocmforge convert: a Hugging Face folder to a GGUF file. */
#include "cli/cli.h"

#include <time.h>
#include <unistd.h>

typedef struct {
    struct timespec start;
    double last; /* seconds after the start that it was drawn */
    bool wanted, shown;
} bar;

static double seconds_since(const struct timespec *t) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - t->tv_sec) + 1e-9 * (double)(now.tv_nsec - t->tv_nsec);
}

static void show(bar *b, const rf_convert_state *s) {
    const double t = seconds_since(&b->start), rate = (double)s->done / (t > 0 ? t : 1);
    char have[24], all[24];
    if (t < b->last + 0.2) return; /* short ones show nothing */
    b->shown = true;
    b->last = t;
    cli_bytes(have, sizeof have, (double)s->done);
    cli_bytes(all, sizeof all, (double)s->total);
    fprintf(stderr, "\rwriting [%-24.*s] %s of %s, %.2f GB/s, %.0f s left ",
            s->total ? (int)(24.0 * (double)s->done / (double)s->total) : 0, "########################", have, all,
            rate / 1e9, rate > 0 ? (double)(s->total - s->done) / rate : 0);
}

/* Ctrl-C ends it at the next piece; who cannot wait for that and asks again leaves no piece either. */
static bool on_progress(void *user, const rf_convert_state *s) {
    bar *b = user;
    cli_half_written(s->temporary);
    if (b->wanted) show(b, s);
    return !cli_interrupted();
}

static void print_report(const json_t *v, const char *out, double seconds) {
    char size[24];
    cli_bytes(size, sizeof size, json_number_value(json_object_get(v, "bytes")));
    printf("%s: %s, %s, %lld tensors of %s, %lld tokens (%s), %s in %.1f s\n", out,
           json_string_value(json_object_get(v, "name")), json_string_value(json_object_get(v, "architecture")),
           (long long)json_integer_value(json_object_get(v, "tensors")), json_string_value(json_object_get(v, "type")),
           (long long)json_integer_value(json_object_get(v, "tokens")),
           json_string_value(json_object_get(v, "pre_tokenizer")), size, seconds);
}

static int run(const args *a, const char *out) {
    rf_error e;
    bar b = {.wanted = !a->quiet && isatty(STDERR_FILENO)};
    const rf_convert_options opt = {
        .type = a->convert_type, .name = a->model_name, .progress = on_progress, .user = &b};
    clock_gettime(CLOCK_MONOTONIC, &b.start);
    cli_hold_interrupts(true);
    char *text = rf_convert(a->operand, out, &opt, &e);
    cli_half_written(NULL);
    cli_hold_interrupts(false);
    if (b.shown) fprintf(stderr, "\r%78s\r", "");
    if (!text && cli_interrupted()) return EXIT_INTERRUPTED;
    if (!text) return cli_fail(&e);
    json_t *report = cli_json(text), *warning;
    size_t i;
    json_array_foreach(json_object_get(report, "warnings"), i, warning)
        cli_note("rocmforge: warning: %s", json_string_value(warning));
    if (a->json) return cli_print_json(report);
    print_report(report, out, seconds_since(&b.start));
    json_decref(report);
    return EXIT_DONE;
}

int cmd_convert(const args *a) {
    const char *out = a->second ? a->second : a->output;
    if (!a->operand)
        return cli_usage("usage.argument", "which folder? Give one that holds config.json and *.safetensors");
    if (a->second && a->output)
        return cli_usage("usage.argument", "the file is given twice: %.120s and %.120s", a->second, a->output);
    if (!out) return cli_usage("usage.argument", "which file should be written? Give it as the second argument");
    return run(a, out);
}
