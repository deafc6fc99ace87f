"""llama.cpp's routes with the real model: its fields in, its reply out, in one piece and as a stream."""
import json
import math
import subprocess

import pytest

from test_native import CHAT, PROMPT, TIMEOUT, Stream, cli, wait_idle

TIMINGS = {"cache_n", "prompt_n", "prompt_ms", "prompt_per_token_ms", "prompt_per_second", "predicted_n", "predicted_ms",
           "predicted_per_token_ms", "predicted_per_second"}
FINAL = {"index", "content", "tokens", "id_slot", "stop", "model", "tokens_predicted", "tokens_evaluated", "generation_settings",
         "prompt", "has_new_line", "truncated", "stop_type", "stopping_word", "tokens_cached", "timings"}


def body_of(prompt, n=16, **more):
    return {"prompt": prompt, "n_predict": n, "temperature": 0, **more}


def complete(server, prompt, n=16, **more):
    r = server.post("/completion", body_of(prompt, n, **more))
    assert r.status == 200, r.text
    return r.json


def stream(server, prompt, n=16, **more):
    return [json.loads(e) for e in server.events("/completion", body_of(prompt, n, stream=True, **more))]


def ids_of(server, text, *args):
    done = subprocess.run([str(server.binary), "tokenize", str(server.model), *args], input=text.encode(), capture_output=True,
                          timeout=TIMEOUT, check=True)
    return json.loads(done.stdout)


# --- /completion ------------------------------------------------------------------------------------------------------------
@pytest.mark.smoke
def test_shape(server):
    r = complete(server, PROMPT, 4)
    assert FINAL <= set(r) and set(r["timings"]) == TIMINGS
    assert r["stop"] is True and r["truncated"] is False and r["tokens"] == [] and r["prompt"] == PROMPT
    assert r["tokens_predicted"] == 4 and r["tokens_evaluated"] == len(ids_of(server, PROMPT))
    assert r["timings"]["cache_n"] + r["timings"]["prompt_n"] == r["tokens_evaluated"]
    assert r["timings"]["cache_n"] == r["tokens_cached"] == r["usage"]["cached_tokens"]
    assert server.post("/completions", body_of(PROMPT, 4)).json["content"] == r["content"]


@pytest.mark.parametrize("prompt", [PROMPT, "Once upon a time", CHAT])
def test_text_is_the_command_lines(server, prompt):
    want = cli(server, prompt, 20)
    r = complete(server, prompt, 20, return_tokens=True)
    assert r["content"] == want["text"] and r["tokens"] == want["tokens"]
    parts = stream(server, prompt, 20)
    assert "".join(p["content"] for p in parts) == want["text"]
    assert [i for p in parts for i in p["tokens"]] == want["tokens"]
    assert [p["stop"] for p in parts] == [False] * (len(parts) - 1) + [True]
    assert FINAL <= set(parts[-1]) and parts[-1]["content"] == ""


def test_defaults_are_the_command_lines(server):
    r = server.post("/completion", {"prompt": "Once upon a time", "n_predict": 20, "seed": 7, "return_tokens": True}).json
    done = subprocess.run([str(server.binary), "generate", str(server.model), "-p", "Once upon a time", "-n", "20", "--seed", "7",
                           "--json", "-q"], capture_output=True, timeout=TIMEOUT, check=True)
    assert r["tokens"] == json.loads(done.stdout)["tokens"]
    set_ = r["generation_settings"]
    assert (set_["temperature"], set_["top_k"], set_["top_p"], set_["min_p"], set_["seed"]) == (0.8, 40, 0.95, 0.05, 7)


def test_prompt_forms(server):
    want = complete(server, PROMPT, 6)["content"]
    ids = ids_of(server, PROMPT)
    assert complete(server, ids, 6)["content"] == want
    assert complete(server, [PROMPT], 6)["content"] == want
    mixed = complete(server, [*ids[:2], " of France is"], 6)
    assert mixed["tokens_evaluated"] == len(ids) and mixed["content"] == want and mixed["prompt"] == PROMPT


