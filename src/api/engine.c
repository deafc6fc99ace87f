/* Engines and requests: a model on a device behind one thread, which runs the scheduler while there is work. */
#include "api/api.h"
#include "api/verify.h"

#include "backend/gpu/gpu.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "kv/disk.h"
#include "sched/sched.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

struct rf_engine {
    rf_model *model; /* borrowed */
    exec *x;
    kv_disk *disk; /* NULL: none */
    sched *sched;
    api_shape shape;
    api_backends backends; /* the executor's */
    int64_t load_us;
    pthread_t thread;
    bool running;
    pthread_mutex_t lock; /* guards stop and `done` of requests; `wake`: work or stop, `news`: a request ended */
    pthread_cond_t wake, news;
    bool stop;
    err dead;              /* why the engine failed for good; code OK while it lives */
    bool told[DOWN_COUNT]; /* what became less while it ran, and was logged; its thread's */
};

struct rf_request {
    rf_engine *engine;
    sched_request *inner;
    rf_callback cb;
    void *user;
    bool done; /* under engine->lock */
};

/* What was decided at load, and what stopped working since. */
static api_downgrades downgrades_of_all(const rf_engine *g) {
    api_downgrades all = g->shape.down;
    for (uint32_t i = 0; i < g->backends.n; i++) {
        const backend *b = g->backends.b[i];
        const char *why = api_backend_is_gpu(b) ? gpu_backend_no_graphs(b) : NULL;
        if (why) api_down_note(&all, DOWN_GRAPHS, OK, "kernels are launched one by one: %s", why);
        why = api_backend_is_gpu(b) ? gpu_backend_no_peer(b) : NULL;
        if (why) api_down_note(&all, DOWN_PEER, ERR_GPU_PEER, "values go from GPU to GPU through the host: %s", why);
    }
    return all;
}

/* And what befell requests. */
static api_downgrades downgrades_now(const rf_engine *g) {
    api_downgrades all = downgrades_of_all(g);
    sched_stats st;
    sched_get_stats(g->sched, &st);
    if (st.left)
        api_down_note(&all, DOWN_SAMPLER, OK, "%llu token%s drawn on the CPU; the last time: %s",
                      (unsigned long long)st.draws_left, st.draws_left == 1 ? " was" : "s were", st.left);
    return all;
}

/* Each kind once: those of the start are said by who opened the engine. */
static void tell_new(rf_engine *g) {
    api_downgrades all = downgrades_now(g);
    for (uint32_t i = 0; i < all.n; i++) {
        const api_downgrade *d = &all.item[i];
        if (!g->told[d->id])
            log_event(LOG_WARN, "engine", "downgrade",
                      (log_field[]){log_s("code", api_down_code(d->id)), log_s("reason", d->text), {0}});
        g->told[d->id] = true;
    }
}

static void *engine_main(void *arg) {
    rf_engine *g = arg;
    pthread_mutex_lock(&g->lock);
    while (!g->stop) {
        if (!sched_has_work(g->sched)) {
            pthread_cond_wait(&g->wake, &g->lock);
            continue;
        }
        pthread_mutex_unlock(&g->lock);
        err e = {0};
        status s = sched_step(g->sched, &e);
        if (!s) tell_new(g);
        pthread_mutex_lock(&g->lock);
        if (s) log_event(LOG_ERROR, "engine", "failed for good", (log_field[]){log_s("reason", e.text), {0}});
        if (s) g->dead = e; /* those of the step were told; later requests are refused with the reason */
    }
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

static status start(rf_engine *g, err *e) {
    api_downgrades all = downgrades_now(g);
    for (uint32_t i = 0; i < all.n; i++) g->told[all.item[i].id] = true;
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->wake, NULL);
    pthread_cond_init(&g->news, NULL);
    int rc = pthread_create(&g->thread, NULL, engine_main, g);
    g->running = rc == 0;
    return rc ? fail(e, ERR_NOMEM, "cannot start the engine's thread: %s", strerror(rc)) : OK;
}

static status open_disk(rf_engine *g, const uint64_t identity[2], err *e) {
    kv_disk_options o = g->shape.folder;
    o.identity[0] = identity[0];
    o.identity[1] = identity[1];
    return kv_disk_open(&g->disk, &o, e);
}

