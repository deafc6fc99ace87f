/* The stand-in through the engine's own table of HIP functions (backend/gpu/driver.h): copies, kernels, graphs and events do
 * what they should, and misuse and scripted faults come out as the right errors. Each test runs in a process of its own, as the
 * library reads its environment once. */
#include "../unit/apart.h"

#include "backend/gpu/driver.h"
#include "selftest_args.h"
#include "standin.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

static gpu_driver *d;
static gpu_stream stream;
static err e;

static void set(const char *devices, const char *fault) {
    setenv("ROCMFORGE_HIP_LIBRARY", RF_STANDIN, 1);
    setenv("ROCMFORGE_STANDIN", devices, 1);
    if (fault) setenv("ROCMFORGE_STANDIN_FAULT", fault, 1);
}

static void open_with(const char *devices, const char *fault) {
    set(devices, fault);
    if (gpu_driver_open_hip(&d, &e)) fail_msg("%s", e.text);
    assert_int_equal(d->stream_open(d, 0, &stream, &e), OK);
}

static standin_counts counted(void) {
    standin_counts c;
    standin_counters(&c);
    return c;
}

/* A code object with a header and nothing else. */
static gpu_kernel kernel(const char *name, unsigned mach) {
    static Elf64_Ehdr h;
    gpu_module m;
    gpu_kernel k;
    memcpy(h.e_ident, ELFMAG, SELFMAG);
    h.e_ident[EI_CLASS] = ELFCLASS64;
    h.e_machine = 224;
    h.e_flags = mach;
    if (d->module_load(d, 0, &h, sizeof h, &m, &e)) fail_msg("%s", e.text);
    if (d->kernel_find(d, 0, m, name, &k, &e)) fail_msg("%s", e.text);
    return k;
}

static gpu_launch sum_launch(simt_test_args *a, gpu_addr in, gpu_addr out) {
    *a = (simt_test_args){.in = in, .out = out, .n = 1000};
    return (gpu_launch){.grid = {5, 1, 1}, .block = 256, .args = a, .args_bytes = sizeof *a};
}

typedef struct {
    gpu_addr in, out;
    int32_t *host;
    gpu_launch l;
    simt_test_args a;
} sums;

/* Five sums of a thousand numbers are queued: copy in, kernel, copy out. */
static void queue_sums(sums *s, gpu_kernel k) {
    assert_int_equal(d->copy_in(d, 0, s->in, s->host, 20000, stream, &e), OK);
    assert_int_equal(d->launch(d, 0, k, &s->l, stream, &e), OK);
    assert_int_equal(d->copy_out(d, 0, s->host + 5000, s->out, 20, stream, &e), OK);
}

static void make_sums(sums *s) {
    void *p;
    assert_int_equal(d->alloc(d, 0, 20000, &s->in, &e), OK);
    assert_int_equal(d->alloc(d, 0, 20, &s->out, &e), OK);
    assert_int_equal(d->host_alloc(d, 0, 20020, &p, &e), OK);
    s->host = p;
    for (int i = 0; i < 5000; i++) s->host[i] = 3 * i - 77;
    s->l = sum_launch(&s->a, s->in, s->out);
}

static int wrong_sums(const sums *s, int add) {
    int n = 0;
    for (int b = 0; b < 5; b++) {
        int32_t want = add * 1000;
        for (int i = 0; i < 1000; i++) want += 3 * (b * 1000 + i) - 77;
        n += s->host[5000 + b] != want;
    }
    return n;
}

static void runs_late(void) {
    sums s;
    open_with("gfx942:1GiB", NULL);
    make_sums(&s);
    queue_sums(&s, kernel("simt_sum", 0x4c));
    assert_int_equal(counted().launches, 0);
    for (int i = 0; i < 5000; i++) s.host[i] += 1; /* too early: the stand-in shows it */
    assert_int_equal(d->stream_wait(d, 0, stream, &e), OK);
    assert_int_equal(wrong_sums(&s, 1), 0);
    const standin_counts c = counted();
    assert_int_equal(c.launches, 1);
    assert_int_equal(c.bytes_in, 20000);
    assert_int_equal(c.bytes_out, 20);
    assert_int_equal(c.pageable_copies, 0);
    assert_int_equal(c.live_device_bytes, 20020);
    d->release(d, 0, s.in);
    d->release(d, 0, s.out);
    assert_int_equal(counted().live_device_bytes, 0);
}

