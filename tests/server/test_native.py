"""The native routes with the real model: texts are the command line's, bit for bit; generations are known by id while they run
and for a while after, cancelled by id or by leaving, and bounded by the queue. Each fault of the older ROCmForge that concerns
serving has a test that names it (7g)."""
import concurrent.futures
import contextlib
import json
import socket
import struct
import subprocess
import time

import pytest

PROMPT = "The capital of France is"
CHAT = "<|im_start|>user\nSay yes.<|im_end|>\n<|im_start|>assistant\n"
TIMEOUT = 120  # seconds: a hang, not a limit on speed


def body_of(prompt, n=16, **more):
    return {"prompt": prompt, "max_tokens": n, "temperature": 0, **more}


def cli(server, prompt, n, *args):
    """What the command line says: its JSON."""
    done = subprocess.run([str(server.binary), "generate", str(server.model), "-p", prompt, "-n", str(n), "--temp", "0", "--json",
                           "-q", *args], capture_output=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def events(server, body, headers=None):
    return [json.loads(e) for e in server.events("/generate/stream", body, headers)]


def busy(server):
    """Choices that the engine runs now."""
    return [s for s in server.get("/slots").json if s["is_processing"]]


def wait_for(what, why):
    until = time.monotonic() + TIMEOUT
    while time.monotonic() < until:
        if (got := what()):
            return got
        time.sleep(0.005)
    raise AssertionError(why)


def wait_idle(server):
    wait_for(lambda: not busy(server), "a generation goes on after its client left")


class Stream:
    """A stream on a raw connection, read event by event."""

    def __init__(self, server, body, path="/generate/stream", **headers):
        self.c = server.raw()
        raw = json.dumps(body).encode()
        more = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in headers.items())
        self.c.send((f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{more}"
                     f"Content-Length: {len(raw)}\r\n\r\n").encode() + raw)

    def head(self):
        r = self.c.head()
        assert r.status == 200
        return self

    def event(self):
        """The next data event; None at the end. Comments are passed over."""
        while data := self.c.chunk():
            assert data.endswith(b"\n\n")
            data.decode("utf-8")  # whole characters in each event
            for line in data.decode().split("\n"):
                if line.startswith("data: "):
                    return json.loads(line[6:])
        return None

    def reset(self):
        """Gone without a goodbye."""
        self.c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.c.sock.close()


# --- texts ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("prompt", [PROMPT, "Once upon a time", "def f(x):\n    return", CHAT, "日本の首都は", "1 2 3 4 5 6"])
def test_text_is_the_command_lines(server, prompt):
    want = cli(server, prompt, 24)
    for cache in (False, True, True):
        got = server.post("/generate", body_of(prompt, 24, cache_prompt=cache)).json
        assert (got["text"], got["tokens"]) == (want["text"], want["tokens"])
        assert got["usage"]["prompt_tokens"] == want["prompt_tokens"]
        assert got["usage"]["completion_tokens"] == len(want["tokens"])
    seen = events(server, body_of(prompt, 24))
    assert "".join(e["text"] for e in seen) == want["text"]
    assert [e["token"] for e in seen if e["token"] is not None] == want["tokens"]


@pytest.mark.smoke
def test_shape(server):
    r = server.post("/generate", body_of(PROMPT, 4)).json
    assert list(r)[:5] == ["request_id", "text", "tokens", "finished", "finish_reason"]
    assert isinstance(r["request_id"], int) and r["finished"] is True and r["finish_reason"] == "length"
    assert len(r["tokens"]) == 4
    assert set(r["usage"]) >= {"prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens"}
    assert set(r["timings"]) == {"cache_n", "prompt_n", "prompt_ms", "prompt_per_token_ms", "prompt_per_second", "predicted_n",
                                 "predicted_ms", "predicted_per_token_ms", "predicted_per_second"}
    assert r["timings"]["prompt_n"] + r["timings"]["cache_n"] == r["usage"]["prompt_tokens"]


@pytest.mark.smoke
def test_stream_shape(server):
    r = server.post("/generate/stream", body_of(PROMPT, 4))
    assert r.header("content-type").startswith("text/event-stream")
    seen = [json.loads(line[6:]) for line in r.text.split("\n") if line.startswith("data: ")]
    for e in seen:
        assert list(e)[:5] == ["request_id", "token", "text", "finished", "finish_reason"]
    assert [e["finished"] for e in seen] == [False] * (len(seen) - 1) + [True]
    assert [e["finish_reason"] for e in seen] == [None] * (len(seen) - 1) + ["length"]
    assert len({e["request_id"] for e in seen}) == 1


