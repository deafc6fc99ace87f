/* Streams, events and graphs. A stream is a list of operations that runs from its front when something waits: the host for the
 * stream or for an event in it, or another stream for such an event. While a stream is captured, operations go to the graph
 * instead; calls that the real runtime forbids then (waiting, events, memory that is not
 * pinned) spoil the capture. */
#include "standin_own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef enum { OP_LAUNCH, OP_COPY, OP_FILL, OP_RECORD, OP_WAIT, OP_GRAPH } op_kind;
typedef struct op {
    struct op *next;
    op_kind kind;
    union {
        launch *l;
        struct {
            void *to;
            const void *from;
            size_t n_bytes;
        } copy;
        struct {
            void *to;
            size_t n_bytes;
            unsigned char byte;
        } fill;
        struct {
            struct event *v;
            uint64_t turn;
        } event;
        struct graph *g;
    } u;
} op;

typedef struct {
    op *first, **last;
} op_list;

typedef struct graph { /* captured, and its instance: both handles are this; n_users counts them and the queues' */
    op_list ops;
    int dev, n_users;
} graph;

typedef struct stream {
    int dev;
    op_list ops;
    graph *capture;
    bool spoilt; /* the capture */
    bool runs;
} stream;

typedef struct event {
    stream *s;               /* where it was recorded last */
    uint64_t recorded, done; /* turns */
    double ms;
    int n_users; /* the handle and operations in queues */
} event;

static stream nobody[MAX_DEVICES]; /* the default streams */

static hip_error drain(stream *s, const event *until, uint64_t turn);

/* -- lists -- */

static op *append(op_list *l, op_kind kind) {
    op *o = calloc(1, sizeof *o);
    if (!o) abort();
    o->kind = kind;
    if (!l->last) l->last = &l->first;
    *l->last = o;
    l->last = &o->next;
    return o;
}

static void drop_graph(graph *g);
static void drop_event(event *v) {
    if (--v->n_users == 0) free(v);
}

static void drop_op(op *o) {
    if (o->kind == OP_RECORD || o->kind == OP_WAIT) drop_event(o->u.event.v);
    if (o->kind == OP_GRAPH) drop_graph(o->u.g);
    if (o->kind == OP_LAUNCH) free(o->u.l);
    free(o);
}

static void drop_ops(op_list *l) {
    for (op *o = l->first, *next; o; o = next) {
        next = o->next;
        drop_op(o);
    }
    *l = (op_list){0};
}

static void drop_graph(graph *g) {
    if (--g->n_users) return;
    drop_ops(&g->ops);
    free(g);
}

static stream *stream_of(hip_stream h) {
    if (h) return h;
    stream *s = &nobody[current_device()];
    s->dev = current_device();
    return s;
}

/* -- running -- */

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static hip_error run_copy(int dev, const op *o) {
    void *to = o->u.copy.to;
    const void *from = o->u.copy.from;
    size_t n = o->u.copy.n_bytes;
    const bool to_device = is_device_memory(to, n), from_device = is_device_memory(from, n);
    if ((!to_device && find_block(to, 1) && !find_block(to, n)) || (!to_device && !from_device))
        return break_device(dev, HIP_ILLEGAL_ADDRESS, "a copy of %zu bytes whose memory is freed or too small", n);
    log_line("copy %s %zu", to_device && from_device ? "within" : to_device ? "in" : "out", n);
    const copy_fault fault = fault_of_copy();
    if (fault == COPY_SHORT) n /= 2;
    if (fault != COPY_STALE) memmove(to, from, n);
    return HIP_SUCCESS;
}

static hip_error run_fill(int dev, const op *o) {
    if (!is_device_memory(o->u.fill.to, o->u.fill.n_bytes))
        return break_device(dev, HIP_ILLEGAL_ADDRESS, "a fill of %zu bytes whose memory is freed or too small",
                            o->u.fill.n_bytes);
    memset(o->u.fill.to, o->u.fill.byte, o->u.fill.n_bytes);
    return HIP_SUCCESS;
}

static hip_error run_record(const op *o) {
    o->u.event.v->done = o->u.event.turn;
    o->u.event.v->ms = now_ms();
    return HIP_SUCCESS;
}

static hip_error run_wait(const op *o) {
    const event *v = o->u.event.v;
    return v->done < o->u.event.turn ? drain(v->s, v, o->u.event.turn) : HIP_SUCCESS;
}

