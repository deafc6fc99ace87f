/* rocmforge tokenize, detokenize, logits: between text, ids and logits. */
#include "base/json.h"
#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Ids as people write them: "1,2,3", "[1, 2, 3]", one a line. Commas and brackets are separators like spaces. */
static int parse_ids(const char *text, size_t n, const char *what, int32_t **ids, size_t *n_ids) {
    *n_ids = 0;
    *ids = malloc((n / 2 + 1) * sizeof **ids);
    if (!*ids) return cli_error("memory.exhausted", "no memory for the token ids");
    for (const char *p = text, *end = text + n; p < end;) {
        if (isspace((unsigned char)*p) || *p == ',' || *p == '[' || *p == ']') {
            p++;
            continue;
        }
        char *after;
        errno = 0;
        long id = strtol(p, &after, 10);
        if (after == p || errno || id < INT32_MIN || id > INT32_MAX || after > end)
            return cli_usage("usage.range", "%s: %.20s is no token id", what, p);
        (*ids)[(*n_ids)++] = (int32_t)id;
        p = after;
    }
    return 0;
}

int cmd_tokenize(const args *a) {
    rf_model *m = NULL;
    int rc = cli_open_model(&m, a);
    size_t n = 0, n_ids = 0;
    char *text = rc ? NULL : cli_read_all(NULL, &n);
    int32_t *ids = NULL;
    rf_error e;
    unsigned flags = (a->no_bos ? RF_NO_SPECIAL : 0u) | (a->no_parse_special ? RF_NO_PARSE_SPECIAL : 0u);
    if (!rc && !text) rc = EXIT_FAILED;
    if (!rc && !rf_tokenize(m, text, n, flags, &ids, &n_ids, &e)) rc = cli_fail(&e);
    json_t *all = json_array();
    for (size_t i = 0; !rc && i < n_ids; i++) {
        char *piece = NULL;
        size_t len = 0;
        if (!a->pieces)
            json_array_append_new(all, json_integer(ids[i]));
        else if (!rf_token_piece(m, ids[i], &piece, &len, &e))
            rc = cli_fail(&e);
        else
            json_array_append_new(all, json_text(piece, len));
        rf_free(piece);
    }
    if (rc)
        json_decref(all);
    else
        rc = cli_print_json(all);
    rf_free(ids);
    free(text);
    rf_model_close(m);
    return rc;
}

int cmd_detokenize(const args *a) {
    rf_model *m = NULL;
    int rc = cli_open_model(&m, a);
    size_t n = 0, n_ids = 0, n_out = 0;
    char *text = rc ? NULL : cli_read_all(NULL, &n), *out = NULL;
    int32_t *ids = NULL;
    rf_error e;
    if (!rc && !text) rc = EXIT_FAILED;
    if (!rc) rc = parse_ids(text, n, "standard input", &ids, &n_ids);
    if (!rc && !rf_detokenize(m, ids, n_ids, true, &out, &n_out, &e)) rc = cli_fail(&e);
    if (!rc) cli_put(out, n_out);
    rf_free(out);
    free(ids);
    free(text);
    rf_model_close(m);
    return rc;
}

/* --- logits: NPY, rows as they come; the name appears only when the file is whole ---------------------------------------- */
typedef struct {
    FILE *f;
    rf_request *r;
    uint32_t rows;
    bool write_failed;
    rf_event end;
    rf_error error;
} logits_run;

static void on_event(void *user, const rf_event *ev) {
    logits_run *g = user;
    if (ev->kind == RF_EVENT_LOGITS) {
        g->rows++;
        if (fwrite(ev->row, sizeof(float), ev->n_vocab, g->f) != ev->n_vocab) {
            g->write_failed = true;
            rf_request_cancel(g->r);
        }
    }
    if (ev->kind == RF_EVENT_FINISHED || ev->kind == RF_EVENT_FAILED) g->end = *ev;
    if (ev->kind == RF_EVENT_FAILED) g->error = *ev->error;
}

