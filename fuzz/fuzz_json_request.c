/* Bodies of any bytes through the routes that read JSON, without a socket, an engine or a model behind them: each is replied to
 * exactly once, or starts a job with parameters that are in range. First byte: which route; the rest: the body. */
#include "server/app.h"
#include "server/job.h"
#include "server/llamacpp.h"
#include "server/prepare.h"
#include "server/sse.h"

#include "base/json.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { VOCAB = 300 };

static int n_replies, n_jobs;

static void check(bool good) {
    if (!good) abort();
}

static void check_text(const char *z) {
    check(str_is_utf8(str_of(z)));
    for (; *z; z++) check((unsigned char)*z >= ' ');
}

/* --- the server, of which only the replies are counted ---------------------------------------------------------------- */
str exchange_header(const exchange *x, const char *name) {
    return strcmp(name, "content-type") == 0 && x ? str_of("application/json") : str_of(NULL);
}
bool exchange_query(const exchange *x, const char *name, strbuf *out) { return x && name && out && false; }
void exchange_reply(exchange *x, int status, const char *type, const char *body, size_t n) {
    check(x && status == 200 && type && str_is_utf8((str){body, n}));
    n_replies++;
}
void prepare_run(exchange *x, size_t n_bytes, void (*run)(void *user), void (*done)(void *user, exchange *x),
                 void *user) { /* every third time the peer has left meanwhile */
    run(user);
    const bool gone = n_bytes % 3 == 0;
    n_replies += gone;
    done(user, gone ? NULL : x);
}
void exchange_write(exchange *x, const char *p, size_t n) { check(x && p && n); }
void exchange_end(exchange *x) { check(x != NULL); }

void reply_fail(exchange *x, int status, const char *code, const char *param, const char *fmt, ...) {
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    check(x && status >= 400 && status < 600 && *code);
    if (param) check_text(param);
    check_text(text);
    n_replies++;
}

void reply_error(exchange *x, const rf_error *e, const char *param) {
    reply_fail(x, e->http, e->code, param, "%s", "");
}

void reply_json(exchange *x, int status, json_t *v) {
    check(x && status == 200 && v);
    strbuf b = {0};
    check(json_write(v, &b, NULL) == OK && str_is_utf8((str){b.p, b.n}));
    strbuf_free(&b);
    json_decref(v);
    n_replies++;
}

void sse_open(exchange *x) { check(x != NULL); }
void sse_json(exchange *x, json_t *v) {
    check(x != NULL);
    json_decref(v);
}

static void check_params(const rf_request_params *p) {
    check(p->temperature >= 0 && p->temperature <= 100 && p->top_k >= 0 && p->max_tokens >= -1);
    check(p->top_p >= 0 && p->top_p <= 1 && p->min_p >= 0 && p->min_p <= 1 && p->repeat_penalty > 0);
    check(fabsf(p->presence_penalty) <= 2 && fabsf(p->frequency_penalty) <= 2 && p->repeat_last_n >= -1);
    check(p->n_top <= 64 && p->timeout_us >= 0);
    for (size_t i = 0; i < p->n_tokens; i++) check(p->tokens[i] >= 0 && p->tokens[i] < VOCAB);
    for (size_t i = 0; i < p->n_stop; i++) check(*p->stop[i]);
    for (size_t i = 0; i < p->n_logit_bias; i++) {
        const rf_logit_bias b = p->logit_bias[i];
        check(b.id >= 0 && b.id < VOCAB && (isfinite(b.bias) || b.bias == -INFINITY));
    }
}