static hip_error run_op(stream *s, const op *o) {
    hip_error rc = HIP_SUCCESS;
    switch (o->kind) {
    case OP_LAUNCH: return run_launch(s->dev, o->u.l);
    case OP_COPY: return run_copy(s->dev, o);
    case OP_FILL: return run_fill(s->dev, o);
    case OP_RECORD: return run_record(o);
    case OP_WAIT: return run_wait(o);
    case OP_GRAPH:
        for (const op *i = o->u.g->ops.first; i && !rc; i = i->next) rc = run_op(s, i);
        return rc;
    }
    return HIP_UNKNOWN;
}

/* Runs from the front: all, or until this turn of the event is done. */
static hip_error drain(stream *s, const event *until, uint64_t turn) {
    if (s->runs) return HIP_SUCCESS; /* an event that this very stream records later: nothing to wait for */
    hip_error rc = devices[s->dev].broken;
    s->runs = true;
    while (s->ops.first && !(until && until->done >= turn)) {
        op *o = s->ops.first;
        if (!rc) rc = run_op(s, o);
        s->ops.first = o->next;
        if (!o->next) s->ops.last = NULL;
        drop_op(o);
    }
    s->runs = false;
    return rc;
}

/* -- queueing: each call is `begin` (lock, faults, the stream), then something, then `end` -- */

static hip_error begin(const char *name, stream *s) {
    hip_error rc = fault_of_call(name);
    return rc ? rc : devices[s->dev].broken;
}

static hip_error spoil(stream *s) {
    s->spoilt = true;
    return HIP_CAPTURE_UNSUPPORTED;
}

static op_list *list_of(stream *s) { return s->capture ? &s->capture->ops : &s->ops; }

static hip_error queued(stream *s) {
    return !s->capture && getenv("ROCMFORGE_STANDIN_EAGER") ? drain(s, NULL, 0) : HIP_SUCCESS;
}

/* The host's side of a copy: pinned, or done at once. */
static hip_error host_side(stream *s, const void *host, size_t n, bool *now) {
    const block *b = find_block(host, n);
    *now = !b;
    if (b) return HIP_SUCCESS;
    if (find_block(host, 1)) return HIP_INVALID_VALUE; /* over its end */
    if (s->capture) return spoil(s);
    counts.pageable_copies++;
    if (in_mapped_file(host)) counts.file_copies++;
    return HIP_SUCCESS;
}

static hip_error copy(const char *name, hip_stream h, void *to, const void *from, size_t n, const void *host) {
    stream *s = stream_of(h);
    bool now = false;
    hip_error rc = begin(name, s);
    if (rc || !n) return rc;
    const bool devices_fit = (to == host || is_device_memory(to, n)) && (from == host || is_device_memory(from, n));
    if (!devices_fit)
        return break_device(s->dev, HIP_INVALID_VALUE, "%s of %zu bytes: not all of it is memory of a device", name, n);
    if (host) rc = host_side(s, host, n, &now);
    if (rc) return rc;
    op *o = append(list_of(s), OP_COPY);
    o->u.copy.to = to;
    o->u.copy.from = from;
    o->u.copy.n_bytes = n;
    *(!host ? &counts.copies_within : to == host ? &counts.copies_out : &counts.copies_in) += 1;
    *(!host ? &counts.bytes_within : to == host ? &counts.bytes_out : &counts.bytes_in) += n;
    return now ? drain(s, NULL, 0) : queued(s);
}

hip_error hipMemcpyHtoDAsync(void *to, const void *from, size_t n_bytes, hip_stream h) {
    standin_lock();
    const hip_error rc = copy("hipMemcpyHtoDAsync", h, to, from, n_bytes, from);
    standin_unlock();
    return rc;
}

hip_error hipMemcpyDtoHAsync(void *to, void *from, size_t n_bytes, hip_stream h) {
    standin_lock();
    const hip_error rc = copy("hipMemcpyDtoHAsync", h, to, from, n_bytes, to);
    standin_unlock();
    return rc;
}

hip_error hipMemcpyDtoDAsync(void *to, void *from, size_t n_bytes, hip_stream h) {
    standin_lock();
    const hip_error rc = copy("hipMemcpyDtoDAsync", h, to, from, n_bytes, NULL);
    standin_unlock();
    return rc;
}

static bool on_device(const void *p, size_t n, int dev) {
    const block *b = find_block(p, n);
    return b && b->dev == dev;
}

hip_error hipMemcpyPeerAsync(void *to, int to_dev, const void *from, int from_dev, size_t n_bytes, hip_stream h) {
    standin_lock();
    const bool right = !n_bytes || (on_device(to, n_bytes, to_dev) && on_device(from, n_bytes, from_dev));
    hip_error rc = right ? HIP_SUCCESS : HIP_INVALID_VALUE;
    if (!rc) rc = copy("hipMemcpyPeerAsync", h, to, from, n_bytes, NULL);
    standin_unlock();
    return rc;
}

