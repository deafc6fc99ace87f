/* The server in the test's own process, before a tiny model: what a client cannot show. Memory that runs out at every place
 * in turn, allocations on the engine's thread, and callbacks that are slow to return. */
#include "check.h"

#include <arpa/inet.h>
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <uv.h>

#include "base/mem.h"
#include "server/ring.h"
#include "server/server.h"

#include "heap_calls.h"
#include "tiny_gguf.h"

enum { CONTEXT = 256, REPLY_MOST = 1 << 18, SECONDS_MOST = 60 };

static char model_path[TINY_PATH];

/* --- what is watched -------------------------------------------------------------------------------------------------- */
typedef struct {
    rf_callback cb;
    void *user;
    uint64_t before;
    uint32_t n_tokens;
} watched;

enum { WATCHED_MOST = 64 };
static watched seen[WATCHED_MOST];
static atomic_uint n_seen;      /* requests that were watched */
static atomic_bool watch, slow; /* count allocations; hold the engine up behind each last record */
static atomic_uint n_allocated; /* by the engine's thread between a request's first token and its end */
static uv_async_t *_Atomic wake;

bool __real_rf_request_start(rf_request **out, rf_engine *g, const rf_request_params *p, rf_callback cb, void *user,
                             rf_error *e);
bool __wrap_rf_request_start(rf_request **out, rf_engine *g, const rf_request_params *p, rf_callback cb, void *user,
                             rf_error *e);
void __real_ring_put_last(ring *r, const ring_part *part, uint32_t n_parts);
void __wrap_ring_put_last(ring *r, const ring_part *part, uint32_t n_parts);
int __real_uv_async_send(uv_async_t *h);
int __wrap_uv_async_send(uv_async_t *h);

static void on_event(void *user, const rf_event *ev) {
    watched *w = user;
    const bool end = ev->kind == RF_EVENT_FINISHED || ev->kind == RF_EVENT_FAILED;
    w->cb(w->user, ev);
    if (ev->kind == RF_EVENT_TOKEN && w->n_tokens++ == 0) w->before = check_heap_calls_here();
    if (end && w->n_tokens) atomic_fetch_add(&n_allocated, (unsigned)(check_heap_calls_here() - w->before));
}

bool __wrap_rf_request_start(rf_request **out, rf_engine *g, const rf_request_params *p, rf_callback cb, void *user,
                             rf_error *e) {
    if (!atomic_load(&watch)) return __real_rf_request_start(out, g, p, cb, user, e);
    watched *w = &seen[atomic_fetch_add(&n_seen, 1) % WATCHED_MOST];
    *w = (watched){.cb = cb, .user = user};
    return __real_rf_request_start(out, g, p, on_event, w, e);
}

int __wrap_uv_async_send(uv_async_t *h) {
    atomic_store(&wake, h);
    return __real_uv_async_send(h);
}

/* The loop may take the record at once, whoever woke it. */
void __wrap_ring_put_last(ring *r, const ring_part *part, uint32_t n_parts) {
    __real_ring_put_last(r, part, n_parts);
    uv_async_t *h = atomic_load(&wake);
    if (!atomic_load(&slow) || !h) return;
    __real_uv_async_send(h);
    usleep(20000);
}

/* --- the server ------------------------------------------------------------------------------------------------------- */
typedef struct {
    rf_model *model;
    rf_engine *engine;
    rf_context *context; /* of the model's own embeddings, in memory */
    server_options opt;
    pthread_t thread;
    sem_t ready;
    uint16_t port;
    bool good;
} rig;

static void on_ready(void *user, const char *address) {
    rig *r = user;
    r->port = (uint16_t)atoi(strrchr(address, ':') + 1);
    sem_post(&r->ready);
}

static void *server_main(void *arg) {
    rig *r = arg;
    rf_error e;
    r->good = server_run(&r->opt, r->model, r->engine, on_ready, r, &e);
    return NULL;
}

static void rig_open(rig *r, uint32_t parallel, uint32_t queue) {
    const rf_engine_options opt = {
        .context = CONTEXT, .parallel = parallel, .queue = queue, .ubatch = 64, .threads = 1};
    rf_error e;
    *r = (rig){.opt = server_defaults()};
    r->opt.port = 0;
    r->opt.model_path = model_path;
    r->opt.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}";
    r->opt.trace_sample = 1;
    if (!rf_model_open(&r->model, model_path, &e)) fail_msg("%s", e.message);
    if (!rf_engine_open(&r->engine, r->model, &opt, &e)) fail_msg("%s", e.message);
    const rf_context_options store = {.engine = r->engine};
    if (!rf_context_open(&r->context, NULL, &store, &e)) fail_msg("%s", e.message);
    r->opt.context = r->context;
    sem_init(&r->ready, 0, 0);
    assert_int_equal(pthread_create(&r->thread, NULL, server_main, r), 0);
    sem_wait(&r->ready);
}

