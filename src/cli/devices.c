/* rocmforge devices, doctor: what this machine can compute on, and what keeps it from more. */
#include "cli/cli.h"

#include <string.h>

static const char *text_of(const json_t *v, const char *key) {
    const char *s = json_string_value(json_object_get(v, key));
    return s ? s : "";
}
static long long int_of(const json_t *v, const char *key) { return json_integer_value(json_object_get(v, key)); }
static bool is(const json_t *v, const char *key, const char *text) { return strcmp(text_of(v, key), text) == 0; }

static void print_cpu(const json_t *d) {
    size_t i;
    json_t *tier;
    printf("cpu: %s, %lld threads, tiers:", text_of(d, "name"), int_of(d, "threads"));
    json_array_foreach(json_object_get(d, "tiers"), i, tier) printf(" %s", json_string_value(tier));
    printf(" (using %s)\n", text_of(d, "tier"));
}

static void print_reason(const json_t *d) {
    const json_t *why = json_object_get(d, "reason");
    if (!why) return;
    const char *how = json_is_true(json_object_get(d, "usable")) ? "not taken unasked" : "not used";
    printf("       %s: [%s] %s\n", how, text_of(why, "code"), text_of(why, "text"));
}

static void print_gpu(const json_t *d) {
    char size[24], left[24], gtt[24];
    cli_bytes(size, sizeof size, (double)int_of(d, "memory_bytes"));
    cli_bytes(left, sizeof left, (double)int_of(d, "memory_free_bytes"));
    cli_bytes(gtt, sizeof gtt, (double)int_of(d, "gtt_bytes"));
    printf("gpu:%lld: %s, %s (%s), %s", int_of(d, "index"), text_of(d, "name"), text_of(d, "arch"),
           text_of(d, "platform"), size);
    if (int_of(d, "gtt_bytes")) printf(" and %s of the host's", gtt);
    if (int_of(d, "memory_free_bytes")) printf(", %s free", left);
    printf(", %lld units, %s%s%s\n", int_of(d, "units"), text_of(d, "pci"), *text_of(d, "uuid") ? ", " : "",
           text_of(d, "uuid"));
    print_reason(d);
}

static void print_runtime(const json_t *d) {
    const json_t *why = json_object_get(d, "reason");
    if (why)
        printf("%s: none: [%s] %s\n", text_of(d, "platform"), text_of(why, "code"), text_of(why, "text"));
    else
        printf("%s: %s\n", text_of(d, "platform"), text_of(d, "version"));
}

int cmd_devices(const args *a) {
    rf_error e;
    if (a->operand) return cli_usage("usage.argument", "one argument too many: %.120s", a->operand);
    char *text = rf_devices(&e);
    if (!text) return cli_fail(&e);
    json_t *all = cli_json(text), *d;
    if (a->json) return cli_print_json(all);
    size_t i;
    json_array_foreach(all, i, d) {
        if (is(d, "kind", "cpu")) print_cpu(d);
        if (is(d, "kind", "gpu")) print_gpu(d);
        if (is(d, "kind", "runtime")) print_runtime(d);
    }
    json_decref(all);
    return EXIT_DONE;
}

static void print_finding(const json_t *f) {
    printf("%-8s %s: %s\n", text_of(f, "level"), text_of(f, "code"), text_of(f, "text"));
    if (*text_of(f, "fix")) printf("%-8s fix: %s\n", "", text_of(f, "fix"));
}

/* Exit status 1 when something is broken, so that a script need not read the text. */
int cmd_doctor(const args *a) {
    rf_error e;
    if (a->operand) return cli_usage("usage.argument", "one argument too many: %.120s", a->operand);
    char *text = rf_doctor(&e);
    if (!text) return cli_fail(&e);
    json_t *v = cli_json(text), *f;
    long long errors = int_of(v, "errors"), warnings = int_of(v, "warnings");
    if (a->json) {
        int rc = cli_print_json(v);
        return rc ? rc : errors ? EXIT_FAILED : EXIT_DONE;
    }
    size_t i;
    json_array_foreach(json_object_get(v, "findings"), i, f) print_finding(f);
    printf("%lld error%s, %lld warning%s\n", errors, errors == 1 ? "" : "s", warnings, warnings == 1 ? "" : "s");
    json_decref(v);
    return errors ? EXIT_FAILED : EXIT_DONE;
}