static void graphs(void) {
    sums s;
    gpu_graph g;
    open_with("gfx1100:1GiB", NULL);
    make_sums(&s);
    gpu_kernel k = kernel("simt_sum", 0x41);
    assert_int_equal(d->capture_begin(d, 0, stream, &e), OK);
    queue_sums(&s, k);
    assert_int_equal(d->capture_end(d, 0, stream, &g, &e), OK);
    for (int turn = 0; turn < 3; turn++) {
        assert_int_equal(d->graph_launch(d, 0, g, stream, &e), OK);
        assert_int_equal(d->stream_wait(d, 0, stream, &e), OK);
        assert_int_equal(wrong_sums(&s, turn), 0);
        for (int i = 0; i < 5000; i++) s.host[i] += 1;
    }
    assert_int_equal(counted().launches, 3);
    assert_int_equal(counted().graph_launches, 3);
    d->graph_close(d, 0, g);
    assert_int_equal(d->capture_begin(d, 0, stream, &e), OK);
    assert_int_equal(d->stream_wait(d, 0, stream, &e), ERR_GPU_CALL); /* not while it is captured */
    assert_int_equal(d->capture_end(d, 0, stream, &g, &e), ERR_GPU_CALL);
    assert_int_equal(d->stream_wait(d, 0, stream, &e), OK);
}

static void events(void) {
    sums s;
    gpu_event v, w;
    gpu_stream other;
    float ms = -1;
    open_with("gfx1100:1GiB", NULL);
    make_sums(&s);
    assert_int_equal(d->stream_open(d, 0, &other, &e), OK);
    assert_int_equal(d->event_open(d, 0, &v, &e), OK);
    assert_int_equal(d->event_open(d, 0, &w, &e), OK);
    assert_int_equal(d->copy_in(d, 0, s.in, s.host, 20000, other, &e), OK);
    assert_int_equal(d->event_record(d, 0, v, other, &e), OK);
    assert_int_equal(d->stream_wait_event(d, 0, stream, v, &e), OK);
    assert_int_equal(d->launch(d, 0, kernel("simt_sum", 0x41), &s.l, stream, &e), OK);
    assert_int_equal(d->event_record(d, 0, w, stream, &e), OK);
    assert_int_equal(d->copy_out(d, 0, s.host + 5000, s.out, 20, stream, &e), OK);
    assert_int_equal(d->event_wait(d, 0, w, &e), OK);
    assert_int_equal(d->event_ms(d, 0, v, w, &ms, &e), OK);
    assert_true(ms >= 0);
    assert_int_equal(d->stream_wait(d, 0, stream, &e), OK);
    assert_int_equal(wrong_sums(&s, 0), 0);
    d->event_close(d, 0, v);
    d->event_close(d, 0, w);
    d->stream_close(d, 0, other);
}

static void memory_is_counted(void) {
    gpu_addr a, b;
    uint64_t free_bytes, total;
    open_with("gfx1100:64MiB,gfx1151:8MiB:integrated", NULL);
    gpu_facts f;
    assert_int_equal(d->n_devices, 2);
    assert_int_equal(d->facts(d, 1, &f, &e), OK);
    assert_string_equal(f.arch, "gfx1151");
    assert_true(f.integrated && f.wave == 32 && f.memory == 8 << 20);
    assert_int_equal(d->alloc(d, 0, 60 << 20, &a, &e), OK);
    assert_int_equal(a % 256, 0);
    assert_int_equal(d->alloc(d, 0, 5 << 20, &b, &e), ERR_GPU_MEMORY);
    assert_int_equal(d->memory(d, 0, &free_bytes, &total, &e), OK);
    assert_int_equal(free_bytes, 4 << 20);
    assert_int_equal(d->alloc(d, 1, 8 << 20, &b, &e), OK);
    d->release(d, 0, a);
    d->release(d, 1, b);
}

static void misuse(void) {
    sums s;
    open_with("gfx1100:1GiB", NULL);
    make_sums(&s);
    assert_int_equal(d->copy_in(d, 0, s.in, s.host, 20001, stream, &e), ERR_GPU_CALL); /* over both ends */
}

