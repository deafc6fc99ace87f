/* Embeddings of token lists, for tests/oracle/test_embed.py: through the public interface, all requests at once.
 * drive_embed MODEL OUT [name=value ...] : each line of standard input is a list of ids, "1,2,3"; with texts=1 a text, or with
 * texts=2 a query and a document with a tab between. The rows go to OUT as float32, one after the other, not normalised.
 * Prints "ok ROWS WIDTH pooling=N generates=N scores=N steps=N", or "CODE message". */
#include "rocmforge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 4096, LINE = 1 << 20 };

typedef struct {
    float *row;
    uint32_t n;
    rf_error failed;
} answer;

static void on_event(void *user, const rf_event *ev) {
    answer *a = user;
    if (ev->kind == RF_EVENT_FAILED) a->failed = *ev->error;
    if (ev->kind != RF_EVENT_EMBEDDING) return;
    a->n = ev->n_embd;
    a->row = malloc(ev->n_embd * sizeof *a->row);
    if (a->row) memcpy(a->row, ev->row, ev->n_embd * sizeof *a->row);
}

static size_t read_ids(const char *line, int32_t *ids) {
    size_t n = 0;
    for (char *end; *line && *line != '\n'; line = *end == ',' ? end + 1 : end) {
        long id = strtol(line, &end, 10);
        if (end == line) break;
        ids[n++] = (int32_t)id;
    }
    return n;
}

typedef struct {
    rf_engine_options engine;
    rf_request_params request;
    int texts, generate;
} settings;

static void set(settings *s, char *arg) {
    char *value = strchr(arg, '=');
    if (!value) return;
    *value++ = '\0';
    uint32_t n = (uint32_t)strtoul(value, NULL, 10);
    if (!strcmp(arg, "pooling")) s->request.pooling = (rf_pooling)n;
    if (!strcmp(arg, "parallel")) s->engine.parallel = n;
    if (!strcmp(arg, "threads")) s->engine.threads = n;
    if (!strcmp(arg, "ubatch")) s->engine.ubatch = n;
    if (!strcmp(arg, "rows")) s->engine.logits_rows = n;
    if (!strcmp(arg, "context")) s->engine.context = n;
    if (!strcmp(arg, "tier")) s->engine.cpu_tier = value;
    if (!strcmp(arg, "kv")) s->engine.cache_type_k = s->engine.cache_type_v = value;
    if (!strcmp(arg, "device")) s->engine.device = value;
    if (!strcmp(arg, "texts")) s->texts = (int)n;
    if (!strcmp(arg, "generate")) s->request.embedding = n == 0;
}

static bool ids_of(const rf_model *m, const settings *s, char *line, int32_t **ids, size_t *n, rf_error *e) {
    line[strcspn(line, "\n")] = '\0';
    char *tab = strchr(line, '\t');
    if (s->texts == 1) return rf_tokenize(m, line, strlen(line), 0, ids, n, e);
    if (s->texts == 2 && tab)
        return rf_tokenize_pair(m, line, (size_t)(tab - line), tab + 1, strlen(tab + 1), ids, n, e);
    *ids = malloc((strlen(line) / 2 + 1) * sizeof **ids);
    *n = *ids ? read_ids(line, *ids) : 0;
    return true;
}

static bool start_all(const rf_model *m, rf_engine *g, settings *s, rf_request **r, answer *a, size_t *n, rf_error *e) {
    char *line = malloc(LINE);
    bool ok = line != NULL;
    while (ok && *n < MOST && fgets(line, LINE, stdin)) {
        int32_t *ids = NULL;
        ok = ids_of(m, s, line, &ids, &s->request.n_tokens, e);
        s->request.tokens = ids;
        ok = ok && rf_request_start(&r[*n], g, &s->request, on_event, &a[*n], e);
        *n += ok;
        s->texts ? rf_free(ids) : free(ids);
    }
    free(line);
    return ok;
}

static bool write_rows(const char *path, const answer *a, size_t n, rf_error *e) {
    FILE *out = fopen(path, "wb");
    for (size_t i = 0; out && i < n; i++) {
        if (!a[i].row) {
            *e = a[i].failed;
            fclose(out);
            return false;
        }
        fwrite(a[i].row, sizeof *a[i].row, a[i].n, out);
    }
    return out && fclose(out) == 0;
}

int main(int argc, char **argv) {
    static answer a[MOST];
    static rf_request *r[MOST];
    settings s = {.engine = {.device = "cpu"}, .request = rf_request_defaults()};
    rf_error e = {0};
    rf_model *m = NULL;
    rf_engine *g = NULL;
    size_t n = 0;
    s.request.embedding = true;
    for (int i = 3; i < argc; i++) set(&s, argv[i]);
    bool ok = argc > 2 && rf_model_open(&m, argv[1], &e) && rf_engine_open(&g, m, &s.engine, &e);
    ok = ok && start_all(m, g, &s, r, a, &n, &e);
    for (size_t i = 0; i < n; i++) rf_request_wait(r[i]);
    ok = ok && write_rows(argv[2], a, n, &e);
    rf_stats stats = {0};
    if (g) rf_engine_stats(g, &stats);
    if (ok)
        printf("ok %zu %u pooling=%d generates=%d scores=%u steps=%llu\n", n, n ? a[0].n : 0, (int)rf_model_pooling(m),
               rf_model_generates(m), rf_model_n_scores(m), (unsigned long long)stats.steps);
    else
        printf("%s %s\n", e.code, e.message);
    for (size_t i = 0; i < n; i++) {
        rf_request_free(r[i]);
        free(a[i].row);
    }
    rf_engine_close(g);
    rf_model_close(m);
    return 0;
}
