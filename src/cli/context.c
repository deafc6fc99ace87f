/* rocmforge context: messages kept in a file, by whoever runs the command, and found again. */
#include "base/json.h"
#include "cli/context_print.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EMBED_AT_ONCE = 256 };

typedef struct {
    const args *a;
    rf_model *model;   /* NULL: words only */
    rf_engine *engine; /* with it */
    rf_context *store;
    char *own_path; /* the default; rf_free */
} session;

static void say(void *user, const char *line) {
    (void)user;
    cli_note("rocmforge: note: %s", line);
}

/* Folders on the way to the default file, for their owner alone. */
static int make_folders(char *path) {
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        int rc = mkdir(path, 0700);
        int why = errno;
        if (rc && why != EEXIST) cli_error("io.failed", "%s: %s", path, strerror(why));
        *slash = '/';
        if (rc && why != EEXIST) return EXIT_FAILED;
    }
    return EXIT_DONE;
}

static int open_engine(session *s) {
    rf_engine_options opt = cli_engine_options(s->a);
    opt.parallel = 4;
    int rc = cli_open_model(&s->model, s->a);
    return rc ? rc : cli_open_engine(&s->engine, s->model, &opt, s->a);
}

/* writes: a file that is not there is made; else it has to be there. */
static int open_store(session *s, bool writes, bool wants_model) {
    const args *a = s->a;
    const char *path = a->context_db;
    int rc = EXIT_DONE;
    if (!path && !(path = s->own_path = rf_context_default_path()))
        return cli_usage("usage.argument", "no home folder to keep messages in: give --db FILE");
    if (s->own_path && writes) rc = make_folders(s->own_path);
    if (!rc && !writes && strcmp(path, ":memory:") && access(path, F_OK))
        return cli_error("io.failed", "%s: %s; `rocmforge context add TEXT` begins one", path, strerror(errno));
    if (!rc && a->model && wants_model) rc = open_engine(s);
    rf_context_options opt = {.engine = s->engine, .no_index = true, .notice = say};
    rf_error e;
    return rc || rf_context_open(&s->store, path, &opt, &e) ? rc : cli_fail(&e);
}

/* What was added without the model is embedded by it first. */
static int embed_rest(session *s) {
    size_t n = s->engine ? EMBED_AT_ONCE : 0, all = 0;
    while (n == EMBED_AT_ONCE) {
        rf_error e;
        if (!rf_context_embed(s->store, EMBED_AT_ONCE, &n, &e)) return cli_fail(&e);
        all += n;
    }
    if (all && !s->a->quiet)
        cli_note("%zu message%s had no vector of this model: embedded now", all, all == 1 ? "" : "s");
    return EXIT_DONE;
}

/* --- the subcommands -------------------------------------------------------------------------------------------------- */

static int run_add(session *s) {
    const args *a = s->a;
    size_t n = a->second ? strlen(a->second) : 0;
    char *text = a->second ? NULL : cli_read_all(NULL, &n);
    if (!a->second && !text) return EXIT_FAILED;
    rf_message m = {.text = text ? text : a->second,
                    .n_text = n,
                    .role = a->role,
                    .conversation = a->conversation,
                    .metadata = a->metadata_json};
    while (text && m.n_text && text[m.n_text - 1] == '\n') m.n_text--; /* as $(...) has it */
    int64_t id;
    rf_messages *added = NULL;
    rf_error e;
    int rc = open_store(s, true, true);
    if (!rc && (!rf_context_add(s->store, &m, 1, &id, &e) || !rf_context_get(s->store, &id, 1, &added, &e)))
        rc = cli_fail(&e);
    if (!rc && added->n == 1) {
        const rf_message *got = &added->item[0];
        if (a->json)
            rc = cli_print_json(json_pack("{sI ss sI}", "id", (json_int_t)got->id, "conversation", got->conversation,
                                          "seq_id", (json_int_t)got->seq));
        else
            printf("added message %" PRId64 " (conversation=%s, seq=%" PRId64 ")\n", got->id, got->conversation,
                   got->seq);
    }
    rf_messages_free(added);
    free(text);
    return rc;
}

static int take_time(const char *name, const char *text, int64_t *out) {
    *out = text ? context_time(text) : 0;
    return *out < 0 ? cli_usage("usage.range", "%s %.80s: give seconds since 1970 or 2026-11-21[T10:20:30]", name, text)
                    : EXIT_DONE;
}

static int take_mode(const char *text, rf_context_mode *out) {
    static const char *const names[] = {"auto", "vector", "words", "hybrid"};
    *out = RF_CONTEXT_AUTO;
    for (int i = 0; text && i < 4; i++)
        if (strcmp(text, names[i]) == 0) return *out = (rf_context_mode)i, EXIT_DONE;
    return text ? cli_usage("usage.range", "--mode %.40s: give auto, vector, words or hybrid", text) : EXIT_DONE;
}

