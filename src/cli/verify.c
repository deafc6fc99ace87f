/* rocmforge verify: the device's answer and the reference's, side by side. */
#include "cli/cli.h"

#include <math.h>

static int64_t int_of(const json_t *v, const char *key) { return json_integer_value(json_object_get(v, key)); }
/* null: a number against a NaN, or no end of a difference */
static double number_of(const json_t *v, const char *key) {
    const json_t *n = json_object_get(v, key);
    return json_is_number(n) ? json_number_value(n) : (double)INFINITY;
}
static const char *text_of(const json_t *v, const char *key) { return json_string_value(json_object_get(v, key)); }

static void print_verdict(const json_t *v) {
    printf("device      %s\nreference   %s\n\n%8s %12s %12s %16s\n", text_of(v, "device"), text_of(v, "reference"),
           "tokens", "logits", "different", "max difference");
    size_t i;
    json_t *step;
    json_array_foreach(json_object_get(v, "steps"), i, step)
        printf("%8lld %12lld %12lld %16.6g\n", (long long)int_of(step, "after"), (long long)int_of(step, "values"),
               (long long)int_of(step, "differ"), number_of(step, "max_difference"));
    printf("%8s %12lld %12lld\n", "drawn", (long long)int_of(v, "draws"), (long long)int_of(v, "draws_differ"));
    if (json_is_true(json_object_get(v, "equal")))
        printf("\nequal, bit for bit\n");
    else if (!int_of(v, "differ"))
        printf("\nDIFFERENT: the logits are equal, what is drawn from them is not\n");
    else if (int_of(v, "first_layer") >= 0)
        printf("\nDIFFERENT: keys or values of layer %lld are the first that differ\n",
               (long long)int_of(v, "first_layer"));
    else
        printf("\nDIFFERENT: all keys and values are equal, so it began behind the last layer's\n");
}

int cmd_verify(const args *a) {
    rf_model *m = NULL;
    rf_error e;
    int rc = cli_open_model(&m, a);
    if (rc) return rc;
    rf_engine_options opt = cli_engine_options(a);
    char *text = rf_verify(m, &opt, &e);
    rc = text ? 0 : cli_fail(&e);
    json_t *v = cli_json(text);
    bool equal = json_is_true(json_object_get(v, "equal"));
    if (v && a->json)
        rc = cli_print_json(json_incref(v));
    else if (v)
        print_verdict(v);
    json_decref(v);
    rf_model_close(m);
    if (!rc) rc = cli_finish_output(equal ? EXIT_DONE : EXIT_FAILED);
    return rc;
}