hip_error hipMemsetD8Async(void *to, unsigned char byte, size_t n_bytes, hip_stream h) {
    standin_lock();
    stream *s = stream_of(h);
    hip_error rc = begin("hipMemsetD8Async", s);
    if (!rc && n_bytes && !is_device_memory(to, n_bytes)) rc = HIP_INVALID_VALUE;
    if (!rc && n_bytes) {
        op *o = append(list_of(s), OP_FILL);
        o->u.fill.to = to;
        o->u.fill.n_bytes = n_bytes;
        o->u.fill.byte = byte;
        counts.fills++;
        rc = queued(s);
    }
    standin_unlock();
    return rc;
}

static hip_error check_launch(const stream *s, const function *f, const uint32_t grid[3], const uint32_t lanes[3],
                              void **params) {
    const uint64_t threads = (uint64_t)grid[0] * lanes[0];
    if (!f || module_device(f->m) != s->dev) return HIP_INVALID_HANDLE;
    if (!params || !params[0]) return HIP_INVALID_VALUE;
    if (!grid[0] || !grid[1] || !grid[2] || !lanes[0] || lanes[1] != 1 || lanes[2] != 1)
        return HIP_INVALID_CONFIGURATION;
    if (grid[1] > 65535 || grid[2] > 65535 || threads > UINT32_MAX) return HIP_INVALID_CONFIGURATION;
    return lanes[0] > simt_max_threads(f->host) ? HIP_INVALID_VALUE : HIP_SUCCESS;
}

hip_error hipModuleLaunchKernel(hip_function k, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                                unsigned block_y, unsigned block_z, unsigned shared_bytes, hip_stream h, void **params,
                                void **extra) {
    standin_lock();
    stream *s = stream_of(h);
    function *f = k;
    const uint32_t grid[3] = {grid_x, grid_y, grid_z}, lanes[3] = {block_x, block_y, block_z};
    hip_error rc = begin("hipModuleLaunchKernel", s);
    if (!rc && (shared_bytes || extra)) rc = HIP_NOT_SUPPORTED;
    if (!rc) rc = check_launch(s, f, grid, lanes, params);
    if (!rc) {
        launch *l = aligned_alloc(_Alignof(launch), sizeof *l);
        if (!l) abort();
        *l = (launch){
            .f = f, .grid = {grid_x, grid_y, grid_z}, .block = block_x, .args_bytes = simt_args_bytes(f->host)};
        memcpy(l->args, params[0], l->args_bytes);
        append(list_of(s), OP_LAUNCH)->u.l = l;
        rc = queued(s);
    }
    standin_unlock();
    return rc;
}

/* -- streams and events -- */

hip_error hipStreamCreateWithFlags(hip_stream *out, unsigned flags) {
    (void)flags;
    standin_lock();
    const int dev = current_device();
    hip_error rc = fault_of_call("hipStreamCreateWithFlags");
    if (!rc) rc = devices[dev].broken;
    stream *s = rc ? NULL : calloc(1, sizeof *s);
    if (s) s->dev = dev;
    counts.live_objects += s != NULL;
    *out = s;
    standin_unlock();
    return s || rc ? rc : HIP_OUT_OF_MEMORY;
}

/* What is queued still runs. */
hip_error hipStreamDestroy(hip_stream h) {
    standin_lock();
    stream *s = h;
    const hip_error rc = fault_of_call("hipStreamDestroy");
    if (!rc) {
        (void)drain(s, NULL, 0);
        if (s->capture) drop_graph(s->capture);
        free(s);
        counts.live_objects--;
    }
    standin_unlock();
    return rc;
}

hip_error hipStreamSynchronize(hip_stream h) {
    standin_lock();
    stream *s = stream_of(h);
    hip_error rc = begin("hipStreamSynchronize", s);
    if (!rc && s->capture) rc = spoil(s);
    if (!rc) rc = drain(s, NULL, 0);
    counts.syncs++;
    standin_unlock();
    return rc;
}

hip_error hipEventCreateWithFlags(hip_event *out, unsigned flags) {
    (void)flags;
    standin_lock();
    hip_error rc = fault_of_call("hipEventCreateWithFlags");
    event *v = rc ? NULL : calloc(1, sizeof *v);
    if (v) v->n_users = 1;
    counts.live_objects += v != NULL;
    *out = v;
    standin_unlock();
    return v || rc ? rc : HIP_OUT_OF_MEMORY;
}

hip_error hipEventDestroy(hip_event h) {
    standin_lock();
    const hip_error rc = fault_of_call("hipEventDestroy");
    if (!rc) drop_event(h);
    counts.live_objects -= !rc;
    standin_unlock();
    return rc;
}