/* The backends, once all of them have room, and the executor over them. */
static status open_exec(rf_engine *g, const rf_engine_options *opt, err *e) {
    api_backends *b = &g->backends;
    status s = api_backends_place(b, &g->shape, g->model, opt, e);
    if (s) return s;
    exec_options x = api_exec_options(&g->shape, b);
    s = exec_open(&g->x, g->model->file, &x, b->b, b->n, opt->progress, opt->user, e);
    verify_when when;
    if (!s) s = verify_when_of(opt->verify, &when, e);
    if (!s) s = verify_engine(g->x, g->model, &g->shape, when, e);
    if (!s || !g->x) return s;
    exec_close(g->x);
    g->x = NULL;
    return s;
}

/* Everything but the thread; what there is on failure is the caller's to close. */
static status open_parts(rf_engine *g, const rf_engine_options *opt, err *e) {
    const rf_model *m = g->model;
    uint64_t identity[2];
    status s = api_shape_make(&g->shape, m, opt, e);
    if (s) return s;
    const api_shape wanted = g->shape;
    s = open_exec(g, opt, e);
    if (s && g->shape.gpus && g->shape.gpus == wanted.gpus) g->shape = wanted; /* shrunk and split for the GPU */
    if (s && api_fall_back(&g->shape, e)) s = open_exec(g, opt, e);
    if (!s && opt->kv_cache_dir) api_cache_identity(identity, m, &g->shape.exec);
    if (!s && opt->kv_cache_dir) s = open_disk(g, identity, e);
    g->shape.folder.dir = NULL; /* the caller's string */
    g->shape.sched.disk = g->disk;
    return s ? s : sched_open(&g->sched, g->x, m->text, &g->shape.exec, &g->shape.sched, e);
}

static void log_opened(const rf_engine *g) {
    const api_shape *p = &g->shape;
    log_event(log_start_level(), "engine", "open",
              (log_field[]){log_s("reason", p->reason),
                            log_i("context", p->context),
                            log_i("parallel", p->parallel),
                            log_i("threads", p->threads),
                            log_f("load_ms", (double)g->load_us / 1e3),
                            {0}});
}

bool rf_engine_open(rf_engine **out, rf_model *m, const rf_engine_options *opt, rf_error *e) {
    static const rf_engine_options defaults;
    *out = NULL;
    err why = {0};
    int64_t t0 = clock_us();
    rf_engine *g = mem_zalloc(sizeof *g);
    if (g) g->model = m;
    status s = g ? open_parts(g, opt ? opt : &defaults, &why) : fail(&why, ERR_NOMEM, "engine");
    if (!s) s = start(g, &why);
    if (!s) g->load_us = clock_us() - t0;
    s = api_if_unchanged(m->file, s, &why);
    if (!s) log_opened(g);
    if (s)
        rf_engine_close(g);
    else
        *out = g;
    return api_result(s, &why, e);
}

void rf_engine_close(rf_engine *g) {
    if (!g) return;
    if (g->running) {
        pthread_mutex_lock(&g->lock);
        g->stop = true;
        pthread_cond_signal(&g->wake);
        pthread_mutex_unlock(&g->lock);
        pthread_join(g->thread, NULL);
        pthread_cond_destroy(&g->wake);
        pthread_cond_destroy(&g->news);
        pthread_mutex_destroy(&g->lock);
    }
    sched_close(g->sched);
    kv_disk_close(g->disk);
    exec_close(g->x);
    api_shape_close(&g->shape);
    mem_free(g);
}

const rf_model *api_engine_model(const rf_engine *g) { return g->model; }
uint32_t rf_engine_context(const rf_engine *g) { return g->shape.context; }

/* Why it failed for good, or why every request fails for now: its file is not what it was. code OK: neither. */
static err why_dead(const rf_engine *g) {
    pthread_mutex_t *lock = (pthread_mutex_t *)&g->lock; /* no engine is const to begin with */
    pthread_mutex_lock(lock);
    err e = g->dead;
    pthread_mutex_unlock(lock);
    if (!e.code) e.code = exec_check_file(g->x, &e);
    return e;
}

