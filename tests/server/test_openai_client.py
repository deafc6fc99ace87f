"""The official client, unchanged, against the server."""
import base64
import math
import re
import struct
from concurrent.futures import ThreadPoolExecutor, as_completed

import pytest

openai = pytest.importorskip("openai")

CHAT = [{"role": "system", "content": "You answer briefly."}, {"role": "user", "content": "What is the capital of France?"}]
PROMPT = "The capital of France is"


def client_of(server, **more):
    return openai.OpenAI(base_url=server.url + "/v1", **{"api_key": "none", "max_retries": 0, "timeout": 120, **more})


@pytest.fixture(scope="module")
def client(server):
    return client_of(server)


@pytest.fixture(scope="module")
def model(client):
    return client.models.list().data[0].id


# --- chat -------------------------------------------------------------------------------------------------------------------

def test_chat(client, model):
    r = client.chat.completions.create(model=model, messages=CHAT, max_tokens=16, temperature=0)
    assert r.object == "chat.completion" and r.model == model and r.id.startswith("chatcmpl-") and r.system_fingerprint
    choice, = r.choices
    assert choice.message.role == "assistant" and choice.message.content and choice.finish_reason in ("stop", "length")
    assert choice.logprobs is None and choice.message.tool_calls is None
    u = r.usage
    assert u.prompt_tokens > 20 and 0 < u.completion_tokens <= 16 and u.total_tokens == u.prompt_tokens + u.completion_tokens
    assert 0 <= u.prompt_tokens_details.cached_tokens < u.prompt_tokens


def test_chat_stream_is_the_whole_reply(client, model):
    ask = dict(model=model, messages=CHAT, max_tokens=24, temperature=0)
    whole = client.chat.completions.create(**ask)
    chunks = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert reasons[-1] == whole.choices[0].finish_reason and not any(reasons[:-1])
    assert not chunks[-1].choices and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert all(c.usage is None for c in chunks[:-1]) and len({c.id for c in chunks}) == 1
    assert {c.object for c in chunks} == {"chat.completion.chunk"}


def test_chat_without_usage_in_the_stream(client, model):
    chunks = list(client.chat.completions.create(model=model, messages=CHAT, max_tokens=3, temperature=0, stream=True))
    assert all(c.choices and c.usage is None for c in chunks)


def test_the_stream_helper(client, model):
    whole = client.chat.completions.create(model=model, messages=CHAT, max_tokens=24, temperature=0).choices[0].message.content
    with client.chat.completions.stream(model=model, messages=CHAT, max_tokens=200, temperature=0, stop=whole[-6:]) as stream:
        text = "".join(e.delta for e in stream if e.type == "content.delta")
        assert text == stream.get_final_completion().choices[0].message.content


def test_chat_logprobs(client, model):
    r = client.chat.completions.create(model=model, messages=CHAT, max_tokens=6, temperature=0, logprobs=True, top_logprobs=3)
    content = r.choices[0].logprobs.content
    assert len(content) in (r.usage.completion_tokens, r.usage.completion_tokens - 1)  # the token that ended it says nothing
    assert "".join(t.token for t in content) == r.choices[0].message.content
    for t in content:
        assert bytes(t.bytes).decode() == t.token and t.logprob <= 0 and len(t.top_logprobs) == 3
        assert t.top_logprobs[0].token == t.token  # greedy
        assert [a.logprob for a in t.top_logprobs] == sorted((a.logprob for a in t.top_logprobs), reverse=True)
        assert sum(math.exp(a.logprob) for a in t.top_logprobs) <= 1.0001
    streamed = client.chat.completions.create(model=model, messages=CHAT, max_tokens=6, temperature=0, logprobs=True, top_logprobs=3,
                                              stream=True)
    pieces = [t for c in streamed if c.choices[0].logprobs for t in c.choices[0].logprobs.content]
    assert [(t.token, t.logprob) for t in pieces] == [(t.token, t.logprob) for t in content]


