#include "gpu_check.h"

#include "backend/gpu/code.h"
#include "backend/gpu/driver.h"

#include <dlfcn.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CANARY = 256, MOST_BUFFERS = 4096, MOST_MODULES = 64, MOST_KERNELS = 512 };

typedef struct {
    gpu_addr at; /* of the canary before it */
    size_t n_bytes;
} buffer;

typedef struct {
    char name[64];
    uint64_t cases, wrong;
    double worst;
} record;

typedef int (*standin_launch_fn)(const char *kernel, unsigned wave, const unsigned grid[3], unsigned block,
                                 const void *args, size_t args_bytes, char *why, size_t why_size);

struct check_rig {
    char what[64], target[32];
    const char *only;
    standin_launch_fn direct; /* the interpreter, without a driver */
    unsigned wave;
    gpu_driver *d;
    gpu_stream stream;
    buffer buf[MOST_BUFFERS];
    uint32_t n_buf;
    struct {
        const gpu_code *code;
        gpu_module m;
    } module[MOST_MODULES];
    uint32_t n_modules;
    record rec[MOST_KERNELS];
    uint32_t n_rec;
    uint64_t n_wrong;
};

static void die(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(2);
}

static void must(status s, const err *e) {
    if (s) die("%s", e->text);
}

static void open_direct(check_rig *r, const char *mode) {
    const char *path = getenv("RF_STANDIN");
    void *lib = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!lib) die("RF_STANDIN: %s", path ? dlerror() : "not set");
    void *sym = dlsym(lib, "standin_launch");
    if (!sym) die("%s has no standin_launch", path);
    memcpy(&r->direct, &sym, sizeof sym);
    r->wave = strcmp(mode, "host64") == 0 ? 64 : 32;
    snprintf(r->target, sizeof r->target, "%s", mode);
}

static void open_driver(check_rig *r, const char *mode) {
    err e = {0};
    gpu_facts f;
    const char *target;
    must(strcmp(mode, "cuda") == 0 ? gpu_driver_open_cuda(&r->d, &e) : gpu_driver_open_hip(&r->d, &e), &e);
    must(r->d->facts(r->d, 0, &f, &e), &e);
    if (!gpu_code_covers(f.arch, &target)) die("no code for %s in this build (%s)", f.arch, gpu_code_targets());
    snprintf(r->target, sizeof r->target, "%s", target);
    must(r->d->stream_open(r->d, 0, &r->stream, &e), &e);
    fprintf(stderr, "device: %s (%s), %s\n", f.name, f.arch, r->d->version);
}

check_rig *check_open(int argc, char **argv) {
    const char *mode = getenv("RF_GPU_CHECK");
    if (!mode) {
        fprintf(stderr, "skipped: RF_GPU_CHECK is not set (host32, host64, hip or cuda)\n");
        exit(77);
    }
    check_rig *r = calloc(1, sizeof *r);
    if (!r) die("no memory");
    r->only = argc > 1 ? argv[1] : NULL;
    snprintf(r->what, sizeof r->what, "%s", mode);
    if (strncmp(mode, "host", 4) == 0)
        open_direct(r, mode);
    else
        open_driver(r, mode);
    return r;
}

/* --- memory --------------------------------------------------------------------------------------------------------------- */

static void copy_in(check_rig *r, gpu_addr to, const void *from, size_t n) {
    err e = {0};
    if (r->direct) {
        memcpy((void *)(uintptr_t)to, from, n);
        return;
    }
    must(r->d->copy_in(r->d, 0, to, from, n, r->stream, &e), &e);
    must(r->d->stream_wait(r->d, 0, r->stream, &e), &e);
}

static void copy_out(check_rig *r, void *to, gpu_addr from, size_t n) {
    err e = {0};
    if (r->direct) {
        memcpy(to, (const void *)(uintptr_t)from, n);
        return;
    }
    must(r->d->copy_out(r->d, 0, to, from, n, r->stream, &e), &e);
    must(r->d->stream_wait(r->d, 0, r->stream, &e), &e);
}

static void *pinned(check_rig *r, size_t n) {
    void *p = NULL;
    err e = {0};
    if (r->direct)
        p = aligned_alloc(256, (n + 255) & ~(size_t)255);
    else
        must(r->d->host_alloc(r->d, 0, n, &p, &e), &e);
    if (!p) die("no memory");
    return p;
}

static void unpin(check_rig *r, void *p) {
    if (r->direct)
        free(p);
    else
        r->d->host_release(r->d, 0, p);
}

