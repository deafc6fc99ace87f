#include "api/verify.h"

#include "backend/cpu/cpu.h"
#include "backend/gpu/code.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_STATIC_LINKING_ONLY /* the state's size: it lives on the stack */
#include <xxhash.h>

status verify_when_of(const char *name, verify_when *out, err *e) {
    static const char *const names[] = {"once", "always", "off"};
    *out = VERIFY_ONCE;
    for (int i = 0; name && i < 3; i++)
        if (strcmp(name, names[i]) == 0) return *out = (verify_when)i, OK;
    return name ? fail(e, ERR_USAGE, "--verify %s: give once, always or off", name) : OK;
}

static uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }
static uint32_t probe_room(const api_shape *s) {
    return (uint32_t)(min_u32(s->exec.n_pages, PROBE_TOKENS) * s->exec.page_tokens);
}

static status ask(probe_answer *a, exec *x, const api_shape *s, err *e) {
    uint32_t n = min_u32(probe_room(s), PROBE_TOKENS);
    return probe_ask(a, x, min_u32(s->exec.max_tok, PROBE_LONG), min_u32(n, s->context), e);
}

/* --- the CPU's word -------------------------------------------------------------------------------------------------------- */

/* An executor that only answers the probe. Beside a GPU the best tier of the CPU; else the scalar one. */
static status open_reference(exec **out, const rf_model *m, const api_shape *s, err *e) {
    cpu_options cpu = {.n_threads = s->threads, .tier = s->gpus ? s->tier : TIER_SCALAR};
    backend *b = NULL;
    status rc = cpu_backend_open(&b, &cpu, e);
    exec_options x = s->exec;
    x.max_tok = min_u32(x.max_tok, PROBE_LONG), x.max_out = 1, x.hidden = false;
    x.n_pages = (PROBE_TOKENS + x.page_tokens - 1) / x.page_tokens;
    x.choose = NULL;
    backend *const all[] = {b};
    backend_memory need;
    if (!rc) rc = exec_measure(m->file, &x, all, 1, &need, e);
    uint64_t left = s->host_bytes ? s->host_bytes : api_available_bytes();
    size_t bytes = rc ? 0 : need.weights_own + need.weights_mapped + need.activations + need.kv + need.scratch;
    if (!rc && bytes > left)
        rc = fail(e, ERR_MEMORY_PLAN, "the CPU needs %zu MiB for this once, %llu MiB are available", bytes >> 20,
                  (unsigned long long)left >> 20);
    if (rc) {
        if (b) b->ops->close(b);
        return rc;
    }
    return exec_open(out, m->file, &x, all, 1, NULL, NULL, e);
}

void verify_report_free(verify_report *r) {
    probe_free(&r->answer);
    probe_free(&r->expected);
}

static void name_of(char *dst, size_t size, const exec *x) {
    strbuf b = {0};
    exec_device(x, &b);
    snprintf(dst, size, "%s", b.p ? b.p : "");
    strbuf_free(&b);
}

status verify_compare(verify_report *r, exec *x, const rf_model *m, const api_shape *s, err *e) {
    r->first_layer = -1;
    exec *reference = NULL;
    status rc = r->answer.logits ? OK : ask(&r->answer, x, s, e);
    if (!rc) rc = open_reference(&reference, m, s, e);
    if (!rc) rc = ask(&r->expected, reference, s, e);
    if (!rc) rc = probe_first_layer(&r->answer, x, reference, &r->first_layer, e);
    if (!rc) name_of(r->device, sizeof r->device, x);
    if (!rc) name_of(r->reference, sizeof r->reference, reference);
    exec_close(reference);
    if (rc) verify_report_free(r);
    return rc;
}

/* --- what is known already --------------------------------------------------------------------------------------------------- */

static void add(XXH3_state_t *h, const void *p, size_t n) { (void)XXH3_128bits_update(h, p, n); }
static void add_text(XXH3_state_t *h, const char *text) { add(h, text, strlen(text) + 1); }

/* The file's header stands for the model: what the weights are shows in the answer itself. */
static void add_model(XXH3_state_t *h, const gguf *g) {
    for (size_t i = 0; i < gguf_n_kv(g); i++) {
        const gguf_kv *kv = gguf_kv_at(g, i);
        add(h, kv->key.p, kv->key.n);
        add(h, kv->data, kv->n_bytes);
    }
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const gguf_tensor *t = gguf_tensor_at(g, i);
        add(h, t->name.p, t->name.n);
        add(h, &t->type, sizeof t->type);
        add(h, t->dim, sizeof t->dim);
    }
}