/* One object a GPU: what it is, its layers, and how fast its weights came up. */
static json_t *gpus_of(const rf_engine *g) {
    const api_split *p = &g->shape.split;
    json_t *all = json_array();
    for (uint32_t i = 0; i < g->backends.n && api_backend_is_gpu(g->backends.b[i]); i++) {
        const gpu_device *d = &g->shape.gpus->device[p->gpu[i]];
        const gpu_facts *f = &d->facts;
        gpu_upload_stats up = gpu_backend_upload(g->backends.b[i]);
        uint32_t layers = p->end[i] - (i ? p->end[i - 1] : p->first);
        api_append(&all, json_pack("{si ss ss ss ss ss ss si sI sf}", "index", (int)p->gpu[i], "platform",
                                   api_platform(d->driver->platform), "driver", d->driver->version, "name", f->name,
                                   "arch", f->arch, "uuid", f->uuid, "pci", f->pci, "layers", (int)layers,
                                   "weight_bytes", (json_int_t)up.bytes_up, "upload_gb_per_s",
                                   up.us ? (double)up.bytes_up / (double)up.us / 1e3 : 0.0));
    }
    return all;
}

static json_t *device_object(const rf_engine *g) {
    strbuf name = {0};
    exec_device(g->x, &name);
    const api_shape *p = &g->shape;
    json_t *v = json_pack("{ss so ss ss ss}", "kind", api_backend_is_gpu(g->backends.b[0]) ? "gpu" : "cpu", "name",
                          api_text(&name), "reason", p->reason, "reason_code", api_why_name(p->why), "placement",
                          api_placement_name(p->placement));
    strbuf_free(&name);
    api_set(&v, "gpus", gpus_of(g));
    if (!p->gpus) return v;
    const gpu_device *d = &p->gpus->device[p->gpu];
    api_set(&v, "platform", json_string(api_platform(d->driver->platform)));
    api_set(&v, "index", json_integer(p->gpu));
    api_set(&v, "arch", json_string(d->facts.arch));
    api_set(&v, "pci", json_string(d->facts.pci));
    api_set(&v, "driver", json_string(d->driver->version));
    api_set(&v, "verified", json_string(p->verified));
    return v;
}

char *rf_engine_info(const rf_engine *g) {
    const exec_options *x = &g->shape.exec;
    uint64_t weights, kv;
    err dead = why_dead(g);
    api_downgrades down = downgrades_now(g);
    exec_traffic(g->x, &weights, &kv);
    json_t *v = json_pack("{so si si si si ss ss sf sI sI so so ss* ss*}", "device", device_object(g), "context",
                          (int)g->shape.context, "parallel", (int)g->shape.parallel, "threads", (int)g->shape.threads,
                          "ubatch", (int)x->max_tok, "cache_type_k", quant_lookup(x->type_k)->name, "cache_type_v",
                          quant_lookup(x->type_v)->name, "load_ms", (double)g->load_us / 1000.0, "read_bytes_per_token",
                          (json_int_t)weights, "kv_bytes_per_token", (json_int_t)kv, "warnings", api_down_texts(&down),
                          "downgrades", api_down_json(&down), "error", dead.code ? dead.text : NULL, "error_code",
                          dead.code ? err_lookup(dead.code)->code : NULL);
    status s;
    return api_json(v, &s, NULL);
}

char *rf_engine_warnings(const rf_engine *g) {
    api_downgrades down = downgrades_of_all(g);
    status s;
    return down.n ? api_json(api_down_texts(&down), &s, NULL) : NULL;
}

/* --- requests --------------------------------------------------------------------------------------------------------- */
_Static_assert(sizeof(rf_alternative) == sizeof(sample_top) &&
                   offsetof(rf_alternative, logprob) == offsetof(sample_top, logprob),
               "alternatives are passed through");
_Static_assert(sizeof(rf_logit_bias) == sizeof(sample_bias) &&
                   offsetof(rf_logit_bias, bias) == offsetof(sample_bias, bias),
               "biases are passed through");