/* The job itself is refused, so that the route frees what it made. */
job *job_start(app *a, exchange *x, const job_options *opt) {
    check(a && x);
    check_params(&opt->params);
    n_jobs++;
    return NULL;
}
void job_cancel(job *j) { check(j != NULL); }
void job_ping(job *j) { check(j != NULL); }
str job_text(const job *j, uint32_t choice) { return j && choice ? (str){"", 0} : (str){"", 0}; }
const int32_t *job_tokens(const job *j, uint32_t choice, size_t *n) { return *n = 0, j && choice ? NULL : NULL; }
json_t *job_tokens_json(const job *j, uint32_t choice) { return j && choice ? NULL : NULL; }
const char *job_finish_name(const job *j, uint32_t choice) { return j && choice ? NULL : NULL; }
json_t *job_usage(const job *j) { return j ? NULL : NULL; }
json_t *job_timings(const job *j) { return j ? NULL : NULL; }
json_t *job_warnings(const job *j, const json_t *own) { return j && own ? NULL : NULL; }
json_t *job_status(const job *j) { return j ? NULL : NULL; }
void llamacpp_embedding(app *a, exchange *x) { check(a && x); } /* of a file that is not fuzzed here */
job *jobs_find(jobs *all, str id) { return all && id.n ? NULL : NULL; }
void jobs_each(jobs *all, void (*each)(void *, const job *, uint32_t, uint32_t, uint32_t, uint32_t), void *ctx) {
    check(all && each && ctx);
}

/* --- the engine: a token is a byte ------------------------------------------------------------------------------------ */
static bool refuse(rf_error *e) {
    if (e) *e = (rf_error){.code = "request.token", .category = "User", .http = 400, .message = "no"};
    return false;
}

void rf_free(void *p) { mem_free(p); }
const char *rf_version(void) { return "0"; }
uint32_t rf_model_n_vocab(const rf_model *m) { return m ? VOCAB : VOCAB; }
char *rf_engine_info(const rf_engine *g) { return g ? NULL : NULL; }
char *rf_model_inspect(const rf_model *m, unsigned flags, rf_error *e) { return m && flags && refuse(e) ? NULL : NULL; }
const char *rf_model_template(const rf_model *m, size_t *n) { return *n = 0, m ? NULL : NULL; }
rf_request_params rf_request_defaults(void) {
    return (rf_request_params){.max_tokens = -1, .temperature = 0.8f, .top_p = 1, .repeat_penalty = 1};
}
void rf_engine_stats(const rf_engine *g, rf_stats *out) { *out = (rf_stats){.parallel = g ? 1 : 1}; }

bool rf_tokenize(const rf_model *m, const char *text, size_t n, unsigned flags, int32_t **ids, size_t *n_ids,
                 rf_error *e) {
    check(m == NULL && flags <= 3);
    int32_t *id = mem_array(n + 1, sizeof *id);
    if (!id) return refuse(e);
    for (size_t i = 0; i < n; i++) id[i] = (unsigned char)text[i];
    *ids = id;
    *n_ids = n;
    return true;
}

bool rf_detokenize(const rf_model *m, const int32_t *ids, size_t n_ids, bool special, char **text, size_t *n,
                   rf_error *e) {
    check(m == NULL && special);
    *text = mem_alloc(n_ids + 1);
    if (!*text) return refuse(e);
    for (size_t i = 0; i < n_ids; i++) (*text)[i] = (char)ids[i];
    *n = n_ids;
    return true;
}

bool rf_token_piece(const rf_model *m, int32_t id, char **piece, size_t *n, rf_error *e) {
    return rf_detokenize(m, &id, 1, true, piece, n, e);
}

bool rf_render(rf_prompt *out, const rf_model *m, const char *tmpl, size_t n_tmpl, const char *request, size_t n,
               rf_error *e) {
    check(!m && !tmpl && !n_tmpl && n && *request == '{');
    *out = (rf_prompt){0};
    return refuse(e);
}
void rf_prompt_free(rf_prompt *p) { check(!p->text); }

static const route *llamacpp(const char *path) {
    const route *r = llamacpp_routes;
    while (r->path && strcmp(r->path, path) != 0) r++;
    check(r->path);
    return r;
}

/* --- the fuzzer ------------------------------------------------------------------------------------------------------- */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const server_options opt = {.strict_model = true};
    if (size == 0) return 0;
    json_init();
    app a = {.opt = &opt, .model_name = "tiny"};
    const route *routes[] = {&native_routes[0],     &native_routes[1],       llamacpp("/completion"),
                             llamacpp("/tokenize"), llamacpp("/detokenize"), llamacpp("/apply-template")};
    char *body = mem_strndup((const char *)data + 1, size - 1);
    exchange x = {.app = &a, .body = {body, size - 1}};
    n_replies = n_jobs = 0;
    routes[data[0] % 6]->run(&a, &x);
    check(n_replies + n_jobs == 1);
    mem_free(body);
    check(mem_live() == 0);
    return 0;
}
