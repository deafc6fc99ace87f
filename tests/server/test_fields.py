"""Every field of the native and llama.cpp's routes: its type and range, named when refused; and bodies that are no request.

The tables are the contract: (route, body) -> status, and the field that the error names. After each the golden request
still gives its text.
"""
import json

import pytest

GENERATE = {"prompt": "Hi", "max_tokens": 1}
COMPLETION = {"prompt": "Hi", "n_predict": 1}

BIG = (2**31, 2**53 + 1, 1e308)
ODD = ("5", [], {}, True)
NUMBERS = (-1, 0, *BIG, "5", None, [], {}, True)
ALL = object()  # every number, 1e308 too

# field: what it takes of NUMBERS; null always counts as absent
GENERATE_TAKES = {
    "temperature": {0},
    "top_k": {-1, 0},
    "top_p": {0},
    "min_p": {0},
    "repeat_penalty": set(),
    "repetition_penalty": set(),
    "presence_penalty": {-1, 0},
    "frequency_penalty": {-1, 0},
    "repeat_last_n": {-1, 0},
    "seed": {-1, 0, 2**31, 2**53 + 1},
    "max_tokens": set(),
    "timeout": set(),
}
COMPLETION_TAKES = {
    "temperature": {0},
    "top_k": {-1, 0},
    "top_p": {0},
    "min_p": {0},
    "repeat_penalty": set(),
    "presence_penalty": {-1, 0},
    "frequency_penalty": {-1, 0},
    "repeat_last_n": {-1, 0},
    "seed": {-1, 0, 2**31, 2**53 + 1},
    "max_tokens": {-1, 0},
    "n_probs": {0},
    "timeout": set(),
    "typical_p": set(),
    "dynatemp_range": {0},
    "xtc_probability": {0},
    "mirostat": {0},
    "dry_multiplier": {0},
    "top_n_sigma": {-1},
    "min_keep": {0},
    "n_indent": {0},
    "t_max_predict_ms": {-1, 0},
    "id_slot": {-1, 0},
}


def error_of(reply):
    """(message, field) of an error reply in either dialect, whose form is checked."""
    body = reply.json
    if isinstance(body["error"], dict):
        assert set(body["error"]) == {"message", "type", "code", "param"}
        return body["error"]["message"], body["error"]["param"]
    assert body["status"] == "error" and body["category"] in ("User", "Recoverable") and "code" in body
    return body["error"], body.get("param")


def check(server, route, body, status, field=None, headers=None):
    r = server.post(route, body, headers=headers)
    assert r.status == status, (route, body if len(str(body)) < 300 else "...", r.text[:300])
    if status == 200:
        return r
    message, named = error_of(r)
    assert named == field, (message, named, field)
    if field:
        assert field in message
    return r


@pytest.mark.parametrize("field", GENERATE_TAKES)
def test_generate_number(server, field):
    for value in NUMBERS:
        taken = value is None or (type(value) in (int, float) and value in GENERATE_TAKES[field])
        check(server, "/generate", {**GENERATE, field: value}, 200 if taken else 400, None if taken else field)


@pytest.mark.parametrize("field", COMPLETION_TAKES)
def test_completion_number(server, field):
    for value in NUMBERS:
        taken = value is None or (type(value) in (int, float) and value in COMPLETION_TAKES[field])
        check(server, "/completion", {**COMPLETION, field: value}, 200 if taken else 400, None if taken else field)


@pytest.mark.parametrize("route,base,field", [
    ("/generate", GENERATE, "stream"), ("/generate", GENERATE, "ignore_eos"), ("/generate", GENERATE, "cache_prompt"),
    ("/completion", COMPLETION, "ignore_eos"), ("/completion", COMPLETION, "cache_prompt"),
    ("/completion", COMPLETION, "return_tokens"), ("/completion", COMPLETION, "timings_per_token"),
    ("/completion", COMPLETION, "return_progress"), ("/tokenize", {"content": "x"}, "add_special"),
    ("/tokenize", {"content": "x"}, "parse_special"), ("/tokenize", {"content": "x"}, "with_pieces"),
])
def test_bool(server, route, base, field):
    for value in (True, False, None):
        check(server, route, {**base, field: value}, 200)
    for value in (0, 1, "true", [], {}, 1.5):
        check(server, route, {**base, field: value}, 400, field)