static void on_token(void *user, int32_t id, float logprob, const sample_top *top, uint32_t n_top, const char *text,
                     size_t n) {
    rf_request *r = user;
    rf_event ev = {.kind = RF_EVENT_TOKEN, .id = id, .logprob = logprob, .n_top = n_top, .text = text, .n_text = n};
    ev.top = (const rf_alternative *)(const void *)top;
    r->cb(r->user, &ev);
}

static void on_logits(void *user, uint32_t pos, const float *row, uint32_t n_vocab) {
    rf_request *r = user;
    rf_event ev = {.kind = RF_EVENT_LOGITS, .pos = pos, .n_vocab = n_vocab, .row = row};
    r->cb(r->user, &ev);
}

static void on_embedding(void *user, const float *row, uint32_t n_embd) {
    rf_request *r = user;
    rf_event ev = {.kind = RF_EVENT_EMBEDDING, .row = row, .n_embd = n_embd};
    r->cb(r->user, &ev);
}

static void on_prompt(void *user, uint32_t done, uint32_t total) {
    rf_request *r = user;
    rf_event ev = {.kind = RF_EVENT_PROMPT, .prompt_done = done, .prompt_total = total};
    r->cb(r->user, &ev);
}

static void ended(rf_request *r, const rf_event *ev) {
    rf_engine *g = r->engine;
    r->cb(r->user, ev);
    pthread_mutex_lock(&g->lock);
    r->done = true; /* from here on the request may be freed */
    pthread_cond_broadcast(&g->news);
    pthread_mutex_unlock(&g->lock);
}

static void on_finished(void *user, finish_reason why, const sched_timings *t) {
    rf_event ev = {.kind = RF_EVENT_FINISHED, .finish = (rf_finish)why, .prompt_us = t->prompt_us};
    ev.predicted_us = t->predicted_us;
    ev.n_prompt = t->n_prompt;
    ev.n_predicted = t->n_predicted;
    ev.n_cached = t->n_cached;
    ev.n_preempted = t->n_preempted;
    ev.waited_for = t->waited_for;
    ev.n_host_drawn = t->n_left;
    ev.host_drawn_why = t->left;
    ev.queue_us = t->queue_us;
    ev.stop = t->stop;
    ended(user, &ev);
}

static void on_failed(void *user, const err *why) {
    rf_error e;
    api_result(why->code, why, &e);
    rf_event ev = {.kind = RF_EVENT_FAILED, .error = &e};
    ended(user, &ev);
}

rf_request_params rf_request_defaults(void) {
    sample_params p = sample_defaults();
    return (rf_request_params){.max_tokens = -1,
                               .temperature = p.temperature,
                               .top_k = p.top_k,
                               .top_p = p.top_p,
                               .min_p = p.min_p,
                               .repeat_penalty = p.repeat_penalty,
                               .presence_penalty = p.presence_penalty,
                               .frequency_penalty = p.frequency_penalty,
                               .repeat_last_n = p.repeat_last_n};
}

enum { MAX_TOP = 64 };

static sched_params translate(const rf_request_params *p, rf_request *r) {
    sched_params q = {.prompt = p->tokens,
                      .n_prompt = p->n_tokens,
                      .max_tokens = p->logits || p->embedding ? 0 : p->max_tokens,
                      .ignore_eos = p->ignore_eos,
                      .stop = p->stop,
                      .n_stop = p->n_stop,
                      .n_top = p->n_top,
                      .special_text = p->special_text,
                      .no_cache = p->no_cache,
                      .timeout_us = p->timeout_us,
                      .user = r};
    q.sampling = sample_defaults();
    q.sampling.temperature = p->temperature;
    q.sampling.top_k = p->top_k;
    q.sampling.top_p = p->top_p;
    q.sampling.min_p = p->min_p;
    q.sampling.repeat_penalty = p->repeat_penalty;
    q.sampling.presence_penalty = p->presence_penalty;
    q.sampling.frequency_penalty = p->frequency_penalty;
    q.sampling.repeat_last_n = p->repeat_last_n;
    q.sampling.seed = p->seed;
    q.sampling.bias = (const sample_bias *)(const void *)p->logit_bias;
    q.sampling.n_bias = p->n_logit_bias;
    q.events = (sched_events){.token = on_token, .prompt = on_prompt, .finished = on_finished, .failed = on_failed};
    if (p->logits) q.events.logits = on_logits;
    if (p->embedding) q.events.embedding = on_embedding;
    q.pooling = api_pooling(r->engine->model, p->pooling, &q.scores);
    return q;
}

