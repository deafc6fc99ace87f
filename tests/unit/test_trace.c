/* Traces: who is sampled, ids and parents, times of the phases, both spellings of OTLP JSON. Sending them is tested in
 * tests/server/test_ops.py, against a collector. */
#include "check.h"

#include "base/json.h"
#include "server/trace.h"
#include "server/trace_own.h"

static const char parent[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

static traces *open_traces(double sample, uint32_t most) {
    rf_error e;
    traces *t = traces_new(&(trace_options){.sample = sample, .most = most, .version = "9.9"}, &e);
    assert_non_null(t);
    return t;
}

static request_record record(const char *traceparent) {
    return (request_record){.request_id = "req-1",
                            .route = "/v1/chat/completions",
                            .operation = "chat",
                            .model = "tiny",
                            .response_id = "chatcmpl-1",
                            .traceparent = traceparent,
                            .received_unix_ns = 1000000000,
                            .queue_us = 2000,
                            .prompt_us = 30000,
                            .decode_us = 60000,
                            .ttft_us = 35000,
                            .total_us = 96000,
                            .n_prompt = 11,
                            .n_cached = 4,
                            .n_predicted = 7,
                            .n_choices = 1,
                            .waited_for = RF_WAIT_BATCH,
                            .finish = "stop",
                            .http = 200,
                            .max_tokens = 64,
                            .temperature = 0.5,
                            .top_p = 1,
                            .top_k = 40,
                            .seed = 42};
}

/* The spans of all traces: a new reference. */
static json_t *spans(traces *t, uint32_t limit, bool clear) {
    strbuf b = {0};
    traces_write(t, limit, clear, &b);
    json_error_t why;
    json_t *v = json_loadb(b.p, b.n, JSON_REJECT_DUPLICATES, &why);
    if (!v) fail_msg("%s: %s", why.text, b.p);
    json_t *resource = json_array_get(json_object_get(v, "resource_spans"), 0);
    json_t *scope = json_array_get(json_object_get(resource, "scope_spans"), 0);
    json_t *out = json_incref(json_object_get(scope, "spans"));
    json_decref(v);
    strbuf_free(&b);
    return out;
}

static size_t count(traces *t) {
    json_t *v = spans(t, UINT32_MAX, false);
    size_t n = json_array_size(v);
    json_decref(v);
    return n;
}

static const char *text(const json_t *span, const char *key) { return json_string_value(json_object_get(span, key)); }

static const json_t *span_named(const json_t *all, const char *name) {
    for (size_t i = 0; i < json_array_size(all); i++)
        if (strcmp(text(json_array_get(all, i), "name"), name) == 0) return json_array_get(all, i);
    fail_msg("no span %s", name);
    return NULL;
}

static const json_t *attribute(const json_t *span, const char *key) {
    const json_t *list = json_object_get(span, "attributes");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(text(json_array_get(list, i), "key"), key) == 0)
            return json_object_get(json_array_get(list, i), "value");
    return NULL;
}

