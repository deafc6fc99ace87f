"""/v1/embeddings and llama.cpp's /embedding: forms, limits, long inputs, dimensions; one by one or together, one answer."""
import base64
import json
import struct
import subprocess
import threading

import pytest

PATH = "/v1/embeddings"
TEXTS = [f"Text {i}: " + "the cat sat on the mat and looked " * (i % 7) + "out." for i in range(64)]


def rows(reply):
    assert reply.status == 200, reply.text
    return [d["embedding"] for d in reply.json["data"]]


def bits(row):
    """As float32, bit for bit: a list of numbers or base64."""
    return base64.b64decode(row, validate=True) if isinstance(row, str) else struct.pack(f"<{len(row)}f", *row)


def length(row):
    return sum(x * x for x in row) ** 0.5


# --- one answer ---------------------------------------------------------------------------------------------------------------
def test_together_as_one_by_one(server):
    alone = [bits(rows(server.post(PATH, {"input": t}))[0]) for t in TEXTS]
    together = server.post(PATH, {"input": TEXTS, "encoding_format": "base64"})
    assert [bits(r) for r in rows(together)] == alone
    assert len(set(alone)) == 64 and [d["index"] for d in together.json["data"]] == list(range(64))
    ids = [server.post("/tokenize", {"content": t}).json["tokens"] for t in TEXTS]
    by_ids = server.post(PATH, {"input": ids})
    assert [bits(r) for r in rows(by_ids)] == alone
    assert by_ids.json["usage"]["prompt_tokens"] == together.json["usage"]["total_tokens"] == sum(map(len, ids))


def test_beside_generations(server):
    """Sixteen clients at once, while text is generated: the same bits, the same text."""
    alone = [bits(r) for r in rows(server.post(PATH, {"input": TEXTS}))]
    wrong = []

    def ask(k):
        for i in range(k, 64, 16):
            if bits(rows(server.post(PATH, {"input": [TEXTS[i], TEXTS[0]]}))[0]) != alone[i]:
                wrong.append(i)

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(16)]
    for t in threads:
        t.start()
    server.check()
    for t in threads:
        t.join()
    assert not wrong


def test_the_command_line_gives_the_same(server, binary, smollm2):
    done = subprocess.run([binary, "embed", smollm2, "-q", "-c", "1024"], input="\n".join(TEXTS[:9]).encode(), capture_output=True, check=True)
    assert [bits(json.loads(line)) for line in done.stdout.splitlines()] == [bits(r) for r in rows(server.post(PATH, {"input": TEXTS[:9]}))]


@pytest.mark.parametrize("pooling", ("mean", "cls", "last"))
def test_poolings_differ_and_are_told(serve, tiny, pooling):
    s = serve("-c", 256, "--pooling", pooling, model=tiny("llama"))
    assert s.get("/health").json["gives"] == f"text and embeddings ({pooling})"
    first, other, longer = rows(s.post(PATH, {"input": [[1, 300, 301], [1, 301, 300], [1, 300, 301, 302]]}))
    assert (first == longer) == (pooling == "cls") and (first == other) == (pooling == "cls")


# --- what comes back ----------------------------------------------------------------------------------------------------------
@pytest.mark.smoke
def test_length_is_one_and_base64_is_float(server):
    ask = {"input": ["a b c", "d"], "model": "any"}
    plain, coded = rows(server.post(PATH, ask)), rows(server.post(PATH, {**ask, "encoding_format": "base64"}))
    assert all(abs(length(r) - 1) < 1e-5 and len(r) == 576 for r in plain)
    assert [bits(r) for r in plain] == [bits(r) for r in coded]
    reply = server.post(PATH, ask).json
    assert reply["object"] == "list" and [d["object"] for d in reply["data"]] == ["embedding"] * 2
    assert reply["usage"] == {"prompt_tokens": 4, "completion_tokens": 0, "total_tokens": 4, "cached_tokens": 0}


@pytest.mark.smoke
def test_the_real_client(server):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
    one = client.embeddings.create(model="any", input="a b c")  # asks for base64, and decodes it
    two = client.embeddings.create(model="any", input=["a b c"], encoding_format="float")
    assert bits(one.data[0].embedding) == bits(two.data[0].embedding) and one.usage.total_tokens == 3
    with pytest.raises(openai.BadRequestError) as e:
        client.embeddings.create(model="any", input="a b c", dimensions=64)
    assert e.value.param == "dimensions" and "576" in e.value.message


@pytest.mark.smoke
def test_llamacpps_form(server):
    want = bits(rows(server.post(PATH, {"input": "a b c"}))[0])
    for path in ("/embedding", "/embeddings"):
        for name in ("content", "input"):
            got = server.post(path, {name: ["a b c", "d"]}).json
            assert [g["index"] for g in got] == [0, 1] and bits(got[0]["embedding"][0]) == want and len(got[0]["embedding"]) == 1
    raw = server.post("/embedding", {"content": "a b c", "embd_normalize": -1}).json[0]["embedding"][0]
    assert length(raw) > 2 and max(abs(a / length(raw) - b) for a, b in zip(raw, struct.unpack("<576f", want))) < 1e-6
    r = server.post("/embedding", {"content": "a", "embd_normalize": 1})
    assert r.status == 400 and r.json["error"]["param"] == "embd_normalize"


# --- what does not fit --------------------------------------------------------------------------------------------------------
@pytest.mark.smoke
def test_too_long_is_refused_with_both_numbers_or_cut(serve):
    s = serve("-c", 64)
    ids = list(range(1000, 1100))
    r = s.post(PATH, {"input": [[5], ids]})
    assert r.status == 400 and r.json["error"]["code"] == "context_length_exceeded" and r.json["error"]["param"] == "input"
    assert "element 1" in r.text and "100 tokens" in r.text and "64" in r.text
    cut, head = rows(s.post(PATH, {"input": [ids, ids[:64]], "truncate": True}))
    assert bits(cut) == bits(head)
    text = "word " * 100
    cut = s.post(PATH, {"input": text, "truncate": True})
    assert cut.json["usage"]["prompt_tokens"] == 64
    assert bits(rows(cut)[0]) == bits(rows(s.post(PATH, {"input": s.post("/tokenize", {"content": text}).json["tokens"][:64]}))[0])
    assert len(rows(s.post(PATH, {"input": [ids[:64]]}))) == 1  # a full context is no refusal


@pytest.mark.smoke
@pytest.mark.parametrize("body, param", (
    ({}, "input"), ({"input": ""}, "input"), ({"input": ["a", ""]}, "input"), ({"input": 5}, "input"), ({"input": [[]]}, "input"),
    ({"input": [[1, -1]]}, "input"), ({"input": "a", "truncate": "yes"}, "truncate"), ({"input": "a", "dimensions": 577}, "dimensions"),
    ({"input": "a", "dimensions": "x"}, "dimensions"), ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
    ({"input": "a", "pooling": "mean"}, "pooling")))
def test_wrong_fields_are_named(server, body, param):
    r = server.post(PATH, body)
    assert r.status == 400 and r.json["error"]["param"] == param and param in r.json["error"]["message"]


def test_a_client_that_leaves(server):
    """Half way through a long list: its requests end, the next client is served."""
    raw = json.dumps({"input": [TEXTS[i % 64] for i in range(1024)]}).encode()
    with server.raw() as c:
        c.send(b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(raw) + raw)
        server.wait_until(lambda: server.get("/health").json["checks"]["requests"]["active"] > 0, "a running request")
    server.wait_until(lambda: server.get("/health").json["checks"]["requests"]["active"] == 0, "their end")
    server.check()