def test_defaults_are_the_older_ones(server):
    r = server.post("/generate", {"prompt": "Once upon a time", "seed": 1, "ignore_eos": True}).json
    assert len(r["tokens"]) == 100  # max_tokens
    explicit = {"prompt": "Once upon a time", "seed": 1, "ignore_eos": True, "temperature": 1.0, "top_k": 50, "top_p": 0.9,
                "min_p": 0, "max_tokens": 100, "repeat_penalty": 1.0}
    assert server.post("/generate", explicit).json["tokens"] == r["tokens"]


def test_characters_are_whole_in_every_event(server):
    """Emoji are several tokens: no event ends inside one (Stream.event decodes each)."""
    s = Stream(server, body_of("😀😁😂🤣😃😄😅", 40, temperature=1.5, seed=3)).head()
    text = ""
    while (e := s.event()):
        text += e["text"]
    assert text == server.post("/generate", body_of("😀😁😂🤣😃😄😅", 40, temperature=1.5, seed=3)).json["text"]


# --- how it ends ------------------------------------------------------------------------------------------------------------
def test_ends_of_text_stop_7g1(server):
    r = server.post("/generate", body_of(CHAT, 200)).json
    assert r["finish_reason"] == "eos" and len(r["tokens"]) < 200 and "<|im_end|>" not in r["text"]
    assert events(server, body_of(CHAT, 200))[-1]["finish_reason"] == "eos"
    more = server.post("/generate", body_of(CHAT, 60, ignore_eos=True)).json
    assert more["finish_reason"] == "length" and len(more["tokens"]) == 60


def test_stop_string(server):
    whole = server.post("/generate", body_of(PROMPT, 30)).json["text"]
    cut = whole[10:16]
    r = server.post("/generate", body_of(PROMPT, 30, stop=["\0".replace("\0", "zzzz"), cut])).json
    assert r["finish_reason"] == "stop" and r["text"] == whole[:whole.index(cut)]
    seen = events(server, body_of(PROMPT, 30, stop=cut))
    assert seen[-1]["finish_reason"] == "stop" and "".join(e["text"] for e in seen) == r["text"]


def test_full_context_is_length(serve):
    s = serve("-c", 64)
    r = s.post("/generate", body_of(PROMPT, 1000, ignore_eos=True)).json
    assert r["finish_reason"] == "length" and r["usage"]["total_tokens"] in (64, 65)


def test_request_parameters_reach_the_sampler_7g2(server):
    def tokens(**more):
        return server.post("/generate", {"prompt": "Once upon a time", "max_tokens": 12, **more}).json["tokens"]

    greedy = tokens(temperature=0)
    assert tokens(temperature=2, top_k=1) == greedy
    assert tokens(temperature=2, top_p=0.0001) == greedy
    assert tokens(temperature=2, min_p=1) == greedy
    assert tokens(temperature=1.5, seed=1) != tokens(temperature=1.5, seed=2)
    assert tokens(temperature=1.5, seed=1) == tokens(temperature=1.5, seed=1)
    assert tokens(temperature=0, logit_bias={"42": 1000}) == [42] * 12
    assert greedy[0] not in tokens(temperature=0, logit_bias=[[greedy[0], False]])
    assert tokens(temperature=0, repeat_penalty=1.8) != greedy or len(set(greedy)) == len(greedy)
    assert len({tuple(tokens(temperature=1.5)) for _ in range(4)}) > 1  # no seed: another one each time


def test_one_request_never_sees_anothers_tokens_7g5b(server):
    """32 clients at once, each with a prompt of its own, get what each gets alone."""
    prompts = [f"Item {i}: the number {i * 37 % 101} is" for i in range(32)]
    alone = [server.post("/generate", body_of(p, 12, cache_prompt=False)).json["text"] for p in prompts]
    for i in (0, 17):
        assert alone[i] == cli(server, prompts[i], 12)["text"]

    def ask(i):
        if i % 2:
            return "".join(e["text"] for e in events(server, body_of(prompts[i], 12)))
        return server.post("/generate", body_of(prompts[i], 12)).json["text"]

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        for _ in range(2):
            assert list(pool.map(ask, range(32))) == alone
    assert not busy(server)


# --- status and cancel ------------------------------------------------------------------------------------------------------
def test_unknown_ids_are_404_7g9(server):
    for method, path in (("GET", "/status/999999999"), ("GET", "/status/zork"), ("POST", "/cancel/999999999"), ("GET", "/status/0"),
                         ("GET", "/status/99999999999999999999"), ("POST", "/cancel/-1")):
        r = server.request(method, path)
        assert r.status == 404 and r.json["status"] == "error", path