static int run_search(session *s) {
    const args *a = s->a;
    if (!a->second) return cli_usage("usage.argument", "search for what? rocmforge context search QUERY");
    rf_context_query q = {.text = a->second,
                          .n_text = strlen(a->second),
                          .k = (uint32_t)a->k,
                          .expand = (uint32_t)a->expand,
                          .conversation = a->conversation,
                          .role = a->role};
    rf_context_hits *hits = NULL;
    rf_error e;
    int rc = take_time("--since", a->since, &q.from_us);
    if (!rc) rc = take_time("--until", a->until, &q.until_us);
    if (!rc) rc = take_mode(a->mode, &q.mode);
    const bool words = q.mode == RF_CONTEXT_WORDS;
    if (!rc) rc = open_store(s, false, !words);
    if (!rc && !s->engine && !words && q.mode == RF_CONTEXT_AUTO && !a->quiet)
        cli_note("searched by words only; -m MODEL searches by meaning, too");
    if (!rc) rc = embed_rest(s);
    if (!rc && !rf_context_search(s->store, &q, &hits, &e)) rc = cli_fail(&e);
    if (!rc) rc = context_print_hits(a, hits);
    rf_context_hits_free(hits);
    return rc;
}

static int run_list(session *s) {
    const args *a = s->a;
    rf_context_filter f = {.conversation = a->conversation,
                           .role = a->role,
                           .after = a->after,
                           .limit = (uint32_t)a->limit,
                           .newest_first = a->newest};
    rf_messages *found = NULL;
    rf_error e;
    int rc = take_time("--since", a->since, &f.from_us);
    if (!rc) rc = take_time("--until", a->until, &f.until_us);
    if (!rc) rc = open_store(s, false, false);
    if (!rc && !rf_context_list(s->store, &f, &found, &e)) rc = cli_fail(&e);
    if (!rc) rc = context_print_list(a, found);
    rf_messages_free(found);
    return rc;
}

static int run_clear(session *s) {
    size_t n = 0;
    rf_error e;
    int rc = open_store(s, false, false);
    if (!rc && !rf_context_clear(s->store, s->a->conversation, &n, &e)) rc = cli_fail(&e);
    if (rc) return rc;
    if (s->a->json) return cli_print_json(json_pack("{sI}", "deleted", (json_int_t)n));
    printf("deleted %zu messages\n", n);
    return EXIT_DONE;
}

static int run_import(session *s) {
    size_t n, n_added = 0;
    char *lines = cli_read_all(s->a->second, &n);
    if (!lines) return EXIT_FAILED;
    rf_error e;
    int rc = open_store(s, true, true);
    if (!rc && !rf_context_import(s->store, lines, n, &n_added, &e)) rc = cli_fail(&e);
    free(lines);
    if (rc) return rc;
    if (s->a->json) return cli_print_json(json_pack("{sI}", "added", (json_int_t)n_added));
    printf("added %zu messages\n", n_added);
    return EXIT_DONE;
}

static bool put_line(void *user, const char *line, size_t n) {
    (void)user;
    return cli_put(line, n);
}

static int run_export(session *s) {
    rf_error e;
    int rc = open_store(s, false, false);
    return rc || rf_context_export(s->store, put_line, NULL, &e) ? rc : cli_fail(&e);
}

/* Which options each takes, beyond --db; others are refused, as everywhere. */
enum { ADDS = 1, FINDS = 2, LISTS = 4, EMBEDS = 8, FILTERS = 16, OUT_JSON = 32, TAKES = 64 };
static const struct {
    const char *name;
    int (*run)(session *s);
    unsigned uses;
} subcommands[] = {
    {"add", run_add, ADDS | EMBEDS | OUT_JSON | TAKES},
    {"search", run_search, FINDS | EMBEDS | FILTERS | OUT_JSON | TAKES},
    {"list", run_list, LISTS | FILTERS | OUT_JSON},
    {"clear", run_clear, OUT_JSON},
    {"import", run_import, EMBEDS | OUT_JSON | TAKES},
    {"export", run_export, 0},
};
enum { N_SUBCOMMANDS = sizeof subcommands / sizeof *subcommands };

static int check_uses(const args *a, const char *name, unsigned uses) {
    const bool conversation = uses & (ADDS | FILTERS) || strcmp(name, "clear") == 0;
    const struct {
        const char *option;
        bool given, used;
    } all[] = {
        {"--k", a->k, uses & FINDS},
        {"--expand", a->expand, uses & FINDS},
        {"--mode", a->mode, uses & FINDS},
        {"--conversation", a->conversation, conversation},
        {"--role", a->role, uses & (ADDS | FILTERS)},
        {"--metadata-json", a->metadata_json, uses & ADDS},
        {"--since", a->since, uses & FILTERS},
        {"--until", a->until, uses & FILTERS},
        {"--limit", a->limit, uses & LISTS},
        {"--after", a->after, uses & LISTS},
        {"--newest", a->newest, uses & LISTS},
        {"--json", a->json, uses & OUT_JSON},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].given && !all[i].used)
            return cli_usage("usage.argument", "%s is not used by context %s", all[i].option, name);
    if (a->second && !(uses & TAKES)) return cli_usage("usage.argument", "one argument too many: %.120s", a->second);
    return EXIT_DONE;
}

int cmd_context(const args *a) {
    session s = {.a = a};
    int i = 0;
    if (!a->operand)
        return cli_usage("usage.argument", "what to do? context add, search, list, clear, import or export");
    while (i < N_SUBCOMMANDS && strcmp(subcommands[i].name, a->operand)) i++;
    if (i == N_SUBCOMMANDS)
        return cli_usage("usage.argument", "context %.40s: give add, search, list, clear, import or export",
                         a->operand);
    int rc = check_uses(a, a->operand, subcommands[i].uses);
    if (!rc) rc = subcommands[i].run(&s);
    rf_context_close(s.store);
    rf_engine_close(s.engine);
    rf_model_close(s.model);
    rf_free(s.own_path);
    return rc;
}
