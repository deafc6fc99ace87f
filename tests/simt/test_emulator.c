/* Code objects in the emulator of the instruction set, behind the stand-in: the same kernel as the interpreter's test, the same
 * numbers, for one arch of each of AMD's families that the emulator knows. Exit 77 without RF_ISA_EMU, its folder. */
#include "../unit/apart.h"

#include "backend/gpu/driver.h"
#include "selftest_args.h"

static err e;

static void must(status s) {
    if (s) fail_msg("%s", e.text);
}

static size_t read_code(const char *arch, void *code, size_t most) {
    char path[512];
    snprintf(path, sizeof path, RF_CODE, arch);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    const size_t n = fread(code, 1, most, f);
    fclose(f);
    assert_true(n && n < most);
    return n;
}

static void run_sum(gpu_driver *d, gpu_kernel k) {
    enum { N = 300, BLOCKS = 3 };
    gpu_stream s;
    gpu_addr in, out;
    void *p;
    must(d->stream_open(d, 0, &s, &e));
    must(d->alloc(d, 0, N * BLOCKS * 4, &in, &e));
    must(d->alloc(d, 0, BLOCKS * 4, &out, &e));
    must(d->host_alloc(d, 0, (N + 1) * BLOCKS * 4, &p, &e));
    int32_t *host = p, want[BLOCKS] = {0};
    for (int i = 0; i < N * BLOCKS; i++) want[i / N] += host[i] = i * 123 - 6789;
    const simt_test_args a = {.in = in, .out = out, .n = N};
    const gpu_launch l = {.grid = {BLOCKS, 1, 1}, .block = 256, .args = &a, .args_bytes = sizeof a};
    must(d->copy_in(d, 0, in, host, N * BLOCKS * 4, s, &e));
    must(d->launch(d, 0, k, &l, s, &e));
    must(d->copy_out(d, 0, host + N * BLOCKS, out, BLOCKS * 4, s, &e));
    must(d->stream_wait(d, 0, s, &e));
    assert_memory_equal(host + N * BLOCKS, want, sizeof want);
    d->host_release(d, 0, p);
    d->release(d, 0, in);
    d->release(d, 0, out);
    d->stream_close(d, 0, s);
}

static void run_on(void *arch) {
    static _Alignas(16) unsigned char code[1 << 20];
    gpu_driver *d;
    gpu_module m;
    gpu_kernel k;
    setenv("ROCMFORGE_HIP_LIBRARY", RF_STANDIN, 1);
    setenv("ROCMFORGE_STANDIN", arch, 1);
    must(gpu_driver_open_hip(&d, &e));
    must(d->module_load(d, 0, code, read_code(arch, code, sizeof code), &m, &e));
    must(d->kernel_find(d, 0, m, "simt_sum", &k, &e));
    run_sum(d, k);
    d->module_unload(d, 0, m);
    d->close(d);
}

static void test_arch(void **state) { ends_apart(run_on, *state, 0); }

int main(void) {
    const char *folder = getenv("RF_ISA_EMU");
    if (!folder || !*folder) {
        fprintf(stderr, "skipped: RF_ISA_EMU does not name the emulator's folder (docs/testing.md)\n");
        return 77;
    }
    setenv("ROCMFORGE_ISA_EMU", folder, 1);
    struct CMUnitTest tests[] = {
        {"gfx1100", test_arch, NULL, NULL, (void *)(uintptr_t) "gfx1100"},
        {"gfx1201", test_arch, NULL, NULL, (void *)(uintptr_t) "gfx1201"},
        {"gfx942", test_arch, NULL, NULL, (void *)(uintptr_t) "gfx942"},
    };
    return cmocka_run_group_tests_name("emulator", tests, NULL, NULL);
}
