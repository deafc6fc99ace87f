/* The GGUF reader against files made here. The 300 bad files with their expected codes are in tests/oracle/bad_gguf.py;
 * what needs the process itself (every byte cut or changed, failing memory, files that change in use) is here. */
#include "check.h"

#include "base/mem.h"
#include "gguf/gguf.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char dir[] = "/tmp/rf-test-gguf-XXXXXX";
static char path[64];

/* A file in the making. */
typedef struct {
    uint8_t p[1 << 16];
    size_t n;
} out;

static void put(out *o, const void *p, size_t n) {
    assert_true(o->n + n <= sizeof o->p);
    memcpy(o->p + o->n, p, n);
    o->n += n;
}

static void put_u32(out *o, uint32_t v) { put(o, &v, 4); }
static void put_u64(out *o, uint64_t v) { put(o, &v, 8); }
static void put_str(out *o, const char *z) { put_u64(o, strlen(z)), put(o, z, strlen(z)); }
static void put_key(out *o, const char *key, uint32_t type) { put_str(o, key), put_u32(o, type); }

static void put_header(out *o, uint32_t version, uint64_t n_tensors, uint64_t n_kv) {
    o->n = 0;
    put(o, "GGUF", 4), put_u32(o, version), put_u64(o, n_tensors), put_u64(o, n_kv);
}

static void put_kv_u32(out *o, const char *key, uint32_t v) { put_key(o, key, GGUF_U32), put_u32(o, v); }
static void put_kv_str(out *o, const char *key, const char *v) { put_key(o, key, GGUF_STRING), put_str(o, v); }

static void put_tensor(out *o, const char *name, uint32_t type, uint64_t d0, uint64_t d1, uint64_t offset) {
    put_str(o, name), put_u32(o, 2), put_u64(o, d0), put_u64(o, d1), put_u32(o, type), put_u64(o, offset);
}

static void put_padding(out *o, size_t align) {
    while (o->n % align) put(o, "", 1);
}

static void put_data(out *o, size_t n_bytes) {
    put_padding(o, 32);
    for (size_t i = 0; i < n_bytes; i++) put(o, &(uint8_t){(uint8_t)i}, 1);
}

/* Cut to size after writing: some file systems flush a file that was emptied first, once for each of our thousands. */
static void save_as(const char *name, const void *p, size_t n) {
    int fd = open(name, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0 && write(fd, p, n) == (ssize_t)n && ftruncate(fd, (off_t)n) == 0);
    close(fd);
}

static status open_bytes(gguf **g, const void *p, size_t n, err *e) {
    save_as(path, p, n);
    return gguf_open(g, path, e);
}

static gguf *must_open(const out *o) {
    gguf *g;
    err e = {0};
    if (open_bytes(&g, o->p, o->n, &e)) fprintf(stderr, "%s\n", e.text);
    assert_non_null(g);
    return g;
}

/* One key of every type, an array of every type, two tensors. */
static void put_sample(out *o) {
    put_header(o, 3, 2, 24);
    put_kv_str(o, "general.architecture", "llama");
    const uint8_t values[8] = {1, 0, 0, 0, 0, 0, 0, 0};
    const size_t bytes[GGUF_TYPE_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    char key[32];
    for (uint32_t t = 0; t < GGUF_TYPE_COUNT; t++) {
        if (!bytes[t]) continue;
        snprintf(key, sizeof key, "one.%s", gguf_type_name((gguf_type)t));
        put_key(o, key, t), put(o, values, bytes[t]);
        snprintf(key, sizeof key, "many.%s", gguf_type_name((gguf_type)t));
        put_key(o, key, GGUF_ARRAY), put_u32(o, t), put_u64(o, 2), put(o, values, bytes[t]), put(o, values, bytes[t]);
    }
    put_key(o, "many.string", GGUF_ARRAY), put_u32(o, GGUF_STRING), put_u64(o, 3);
    put_str(o, "a"), put_str(o, ""), put_str(o, "ccc");
    put_tensor(o, "a.weight", QUANT_F32, 8, 2, 0);
    put_tensor(o, "b.weight", QUANT_Q8_0, 32, 3, 64);
    put_data(o, 64 + 3 * 34);
}

static void test_reads_every_type(void **state) {
    (void)state;
    static out o;
    put_sample(&o);
    gguf *g = must_open(&o);
    err e = {0};
    assert_int_equal(gguf_n_kv(g), 24);
    assert_int_equal(gguf_version(g), 3);
    assert_int_equal(gguf_file_bytes(g), o.n);
    assert_int_equal(gguf_n_shards(g), 1);
    assert_true(gguf_header_bytes(g) > 700 && gguf_header_bytes(g) < 8192);
    assert_string_equal(gguf_path(g), path);
    static const char *const ints[] = {"one.u8",  "one.i8",  "one.u16", "one.i16", "one.u32",
                                       "one.i32", "one.u64", "one.i64", "one.bool"};
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        uint32_t v = 9;
        uint64_t w = 9;
        bool b = false;
        assert_int_equal(gguf_get_u32(g, ints[i], &v, &e), OK);
        assert_int_equal(gguf_get_u64(g, ints[i], &w, &e), OK);
        assert_int_equal(gguf_get_bool(g, ints[i], &b, &e), OK);
        assert_true(v == 1 && w == 1 && b);
        char many[32];
        snprintf(many, sizeof many, "many%s", ints[i] + 3);
        const gguf_kv *kv = gguf_find(g, many);
        assert_non_null(kv);
        assert_true(kv->type == GGUF_ARRAY && kv->n == 2);
        assert_int_equal(gguf_array_uint(kv, 1), 1);
    }
    str arch = {0};
    assert_int_equal(gguf_get_str(g, "general.architecture", &arch, &e), OK);
    assert_true(str_is(arch, "llama"));
    float f = 0;
    assert_int_equal(gguf_get_f32(g, "one.f64", &f, &e), OK); /* the bits 0x1: the least double, 0 as a float */
    assert_true(f == 0);
    assert_true(gguf_array_float(gguf_find(g, "many.f32"), 1) == 0x1p-149);
    const gguf_kv *strings = gguf_find(g, "many.string");
    const uint8_t *at = strings->data;
    assert_true(str_is(gguf_next_string(strings, &at), "a") && str_is(gguf_next_string(strings, &at), "") &&
                str_is(gguf_next_string(strings, &at), "ccc"));
    assert_ptr_equal(at, strings->data + strings->n_bytes);
    assert_int_equal(gguf_next_string(strings, &at).n, 0); /* past the end there is nothing */
    gguf_close(g);
}

