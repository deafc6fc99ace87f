#include "fake_driver.h"

#include "../simt/standin.h"
#include "backend/gpu/code.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    enum { DO_COPY, DO_FILL, DO_LAUNCH } what;
    void *to;
    const void *from;
    size_t n_bytes;
    uint8_t byte;
    const char *kernel;
    uint32_t grid[3], block;
    unsigned char args[1024];
} work;

typedef struct {
    work *w;
    uint32_t n, cap;
} queue;

typedef struct block {
    struct block *next;
    uint64_t n_bytes;
    bool device;
    uint32_t dev;
} block; /* stands before the memory, padded to 256 bytes */

typedef struct {
    gpu_driver base;
    fake_options opt;
    fake_counts count;
    uint64_t used[GPU_MAX_DEVICES];
    queue todo, *capture;
    block *blocks;
    fake_call fail_what;
    uint64_t fail_in;
    bool fired;
    status broken; /* of what was queued: comes with the next wait */
    err why;
} fake;

static fake *of(gpu_driver *d) { return (fake *)d; }

static bool fails(fake *f, fake_call what) {
    if (!f->fail_in || (f->fail_what != what && f->fail_what != FAKE_ANY) || --f->fail_in) return false;
    f->fired = true;
    return true;
}

static status broke(err *e, const char *call) { return fail(e, ERR_GPU_CALL, "%s failed, as the test wants", call); }

static status facts(gpu_driver *d, uint32_t dev, gpu_facts *out, err *e) {
    (void)e;
    *out = (gpu_facts){.arch = "gfx1100", .wave = of(d)->opt.wave, .n_units = 4, .memory = of(d)->opt.memory};
    snprintf(out->name, sizeof out->name, "Stand-in %u", dev);
    return OK;
}

static status memory(gpu_driver *d, uint32_t dev, uint64_t *free_bytes, uint64_t *total, err *e) {
    if (fails(of(d), FAKE_ANY)) return broke(e, "memory");
    *total = of(d)->opt.memory;
    *free_bytes = *total - of(d)->used[dev];
    return OK;
}

/* --- memory ------------------------------------------------------------------------------------------------------------ */
enum { BEFORE = 256 };

static void *take(fake *f, size_t n_bytes, bool device, uint32_t dev) {
    uint8_t *p = aligned_alloc(256, BEFORE + (n_bytes + 255) / 256 * 256);
    assert(p);
    memset(p, 0xff, BEFORE + n_bytes);
    block *b = (block *)(void *)p;
    *b = (block){.next = f->blocks, .n_bytes = n_bytes, .device = device, .dev = dev};
    f->blocks = b;
    f->count.live++;
    f->count.allocs++;
    if (device) f->used[dev] += n_bytes, f->count.used += n_bytes;
    return p + BEFORE;
}

static void give(fake *f, const void *p) {
    block **at = &f->blocks;
    while (*at && (uint8_t *)*at + BEFORE != (const uint8_t *)p) at = &(*at)->next;
    assert(*at);
    block *b = *at;
    *at = b->next;
    f->count.live--;
    if (b->device) f->used[b->dev] -= b->n_bytes, f->count.used -= b->n_bytes;
    free(b);
}

static status alloc(gpu_driver *d, uint32_t dev, size_t n_bytes, gpu_addr *out, err *e) {
    fake *f = of(d);
    if (fails(f, FAKE_ALLOC)) return fail(e, ERR_GPU_MEMORY, "no memory, as the test wants");
    if (n_bytes > f->opt.memory - f->used[dev] || (f->opt.block_max && n_bytes > f->opt.block_max))
        return fail(e, ERR_GPU_MEMORY, "no %zu bytes", n_bytes);
    *out = (gpu_addr)(uintptr_t)take(f, n_bytes, true, dev);
    return OK;
}
static void release(gpu_driver *d, uint32_t dev, gpu_addr p) {
    (void)dev;
    if (p) give(of(d), (const void *)(uintptr_t)p);
}
static status host_alloc(gpu_driver *d, uint32_t dev, size_t n_bytes, void **out, err *e) {
    if (fails(of(d), FAKE_ALLOC)) return fail(e, ERR_NOMEM, "no pinned memory, as the test wants");
    *out = take(of(d), n_bytes, false, dev);
    return OK;
}
static void host_release(gpu_driver *d, uint32_t dev, void *p) {
    (void)dev;
    if (p) give(of(d), p);
}

/* --- work -------------------------------------------------------------------------------------------------------------- */

static work *push(fake *f) {
    queue *q = f->capture ? f->capture : &f->todo;
    if (q->n == q->cap) {
        q->cap = q->cap ? 2 * q->cap : 64;
        q->w = realloc(q->w, q->cap * sizeof *q->w);
        assert(q->w);
    }
    return memset(&q->w[q->n++], 0, sizeof *q->w);
}

