/* Weights on their way into device memory. Slices of rows are read by all host threads (pread into a scratch of each, so that
 * no page of the file is mapped or handed to a copy), packed into a pinned buffer, and copied from there on a stream of its
 * own while the next buffer is filled. Neighbouring pieces of device memory travel as one copy, so small tensors go up by
 * the dozen. Only while loading; one thread calls. */
#ifndef ROCMFORGE_BACKEND_GPU_UPLOAD_H
#define ROCMFORGE_BACKEND_GPU_UPLOAD_H

#include "backend/cpu/pool.h"
#include "backend/gpu/driver.h"
#include "backend/gpu/weights.h"
#include "gguf/gguf.h"

enum { UPLOAD_BUFFERS = 4, UPLOAD_BYTES = 8 << 20 };

typedef struct gpu_upload gpu_upload;

typedef struct {
    const gguf_tensor *t;
    bool vector; /* decoded to f32 at `at[0]`; else planes */
    gpu_weight_planes planes;
    uint64_t n_rows; /* of all experts */
    gpu_addr at[LINEAR_PLANES];
} gpu_upload_weight;

typedef struct {
    uint64_t bytes_read, bytes_up, n_copies;
    int64_t us;
} gpu_upload_stats;

size_t gpu_upload_buffer_bytes(uint64_t widest_row); /* of one buffer; widest_row: bytes of a row in all its planes */

/* d, dev and workers are borrowed. widest: see above; widest_filed: bytes of a row as filed. */
MUST_CHECK status gpu_upload_open(gpu_upload **out, gpu_driver *d, uint32_t dev, pool *workers, uint64_t widest,
                                  uint64_t widest_filed, err *e);
void gpu_upload_close(gpu_upload *u); /* NULL is fine; waits for what is under way */

/* Queued: it is up after gpu_upload_finish. */
MUST_CHECK status gpu_upload_add(gpu_upload *u, const gpu_upload_weight *w, err *e);
MUST_CHECK status gpu_upload_finish(gpu_upload *u, gpu_upload_stats *stats, err *e);

#endif
