#include "cli/store.h"

#include <string.h>

enum { PARALLEL = 8 };

static int open_embedder(cli_store *s, const args *a) {
    args own = *a; /* the same device and threads, another model: its own context */
    rf_error e;
    own.command = CMD_EMBED;
    own.model = a->context_model;
    own.context = 0;
    own.quiet = true;
    int rc = cli_open_model(&s->m, &own);
    if (rc) return rc;
    if (rf_model_pooling(s->m) == RF_POOLING_RANK)
        return cli_usage("usage.argument", "--context-model %.120s: it scores pairs, it has no vectors to give",
                         a->context_model);
    rf_engine_options o = cli_engine_options(&own);
    o.parallel = PARALLEL;
    o.kv_shrink = true;
    return rf_engine_open(&s->g, s->m, &o, &e) ? 0 : cli_fail(&e);
}

static void on_notice(void *user, const char *line) {
    (void)user;
    cli_note("context: %s", line);
}

static const char *told(const args *a, const rf_engine *g) {
    if (!g) return "found by words alone; --context-model FILE.gguf finds them by meaning, too";
    return a->context_model ? "found by words and by what --context-model makes of them" : "found by words and meaning";
}

int cli_store_open(cli_store *s, const args *a, rf_model *m, rf_engine *g) {
    rf_error e;
    *s = (cli_store){0};
    if (!a->context_db && a->context_model) return cli_usage("usage.argument", "--context-model needs --context FILE");
    if (!a->context_db) return 0;
    rf_engine *embeds = rf_model_generates(m) ? NULL : g;
    if (a->context_model && !strcmp(a->context_model, a->model)) {
        embeds = g;
    } else if (a->context_model) {
        int rc = open_embedder(s, a);
        if (rc) return rc;
        embeds = s->g;
    }
    const rf_context_options o = {.engine = embeds, .cut_long = true, .notice = on_notice};
    if (!rf_context_open(&s->c, a->context_db, &o, &e)) return cli_fail(&e);
    rf_context_counts n;
    if (!rf_context_stats(s->c, &n, &e)) return cli_fail(&e);
    if (!a->quiet) cli_note("context: %lld messages kept, %s", (long long)n.n_messages, told(a, embeds));
    return 0;
}

void cli_store_close(cli_store *s) {
    rf_context_close(s->c);
    rf_engine_close(s->g);
    rf_model_close(s->m);
    *s = (cli_store){0};
}
