"""Traces sent to a collector over OTLP/HTTP: a real HTTP server that keeps what it is sent, and misbehaves when told to."""
import http.server
import json
import re
import threading
import time

import pytest

SECRET = "zanzibar-quokka"


class Collector:
    """collector.answers: statuses for the next posts, then 200. collector.posts: (path, headers, body) of each."""

    def __init__(self):
        self.posts, self.answers, self.hold = [], [], threading.Event()
        self.hold.set()
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.hold.wait(60)
                status = collector.answers.pop(0) if collector.answers else 200
                collector.posts.append((self.path, {k.lower(): v for k, v in self.headers.items()}, json.loads(body), status))
                self.send_response(status)
                if status == 429:
                    self.send_header("Retry-After", "1")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def spans(self):
        """All spans of posts that were taken."""
        return [span for _, _, body, status in self.posts if status == 200 for resource in body["resourceSpans"]
                for scope in resource["scopeSpans"] for span in scope["spans"]]

    def close(self):
        self.hold.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def collector():
    c = Collector()
    yield c
    c.close()


def until(what, seconds=60):
    end = time.monotonic() + seconds
    while not (got := what()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return got


def ask(server, **headers):
    r = server.post("/generate", {"prompt": SECRET + " says", "max_tokens": 3, "temperature": 0}, headers=headers)
    assert r.status == 200
    return r.json


def exported(server):
    text = server.get("/metrics").text
    return {k: int(v) for k, v in re.findall(r'rocmforge_traces_exported_total\{result="(\w+)"\} (\d+)', text)}


def options(collector, **more):
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url + "/", **more}


@pytest.mark.smoke
def test_spans_arrive(serve, collector):
    s = serve("-c", 256, "--trace-sample", "1",
              env=options(collector, OTEL_EXPORTER_OTLP_HEADERS="x-token=a%20b%2Cc,x-tenant = t1", OTEL_SERVICE_NAME="front \"desk\""))
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    ask(s, traceparent=f"00-{trace}-{parent}-01")
    ask(s)
    until(lambda: len(collector.spans()) == 8)
    path, headers, body, _ = collector.posts[0]
    assert path == "/v1/traces" and headers["content-type"] == "application/json"
    assert headers["x-token"] == "a b,c" and headers["x-tenant"].strip() == "t1"
    resource, = body["resourceSpans"]
    assert {"key": "service.name", "value": {"stringValue": 'front "desk"'}} in resource["resource"]["attributes"]
    for span in collector.spans():
        assert {"traceId", "spanId", "parentSpanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano", "attributes",
                "status"} <= set(span)
        assert not any("_" in key for key in span)
        assert isinstance(span["startTimeUnixNano"], str) and int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
    mine = [span for span in collector.spans() if span["traceId"] == trace]
    assert len(mine) == 4 and [span["parentSpanId"] for span in mine].count(parent) == 1
    assert len({span["spanId"] for span in collector.spans()}) == 8
    assert SECRET not in json.dumps([post[2] for post in collector.posts])
    kept = {x["span_id"] for r in s.get("/traces").json["resource_spans"] for sc in r["scope_spans"] for x in sc["spans"]}
    assert kept == {span["spanId"] for span in collector.spans()}  # /traces tells the same
    until(lambda: exported(s) == {"sent": 2, "dropped": 0, "failed": 0})


def test_tried_again_and_given_up(serve, collector):
    s = serve("-c", 256, "--trace-sample", "1", env=options(collector))
    collector.answers = [503, 429]
    ask(s)
    until(lambda: exported(s)["sent"] == 1)
    assert [post[3] for post in collector.posts] == [503, 429, 200]
    assert collector.posts[0][2] == collector.posts[2][2]
    collector.answers = [400]
    ask(s)
    until(lambda: exported(s)["failed"] == 1)
    assert len(collector.posts) == 4  # a refusal is final
    assert "HTTP status 400" in s.stderr()


def test_a_stuck_collector_holds_up_nobody(serve, collector):
    s = serve("-c", 256, "--trace-sample", "1", env=options(collector))
    collector.hold.clear()
    texts = {ask(s)["text"] for _ in range(20)}
    assert len(texts) == 1 and exported(s)["sent"] == 0
    assert s.get("/health").json["status"] == "healthy"
    collector.hold.set()
    until(lambda: exported(s)["sent"] == 20)


def test_what_waits_is_sent_at_the_end(start, collector):
    s = start("-c", 256, "--trace-sample", "1", env=options(collector))
    ask(s)
    s.end()
    assert len(collector.spans()) == 4


def test_nobody_listens(start):
    s = start("-c", 256, "--trace-sample", "1", env={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})
    ask(s)
    s.end()  # in time, with status 0
    assert "traces could not be exported" in s.stderr()


@pytest.mark.parametrize("env", [{"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://x"},
                                 {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_HEADERS": "a=b%0aX: 1"}])
def test_bad_settings_are_refused(binary, smollm2, env):
    import os
    import subprocess
    done = subprocess.run([str(binary), "serve", str(smollm2), "--port", "0", "-c", "256"], env={**os.environ, **env}, capture_output=True,
                          timeout=60)
    assert done.returncode == 2 and b"error[usage.range]: OTEL_EXPORTER_OTLP" in done.stderr
