/* The log: levels by module, both forms, nothing that could forge a line, one write a line from many threads. */
#include "check.h"

#include "base/escape.h"
#include "base/log.h"

#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

static char path[] = "/tmp/rocmforge-log-XXXXXX";

static int make_path(void **state) {
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state) {
    (void)state;
    return unlink(path);
}

static void open_log(const char *levels, bool json) {
    err e;
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(log_open(levels, json, path, &e), OK);
}

static char text[1 << 16];
static const char *read_log(void) {
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    assert_true(n >= 0);
    text[n] = 0;
    return text;
}

static void test_silent_until_opened(void **state) {
    (void)state;
    log_close();
    assert_false(log_enabled(LOG_ERROR, "server"));
    log_event(LOG_ERROR, "server", "nobody hears this", NULL);
    log_close();
}

static void test_levels(void **state) {
    (void)state;
    open_log("warn,server=debug,rocmforge::sched=trace,kv=off", false);
    assert_true(log_enabled(LOG_WARN, "engine"));
    assert_false(log_enabled(LOG_INFO, "engine"));
    assert_true(log_enabled(LOG_DEBUG, "server"));
    assert_false(log_enabled(LOG_TRACE, "server"));
    assert_true(log_enabled(LOG_TRACE, "sched"));
    assert_false(log_enabled(LOG_ERROR, "kv"));
    open_log("rocmforge=error, WARN ,,", false);
    assert_true(log_enabled(LOG_WARN, "engine"));
    open_log(NULL, false);
    assert_true(log_enabled(LOG_INFO, "engine"));
    assert_false(log_enabled(LOG_DEBUG, "engine"));
    open_log("off", false);
    assert_false(log_enabled(LOG_ERROR, "engine"));
    log_close();
}

static void test_bad_levels(void **state) {
    (void)state;
    static const char *const bad[] = {"loud",        "server",
                                      "server=",     "=x",
                                      "server=loud", "info,server=debugg",
                                      "1",           "a_name_that_is_much_longer_than_any_module=info"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err e;
        assert_int_equal(log_open(bad[i], false, NULL, &e), ERR_RANGE);
        assert_false(log_enabled(LOG_ERROR, "server"));
    }
    char many[33 * 8 + 1] = "";
    for (int i = 0; i < 33; i++) sprintf(many + strlen(many), "m%d=info,", i % 10);
    err e;
    assert_int_equal(log_open(many, false, NULL, &e), ERR_RANGE);
    assert_int_equal(log_open("info", false, "/nowhere/at/all", &e), ERR_IO);
}

static void test_human_line(void **state) {
    (void)state;
    open_log("info", false);
    log_event(LOG_INFO, "server", "request finished",
              (log_field[]){log_s("id", "ab-1"),
                            log_i("tokens", -12),
                            log_f("seconds", 0.5),
                            log_s("why", "a b=\"c\""),
                            log_s("none", NULL),
                            {0}});
    log_event(LOG_ERROR, "kv", "full", NULL);
    const char *s = read_log();
    assert_int_equal(s[10], 'T');
    assert_int_equal(s[23], 'Z');
    assert_non_null(strstr(s, "Z info  server: request finished id=ab-1 tokens=-12 seconds=0.5 "
                              "why=\"a b=\\\"c\\\"\" none=\"\"\n"));
    assert_non_null(strstr(s, "Z error kv: full\n"));
    log_close();
}

/* Whatever stands in a value: a line stays one line, and JSON. */
static void test_no_injection(void **state) {
    (void)state;
    static const char evil[] =
        "x\n2026-01-01T00:00:00.000Z error kv: forged\r\x1b[2J\x7f \xc2\x9b\xe2\x80\xae\xff\"}\\";
    for (int json = 0; json < 2; json++) {
        open_log("info", json);
        log_event(LOG_INFO, "server", evil, (log_field[]){log_s("v", evil), {0}});
        const char *s = read_log();
        assert_ptr_equal(strchr(s, '\n'), s + strlen(s) - 1);
        for (const char *p = s; p[1]; p++) assert_true((unsigned char)*p >= 0x20 && *p != 0x7f);
        assert_null(strstr(s, "\xc2\x9b"));
        assert_null(strstr(s, "\xe2\x80\xae"));
        if (!json) continue;
        json_t *v = json_loads(s, 0, NULL);
        assert_non_null(v);
        const char *got = json_string_value(json_object_get(v, "v"));
        assert_memory_equal(got, evil, 40);
        assert_string_equal(got + strlen(got) - 6, "\xef\xbf\xbd\"}\\"); /* the bad byte alone was replaced */
        json_decref(v);
    }
    log_close();
}

