"""/health, /ready, /metrics, /traces, the page, and the log: valid, and true: each figure against what a client counted."""
import json
import re
import signal
import threading
import time

import pytest

from prometheus import Metrics

MODEL = "SmolLM2-135M-Instruct.Q4_1"
SECRET = "zanzibar-quokka"  # stands in prompts; nowhere else


def metrics(server):
    r = server.get("/metrics")
    assert r.status == 200
    assert r.header("content-type").startswith("text/plain; version=0.0.4")
    return Metrics(r.text)


def until(what, seconds=60):
    """Waits for what() to be true: a hang ends the test, speed does not."""
    end = time.monotonic() + seconds
    while not (got := what()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return got


def native(server, prompt="Once upon a time", **more):
    return server.post("/generate", {"prompt": prompt, "max_tokens": 4, "temperature": 0, **more})


def start_long(server, **more):
    """A generation that goes on until it is cancelled or the context is full: (connection, request id)."""
    c = server.raw()
    body = json.dumps({"prompt": "Count: one, two, three,", "max_tokens": 900, "temperature": 0, "ignore_eos": True, **more}).encode()
    c.send(b"POST /generate/stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert c.head().status == 200
    while True:
        for line in c.chunk().split(b"\n"):
            if line.startswith(b"data: "):
                return c, json.loads(line[6:])["request_id"]


# --- metrics ------------------------------------------------------------------------------------------------------------

ROCMFORGE_COUNTERS = """requests_started requests_completed requests_failed requests_cancelled tokens_generated
    gpu_retry_attempts gpu_retry_success gpu_retry_failed""".split()
ROCMFORGE_HISTOGRAMS = "prefill_duration_seconds decode_duration_seconds total_duration_seconds ttft_seconds".split()
VLLM_GAUGES = "num_requests_running num_requests_waiting kv_cache_usage_perc cache_config_info".split()
VLLM_COUNTERS = """prompt_tokens generation_tokens request_success num_preemptions prefix_cache_queries
    prefix_cache_hits""".split()
VLLM_HISTOGRAMS = "time_to_first_token_seconds inter_token_latency_seconds e2e_request_latency_seconds".split()
LLAMACPP = {"prompt_tokens_total": "counter", "prompt_seconds_total": "counter", "tokens_predicted_total": "counter",
            "tokens_predicted_seconds_total": "counter", "n_decode_total": "counter", "n_tokens_max": "gauge",
            "n_busy_slots_per_decode": "gauge", "prompt_tokens_seconds": "gauge", "predicted_tokens_seconds": "gauge",
            "requests_processing": "gauge", "requests_deferred": "gauge"}


@pytest.mark.smoke
def test_metric_names(server):
    m = metrics(server)
    kinds = {name: family.type for name, family in m.families.items()}
    for name in ROCMFORGE_COUNTERS:
        assert kinds[f"rocmforge_{name}_total"] == "counter"
    for name in ROCMFORGE_HISTOGRAMS:
        assert kinds[f"rocmforge_{name}"] == "histogram"
        assert m.bounds(f"rocmforge_{name}") == ["0.001", "0.01", "0.1", "1", "10", "100", "+Inf"]
    assert m.bounds("rocmforge_gpu_retry_attempt_histogram") == ["1", "2", "4", "8", "16", "+Inf"]
    for name in ("queue_length", "active_requests", "tokens_per_second"):
        assert kinds[f"rocmforge_{name}"] == "gauge"
    for names, kind, suffix in (VLLM_GAUGES, "gauge", ""), (VLLM_COUNTERS, "counter", "_total"), (VLLM_HISTOGRAMS, "histogram", ""):
        for name in names:
            assert kinds[f"vllm:{name}{suffix}"] == kind
            assert all(dict(key[1])["model_name"] == MODEL for key in m.families[f"vllm:{name}{suffix}"].samples)
    for name, kind in LLAMACPP.items():
        assert kinds[f"llamacpp:{name}"] == kind
    assert m("vllm:cache_config_info", model_name=MODEL, block_size="32", num_gpu_blocks="128") == 1
    assert m("process_resident_memory_bytes") > 1 << 20 and m("process_open_fds") > 5
    for reason in ("queue", "kv", "batch", "prefix"):
        assert m("rocmforge_wait_total", reason=reason) >= 0


class Book:
    """What a client counts of its own requests."""

    def __init__(self):
        self.started = self.completed = self.cancelled = self.prompt = self.cached = self.tokens = self.first = 0
        self.finish = {"stop": 0, "length": 0, "abort": 0}

    def add(self, usage, finish, choices=1):
        self.started += 1
        self.completed += 1
        self.prompt += usage["prompt_tokens"]
        self.cached += usage["cached_tokens"]
        self.tokens += usage["completion_tokens"]
        self.first += 1
        self.finish["stop" if finish in ("stop", "eos") else finish] += 1


def run_mixed(server, book):
    """Requests of every dialect and kind of end."""
    for prompt in ("Once upon a time", "The sea is", "Once upon a time"):
        r = native(server, prompt).json
        book.add(r["usage"], r["finish_reason"])
    r = server.post("/v1/completions", {"prompt": "Two times two is", "max_tokens": 5, "temperature": 0, "n": 2, "seed": 1}).json
    book.add(r["usage"], r["choices"][0]["finish_reason"])
    r = server.post("/v1/completions", {"prompt": "a b c d e f g", "max_tokens": 9, "temperature": 0, "stop": [" h"]}).json
    book.add(r["usage"], r["choices"][0]["finish_reason"])
    events = server.events("/v1/completions", {"prompt": "The sea is", "max_tokens": 6, "temperature": 0, "stream": True,
                                               "stream_options": {"include_usage": True}})
    parts = [json.loads(e) for e in events if e != "[DONE]"]
    ends = [p["choices"][0]["finish_reason"] for p in parts if p["choices"] and p["choices"][0]["finish_reason"]]
    book.add(parts[-1]["usage"], ends[-1])
    c, request_id = start_long(server)
    r = server.post(f"/cancel/{request_id}").json
    while c.chunk():
        pass
    c.sock.close()
    done = until(lambda: (s := server.get(f"/status/{request_id}").json)["finished"] and s)
    assert done["finish_reason"] == "cancelled"
    book.started += 1
    book.cancelled += 1
    book.first += 1
    book.finish["abort"] += 1
    book.tokens += len(done["tokens"])
    return r


def test_counters_are_what_a_client_counted(start):
    server = start("-c", 1024, "--parallel", 4)
    book = Book()
    run_mixed(server, book)
    for body in b"{", b"[]", b'{"prompt": 1, "max_tokens": 3}', b'{"prompt":"x","temperature":9}':
        assert server.post("/generate", body).status == 400
    assert server.get("/nowhere").status == 404
    assert server.get("/generate").status == 405
    until(lambda: metrics(server)("rocmforge_active_requests") == 0)
    m = metrics(server)
    vllm = {"model_name": MODEL}
    assert m("rocmforge_requests_started_total") == book.started
    assert m("rocmforge_requests_completed_total") == book.completed
    assert m("rocmforge_requests_cancelled_total") == book.cancelled == 1
    assert m("rocmforge_requests_failed_total") == 0
    for reason, n in book.finish.items():
        assert m("vllm:request_success_total", finished_reason=reason, **vllm) == n, reason
    assert book.finish["stop"] > 0 and book.finish["length"] > 0
    assert m("rocmforge_prompt_tokens_total") >= book.prompt  # the cancelled one's prompt, too
    assert m("rocmforge_cached_tokens_total") == book.cached
    for name, labels in ("rocmforge_tokens_generated_total", {}), ("vllm:generation_tokens_total", vllm), ("llamacpp:tokens_predicted_total", {}):
        assert abs(m(name, **labels) - book.tokens) <= 1, name  # a token made while the cancel was under way
    for name, labels in ("rocmforge_ttft_seconds_count", {}), ("vllm:time_to_first_token_seconds_count", vllm):
        assert m(name, **labels) == book.first
    for name, labels in ("rocmforge_total_duration_seconds_count", {}), ("vllm:e2e_request_latency_seconds_count", vllm):
        assert m(name, **labels) == book.started
    assert m("rocmforge_http_responses_total", route="/generate", status="200") == 3
    assert m("rocmforge_http_responses_total", route="/generate", status="400") == 4
    assert m("rocmforge_http_responses_total", route="/v1/completions", status="200") == 3
    assert m("rocmforge_http_responses_total", route="/cancel/{id}", status="200") == 1
    assert sum(v for k, v in m.families["rocmforge_requests_refused_total"].samples.items() if ("status", "400") in k[1]) == 4
    assert m("llamacpp:n_decode_total") > 0 and m("llamacpp:n_busy_slots_per_decode") >= 1
    assert m("rocmforge_tokens_per_second") > 0
    h = server.get("/health").json
    assert h["totals"]["started"] == book.started and h["totals"]["cancelled"] == 1
    assert h["checks"]["requests"] == {"active": 0, "queued": 0}
    server.end()


def test_why_requests_waited(start):
    server = start("-c", 1024, "--parallel", 1, "--queue", 2)
    c, first = start_long(server)
    replies = []
    threads = [threading.Thread(target=lambda: replies.append(native(server, "Hello there"))) for _ in range(2)]
    for t in threads:
        t.start()
    until(lambda: metrics(server)("rocmforge_queue_length") == 2)
    m = metrics(server)
    assert m("rocmforge_active_requests") == m("vllm:num_requests_running", model_name=MODEL) == m("llamacpp:requests_processing") == 1
    assert m("vllm:num_requests_waiting", model_name=MODEL) == m("llamacpp:requests_deferred") == 2
    h = server.get("/health")
    assert h.status == 200 and h.json["status"] == "degraded" and "queue" in h.json["reason"]
    refused = native(server)
    assert refused.status == 429 and refused.header("retry-after")
    server.post(f"/cancel/{first}")
    for t in threads:
        t.join()
    c.sock.close()
    assert [r.status for r in replies] == [200, 200]
    m = until(lambda: (m := metrics(server))("rocmforge_active_requests") == 0 and m)
    assert m("rocmforge_wait_total", reason="batch") + m("rocmforge_wait_total", reason="queue") >= 2
    assert m("rocmforge_requests_refused_total", code="request.queue_full", status="429") == 1
    assert m("rocmforge_requests_started_total") == 3  # what was refused did not start
    server.end()


def test_prefix_cache_counters(server):
    before = metrics(server)
    prompt = "It was a bright cold day in April, and the clocks were striking thirteen. " * 6
    first, second = native(server, prompt).json, native(server, prompt).json
    assert second["usage"]["cached_tokens"] > first["usage"]["cached_tokens"] and second["text"] == first["text"]
    after = metrics(server)
    hits = after("vllm:prefix_cache_hits_total", model_name=MODEL) - before("vllm:prefix_cache_hits_total", model_name=MODEL)
    queries = after("vllm:prefix_cache_queries_total", model_name=MODEL) - before("vllm:prefix_cache_queries_total", model_name=MODEL)
    assert hits == first["usage"]["cached_tokens"] + second["usage"]["cached_tokens"]
    assert hits < queries <= first["usage"]["prompt_tokens"] + second["usage"]["prompt_tokens"]


def test_labels_of_a_strange_name(serve):
    name = 'a"b\\c\nd\u00e9'
    s = serve("-c", 256, "--alias", name)
    m = metrics(s)
    assert m("vllm:num_requests_running", model_name=name) == 0


# --- health and the page ------------------------------------------------------------------------------------------------

@pytest.mark.smoke
def test_health(server):
    r = server.get("/health")
    h = r.json
    assert r.status == 200 and h["status"] == "healthy" and h["service"] == "rocmforge" and h["version"]
    assert h["checks"]["engine"] == {"running": True, "model_loaded": True}
    assert h["checks"]["gpu"]["available"] is False and h["checks"]["gpu"]["error"]
    assert set(h["checks"]["requests"]) == {"active", "queued"}
    cache = h["checks"]["cache"]
    assert cache["pages_used"] + cache["pages_cached"] + cache["pages_free"] == cache["pages_total"] == 128
    assert "active_sequences" in cache
    memory = cache["memory"]
    assert memory["bytes"] == memory["page_bytes"] * 128 == memory["bytes_per_token"] * 4096
    assert 0 <= memory["fragmentation"] <= 1 and 0 <= memory["efficiency"] <= 1 and memory["page_table_bytes"] > 0
    assert h["device"]["kind"] == "cpu" and h["device"]["reason"]
    assert h["limits"]["context"] == 1024 and h["limits"]["parallel"] == 4
    assert h["draining"] is False and h["uptime_seconds"] >= 0 and h["model"] == MODEL
    r = server.get("/ready")
    assert r.status == 200 and r.json == {"ready": True, "service": "rocmforge"}


def test_draining_is_told(start):
    server = start("-c", 1024)
    c, _ = start_long(server)
    server.process.send_signal(signal.SIGTERM)
    r = until(lambda: (r := server.get("/ready")).status == 503 and r)
    assert r.json["ready"] is False and "drain" in r.json["reason"] and r.header("retry-after") and r.header("retry-after-ms")
    h = server.get("/health")
    assert h.status == 200 and h.json["draining"] is True and h.json["status"] == "degraded"
    assert native(server).status == 503
    assert metrics(server)("rocmforge_active_requests") == 1
    c.sock.close()  # the last reader leaves: nothing runs any more
    server.process.wait(60)
    server.end()


@pytest.mark.smoke
def test_key_guards_all_but_health(serve):
    s = serve("-c", 256, "--api-key", "k3y")
    for path in ("/health", "/ready"):
        assert s.get(path).status == 200
    for path in ("/", "/metrics", "/traces"):
        assert s.get(path).status == 401
        assert s.get(path, headers={"Authorization": "Bearer k3y"}).status == 200


def test_page(serve):
    s = serve("-c", 256, "--alias", "<script>alert('x')</script>&\"")
    r = s.get("/")
    assert r.status == 200 and r.header("content-type") == "text/html; charset=utf-8"
    policy = r.header("content-security-policy")
    nonce = re.search(r"script-src 'nonce-([0-9a-f]{32})'", policy)[1]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert re.findall(r"<script([^>]*)>", r.text) == [f" nonce={nonce}"]
    assert re.findall(r"<style([^>]*)>", r.text) == [f" nonce={nonce}"]
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;" in r.text
    assert not re.search(r"https?://|\bsrc=|<link|@import|url\(|\bon\w+=|\bstyle=", r.text)  # stands alone, within its policy
    assert "prefers-color-scheme:dark" in r.text
    for path in ("/generate", "/v1/chat/completions", "/completion", "/metrics"):
        assert path in r.text
    figures = dict(re.findall(r"<span data-v=([\w.]+)>([^<]*)</span>", r.text))
    assert figures["limits.context"] == "256" and figures["device.name"]  # there without JavaScript
    h = s.get("/health").json
    for path in re.findall(r"data-(?:v|max)=([\w.]+)", r.text):  # and every path that the script looks up is there
        at = h
        for key in path.split("."):
            at = at[key]
    assert s.get("/").header("content-security-policy") != policy
    assert s.request("HEAD", "/").status == 200


# --- traces -------------------------------------------------------------------------------------------------------------

def spans(server, query=""):
    r = server.get("/traces" + query)
    assert r.status == 200 and r.header("content-type").startswith("application/json")
    resource, = r.json["resource_spans"]
    names = {a["key"]: a["value"]["string_value"] for a in resource["resource"]["attributes"]}
    assert names["service.name"] and names["service.version"]
    scope, = resource["scope_spans"]
    return scope["spans"]


def attributes(span):
    return {a["key"]: next(iter(a["value"].values())) for a in span["attributes"]}


def test_traces(serve):
    s = serve("-c", 512, "--trace-sample", "1", "--max-traces", "3")
    assert spans(s) == []
    for i in range(4):
        r = s.post("/generate", {"prompt": SECRET + " says", "max_tokens": 4, "temperature": 0.5, "top_k": 7}, headers={"X-Request-Id": f"mine-{i}"})
        assert r.status == 200
    found = spans(s)
    roots = [x for x in found if not x["parent_span_id"]]
    assert [attributes(x)["request.id"] for x in roots] == ["mine-1", "mine-2", "mine-3"]  # the newest three
    root = roots[-1]
    mine = {x["name"]: x for x in found if x["trace_id"] == root["trace_id"]}
    assert set(mine) == {f"text_completion {MODEL}", "queue", "prefill", "decode"}
    begin, end = int(root["start_time_unix_nano"]), int(root["end_time_unix_nano"])
    assert abs(begin / 1e9 - time.time()) < 300 and begin < end
    for x in found:
        assert re.fullmatch("[0-9a-f]{32}", x["trace_id"]) and re.fullmatch("[0-9a-f]{16}", x["span_id"])
    at = begin
    for name in ("queue", "prefill", "decode"):
        x = mine[name]
        assert x["parent_span_id"] == root["span_id"] and x["kind"] == 1
        assert at <= int(x["start_time_unix_nano"]) <= int(x["end_time_unix_nano"]) <= end
        at = int(x["end_time_unix_nano"])
    a = attributes(root)
    assert a["temperature"] == 0.5 and a["max.tokens"] == "4" and int(a["prompt.length"]) > 2
    assert a["gen_ai.operation.name"] == "text_completion" and a["gen_ai.usage.output_tokens"] == "4"
    assert a["http.route"] == "/generate" and root["kind"] == 2 and root["status"]["code"] == 0
    assert SECRET not in s.get("/traces").text and SECRET not in s.get("/metrics").text and SECRET not in s.stderr()
    assert len(spans(s, "?limit=1")) == 4 and spans(s, "?limit=0") == []
    for bad in ("limit=x", "limit=-1", "limit=", "limit=99999999999", "clear=maybe"):
        assert s.get(f"/traces?{bad}").status == 400
    assert len(spans(s, "?limit=2&clear=true")) == 8
    assert spans(s) == []


def test_traceparent(serve):
    s = serve("-c", 512, "--trace-sample", "0")
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    for value in (None, f"00-{trace}-{parent}-00", "00-xyz", f"00-{trace.upper()}-{parent}-01", "x" * 300):
        assert s.post("/generate", {"prompt": "a", "max_tokens": 1}, headers={"traceparent": value}).status == 200
    assert spans(s) == []
    assert s.post("/generate", {"prompt": "a", "max_tokens": 1}, headers={"traceparent": f"00-{trace}-{parent}-01"}).status == 200
    found = spans(s)
    assert {x["trace_id"] for x in found} == {trace}
    assert [x["parent_span_id"] for x in found].count(parent) == 1


def test_older_names_of_trace_options(serve):
    s = serve("-c", 256, env={"ROCMORGE_TRACE_SAMPLE_RATE": "1", "ROCFORGE_MAX_TRACES": "2"})
    for _ in range(3):
        assert s.post("/generate", {"prompt": "a", "max_tokens": 1}).status == 200
    assert len({x["trace_id"] for x in spans(s)}) == 2
