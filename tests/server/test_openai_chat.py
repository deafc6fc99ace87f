"""Chats: the template's text goes to the model as the command line would send it, thoughts are split off, streams end as they
should."""
import json

import pytest

CHAT, TEXT, EMBED = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
THOUGHT, ANSWER = "The user greets me. I greet back.", "Hello! How are you?"


def hello(before):
    """A talk whose answers all began with a thought: the model goes on so."""
    turn = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": f"{before}{THOUGHT}\n</think>\n\n{ANSWER}"}]
    return {"messages": turn * 3 + [{"role": "user", "content": "Hello"}], "max_tokens": 60, "temperature": 0}


def deltas(events):
    """(reasoning, content, finish_reason) of a stream's events."""
    choices = [c for e in events if e != "[DONE]" for c in json.loads(e)["choices"]]
    text = {key: "".join(c["delta"].get(key) or "" for c in choices) for key in ("reasoning_content", "content")}
    return text["reasoning_content"], text["content"], choices[-1]["finish_reason"]


@pytest.mark.parametrize("messages", (
    [{"role": "user", "content": "What is gravity?"}],
    [{"role": "system", "content": "You speak like a pirate."}, {"role": "user", "content": "Name three colours. ŌĽ 😀"}],
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Count to five."}],
))
def test_as_the_command_line(server, binary, smollm2, messages):
    import subprocess

    def run(*args, text):
        return subprocess.run([str(a) for a in (binary, *args)], input=text, capture_output=True, check=True, timeout=120).stdout

    prompt = run("render", smollm2, text=json.dumps({"messages": messages, "add_generation_prompt": True}).encode())
    local = run("generate", smollm2, "-n", 24, "--temp", "0", "-q", "-c", 1024, text=prompt).decode().removesuffix("\n")
    r = server.post(CHAT, {"messages": messages, "max_tokens": 24, "temperature": 0}).json
    assert r["choices"][0]["message"]["content"] == local
    reasoning, content, _ = deltas(server.events(CHAT, {"messages": messages, "max_tokens": 24, "temperature": 0, "stream": True}))
    assert (reasoning, content) == ("", local)


def test_a_users_text_holds_no_special_token(server):
    def n_prompt(text):
        return server.post(CHAT, {"messages": [{"role": "user", "content": text}], "max_tokens": 1}).json["usage"]["prompt_tokens"]

    assert n_prompt("<|im_end|>") - n_prompt("") > 3  # read as text: several tokens


# --- thoughts ---------------------------------------------------------------------------------------------------------------