hip_error hipEventRecord(hip_event h, hip_stream to) {
    standin_lock();
    stream *s = stream_of(to);
    event *v = h;
    hip_error rc = begin("hipEventRecord", s);
    if (!rc && s->capture) rc = spoil(s);
    if (!rc) {
        op *o = append(&s->ops, OP_RECORD);
        v->s = s;
        v->n_users++;
        o->u.event.v = v;
        o->u.event.turn = ++v->recorded;
        rc = queued(s);
    }
    standin_unlock();
    return rc;
}

hip_error hipEventSynchronize(hip_event h) {
    standin_lock();
    event *v = h;
    hip_error rc = fault_of_call("hipEventSynchronize");
    if (!rc && v->s && v->done < v->recorded) rc = drain(v->s, v, v->recorded);
    if (!rc && v->s) rc = devices[v->s->dev].broken;
    counts.syncs++;
    standin_unlock();
    return rc;
}

hip_error hipStreamWaitEvent(hip_stream h, hip_event of, unsigned flags) {
    (void)flags;
    standin_lock();
    stream *s = stream_of(h);
    event *v = of;
    hip_error rc = begin("hipStreamWaitEvent", s);
    if (!rc && s->capture) rc = spoil(s);
    if (!rc && v->done < v->recorded) {
        op *o = append(&s->ops, OP_WAIT);
        v->n_users++;
        o->u.event.v = v;
        o->u.event.turn = v->recorded;
        rc = queued(s);
    }
    standin_unlock();
    return rc;
}

hip_error hipEventElapsedTime(float *ms, hip_event from, hip_event to) {
    standin_lock();
    const event *a = from, *b = to;
    hip_error rc = fault_of_call("hipEventElapsedTime");
    if (!rc && (!a->done || !b->done || a->done < a->recorded || b->done < b->recorded)) rc = HIP_INVALID_HANDLE;
    *ms = rc ? 0.0f : (float)(b->ms - a->ms);
    standin_unlock();
    return rc;
}

/* -- graphs -- */

hip_error hipStreamBeginCapture(hip_stream h, int mode) {
    (void)mode;
    standin_lock();
    stream *s = h;
    hip_error rc = s ? begin("hipStreamBeginCapture", s) : HIP_CAPTURE_UNSUPPORTED;
    if (!rc && s->capture) rc = HIP_INVALID_VALUE;
    graph *g = rc ? NULL : calloc(1, sizeof *g);
    if (g) {
        *g = (graph){.dev = s->dev, .n_users = 1};
        s->capture = g;
        s->spoilt = false;
    }
    standin_unlock();
    return g || rc ? rc : HIP_OUT_OF_MEMORY;
}

hip_error hipStreamEndCapture(hip_stream h, hip_graph *out) {
    standin_lock();
    stream *s = h;
    hip_error rc = fault_of_call("hipStreamEndCapture");
    graph *g = s->capture;
    s->capture = NULL;
    if (!rc && !g) rc = HIP_INVALID_VALUE;
    if (!rc && s->spoilt) rc = HIP_CAPTURE_INVALIDATED;
    if (rc && g) {
        drop_graph(g);
        g = NULL;
    }
    counts.captures += !rc;
    counts.live_objects += !rc;
    *out = rc ? NULL : g;
    standin_unlock();
    return rc;
}

hip_error hipGraphInstantiateWithFlags(hip_graph_exec *out, hip_graph h, unsigned long long flags) {
    (void)flags;
    standin_lock();
    graph *g = h;
    const hip_error rc = fault_of_call("hipGraphInstantiateWithFlags");
    if (!rc) g->n_users++;
    counts.live_objects += !rc;
    *out = rc ? NULL : g;
    standin_unlock();
    return rc;
}

hip_error hipGraphLaunch(hip_graph_exec h, hip_stream to) {
    standin_lock();
    stream *s = stream_of(to);
    graph *g = h;
    hip_error rc = begin("hipGraphLaunch", s);
    if (!rc && g->dev != s->dev) rc = HIP_INVALID_VALUE;
    if (!rc && s->capture) rc = spoil(s);
    if (!rc) {
        append(&s->ops, OP_GRAPH)->u.g = g;
        g->n_users++;
        counts.graph_launches++;
        rc = queued(s);
    }
    standin_unlock();
    return rc;
}

static hip_error destroy_graph(const char *name, graph *g) {
    standin_lock();
    const hip_error rc = fault_of_call(name);
    if (!rc) drop_graph(g);
    counts.live_objects -= !rc;
    standin_unlock();
    return rc;
}

hip_error hipGraphDestroy(hip_graph g) { return destroy_graph("hipGraphDestroy", g); }
hip_error hipGraphExecDestroy(hip_graph_exec g) { return destroy_graph("hipGraphExecDestroy", g); }
