#include "cli/cli.h"

#include "base/log.h"

#include <stdlib.h>
#include <string.h>

/* RUST_LOG may be meant for another program: what it says that we do not know is said, and is no error. */
static int open_as_rust_log(const char *levels, bool json, const char *file, const char *fallback) {
    err e;
    status s = log_open(levels, json, file, &e);
    if (s == ERR_RANGE) {
        cli_note("rocmforge: warning: RUST_LOG is not understood; instead: --log-level");
        s = log_open(fallback, json, file, &e);
    }
    return s ? cli_error(err_lookup(s)->code, "%s", e.text) : 0;
}

/* A file gets JSON unless told otherwise: it is read by machines. */
int cli_open_log(const args *a, const char *level) {
    const char *form = a->log_format ? a->log_format : a->log_file ? "json" : "human";
    bool json = strcmp(form, "json") == 0;
    if (!json && strcmp(form, "human") != 0)
        return cli_usage("usage.range", "--log-format %.80s: give human or json", form);
    log_content(a->log_content);
    const char *rust = getenv("RUST_LOG");
    if (!a->log_level && rust && *rust) return open_as_rust_log(rust, json, a->log_file, level);
    err e;
    status s = log_open(a->log_level ? a->log_level : level, json, a->log_file, &e);
    if (s == ERR_RANGE) return cli_usage(err_lookup(s)->code, "%s", e.text);
    return s ? cli_error(err_lookup(s)->code, "%s", e.text) : 0;
}
