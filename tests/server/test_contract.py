"""What INTERFACE.md says of every reply, looked at across all routes and dialects at once: ids, errors in their form, statuses,
retry hints, usage, warnings, and that what is not built says so by name."""
import json

import pytest

TEXT = "Once upon a time"
CHAT = {"messages": [{"role": "user", "content": "hi"}]}
GENERATIONS = {  # route: (a request, the name of its limit)
    "/generate": ({"prompt": TEXT}, "max_tokens"), "/generate/stream": ({"prompt": TEXT}, "max_tokens"),
    "/completion": ({"prompt": TEXT}, "n_predict"), "/v1/completions": ({"prompt": TEXT}, "max_tokens"),
    "/v1/chat/completions": (CHAT, "max_tokens")}
EMBEDDINGS = {"/v1/embeddings": {"input": TEXT}, "/embedding": {"content": TEXT}, "/embeddings": {"input": TEXT}}
RERANKS = {path: {"query": TEXT, "documents": [TEXT]} for path in ("/v1/rerank", "/rerank", "/v1/reranking", "/reranking")}
CONTEXT = [("GET", "/context/search?q=x"), ("POST", "/context/messages"), ("GET", "/context/messages"), ("DELETE", "/context/messages?all=true"),
           ("GET", "/context/messages/1"), ("DELETE", "/context/messages/1"), ("GET", "/context/stats")]
OPENAI_FORM = ("/v1/", "/completion", "/tokenize", "/detokenize", "/apply-template", "/infill", "/props", "/slots", "/embedding", "/rerank", "/reranking")
NOT_BUILT = [("POST", "/infill"), ("POST", "/v1/messages"), ("POST", "/v1/messages/count_tokens"),
             ("POST", "/v1/responses"), ("POST", "/api/chat"), ("POST", "/api/generate"), ("GET", "/api/tags"), ("POST", "/api/show"),
             ("GET", "/api/ps"), ("GET", "/api/version"), ("POST", "/api/embed")]


def check_error(r, path, status, code=None, param=None):
    """In the route's form, and with an id; retry hints where a retry helps."""
    assert r.status == status, r.text
    assert r.header("x-request-id") and r.header("content-type").startswith("application/json")
    if path.startswith(OPENAI_FORM):
        error = r.json["error"]
        assert set(error) == {"message", "type", "code", "param"} and error["message"] and error["type"]
    else:
        error = r.json
        assert {"error", "category", "recoverable", "status"} <= set(error) and error["status"] == "error"
        assert error["category"] in ("User", "Model", "Recoverable", "Backend", "Internal") and isinstance(error["recoverable"], bool)
        assert error["recoverable"] == (status in (408, 429, 503))
    assert code is None or error["code"] == code
    assert param is None or error["param"] == param
    assert (r.header("retry-after") is not None) == (status in (429, 503)) == (r.header("retry-after-ms") is not None)


# --- ids ----------------------------------------------------------------------------------------------------------------------
@pytest.mark.smoke
@pytest.mark.parametrize("path", ("/", "/health", "/ready", "/metrics", "/traces", "/models", "/v1/models", "/props", "/slots", "/nothing"))
def test_every_reply_has_an_id(server, path):
    assert server.get(path).header("x-request-id")
    assert server.get(path, headers={"X-Request-Id": "mine.1_-x"}).header("x-request-id") == "mine.1_-x"
    for bad in ("a b", "x" * 129, "a/b", "ä".encode().decode("latin-1").encode("ascii", "ignore").decode() + "%"):
        assert server.get(path, headers={"X-Request-Id": bad}).header("x-request-id") != bad


@pytest.mark.parametrize("path", GENERATIONS)
def test_status_and_cancel_know_every_dialects_requests(server, path):
    body, limit = GENERATIONS[path]
    name = "contract" + path.replace("/", ".")
    r = server.post(path, {**body, limit: 3, "temperature": 0}, headers={"X-Request-Id": name})
    assert r.status == 200 and r.header("x-request-id") == name
    known = server.get(f"/status/{name}").json
    assert known["finished"] is True and len(known["tokens"]) == 3 and isinstance(known["request_id"], int)
    assert server.get(f"/status/{known['request_id']}").json == known == server.post(f"/cancel/{name}").json


# --- usage and warnings ---------------------------------------------------------------------------------------------------------
def last_with_usage(server, path, body):
    if path == "/generate/stream":
        return json.loads(server.events(path, body)[-1])
    return server.post(path, body).json