static void add_devices(XXH3_state_t *h, const api_shape *s) {
    for (uint32_t i = 0; i < s->split.n_gpus; i++) {
        const gpu_device *d = &s->gpus->device[s->split.gpu[i]];
        add_text(h, d->facts.uuid);
        add_text(h, d->facts.name);
        add_text(h, d->driver->version);
        add(h, &s->split.end[i], sizeof s->split.end[i]);
        for (uint32_t c = 0; c < gpu_code_count(); c++) {
            const gpu_code *code = gpu_code_at(c);
            if (d->target && strcmp(code->target, d->target) == 0) add(h, code->data, code->n_bytes);
        }
    }
}

static bool make_folder(char *path) {
    for (char *p = path + 1; *p; p++)
        if (*p == '/') {
            *p = 0;
            bool ok = mkdir(path, 0700) == 0 || errno == EEXIST;
            *p = '/';
            if (!ok) return false;
        }
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}

/* The file that holds the CPU's hash for this model on this device; false: there is no place for it. */
static bool verdict_path(char *path, size_t size, const rf_model *m, const api_shape *s) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    bool own = cache && *cache == '/';
    if (!own && !(home && *home == '/')) return false;
    XXH3_state_t h;
    (void)XXH3_128bits_reset(&h);
    add_text(&h, ROCMFORGE_VERSION);
    const uint32_t shape[] = {s->exec.type_k,  s->exec.type_v, s->exec.page_tokens,
                              s->exec.max_tok, probe_room(s),  s->split.first};
    add(&h, shape, sizeof shape);
    add_model(&h, m->file);
    add_devices(&h, s);
    XXH128_hash_t id = XXH3_128bits_digest(&h);
    int n = snprintf(path, size, "%s%s/rocmforge/verified", own ? cache : home, own ? "" : "/.cache");
    if (n < 0 || (size_t)n + 40 > size || !make_folder(path)) return false;
    snprintf(path + n, size - (size_t)n, "/%016llx%016llx", (unsigned long long)id.high64,
             (unsigned long long)id.low64);
    return true;
}

static bool read_verdict(const char *path, uint64_t hash[2]) {
    char text[80] = "";
    unsigned long long a, b;
    FILE *f = fopen(path, "r");
    bool ok = f && fgets(text, sizeof text, f) && sscanf(text, "equal %16llx%16llx", &a, &b) == 2;
    if (f) fclose(f);
    if (ok) hash[0] = a, hash[1] = b;
    return ok;
}

static void write_verdict(const char *path, const uint64_t hash[2]) {
    char part[1100];
    if (snprintf(part, sizeof part, "%s.%ld", path, (long)getpid()) >= (int)sizeof part) return;
    FILE *f = fopen(part, "w");
    bool ok = f && fprintf(f, "equal %016llx%016llx\n", (unsigned long long)hash[0], (unsigned long long)hash[1]) > 0;
    if (f && fclose(f)) ok = false;
    if (!ok || rename(part, path)) (void)unlink(part); /* asked again next time */
}

/* --- at load ------------------------------------------------------------------------------------------------------------------- */

static status judge(const verify_report *r, err *e) {
    probe_difference d = probe_compare(&r->answer, &r->expected, 0, r->answer.n_steps);
    uint32_t draws = probe_draws_differ(&r->answer, &r->expected);
    if (!d.n_differ && !draws) return OK;
    if (!d.n_differ)
        return fail(e, ERR_GPU_WRONG,
                    "%s is refused: %u of %d draws are not the CPU's, from equal logits; `--device cpu` "
                    "works, `rocmforge verify` shows more",
                    r->device, draws, PROBE_DRAWS);
    char where[48] = "";
    if (r->first_layer >= 0) snprintf(where, sizeof where, ", from the input of layer %d on", r->first_layer);
    return fail(e, ERR_GPU_WRONG,
                "%s is refused: %llu of %llu logits differ from the CPU's, by up to %.3g, first after %u tokens%s; "
                "`--device cpu` "
                "works, `rocmforge verify` shows more",
                r->device, (unsigned long long)d.n_differ, (unsigned long long)d.n_values, d.max_diff, d.first_after,
                where);
}

/* given: the device's answer where it has been asked already, so that one which answers now this way, now that is not given
 * a second chance; taken over. */
