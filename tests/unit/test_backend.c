#include "test_backend.h"

#include "base/mem.h"

enum { MAX_PENDING = 1024 };

typedef struct {
    backend base;
    backend *inner;
    struct {
        const plan_segment *seg;
        const step_input *in;
    } pending[MAX_PENDING];
    test_backend_counts counts;
} test_backend;

static test_backend *of(const backend *b) { return (test_backend *)(uintptr_t)b; }

static bool supports(const backend *b, const node *n) { return of(b)->inner->ops->supports(of(b)->inner, n); }

static status measure(const backend *b, const plan *p, uint32_t device, const kv_layout *kv, backend_memory *out,
                      err *e) {
    return of(b)->inner->ops->measure(of(b)->inner, p, device, kv, out, e);
}

static status load(backend *b, const plan *p, uint32_t device, const kv_layout *kv,
                   void (*progress)(void *, uint64_t, uint64_t), void *ctx, err *e) {
    return of(b)->inner->ops->load(of(b)->inner, p, device, kv, progress, ctx, e);
}

static status run(backend *b, const plan_segment *seg, const step_input *in, err *e) {
    test_backend *t = of(b);
    if (t->counts.n_pending == MAX_PENDING) return fail(e, ERR_INTERNAL, "test backend: nobody waits");
    t->pending[t->counts.n_pending].seg = seg;
    t->pending[t->counts.n_pending++].in = in;
    t->counts.n_segments++;
    return OK;
}

static status flush(test_backend *t, err *e) {
    status s = OK;
    for (uint32_t i = 0; !s && i < t->counts.n_pending; i++)
        s = t->inner->ops->run(t->inner, t->pending[i].seg, t->pending[i].in, e);
    t->counts.n_pending = 0;
    return s ? s : t->inner->ops->wait(t->inner, e);
}

static status wait_done(backend *b, err *e) {
    of(b)->counts.n_waits++;
    return flush(of(b), e);
}

static status read_value(backend *b, const node *n, uint32_t n_rows, void *dst, err *e) {
    of(b)->counts.n_reads++;
    status s = flush(of(b), e);
    return s ? s : of(b)->inner->ops->read(of(b)->inner, n, n_rows, dst, e);
}

static status write_value(backend *b, const node *n, uint32_t n_rows, const void *src, err *e) {
    of(b)->counts.n_writes++;
    status s = flush(of(b), e);
    return s ? s : of(b)->inner->ops->write(of(b)->inner, n, n_rows, src, e);
}

static const void *peek(backend *b, const node *n, size_t *stride) {
    (void)b, (void)n;
    *stride = 0;
    return NULL;
}

static status page_copy(backend *b, uint32_t to, uint32_t from, err *e) {
    status s = flush(of(b), e);
    return s ? s : of(b)->inner->ops->page_copy(of(b)->inner, to, from, e);
}

static status page_read(backend *b, uint32_t page, void *dst, err *e) {
    status s = flush(of(b), e);
    return s ? s : of(b)->inner->ops->page_read(of(b)->inner, page, dst, e);
}

static status page_write(backend *b, uint32_t page, const void *src, err *e) {
    status s = flush(of(b), e);
    return s ? s : of(b)->inner->ops->page_write(of(b)->inner, page, src, e);
}

static uint32_t host_work(backend *b, void (*fn)(void *, uint32_t, uint32_t), void *ctx, uint32_t n) {
    (void)b;
    for (uint32_t i = 0; i < n; i++) fn(ctx, i, 0);
    return 1;
}

static const backend_profile *profile(backend *b, uint32_t *n, bool reset) {
    (void)b, (void)reset;
    *n = 0;
    return NULL;
}

static void describe(const backend *b, strbuf *out) {
    strbuf_puts(out, "test device on ");
    of(b)->inner->ops->describe(of(b)->inner, out);
}

static void close_test(backend *b) {
    if (!b) return;
    of(b)->inner->ops->close(of(b)->inner);
    mem_free(of(b));
}

static const backend_ops test_backend_ops = {
    .kind = "test",
    .supports = supports,
    .measure = measure,
    .load = load,
    .run = run,
    .wait = wait_done,
    .read = read_value,
    .write = write_value,
    .peek = peek,
    .page_copy = page_copy,
    .page_read = page_read,
    .page_write = page_write,
    .host_work = host_work,
    .profile = profile,
    .describe = describe,
    .close = close_test,
};

status test_backend_open(backend **out, const cpu_options *opt, err *e) {
    *out = NULL;
    test_backend *t = mem_zalloc(sizeof *t);
    if (!t) return fail(e, ERR_NOMEM, "test backend");
    t->base.ops = &test_backend_ops;
    status s = cpu_backend_open(&t->inner, opt, e);
    if (s)
        mem_free(t);
    else
        *out = &t->base;
    return s;
}

test_backend_counts test_backend_counts_of(const backend *b) { return of(b)->counts; }