static void test_hands_out_tensors(void **state) {
    (void)state;
    static out o;
    put_sample(&o);
    gguf *g = must_open(&o);
    assert_int_equal(gguf_n_tensors(g), 2);
    const gguf_tensor *a = gguf_tensor_find(g, "a.weight"), *b = gguf_tensor_find(g, "b.weight");
    assert_ptr_equal(a, gguf_tensor_at(g, 0));
    assert_ptr_equal(b, gguf_tensor_at(g, 1));
    assert_null(gguf_tensor_find(g, "c.weight"));
    assert_null(gguf_find(g, ""));
    assert_true(a->n_dims == 2 && a->dim[0] == 8 && a->dim[1] == 2 && a->dim[2] == 1 && a->dim[3] == 1);
    assert_true(a->n_bytes == 64 && b->n_bytes == 3 * 34 && b->type == QUANT_Q8_0);
    assert_true(a->data[5] == 5 && b->data == a->data + 64);
    gguf_close(g);
}

static void test_getters_name_what_does_not_fit(void **state) {
    (void)state;
    static out o;
    put_header(&o, 2, 0, 8);
    put_key(&o, "minus", GGUF_I32), put_u32(&o, (uint32_t)-3);
    put_key(&o, "big", GGUF_U64), put_u64(&o, 1ull << 32);
    put_key(&o, "nan", GGUF_F32), put_u32(&o, 0x7fc00000);
    put_key(&o, "inf", GGUF_F64), put_u64(&o, 0x7ff0000000000000);
    put_key(&o, "huge", GGUF_F64), put_u64(&o, 0x7fe0000000000000);
    put_kv_str(&o, "text", "x");
    put_key(&o, "list", GGUF_ARRAY), put_u32(&o, GGUF_U32), put_u64(&o, 1), put_u32(&o, 7);
    put_kv_u32(&o, "two", 2);
    gguf *g = must_open(&o);
    uint32_t v = 5;
    uint64_t w = 5;
    float f = 5;
    bool b = true;
    str s = {"5", 1};
    static const char *const no_u32[] = {"minus", "big", "nan", "text", "list"};
    for (size_t i = 0; i < sizeof no_u32 / sizeof *no_u32; i++) {
        err e = {0};
        assert_int_equal(gguf_get_u32(g, no_u32[i], &v, &e), ERR_GGUF_KEY);
        assert_non_null(strstr(e.text, no_u32[i]));
    }
    static const char *const no_f32[] = {"nan", "inf", "huge", "two", "text", "list"};
    for (size_t i = 0; i < sizeof no_f32 / sizeof *no_f32; i++) {
        err e = {0};
        assert_int_equal(gguf_get_f32(g, no_f32[i], &f, &e), ERR_GGUF_KEY);
        assert_non_null(strstr(e.text, no_f32[i]));
    }
    assert_int_equal(gguf_get_u64(g, "big", &w, NULL), OK);
    assert_true(w == 1ull << 32);
    assert_int_equal(gguf_get_u64(g, "minus", &w, NULL), ERR_GGUF_KEY);
    assert_int_equal(gguf_get_bool(g, "two", &b, NULL), ERR_GGUF_KEY);
    assert_int_equal(gguf_get_str(g, "two", &s, NULL), ERR_GGUF_KEY);
    assert_int_equal(gguf_get_str(g, "list", &s, NULL), ERR_GGUF_KEY);
    assert_true(v == 5 && f == 5 && b && s.n == 1); /* a failed read leaves what was there */
    assert_int_equal(gguf_get_u32(g, "absent", &v, NULL), OK);
    assert_int_equal(gguf_get_str(g, "absent", &s, NULL), OK);
    assert_true(v == 5 && s.n == 1);
    gguf_close(g);
}

