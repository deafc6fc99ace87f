"""An engine that cannot go on: the model's file is cut short under the running server. Every client gets an error, those that
ask for the server's state are told, and the process lives until it is told to end."""
import concurrent.futures
import json
import shutil

import pytest

from conftest import GOLDEN_PROMPT

CODE = "io.file_changed"
ASK = {"prompt": GOLDEN_PROMPT, "max_tokens": 8, "temperature": 0}


@pytest.fixture
def broken(serve, smollm2, tmp_path):
    """A server, and how to cut its model's file."""
    model = tmp_path / "model.gguf"
    shutil.copyfile(smollm2, model)
    s = serve("-c", 2048, "--parallel", 4, model=model)

    def cut():
        with open(model, "r+b") as f:
            f.truncate(model.stat().st_size // 2)

    return s, cut


def code_of(reply):
    e = reply.json["error"]
    return e["code"] if isinstance(e, dict) else reply.json["code"]


def check_refused(s):
    for path in ("/v1/completions", "/generate", "/completion"):
        r = s.post(path, ASK)
        assert (r.status, code_of(r)) == (503, CODE), (path, r.text)
    r = s.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}]})
    assert (r.status, code_of(r)) == (503, CODE), r.text
    r = s.post("/v1/embeddings", {"input": ["one", "two"]})
    assert (r.status, code_of(r)) == (503, CODE), r.text
    r = s.post("/tokenize", {"content": "Hello"})
    assert (r.status, code_of(r)) == (503, CODE), r.text


def check_told(s):
    r = s.get("/health")
    assert r.status == 503 and r.json["status"] == "unhealthy" and "file" in r.json["reason"], r.text
    assert r.json["checks"]["engine"]["running"] is False
    r = s.get("/ready")
    assert r.status == 503 and r.json["ready"] is False and "file" in r.json["reason"], r.text
    for path in ("/metrics", "/props", "/slots", "/models", "/v1/models", "/"):
        assert s.get(path).status in (200, 503), path


@pytest.mark.smoke
def test_idle(broken):
    s, cut = broken
    assert s.post("/v1/completions", ASK).status == 200
    assert s.get("/health").status == 200
    cut()
    check_told(s)  # before anybody asks for a token
    check_refused(s)
    check_told(s)
    assert s.get("/health").json["checks"]["requests"] == {"active": 0, "queued": 0}
    s.signal()
    s.end(0)


def test_while_it_generates(broken):
    s, cut = broken
    body = {"prompt": GOLDEN_PROMPT, "max_tokens": 1500, "temperature": 0, "ignore_eos": True}

    def stream(_):
        r = s.post("/v1/completions", body | {"stream": True})
        return [json.loads(line[6:]) for line in r.text.split("\n") if line.startswith("data: ") and line != "data: [DONE]"]

    def whole(_):
        return s.post("/v1/completions", body)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:  # more than run at once: some wait
        streams, wholes = [pool.submit(stream, i) for i in range(4)], [pool.submit(whole, i) for i in range(4)]
        s.wait_until(lambda: s.get("/health").json["checks"]["requests"]["active"] == 4, "four that run")
        s.wait_until(lambda: s.get("/health").json["checks"]["requests"]["queued"] == 4, "four that wait")
        cut()
        for f in streams:
            assert f.result()[-1]["error"]["code"] == CODE
        for f in wholes:
            assert (f.result().status, code_of(f.result())) == (503, CODE)
    check_told(s)
    check_refused(s)
    s.signal()
    s.end(0)
