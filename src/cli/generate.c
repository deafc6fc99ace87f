/* rocmforge generate: continues a text and streams what the model says. */
#include "cli/local.h"
#include "cli/remote.h"

#include "base/json.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static json_t *warnings_of(const rf_model *m, const rf_engine *engine) {
    json_t *all = cli_json(rf_engine_warnings(engine));
    if (!all) all = json_array();
    if (cli_beyond_training(m, engine))
        json_array_append_new(all, json_sprintf("context of %u tokens: the model was trained with %u",
                                                rf_engine_context(engine), rf_model_context_train(m)));
    return all;
}

static int continue_here(const args *a, rf_model *m, rf_engine *engine, const char *text, size_t n) {
    rf_error e;
    int32_t *ids = NULL;
    size_t n_ids = 0;
    unsigned flags = (a->no_bos ? RF_NO_SPECIAL : 0u) | (a->no_parse_special ? RF_NO_PARSE_SPECIAL : 0u);
    if (!rf_tokenize(m, text, n, flags, &ids, &n_ids, &e)) return cli_fail(&e);
    answer w;
    answer_begin(&w, a);
    if (a->json) w.info = cli_json(rf_engine_info(engine));
    rf_request_params p = answer_params(a);
    p.tokens = ids;
    p.n_tokens = n_ids;
    local_run(engine, &p, &w);
    rf_free(ids);
    if (a->json) w.warnings = warnings_of(m, engine);
    int rc = answer_finish(&w);
    answer_free(&w);
    return rc;
}

static int continue_there(const args *a, const char *text, size_t n) {
    remote *server;
    int rc = remote_open(&server, a);
    if (rc) return rc;
    answer w;
    answer_begin(&w, a);
    remote_generate(server, text, n, &w);
    rc = answer_finish(&w);
    answer_free(&w);
    remote_close(server);
    return rc;
}

/* The text: -p, else -f, else standard input. *read is to be freed. */
static int read_text(const args *a, const char **text, size_t *n, char **read) {
    *text = a->prompt;
    *n = a->prompt ? strlen(a->prompt) : 0;
    if (a->prompt) return 0;
    if (!a->file && isatty(STDIN_FILENO)) cli_note("reading the text from standard input; end it with Ctrl-D");
    *text = *read = cli_read_all(a->file, n);
    return *read ? 0 : EXIT_FAILED;
}

int cmd_generate(const args *a) {
    rf_model *m = NULL;
    rf_engine *engine = NULL;
    const char *text;
    size_t n;
    char *read = NULL;
    if (a->prompt && a->file) return cli_usage("usage.argument", "give -p or -f, not both");
    if (a->stream && a->json) return cli_usage("usage.argument", "give --stream or --json, not both");
    int rc = a->host ? 0 : cli_open_model(&m, a);
    if (!rc) rc = read_text(a, &text, &n, &read);
    rf_engine_options opt = cli_engine_options(a);
    if (!rc && !a->host) rc = cli_open_engine(&engine, m, &opt, a);
    if (!rc) rc = a->host ? continue_there(a, text, n) : continue_here(a, m, engine, text, n);
    free(read);
    rf_engine_close(engine);
    rf_model_close(m);
    return rc;
}
