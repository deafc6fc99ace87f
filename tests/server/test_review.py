"""What a review of the server found: one test for each."""
import math
import socket

import pytest


@pytest.mark.smoke
def test_words_in_logit_bias_are_bounded(server):
    """They are tokenized on the loop: a body full of them would hold everybody up."""
    for bias in ({"ab" * 40000: 1}, [["word %d" % i, 1] for i in range(10000)]):
        r = server.post("/generate", {"prompt": "Hello", "max_tokens": 1, "logit_bias": bias})
        assert r.status == 400 and "logit_bias" in r.text and "words" in r.text, r.text
    assert server.post("/generate", {"prompt": "Hello", "max_tokens": 1, "logit_bias": {" word": -1}}).status == 200


def test_many_vectors_are_written_beside_the_loop(server):
    """The reply of many vectors is made on another thread, whoever is there to take it."""
    n = 100
    body = {"input": [[i + 1000] for i in range(n)]}
    one = server.post("/v1/embeddings", {"input": [body["input"][7]]}).json["data"][0]["embedding"]
    r = server.post("/v1/embeddings", body)
    assert r.status == 200
    data = r.json["data"]
    assert [d["index"] for d in data] == list(range(n)) and data[7]["embedding"] == one
    assert all(math.isclose(sum(x * x for x in d["embedding"]), 1, rel_tol=1e-4) for d in data)
    with server.raw() as c:  # and whoever is not
        raw = b'{"input": [' + b",".join(b"[%d]" % i for i in range(1000, 1000 + n)) + b"]}"
        c.send(b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
               % len(raw) + raw)
    server.wait_until(lambda: server.get("/health").json["checks"]["requests"]["active"] == 0, "an end")
    server.check()


def test_the_last_reply_survives_what_follows_it(server):
    """A 1.0 stream ends with the connection. What its client sent behind the request, more than is kept, does not reset it."""
    raw = b'{"prompt": "Hello", "max_tokens": 40, "ignore_eos": true}'
    with server.raw() as c:
        c.send(b"POST /generate/stream HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\nContent-Type: application/json\r\n"
               b"Content-Length: %d\r\n\r\n" % len(raw) + raw)
        first = c.line()
        c.send(b"GET /health HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n" * 3000)
        assert b"200" in first and b'"finished":true' in c.rest()
        server.wait_until(lambda: server.get("/health").json["connections"] == 1, "the end of the connection")
        assert c.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0  # ended, not reset
    server.check()