@pytest.mark.smoke
def test_status_of_a_finished_one(server):
    r = server.post("/generate", body_of(PROMPT, 5), headers={"X-Request-Id": "my-own.id_1"})
    assert r.header("x-request-id") == "my-own.id_1"
    for name in (r.json["request_id"], "my-own.id_1"):
        s = server.get(f"/status/{name}").json
        assert all(s[k] == r.json[k] for k in ("request_id", "text", "tokens", "finished", "finish_reason", "usage"))
    c = server.post(f"/cancel/{r.json['request_id']}")
    assert c.status == 200 and c.json["finish_reason"] == "length"  # it stays as it ended


@pytest.mark.parametrize("by", ["number", "request id"])
def test_cancel(server, by):
    s = Stream(server, body_of("Count: 1 2 3", 900, ignore_eos=True), X_Request_Id="cancel-me").head()
    first = s.event()
    name = first["request_id"] if by == "number" else "cancel-me"
    running = server.get(f"/status/{name}").json
    assert running["finished"] is False and running["finish_reason"] is None and running["text"].startswith(first["text"])
    partial = server.post(f"/cancel/{name}").json
    assert partial["finished"] is True and partial["finish_reason"] == "cancelled" and partial["text"].startswith(running["text"])
    seen = []
    while (e := s.event()):
        seen.append(e)
    assert seen[-1]["finished"] and seen[-1]["finish_reason"] == "cancelled" and len(seen) < 500
    wait_idle(server)
    after = server.get(f"/status/{name}").json
    assert after["finish_reason"] == "cancelled" and after["text"].startswith(partial["text"])


def test_cancel_other_dialects(server):
    for path, body in (("/completion", {"prompt": "Count: 1 2 3", "n_predict": 900, "ignore_eos": True, "stream": True}),
                       ("/v1/completions", {"prompt": "Count: 1 2 3", "max_tokens": 900, "ignore_eos": True, "stream": True})):
        s = Stream(server, body, path=path, X_Request_Id="elsewhere")
        if s.c.head().status == 404:
            continue  # not built in
        s.event()
        assert server.get("/status/elsewhere").json["finished"] is False
        assert server.post("/cancel/elsewhere").json["finish_reason"] == "cancelled"
        while s.event() if path == "/completion" else s.c.chunk():
            pass
        wait_idle(server)


def test_cancel_of_a_queued_one_leaves_others_alone(serve):
    """One place, two clients: the queued one's end is nobody else's."""
    s = serve("-c", 1024, "--parallel", 1)
    want = s.post("/generate", body_of("Once upon a time", 60, ignore_eos=True)).json["text"]
    a = Stream(s, body_of("Once upon a time", 60, ignore_eos=True)).head()
    text = a.event()["text"]
    b = Stream(s, body_of("Another", 60), X_Request_Id="queued").head()
    wait_for(lambda: s.get("/status/queued").status == 200, "the second is not known")
    assert s.post("/cancel/queued").json["finish_reason"] == "cancelled"
    while (e := a.event()):
        text += e["text"]
        last = e
    assert text == want and last["finish_reason"] == "length"
    while (e := b.event()):
        last = e
    assert last["finish_reason"] == "cancelled"


def test_leaving_frees_the_place(serve):
    """A reset while queued, in the prompt, at the first token and in mid-stream: the engine is free within a step, and others go on
    unharmed."""
    s = serve("-c", 4096, "--parallel", 1, "--chunking", "fixed", "--chunk", 16)
    long = "One two three four five six seven eight nine ten. " * 60
    for stage in ("queue", "prompt", "first", "middle") * 2:
        holder = Stream(s, body_of("Once upon a time", 4000, ignore_eos=True)).head() if stage == "queue" else None
        if holder:
            holder.event()
        prompt = long if stage == "prompt" else "Count: 1 2 3"
        one = Stream(s, body_of(prompt, 2000, ignore_eos=True, cache_prompt=False), X_Request_Id=f"leave-{stage}").head()
        if stage == "prompt":
            wait_for(lambda: busy(s), "it does not start")
        for _ in range({"first": 1, "middle": 8}.get(stage, 0)):
            one.event()
        one.reset()
        r = wait_for(lambda: (r := s.get(f"/status/leave-{stage}").json)["finished"] and r, "it goes on")
        assert r["finish_reason"] == "cancelled" and len(r["tokens"]) < 1000
        if holder:
            assert len(busy(s)) == 1
            holder.reset()
        wait_idle(s)
    s.check()


