"""Connections over time: slow and vanishing clients, limits, TLS, keys, pages from elsewhere, start and end of a server."""
import itertools
import os
import resource
import select
import signal
import socket
import ssl
import struct
import subprocess

import pytest

from conftest import TIMEOUT

GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
KEYS = ("k-first-1", "k-second-2")
LONG = {"prompt": "Once upon a time", "max_tokens": 900, "temperature": 0, "stream": True, "ignore_eos": True}


def reset(c):
    """Closes a connection the rude way."""
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.sock.close()


def post_bytes(path, body, *headers):
    head = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


def long_bytes(**more):
    import json
    return post_bytes("/v1/completions", json.dumps({**LONG, **more}).encode())


def active(s):
    return s.get("/health").json["checks"]["requests"]["active"]


def nothing_runs(s):
    s.wait_until(lambda: active(s) == 0, "active 0")


def needs_generation(s):
    if not s.generates():
        pytest.skip("no generation in this build")


# --- clients that come and go ------------------------------------------------------------------------------------------------
REQUEST = long_bytes()
HEAD_ENDS = REQUEST.index(b"\r\n\r\n") + 4


@pytest.mark.smoke
@pytest.mark.parametrize("how", ["reset", "close", "half-close"])
@pytest.mark.parametrize("sent", [0, 1, 3, 20, HEAD_ENDS - 2, HEAD_ENDS, HEAD_ENDS + 5, len(REQUEST) - 1, len(REQUEST)])
def test_peer_leaves_at(server, how, sent):
    c = server.raw()
    c.send(REQUEST[:sent])
    if how == "reset":
        reset(c)
    elif how == "close":
        c.sock.close()
    else:
        c.sock.shutdown(socket.SHUT_WR)
        assert c.rest() == b"" or sent == len(REQUEST)  # nothing is answered to half a request
        c.sock.close()
    nothing_runs(server)
    server.check()


@pytest.mark.smoke
@pytest.mark.parametrize("how", ["reset", "close", "half-close"])
@pytest.mark.parametrize("chunks", [1, 2, 5])
def test_peer_leaves_a_stream(server, how, chunks):
    needs_generation(server)
    with server.raw() as c:
        c.send(REQUEST)
        assert c.head().status == 200
        for _ in range(chunks):
            assert c.chunk()
        if how == "reset":
            reset(c)
        elif how == "close":
            c.sock.close()
        else:
            c.sock.shutdown(socket.SHUT_WR)
            assert b"[DONE]" not in c.rest()  # who ends its side is taken for gone
    nothing_runs(server)
    server.check()


@pytest.mark.smoke
def test_peer_leaves_while_queued(serve):
    """Two clients, one slot: the one that waits leaves, the other's answer is untouched."""
    s = serve("-c", 1024, "--parallel", 1)
    needs_generation(s)
    with s.raw() as first, s.raw() as second:
        first.send(long_bytes(max_tokens=300))
        assert first.head().status == 200
        second.send(long_bytes())
        s.wait_until(lambda: s.get("/health").json["checks"]["requests"]["queued"] == 1, "one waits")
        reset(second)
        text = b""
        while part := first.chunk():
            text += part
    assert text.endswith(b"data: [DONE]\n\n")
    nothing_runs(s)
    s.check()


@pytest.mark.smoke
def test_descriptors_flat(server):
    server.check()
    before = server.open_files()
    for i in range(100):
        c = server.raw()
        c.send(GET[:i % len(GET)])
        if i % 3:
            reset(c)
        c.sock.close()
    server.wait_until(lambda: server.open_files() <= before, "descriptors as before")


@pytest.mark.smoke
def test_answers_leave_before_the_end(server):
    """A client that sends its request and ends its side at once still gets what needs no time."""
    with server.raw() as c:
        c.send(GET * 3)
        c.sock.shutdown(socket.SHUT_WR)
        assert [c.reply().status for _ in range(3)] == [200, 200, 200]
        assert c.closed()


@pytest.mark.smoke
def test_pipelined_behind_a_generation(server):
    needs_generation(server)
    body = b'{"prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}'
    with server.raw() as c:
        c.send(post_bytes("/v1/completions", body) + GET + post_bytes("/v1/completions", body) + GET)
        first, health, second, again = (c.reply() for _ in range(4))
        assert health.json["status"] == again.json["status"] == "healthy"
        assert first.json["choices"][0]["text"] == second.json["choices"][0]["text"]
        assert first.header("x-request-id") != second.header("x-request-id")