static void do_one(fake *f, const work *w) {
    char why[300] = "";
    if (w->what == DO_COPY) memcpy(w->to, w->from, w->n_bytes);
    if (w->what == DO_FILL) memset(w->to, w->byte, w->n_bytes);
    if (w->what == DO_LAUNCH && !f->broken &&
        standin_launch(w->kernel, f->opt.wave, w->grid, w->block, w->args, w->n_bytes, why, sizeof why))
        f->broken = fail(&f->why, ERR_GPU_CALL, "%s: %s", w->kernel, why);
}

static status drain(fake *f, err *e) {
    for (uint32_t i = 0; i < f->todo.n; i++) do_one(f, &f->todo.w[i]);
    f->todo.n = 0;
    status s = f->broken;
    if (s && e) *e = f->why;
    return s;
}

static status queue_copy(fake *f, void *to, const void *from, size_t n_bytes, err *e) {
    f->count.copies++;
    if (fails(f, FAKE_COPY)) return broke(e, "a copy");
    *push(f) = (work){.what = DO_COPY, .to = to, .from = from, .n_bytes = n_bytes};
    return OK;
}
static status copy_in(gpu_driver *d, uint32_t dev, gpu_addr to, const void *from, size_t n, gpu_stream s, err *e) {
    (void)dev, (void)s;
    return queue_copy(of(d), (void *)(uintptr_t)to, from, n, e);
}
static status copy_out(gpu_driver *d, uint32_t dev, void *to, gpu_addr from, size_t n, gpu_stream s, err *e) {
    (void)dev, (void)s;
    return queue_copy(of(d), to, (const void *)(uintptr_t)from, n, e);
}
static status copy_on(gpu_driver *d, uint32_t dev, gpu_addr to, gpu_addr from, size_t n, gpu_stream s, err *e) {
    return copy_in(d, dev, to, (const void *)(uintptr_t)from, n, s, e);
}
static status copy_peer(gpu_driver *d, uint32_t to_dev, gpu_addr to, uint32_t from_dev, gpu_addr from, size_t n,
                        gpu_stream s, err *e) {
    (void)d, (void)to_dev, (void)to, (void)from_dev, (void)from, (void)n, (void)s;
    return fail(e, ERR_GPU_PEER, "these two cannot reach each other");
}
static status fill(gpu_driver *d, uint32_t dev, gpu_addr to, uint8_t byte, size_t n, gpu_stream s, err *e) {
    (void)dev, (void)s;
    if (fails(of(d), FAKE_COPY)) return broke(e, "a fill");
    *push(of(d)) = (work){.what = DO_FILL, .to = (void *)(uintptr_t)to, .byte = byte, .n_bytes = n};
    return OK;
}

static status launch(gpu_driver *d, uint32_t dev, gpu_kernel k, const gpu_launch *l, gpu_stream s, err *e) {
    (void)dev, (void)s;
    fake *f = of(d);
    f->count.launches++;
    if (fails(f, FAKE_LAUNCH)) return broke(e, "a launch");
    assert(l->args_bytes <= sizeof(((work *)0)->args) && l->block % 64 == 0);
    work *w = push(f);
    *w = (work){.what = DO_LAUNCH, .kernel = k, .block = l->block, .n_bytes = l->args_bytes};
    memcpy(w->grid, l->grid, sizeof w->grid);
    memcpy(w->args, l->args, l->args_bytes);
    return OK;
}

/* --- handles: one byte each, so that a leak is seen --------------------------------------------------------------------- */

static status handle_open(gpu_driver *d, void **out, const char *what, err *e) {
    if (fails(of(d), FAKE_ANY)) return broke(e, what);
    *out = take(of(d), 1, false, 0);
    return OK;
}
static void handle_close(gpu_driver *d, uint32_t dev, void *h) {
    (void)dev;
    give(of(d), h);
}
static status stream_open(gpu_driver *d, uint32_t dev, gpu_stream *out, err *e) {
    (void)dev;
    return handle_open(d, out, "stream_open", e);
}
static status stream_wait(gpu_driver *d, uint32_t dev, gpu_stream s, err *e) {
    (void)dev, (void)s;
    of(d)->count.waits++;
    status rc = drain(of(d), e);
    return rc ? rc : fails(of(d), FAKE_ANY) ? broke(e, "stream_wait") : OK;
}
static status event_open(gpu_driver *d, uint32_t dev, gpu_event *out, err *e) {
    (void)dev;
    return handle_open(d, out, "event_open", e);
}
static status event_record(gpu_driver *d, uint32_t dev, gpu_event v, gpu_stream s, err *e) {
    (void)dev, (void)v, (void)s;
    return fails(of(d), FAKE_ANY) ? broke(e, "event_record") : OK;
}
static status event_wait(gpu_driver *d, uint32_t dev, gpu_event v, err *e) {
    (void)v;
    return stream_wait(d, dev, NULL, e);
}
static status stream_wait_event(gpu_driver *d, uint32_t dev, gpu_stream s, gpu_event v, err *e) {
    (void)d, (void)dev, (void)s, (void)v, (void)e;
    return OK;
}
static status event_ms(gpu_driver *d, uint32_t dev, gpu_event from, gpu_event to, float *ms, err *e) {
    (void)d, (void)dev, (void)from, (void)to, (void)e;
    *ms = 1.0f;
    return OK;
}
static status module_load(gpu_driver *d, uint32_t dev, const void *code, size_t n_bytes, gpu_module *out, err *e) {
    (void)dev, (void)code, (void)n_bytes;
    return handle_open(d, out, "module_load", e);
}