static void used_after_free(void) {
    sums s;
    open_with("gfx1100:1GiB", NULL);
    make_sums(&s);
    assert_int_equal(d->copy_in(d, 0, s.in, s.host, 20000, stream, &e), OK);
    d->release(d, 0, s.in);
    assert_int_equal(d->stream_wait(d, 0, stream, &e), ERR_GPU_CALL);
    assert_non_null(strstr(standin_reason(), "freed"));
}

static void not_pinned(void) {
    sums s;
    char path[] = "/tmp/standin-XXXXXX";
    const int fd = mkstemp(path);
    open_with("gfx1100:1GiB", NULL);
    make_sums(&s);
    assert_int_equal(ftruncate(fd, 20000), 0);
    unlink(path);
    void *file = mmap(NULL, 20000, PROT_READ, MAP_PRIVATE, fd, 0), *heap = calloc(1, 20000);
    assert_int_equal(d->copy_in(d, 0, s.in, heap, 20000, stream, &e), OK);
    assert_int_equal(counted().pageable_copies, 1);
    assert_int_equal(counted().file_copies, 0);
    assert_int_equal(d->copy_in(d, 0, s.in, file, 20000, stream, &e), OK);
    assert_int_equal(counted().file_copies, 1);
    free(heap);
}

static void wrong_kernel(void) {
    sums s;
    open_with("gfx1100:1GiB", NULL);
    make_sums(&s);
    s.a.out = s.in; /* the larger one */
    s.l.grid[0] = 1;
    s.l.block = 64;
    assert_int_equal(d->launch(d, 0, kernel("simt_wrong_barrier", 0x41), &s.l, stream, &e), OK);
    assert_int_equal(d->stream_wait(d, 0, stream, &e), ERR_GPU_CALL);
    assert_non_null(strstr(standin_reason(), "lanes 32-63 wait in barrier"));
    assert_int_equal(d->alloc(d, 0, 16, &s.in, &e), ERR_GPU_CALL); /* it stays broken */
}

static void outside(void) {
    sums s;
    open_with("gfx1100:1GiB", NULL);
    make_sums(&s);
    s.a.n = 4;
    s.l.grid[0] = 1;
    s.l.block = 64;
    assert_int_equal(d->launch(d, 0, kernel("simt_wrong_outside", 0x41), &s.l, stream, &e), OK);
    assert_int_equal(d->stream_wait(d, 0, stream, &e), ERR_GPU_CALL);
    assert_non_null(strstr(standin_reason(), "after simt_wrong_outside: written behind a buffer of 20 bytes"));
}

#ifndef __SANITIZE_ADDRESS__ /* which takes the signal itself */
/* A wild pointer: the launch ends with an error, not the process. */
static void wild(void) {
    sums s;
    open_with("gfx1100:1GiB", NULL);
    make_sums(&s);
    s.a.n = 0;
    s.l.grid[0] = 1;
    s.l.block = 64;
    assert_int_equal(d->launch(d, 0, kernel("simt_wrong_write", 0x41), &s.l, stream, &e), OK);
    assert_int_equal(d->stream_wait(d, 0, stream, &e), ERR_GPU_CALL);
    assert_non_null(
        strstr(standin_reason(), "kernel simt_wrong_write (wave 32), block (0, 0, 0) of 64 lanes: lane 37"));
    assert_int_equal(d->alloc(d, 0, 16, &s.in, &e), ERR_GPU_CALL); /* it stays broken */
}
#endif

static void wrong_code(void) {
    gpu_module m;
    gpu_kernel k;
    Elf64_Ehdr h = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64}, .e_machine = 224, .e_flags = 0x36};
    open_with("gfx1100:1GiB", NULL);
    assert_int_equal(d->module_load(d, 0, &h, sizeof h, &m, &e), ERR_GPU_ARCH);
    assert_int_equal(
        d->module_load(d, 0, "not an ELF file, but as long as the header of one is: text, text, text", 70, &m, &e),
        ERR_GPU_CALL);
    h.e_flags = 0x41;
    assert_int_equal(d->module_load(d, 0, &h, sizeof h, &m, &e), OK);
    assert_int_equal(d->kernel_find(d, 0, m, "no_such_kernel", &k, &e), ERR_GPU_CALL);
}