gpu_addr check_put(check_rig *r, const void *from, size_t n_bytes) {
    if (r->n_buf == MOST_BUFFERS) die("too many buffers");
    size_t room = (n_bytes + 15) & ~(size_t)15, all = room + 2 * CANARY;
    uint8_t *h = pinned(r, all);
    memset(h, 0xCA, all);
    memset(h + CANARY, 0xFF, n_bytes); /* NaN as f32 and f16 */
    if (from) memcpy(h + CANARY, from, n_bytes);
    buffer *b = &r->buf[r->n_buf++];
    b->n_bytes = n_bytes;
    err e = {0};
    if (r->direct)
        b->at = (gpu_addr)(uintptr_t)pinned(r, all);
    else
        must(r->d->alloc(r->d, 0, all, &b->at, &e), &e);
    copy_in(r, b->at, h, all);
    unpin(r, h);
    return b->at + CANARY;
}

static void check_canaries(check_rig *r, const buffer *b) {
    size_t room = (b->n_bytes + 15) & ~(size_t)15, all = room + 2 * CANARY;
    uint8_t *h = pinned(r, all);
    copy_out(r, h, b->at, all);
    for (size_t i = 0; i < all; i++)
        if ((i < CANARY || i >= CANARY + b->n_bytes) && h[i] != 0xCA)
            die("written outside a buffer of %zu bytes, at %td", b->n_bytes, (ptrdiff_t)i - CANARY);
    unpin(r, h);
}

void check_get(check_rig *r, void *to, gpu_addr from, size_t n_bytes) {
    void *h = pinned(r, n_bytes ? n_bytes : 1);
    copy_out(r, h, from, n_bytes);
    memcpy(to, h, n_bytes);
    unpin(r, h);
    for (uint32_t i = 0; i < r->n_buf; i++)
        if (r->buf[i].n_bytes <= (64u << 20)) check_canaries(r, &r->buf[i]);
}

void check_reset(check_rig *r) {
    for (uint32_t i = 0; i < r->n_buf; i++)
        if (r->direct)
            free((void *)(uintptr_t)r->buf[i].at);
        else
            r->d->release(r->d, 0, r->buf[i].at);
    r->n_buf = 0;
}

/* --- launches ------------------------------------------------------------------------------------------------------------- */

static gpu_kernel find_kernel(check_rig *r, const char *file, const char *kernel) {
    const gpu_code *c = gpu_code_find(file, r->target);
    gpu_kernel k;
    err e = {0};
    if (!c) die("no code of %s for %s in this build", file, r->target);
    uint32_t i = 0;
    while (i < r->n_modules && r->module[i].code != c) i++;
    if (i == r->n_modules) {
        if (i == MOST_MODULES) die("too many modules");
        must(r->d->module_load(r->d, 0, c->data, c->n_bytes, &r->module[i].m, &e), &e);
        r->module[r->n_modules++].code = c;
    }
    must(r->d->kernel_find(r->d, 0, r->module[i].m, kernel, &k, &e), &e);
    return k;
}

void check_launch(check_rig *r, const char *file, const char *kernel, uint32_t gx, uint32_t gy, uint32_t gz,
                  uint32_t block, const void *args, size_t args_bytes) {
    if (r->direct) {
        char why[512] = "";
        unsigned grid[3] = {gx, gy, gz};
        if (r->direct(kernel, r->wave, grid, block, args, args_bytes, why, sizeof why)) die("%s: %s", kernel, why);
        return;
    }
    err e = {0};
    gpu_launch l = {.grid = {gx, gy, gz}, .block = block, .args = args, .args_bytes = args_bytes};
    must(r->d->launch(r->d, 0, find_kernel(r, file, kernel), &l, r->stream, &e), &e);
    must(r->d->stream_wait(r->d, 0, r->stream, &e), &e);
}

double check_time(check_rig *r, const char *file, const char *kernel, uint32_t gx, uint32_t gy, uint32_t gz,
                  uint32_t block, const void *args, size_t args_bytes, uint32_t n) {
    if (r->direct) return 0;
    err e = {0};
    gpu_launch l = {.grid = {gx, gy, gz}, .block = block, .args = args, .args_bytes = args_bytes};
    gpu_kernel k = find_kernel(r, file, kernel);
    gpu_event from, to;
    float ms = 0;
    must(r->d->event_open(r->d, 0, &from, &e), &e);
    must(r->d->event_open(r->d, 0, &to, &e), &e);
    for (uint32_t i = 0; i < n + 3; i++) {
        if (i == 3) must(r->d->event_record(r->d, 0, from, r->stream, &e), &e);
        must(r->d->launch(r->d, 0, k, &l, r->stream, &e), &e);
    }
    must(r->d->event_record(r->d, 0, to, r->stream, &e), &e);
    must(r->d->event_wait(r->d, 0, to, &e), &e);
    must(r->d->event_ms(r->d, 0, from, to, &ms, &e), &e);
    r->d->event_close(r->d, 0, from);
    r->d->event_close(r->d, 0, to);
    return (double)ms / n;
}