static status check_kind(const rf_model *m, const rf_request_params *p, err *e) {
    if (p->n_top > MAX_TOP) return fail(e, ERR_RANGE, "n_top %u: give 0 to %d", p->n_top, MAX_TOP);
    if ((unsigned)p->pooling > RF_POOLING_RANK) return fail(e, ERR_RANGE, "pooling %d is none", (int)p->pooling);
    return p->embedding ? OK : api_check_generates(m, e);
}

bool rf_request_start(rf_request **out, rf_engine *g, const rf_request_params *p, rf_callback cb, void *user,
                      rf_error *e) {
    *out = NULL;
    err why = {0};
    rf_request *r = mem_zalloc(sizeof *r);
    status s = r ? OK : fail(&why, ERR_NOMEM, "request");
    if (!s) s = check_kind(g->model, p, &why);
    if (!s) {
        *r = (rf_request){.engine = g, .cb = cb, .user = user};
        sched_params q = translate(p, r);
        *out = r; /* before the first event can come */
        pthread_mutex_lock(&g->lock);
        if (g->dead.code) {
            why = g->dead;
            s = why.code;
        } else {
            s = sched_submit(g->sched, &q, &r->inner, &why);
        }
        pthread_cond_signal(&g->wake);
        pthread_mutex_unlock(&g->lock);
    }
    if (s) {
        *out = NULL;
        mem_free(r);
    }
    return api_result(s, &why, e);
}

void rf_request_cancel(rf_request *r) { sched_cancel(r->inner); }

void rf_request_wait(rf_request *r) {
    rf_engine *g = r->engine;
    pthread_mutex_lock(&g->lock);
    while (!r->done) pthread_cond_wait(&g->news, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

void rf_request_free(rf_request *r) {
    if (!r) return;
    rf_request_cancel(r);
    rf_request_wait(r);
    sched_request_free(r->inner);
    mem_free(r);
}

void rf_engine_stats(const rf_engine *g, rf_stats *out) {
    sched_stats s;
    sched_get_stats(g->sched, &s);
    *out = (rf_stats){.running = s.running,
                      .waiting = s.waiting,
                      .parallel = g->shape.parallel,
                      .queue = g->shape.sched.queue,
                      .page_tokens = g->shape.exec.page_tokens,
                      .pages_total = s.pages_total,
                      .pages_used = s.pages_used,
                      .pages_cached = s.pages_cached,
                      .steps = s.steps,
                      .step_us = s.step_us,
                      .tokens_computed = s.tokens_computed,
                      .prompt_tokens = s.prompt_tokens,
                      .cached_tokens = s.cached_tokens,
                      .generated_tokens = s.generated_tokens,
                      .prefix_queries = s.prefix.queries,
                      .prefix_hits = s.prefix.hits,
                      .preemptions = s.preemptions,
                      .evictions = s.prefix.evictions,
                      .pages_copied = s.pages_copied,
                      .disk_pages = s.disk.pages,
                      .disk_bytes = s.disk.bytes,
                      .disk_loaded = s.disk.loaded,
                      .disk_dropped = s.disk.dropped,
                      .waited_queue = s.waited_queue,
                      .waited_kv = s.waited_kv,
                      .waited_batch = s.waited_batch,
                      .waited_prefix = s.waited_prefix,
                      .seqs_computed = s.seqs_computed,
                      .last_batch_seqs = s.last_batch_seqs,
                      .last_batch_tokens = s.last_batch_tokens,
                      .host_drawn = s.draws_left};
}

char *rf_engine_profile(rf_engine *g, bool reset) { return api_profile(&g->shape, &g->backends, reset); }

char *rf_engine_memory(const rf_engine *g) {
    sched_stats s;
    sched_get_stats(g->sched, &s);
    return api_memory(&g->shape, &s, exec_page_bytes(g->x));
}