static void rig_close(rig *r) {
    kill(getpid(), SIGTERM);
    pthread_join(r->thread, NULL);
    assert_true(r->good);
    atomic_store(&wake, NULL);
    rf_context_close(r->context);
    rf_engine_close(r->engine);
    rf_model_close(r->model);
    sem_destroy(&r->ready);
}

/* --- a client --------------------------------------------------------------------------------------------------------- */
static int dial(const rig *r) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(r->port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    const struct timeval most = {.tv_sec = SECONDS_MOST};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static void ask(int fd, const char *line, const char *body) {
    static char text[4096];
    int n = snprintf(text, sizeof text,
                     "%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
                     "Content-Length: %zu\r\n\r\n%s",
                     line, strlen(body), body);
    (void)!send(fd, text, (size_t)n, MSG_NOSIGNAL); /* it may be closed already */
}

/* All there is until the server closes; the status, 0 for none. It must close in time. */
static int answer(int fd, char *out) {
    size_t n = 0;
    for (ssize_t got; (got = recv(fd, out + n, REPLY_MOST - 1 - n, 0)) != 0; n += (size_t)got) {
        if (got < 0 && errno == ECONNRESET) break;
        if (got < 0) fail_msg("no end of a reply: %s after %zu bytes", strerror(errno), n);
        if (n + (size_t)got == REPLY_MOST - 1) fail_msg("a reply of more than %d bytes", REPLY_MOST);
    }
    close(fd);
    out[n] = 0;
    return n > 12 ? atoi(out + 9) : 0;
}

static char reply[REPLY_MOST];

static int post(const rig *r, const char *line, const char *body) {
    int fd = dial(r);
    ask(fd, line, body);
    return answer(fd, reply);
}

/* --- tests ------------------------------------------------------------------------------------------------------------ */
#define BIAS "\"logit_bias\":{\"0\":-1000,\"1\":-1000,\"2\":-1000}"

static const char *const requests[][2] = {
    {"GET /health", ""},
    {"GET /ready", ""},
    {"GET /", ""},
    {"GET /metrics", ""},
    {"GET /traces", ""},
    {"GET /props", ""},
    {"GET /slots", ""},
    {"GET /models", ""},
    {"GET /v1/models", ""},
    {"GET /status/1", ""},
    {"POST /cancel/1", "{}"},
    {"GET /nowhere", ""},
    {"POST /tokenize", "{\"content\":\"abc\",\"with_pieces\":true}"},
    {"POST /detokenize", "{\"tokens\":[5,6,7]}"},
    {"POST /apply-template", "{\"messages\":[{\"role\":\"user\",\"content\":\"abc\"}]}"},
    {"POST /generate", "{\"prompt\":\"abc\",\"max_tokens\":3,\"stop\":[\"zz\"]," BIAS "}"},
    {"POST /generate/stream", "{\"prompt\":\"abc\",\"max_tokens\":3," BIAS "}"},
    {"POST /completion", "{\"prompt\":[5,\"abc\"],\"n_predict\":3,\"n_probs\":2," BIAS "}"},
    {"POST /completion", "{\"prompt\":\"abc\",\"n_predict\":3,\"n_probs\":2,\"stream\":true,\"return_progress\":true}"},
    {"POST /v1/completions",
     "{\"prompt\":[\"abc\",\"abd\"],\"max_tokens\":3,\"n\":2,\"echo\":true,\"user\":\"me\"," BIAS "}"},
    {"POST /v1/completions", "{\"prompt\":\"abc\",\"max_tokens\":3,\"stream\":true,\"logprobs\":2," BIAS "}"},
    {"POST /v1/chat/completions",
     "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"abc\"}]}],\"max_tokens\":3,"
     "\"logprobs\":true,\"top_logprobs\":2}"},
    {"POST /v1/chat/completions",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"abc\"}],\"max_tokens\":3,\"stream\":true,"
     "\"stream_options\":{\"include_usage\":true}}"},
    {"POST /v1/chat/completions",
     "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},"
     "{\"role\":\"tool\",\"content\":\"abc\"}],\"max_tokens\":1}"},
    {"POST /v1/embeddings", "{\"input\":[\"abc\",\"abd\"]}"},
    {"POST /v1/embeddings", "{\"input\":\"abc\",\"encoding_format\":\"base64\"}"},
    {"POST /embedding", "{\"content\":[\"abc\",\"abd\"],\"truncate\":true}"},
    {"POST /context/messages", "{\"text\":\"abc\",\"metadata\":{\"a\":1}}"},
    {"POST /context/messages", "[{\"text\":\"abd\"},{\"text\":\"abe\",\"edges\":[{\"name\":\"to\",\"to\":1}]}]"},
    {"GET /context/search?q=abc&k=3&expand=1", ""},
    {"GET /context/messages?limit=2&order=desc", ""},
    {"GET /context/messages/1", ""},
    {"GET /context/stats", ""},
    {"POST /v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"abc\"}],\"max_tokens\":3,"
                                  "\"context\":{\"recall\":2,\"store\":true}}"},
    {"POST /v1/chat/completions",
     "{\"messages\":[{\"role\":\"system\",\"content\":\"x\"},{\"role\":\"user\",\"content\":\"abc\"}],"
     "\"max_tokens\":3,\"stream\":true,\"context\":{\"recall\":2,\"store\":true}}"},
    {"DELETE /context/messages?all=true", ""},
};
enum { N_REQUESTS = sizeof requests / sizeof *requests };

static void check_alive(const rig *r) {
    if (post(r, "POST /generate", "{\"prompt\":\"abc\",\"max_tokens\":3,\"temperature\":0}") != 200)
        fail_msg("%s", reply);
}

/* Whichever allocation fails, the client is answered or let go, and whoever comes next is served. Nothing is lost by it. */
static void test_memory_runs_out(void **state) {
    (void)state;
    const uint64_t live = mem_live();
    rig r;
    rig_open(&r, 4, 100);
    for (uint32_t i = 0; i < N_REQUESTS; i++) {
        const bool found = strstr(requests[i][0], "/status") || strstr(requests[i][0], "/cancel") ||
                           strstr(requests[i][0], "/nowhere");
        int http = post(&r, requests[i][0], requests[i][1]); /* warm */
        if (http != 200 && !found) fail_msg("%s: %s", requests[i][0], reply);
        uint64_t n = 0;
        do {
            mem_fail_at(++n);
            http = post(&r, requests[i][0], requests[i][1]);
            if (http == 400 || http == 500) fail_msg("%s: %s (allocation %u)", requests[i][0], reply, (unsigned)n);
        } while (mem_fail_off() && n < 5000);
        check_alive(&r);
    }
    rig_close(&r);
    assert_int_equal(mem_live(), live);
}

/* From a request's first token to its end the engine's thread takes no memory: not for the steps, not for the events on
 * their way to the loop. */
static void test_events_take_no_memory(void **state) {
    (void)state;
    enum { N = 4 };
    rig r;
    rig_open(&r, N, 100);
    check_alive(&r);
    atomic_store(&watch, true);
    int fd[N];
    for (int i = 0; i < N; i++) {
        fd[i] = dial(&r);
        ask(fd[i], i % 2 ? "POST /generate/stream" : "POST /completion",
            "{\"prompt\":\"abcdefgh\",\"max_tokens\":100,\"ignore_eos\":true," BIAS "}");
    }
    for (int i = 0; i < N; i++) assert_int_equal(answer(fd[i], reply), 200);
    atomic_store(&watch, false);
    rig_close(&r);
    assert_int_equal(atomic_load(&n_seen), N);
    for (int i = 0; i < N; i++) assert_true(seen[i].n_tokens >= 100);
    assert_int_equal(atomic_load(&n_allocated), 0);
}

/* Of the choices two start and the next finds the queue full: the job ends unseen, and is gone while the engine may still be
 * inside the callback of the last one. */
static void test_a_refused_job_ends_under_its_callback(void **state) {
    (void)state;
    rig r;
    rig_open(&r, 1, 1);
    atomic_store(&slow, true);
    for (int i = 0; i < 20; i++)
        if (post(&r, "POST /v1/completions", "{\"prompt\":\"abc\",\"n\":16,\"max_tokens\":200," BIAS "}") != 429)
            fail_msg("%s", reply);
    atomic_store(&slow, false);
    rig_close(&r);
}

static int set_up(void **state) {
    (void)state;
    const tiny_shape shape = tiny_shape_of("llama", QUANT_Q8_0);
    mallopt(M_PERTURB, 0xA5); /* what is freed does not look as before */
    signal(SIGPIPE, SIG_IGN);
    tiny_gguf_write(&shape, model_path);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    unlink(model_path);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_take_no_memory),
        cmocka_unit_test(test_a_refused_job_ends_under_its_callback),
        cmocka_unit_test(test_memory_runs_out),
    };
    return cmocka_run_group_tests_name("server", tests, set_up, tear_down);
}