@pytest.mark.smoke
def test_flood_behind_a_generation(server):
    """More pipelined bytes than are kept: they wait in the sender, and are answered in their time."""
    needs_generation(server)
    with server.raw() as c:
        c.send(long_bytes(max_tokens=100))
        assert c.head().status == 200
        c.sock.settimeout(TIMEOUT)
        c.send(GET * 5000)
        while c.chunk():
            pass
        for _ in range(5000):
            assert c.reply().status == 200


@pytest.mark.smoke
def test_reset_behind_a_flood(server):
    """The peer goes while it is not read from: seen all the same."""
    needs_generation(server)
    c = server.raw()
    c.send(long_bytes())
    assert c.head().status == 200
    c.send(GET * 5000)
    reset(c)
    nothing_runs(server)


@pytest.mark.smoke
def test_http_1_0_stream_ends_with_the_connection(server):
    needs_generation(server)
    with server.raw() as c:
        c.send(long_bytes(max_tokens=5).replace(b"HTTP/1.1", b"HTTP/1.0"))
        r = c.head()
        assert r.status == 200 and r.header("transfer-encoding") is None and r.header("connection") == "close"
        assert c.rest().endswith(b"data: [DONE]\n\n")


@pytest.mark.smoke
@pytest.mark.parametrize("given, echoed", [("abc-1._Z", True), ("a" * 128, True), ("a" * 129, False), ("a b", False), ("", False),
                                           ("../x", False), ("a%0d", False), ("\u00e9", False), ("<x>", False)])
def test_request_id(server, given, echoed):
    with server.raw() as c:
        c.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: " + given.encode() + b"\r\n\r\n")
        said = c.reply().header("x-request-id")
    assert (said == given) if echoed else (said != given and 0 < len(said) <= 128)


@pytest.mark.smoke
def test_request_ids_differ(server):
    assert len({server.get("/health").header("x-request-id") for _ in range(50)}) == 50


@pytest.mark.smoke
@pytest.mark.parametrize("path, openai", [("/v1/nothing", True), ("/v1", True), ("/props/x", False), ("/nothing", False)])
def test_error_form(server, path, openai):
    error = server.get(path).json
    if openai:
        assert set(error["error"]) == {"message", "type", "code", "param"}
    else:
        assert error["status"] == "error" and error["category"] == "User" and error["recoverable"] is False
        assert isinstance(error["error"], str)


# --- slow clients ------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def hasty(start):
    s = start("-c", 1024, "--parallel", 2, "--header-seconds", 1, "--body-seconds", 30, "--idle-seconds", 2, "--stall-seconds", 1)
    yield s
    s.end()


def test_slow_head(hasty):
    """The limit is absolute: bytes that trickle in do not lengthen it. Nobody else waits."""
    text = GET[:-2] + b"A: " + b"b" * 5000
    slow = [(hasty.raw(), 3 * i + 1) for i in range(20)]
    for c, n in slow:
        c.send(text[:n])
    rounds = 0
    while select.select([c.sock for c, _ in slow], [], [], 0.1)[0] == []:
        for c, n in slow:
            c.send(text[n + rounds:n + rounds + 1])
        rounds += 1
        assert hasty.get("/health").status == 200
    for c, _ in slow:
        assert c.reply().status == 408 and c.closed()
        c.sock.close()


def test_slow_body(hasty):
    with hasty.raw() as c:
        c.send(post_bytes("/health", b" " * 4000)[:-4000])
        while select.select([c.sock], [], [], 0.2)[0] == []:
            c.send(b" ")
        r = c.reply()
        assert r.status == 408 and "slowly" in r.text and c.closed()


def test_idle(hasty):
    """A connection with nothing to say is closed without a word, before its first request and between two."""
    with hasty.raw() as fresh, hasty.raw() as used:
        used.send(GET)
        assert used.reply().status == 200
        assert fresh.closed() and used.closed()