/* Cut at every byte: never read past the end (ASan), never taken for whole. */
static void test_refuses_every_truncation(void **state) {
    (void)state;
    static out o;
    put_sample(&o);
    for (size_t n = 0; n < o.n; n++) {
        gguf *g;
        err e = {0};
        assert_int_equal(open_bytes(&g, o.p, n, &e), ERR_GGUF_TRUNCATED);
        assert_null(g);
        assert_true(e.text[0] != 0);
    }
}

/* Each byte of the header set to each of some values: opened or refused, and what was opened can be walked. */
static void test_survives_every_changed_byte(void **state) {
    (void)state;
    static out o;
    put_sample(&o);
    const uint8_t to[] = {0, 1, 8, 9, 0x7f, 0x80, 0xff};
    size_t n_open = 0, n_refused = 0;
    for (size_t at = 0; at < o.n - 64; at++) {
        for (size_t i = 0; i < sizeof to; i++) {
            uint8_t old = o.p[at];
            o.p[at] = to[i];
            gguf *g;
            err e = {0};
            if (open_bytes(&g, o.p, o.n, &e)) {
                n_refused++;
            } else {
                n_open++;
                for (size_t k = 0; k < gguf_n_tensors(g); k++) {
                    const gguf_tensor *t = gguf_tensor_at(g, k);
                    assert_true(t->n_bytes > 0 && t->data[0] + t->data[t->n_bytes - 1] >= 0);
                }
            }
            gguf_close(g);
            o.p[at] = old;
        }
    }
    assert_true(n_open > 100 && n_refused > 100);
}

static void test_open_survives_oom(void **state) {
    (void)state;
    static out o, second;
    char one[80], two[80];
    snprintf(one, sizeof one, "%s/m-00001-of-00002.gguf", dir);
    snprintf(two, sizeof two, "%s/m-00002-of-00002.gguf", dir);
    for (uint32_t i = 0; i < 2; i++) {
        out *to = i ? &second : &o;
        put_header(to, 3, 1, 3);
        put_kv_u32(to, "split.no", i), put_kv_u32(to, "split.count", 2), put_kv_u32(to, "split.tensors.count", 2);
        put_tensor(to, i ? "b" : "a", QUANT_F32, 4, 1, 0);
        put_data(to, 16);
    }
    save_as(one, o.p, o.n);
    save_as(two, second.p, second.n);
    uint64_t live = mem_live();
    bool fired = true;
    uint64_t n = 0;
    while (fired) {
        gguf *g;
        err e = {0};
        mem_fail_at(++n);
        status s = gguf_open(&g, one, &e);
        fired = mem_fail_off();
        assert_int_equal(s, fired ? ERR_NOMEM : OK);
        assert_true(fired == (g == NULL));
        if (g) assert_true(gguf_n_tensors(g) == 2 && gguf_n_shards(g) == 2 && gguf_tensor_find(g, "b"));
        gguf_close(g);
        assert_int_equal(mem_live(), live);
    }
    assert_true(n > 10);
    unlink(one);
    unlink(two);
}

static void test_open_file_that_shrinks_is_reported(void **state) {
    (void)state;
    static out o;
    put_header(&o, 3, 1, 0);
    put_tensor(&o, "w", QUANT_F32, 2048, 1, 0);
    put_data(&o, 8192);
    gguf *g = must_open(&o);
    restore_sigbus();
    err e = {0};
    const gguf_tensor *t = gguf_tensor_find(g, "w");
    assert_true(!gguf_lost(g) && gguf_check(g, &e) == OK);
    assert_int_equal(t->data[8191], 255);
    assert_int_equal(truncate(path, 100), 0);
    assert_int_equal(t->data[8191], 0); /* zeros, no signal */
    assert_true(gguf_lost(g));
    assert_int_equal(gguf_check(g, &e), ERR_FILE_CHANGED);
    gguf_close(g);
}