def test_chat_choices(client, model):
    ask = dict(model=model, messages=CHAT, max_tokens=12, temperature=1.5, seed=11)
    several = client.chat.completions.create(**ask, n=3)
    assert [c.index for c in several.choices] == [0, 1, 2]
    texts = [c.message.content for c in several.choices]
    assert len(set(texts)) == 3
    for i, text in enumerate(texts):  # choice i draws with seed + i
        one = client.chat.completions.create(**{**ask, "seed": 11 + i})
        assert one.choices[0].message.content == text
        assert one.usage.prompt_tokens == several.usage.prompt_tokens
    by_index = {0: "", 1: "", 2: ""}
    for c in client.chat.completions.create(**ask, n=3, stream=True):
        by_index[c.choices[0].index] += c.choices[0].delta.content or ""
    assert [by_index[i] for i in range(3)] == texts


def test_chat_stop(client, model):
    whole = client.chat.completions.create(model=model, messages=CHAT, max_tokens=24, temperature=0).choices[0].message.content
    word = whole.split()[2]
    r = client.chat.completions.create(model=model, messages=CHAT, max_tokens=24, temperature=0, stop=word)
    assert r.choices[0].message.content == whole.split(word)[0] and r.choices[0].finish_reason == "stop"


def test_parts_are_one_text(client, model):
    parts = [{"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": "two"}]}]
    text = [{"role": "user", "content": "One\ntwo"}]
    a, b = (client.chat.completions.create(model=model, messages=m, max_tokens=8, temperature=0) for m in (parts, text))
    assert a.choices[0].message.content == b.choices[0].message.content and a.usage.prompt_tokens == b.usage.prompt_tokens


def test_a_second_turn_reads_only_what_is_new(client, model):
    talk = [{"role": "user", "content": "Tell me about the moon, " + "and its craters, " * 40}]
    first = client.chat.completions.create(model=model, messages=talk, max_tokens=16, temperature=0)
    talk += [{"role": "assistant", "content": first.choices[0].message.content}, {"role": "user", "content": "More."}]
    second = client.chat.completions.create(model=model, messages=talk, max_tokens=4, temperature=0)
    assert second.usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens - 8


# --- text -------------------------------------------------------------------------------------------------------------------

def test_text(client, model):
    r = client.completions.create(model=model, prompt=PROMPT, max_tokens=8, temperature=0)
    assert r.object == "text_completion" and r.choices[0].text and r.choices[0].finish_reason == "length"
    assert r.usage.completion_tokens == 8 and r.id.startswith("cmpl-")
    chunks = list(client.completions.create(model=model, prompt=PROMPT, max_tokens=8, temperature=0, stream=True))
    assert "".join(c.choices[0].text for c in chunks) == r.choices[0].text and chunks[-1].choices[0].finish_reason == "length"


def test_text_prompts_and_choices(client, model):
    prompts = [PROMPT, "One, two, three,"]
    r = client.completions.create(model=model, prompt=prompts, max_tokens=6, temperature=0, n=2)
    assert [c.index for c in r.choices] == [0, 1, 2, 3]
    alone = [client.completions.create(model=model, prompt=p, max_tokens=6, temperature=0) for p in prompts]
    assert [c.text for c in r.choices] == [alone[0].choices[0].text] * 2 + [alone[1].choices[0].text] * 2
    assert r.usage.prompt_tokens == sum(a.usage.prompt_tokens for a in alone) and r.usage.completion_tokens == 24


def test_text_echo(client, model):
    plain = client.completions.create(model=model, prompt=PROMPT, max_tokens=5, temperature=0).choices[0].text
    assert client.completions.create(model=model, prompt=PROMPT, max_tokens=5, temperature=0, echo=True).choices[0].text == PROMPT + plain
    chunks = client.completions.create(model=model, prompt=PROMPT, max_tokens=5, temperature=0, echo=True, stream=True)
    assert "".join(c.choices[0].text for c in chunks) == PROMPT + plain
    nothing = client.completions.create(model=model, prompt=PROMPT, max_tokens=0, echo=True)
    assert nothing.choices[0].text == PROMPT and nothing.usage.completion_tokens == 0


def test_text_logprobs(client, model):
    r = client.completions.create(model=model, prompt=PROMPT, max_tokens=6, temperature=0, logprobs=2)
    lp, text = r.choices[0].logprobs, r.choices[0].text
    assert "".join(lp.tokens) == text and len(lp.tokens) == len(lp.token_logprobs) == len(lp.top_logprobs) == 6
    for token, logprob, top, at in zip(lp.tokens, lp.token_logprobs, lp.top_logprobs, lp.text_offset):
        assert text[at:at + len(token)] == token and top[token] == logprob and max(top.values()) == logprob
    assert client.completions.create(model=model, prompt=PROMPT, max_tokens=2, logprobs=0).choices[0].logprobs.top_logprobs == [None] * 2


