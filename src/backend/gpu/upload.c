/* A buffer is filled by jobs, each some rows of one tensor, and left by copies, each a run of neighbouring device memory:
 *
 *   buffer   | job 0 plane 0 | plane 1 | job 1 plane 0 | ...      jobs are cut into chunks for the threads
 *   copies   |      one copy, if neighbours up there   | ...  */
#include "backend/gpu/upload.h"

#include "backend/gpu/memory.h"
#include "base/clock.h"
#include "base/mem.h"
#include "quant/quant.h"

#include <string.h>

enum { MAX_JOBS = 256, MAX_COPIES = 512, CHUNK_BYTES = 256 << 10 };

typedef struct {
    gpu_upload_weight w; /* a copy: the caller's need not live */
    uint64_t row0, n_rows, per_chunk;
    uint32_t first_chunk, n_chunks;
    uint8_t *dst[LINEAR_PLANES];
} job;

typedef struct {
    gpu_addr to;
    size_t at, n_bytes; /* in the buffer */
} copy;

typedef struct {
    uint8_t *p; /* pinned */
    gpu_event done;
    bool under_way;
} buffer;

struct gpu_upload {
    gpu_driver *d;
    uint32_t dev;
    pool *workers;
    gpu_stream stream;
    buffer buffer[UPLOAD_BUFFERS];
    uint32_t current;
    size_t size, used;
    job job[MAX_JOBS];
    copy copy[MAX_COPIES];
    uint32_t n_jobs, n_copies, n_chunks;
    uint8_t **scratch; /* [threads] */
    size_t scratch_bytes;
    gpu_upload_stats stats;
    int64_t began;
};

size_t gpu_upload_buffer_bytes(uint64_t widest_row) {
    uint64_t least = gpu_align(widest_row) + LINEAR_PLANES * (uint64_t)GPU_ALIGN;
    return least > UPLOAD_BYTES ? least : UPLOAD_BYTES;
}

static status open_buffers(gpu_upload *u, err *e) {
    status s = u->d->stream_open(u->d, u->dev, &u->stream, e);
    for (uint32_t i = 0; !s && i < UPLOAD_BUFFERS; i++) {
        buffer *b = &u->buffer[i];
        void *p = NULL;
        s = u->d->host_alloc(u->d, u->dev, u->size, &p, e);
        b->p = p;
        if (!s) s = u->d->event_open(u->d, u->dev, &b->done, e);
    }
    return s;
}

status gpu_upload_open(gpu_upload **out, gpu_driver *d, uint32_t dev, pool *workers, uint64_t widest,
                       uint64_t widest_filed, err *e) {
    *out = NULL;
    gpu_upload *u = mem_zalloc(sizeof *u);
    if (!u) return fail(e, ERR_NOMEM, "the way of weights to the GPU");
    *u = (gpu_upload){.d = d, .dev = dev, .workers = workers, .size = gpu_upload_buffer_bytes(widest)};
    u->began = clock_us();
    u->scratch_bytes = widest_filed > CHUNK_BYTES ? widest_filed : CHUNK_BYTES;
    uint32_t n = pool_size(workers);
    u->scratch = mem_array(n, sizeof *u->scratch);
    status s = u->scratch ? OK : fail(e, ERR_NOMEM, "the way of weights to the GPU");
    for (uint32_t i = 0; !s && i < n; i++)
        if (!(u->scratch[i] = mem_alloc(u->scratch_bytes))) s = fail(e, ERR_NOMEM, "reading of weights");
    if (!s) s = open_buffers(u, e);
    if (s)
        gpu_upload_close(u);
    else
        *out = u;
    return s;
}

void gpu_upload_close(gpu_upload *u) {
    if (!u) return;
    if (u->stream) (void)!u->d->stream_wait(u->d, u->dev, u->stream, NULL);
    if (u->stream) u->d->stream_close(u->d, u->dev, u->stream); /* the wait may fail: buffers outlive what is queued */
    for (uint32_t i = 0; i < UPLOAD_BUFFERS; i++) {
        if (u->buffer[i].done) u->d->event_close(u->d, u->dev, u->buffer[i].done);
        if (u->buffer[i].p) u->d->host_release(u->d, u->dev, u->buffer[i].p);
    }
    for (uint32_t i = 0; u->scratch && i < pool_size(u->workers); i++) mem_free(u->scratch[i]);
    mem_free(u->scratch);
    mem_free(u);
}

/* --- filling a buffer, on all threads ---------------------------------------------------------------------------------- */

static void fill_vector(const gpu_upload *u, const job *j, uint8_t *scratch) {
    const gguf_tensor *t = j->w.t;
    if (file_map_read(t->file, t->data, scratch, j->w.planes.row_bytes))
        quant_lookup(t->type)->decode((float *)(void *)j->dst[0], scratch, j->w.planes.k);
    (void)u;
}

static void fill_rows(const job *j, uint64_t row, uint64_t n, uint8_t *scratch) {
    const gpu_weight_planes *w = &j->w.planes;
    uint8_t *dst[LINEAR_PLANES] = {0};
    for (uint32_t p = 0; p < LINEAR_PLANES; p++)
        if (w->stride[p]) dst[p] = j->dst[p] + row * w->stride[p];
    const uint8_t *src = j->w.t->data + (size_t)(j->row0 + row) * w->row_bytes;
    if (file_map_read(j->w.t->file, src, scratch, (size_t)n * w->row_bytes))
        gpu_weight_pack_rows(w, dst, scratch, (size_t)n); /* else the file is marked as lost, and load fails by it */
}