def test_reader_that_takes_nothing(hasty):
    """Replies nobody takes: the connection is dropped, and the server has not kept them all."""
    needs_generation(hasty)
    before = hasty.resident_bytes()
    with hasty.raw() as c:
        c.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20000)  # of 10 KB each: no socket holds that
        gone = select.poll()
        gone.register(c.sock, 0)
        assert gone.poll(TIMEOUT * 1000), "never dropped"
    assert hasty.resident_bytes() - before < 64 << 20
    hasty.check()


# --- limits ------------------------------------------------------------------------------------------------------------------
def test_few_files(serve):
    """With 128 descriptors: more clients than that, and the server neither spins nor forgets anyone that asks."""
    s = serve("-c", 256, before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, 128)))
    most = int(next(line for line in s.stderr().splitlines() if line.startswith("connections: at most ")).split()[3])
    assert 16 <= most < 128
    crowd = [s.raw() for _ in range(200)]
    for c in crowd:
        c.send(b"G")
    for _ in range(10):
        s.wait_until(lambda: answers(s), "an answer")
        crowd.pop().sock.close()
    for c in crowd:
        c.sock.close()
    s.wait_until(lambda: answers(s), "an answer")
    s.check()


def answers(s):
    try:
        return s.get("/health").status == 200
    except (OSError, AssertionError):
        return False


@pytest.mark.smoke
def test_idle_ones_make_room(serve):
    s = serve("-c", 256, "--max-connections", 8)
    idle = [s.raw() for _ in range(8)]
    for c in idle:
        c.send(GET)
        assert c.reply().status == 200
    with s.raw() as newcomer:
        newcomer.send(GET)
        assert newcomer.reply().status == 200
    assert idle[0].closed()  # the one that was idle longest
    idle[7].send(GET)
    assert idle[7].reply().status == 200


def test_idle_connections_cost_little(serve):
    """At most 4 KiB of ours each, the allocator's and libuv's share included."""
    s = serve("-c", 256)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    n, before = 2000, s.resident_bytes()
    crowd = [s.raw() for _ in range(n)]
    for c in crowd:
        c.send(GET)
    for c in crowd:
        assert c.reply().status == 200
    assert s.resident_bytes() - before < n * 4096 + (1 << 20)
    assert s.get("/health").json["connections"] == n + 1
    for c in crowd:
        c.sock.close()


@pytest.mark.smoke
def test_many_large_bodies_at_once(serve):
    """What all requests hold is bounded, whatever each may hold."""
    s = serve("-c", 256, "--max-body", "64M")
    crowd, refused = [], 0
    part = b" " * (1 << 20)
    for _ in range(12):
        c = s.raw()
        c.sock.settimeout(TIMEOUT)
        c.send(post_bytes("/health", b"")[:-4].replace(b"Content-Length: 0", b"Content-Length: %d" % (64 << 20)) + b"\r\n\r\n")
        crowd.append(c)
        for _ in range(62):
            if not c.send(part):
                break
    for c in crowd:
        if select.select([c.sock], [], [], 0)[0]:
            refused += c.head().status == 503
        c.sock.close()
    assert 0 < refused < 12
    assert s.get("/health").status == 200


# --- keys --------------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def keyed(start, tmp_path_factory):
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(f"# keys of the tests\n\n  {KEYS[1]}  \r\n")
    s = start("-c", 256, "--api-key", KEYS[0], "--api-key-file", file, "--cors", "https://good.example", "--log-level", "trace")
    yield s
    assert not any(k in s.stderr() for k in KEYS)
    s.end()


WRONG = [{}, {"Authorization": ""}, {"Authorization": "Bearer"}, {"Authorization": "Bearer "}, {"Authorization": KEYS[0]},
         {"Authorization": f"Basic {KEYS[0]}"}, {"Authorization": f"Bearer {KEYS[0]}x"}, {"Authorization": f"Bearer {KEYS[0][:-1]}"},
         {"Authorization": f"Bearer {KEYS[0].upper()}"}, {"Authorization": f"Bearer {KEYS[0]} {KEYS[0]}"},
         {"Authorization": f"Bearer,{KEYS[0]}"}, {"Authorization": f'Bearer "{KEYS[0]}"'}, {"X-Api-Key": ""}, {"X-Api-Key": "x"},
         {"X-Api-Key": f"Bearer {KEYS[0]}"}, {"X-Api-Key": f"{KEYS[0]},{KEYS[1]}"}, {"X-Auth": KEYS[0]}, {"Api-Key": KEYS[0]},
         {"Cookie": f"key={KEYS[0]}"}, {"Authorization": f"Bearer {KEYS[0]}", "X-Api-Key": "x"},
         {"Authorization": "Bearer x", "X-Api-Key": KEYS[0]}, {"Proxy-Authorization": f"Bearer {KEYS[0]}"},
         {"Authorization": f"Bearer {'x' * 8000}"}]


