"""What was broken in the older ROCmForge (ROCMFORGE.md 7g) and concerns serving: a test for each, named by its item. In depth they
are tested elsewhere: test_native.py, test_openai_client.py, tests/unit/test_sched*.c; here each is one look from outside.

Not of serving, and tested in their rooms: 7 (common subexpressions, tests/unit/test_rules.c), 8 (vector index, not built yet),
10 (type ids, tests/oracle/test_quant.py)."""
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus import Metrics

CHAT = {"messages": [{"role": "user", "content": "Say yes."}], "temperature": 0}
PROMPT = "Once upon a time"


def metrics(server):
    return Metrics(server.get("/metrics").text)


def generate(server, prompt=PROMPT, n=16, **more):
    r = server.post("/generate", {"prompt": prompt, "max_tokens": n, "temperature": 0, **more})
    assert r.status == 200, r.text
    return r.json


# --- 1 and 2: when it ends, and what it draws ---------------------------------------------------------------------------------
@pytest.mark.smoke
def test_7g_1_end_of_text_and_stop_strings_end_it(server):
    r = server.post("/v1/chat/completions", {**CHAT, "max_tokens": 200}).json
    assert r["choices"][0]["finish_reason"] == "stop" and r["usage"]["completion_tokens"] < 200
    assert "<|im_end|>" not in r["choices"][0]["message"]["content"]
    whole = server.post("/completion", {"prompt": PROMPT, "n_predict": 30, "temperature": 0, "ignore_eos": True}).json["content"]
    word = whole.split()[2]
    for path, limit, text in (("/completion", "n_predict", lambda r: r["content"]), ("/generate", "max_tokens", lambda r: r["text"]),
                              ("/v1/completions", "max_tokens", lambda r: r["choices"][0]["text"])):
        r = server.post(path, {"prompt": PROMPT, limit: 30, "temperature": 0, "stop": [word]}).json
        assert text(r) == whole[:whole.index(word)], path


def test_7g_2_parameters_reach_the_sampler_in_every_dialect(server):
    for path, limit, text in (("/completion", "n_predict", lambda r: r["content"]), ("/generate", "max_tokens", lambda r: r["text"]),
                              ("/v1/completions", "max_tokens", lambda r: r["choices"][0]["text"]),
                              ("/v1/chat/completions", "max_tokens", lambda r: r["choices"][0]["message"]["content"])):
        ask = {"messages": CHAT["messages"]} if "chat" in path else {"prompt": PROMPT}

        def says(**more):
            r = server.post(path, {**ask, limit: 12, **more})
            assert r.status == 200, r.text
            return text(r.json)

        greedy = says(temperature=0)  # which the older sampler refused
        assert says(temperature=1.9, top_k=1, seed=3) == greedy == says(temperature=1.9, top_p=0.0001, seed=4), path
        assert len({says(temperature=1.9, top_k=0, top_p=1, min_p=0, seed=i) for i in range(4)}) > 1, path
        assert says(temperature=1.5, seed=7) == says(temperature=1.5, seed=7), path


# --- 3, 4 and 14: the file is read --------------------------------------------------------------------------------------------
@pytest.mark.smoke
def test_7g_3_the_tokenizer_is_the_files_own(server):
    ids = server.post("/tokenize", {"content": "The capital of France is"}).json["tokens"]
    assert ids == [504, 3575, 282, 4649, 314]
    assert server.post("/detokenize", {"tokens": ids}).json["content"] == "The capital of France is"


@pytest.mark.smoke
def test_7g_4_and_14_architecture_and_vocabulary_are_the_files(server):
    metadata = server.get("/models").json["models"][0]["metadata"]
    assert metadata["architecture"] == "llama" and metadata["vocab_size"] == 49152
    assert server.get("/v1/models").json["data"][0]["meta"]["n_vocab"] == 49152


# --- 5: batches ---------------------------------------------------------------------------------------------------------------
def test_7g_5_a_batch_is_computed_together(serve):
    """Eight requests side by side take far fewer steps than their tokens; a prompt takes a few steps, not one a token."""
    s = serve("-c", 2048, "--parallel", 8, "--no-prefix-cache")
    before = metrics(s)("rocmforge_steps_total")
    generate(s, [1000 + i for i in range(400)], 1)
    assert metrics(s)("rocmforge_steps_total") - before <= 10
    before = metrics(s)("rocmforge_steps_total")
    with ThreadPoolExecutor(8) as pool:
        made = sum(len(r["tokens"]) for r in pool.map(lambda i: generate(s, f"Item {i}:", 100, ignore_eos=True), range(8)))
    assert made == 800 and metrics(s)("rocmforge_steps_total") - before < 400