static void fill_chunk(void *ctx, uint32_t chunk, uint32_t worker) {
    const gpu_upload *u = ctx;
    const job *j = u->job;
    while (chunk >= j->first_chunk + j->n_chunks) j++;
    if (j->w.vector) return fill_vector(u, j, u->scratch[worker]);
    uint64_t row = (chunk - j->first_chunk) * j->per_chunk, left = j->n_rows - row;
    fill_rows(j, row, left < j->per_chunk ? left : j->per_chunk, u->scratch[worker]);
}

/* What the jobs ask for is read, packed, and sent; then the next buffer is waited for. */
static status flush(gpu_upload *u, err *e) {
    if (!u->n_jobs) return OK;
    buffer *b = &u->buffer[u->current];
    pool_run(u->workers, fill_chunk, u, u->n_chunks);
    status s = OK;
    for (uint32_t i = 0; !s && i < u->n_copies; i++) {
        const copy *c = &u->copy[i];
        s = u->d->copy_in(u->d, u->dev, c->to, b->p + c->at, c->n_bytes, u->stream, e);
        u->stats.bytes_up += c->n_bytes;
        u->stats.n_copies++;
    }
    if (!s) s = u->d->event_record(u->d, u->dev, b->done, u->stream, e);
    b->under_way = !s;
    u->n_jobs = u->n_copies = u->n_chunks = 0;
    u->used = 0;
    u->current = (u->current + 1) % UPLOAD_BUFFERS;
    b = &u->buffer[u->current];
    if (!s && b->under_way) s = u->d->event_wait(u->d, u->dev, b->done, e);
    b->under_way = false;
    return s;
}

/* --- queueing ---------------------------------------------------------------------------------------------------------- */

/* Room in the buffer for n bytes that go to `to`: behind the last copy, if they are neighbours up there. The caller saw to
 * it that there is room. */
static uint8_t *append(gpu_upload *u, gpu_addr to, size_t n_bytes) {
    uint8_t *base = u->buffer[u->current].p;
    copy *last = u->n_copies ? &u->copy[u->n_copies - 1] : NULL;
    if (last && to >= last->to + last->n_bytes && to - (last->to + last->n_bytes) < GPU_ALIGN) {
        size_t gap = (size_t)(to - (last->to + last->n_bytes));
        memset(base + last->at + last->n_bytes, 0, gap);
        uint8_t *p = base + last->at + last->n_bytes + gap;
        last->n_bytes += gap + n_bytes;
        u->used = last->at + last->n_bytes;
        return p;
    }
    u->used = (size_t)gpu_align(u->used);
    u->copy[u->n_copies++] = (copy){.to = to, .at = u->used, .n_bytes = n_bytes};
    u->used += n_bytes;
    return base + u->copy[u->n_copies - 1].at;
}

static uint64_t row_up(const gpu_upload_weight *w) {
    uint64_t n = w->vector ? (uint64_t)w->planes.k * sizeof(float) : 0;
    for (uint32_t p = 0; !w->vector && p < LINEAR_PLANES; p++) n += w->planes.stride[p];
    return n;
}

/* Rows that still fit into the buffer. */
static uint64_t rows_that_fit(const gpu_upload *u, const gpu_upload_weight *w) {
    uint64_t slack = LINEAR_PLANES * (uint64_t)GPU_ALIGN, room = u->size - u->used;
    return room > slack ? (room - slack) / row_up(w) : 0;
}

static void add_job(gpu_upload *u, const gpu_upload_weight *w, uint64_t row0, uint64_t n_rows) {
    job *j = &u->job[u->n_jobs++];
    *j = (job){.w = *w, .row0 = row0, .n_rows = n_rows, .first_chunk = u->n_chunks};
    for (uint32_t p = 0; p < LINEAR_PLANES; p++) {
        size_t stride = w->vector ? (p ? 0 : (size_t)w->planes.k * sizeof(float)) : w->planes.stride[p];
        if (stride) j->dst[p] = append(u, w->at[p] + row0 * stride, (size_t)n_rows * stride);
    }
    j->per_chunk = u->scratch_bytes / w->planes.row_bytes;
    j->n_chunks = w->vector ? 1 : (uint32_t)((n_rows + j->per_chunk - 1) / j->per_chunk);
    u->n_chunks += j->n_chunks;
    u->stats.bytes_read += n_rows * w->planes.row_bytes;
}

status gpu_upload_add(gpu_upload *u, const gpu_upload_weight *w, err *e) {
    for (uint64_t row = 0; row < w->n_rows;) {
        uint64_t n = rows_that_fit(u, w);
        if (n > w->n_rows - row) n = w->n_rows - row;
        if (n == 0 || u->n_jobs == MAX_JOBS || u->n_copies + LINEAR_PLANES > MAX_COPIES) {
            status s = flush(u, e);
            if (s) return s;
            continue;
        }
        add_job(u, w, row, n);
        row += n;
    }
    return OK;
}

status gpu_upload_finish(gpu_upload *u, gpu_upload_stats *stats, err *e) {
    status s = flush(u, e);
    if (!s) s = u->d->stream_wait(u->d, u->dev, u->stream, e);
    for (uint32_t i = 0; i < UPLOAD_BUFFERS; i++) u->buffer[i].under_way = false;
    u->stats.us = clock_us() - u->began;
    *stats = u->stats;
    return s;
}