static void test_json_line(void **state) {
    (void)state;
    open_log("debug", true);
    log_event(LOG_DEBUG, "sched", "step",
              (log_field[]){log_i("n", INT64_MIN), log_f("x", NAN), log_f("y", 1e300), {0}});
    json_t *v = json_loads(read_log(), 0, NULL);
    assert_string_equal(json_string_value(json_object_get(v, "level")), "debug");
    assert_string_equal(json_string_value(json_object_get(v, "module")), "sched");
    assert_string_equal(json_string_value(json_object_get(v, "msg")), "step");
    assert_true(json_integer_value(json_object_get(v, "n")) == INT64_MIN);
    assert_true(json_is_null(json_object_get(v, "x")));
    assert_int_equal(strlen(json_string_value(json_object_get(v, "ts"))), 24);
    json_decref(v);
    log_close();
}

/* Lengths around the line's end: always one whole line, JSON that parses, what was cut says so. */
static void test_long_values(void **state) {
    (void)state;
    static char big[20000];
    for (size_t n = 8000; n < 8200; n++) {
        memset(big, n % 3 ? 'a' : '\n', n);
        big[n] = 0;
        open_log("info", true);
        log_event(LOG_INFO, "server", "m", (log_field[]){log_s("big", big), log_s("after", "z"), log_i("n", 1), {0}});
        const char *s = read_log();
        json_t *v = json_loads(s, 0, NULL);
        assert_non_null(v);
        const char *got = json_string_value(json_object_get(v, "big"));
        bool cut = strlen(got) != n;
        assert_true(!cut || strcmp(got + strlen(got) - 3, "...") == 0);
        assert_ptr_equal(strchr(s, '\n'), s + strlen(s) - 1);
        json_decref(v);
    }
    for (size_t n = 8000; n < 8200; n++) { /* the other form, quoted */
        memset(big, ' ', n);
        big[n] = 0;
        open_log("info", false);
        log_event(LOG_INFO, "server", "m", (log_field[]){log_s("big", big), log_s("after", "z"), log_i("n", 1), {0}});
        const char *s = read_log();
        assert_true(strlen(s) <= 8192);
        assert_ptr_equal(strchr(s, '\n'), s + strlen(s) - 1);
    }
    memset(big, 'a', sizeof big - 1);
    open_log("info", false);
    log_event(LOG_INFO, "server", big, NULL);
    assert_true(strlen(read_log()) <= 8192);
    log_close();
}

static void test_reopen(void **state) {
    (void)state;
    char moved[64];
    snprintf(moved, sizeof moved, "%s.1", path);
    open_log("info", false);
    log_event(LOG_INFO, "a", "first", NULL);
    assert_int_equal(rename(path, moved), 0);
    log_event(LOG_INFO, "a", "second", NULL);
    log_reopen();
    log_event(LOG_INFO, "a", "third", NULL);
    assert_null(strstr(read_log(), "second"));
    assert_non_null(strstr(read_log(), "third"));
    log_close();
    unlink(moved);
}

enum { N_THREADS = 4, N_LINES = 200 };
static void *chatter(void *arg) {
    char fill[200];
    memset(fill, 'a' + *(int *)arg, sizeof fill - 1);
    fill[sizeof fill - 1] = 0;
    for (int i = 0; i < N_LINES; i++) {
        log_event(LOG_INFO, "t", fill, (log_field[]){log_s("v", fill), {0}});
        if (i == N_LINES / 2) log_reopen();
    }
    return NULL;
}

static void test_threads_write_whole_lines(void **state) {
    (void)state;
    pthread_t t[N_THREADS];
    int id[N_THREADS], n = 0;
    static char all[1 << 20];
    open_log("info", false);
    for (int i = 0; i < N_THREADS; i++) id[i] = i, pthread_create(&t[i], NULL, chatter, &id[i]);
    for (int i = 0; i < N_THREADS; i++) pthread_join(t[i], NULL);
    log_close();
    FILE *f = fopen(path, "r");
    for (; fgets(all, sizeof all, f); n++) {
        const char *msg = strstr(all, " t: ") + 4;
        assert_int_equal(strspn(msg, (char[]){*msg, 0}), 199);
        assert_string_equal(msg + 199 + 3 + 199, "\n");
    }
    fclose(f);
    assert_int_equal(n, N_THREADS * N_LINES);
}

static void test_escape(void **state) {
    (void)state;
    strbuf b = {0};
    strbuf_json(&b, (str){"a\0b\xe2\x82\xac\xf0\x9f\x98\x80\xe2\x80\xa8\x80", 14});
    assert_string_equal(b.p, "\"a\\u0000b\xe2\x82\xac\xf0\x9f\x98\x80\\u2028\xef\xbf\xbd\"");
    strbuf_clear(&b);
    strbuf_json(&b, (str){"", 0});
    assert_string_equal(b.p, "\"\"");
    strbuf_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_silent_until_opened),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_bad_levels),
        cmocka_unit_test(test_human_line),
        cmocka_unit_test(test_no_injection),
        cmocka_unit_test(test_json_line),
        cmocka_unit_test(test_long_values),
        cmocka_unit_test(test_reopen),
        cmocka_unit_test(test_threads_write_whole_lines),
        cmocka_unit_test(test_escape),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