static status ask_the_cpu(exec *x, const rf_model *m, api_shape *s, const char *path, probe_answer given, err *e) {
    verify_report r = {.answer = given};
    bool changed = given.logits != NULL;
    err why;
    status rc = verify_compare(&r, x, m, s, &why);
    if (rc == ERR_MEMORY_PLAN && changed)
        return fail(e, ERR_GPU_WRONG,
                    "the GPU no longer gives what the CPU once gave for this model, and the CPU cannot be asked again: "
                    "%.180s; `--device cpu` works, `--verify off` goes on unchecked",
                    why.text);
    if (rc == ERR_MEMORY_PLAN) { /* of the host: no word about the device */
        snprintf(s->verified, sizeof s->verified, "not verified: %.180s", why.text);
        api_down_note(&s->down, DOWN_VERIFY, rc, "the GPU's numbers are not verified: %s", why.text);
        log_event(LOG_WARN, "engine", "not_verified", (log_field[]){log_s("reason", why.text), {0}});
        return OK;
    }
    if (rc) {
        *e = why;
        return rc;
    }
    uint64_t hash[2];
    probe_hash(&r.expected, hash);
    rc = judge(&r, e);
    if (!rc && path) write_verdict(path, hash);
    if (!rc) snprintf(s->verified, sizeof s->verified, "equal to the CPU, bit for bit, now");
    verify_report_free(&r);
    return rc;
}

status verify_engine(exec *x, const rf_model *m, api_shape *s, verify_when when, err *e) {
    char path[1024];
    uint64_t known[2], now[2];
    snprintf(s->verified, sizeof s->verified, when == VERIFY_OFF ? "off" : "");
    if (when == VERIFY_OFF || !s->gpus) return OK;
    probe_answer a = {0};
    bool kept = verdict_path(path, sizeof path, m, s);
    if (when == VERIFY_ONCE && kept && read_verdict(path, known)) {
        status rc = ask(&a, x, s, e);
        if (rc) return rc;
        probe_hash(&a, now);
        if (known[0] == now[0] && known[1] == now[1]) {
            probe_free(&a);
            snprintf(s->verified, sizeof s->verified, "gives again what the CPU gave");
            return OK;
        }
    }
    return ask_the_cpu(x, m, s, kept ? path : NULL, a, e);
}

/* --- rocmforge verify ---------------------------------------------------------------------------------------------------------- */

/* JSON has no infinity. */
static json_t *difference(double d) { return isfinite(d) ? json_real(d) : json_null(); }

static json_t *steps_of(const verify_report *r) {
    json_t *all = json_array();
    for (uint32_t i = 0; i < r->answer.n_steps; i++) {
        probe_difference d = probe_compare(&r->answer, &r->expected, i, 1);
        api_append(&all, json_pack("{si sI sI so}", "after", (int)r->answer.after[i], "values", (json_int_t)d.n_values,
                                   "differ", (json_int_t)d.n_differ, "max_difference", difference(d.max_diff)));
    }
    return all;
}

static json_t *report_json(const verify_report *r) {
    probe_difference d = probe_compare(&r->answer, &r->expected, 0, r->answer.n_steps);
    uint32_t draws = probe_draws_differ(&r->answer, &r->expected);
    return json_pack("{ss ss sb sI sI so si si si so}", "device", r->device, "reference", r->reference, "equal",
                     d.n_differ == 0 && draws == 0, "values", (json_int_t)d.n_values, "differ", (json_int_t)d.n_differ,
                     "max_difference", difference(d.max_diff), "draws", PROBE_DRAWS, "draws_differ", (int)draws,
                     "first_layer", r->first_layer, "steps", steps_of(r));
}

static status report(json_t **out, const rf_model *m, api_shape *s, const rf_engine_options *opt, err *e) {
    api_backends b = {0};
    exec *x = NULL;
    status rc = api_backends_place(&b, s, m, opt, e);
    if (rc) return rc;
    exec_options eo = api_exec_options(s, &b);
    rc = exec_open(&x, m->file, &eo, b.b, b.n, opt->progress, opt->user, e);
    verify_report r = {0};
    if (!rc && !(rc = verify_compare(&r, x, m, s, e))) {
        *out = report_json(&r);
        verify_report_free(&r);
    }
    exec_close(x);
    return rc;
}

char *rf_verify(const rf_model *m, const rf_engine_options *opt, rf_error *e) {
    api_shape s = {0};
    err why = {0};
    json_t *v = NULL;
    char *text = NULL;
    status rc = api_shape_make(&s, m, opt, &why);
    if (!rc) rc = report(&v, m, &s, opt, &why);
    api_shape_close(&s);
    rc = api_if_unchanged(m->file, rc, &why);
    if (rc)
        json_decref(v);
    else
        text = api_json(v, &rc, &why);
    api_result(rc, &why, e);
    return text;
}