def test_thoughts_are_split_off(server):
    ask = hello("<think>\n")
    message = server.post(CHAT, ask).json["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == (THOUGHT, ANSWER)
    assert deltas(server.events(CHAT, {**ask, "stream": True})) == (THOUGHT, ANSWER, "stop")
    r = server.post(CHAT, {**ask, "logprobs": True}).json["choices"][0]
    assert "".join(t["token"] for t in r["logprobs"]["content"]) == f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"


def test_thoughts_stay_when_asked(server):
    ask = {**hello("<think>\n"), "reasoning_format": "none"}
    message = server.post(CHAT, ask).json["choices"][0]["message"]
    assert message == {"role": "assistant", "content": f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"}
    assert deltas(server.events(CHAT, {**ask, "stream": True})) == ("", message["content"], "stop")


def test_a_thought_cut_short(server):
    ask = {**hello("<think>\n"), "max_tokens": 6}
    r = server.post(CHAT, ask).json["choices"][0]
    assert r["message"]["content"] == "" and THOUGHT.startswith(r["message"]["reasoning_content"]) and r["finish_reason"] == "length"


def test_a_thought_the_template_began(serve, tmp_path):
    """The generation prompt opens the tag, unless thinking is switched off."""
    template = tmp_path / "t.jinja"
    template.write_text("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
                        "<think>\n{% if enable_thinking is defined and not enable_thinking %}\n</think>\n\n{% endif %}")
    server = serve("-c", 1024, "--chat-template-file", template)
    ask = hello("<think>\n")
    message = server.post(CHAT, ask).json["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == (THOUGHT, ANSWER)
    assert deltas(server.events(CHAT, {**ask, "stream": True})) == (THOUGHT, ANSWER, "stop")
    for off in ({"chat_template_kwargs": {"enable_thinking": False}}, {"reasoning_effort": "none"}):
        message = server.post(CHAT, {**ask, **off}).json["choices"][0]["message"]
        assert message == {"role": "assistant", "content": message["content"]} and message["content"]


# --- templates --------------------------------------------------------------------------------------------------------------

def test_what_a_template_is_given(serve, tmp_path):
    template = tmp_path / "t.jinja"
    template.write_text("{{ messages[0].role }} {{ my_text }} {{ my_number }} {{ reasoning_effort }} {{ add_generation_prompt }} is")
    server = serve("-c", 256, "--chat-template-file", template)
    ask = {"messages": [{"role": "developer", "content": "x"}], "max_tokens": 8, "temperature": 0}
    more = {"chat_template_kwargs": {"my_text": "blue", "my_number": 7}, "reasoning_effort": "low"}
    got = server.post(CHAT, {**ask, **more}).json
    same = server.post(TEXT, {"prompt": "system blue 7 low True is", "max_tokens": 8, "temperature": 0}).json
    assert got["choices"][0]["message"]["content"] == same["choices"][0]["text"]
    got = server.post(CHAT, {**ask, **more, "add_generation_prompt": False}).json
    same = server.post(TEXT, {"prompt": "system blue 7 low False is", "max_tokens": 8, "temperature": 0}).json
    assert got["choices"][0]["message"]["content"] == same["choices"][0]["text"]


def test_a_template_that_refuses(serve, tmp_path):
    template = tmp_path / "t.jinja"
    template.write_text("{{ raise_exception('two systems') }}")
    r = serve("-c", 256, "--chat-template-file", template).post(CHAT, {"messages": [{"role": "user", "content": "x"}]})
    assert r.status == 400 and r.json["error"]["code"] == "template.failed" and "two systems" in r.json["error"]["message"]


# --- streams ----------------------------------------------------------------------------------------------------------------

def test_a_stream_that_fails_says_so(serve):
    server = serve("-c", 4096, "--timeout", 1)
    for path, ask in ((CHAT, {"messages": [{"role": "user", "content": "x"}]}), (TEXT, {"prompt": "x"})):
        events = server.events(path, {**ask, "stream": True, "ignore_eos": True, "max_tokens": 4000})
        error = json.loads(events[-1])["error"]
        assert error["code"] == "request.timeout" and error["message"] and len(events) > 2
        r = server.post(path, {**ask, "ignore_eos": True, "max_tokens": 4000})
        assert r.status == 503 and r.json["error"]["code"] == "request.timeout" and r.header("retry-after")
    server.check()


def test_cancelled_by_id(server):
    with server.raw() as c:
        body = json.dumps({"prompt": "x", "stream": True, "ignore_eos": True, "max_tokens": 900}).encode()
        c.send(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: stop-me\r\nContent-Type: application/json\r\n"
               b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert c.head().status == 200
        while b"data: " not in c.chunk():
            pass
        assert server.post("/cancel/stop-me").status == 200
        data = b""
        while part := c.chunk():
            data += part
    events = [line[6:] for line in data.decode().split("\n") if line.startswith("data: ")]
    assert events[-1] == "[DONE]" and json.loads(events[-2])["choices"][0]["finish_reason"] == "cancelled"
    server.check()


def test_whole_characters_only(server):
    ask = {"prompt": "Emoji: 😀 😁 😂 🤣 😃 😄 😅 😆 😉", "max_tokens": 24, "temperature": 0, "stream": True, "logprobs": 0}
    events = [json.loads(e)["choices"][0] for e in server.events(TEXT, ask) if e != "[DONE]"]
    assert "�" not in "".join(e["text"] for e in events).rstrip("�")  # the last token may break off in the middle of one
    whole = server.post(TEXT, {**ask, "stream": False}).json["choices"][0]
    assert "".join(e["text"] for e in events) == whole["text"] and any(ord(ch) > 0xFFFF for ch in whole["text"])


# --- a small model, so that the sanitizers see it all -------------------------------------------------------------------------

@pytest.mark.smoke
def test_everything_once(serve, tiny, tmp_path):
    template = tmp_path / "t.jinja"
    template.write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    server = serve("-c", 128, "--parallel", 3, "--chat-template-file", template, model=tiny("llama"))
    more = {"max_tokens": 5, "seed": 3, "n": 2, "stop": ["zzz"], "logit_bias": {"7": -5}}
    chat = {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}], "logprobs": True, "top_logprobs": 2, **more}
    text = {"prompt": ["x", "y"], "logprobs": 2, **more}
    for path, ask in ((CHAT, chat), (TEXT, text), (TEXT, {"prompt": [1, 2], "echo": True, "max_tokens": 2})):
        whole = server.post(path, ask)
        assert whole.status == 200, whole.text
        assert server.events(path, {**ask, "stream": True, "stream_options": {"include_usage": True}})[-1] == "[DONE]"
    for ask in ({"input": ["x", "y"] * 80}, {"input": [[1, 2], [3]], "encoding_format": "base64"}):
        assert server.post(EMBED, ask).status == 200
    big = "x " * 40000
    for path, ask in ((CHAT, {"messages": [{"role": "user", "content": big}]}), (TEXT, {"prompt": big}), (EMBED, {"input": big})):
        assert server.post(path, ask).json["error"]["code"] == "context_length_exceeded"
    assert server.post(CHAT, {**chat, "grammar": "x"}).status == server.post(CHAT, {**chat, "messages": [{"role": "x"}]}).status == 400
    for path, ask in ((CHAT, chat), (TEXT, {"prompt": big})):  # peers that leave at once
        body = json.dumps(ask).encode()
        with server.raw() as c:
            c.send(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    assert server.get("/v1/models/none").status == 404 and server.get("/v1/models").json["data"]
    server.check()


@pytest.mark.smoke
def test_a_model_without_template(serve, tiny):
    server = serve("-c", 128, model=tiny("llama"))
    r = server.post(CHAT, {"messages": [{"role": "user", "content": "x"}]})
    assert (r.status, r.json["error"]["code"]) == (400, "template.missing")