FIELDS = [  # route, body, status, field named
    ("/generate", {}, 400, "prompt"),
    ("/generate", {"prompt": None}, 400, "prompt"),
    ("/generate", {"prompt": ""}, 400, "prompt"),
    ("/generate", {"prompt": []}, 400, "prompt"),
    ("/generate", {"prompt": 5}, 400, "prompt"),
    ("/generate", {"prompt": {"text": "x"}}, 400, "prompt"),
    ("/generate", {"prompt": ["a", "b"]}, 400, "prompt"),
    ("/generate", {"prompt": [[1], [2]]}, 400, "prompt"),
    ("/generate", {"prompt": [1, 2.5]}, 400, "prompt"),
    ("/generate", {"prompt": [1, None]}, 400, "prompt"),
    ("/generate", {"prompt": [1, True]}, 400, "prompt"),
    ("/generate", {"prompt": [-1]}, 400, "prompt"),
    ("/generate", {"prompt": [49152]}, 400, "prompt"),
    ("/generate", {"prompt": [2**53]}, 400, "prompt"),
    ("/generate", {"prompt": [504, 2365], "max_tokens": 1}, 200, None),
    ("/generate", {"prompt": ["The", 2365], "max_tokens": 1}, 200, None),
    ("/generate", {"prompt": ["The"], "max_tokens": 1}, 200, None),
    ("/generate", {"prompt": "a\0b", "max_tokens": 1}, 200, None),
    ("/generate", {"prompt": "x" * 60000}, 400, "prompt"),
    ("/generate", {"prompt": "word " * 60000}, 400, "prompt"),
    ("/generate", {**GENERATE, "temperature": 2}, 200, None),
    ("/generate", {**GENERATE, "temperature": 2.0001}, 400, "temperature"),
    ("/generate", {**GENERATE, "temperature": -0.0001}, 400, "temperature"),
    ("/generate", {**GENERATE, "top_p": 1.0001}, 400, "top_p"),
    ("/generate", {**GENERATE, "max_tokens": 1.0}, 200, None),
    ("/generate", {**GENERATE, "max_tokens": 1.5}, 400, "max_tokens"),
    ("/generate", {**GENERATE, "seed": 2**63 - 1}, 200, None),
    ("/generate", {**GENERATE, "seed": -2**63}, 200, None),
    ("/generate", {**GENERATE, "seed": 1.5}, 400, "seed"),
    ("/generate", {**GENERATE, "top_k": 2**31 - 1}, 200, None),
    ("/generate", {**GENERATE, "top_k": -2}, 400, "top_k"),
    ("/generate", {**GENERATE, "n": 2}, 400, "n"),
    ("/generate", {**GENERATE, "foo": 1}, 400, "foo"),
    ("/generate", {**GENERATE, "": 1}, 400, "?"),
    ("/generate", {**GENERATE, "Temperature": 1}, 400, "Temperature"),
    ("/generate", {**GENERATE, "<b>\n\"é": 1}, 400, "?b??????"[:7]),
    ("/generate", {**GENERATE, "x" * 5000: 1}, 400, "x" * 48),
    ("/generate", {**GENERATE, "grammar": "root ::= x"}, 400, "grammar"),
    ("/generate", {**GENERATE, "tools": []}, 400, "tools"),
    ("/generate", {**GENERATE, "stop": "x"}, 200, None),
    ("/generate", {**GENERATE, "stop": ["x", "y"]}, 200, None),
    ("/generate", {**GENERATE, "stop": []}, 200, None),
    ("/generate", {**GENERATE, "stop": ""}, 200, None),
    ("/generate", {**GENERATE, "stop": 5}, 400, "stop"),
    ("/generate", {**GENERATE, "stop": {}}, 400, "stop"),
    ("/generate", {**GENERATE, "stop": ["x", 5]}, 400, "stop"),
    ("/generate", {**GENERATE, "stop": ["x", None]}, 400, "stop"),
    ("/generate", {**GENERATE, "stop": ["a\0b"]}, 400, "stop"),
    ("/generate", {**GENERATE, "stop": ["x" * 5000]}, 400, "stop"),
    ("/generate", {**GENERATE, "stop": ["x"] * 65}, 400, "stop"),
    ("/generate", {**GENERATE, "logit_bias": {}}, 200, None),
    ("/generate", {**GENERATE, "logit_bias": {"5": -100, "6": 2.5}}, 200, None),
    ("/generate", {**GENERATE, "logit_bias": {"5": False}}, 200, None),
    ("/generate", {**GENERATE, "logit_bias": {" Paris": -1}}, 200, None),
    ("/generate", {**GENERATE, "logit_bias": {"5": True}}, 400, "logit_bias"),
    ("/generate", {**GENERATE, "logit_bias": {"5": "1"}}, 400, "logit_bias"),
    ("/generate", {**GENERATE, "logit_bias": {"5": None}}, 400, "logit_bias"),
    ("/generate", {**GENERATE, "logit_bias": {"5": 1e308}}, 400, "logit_bias"),
    ("/generate", {**GENERATE, "logit_bias": {"49152": 1}}, 400, "logit_bias"),
    ("/generate", {**GENERATE, "logit_bias": {"99999999999999999999": 1}}, 200, None),  # text
    ("/generate", {**GENERATE, "logit_bias": [[5, 1], [" Paris", False]]}, 200, None),
    ("/generate", {**GENERATE, "logit_bias": [5, 1]}, 400, "logit_bias"),
    ("/generate", {**GENERATE, "logit_bias": [[5]]}, 400, "logit_bias"),
    ("/generate", {**GENERATE, "logit_bias": [[5, 1, 2]]}, 400, "logit_bias"),
    ("/generate", {**GENERATE, "logit_bias": [[-1, 1]]}, 400, "logit_bias"),
    ("/generate", {**GENERATE, "logit_bias": [[5.0, 1]]}, 400, "logit_bias"),
    ("/generate", {**GENERATE, "logit_bias": [[None, 1]]}, 400, "logit_bias"),
    ("/generate", {**GENERATE, "logit_bias": "x"}, 400, "logit_bias"),
    ("/generate", {**GENERATE, "model": "any name at all"}, 200, None),
    ("/generate", {**GENERATE, "model": 5}, 400, "model"),
    ("/generate/stream", {"prompt": 5}, 400, "prompt"),
    ("/generate/stream", {**GENERATE, "top_p": "x"}, 400, "top_p"),
    ("/completion", {}, 400, "prompt"),
    ("/completion", {"prompt": {"prompt_string": "x", "multimodal_data": []}}, 400, "prompt"),
    ("/completion", {"prompt": [[1, 2], [3]]}, 400, "prompt"),
    ("/completion", {"prompt": ["a", "b"]}, 400, "prompt"),
    ("/completion", {"prompt": "word " * 60000}, 400, "prompt"),
    ("/completion", {**COMPLETION, "temperature": 99}, 200, None),
    ("/completion", {**COMPLETION, "temperature": 101}, 400, "temperature"),
    ("/completion", {**COMPLETION, "n_predict": -2}, 400, "n_predict"),
    ("/completion", {**COMPLETION, "n_predict": "5"}, 400, "n_predict"),
    ("/completion", {**COMPLETION, "n_predict": 2**31}, 400, "n_predict"),
    ("/completion", {**COMPLETION, "n_probs": 64}, 200, None),
    ("/completion", {**COMPLETION, "n_probs": 65}, 400, "n_probs"),
    ("/completion", {**COMPLETION, "n": 1, "n_cmpl": 1}, 200, None),
    ("/completion", {**COMPLETION, "n": 2}, 400, "n"),
    ("/completion", {**COMPLETION, "typical_p": 1, "typ_p": 1.0, "tfs_z": 1}, 200, None),
    ("/completion", {**COMPLETION, "typical_p": 0.5}, 400, "typical_p"),
    ("/completion", {**COMPLETION, "mirostat": 2}, 400, "mirostat"),
    ("/completion", {**COMPLETION, "mirostat_tau": 5, "mirostat_eta": 0.1, "dry_base": 1.75, "dry_allowed_length": 2,
                     "dry_penalty_last_n": -1, "dry_sequence_breakers": ["\n"], "xtc_threshold": 0.1,
                     "dynatemp_exponent": 1}, 200, None),
    ("/completion", {**COMPLETION, "dry_multiplier": 0.8}, 400, "dry_multiplier"),
    ("/completion", {**COMPLETION, "xtc_probability": 0.5}, 400, "xtc_probability"),
    ("/completion", {**COMPLETION, "grammar": ""}, 200, None),
    ("/completion", {**COMPLETION, "grammar": "root ::= \"a\""}, 400, "grammar"),
    ("/completion", {**COMPLETION, "grammar": "(" * 60000}, 400, "grammar"),
    ("/completion", {**COMPLETION, "grammar": "\"a\"{2000000000,2147483647}"}, 400, "grammar"),
    ("/completion", {**COMPLETION, "json_schema": None}, 200, None),
    ("/completion", {**COMPLETION, "json_schema": {}}, 400, "json_schema"),
    ("/completion", {**COMPLETION, "json_schema": {"type": "object"}}, 400, "json_schema"),
    ("/completion", {**COMPLETION, "lora": []}, 200, None),
    ("/completion", {**COMPLETION, "lora": [{"id": 0, "scale": 1}]}, 400, "lora"),
    ("/completion", {**COMPLETION, "image_data": []}, 200, None),
    ("/completion", {**COMPLETION, "image_data": [{"data": "", "id": 1}]}, 400, "image_data"),
    ("/completion", {**COMPLETION, "response_fields": ["content"]}, 400, "response_fields"),
    ("/completion", {**COMPLETION, "post_sampling_probs": False}, 200, None),
    ("/completion", {**COMPLETION, "post_sampling_probs": True}, 400, "post_sampling_probs"),
    ("/completion", {**COMPLETION, "t_max_predict_ms": 100}, 400, "t_max_predict_ms"),
    ("/completion", {**COMPLETION, "n_discard": -1}, 200, None),
    ("/completion", {**COMPLETION, "zork": None}, 400, "zork"),
    ("/completions", {**COMPLETION, "top_k": "x"}, 400, "top_k"),
    ("/tokenize", {}, 400, "content"),
    ("/tokenize", {"content": 5}, 400, "content"),
    ("/tokenize", {"content": ["a"]}, 400, "content"),
    ("/tokenize", {"content": "x", "text": "y"}, 400, "text"),
    ("/tokenize", {"content": ""}, 200, None),
    ("/detokenize", {}, 400, "tokens"),
    ("/detokenize", {"tokens": "5"}, 400, "tokens"),
    ("/detokenize", {"tokens": ["5"]}, 400, "tokens"),
    ("/detokenize", {"tokens": [-1]}, 400, "tokens"),
    ("/detokenize", {"tokens": [49152]}, 400, "tokens"),
    ("/detokenize", {"tokens": [5.5]}, 400, "tokens"),
    ("/detokenize", {"tokens": []}, 200, None),
    ("/apply-template", {}, 400, "messages"),
    ("/apply-template", {"messages": "x"}, 400, "messages"),
    ("/apply-template", {"messages": [], "tools": {}}, 400, "tools"),
    ("/apply-template", {"messages": [], "chat_template_kwargs": []}, 400, "chat_template_kwargs"),
    ("/apply-template", {"messages": [], "chat_template_kwargs": {"messages": []}}, 400, "chat_template_kwargs"),
    ("/apply-template", {"messages": [], "add_generation_prompt": 1}, 400, "add_generation_prompt"),
]


