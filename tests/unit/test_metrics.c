/* The server's books: what is fed in comes out under each name, and the text is valid Prometheus (the strict reading of all
 * of it is tests/server/test_ops.py's). */
#include "check.h"

#include "server/histogram.h"
#include "server/metrics.h"

static strbuf page;

static void write_page(const metrics *m, const rf_stats *s, const char *model) {
    strbuf_clear(&page);
    metrics_write(m, s, model, 7, &page);
    assert_false(page.failed);
}

/* The value of a sample, by all that stands before it. */
static double sample(const char *name) {
    size_t n = strlen(name);
    for (const char *p = page.p; p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
        if (strncmp(p, name, n) == 0 && p[n] == ' ') return strtod(p + n, NULL);
    fail_msg("no sample %s", name);
    return 0;
}

static request_record record(const char *finish, uint32_t n_prompt, uint32_t n_predicted) {
    return (request_record){.request_id = "r",
                            .finish = finish,
                            .n_prompt = n_prompt,
                            .n_predicted = n_predicted,
                            .n_choices = 1,
                            .queue_us = 500,
                            .prompt_us = 20000,
                            .decode_us = 90000,
                            .ttft_us = 21000,
                            .total_us = 111000,
                            .max_tokens = 32,
                            .http = 200};
}

static void test_histogram(void **state) {
    (void)state;
    static const double le[] = {.001, 1, 10};
    histogram h = histogram_of(le, 3);
    static const double values[] = {0, .001, .0011, 1, 5, 10, 11, -1, 0.0 / 0.0};
    for (size_t i = 0; i < 9; i++) histogram_add(&h, values[i]);
    strbuf b = {0};
    histogram_write(&h, "x_seconds", "Help.", "m=\"a\"", &b);
    assert_string_equal(b.p, "# HELP x_seconds Help.\n# TYPE x_seconds histogram\n"
                             "x_seconds_bucket{m=\"a\",le=\"0.001\"} 3\nx_seconds_bucket{m=\"a\",le=\"1\"} 5\n"
                             "x_seconds_bucket{m=\"a\",le=\"10\"} 7\nx_seconds_bucket{m=\"a\",le=\"+Inf\"} 8\n"
                             "x_seconds_sum{m=\"a\"} 26.002099999999999\nx_seconds_count{m=\"a\"} 8\n");
    strbuf_clear(&b);
    histogram empty = histogram_of(le, 1);
    histogram_write(&empty, "y", "H.", "", &b);
    assert_non_null(strstr(b.p, "\ny_bucket{le=\"0.001\"} 0\ny_bucket{le=\"+Inf\"} 0\ny_sum 0\ny_count 0\n"));
    strbuf_free(&b);
}

static void test_requests(void **state) {
    (void)state;
    metrics *m = metrics_new();
    rf_error why = {.code = "request.timeout"};
    request_record r[] = {record("stop", 10, 5), record("length", 20, 10), record("cancelled", 30, 2),
                          record("failed", 40, 0)};
    r[3].error = &why, r[3].http = 503, r[3].prompt_us = 0, r[3].n_cached = 0;
    r[1].n_cached = 16;
    for (int i = 0; i < 5; i++) metrics_started(m);
    for (int i = 0; i < 4; i++) metrics_ended(m, &r[i]);
    metrics_first_token(m, 21000);
    metrics_next_token(m, 30000);
    metrics_next_token(m, 26000);
    rf_stats s = {.running = 1,
                  .waiting = 3,
                  .parallel = 8,
                  .queue = 100,
                  .page_tokens = 64,
                  .pages_total = 40,
                  .pages_used = 10,
                  .pages_cached = 25,
                  .steps = 77,
                  .step_us = 1500000,
                  .tokens_computed = 99,
                  .generated_tokens = 17,
                  .prefix_queries = 60,
                  .prefix_hits = 16,
                  .preemptions = 2,
                  .waited_queue = 4,
                  .waited_kv = 3,
                  .waited_batch = 2,
                  .waited_prefix = 1};
    write_page(m, &s, "tiny");
    static const struct {
        const char *name;
        double value;
    } want[] = {{"rocmforge_requests_started_total", 5},
                {"rocmforge_requests_completed_total", 2},
                {"rocmforge_requests_failed_total", 1},
                {"rocmforge_requests_cancelled_total", 1},
                {"rocmforge_tokens_generated_total", 17},
                {"rocmforge_prompt_tokens_total", 100},
                {"rocmforge_cached_tokens_total", 16},
                {"rocmforge_queue_length", 3},
                {"rocmforge_active_requests", 1},
                {"rocmforge_tokens_per_second", .3},
                {"rocmforge_gpu_retry_attempts_total", 0},
                {"rocmforge_gpu_retry_success_total", 0},
                {"rocmforge_gpu_retry_failed_total", 0},
                {"rocmforge_gpu_retry_attempt_histogram_bucket{le=\"16\"}", 0},
                {"rocmforge_ttft_seconds_bucket{le=\"0.01\"}", 0},
                {"rocmforge_ttft_seconds_bucket{le=\"0.1\"}", 1},
                {"rocmforge_total_duration_seconds_count", 4},
                {"rocmforge_prefill_duration_seconds_count", 3},
                {"rocmforge_prefill_duration_seconds_bucket{le=\"100\"}", 3},
                {"rocmforge_decode_duration_seconds_sum", .27},
                {"rocmforge_wait_total{reason=\"queue\"}", 4},
                {"rocmforge_wait_total{reason=\"kv\"}", 3},
                {"rocmforge_wait_total{reason=\"batch\"}", 2},
                {"rocmforge_wait_total{reason=\"prefix\"}", 1},
                {"rocmforge_request_errors_total{code=\"request.timeout\",status=\"503\"}", 1},
                {"rocmforge_kv_pages{state=\"held\"}", 10},
                {"rocmforge_kv_pages{state=\"cached\"}", 25},
                {"rocmforge_kv_pages{state=\"free\"}", 5},
                {"rocmforge_connections", 7},
                {"vllm:num_requests_running{model_name=\"tiny\"}", 1},
                {"vllm:num_requests_waiting{model_name=\"tiny\"}", 3},
                {"vllm:kv_cache_usage_perc{model_name=\"tiny\"}", .25},
                {"vllm:cache_config_info{model_name=\"tiny\",block_size=\"64\",num_gpu_blocks=\"40\"}", 1},
                {"vllm:prompt_tokens_total{model_name=\"tiny\"}", 100},
                {"vllm:generation_tokens_total{model_name=\"tiny\"}", 17},
                {"vllm:num_preemptions_total{model_name=\"tiny\"}", 2},
                {"vllm:prefix_cache_queries_total{model_name=\"tiny\"}", 60},
                {"vllm:prefix_cache_hits_total{model_name=\"tiny\"}", 16},
                {"vllm:request_success_total{model_name=\"tiny\",finished_reason=\"stop\"}", 1},
                {"vllm:request_success_total{model_name=\"tiny\",finished_reason=\"length\"}", 1},
                {"vllm:request_success_total{model_name=\"tiny\",finished_reason=\"abort\"}", 1},
                {"vllm:request_success_total{model_name=\"tiny\",finished_reason=\"error\"}", 1},
                {"vllm:time_to_first_token_seconds_bucket{model_name=\"tiny\",le=\"0.02\"}", 0},
                {"vllm:time_to_first_token_seconds_bucket{model_name=\"tiny\",le=\"0.04\"}", 1},
                {"vllm:inter_token_latency_seconds_count{model_name=\"tiny\"}", 2},
                {"vllm:inter_token_latency_seconds_sum{model_name=\"tiny\"}", .056},
                {"vllm:e2e_request_latency_seconds_bucket{model_name=\"tiny\",le=\"0.3\"}", 4},
                {"vllm:request_prompt_tokens_sum{model_name=\"tiny\"}", 100},
                {"vllm:request_params_max_tokens_bucket{model_name=\"tiny\",le=\"20\"}", 0},
                {"vllm:request_params_max_tokens_bucket{model_name=\"tiny\",le=\"50\"}", 4},
                {"llamacpp:prompt_tokens_total", 44},
                {"llamacpp:prompt_seconds_total", .06},
                {"llamacpp:tokens_predicted_total", 17},
                {"llamacpp:tokens_predicted_seconds_total", .36},
                {"llamacpp:n_decode_total", 77},
                {"llamacpp:n_tokens_max", 40},
                {"llamacpp:requests_processing", 1},
                {"llamacpp:requests_deferred", 3}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        double got = sample(want[i].name);
        if (got < want[i].value - 1e-9 || got > want[i].value + 1e-9)
            fail_msg("%s is %g, not %g", want[i].name, got, want[i].value);
    }
    assert_true(sample("process_resident_memory_bytes") > 1e5 && sample("process_open_fds") >= 3);
    metrics_totals t = metrics_get_totals(m);
    assert_true(t.started == 5 && t.completed == 2 && t.generated_tokens == 17 && t.prompt_tokens == 100);
    metrics_free(m);
}

/* Labels come from routes, codes and the model's name: any bytes give one valid line; their number is bounded. */
static void test_labels(void **state) {
    (void)state;
    metrics *m = metrics_new();
    rf_stats s = {0};
    char name[128];
    metrics_http(m, "/generate", 200);
    metrics_http(m, "/generate", 200);
    metrics_http(m, "/generate", 400);
    metrics_http(m, NULL, 404);
    metrics_refused(m, 429, "request.queue_full");
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "/a/very/long/route/that/goes/on/and/on/and/on/and/on/%d", i);
        metrics_http(m, name + i % 10, i);
    }
    write_page(m, &s, "a\"b\\c\nd\xff");
    assert_true(sample("rocmforge_http_responses_total{route=\"/generate\",status=\"200\"}") == 2);
    assert_true(sample("rocmforge_http_responses_total{route=\"/generate\",status=\"400\"}") == 1);
    assert_true(sample("rocmforge_http_responses_total{route=\"other\",status=\"404\"}") == 1);
    assert_true(sample("rocmforge_requests_refused_total{code=\"request.queue_full\",status=\"429\"}") == 1);
    assert_true(sample("rocmforge_http_responses_total{route=\"overflow\",status=\"0\"}") > 800);
    assert_true(sample("vllm:num_requests_running{model_name=\"a\\\"b\\\\c\\nd\xef\xbf\xbd\"}") == 0);
    double total = 0;
    for (const char *p = page.p; (p = strstr(p, "\nrocmforge_http_responses_total{")); p++)
        total += strtod(strchr(p, '}') + 1, NULL);
    assert_true(total == 1004);
    metrics_free(m);
}

/* Phases that a request never reached are not counted as ones of no time; n choices share one prompt. */
static void test_phases(void **state) {
    (void)state;
    metrics *m = metrics_new();
    rf_stats s = {0};
    request_record queued = {.finish = "cancelled", .queue_us = 1000, .total_us = 1000, .n_prompt = 9};
    request_record four = record("length", 10, 40);
    four.n_choices = 4;
    metrics_ended(m, &queued);
    metrics_ended(m, &four);
    write_page(m, &s, "m");
    assert_true(sample("rocmforge_prefill_duration_seconds_count") == 1);
    assert_true(sample("rocmforge_decode_duration_seconds_count") == 1);
    assert_true(sample("rocmforge_queue_duration_seconds_count") == 2);
    assert_true(sample("llamacpp:n_tokens_max") == 20);
    assert_true(sample("llamacpp:predicted_tokens_seconds") == 100);
    assert_true(sample("vllm:request_time_per_output_token_seconds_bucket{model_name=\"m\",le=\"0.01\"}") == 1);
    metrics_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_phases),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    strbuf_free(&page);
    return rc;
}