def test_7g_5_no_step_is_padded(server):
    """A padded step takes 50 ms, always; of a hundred gaps between tokens the shortest is below that on any machine."""
    at = []
    with server.raw() as c:
        body = json.dumps({"prompt": PROMPT, "max_tokens": 100, "temperature": 0, "ignore_eos": True}).encode()
        c.send(b"POST /generate/stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert c.head().status == 200
        while c.chunk():
            at.append(time.monotonic())
    gaps = sorted(b - a for a, b in zip(at[1:], at[2:]))
    assert len(gaps) >= 50 and gaps[len(gaps) // 4] < 0.05


def test_7g_5_the_context_is_not_1600_tokens(serve):
    s = serve("-c", 2048, "--parallel", 1)
    r = generate(s, [1000 + i for i in range(1700)], 4, ignore_eos=True)
    assert r["usage"]["prompt_tokens"] == 1700 and len(r["tokens"]) == 4


def test_7g_5b_a_later_request_sees_nothing_of_an_earlier_one(server):
    alone = generate(server, "My name is", cache_prompt=False)["text"]
    secret = "The password is xyzzy. The password is xyzzy. The password is"
    assert "xyzzy" in generate(server, secret)["text"]
    assert generate(server, "My name is")["text"] == alone
    with ThreadPoolExecutor(4) as pool:
        beside = list(pool.map(lambda i: generate(server, "My name is" if i % 2 else secret)["text"], range(8)))
    assert all(text == alone for text in beside[1::2]) and not any("xyzzy" in text for text in beside[1::2])


# --- 6: what is measured is real ----------------------------------------------------------------------------------------------
def test_7g_6_metrics_traces_and_prefix_cache_are_fed(serve):
    s = serve("-c", 512, "--trace-sample", 1)
    prompt = [1000 + i for i in range(100)]
    assert generate(s, prompt, 5)["usage"]["cached_tokens"] == 0
    assert generate(s, prompt, 5)["usage"]["cached_tokens"] >= 64
    m = metrics(s)
    assert m("rocmforge_requests_completed_total") == 2 and m("rocmforge_tokens_generated_total") >= 2
    assert m("rocmforge_ttft_seconds_count") == 2 and m("rocmforge_prefill_duration_seconds_sum") > 0
    spans = s.get("/traces").json["resource_spans"][0]["scope_spans"][0]["spans"]
    assert len({span["trace_id"] for span in spans}) == 2 and {"queue", "prefill", "decode"} <= {span["name"] for span in spans}


# --- 9 to 13: a server ----------------------------------------------------------------------------------------------------------
@pytest.mark.smoke
def test_7g_9_an_unknown_id_is_404(server):
    for method, path in (("GET", "/status/4000000000"), ("POST", "/cancel/4000000000"), ("GET", "/status/nobody")):
        assert server.request(method, path).status == 404


@pytest.mark.smoke
def test_7g_11_no_gpu_is_needed(server):
    h = server.get("/health").json
    assert h["status"] == "healthy" and h["device"]["kind"] == "cpu" and h["device"]["reason"]
    assert h["checks"]["gpu"]["available"] is False and h["checks"]["gpu"]["error"]


def test_7g_12_nothing_is_said_of_each_token(serve):
    s = serve("-c", 512)
    before = len(s.stderr().splitlines())
    generate(s, n=100, ignore_eos=True)
    s.wait_until(lambda: "request finished" in s.stderr(), "the request's line")
    assert len(s.stderr().splitlines()) - before == 1


def test_7g_13_keys_limits_and_signals(serve):
    s = serve("-c", 256, "--api-key", "k3y", "--max-body", "1K")
    assert s.get("/metrics").status == 401
    s.headers = {"Authorization": "Bearer k3y"}
    assert s.get("/metrics").status == 200
    assert s.post("/generate", {"prompt": "x" * 2000}).status == 413
    s.end()  # SIGTERM, and exit status 0; that the map of requests is pruned: test_native.py