@pytest.mark.parametrize("number", range(len(FIELDS)), ids=lambda i: f"{i}-{FIELDS[i][0][1:]}-{FIELDS[i][3]}")
def test_field(server, number):
    check(server, *FIELDS[number])
    server.check()


BODIES = [  # bytes, status
    (b"", 400), (b" ", 400), (b"null", 400), (b"[]", 400), (b"5", 400), (b'"x"', 400), (b"true", 400), (b"{", 400), (b"}", 400),
    (b"{}x", 400), (b'{"prompt":"x"}{}', 400), (b"{'prompt':'x'}", 400), (b'{"prompt":"x",}', 400), (b'{"prompt" "x"}', 400),
    (b'{prompt:"x"}', 400), (b'{"prompt":"x" /* y */}', 400), (b'{"prompt":"x","prompt":"y"}', 400),
    (b'{"prompt":"x","logit_bias":{"5":1,"5":2}}', 400), (b'{"prompt":NaN}', 400), (b'{"prompt":"x","top_p":Infinity}', 400),
    (b'{"prompt":"x","top_p":-Infinity}', 400), (b'{"prompt":"x","top_p":1e999999}', 400), (b'{"prompt":"x","top_p":.5}', 400),
    (b'{"prompt":"x","top_p":+1}', 400), (b'{"prompt":"x","seed":01}', 400), (b'{"prompt":"x","seed":0x10}', 400),
    (b'{"prompt":"x","seed":18446744073709551616}', 400), (b'{"prompt":"x","seed":1' + b"0" * 5000 + b"}", 400),
    (b'{"prompt":"\xff"}', 400), (b'{"prompt":"\xc0\xaf"}', 400), (b'{"prompt":"\xed\xa0\x80"}', 400),
    (b'{"prompt":"\xf4\x90\x80\x80"}', 400), (b'{"prompt":"\xe2\x82"}', 400), (b'{"\xff":1}', 400), (b"\xff\xfe{\x00}\x00", 400),
    (b'\xef\xbb\xbf{"prompt":"x"}', 400), (b'{"prompt":"\\ud800"}', 400), (b'{"prompt":"\\udc00\\ud800"}', 400),
    (b'{"prompt":"\\uZZZZ"}', 400), (b'{"prompt":"\\x41"}', 400), (b'{"prompt":"a\nb"}', 400), (b'{"prompt":"a\x00b"}', 400),
    (b'{"a\\u0000b":1}', 400), (b"[" * 1000000, 400), (b'{"a":' * 100000, 400), (b'{"prompt":' + b"[" * 300 + b"]" * 300 + b"}", 400),
    (b'{"prompt":' + b"[" * 255 + b"]" * 255 + b"}", 400), (b'{"x":"' + b"[" * 3000 + b'"}', 400),
    (b"{" + b",".join(b'"k%d":1' % i for i in range(300000)) + b"}", 400), (b'{"prompt":[' + b"1," * 600000 + b"1]}", 400),
    (b'{"prompt":"' + b"a" * 1000000, 400), (b'{"prompt":"\\u0041","max_tokens":1}', 200), (b'{"prompt":"\\ud83d\\ude00","max_tokens":1}', 200),
    (b'\n\t {"prompt":"x","max_tokens":1}\r\n', 200), (b'{"prompt":"x","max_tokens":1,"stop":null}', 200),
    (b'{"prompt":"\\u0000","max_tokens":1}', 200),
]