def test_reply_in_one_piece_is_cancelled_by_leaving(server):
    one = Stream(server, body_of("Count: 1 2 3", 900, ignore_eos=True), path="/generate", X_Request_Id="whole")
    wait_for(lambda: busy(server), "it does not start")
    one.reset()
    wait_idle(server)
    assert server.get("/status/whole").json["finish_reason"] == "cancelled"


# --- limits -----------------------------------------------------------------------------------------------------------------
def test_full_queue_refuses_and_keeps_what_it_took(serve):
    s = serve("-c", 1024, "--parallel", 1, "--queue", 3)
    holder = Stream(s, body_of("Once upon a time", 900, ignore_eos=True)).head()
    holder.event()

    def ask(i):
        with contextlib.suppress(ConnectionError):
            return s.post("/generate", body_of(f"Number {i}", 3))

    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        asked = [pool.submit(ask, i) for i in range(40)]
        refused = wait_for(lambda: len(d := [a for a in asked if a.done()]) >= 37 and d, "a full queue does not refuse")
        assert len(refused) == 37  # while the place is held, three wait and all others were told
        holder.event()
        s.post(f"/cancel/{holder.event()['request_id']}")
        replies = [a.result() for a in asked]
    statuses = sorted(r.status for r in replies)
    assert statuses == [200] * 3 + [429] * 37
    for r in replies:
        if r.status == 429:
            assert int(r.header("retry-after")) >= 1 and int(r.header("retry-after-ms")) >= 1
            assert r.json["code"] == "request.queue_full" and r.json["recoverable"] is True
        else:
            assert r.json["finished"]
    wait_idle(s)
    s.check()


def test_timeout(server):
    r = server.post("/generate", body_of("Count: 1 2 3", 900, ignore_eos=True, timeout=0.05))
    assert r.status == 503 and r.json["code"] == "request.timeout" and r.header("retry-after")
    last = events(server, body_of("Count: 1 2 3", 900, ignore_eos=True, timeout=0.05))[-1]
    assert last["finished"] and last["finish_reason"] == "failed" and last["code"] == "request.timeout"
    wait_idle(server)


def test_server_timeout(serve):
    s = serve("-c", 1024, "--timeout", 0.05)
    for more in ({}, {"timeout": 60}):
        assert s.post("/generate", body_of("Count: 1 2 3", 900, ignore_eos=True, **more)).json["code"] == "request.timeout"


def test_requests_are_forgotten_7g13(serve):
    """The map of requests holds the last thousand that ended."""
    s = serve("-c", 256)
    with s.raw() as c:
        raw = json.dumps(body_of("x", 1)).encode()
        request = (b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                   % len(raw) + raw)
        for i in range(1010):
            c.send(request)
            r = c.reply()
            assert r.status == 200 and r.json["request_id"] == i + 1
    assert s.get("/status/9").status == 404 and s.get("/status/10").status == 404
    assert s.get("/status/11").status == 200 and s.get("/status/1010").status == 200


def test_drain_finishes_what_runs(serve):
    s = serve("-c", 1024)
    a = Stream(s, body_of("Once upon a time", 80, ignore_eos=True)).head()
    text, last = a.event()["text"], None
    with s.raw() as kept:
        kept.send(b"GET /props HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert kept.reply().status == 200
        s.process.terminate()
        n = 0
        while (e := a.event()):
            text, last, n = text + e["text"], e, n + 1
    assert last["finish_reason"] == "length" and n == 80
    assert s.process.wait(TIMEOUT) == 0


# --- the rest ---------------------------------------------------------------------------------------------------------------
@pytest.mark.smoke
def test_models(server):
    m = server.get("/models").json
    assert set(m["tokenizer_cache"]) == {"hits", "misses", "bytes"}
    one = m["models"][0]
    assert set(one) >= {"name", "path", "tokenizer", "metadata", "cache_status", "size"}
    want = {"architecture": "llama", "num_layers": 30, "num_heads": 9, "hidden_size": 576, "head_dim": 64,
            "max_position_embeddings": 8192, "vocab_size": 49152, "has_tokenizer": True}
    assert {k: one["metadata"][k] for k in want} == want and "file_type" in one["metadata"]
    assert one["metadata"]["general.architecture"] == "llama" and one["cache_status"] == {"cached": True, "refreshed": False}
    assert one["size"] == server.model.stat().st_size


def test_golden_after_all(server):
    server.check()