/* Every module has every kernel; whether there is one by this name shows a launch of no block. */
static status kernel_find(gpu_driver *d, uint32_t dev, gpu_module m, const char *name, gpu_kernel *out, err *e) {
    (void)dev, (void)m;
    static const char *known[512];
    char why[300] = "";
    unsigned grid[3] = {0, 0, 0};
    uint32_t i = 0;
    while (i < 511 && known[i] && strcmp(known[i], name) != 0) i++;
    if (!known[i]) {
        if (standin_launch(name, of(d)->opt.wave, grid, 64, why, 0, why, sizeof why) == 2)
            return fail(e, ERR_GPU_CALL, "no kernel %s", name);
        known[i] = strdup(name);
    }
    *out = (gpu_kernel)(uintptr_t)known[i];
    return OK;
}

static status capture_begin(gpu_driver *d, uint32_t dev, gpu_stream s, err *e) {
    (void)dev, (void)s;
    fake *f = of(d);
    if (fails(f, FAKE_CAPTURE)) return broke(e, "capture");
    f->capture = calloc(1, sizeof *f->capture);
    return OK;
}
static status capture_end(gpu_driver *d, uint32_t dev, gpu_stream s, gpu_graph *out, err *e) {
    (void)dev, (void)s;
    fake *f = of(d);
    queue *q = f->capture;
    f->capture = NULL;
    if (fails(f, FAKE_CAPTURE)) {
        free(q->w);
        free(q);
        return broke(e, "capture");
    }
    f->count.live++;
    *out = q;
    return OK;
}
static status graph_launch(gpu_driver *d, uint32_t dev, gpu_graph g, gpu_stream s, err *e) {
    (void)dev, (void)s;
    fake *f = of(d);
    const queue *q = g;
    if (fails(f, FAKE_LAUNCH)) return broke(e, "graph_launch");
    for (uint32_t i = 0; i < q->n; i++) *push(f) = q->w[i];
    return OK;
}
static void graph_close(gpu_driver *d, uint32_t dev, gpu_graph g) {
    (void)dev;
    queue *q = g;
    of(d)->count.live--;
    free(q->w);
    free(q);
}

static const gpu_driver table = {
    .platform = GPU_PLATFORM_HIP,
    .version = "Stand-in 1.0, driver 1",
    .facts = facts,
    .memory = memory,
    .alloc = alloc,
    .release = release,
    .host_alloc = host_alloc,
    .host_release = host_release,
    .copy_in = copy_in,
    .copy_out = copy_out,
    .copy = copy_on,
    .fill = fill,
    .copy_peer = copy_peer,
    .stream_open = stream_open,
    .stream_close = handle_close,
    .stream_wait = stream_wait,
    .event_open = event_open,
    .event_close = handle_close,
    .event_record = event_record,
    .event_wait = event_wait,
    .stream_wait_event = stream_wait_event,
    .event_ms = event_ms,
    .module_load = module_load,
    .module_unload = handle_close,
    .kernel_find = kernel_find,
    .launch = launch,
    .capture_begin = capture_begin,
    .capture_end = capture_end,
    .graph_launch = graph_launch,
    .graph_close = graph_close,
};

void fake_list_open(gpu_list *l, uint32_t n_devices, const fake_options *opt) {
    memset(l, 0, sizeof *l);
    fake *f = calloc(1, sizeof *f);
    assert(f);
    f->base = table;
    f->base.n_devices = n_devices;
    f->opt = *opt;
    if (!f->opt.memory) f->opt.memory = 1ull << 30;
    l->driver[0] = &f->base;
    for (l->n = 0; l->n < n_devices; l->n++) {
        gpu_device *d = &l->device[l->n];
        d->driver = &f->base;
        d->index = l->n;
        (void)!facts(&f->base, l->n, &d->facts, NULL);
        (void)gpu_code_covers(d->facts.arch, &d->target);
        d->memory_total = d->memory_free = f->opt.memory;
    }
}

void fake_list_close(gpu_list *l) {
    fake *f = of(l->driver[0]);
    free(f->todo.w);
    free(f);
}

void fake_fail_at(gpu_list *l, fake_call what, uint64_t n) {
    fake *f = of(l->driver[0]);
    f->fail_what = what, f->fail_in = n, f->fired = false;
}

bool fake_fail_off(gpu_list *l) {
    of(l->driver[0])->fail_in = 0;
    return of(l->driver[0])->fired;
}

fake_counts fake_counts_of(const gpu_list *l) { return of(l->driver[0])->count; }