@pytest.mark.parametrize("path", GENERATIONS)
def test_usage_is_always_told(server, path):
    body, limit = GENERATIONS[path]
    for _ in range(2):
        r = last_with_usage(server, path, {**body, limit: 3, "temperature": 0, "ignore_eos": True})
        assert r["usage"]["completion_tokens"] == 3 and r["usage"]["prompt_tokens"] > 0
        assert r["usage"]["total_tokens"] == r["usage"]["prompt_tokens"] + 3 and r["usage"]["cached_tokens"] >= 0
        assert r["timings"]["predicted_n"] == 3 and r["timings"]["cache_n"] == r["usage"]["cached_tokens"]
    assert r["usage"]["cached_tokens"] > 0


@pytest.mark.smoke
def test_usage_of_embeddings(server):
    usage = server.post("/v1/embeddings", {"input": "a b c"}).json["usage"]
    assert usage == {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3, "cached_tokens": 0}


@pytest.mark.parametrize("path", GENERATIONS)
def test_what_is_ignored_is_told(server, path):
    body, limit = GENERATIONS[path]
    ignored = {"/generate": ("stream", True), "/generate/stream": ("stream", False)}.get(path, ("user", "somebody"))
    r = last_with_usage(server, path, {**body, limit: 2, ignored[0]: ignored[1]})
    assert len(r["warnings"]) == 1 and r["warnings"][0].startswith(ignored[0] + " is ignored")
    assert "warnings" not in last_with_usage(server, path, {**body, limit: 2})


def test_choices_share_one_reading_of_the_prompt(server):
    """What the engine computed for four choices is the prompt once, and each choice's tokens."""
    def computed():
        return float(next(line for line in server.get("/metrics").text.splitlines() if line.startswith("rocmforge_step_tokens_total ")).split()[1])

    ask = {"prompt": [3000 + i for i in range(300)], "max_tokens": 5, "temperature": 1.5, "seed": 4, "n": 4, "ignore_eos": True}
    before = computed()
    r = server.post("/v1/completions", ask).json
    assert len(r["choices"]) == 4 and r["usage"]["prompt_tokens"] == 300 and r["usage"]["completion_tokens"] == 20
    assert 300 + 16 <= computed() - before <= 300 + 4 * (5 + 32)  # at most a page's worth is read again by each


# --- refusals -------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", GENERATIONS)
def test_400_names_the_field(server, path):
    body, limit = GENERATIONS[path]
    for field, value in (("temperature", "x"), ("temperature", -1), (limit, "x"), ("top_p", 2), ("seed", []), ("no_such_field", 1)):
        r = server.post(path, {**body, field: value})
        check_error(r, path, 400, "request.field", field)
        assert field in r.text


@pytest.mark.parametrize("path, field, value", (
    ("/v1/chat/completions", "tools", [{"type": "function", "function": {"name": "f"}}]), ("/v1/chat/completions", "tool_choice", "auto"),
    ("/v1/chat/completions", "functions", [{"name": "f"}]), ("/v1/chat/completions", "grammar", 'root ::= "x"'),
    ("/v1/chat/completions", "response_format", {"type": "json_object"}), ("/v1/completions", "grammar", 'root ::= "x"'),
    ("/v1/chat/completions", "mirostat", 2), ("/v1/completions", "suffix", "x"), ("/completion", "grammar", 'root ::= "x"'),
    ("/completion", "json_schema", {"type": "object"}), ("/completion", "mirostat", 2), ("/completion", "dry_multiplier", 0.5)))
def test_what_is_not_built_is_named(server, path, field, value):
    r = server.post(path, {**GENERATIONS[path][0], field: value})
    check_error(r, path, 400)
    message = r.json["error"]["message"]
    assert message.startswith(field) and "yet" in message and " : " not in message and f"{field}: {field}" not in message


def test_images_are_refused_by_name(server):
    r = server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]}]})
    check_error(r, "/v1/", 400, param="messages[0].content[0]")
    assert "images" in r.json["error"]["message"]


@pytest.mark.parametrize("path", [p for p in GENERATIONS if p != "/v1/chat/completions"])
def test_400_context_length(server, path):
    r = server.post(path, {"prompt": [1000] * 1100})
    check_error(r, path, 400, "context_length_exceeded" if path.startswith(OPENAI_FORM) else "request.context_length")
    assert "1100" in r.text and "1024" in r.text


@pytest.mark.parametrize("method, path", NOT_BUILT)
def test_404_of_a_route_to_come_names_it(server, method, path):
    r = server.request(method, path, {} if method == "POST" else None)
    check_error(r, path, 404, "request.not_found")
    assert f"the route {path} is not built yet" in r.text