static void test_spans(void **state) {
    (void)state;
    traces *t = open_traces(0, 10);
    request_record r = record(parent);
    traces_add(t, &r);
    json_t *v = spans(t, 5, false);
    assert_int_equal(json_array_size(v), 4);
    const json_t *root = span_named(v, "chat tiny"), *queue = span_named(v, "queue"),
                 *prefill = span_named(v, "prefill"), *decode = span_named(v, "decode");
    assert_string_equal(text(root, "trace_id"), "0af7651916cd43dd8448eb211c80319c");
    assert_string_equal(text(root, "parent_span_id"), "b7ad6b7169203331");
    assert_int_equal(json_integer_value(json_object_get(root, "kind")), 2);
    const json_t *phases[] = {queue, prefill, decode};
    for (int i = 0; i < 3; i++) {
        assert_string_equal(text(phases[i], "trace_id"), text(root, "trace_id"));
        assert_string_equal(text(phases[i], "parent_span_id"), text(root, "span_id"));
        assert_string_not_equal(text(phases[i], "span_id"), text(root, "span_id"));
        assert_int_equal(strlen(text(phases[i], "span_id")), 16);
        assert_int_equal(json_integer_value(json_object_get(phases[i], "kind")), 1);
    }
    assert_string_equal(text(root, "start_time_unix_nano"), "1000000000");
    assert_string_equal(text(root, "end_time_unix_nano"), "1096000000");
    assert_string_equal(text(queue, "start_time_unix_nano"), "1003000000");
    assert_string_equal(text(queue, "end_time_unix_nano"), "1005000000");
    assert_string_equal(text(prefill, "end_time_unix_nano"), "1035000000");
    assert_string_equal(text(decode, "start_time_unix_nano"), "1035000000");
    assert_string_equal(text(decode, "end_time_unix_nano"), "1095000000");
    assert_string_equal(text(attribute(root, "request.id"), "string_value"), "req-1");
    assert_string_equal(text(attribute(root, "prompt.length"), "int_value"), "11");
    assert_string_equal(text(attribute(root, "max.tokens"), "int_value"), "64");
    assert_true(json_real_value(json_object_get(attribute(root, "temperature"), "double_value")) == 0.5);
    assert_string_equal(text(attribute(root, "gen_ai.operation.name"), "string_value"), "chat");
    assert_string_equal(text(attribute(root, "gen_ai.provider.name"), "string_value"), "rocmforge");
    assert_string_equal(text(attribute(root, "gen_ai.usage.output_tokens"), "int_value"), "7");
    assert_string_equal(text(attribute(root, "gen_ai.response.id"), "string_value"), "chatcmpl-1");
    assert_true(json_is_true(json_object_get(attribute(queue, "rocmforge.waited.batch"), "bool_value")));
    assert_null(attribute(queue, "rocmforge.waited.kv"));
    assert_null(attribute(root, "error.type"));
    json_decref(v);
    traces_free(t);
}