@pytest.mark.parametrize("number", range(len(BODIES)), ids=lambda i: f"{i}-{BODIES[i][0][:20]!r}")
def test_body(server, number):
    body, status = BODIES[number]
    r = server.post("/generate", body)
    assert r.status == status, r.text[:300]
    assert "prompt" not in r.json if status == 400 else r.json["finished"]
    r.body.decode("utf-8")
    server.check()


@pytest.mark.parametrize("value,status", [
    (None, 415), ("text/plain", 415), ("application/x-www-form-urlencoded", 415), ("multipart/form-data", 415), ("", 415),
    ("application/jsonx", 415), ("application/json; charset=latin-1", 415), ("application/json; boundary=x", 415),
    ("application/json, text/plain", 415), ("application/json", 200), ("Application/JSON", 200),
    ("application/json; charset=utf-8", 200), ("application/json;charset=UTF-8", 200), ('application/json; charset="utf-8"', 200),
])
def test_content_type(server, value, status):
    r = server.post("/generate", GENERATE, headers={"Content-Type": value})
    assert r.status == status, r.text


def test_warnings_name_what_is_ignored(server):
    r = server.post("/completion", {**COMPLETION, "n_keep": 5, "samplers": ["top_k"], "id_slot": 3, "mirostat_tau": 5}).json
    assert sorted(w.split()[0] for w in r["warnings"]) == ["id_slot", "n_keep", "samplers"]
    assert "warnings" not in server.post("/completion", {**COMPLETION, "id_slot": -1}).json