static int with_fault(const char *fault) {
    sums s;
    open_with("gfx1100:1GiB", fault);
    make_sums(&s);
    memset(s.host + 5000, 0, 20);
    queue_sums(&s, kernel("simt_sum", 0x41));
    if (d->stream_wait(d, 0, stream, &e)) return -1;
    return wrong_sums(&s, 0);
}

static void fault_none(void) { assert_int_equal(with_fault(NULL), 0); }
static void fault_flip(void) { assert_int_equal(with_fault("launch:simt_sum:flip:1"), 1); }
static void fault_skip(void) { assert_int_equal(with_fault("launch:*:skip"), 5); }
static void fault_fail(void) { assert_int_equal(with_fault("launch:simt_sum:fail:1"), -1); }
static void fault_lost(void) { assert_int_equal(with_fault("lost:0"), -1); }
static void fault_stale(void) { assert_int_equal(with_fault("copy:2:stale"), 5); }
static void fault_sync(void) { assert_int_equal(with_fault("hipStreamSynchronize:1:719"), -1); }
static void fault_malloc(void) {
    gpu_addr a;
    open_with("gfx1100:1GiB", "hipMalloc:2:2");
    assert_int_equal(d->alloc(d, 0, 16, &a, &e), OK);
    d->release(d, 0, a);
    assert_int_equal(d->alloc(d, 0, 16, &a, &e), ERR_GPU_MEMORY);
    assert_int_equal(d->alloc(d, 0, 16, &a, &e), OK);
}
static void fault_init(void) {
    set("gfx1100:1GiB", "hipInit:1:35");
    assert_int_not_equal(gpu_driver_open_hip(&d, &e), OK);
}

static void fault_hang(void) {
    set("gfx1100:1GiB", "hang:1");
    alarm(2);
    (void)with_fault("hang:1");
    _exit(1); /* it came back */
}

static void call(void *test) { ((void (*)(void))(uintptr_t)test)(); }

#define APART(name) \
    static void test_##name(void **state) { \
        (void)state; \
        ends_apart(call, (void *)(uintptr_t)name, 0); \
    }
APART(runs_late)
APART(graphs)
APART(events)
APART(memory_is_counted)
APART(misuse)
APART(used_after_free)
APART(not_pinned)
APART(wrong_kernel)
APART(wrong_code)
APART(fault_none)
APART(fault_flip)
APART(fault_skip)
APART(fault_fail)
APART(fault_lost)
APART(fault_stale)
APART(fault_sync)
APART(fault_malloc)
APART(fault_init)
static void test_fault_hang(void **state) {
    (void)state;
    ends_apart(call, (void *)(uintptr_t)fault_hang, SIGALRM);
}

/* AddressSanitizer sees the access itself, and ends the process. */
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
enum { DEATH_OUTSIDE = 42 };
static void outside_dies(void) { _exit(DEATH_OUTSIDE); }
static void test_outside(void **state) {
    (void)state;
    __sanitizer_set_death_callback(outside_dies);
    ends_apart(call, (void *)(uintptr_t)outside, W_EXITCODE(DEATH_OUTSIDE, 0));
}
#else
APART(outside)
APART(wild)
#endif

#ifdef __SANITIZE_ADDRESS__
static void test_wild_pointer_whose_signal_asan_takes(void **state) {
    (void)state;
    skip();
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs_late),
        cmocka_unit_test(test_graphs),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_misuse),
        cmocka_unit_test(test_used_after_free),
        cmocka_unit_test(test_not_pinned),
        cmocka_unit_test(test_wrong_kernel),
        cmocka_unit_test(test_wrong_code),
        cmocka_unit_test(test_fault_none),
        cmocka_unit_test(test_fault_flip),
        cmocka_unit_test(test_fault_skip),
        cmocka_unit_test(test_fault_fail),
        cmocka_unit_test(test_fault_lost),
        cmocka_unit_test(test_fault_stale),
        cmocka_unit_test(test_fault_sync),
        cmocka_unit_test(test_fault_malloc),
        cmocka_unit_test(test_fault_init),
        cmocka_unit_test(test_fault_hang),
        cmocka_unit_test(test_memory_is_counted),
        cmocka_unit_test(test_outside),
#ifndef __SANITIZE_ADDRESS__
        cmocka_unit_test(test_wild),
#else
        cmocka_unit_test(test_wild_pointer_whose_signal_asan_takes),
#endif
    };
    return cmocka_run_group_tests_name("standin", tests, NULL, NULL);
}