def test_ids_and_text_are_alike(client, server, model):
    ids = server.post("/tokenize", {"content": PROMPT, "add_special": True}).json["tokens"]
    by_ids = client.completions.create(model=model, prompt=ids, max_tokens=6, temperature=0, echo=True)
    by_text = client.completions.create(model=model, prompt=PROMPT, max_tokens=6, temperature=0, echo=True)
    assert by_ids.choices[0].text == by_text.choices[0].text


def test_logit_bias(client, server, model):
    first = server.post("/tokenize", {"content": client.completions.create(model=model, prompt=PROMPT, max_tokens=1, temperature=0)
                                      .choices[0].text}).json["tokens"][0]
    r = client.completions.create(model=model, prompt=PROMPT, max_tokens=8, temperature=0, logit_bias={str(first): -100})
    ids = server.post("/tokenize", {"content": r.choices[0].text}).json["tokens"]
    assert first not in ids


def test_sampling_parameters_reach_the_sampler(client, model):
    """ROCmForge's server kept temperature, top_k and top_p and drew with its defaults (7g 2)."""
    def text(**more):
        r = client.completions.create(model=model, prompt="Once upon a time", max_tokens=12, **more)
        return r.choices[0].text

    greedy = text(temperature=0)
    assert text(temperature=0, seed=5) == greedy
    assert text(temperature=2, seed=5) != greedy and text(temperature=2, seed=5) == text(temperature=2, seed=5)
    assert text(temperature=2, seed=5) != text(temperature=2, seed=6)
    assert text(temperature=2, seed=5, extra_body={"top_k": 1}) == greedy
    assert text(temperature=2, seed=5, top_p=0.0001) == greedy
    assert text(temperature=2, seed=5, extra_body={"min_p": 1}) == greedy
    assert text(temperature=0, frequency_penalty=2, presence_penalty=2, extra_body={"repeat_last_n": -1}) != greedy
    assert text(temperature=0, extra_body={"repeat_penalty": 2}) != greedy
    assert len({text(temperature=2) for _ in range(4)}) > 1  # no seed: a new one each time


# --- embeddings, models -----------------------------------------------------------------------------------------------------

def test_embeddings(client, model):
    texts = ["A cat sat.", "A cat sat down.", "Interest rates rose."]
    r = client.embeddings.create(model=model, input=texts)  # asks for base64 and decodes it
    rows = [d.embedding for d in r.data]
    assert [d.index for d in r.data] == [0, 1, 2] and {len(v) for v in rows} == {576}
    assert all(abs(sum(x * x for x in v) - 1) < 1e-5 for v in rows)
    near, far = (sum(a * b for a, b in zip(rows[0], rows[i])) for i in (1, 2))
    assert near > far
    floats = client.embeddings.create(model=model, input=texts, encoding_format="float")
    assert [[struct.unpack("f", struct.pack("f", x))[0] for x in d.embedding] for d in floats.data] == rows
    raw = client.embeddings.with_raw_response.create(model=model, input=texts[0], encoding_format="base64")
    coded = raw.http_response.json()["data"][0]["embedding"]
    assert list(struct.unpack("<576f", base64.b64decode(coded, validate=True))) == pytest.approx(rows[0], abs=0)
    assert r.usage.prompt_tokens == r.usage.total_tokens > 9


def test_many_embeddings(client, model):
    """More than run at once, and more than the queue would hold if all came together."""
    texts = [f"number {i % 50}" for i in range(150)]
    rows = [tuple(d.embedding) for d in client.embeddings.create(model=model, input=texts).data]
    assert len(rows) == 150 and rows[:50] == rows[50:100] == rows[100:]


def test_models(client, model):
    assert [m.id for m in client.models.list()] == [model]
    assert client.models.retrieve(model).object == "model"
    with pytest.raises(openai.NotFoundError) as e:
        client.models.retrieve("another")
    assert e.value.code == "model_not_found"


