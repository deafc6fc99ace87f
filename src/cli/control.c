/* rocmforge status and cancel: what became of a request of a running server. */
#include "cli/remote.h"

#include <string.h>

static bool good_id(const char *id) {
    size_t n = strlen(id);
    return n >= 1 && n <= 128 && strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

static void print_text(const json_t *v) {
    const json_t *id = json_object_get(v, "request_id"), *text = json_object_get(v, "text");
    const char *finish = json_string_value(json_object_get(v, "finish_reason"));
    if (json_is_integer(id))
        printf("request_id: %lld\n", (long long)json_integer_value(id));
    else
        printf("request_id: %s\n", json_is_string(id) ? json_string_value(id) : "");
    printf("finish_reason: %s\ntext: ", finish ? finish : "none yet");
    if (json_is_string(text)) cli_put(json_string_value(text), json_string_length(text));
    printf("\n");
}

static int control(const args *a, const char *method, const char *route) {
    const char *id = a->request_id ? a->request_id : a->operand;
    char path[192];
    rf_error e;
    remote *server;
    if (a->request_id && a->operand) return cli_usage("usage.argument", "the request is given twice");
    if (!id) return cli_usage("usage.argument", "which request? Give its id");
    if (!good_id(id)) return cli_usage("usage.range", "%.140s is no id: letters, digits, '.', '_' and '-' only", id);
    snprintf(path, sizeof path, "%s/%s", route, id);
    int rc = remote_open(&server, a);
    if (rc) return rc;
    json_t *v = remote_json(server, method, path, &e);
    remote_close(server);
    if (!v) return cli_fail(&e);
    if (a->json) return cli_print_json(v);
    print_text(v);
    json_decref(v);
    return EXIT_DONE;
}

int cmd_status(const args *a) { return control(a, "GET", "/status"); }
int cmd_cancel(const args *a) { return control(a, "POST", "/cancel"); }