@pytest.mark.smoke
@pytest.mark.parametrize("headers", WRONG, ids=range(len(WRONG)))
@pytest.mark.parametrize("method, path", [("GET", "/metrics"), ("GET", "/nothing"), ("HEAD", "/metrics"), ("POST", "/v1/completions"),
                                          ("OPTIONS", "/metrics"), ("DELETE", "/health/x"), ("GET", "//v1/models"), ("GET", "/")])
def test_wrong_key(keyed, headers, method, path):
    r = keyed.request(method, path, headers=headers)
    assert r.status == 401 and r.header("www-authenticate") == "Bearer"
    assert method == "HEAD" or r.json["error"]


@pytest.mark.smoke
@pytest.mark.parametrize("headers", [{"Authorization": f"Bearer {KEYS[0]}"}, {"authorization": f"bearer {KEYS[1]}"},
                                     {"AUTHORIZATION": f"BEARER   {KEYS[0]}"},
                                     {"Authorization": f"Bearer {KEYS[0]}", "X-Api-Key": KEYS[1]}, {"X-Api-Key": KEYS[0]}, {"x-api-key": KEYS[1]}])
def test_right_key(keyed, headers):
    assert keyed.get("/nothing", headers=headers).status == 404


@pytest.mark.smoke
@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_open_routes(keyed, path):
    assert keyed.get(path).status == 200
    assert keyed.request("HEAD", path).status == 200


@pytest.mark.smoke
@pytest.mark.parametrize("path", [f"/nothing?key={KEYS[0]}", f"/nothing?api_key={KEYS[0]}", "/Health", "/health/", "/%2Fhealth",
                                  "/health%20", "/ready/x"])
def test_key_elsewhere_or_path_like_an_open_one(keyed, path):
    assert keyed.get(path).status in (400, 401)


@pytest.mark.smoke
def test_key_in_the_body(keyed):
    assert keyed.post("/v1/completions", {"api_key": KEYS[0], "prompt": "x"}).status == 401


@pytest.mark.smoke
def test_body_without_a_key_is_not_read(keyed):
    with keyed.raw() as c:
        c.send(post_bytes("/v1/completions", b" " * 1000000)[:-1000000])
        assert c.reply().status == 401 and c.closed()


@pytest.mark.smoke
def test_key_from_the_environment(serve):
    s = serve("-c", 256, env={"ROCMFORGE_API_KEY": "k-env"})
    assert s.get("/nothing").status == 401
    assert s.get("/nothing", headers={"Authorization": "Bearer k-env"}).status == 404


# --- pages from elsewhere ----------------------------------------------------------------------------------------------------
CORS = ("access-control-allow-origin", "access-control-allow-methods", "access-control-allow-headers",
        "access-control-allow-credentials")
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}


@pytest.mark.smoke
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost", "https://good.example.evil",
                                    "https://xgood.example", "http://good.example", "https://good.example:8443", "*", ""])
def test_no_cors(server, keyed, origin):
    for s in (server, keyed):
        for method, more in itertools.product(("GET", "OPTIONS"), ({}, PREFLIGHT)):
            r = s.request(method, "/health", headers={"Origin": origin, **more})
            assert all(r.header(h) is None for h in CORS)


@pytest.mark.smoke
def test_cors(keyed):
    r = keyed.request("OPTIONS", "/v1/completions", headers={"Origin": "https://good.example", **PREFLIGHT})
    assert r.status == 204 and r.header("access-control-allow-origin") == "https://good.example"
    assert "POST" in r.header("access-control-allow-methods")
    assert "authorization" in r.header("access-control-allow-headers").lower() and r.header("vary") == "Origin"
    assert r.header("access-control-allow-credentials") is None
    r = keyed.get("/nothing", headers={"Origin": "https://good.example"})
    assert r.status == 401 and r.header("access-control-allow-origin") == "https://good.example"  # the page may read why
    r = keyed.get("/health", headers={"Origin": "HTTPS://Good.Example"})
    assert r.header("access-control-allow-origin") == "https://good.example"


