/* The HTTP parser by itself: every split of a request gives the same, and memory that fails is said. The many ways to be
 * wrong are in tests/server/test_http_cases.py. */
#include "check.h"

#include "base/mem.h"
#include "server/http_parser.h"

#include <string.h>

static const char request[] =
    "\r\nPOST /a%20b/c?d=%41+e HTTP/1.1\r\nHost: LocalHost:80\r\nX-Y:  v w \r\n"
    "transfer-encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: u\r\n\r\nGET";

static void expect_request(const http_parser *p) {
    assert_true(str_is(p->method, "POST"));
    assert_true(str_is(p->path, "/a b/c"));
    assert_true(str_is(p->query, "d=%41+e"));
    assert_true(str_is(p->host, "LocalHost:80"));
    assert_true(str_is(p->body, "abc0123456789"));
    assert_int_equal(p->body.p[p->body.n], 0);
    assert_int_equal(p->n_headers, 3);
    assert_true(str_is(p->headers[1].name, "x-y") && str_is(p->headers[1].value, "v w"));
    assert_true(p->keep_alive && p->chunked && p->minor == 1);
}

/* Feeds what a split gives; the head is said once. Bytes used. */
static size_t feed_all(http_parser *p, const char *in, size_t n, http_progress *end) {
    size_t at = 0, used;
    while (at < n) {
        *end = http_parser_feed(p, in + at, n - at, &used);
        at += used;
        if (*end != HTTP_MORE && *end != HTTP_HEAD) break;
    }
    return at;
}

static void test_every_split(void **state) {
    (void)state;
    const size_t n = sizeof request - 1;
    for (size_t first = 0; first <= n; first++) {
        http_parser p;
        http_progress end = HTTP_MORE;
        http_parser_init(&p, 100);
        size_t used = feed_all(&p, request, first, &end);
        if (end != HTTP_DONE) used += feed_all(&p, request + used, n - used, &end);
        assert_int_equal(end, HTTP_DONE);
        assert_int_equal(used, n - 3); /* the next request's bytes are left */
        expect_request(&p);
        http_parser_free(&p);
    }
}

static void test_memory_fails(void **state) {
    (void)state;
    for (uint64_t k = 1;; k++) {
        http_parser p;
        http_progress end = HTTP_MORE;
        uint64_t before = mem_live();
        http_parser_init(&p, 100);
        mem_fail_at(k);
        feed_all(&p, request, sizeof request - 1, &end);
        bool fired = mem_fail_off();
        assert_int_equal(end, fired ? HTTP_REFUSED : HTTP_DONE);
        if (fired) assert_int_equal(p.status, 503);
        http_parser_free(&p);
        assert_int_equal(mem_live(), before);
        if (!fired) return;
    }
}

static void test_buffer_follows_what_came(void **state) {
    (void)state;
    static const char head[] = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n";
    http_parser p;
    http_progress end;
    http_parser_init(&p, 1u << 30);
    feed_all(&p, head, sizeof head - 1, &end);
    assert_int_equal(end, HTTP_HEAD);
    assert_true(p.cap <= 4096); /* a declared length is no reason to allocate */
    http_parser_free(&p);
}

static void test_head_stays_while_the_body_grows(void **state) {
    (void)state;
    static const char head[] = "POST /path HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n20000\r\n";
    static char body[0x20000];
    http_parser p;
    http_progress end;
    http_parser_init(&p, sizeof body);
    feed_all(&p, head, sizeof head - 1, &end);
    feed_all(&p, body, sizeof body, &end);
    assert_true(str_is(p.path, "/path") && str_is(p.headers[0].value, "a")); /* the buffer has moved by now */
    feed_all(&p, "\r\n1\r\n", 5, &end);
    assert_int_equal(end, HTTP_REFUSED);
    assert_int_equal(p.status, 413);
    assert_true(str_is(p.path, "/path"));
    http_parser_free(&p);
}

static void test_words(void **state) {
    (void)state;
    strbuf b = {0};
    assert_true(http_list_has(str_of("a, Close ;q=1"), "close"));
    assert_true(http_list_has(str_of("close"), "close"));
    assert_false(http_list_has(str_of("closed, xclose, c lose"), "close"));
    assert_false(http_list_has(str_of(""), "close"));
    assert_true(http_unescape(str_of("a%2Fb+c"), true, &b));
    assert_string_equal(b.p, "a/b c");
    assert_false(http_unescape(str_of("%0"), true, &b));
    assert_false(http_unescape(str_of("%00"), true, &b));
    strbuf_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_split), cmocka_unit_test(test_memory_fails),
                                       cmocka_unit_test(test_buffer_follows_what_came), cmocka_unit_test(test_words),
                                       cmocka_unit_test(test_head_stays_while_the_body_grows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