def test_strict_model(serve):
    s = serve("-c", 256, "--strict-model", "--alias", "mine")
    assert s.post("/generate", {**GENERATE, "model": "mine"}).status == 200
    for route in ("/generate", "/completion", "/tokenize"):
        r = s.post(route, {"prompt": "x", "model": "other"})
        assert r.status == 404 and error_of(r)[1] == "model"


def test_long_bodies_leave_the_loop_free(server):
    """Text of megabytes is read on another thread: a small request sent behind it is answered first."""
    text = "The quick brown fox jumps over the lazy dog. " * 100000
    with server.raw() as slow:
        body = json.dumps({"content": text}).encode()
        slow.send(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                  % len(body) + body)
        with server.raw() as quick:
            for _ in range(3):
                quick.send(b"GET /props HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert quick.reply().status == 200
        r = slow.reply()
        assert r.status == 200 and len(r.json["tokens"]) > 900000
    with server.raw() as gone:  # and one that leaves meanwhile
        gone.send(b"POST /completion HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                  % (len(body) + 1) + body.replace(b"content", b"prompt", 1).replace(b" dog. \"", b" dog.  \""))
    assert server.get("/props").status == 200


@pytest.mark.smoke
def test_smoke(server):
    for route, body, status, field in FIELDS[::7]:
        check(server, route, body, status, field)
    for body, status in BODIES[::5]:
        assert server.post("/generate", body).status == status


def test_golden_after_all(server):
    server.check()