def test_strict_model(serve):
    client = client_of(serve("-c", 256, "--strict-model", "--alias", "mine"))
    assert client.models.list().data[0].id == "mine"
    assert client.completions.create(model="mine", prompt="x", max_tokens=1).model == "mine"
    for call in (lambda: client.completions.create(model="other", prompt="x"), lambda: client.embeddings.create(model="other", input="x"),
                 lambda: client.chat.completions.create(model="other", messages=CHAT)):
        with pytest.raises(openai.NotFoundError) as e:
            call()
        assert e.value.code == "model_not_found" and e.value.param == "model"


# --- errors -----------------------------------------------------------------------------------------------------------------

def test_bad_request(client, model):
    with pytest.raises(openai.BadRequestError) as e:
        client.chat.completions.create(model=model, messages=CHAT, temperature=5)
    assert e.value.param == "temperature" and e.value.type == "invalid_request_error" and e.value.request_id


def test_too_long(client, model):
    for call in (lambda: client.completions.create(model=model, prompt="word " * 1500),
                 lambda: client.chat.completions.create(model=model, messages=[{"role": "user", "content": "word " * 1500}]),
                 lambda: client.embeddings.create(model=model, input=["a", "word " * 1500])):
        with pytest.raises(openai.BadRequestError) as e:
            call()
        assert e.value.code == "context_length_exceeded" and re.search(r"has? \d{4} tokens,? .*1024", e.value.message)


def test_much_text_is_read_beside_the_loop(client, model, server):
    """Above 64 KiB: the work goes to another thread, and comes back with its refusal."""
    with pytest.raises(openai.BadRequestError) as e:
        client.completions.create(model=model, prompt="word " * 100000)
    assert e.value.code == "context_length_exceeded" and e.value.param == "prompt"
    with server.raw() as c:  # a peer that leaves meanwhile
        body = b'{"prompt":"' + b"word " * 200000 + b'"}'
        c.send(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
               b"Content-Length: %d\r\n\r\n" % len(body) + body)
    server.check()


def test_authentication(serve):
    server = serve("-c", 256, "--api-key", "secret")
    with pytest.raises(openai.AuthenticationError):
        client_of(server).models.list()
    assert client_of(server, api_key="secret").models.list().data


def test_rate_limit(serve):
    """One runs, one waits, the others are told to come again; the client's own retries then succeed."""
    server = serve("-c", 512, "--parallel", 1, "--queue", 1)
    client = client_of(server)
    first = client.completions.create(model="m", prompt="Once", max_tokens=400, extra_body={"ignore_eos": True}, stream=True)
    next(iter(first))
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(client.completions.create, model="m", prompt="Two", max_tokens=1) for _ in range(4)]
        refused = [a.exception() for a in as_completed(asked, timeout=60) if first.close() or a.exception()]
    assert len(refused) >= 2 and all(isinstance(e, openai.RateLimitError) for e in refused), refused
    assert refused[0].response.headers["retry-after"] and refused[0].response.headers["retry-after-ms"]
    assert client_of(server, max_retries=5).completions.create(model="m", prompt="Four", max_tokens=1).choices


def test_client_timeout(client, server, model):
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).completions.create(model=model, prompt="Once", max_tokens=900, extra_body={"ignore_eos": True})
    server.check()


def test_request_ids(client, model):
    raw = client.completions.with_raw_response.create(model=model, prompt="x", max_tokens=1, extra_headers={"X-Request-Id": "mine-7"})
    assert raw.headers["x-request-id"] == "mine-7" and raw.parse()._request_id == "mine-7"
    made = client.completions.with_raw_response.create(model=model, prompt="x", max_tokens=1)
    assert made.headers["x-request-id"]


def test_raw_fields(server):
    r = server.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 4, "temperature": 0}).json
    assert set(r) == {"id", "object", "created", "model", "system_fingerprint", "choices", "usage", "timings"}
    assert r["usage"]["cached_tokens"] == r["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert {"cache_n", "prompt_n", "prompt_ms", "prompt_per_second", "predicted_n", "predicted_ms", "predicted_per_second"} <= set(r["timings"])
    events = server.events("/v1/completions", {"prompt": PROMPT, "max_tokens": 4, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}})
    assert events[-1] == "[DONE]" and '"choices":[]' in events[-2] and '"timings"' in events[-3] and '"finish_reason":"length"' in events[-3]