@pytest.mark.smoke
def test_form_of_another_page_is_refused(server):
    """What a page can send without asking first is no JSON to us."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert server.post("/v1/completions", b'{"prompt": "x"}', headers={"Content-Type": kind}).status == 415


# --- TLS ---------------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def secure(start, certificate):
    s = start("-c", 512, "--parallel", 2, "--tls-cert", certificate[0], "--tls-key", certificate[1])
    yield s
    s.end()


@pytest.mark.smoke
def test_tls(secure):
    assert secure.url.startswith("https://")
    with secure.raw() as c:
        assert c.sock.version() in ("TLSv1.2", "TLSv1.3")
        c.send(GET * 3)
        assert [c.reply().status for _ in range(3)] == [200] * 3
        c.send_bytewise(GET)
        assert c.reply().status == 200
    secure.check()


@pytest.mark.smoke
def test_tls_large_body(secure):
    assert secure.post("/health", b" " * 3000000).status == 405
    r = secure.get("/metrics")
    assert r.status == 200 and len(r.body) > 1000


@pytest.mark.smoke
@pytest.mark.parametrize("how", ["reset", "close", "half-close"])
def test_tls_peer_leaves(secure, how):
    needs_generation(secure)
    with secure.raw() as c:
        c.send(long_bytes(max_tokens=400))
        assert c.head().status == 200
        if how == "reset":
            reset(c)
        elif how == "close":
            c.sock.close()
        else:
            c.sock.shutdown(socket.SHUT_WR)
    nothing_runs(secure)


@pytest.mark.smoke
def test_tls_version(secure):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for version, good in ((ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)):
        context.minimum_version = context.maximum_version = version
        with context.wrap_socket(secure.connect(tls=False)) as sock:
            assert sock.version() == version.name.replace("_", ".")
    said = subprocess.run(["openssl", "s_client", "-connect", f"{secure.host}:{secure.port}", "-tls1_1", "-cipher", "ALL@SECLEVEL=0"],
                          input=b"", capture_output=True, timeout=TIMEOUT)
    assert said.returncode != 0


@pytest.mark.smoke
@pytest.mark.parametrize("data", [GET, b"\x16\x03\x01\x00\x02\x01\x00", b"\x16\x03\x01\xff\xff" + b"\0" * 70000, b"\0" * 100,
                                  b"\x15\x03\x03\x00\x02\x02\x28", b"x"])
def test_no_tls_on_a_tls_port(secure, data):
    with secure.raw(tls=False) as c:
        c.send(data)
        if len(data) > 1 and data[0] != 0x16:
            try:
                c.rest()  # an alert at most
            except ConnectionResetError:
                pass
    assert secure.get("/health").status == 200


@pytest.mark.smoke
def test_tls_files(rocmforge_serve, certificate, tmp_path):
    cert, key = certificate
    junk = tmp_path / "junk.pem"
    junk.write_text("no PEM")
    locked, other = tmp_path / "locked.pem", tmp_path / "other.pem"
    subprocess.run(["openssl", "ec", "-in", key, "-aes128", "-passout", "pass:x", "-out", locked], check=True, capture_output=True)
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", other], check=True, capture_output=True)
    for a, b in ((junk, key), (cert, junk), (tmp_path / "none", key), (cert, tmp_path / "none"), (cert, locked), (cert, other),
                 (key, cert), (tmp_path, key)):
        assert "error[server.tls]" in rocmforge_serve("--tls-cert", a, "--tls-key", b, status=2)
    assert "error[usage.argument]" in rocmforge_serve("--tls-cert", cert, status=2)
    assert "error[usage.argument]" in rocmforge_serve("--tls-key", key, status=2)


# --- how a server begins -----------------------------------------------------------------------------------------------------
@pytest.fixture
def rocmforge_serve(binary, smollm2):
    """A server that does not come to serve: what it said."""

    def run(*args, status, env=None):
        done = subprocess.run([str(a) for a in (binary, "serve", smollm2, *args)], stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=TIMEOUT, env={**os.environ, **(env or {})})
        said = done.stderr.decode()
        assert done.returncode == status, said
        assert said.startswith("rocmforge: error[") and said.count("\n") == 1 and not done.stdout
        return said

    return run


@pytest.mark.smoke
@pytest.mark.parametrize("args, env", [
    (["--host", "0.0.0.0"], {}), (["--host", "::"], {}), (["--host", "10.1.2.3"], {}), (["--addr", "0.0.0.0:8080"], {}),
    (["--addr", "[::]:8080"], {}), (["--host", "127.evil.com"], {}), (["--host", ""], {}), ([], {"ROCMFORGE_HOST": "0.0.0.0"}),
    ([], {"ROCMFORGE_BIND_ADDRESS": "0.0.0.0:1"}), ([], {"ROCFORGE_BIND_ADDRESS": "0.0.0.0:1"})])
def test_beyond_loopback_needs_a_key(rocmforge_serve, args, env):
    assert "error[usage.argument]" in rocmforge_serve(*args, env=env, status=2)


@pytest.mark.smoke
@pytest.mark.parametrize("args", [
    ["--port", "65536"], ["--port", "-1"], ["--port", "x"], ["--addr", "localhost:x"], ["--addr", "localhost:65536"],
    ["--addr", "localhost:"], ["--addr", "localhost:+1"], ["--max-body", "0"], ["--max-body", "16X"], ["--max-body", "2T"],
    ["--max-body", "-1"], ["--chunking", "some"], ["--kv-preset", "huge"], ["--api-key", ""], ["--parallel", "0"],
    ["--timeout", "-1"], ["--trace-sample", "1.1"], ["--header-seconds", "0"], ["--queue", "0"], ["--cors", ""],
    ["--cors", "good.example"], ["--cors", "https://good.example/"], ["--cors", "https://good.example/x"], ["--cors", "://x"],
    ["--allowed-host", "https://named.example"], ["--allowed-host", "a,b"]])
def test_values(rocmforge_serve, args):
    assert "error[usage.range]" in rocmforge_serve(*args, status=2)


@pytest.mark.smoke
@pytest.mark.parametrize("args, word", [
    (["--chunk", "64"], "--chunking fixed"), (["--chunk", "64", "--chunking", "none"], "--chunking fixed"),
    (["--step-ms", "50", "--chunking", "fixed"], "--chunking adaptive"), (["--kv-cache-size", "1G"], "--kv-cache-dir"),
    (["--chunking", "some"], "give none, fixed or adaptive"), (["--kv-preset", "huge"], "give small, medium or large"),
    (["--max-body", "0"], "give 1 to 1073741824 bytes"), (["--tls-cert", "x"], "--tls-key")])
def test_what_is_refused_says_what_to_give(rocmforge_serve, args, word):
    assert word in rocmforge_serve(*args, status=2)


@pytest.mark.smoke
def test_port_in_use(rocmforge_serve):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "error[server.listen]" in rocmforge_serve("--port", taken.getsockname()[1], status=1)
    assert "error[server.listen]" in rocmforge_serve("--host", "192.0.2.1", "--insecure", status=1)


@pytest.mark.smoke
def test_key_file(rocmforge_serve, tmp_path):
    empty = tmp_path / "empty"
    empty.write_text("# nothing\n\n")
    assert "holds no key" in rocmforge_serve("--api-key-file", empty, status=2)
    assert "error[io.failed]" in rocmforge_serve("--api-key-file", tmp_path / "none", status=1)


@pytest.mark.smoke
def test_beyond_loopback(serve):
    """Insecure is said; there every Host is answered, unless names are given."""
    s = serve("-c", 256, "--host", "0.0.0.0", "--insecure")
    assert "warning: no API key" in s.stderr()
    assert s.get("/health", headers={"Host": "any.example"}).status == 200
    s = serve("-c", 256, "--host", "0.0.0.0", "--api-key", "k", "--allowed-host", "named.example")
    assert [s.get("/health", headers={"Host": h}).status for h in ("named.example", "localhost", "any.example")] == [200, 200, 403]


@pytest.mark.smoke
@pytest.mark.parametrize("args, host", [(["--host", "localhost"], None), (["--host", "::1"], "[::1]"), (["--addr", "[::1]:0"], "[::1]"),
                                        (["--host", "127.0.0.2"], "127.0.0.2"), (["--addr", ":0"], "127.0.0.1")])
def test_address(serve, args, host):
    if host == "[::1]":
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("no IPv6 here")
    s = serve("-c", 256, *args)
    assert host is None or s.host == host
    assert s.get("/health", headers={"Host": f"{s.host}:{s.port}"}).status == 200
    assert s.get("/health", headers={"Host": "evil.example"}).status == 403


# --- how it ends -------------------------------------------------------------------------------------------------------------
@pytest.mark.smoke
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_at_once_when_nothing_runs(serve, number):
    s = serve("-c", 256)
    with s.raw() as idle, s.raw() as begun:
        idle.send(GET)
        idle.reply()
        begun.send(GET[:10])
        s.signal(number)
        assert idle.closed() and begun.closed()
    s.end()


@pytest.mark.smoke
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drain(serve, number):
    """Streams that run are finished; meanwhile the server is not ready and takes no other."""
    s = serve("-c", 8192, "--parallel", 2)
    needs_generation(s)
    with s.raw() as stream, s.raw() as longer, s.raw() as kept:
        kept.send(GET)
        assert kept.reply().header("connection") is None
        longer.send(long_bytes(max_tokens=8000))  # as long as the others take
        stream.send(long_bytes(max_tokens=50))
        assert stream.head().status == longer.head().status == 200
        s.signal(number)
        s.wait_until(lambda: s.get("/ready").status == 503, "not ready")
        kept.send(GET)
        r = kept.reply()
        assert r.status == 200 and r.header("connection") == "close" and kept.closed()
        for path, body in (("/v1/completions", {"prompt": "x"}), ("/generate", {"prompt": "x"})):
            r = s.post(path, body)
            assert r.status == 503 and r.header("retry-after") and r.header("retry-after-ms")
        text = b""
        while part := stream.chunk():
            text += part
        assert text.endswith(b"data: [DONE]\n\n") and b'"finish_reason":"length"' in text and b'"error"' not in text
        assert s.process.poll() is None
    s.end()


@pytest.mark.smoke
def test_drain_ends(serve):
    """What has not ended in time is cancelled, and told so."""
    s = serve("-c", 8192, "--parallel", 2, "--drain-seconds", 0)
    needs_generation(s)
    with s.raw() as stream, s.raw() as whole:
        stream.send(long_bytes(max_tokens=8000))
        whole.send(long_bytes(max_tokens=8000, stream=False))
        assert stream.head().status == 200
        s.wait_until(lambda: active(s) == 2, "both run")
        s.signal()
        text = b""
        while part := stream.chunk():
            text += part
        assert b'"error"' in text and b"server.draining" in text
        r = whole.reply()
        assert r.status == 503 and r.header("retry-after") and r.json["error"]["code"] == "server.draining"
    s.end()


@pytest.mark.smoke
def test_second_signal_ends_at_once(serve):
    s = serve("-c", 8192, "--parallel", 1)
    needs_generation(s)
    with s.raw() as stream:
        stream.send(long_bytes(max_tokens=8000))
        assert stream.head().status == 200
        s.signal(signal.SIGINT)
        s.wait_until(lambda: s.get("/ready").status == 503, "not ready")
        s.signal(signal.SIGINT)
        s.end(wanted=130)


@pytest.mark.smoke
@pytest.mark.parametrize("abstract", [False, True])
def test_notifies_systemd(serve, tmp_path, abstract):
    path = f"@rocmforge-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path.replace("@", "\0"))
        sock.settimeout(TIMEOUT)
        s = serve("-c", 256, env={"NOTIFY_SOCKET": path})
        assert sock.recv(100) == b"READY=1"
        s.signal()
        assert sock.recv(100) == b"STOPPING=1"
        s.end()


@pytest.mark.smoke
def test_address_can_be_used_again(serve):
    """A server that ended a moment ago does not keep its port."""
    s = serve("-c", 256)
    with s.raw() as c:
        c.send(GET)
        c.reply()
        s.signal()
        c.closed()
    s.end()
    again = serve("-c", 256, "--port", s.port)
    assert again.port == s.port and again.get("/health").status == 200