static void test_traceparents(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool honoured;
    } cases[] = {
        {parent, true},
        {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", false}, /* said: not sampled */
        {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03", true},
        {"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", true},
        {"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true},
        {"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.more", false},
        {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", false},
        {"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false},
        {"00-00000000000000000000000000000000-b7ad6b7169203331-01", false},
        {"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false},
        {"00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false},
        {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0", false},
        {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0x", false},
        {"00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false},
        {"0g-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false},
        {"", false},
        {"00", false},
        {NULL, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        traces *t = open_traces(0, 4);
        request_record r = record(cases[i].text);
        traces_add(t, &r);
        if ((count(t) == 4) != cases[i].honoured) fail_msg("traceparent %s", cases[i].text);
        traces_free(t);
    }
    /* Malformed: ignored, so that the share decides, with ids of our own; not sampled stays so even at share 1. */
    traces *t = open_traces(1, 4);
    request_record bad = record("00-xyz"), off = record(cases[1].text);
    traces_add(t, &off);
    assert_int_equal(count(t), 0);
    traces_add(t, &bad);
    json_t *v = spans(t, 4, false);
    assert_string_equal(text(json_array_get(v, 0), "parent_span_id"), "");
    assert_int_equal(strspn(text(json_array_get(v, 0), "trace_id"), "0123456789abcdef"), 32);
    json_decref(v);
    traces_free(t);
}

static void test_share(void **state) {
    (void)state;
    traces *t = open_traces(0.25, 10000);
    request_record r = record(NULL);
    for (int i = 0; i < 4000; i++) traces_add(t, &r);
    size_t n = count(t) / 4;
    assert_in_range(n, 800, 1200); /* 7 standard deviations */
    traces_free(t);
    t = open_traces(0, 10);
    for (int i = 0; i < 100; i++) traces_add(t, &r);
    assert_int_equal(count(t), 0);
    traces_free(t);
}

static void test_ring(void **state) {
    (void)state;
    traces *t = open_traces(1, 3);
    char id[8];
    for (int i = 0; i < 5; i++) {
        request_record r = record(NULL);
        snprintf(id, sizeof id, "r%d", i);
        r.request_id = id;
        traces_add(t, &r);
    }
    json_t *v = spans(t, UINT32_MAX, false);
    assert_int_equal(json_array_size(v), 12);
    assert_string_equal(text(attribute(json_array_get(v, 0), "request.id"), "string_value"), "r2");
    json_decref(v);
    v = spans(t, 1, true);
    assert_int_equal(json_array_size(v), 4);
    assert_string_equal(text(attribute(json_array_get(v, 0), "request.id"), "string_value"), "r4");
    json_decref(v);
    assert_int_equal(count(t), 0);
    request_record r = record(NULL);
    traces_add(t, &r);
    assert_int_equal(count(t), 4);
    traces_free(t);
    t = open_traces(1, 0);
    traces_add(t, &r);
    assert_int_equal(count(t), 0);
    traces_free(t);
}

/* Requests that never came to a phase have no span of it, and no phase is outside its request. */
static void test_cut_short(void **state) {
    (void)state;
    rf_error why = {.code = "request.timeout"};
    request_record r = {.request_id = "a\"\\\n\xff",
                        .operation = "chat",
                        .model = "m\"",
                        .received_unix_ns = 5000000000,
                        .queue_us = 900000000,
                        .total_us = 1000,
                        .finish = "failed",
                        .error = &why,
                        .http = 503};
    traces *t = open_traces(1, 4);
    traces_add(t, &r);
    json_t *v = spans(t, 4, false);
    assert_int_equal(json_array_size(v), 2);
    const json_t *root = json_array_get(v, 0);
    assert_string_equal(text(root, "name"), "chat m\"");
    assert_string_equal(text(attribute(root, "request.id"), "string_value"), "a\"\\\n\xef\xbf\xbd");
    assert_string_equal(text(attribute(root, "error.type"), "string_value"), "request.timeout");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(root, "status"), "code")), 2);
    assert_string_equal(text(json_array_get(v, 1), "end_time_unix_nano"), "5001000000");
    json_decref(v);
    traces_free(t);
}

static void test_camel_case(void **state) {
    (void)state;
    trace_entry e = {
        .trace_id = "0af7651916cd43dd8448eb211c80319c", .operation = "chat", .model = "m", .finish = "stop"};
    e.span[SPAN_REQUEST] = (trace_span){.start_ns = 1, .end_ns = 2, .id = "b7ad6b7169203331"};
    const trace_entry *list[] = {&e};
    strbuf b = {0};
    trace_write_entries(list, 1, &trace_camel, "svc", "1.0", &b);
    static const char *const want[] = {
        ("{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":\"service.name\",\"value\":"
         "{\"stringValue\":\"svc\"}}"),
        "\"scopeSpans\":[",
        "\"traceId\":\"0af7651916cd43dd8448eb211c80319c\"",
        "\"spanId\":\"b7ad6b7169203331\"",
        "\"parentSpanId\":\"\"",
        "\"startTimeUnixNano\":\"1\"",
        "\"arrayValue\":{\"values\":[{\"stringValue\":\"stop\"}]}",
        "\"intValue\":\"0\"",
        "\"doubleValue\":0",
        "\"boolValue\":false"};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        if (!strstr(b.p, want[i])) fail_msg("no %s in %s", want[i], b.p);
    assert_null(strchr(b.p, '_') && strstr(b.p, "_spans") ? b.p : NULL);
    json_t *v = json_loadb(b.p, b.n, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(v);
    json_decref(v);
    strbuf_free(&b);
}

static void test_bad_options(void **state) {
    (void)state;
    static const trace_options bad[] = {{.endpoint = "localhost:4318"},
                                        {.endpoint = "file:///etc/passwd"},
                                        {.endpoint = "http://127.0.0.1:1", .headers = "no-equals"},
                                        {.endpoint = "http://127.0.0.1:1", .headers = "a=b%0d%0aEvil: 1"},
                                        {.endpoint = "http://127.0.0.1:1", .headers = "a b=c"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        rf_error e = {0};
        assert_null(traces_new(&bad[i], &e));
        assert_string_equal(e.code, "usage.range");
        assert_true(e.message[0] != 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spans),       cmocka_unit_test(test_traceparents), cmocka_unit_test(test_share),
        cmocka_unit_test(test_ring),        cmocka_unit_test(test_cut_short),    cmocka_unit_test(test_camel_case),
        cmocka_unit_test(test_bad_options),
    };
    json_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