@pytest.mark.smoke
@pytest.mark.parametrize("method, path", CONTEXT)
def test_404_without_a_context_store_names_the_option(server, method, path):
    r = server.request(method, path, {"text": TEXT} if method == "POST" else None)
    check_error(r, path, 404, "request.not_found")
    assert "--context FILE" in r.text


@pytest.mark.smoke
def test_recall_without_a_context_store_names_the_option(server):
    r = server.post("/v1/chat/completions", {**CHAT, "context": {"recall": 3}})
    check_error(r, "/v1/", 400, "request.field", "context")
    assert "--context FILE" in r.text


@pytest.mark.smoke
@pytest.mark.parametrize("path", [*EMBEDDINGS, *RERANKS])
def test_vectors_and_scores_keep_the_contract(server, path):
    """Ids, kinds of errors, names of fields, warnings: as those of generations. The model has no rank head: that is told first."""
    body, ranks = {**EMBEDDINGS, **RERANKS}[path], path in RERANKS
    r = server.post(path, body, headers={"X-Request-Id": "mine"})
    assert r.header("x-request-id") == "mine" and r.status == (400 if ranks else 200)
    check_error(server.get(path), path, 405)
    check_error(server.post(path, b"{"), path, 400, "request.unsupported" if ranks else "request.json")
    if ranks:
        return check_error(r, path, 400, "request.unsupported", "model")
    check_error(server.post(path, {**body, "temperature": 1}), path, 400, "request.field", "temperature")
    check_error(server.post(path, body, headers={"Content-Type": "text/plain"}), path, 415)
    if path == "/v1/embeddings":
        assert server.post(path, {**body, "user": "me"}).json["warnings"][0].startswith("user is ignored")


@pytest.mark.smoke
def test_404_of_no_route_and_no_request(server):
    for path in ("/nothing", "/v1/nothing", "/apis", "/status/nobody", "/v1/models/other"):
        r = server.get(path)
        check_error(r, path, 404)
        assert "not built yet" not in r.text


@pytest.mark.smoke
def test_405_says_what_is_allowed(server):
    for method, path, allowed in (("GET", "/generate", "POST"), ("POST", "/health", "GET"), ("GET", "/v1/chat/completions", "POST"),
                                  ("PUT", "/v1/models", "GET"), ("DELETE", "/completion", "POST")):
        r = server.request(method, path)
        check_error(r, path, 405)
        assert allowed in r.header("allow").split(", ")


def test_401_413_415(serve):
    s = serve("-c", 256, "--api-key", "k3y", "--max-body", "4K")
    for path, body in {**EMBEDDINGS, **RERANKS}.items():
        check_error(s.post(path, body), path, 401)
    for method, path in CONTEXT:
        check_error(s.request(method, path, {} if method == "POST" else None), path, 401)
    for path, (body, _) in GENERATIONS.items():
        check_error(s.post(path, body), path, 401)
        key = {"Authorization": "Bearer k3y"}
        check_error(s.post(path, {**body, "prompt": "x" * 5000}, headers=key), path, 413)
        check_error(s.post(path, body, headers={**key, "Content-Type": "text/plain"}), path, 415)


def test_429_and_503(serve):
    """A full queue, then a server that ends: every dialect is told when to come again."""
    s = serve("-c", 1024, "--parallel", 1, "--queue", 1, "--drain-seconds", 60)
    with s.raw() as running, s.raw() as waiting, s.raw() as kept:
        for c in running, waiting:
            raw = json.dumps({"prompt": TEXT, "max_tokens": 1000, "ignore_eos": True}).encode()
            c.send(b"POST /generate/stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(raw) + raw)
            assert c.head().status == 200
            s.wait_until(lambda: s.get("/health").json["checks"]["requests"]["active"] == 1, "a running request")
        s.wait_until(lambda: s.get("/health").json["checks"]["requests"]["queued"] == 1, "a queued request")
        for path, (body, _) in GENERATIONS.items():
            check_error(s.post(path, body), path, 429)
        for path, body in EMBEDDINGS.items():
            check_error(s.post(path, body), path, 429)
        path, raw = "/v1/chat/completions", json.dumps(CHAT).encode()
        kept.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(raw))
        s.wait_until(lambda: s.get("/health").json["connections"] >= 4, "the connection that is kept")
        s.signal()
        s.wait_until(lambda: s.get("/ready").status == 503 if s.process.poll() is None else True, "readiness ends")
        kept.send(raw)
        check_error(kept.reply(), path, 503, "server.draining")
        for c in running, waiting:
            c.sock.close()