/* A length changed behind our back leads nowhere: views stay inside the array they belong to. */
static void test_strings_stay_inside_when_the_file_is_rewritten(void **state) {
    (void)state;
    static out o;
    put_sample(&o);
    gguf *g = must_open(&o);
    const gguf_kv *kv = gguf_find(g, "many.string");
    size_t where = (size_t)(kv->data - gguf_find(g, "general.architecture")->data);
    const uint8_t *arch = (const uint8_t *)memmem(o.p, o.n, "\5\0\0\0\0\0\0\0llama", 13);
    uint64_t lie = 1 << 20;
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, &lie, 8, (off_t)((size_t)(arch - o.p) + where)), 8);
    close(fd);
    const uint8_t *at = kv->data;
    for (uint64_t i = 0; i < kv->n; i++) {
        str s = gguf_next_string(kv, &at);
        assert_true(s.n == 0 ||
                    ((const uint8_t *)s.p >= kv->data && (const uint8_t *)s.p + s.n <= kv->data + kv->n_bytes));
    }
    struct timespec times[2] = {{1, 0}, {1, 0}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_int_equal(gguf_check(g, NULL), ERR_FILE_CHANGED);
    gguf_close(g);
}

static _Atomic bool stop;
static out churn_file;

static void *shrink_and_grow(void *arg) {
    (void)arg;
    while (!atomic_load(&stop)) {
        int fd = open(path, O_WRONLY);
        if (ftruncate(fd, 10) || pwrite(fd, churn_file.p, churn_file.n, 0) < 0) abort();
        close(fd);
    }
    return NULL;
}

/* Opened while somebody rewrites it: whole, or refused. Never a signal, and a refusal for what was read from a changing
 * file is at worst called truncated. */
static void test_open_of_a_file_in_motion(void **state) {
    (void)state;
    put_header(&churn_file, 3, 1, 1);
    put_key(&churn_file, "list", GGUF_ARRAY), put_u32(&churn_file, GGUF_U32), put_u64(&churn_file, 8000);
    for (uint32_t i = 0; i < 8000; i++) put_u32(&churn_file, i);
    put_tensor(&churn_file, "w", QUANT_F32, 2048, 1, 0);
    put_data(&churn_file, 8192);
    gguf_close(must_open(&churn_file));
    restore_sigbus();
    pthread_t thread;
    atomic_store(&stop, false);
    assert_int_equal(pthread_create(&thread, NULL, shrink_and_grow, NULL), 0);
    for (int i = 0; i < 500; i++) {
        gguf *g;
        err e = {0};
        status s = gguf_open(&g, path, &e);
        assert_true(s == OK || s == ERR_FILE_CHANGED || s == ERR_GGUF_TRUNCATED);
        gguf_close(g);
    }
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
}

static void test_many_names_take_linear_time(void **state) {
    (void)state;
    enum { N = 65536 };
    size_t cap = 24 + N * (8 + 10 + 4 + 1), n = 0;
    uint8_t *p = malloc(cap);
    memcpy(p, (uint64_t[]){0x0000000346554747, 0, N}, 24);
    n = 24;
    for (uint32_t i = 0; i < N; i++) {
        memcpy(p + n, &(uint64_t){10}, 8);
        snprintf((char *)p + n + 8, 11, "key.%06u", i);
        memcpy(p + n + 18, &(uint32_t){GGUF_U8}, 4);
        p[n + 22] = 1;
        n += 23;
    }
    gguf *g;
    err e = {0};
    clock_t start = clock();
    assert_int_equal(open_bytes(&g, p, n, &e), OK);
    assert_true(clock() - start <
                3 * CLOCKS_PER_SEC); /* 10 ms here; 65,536 names compared pairwise would take minutes */
    assert_true(gguf_n_kv(g) == N && gguf_find(g, "key.065535") && !gguf_find(g, "key.065536"));
    gguf_close(g);
    free(p);
}

static int tear_down(void **state) {
    (void)state;
    unlink(path);
    return rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_every_type),
        cmocka_unit_test(test_hands_out_tensors),
        cmocka_unit_test(test_getters_name_what_does_not_fit),
        cmocka_unit_test(test_refuses_every_truncation),
        cmocka_unit_test(test_survives_every_changed_byte),
        cmocka_unit_test(test_open_survives_oom),
        cmocka_unit_test(test_open_file_that_shrinks_is_reported),
        cmocka_unit_test(test_strings_stay_inside_when_the_file_is_rewritten),
        cmocka_unit_test(test_open_of_a_file_in_motion),
        cmocka_unit_test(test_many_names_take_linear_time),
    };
    file_map *m;
    if (!mkdtemp(dir)) return 1;
    snprintf(path, sizeof path, "%s/model.gguf", dir);
    if (!file_map_open(&m, "/proc/self/exe", NULL)) file_map_close(m); /* the handler is in place, cmocka not yet */
    remember_sigbus();
    return cmocka_run_group_tests_name("gguf", tests, NULL, tear_down);
}