/* NumPy's format 1.0: magic, version, length of the header, a Python dict padded so that data starts at a multiple of 64. */
static bool write_npy_header(FILE *f, size_t n_tok, uint32_t n_vocab) {
    char dict[128], head[128];
    int n =
        snprintf(dict, sizeof dict, "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %u), }", n_tok, n_vocab);
    memset(head, ' ', sizeof head);
    memcpy(head, "\x93NUMPY\x01\x00", 8);
    head[8] = (char)(sizeof head - 10);
    head[9] = 0;
    memcpy(head + 10, dict, (size_t)n);
    head[sizeof head - 1] = '\n';
    return fwrite(head, 1, sizeof head, f) == sizeof head;
}

static int write_logits(const args *a, rf_model *m, const int32_t *ids, size_t n_ids, const char *part) {
    rf_engine *engine = NULL;
    rf_engine_options opt = cli_engine_options(a);
    if (!opt.context) opt.context = (uint32_t)(n_ids ? n_ids : 1);
    opt.logits_rows = opt.ubatch;
    int rc = cli_open_engine(&engine, m, &opt, a);
    if (rc) return rc;
    cli_half_written(part);
    logits_run g = {.f = fopen(part, "wb")};
    rf_error e;
    rf_request_params p = rf_request_defaults();
    p.tokens = ids;
    p.n_tokens = n_ids;
    p.logits = true;
    if (!g.f || !write_npy_header(g.f, n_ids, rf_model_n_vocab(m))) {
        rc = cli_error("io.failed", "%s: %s", part, strerror(errno));
    } else if (!rf_request_start(&g.r, engine, &p, on_event, &g, &e)) {
        rc = cli_fail(&e);
    } else {
        rf_request *r = g.r;
        cli_on_interrupt(r);
        rf_request_wait(r);
        cli_on_interrupt(NULL);
        rf_request_free(r);
        if (g.end.kind == RF_EVENT_FAILED)
            rc = cli_fail(&g.error);
        else if (g.write_failed)
            rc = cli_error("io.failed", "%s: %s", part, strerror(errno));
        else if (g.rows != n_ids)
            rc = cli_interrupted() ? EXIT_INTERRUPTED : EXIT_FAILED;
    }
    if (g.f && fclose(g.f) && !rc) rc = cli_error("io.failed", "%s: %s", part, strerror(errno));
    rf_engine_close(engine);
    return rc;
}

int cmd_logits(const args *a) {
    if (!a->output) return cli_usage("usage.argument", "where to? Give -o FILE.npy");
    if (!a->tokens == !a->tokens_file) return cli_usage("usage.argument", "give --tokens 1,2,3 or --tokens-file FILE");
    rf_model *m = NULL;
    int32_t *ids = NULL;
    size_t n = a->tokens ? strlen(a->tokens) : 0, n_ids = 0;
    char *text = NULL, part[4096];
    int rc = cli_open_model(&m, a);
    if (!rc && a->tokens_file) rc = (text = cli_read_all(a->tokens_file, &n)) ? 0 : EXIT_FAILED;
    if (!rc) rc = parse_ids(a->tokens ? a->tokens : text, n, a->tokens ? "--tokens" : a->tokens_file, &ids, &n_ids);
    if (!rc && (size_t)snprintf(part, sizeof part, "%s.part", a->output) >= sizeof part)
        rc = cli_usage("usage.range", "--output: the name is too long");
    if (!rc && n_ids == 0)
        rc = cli_usage("usage.argument", "%s holds no token id", a->tokens ? "--tokens" : a->tokens_file);
    if (!rc) {
        rc = write_logits(a, m, ids, n_ids, part);
        if (!rc && rename(part, a->output)) rc = cli_error("io.failed", "%s: %s", a->output, strerror(errno));
        if (rc) unlink(part);
        cli_half_written(NULL);
    }
    free(text);
    free(ids);
    rf_model_close(m);
    return rc;
}