def test_stop_types(server):
    assert complete(server, PROMPT, 3)["stop_type"] == "limit"
    end = complete(server, CHAT, 200)
    assert end["stop_type"] == "eos" and end["stopping_word"] == "" and end["tokens_predicted"] < 200
    whole = complete(server, PROMPT, 30)["content"]
    cut = whole[8:13]
    word = complete(server, PROMPT, 30, stop=["zzzz", cut])
    assert (word["stop_type"], word["stopping_word"]) == ("word", cut) and word["content"] == whole[:whole.index(cut)]
    parts = stream(server, PROMPT, 30, stop=["zzzz", cut])
    assert "".join(p["content"] for p in parts) == word["content"] and parts[-1]["stopping_word"] == cut
    s = Stream(server, body_of(PROMPT, 900, ignore_eos=True, stream=True), path="/completion", X_Request_Id="stop-me").head()
    s.event()
    server.post("/cancel/stop-me")
    while (e := s.event()):
        last = e
    assert last["stop"] is True and last["stop_type"] == "none"


def test_n_predict_zero_reads_the_prompt_only(server):
    r = complete(server, PROMPT, 0)
    assert r["content"] == "" and r["tokens_predicted"] == 0 and r["stop_type"] == "limit"


def test_has_new_line(server):
    r = complete(server, PROMPT, 12)
    assert r["has_new_line"] == ("\n" in r["content"])


def test_cache(server):
    prompt = "A sentence that no other test of this file has used, of some length, to be found again."
    assert complete(server, prompt, 2)["tokens_cached"] < 20
    again = complete(server, prompt, 2)
    assert again["tokens_cached"] >= again["tokens_evaluated"] - 2 > 10
    assert complete(server, prompt, 2, cache_prompt=False)["tokens_cached"] == 0


def test_probabilities(server):
    r = complete(server, PROMPT, 5, n_probs=4, return_tokens=True)
    probs = r["completion_probabilities"]
    assert [p["id"] for p in probs] == r["tokens"]
    for p in probs:
        assert set(p) == {"id", "token", "bytes", "logprob", "top_logprobs"}
        assert bytes(p["bytes"]).decode("utf-8", "replace") == p["token"]
        top = [t["logprob"] for t in p["top_logprobs"]]
        assert len(top) == 4 and top == sorted(top, reverse=True) and sum(map(math.exp, top)) < 1.0001
        assert p["top_logprobs"][0]["id"] == p["id"] and top[0] == p["logprob"]  # greedy
    parts = stream(server, PROMPT, 5, n_probs=4)
    assert [q for p in parts for q in p.get("completion_probabilities", [])] == probs
    assert "completion_probabilities" not in complete(server, PROMPT, 2)


def test_stream_extras(server):
    parts = stream(server, "One two three four five six seven eight nine. " * 20, 3, return_progress=True, timings_per_token=True,
                   cache_prompt=False)
    progress = [p["prompt_progress"] for p in parts if "prompt_progress" in p]
    assert progress[-1]["processed"] == progress[-1]["total"] == parts[-1]["tokens_evaluated"]
    assert [p["processed"] for p in progress] == sorted(p["processed"] for p in progress)
    tokens = [p for p in parts if p["tokens"]]
    assert len(tokens) == 3 and all(set(p["timings"]) == TIMINGS for p in parts)
    assert [p["timings"]["predicted_n"] for p in tokens] == [1, 2, 3] and [p["tokens_predicted"] for p in tokens] == [1, 2, 3]


def test_generation_settings_are_the_requests(server):
    asked = {"temperature": 0.25, "top_k": 7, "top_p": 0.5, "min_p": 0.125, "repeat_last_n": 9, "repeat_penalty": 1.5, "seed": 11,
             "presence_penalty": 0.5, "frequency_penalty": 0.25, "stop": ["a", "b"], "n_predict": 2, "n_probs": 1,
             "ignore_eos": True}
    got = server.post("/completion", {"prompt": "x", **asked}).json["generation_settings"]
    assert {k: got[k] for k in asked} == asked


def test_failure_in_mid_stream_is_an_error_event(server):
    parts = stream(server, "Count: 1 2 3", 900, ignore_eos=True, timeout=0.1)
    assert set(parts[-1]) == {"error"} and parts[-1]["error"]["code"] == 503 and "stop" not in parts[-1]
    assert all(p["stop"] is False for p in parts[:-1])
    wait_idle(server)