/* --- comparing ------------------------------------------------------------------------------------------------------------ */

bool check_wanted(const check_rig *r, const char *name) { return !r->only || strstr(name, r->only); }
bool check_tame(void) {
    const char *mode = getenv("RF_GPU_CHECK");
    return getenv("ROCMFORGE_ISA_EMU") && mode && strcmp(mode, "hip") == 0;
}
bool check_short(void) { return getenv("RF_GPU_SHORT") != NULL; }
bool check_long(void) { return getenv("RF_LONG") != NULL && !check_short(); }

static record *record_of(check_rig *r, const char *kernel) {
    uint32_t i = 0;
    while (i < r->n_rec && strcmp(r->rec[i].name, kernel) != 0) i++;
    if (i == MOST_KERNELS) die("too many kernels");
    if (i == r->n_rec) snprintf(r->rec[r->n_rec++].name, sizeof r->rec[0].name, "%s", kernel);
    return &r->rec[i];
}

static bool note(check_rig *r, const char *kernel, size_t n_wrong, size_t first, double worst, const char *got,
                 const char *fmt, va_list ap) {
    record *k = record_of(r, kernel);
    k->cases++;
    k->wrong += n_wrong;
    if (worst > k->worst) k->worst = worst;
    if (n_wrong == 0) return true;
    if (r->n_wrong < 20) {
        char what[256];
        vsnprintf(what, sizeof what, fmt, ap);
        printf("WRONG %s on %s: %s: %zu values, the first at %zu: %s\n", kernel, r->target, what, n_wrong, first, got);
    }
    r->n_wrong += n_wrong;
    return false;
}

bool check_floats(check_rig *r, const char *kernel, const float *got, const float *want, size_t n, const char *fmt,
                  ...) {
    size_t n_wrong = 0, first = 0;
    double worst = 0;
    char text[96] = "";
    for (size_t i = 0; i < n; i++) {
        if (memcmp(&got[i], &want[i], 4) == 0 || (isnan(got[i]) && isnan(want[i]))) continue;
        double d = fabs((double)got[i] - (double)want[i]);
        if (!(d <= worst)) worst = d;
        if (n_wrong++ == 0) {
            first = i;
            snprintf(text, sizeof text, "%.9g (%a) instead of %.9g (%a)", (double)got[i], (double)got[i],
                     (double)want[i], (double)want[i]);
        }
    }
    va_list ap;
    va_start(ap, fmt);
    bool ok = note(r, kernel, n_wrong, first, worst, text, fmt, ap);
    va_end(ap);
    return ok;
}

bool check_bytes(check_rig *r, const char *kernel, const void *got, const void *want, size_t n, const char *fmt, ...) {
    const uint8_t *g = got, *w = want;
    size_t n_wrong = 0, first = 0;
    char text[96] = "";
    for (size_t i = 0; i < n; i++) {
        if (g[i] == w[i] || n_wrong++ > 0) continue;
        first = i;
        snprintf(text, sizeof text, "%02x instead of %02x", g[i], w[i]);
    }
    va_list ap;
    va_start(ap, fmt);
    bool ok = note(r, kernel, n_wrong, first, n_wrong ? 1 : 0, text, fmt, ap);
    va_end(ap);
    return ok;
}

int check_close(check_rig *r) {
    for (uint32_t i = 0; i < r->n_rec; i++)
        printf("%s | %s | %llu cases | %llu wrong | max error %g\n", r->rec[i].name, r->target,
               (unsigned long long)r->rec[i].cases, (unsigned long long)r->rec[i].wrong, r->rec[i].worst);
    int rc = r->n_wrong ? 1 : 0;
    check_reset(r);
    if (r->d) {
        for (uint32_t i = 0; i < r->n_modules; i++) r->d->module_unload(r->d, 0, r->module[i].m);
        r->d->stream_close(r->d, 0, r->stream);
        r->d->close(r->d);
    }
    free(r);
    return rc;
}

/* --- numbers -------------------------------------------------------------------------------------------------------------- */

uint64_t check_random(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

float check_normal(uint64_t *state) { /* twelve uniform numbers */
    double sum = -6;
    for (int i = 0; i < 12; i++) sum += (double)(check_random(state) >> 11) * 0x1p-53;
    return (float)sum;
}
