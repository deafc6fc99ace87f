/* What each kernel of each backend did, and how much of the memory's speed it reached: rf_engine_profile. */
#include "api/api.h"

#include "base/mem.h"

#include <stdlib.h>

static int slower_first(const void *a, const void *b) {
    const backend_profile *x = a, *y = b;
    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

static json_t *kernel_object(const backend_profile *k, double peak) {
    double rate = k->seconds > 0 ? (double)k->bytes / k->seconds : 0;
    json_t *v = json_pack("{ss sI sf sI sf}", "name", k->name, "launches", (json_int_t)k->launches, "ms",
                          1e3 * k->seconds, "bytes", (json_int_t)k->bytes, "gb_per_s", rate / 1e9);
    if (peak > 0) api_set(&v, "share", json_real(rate / peak));
    return v;
}

static json_t *kernels_of(backend *b, double peak, bool reset) {
    uint32_t n;
    const backend_profile *rows = b->ops->profile(b, &n, false);
    backend_profile *sorted = n ? mem_array(n, sizeof *sorted) : NULL;
    json_t *all = sorted || !n ? json_array() : NULL;
    for (uint32_t i = 0; sorted && i < n; i++) sorted[i] = rows[i];
    if (sorted) qsort(sorted, n, sizeof *sorted, slower_first);
    for (uint32_t i = 0; sorted && i < n; i++)
        if (sorted[i].launches) api_append(&all, kernel_object(&sorted[i], peak));
    mem_free(sorted);
    if (reset) (void)b->ops->profile(b, &n, true);
    return all;
}

static json_t *backend_object(const api_shape *s, const api_backends *b, uint32_t i, bool reset) {
    backend *dev = b->b[i];
    strbuf name = {0};
    dev->ops->describe(dev, &name);
    bool gpu = api_backend_is_gpu(dev);
    double peak = gpu ? gpu_peak_bytes_per_s(&s->gpus->device[s->split.gpu[i]].facts) : 0;
    json_t *v = json_pack("{so ss so}", "device", api_text(&name), "kind", gpu ? "gpu" : "cpu", "kernels",
                          kernels_of(dev, peak, reset));
    if (peak > 0) api_set(&v, "peak_gb_per_s", json_real(peak / 1e9));
    strbuf_free(&name);
    return v;
}

char *api_profile(const api_shape *s, const api_backends *b, bool reset) {
    json_t *all = json_array();
    status rc;
    for (uint32_t i = 0; i < b->n; i++) api_append(&all, backend_object(s, b, i, reset));
    return api_json(all, &rc, NULL);
}