@pytest.mark.smoke
def test_pings_while_waiting(serve):
    s = serve("-c", 256, "--parallel", 1)
    r = s.post("/completion", body_of(PROMPT, 1, stream=True))
    assert r.text.startswith(": ping\n\n")  # when the prompt is read
    assert r.header("cache-control") == "no-cache"


# --- tokens -----------------------------------------------------------------------------------------------------------------
TEXTS = ["", "Hello world", "  two  spaces\n\n\ttabs", "héllo wörld", "日本語", "😀😁", "<|im_start|>user", "a\0b", "1234567 x" * 50]


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_there_and_back(server, text):
    ids = server.post("/tokenize", {"content": text}).json["tokens"]
    if "\0" not in text:
        assert ids == ids_of(server, text, "--no-bos")
    assert server.post("/detokenize", {"tokens": ids}).json == {"content": text}
    pieces = server.post("/tokenize", {"content": text, "with_pieces": True}).json["tokens"]
    assert [p["id"] for p in pieces] == ids
    raw = b"".join(p["piece"].encode() if isinstance(p["piece"], str) else bytes(p["piece"]) for p in pieces)
    assert raw.decode() == text


def test_special_tokens(server):
    def ids(**more):
        return server.post("/tokenize", {"content": "<|im_start|>user", **more}).json["tokens"]

    assert len(ids()) == 2 and len(ids(parse_special=False)) > 2
    assert ids(add_special=True) == ids_of(server, "<|im_start|>user")


def test_detokenize_of_a_part_of_a_character(server):
    ids = server.post("/tokenize", {"content": "😀"}).json["tokens"]
    if len(ids) > 1:
        assert "\ufffd" in server.post("/detokenize", {"tokens": ids[:1]}).json["content"]


# --- template, props, slots -------------------------------------------------------------------------------------------------
def test_apply_template(server):
    r = server.post("/apply-template", {"messages": [{"role": "user", "content": "Hi <|im_end|>"}]})
    if r.status == 400 and "not built" in r.text:
        pytest.skip("templates are not built in yet")
    assert "<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\n" in r.json["prompt"]
    r = server.post("/apply-template", {"messages": [{"role": "user", "content": "Hi"}], "add_generation_prompt": False})
    assert not r.json["prompt"].endswith("assistant\n")
    assert server.get("/props").json["chat_template"].startswith("{%")


def test_replaced_template(serve, tmp_path):
    path = tmp_path / "own.jinja"
    path.write_text("{{ messages[0].content }}!")
    s = serve("-c", 256, "--chat-template-file", path)
    assert s.get("/props").json["chat_template"] == "{{ messages[0].content }}!"
    r = s.post("/apply-template", {"messages": [{"role": "user", "content": "Hi"}]})
    assert r.status == 400 or r.json == {"prompt": "Hi!"}


@pytest.mark.smoke
def test_props(server):
    p = server.get("/props").json
    assert p["total_slots"] == 4 and p["default_generation_settings"]["n_ctx"] == 1024
    assert p["model_path"] == str(server.model) and p["modalities"] == {"vision": False, "audio": False}
    assert p["build_info"].startswith("rocmforge ") and p["eos_token"] == "<|im_end|>"
    assert p["default_generation_settings"]["params"]["temperature"] == 0.8


def test_slots(server):
    idle = server.get("/slots").json
    assert [s["id"] for s in idle] == [0, 1, 2, 3] and not any(s["is_processing"] for s in idle)
    assert server.get("/slots?fail_on_no_slot=1").status == 200
    running = [Stream(server, body_of(f"Number {i}", 900, ignore_eos=True, stream=True), path="/completion").head() for i in range(4)]
    for s in running:
        s.event()
    busy = server.get("/slots").json
    assert all(s["is_processing"] and s["next_token"][0]["n_decoded"] >= 1 for s in busy) and len(busy) == 4
    assert "Number" not in json.dumps(busy)  # nobody's prompt
    assert server.get("/slots?fail_on_no_slot=1").status == 503
    for s in running:
        s.reset()
    wait_idle(server)


def test_no_slots(serve):
    assert serve("-c", 256, "--no-slots").get("/slots").status == 404


def test_golden_after_all(server):
    server.check()
