"""generate, chat, status and cancel against a server: the real one, and one of this file's own that misbehaves."""
import http.server
import json
import os
import re
import signal
import subprocess
import threading
import time

import pytest

from terminal import Terminal

MODES = {"generate": "/completion", "chat": "/v1/chat/completions"}


# --- the real server ------------------------------------------------------------------------------------------------------

def free_of_signals():
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


class Server:
    def __init__(self, binary, model, *options):
        self.child = subprocess.Popen([str(c) for c in (binary, "serve", model, "--port", "0", *options)], stdin=subprocess.DEVNULL,
                                      stderr=subprocess.PIPE, text=True, preexec_fn=free_of_signals)
        self.said = ""
        for line in self.child.stderr:
            self.said += line
            found = re.search(r"listening on (\S+)", line)
            if found:
                self.url = found[1]
                threading.Thread(target=self.child.stderr.read, daemon=True).start()
                return
        raise AssertionError(f"the server did not start: {self.said}")

    def close(self):
        self.child.send_signal(signal.SIGTERM)
        assert self.child.wait(timeout=60) == 0


@pytest.fixture(scope="module")
def start(binary, smollm2):
    servers = []

    def run(*options):
        servers.append(Server(binary, smollm2, "-c", "1024", "--parallel", "2", *options))
        return servers[-1]

    yield run
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def server(start):
    return start()


PROMPT = "The capital of France is"
SAMPLING = (["--temp", "0"], ["--temp", "0", "--no-bos"], ["--temp", "0", "--no-parse-special"], ["--temp", "0", "--stop", "United"],
            ["--temp", "0.9", "--seed", "5"], ["--temp", "1.3", "--seed", "6", "--top-k", "9", "--top-p", "0.8", "--min-p", "0.01"],
            ["--temp", "0", "--logit-bias", "7042-inf", "--logit-bias", "30+2.5"],
            ["--temp", "0.5", "--seed", "9", "--repeat-penalty", "1.3", "--repeat-last-n", "20", "--presence-penalty", "0.5",
             "--frequency-penalty", "0.25", "--ignore-eos"])


@pytest.mark.parametrize("options", SAMPLING, ids=" ".join)
@pytest.mark.parametrize("text", (PROMPT, "<|im_start|>user\nHi<|im_end|>\n"))
def test_generate_gives_the_same_there(server, rocmforge, smollm2, options, text):
    args = ("-p", text, "-n", "24", *options)
    there, here = rocmforge("generate", "--host", server.url, *args), rocmforge("generate", smollm2, *args)
    assert there.stdout == here.stdout
    form = r"prompt: \d+ tokens?(?: \(\d+ cached\))?, [\d.]+ t/s \| generated: \d+ tokens?, [\d.]+ t/s \| .*\n(?:seed: \d+\n)?"
    assert re.fullmatch(form, there.err), there.err
    assert re.search(r"generated: (\d+)", there.err)[1] == re.search(r"generated: (\d+)", here.err)[1]


def test_generate_json_has_the_same_keys(server, rocmforge_json, smollm2):
    args = ("-p", PROMPT, "-n", "6", "--temp", "0", "--json", "--top-logprobs", "2", "--seed", "4")
    there, here = rocmforge_json("generate", "--host", server.url, *args), rocmforge_json("generate", smollm2, *args)
    for key in ("text", "tokens", "prompt_tokens", "completion_tokens", "finish_reason", "seed", "logprobs", "warnings"):
        assert there[key] == here[key], key
    assert set(here) - set(there) <= {"device"} and set(here["timings"]) - set(there["timings"]) <= {"load_ms"}
    assert all(there["timings"][key] > 0 for key in ("prompt_ms", "prompt_per_second", "predicted_ms", "predicted_per_second"))


def test_chat_gives_the_same_there(server, rocmforge, rocmforge_json, smollm2):
    for options in (["--temp", "0"], ["--temp", "0.9", "--seed", "8"], ["--temp", "0", "-sys", "You are a pirate."]):
        args = ("-p", "What is the capital of France?", "-n", "20", *options)
        there, here = rocmforge("chat", "--host", server.url, *args), rocmforge("chat", smollm2, *args)
        assert there.stdout == here.stdout and len(there.stdout) > 2
    args = ("-p", "Hello", "-n", "6", "--temp", "0", "--json", "--seed", "4")
    there, here = rocmforge_json("chat", "--host", server.url, *args), rocmforge_json("chat", smollm2, *args)
    for key in ("text", "prompt_tokens", "completion_tokens", "finish_reason", "seed", "device", "warnings"):
        assert there[key] == here[key], key


def test_a_conversation_there(server, rocmforge, smollm2, tmp_path):
    lines = f"My name is Ada.\nWhat is the capital of France?\n/regen\n/save {tmp_path / 'x'}\n/clear\nHi\n"
    args = ("--temp", "0", "-n", "12")
    there = rocmforge("chat", "--host", server.url, *args, input=lines)
    here = rocmforge("chat", smollm2, *args, input=lines)
    assert there.stdout == here.stdout
    assert [m["role"] for m in json.loads((tmp_path / "x").read_text())["messages"]] == ["user", "assistant"] * 2
    cached = [int(n or 0) for n in re.findall(r"prompt: \d+ tokens(?: \((\d+) cached\))?", there.err)]
    assert len(cached) == 4 and cached[1] > 20 and cached[2] > cached[1], "turns are cached there, too"


def test_a_full_context_there(server, rocmforge):
    lines = "Tell me a very long story.\n/set max_tokens 2\n" + "the of " * 1200 + "\n/show\n"
    done = rocmforge("chat", "--host", server.url, "--temp", "0", "--ignore-eos", input=lines, status=1)
    assert "the context is full, 1024 of 1024 tokens" in done.err and "/clear" in done.err
    assert re.search(r"error\[request.context_length\]: .*1024", done.err), done.err[-600:]


def test_ctrl_c_cancels_there(server, binary):
    child = subprocess.Popen([str(binary), "generate", "--host", server.url, "-p", "Once upon a time", "--temp", "0", "--ignore-eos"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=free_of_signals, bufsize=0)
    first = child.stdout.read(1)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130 and out.endswith(b"\n") and b"cancelled" in err and b"error" not in err and len(first + out) > 1


def test_ctrl_c_stops_a_chat_there(server, binary, tmp_path):
    with Terminal(binary, "chat", "--host", server.url, "--temp", "0", "--ignore-eos", "--no-history") as t:
        t.expect("> ")
        t.type("Tell me a long story\n")
        t.expect("story\n")
        t.more(100)
        t.type("\x03")
        t.expect("| cancelled\n")
        t.expect("> ")
        t.type("/set max_tokens 3\nGo on\n")
        t.expect("length reached\n")
        t.expect("> ")
        t.type("\x04")
        assert t.end() == 0


def test_status_and_cancel(server, binary, rocmforge, rocmforge_json, refused):
    host = ("--host", server.url)
    child = subprocess.Popen([str(binary), "generate", *host, "-p", "Once upon a time", "--temp", "0", "--ignore-eos", "-q"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=free_of_signals, bufsize=0)
    first = child.stdout.read(10)
    last = 1
    while rocmforge("status", str(last + 1), *host, status=None).returncode == 0:
        last += 1
    running = rocmforge_json("status", "--request-id", str(last), *host, "--json")
    assert running["request_id"] == last and not running["finished"] and running["text"].startswith(first.decode())
    assert rocmforge("status", str(last), *host).out.startswith(f"request_id: {last}\nfinish_reason: none yet\ntext: ")
    done = rocmforge("cancel", str(last), *host)
    assert re.match(rf"request_id: {last}\nfinish_reason: cancelled\ntext: ", done.out) and done.err == ""
    out, err = child.communicate(timeout=60)
    assert (first + out).decode().strip() and child.returncode == 130 and b"error" not in err
    again = rocmforge("status", str(last), *host)
    assert "finish_reason: cancelled\n" in again.out and again.out.endswith("\n")
    for command in ("status", "cancel"):
        refused("request.not_found", command, "999999", *host, status=1)
        assert "give its id" in refused("usage.argument", command, *host, status=2).lower()
        refused("usage.range", command, "../x", *host, status=2)
        refused("usage.argument", command, "1", "--request-id", "2", *host, status=2)


def test_a_key(start, rocmforge, refused):
    server = start("--api-key", "sesame")
    args = ("generate", "--host", server.url, "-p", PROMPT, "-n", "2", "--temp", "0", "-q")
    for wrong in ((), ("--api-key", "mellon")):
        assert "--api-key" in refused("remote.auth", *args, *wrong, status=1)
    assert rocmforge(*args, "--api-key", "sesame").out == rocmforge(*args, env={"ROCMFORGE_API_KEY": "sesame"}).out
    refused("remote.auth", "status", "1", "--host", server.url, status=1)
    assert "sesame" not in refused("usage.range", *args, "--api-key", "sesa me", status=2)


def test_tls(start, rocmforge, refused, tmp_path):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", cert,
                    "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
    server = start("--tls-cert", str(cert), "--tls-key", str(key))
    url = server.url if server.url.startswith("https") else server.url.replace("http", "https")
    args = ("generate", "--host", url, "-p", PROMPT, "-n", "2", "--temp", "0", "-q")
    assert "--cacert" in refused("remote.tls", *args, status=1)
    assert rocmforge(*args, "--cacert", cert).out.startswith(" Paris")
    refused("remote.tls", *args, "--cacert", tmp_path / "absent", status=1)
    plain = [a.replace("https", "http") for a in args]
    rocmforge(*plain, status=1)


# --- a server that misbehaves ---------------------------------------------------------------------------------------------

class Fake:
    """Answers each request by the next step given: (status, headers, body), or a function of the handler."""

    def __init__(self):
        self.steps, self.asked = [], []
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fake.asked.append((self.command, self.path, dict(self.headers), body))
                step = fake.steps.pop(0) if fake.steps else (404, {}, b"")
                self.close_connection = True
                if callable(step):
                    step(self)
                    return
                status, headers, text = step
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", "Content-Length": len(text), **headers}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = answer

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def will(self, *steps):
        self.steps, self.asked = list(steps), []
        return self


@pytest.fixture(scope="module")
def fake():
    it = Fake()
    yield it
    it.server.shutdown()


def event(value):
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


TIMINGS = {"prompt_n": 3, "cache_n": 2, "prompt_ms": 5.0, "predicted_n": 2, "predicted_ms": 4.0}
GOOD = {"generate": event({"content": "Hel", "stop": False}) + event({"content": "lo", "stop": False})
        + event({"content": "", "stop": True, "stop_type": "eos", "tokens_evaluated": 5, "timings": TIMINGS}),
        "chat": event({"choices": [{"delta": {"role": "assistant", "content": ""}}]}) + event({"choices": [{"delta": {"content": "Hel"}}]})
        + event({"choices": [{"delta": {"content": "lo"}, "finish_reason": None}]}) + event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        + event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 2}},
                 "timings": TIMINGS}) + event(b"[DONE]")}
SSE = {"Content-Type": "text/event-stream"}


def ask(mode, fake, *options):
    return (mode, "--host", fake.url, "-p", "Hi", *options)


@pytest.mark.smoke
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("change", (lambda b: b, lambda b: b.replace(b"\n", b"\r\n"), lambda b: b.replace(b"\n", b"\r"),
                                    lambda b: b": ping\n\nevent: x\nid: 7\n" + b, lambda b: b.replace(b"data: ", b"data:")))
def test_a_good_stream_in_every_form(fake, rocmforge, mode, change):
    def bytewise(handler):
        text = change(GOOD[mode])
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream; charset=utf-8")
        handler.end_headers()
        for i in range(0, len(text), 7):
            handler.wfile.write(text[i:i + 7])
            handler.wfile.flush()

    for step in ((200, SSE, change(GOOD[mode])), bytewise):
        fake.will(step)
        done = rocmforge(*ask(mode, fake))
        assert done.out == "Hello\n" and "prompt: 5 tokens (2 cached)" in done.err and "the model ended" in done.err
        method, path, headers, body = fake.asked[0]
        assert (method, path) == ("POST", MODES[mode]) and headers["Content-Type"] == "application/json"
        assert re.fullmatch(r"cli-[0-9a-f]{16}", headers["X-Request-Id"])
        asked = json.loads(body)
        assert asked["stream"] is True and asked["temperature"] == 0.8 and asked["top_k"] == 40 and asked["top_p"] == 0.95


@pytest.mark.smoke
@pytest.mark.parametrize("mode", MODES)
def test_a_stream_that_ends_early(fake, rocmforge, mode):
    half = GOOD[mode].split(b"lo")[0].rsplit(b"data", 1)[0]

    def cut(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        handler.wfile.write(half)

    for step in ((200, SSE, half), cut):
        done = rocmforge(*ask(mode, fake.will(step)), status=1)
        assert done.out == "Hel\n", "what came is printed"
        assert done.err.count("rocmforge: error[") == 1 and "error[remote.broken]" in done.err


@pytest.mark.smoke
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("error, code", (
    ({"error": {"message": "the device was lost", "type": "server_error", "code": "backend.device", "param": None}}, "backend.device"),
    ({"error": "the device was lost", "category": "Backend", "recoverable": True, "status": "error"}, "remote.failed")))
def test_an_error_event(fake, rocmforge, mode, error, code):
    half = GOOD[mode].split(b"lo")[0].rsplit(b"data", 1)[0]
    done = rocmforge(*ask(mode, fake.will((200, SSE, half + event(error)))), status=1)
    assert done.out == "Hel\n" and f"error[{code}]: " in done.err and "the device was lost" in done.err


@pytest.mark.smoke
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("body", (event(b"{"), event(b"5"), event(b"\xff"), event(b"[" * 5000)))
def test_what_is_no_event(fake, rocmforge, mode, body):
    done = rocmforge(*ask(mode, fake.will((200, SSE, body))), status=1)
    assert "error[remote.reply]" in done.err and done.err.count("error[") == 1


OPENAI = json.dumps({"error": {"message": "what it says", "type": "x", "code": "some.code", "param": None}}).encode()
NATIVE = json.dumps({"error": "what it says", "code": "some.code", "category": "User", "recoverable": False, "status": "error"}).encode()


@pytest.mark.smoke
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("status, body, code, words", (
    (400, OPENAI, "some.code", "what it says"), (400, NATIVE, "some.code", "what it says"), (400, b"<html>", "remote.refused", "400"),
    (401, OPENAI, "remote.auth", "--api-key"), (403, b"", "remote.auth", "403"), (404, b"nothing", "request.not_found", "not found"),
    (413, b"", "remote.refused", "413"), (500, b"", "remote.refused", "500"), (503, OPENAI, "some.code", "what it says"),
    (503, b"", "remote.unavailable", "not ready"), (301, b"", "remote.reply", "redirection"), (200, b"{}", "remote.reply", "form"),
    (400, json.dumps({"error": "a\x1b[31m\nb"}).encode(), "remote.refused", "a [31m b")))
def test_refusals(fake, refused, mode, status, body, code, words):
    line = refused(code, *ask(mode, fake.will((status, {"Location": "http://127.0.0.1:1/"} if status == 301 else {}, body)), "-q"), status=1)
    assert words in line and len(fake.asked) == 1


@pytest.mark.smoke
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("headers", ({"Retry-After": "0"}, {"Retry-After": "30", "retry-after-ms": "50"}))
def test_a_full_server_is_asked_again(fake, rocmforge, mode, headers):
    done = rocmforge(*ask(mode, fake.will((429, headers, OPENAI), (429, headers, OPENAI), (200, SSE, GOOD[mode]))))
    assert done.out == "Hello\n" and len(fake.asked) == 3
    assert done.err.count("is full: trying again") == 2 and "(try 3 of 4)" in done.err


@pytest.mark.smoke
@pytest.mark.parametrize("mode", MODES)
def test_a_server_that_stays_full(fake, refused, mode):
    line = refused("remote.busy", *ask(mode, fake.will(*[(429, {"Retry-After": "0"}, OPENAI)] * 9)), status=1)
    assert "what it says" in line and len(fake.asked) == 4
    refused("remote.busy", *ask(mode, fake.will((429, {"Retry-After": "9999999999"}, OPENAI))), status=1)
    assert len(fake.asked) == 1, "nobody waits so long"


@pytest.mark.smoke
@pytest.mark.parametrize("mode", MODES)
def test_ctrl_c_while_it_waits(fake, binary, mode):
    child = subprocess.Popen([str(binary), *ask(mode, fake.will((429, {"Retry-After": "50"}, OPENAI)))], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, preexec_fn=free_of_signals)
    line = child.stderr.readline()
    assert b"trying again in 50.0 s" in line
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130 and out.strip() == b""


@pytest.mark.smoke
@pytest.mark.parametrize("mode", MODES)
def test_ctrl_c_says_so_there(fake, binary, mode):
    """POST /cancel/ID with the request's own id, and the partial text stays, whatever the server then does."""
    def silent(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        handler.wfile.write(GOOD[mode].split(b"lo")[0].rsplit(b"data", 1)[0])
        handler.wfile.flush()
        time.sleep(6)

    fake.will(silent, (200, {}, b'{"request_id": 1, "finish_reason": "cancelled", "text": "Hel"}'))
    child = subprocess.Popen([str(binary), *ask(mode, fake)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=free_of_signals, bufsize=0)
    first = child.stdout.read(3)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert (first + out, child.returncode) == (b"Hel\n", 130) and b"cancelled" in err and b"error" not in err
    (_, _, headers, _), (method, path, _, _) = fake.asked
    assert (method, path) == ("POST", "/cancel/" + headers["X-Request-Id"])


@pytest.mark.smoke
def test_nobody_there(refused, fake):
    for args in (("generate", "-p", "x"), ("chat", "-p", "x"), ("status", "1"), ("cancel", "1")):
        line = refused("remote.connect", *args, "--host", "http://127.0.0.1:1", status=1)
        assert "http://127.0.0.1:1" in line and "rocmforge serve" in line
    refused("remote.connect", "status", "1", "--host", "http://nowhere.invalid", status=1, env={"http_proxy": ""})


@pytest.mark.smoke
@pytest.mark.parametrize("url", ("ftp://x", "http://", "http://[", "", "file:///etc/passwd", "http://a b"))
def test_what_is_no_address(refused, url):
    assert "--host" in refused("usage.range", "status", "1", "--host", url, status=2)


@pytest.mark.smoke
def test_which_server(fake, rocmforge, refused, tiny):
    """--host, its twin, before the command as it once was, without a scheme; a model on the command line is computed here."""
    good = (200, {}, b'{"request_id": 3, "text": "t", "finish_reason": "length", "finished": true}')
    place = fake.url.removeprefix("http://")
    for args, env in ((("status", "3", "--host", fake.url), {}), (("status", "3"), {"ROCMFORGE_HOST": fake.url}),
                      (("--host", fake.url, "status", "3"), {}), ((f"--host={fake.url}/", "status", "3"), {}),
                      (("status", "3", "--host", place), {"http_proxy": "http://127.0.0.1:1"})):
        fake.will(good)
        assert rocmforge(*args, env=env).out == "request_id: 3\nfinish_reason: length\ntext: t\n"
        assert fake.asked[0][:2] == ("GET", "/status/3")
    fake.will(good)
    rocmforge("cancel", "3", "--host", fake.url + "/prefix")
    assert fake.asked[0][:2] == ("POST", "/prefix/cancel/3")
    fake.will()
    rocmforge("generate", tiny("llama"), "-p", "of", "-n", "1", env={"ROCMFORGE_HOST": fake.url})
    assert fake.asked == []
    fake.will((200, SSE, GOOD["generate"]))
    assert rocmforge("generate", "-p", "of", env={"ROCMFORGE_HOST": fake.url}).out == "Hello\n"
    fake.will((200, SSE, GOOD["chat"]))
    rocmforge("chat", "some-model", "--host", fake.url, "-p", "x")
    assert json.loads(fake.asked[0][3])["model"] == "some-model"


@pytest.mark.smoke
@pytest.mark.parametrize("option", (["-c", "64"], ["-t", "1"], ["--device", "cpu"], ["-ctk", "f16"], ["-b", "5"], ["-ub", "5"], ["--special"]))
def test_what_is_the_servers_to_choose(refused, option):
    for mode in MODES:
        assert option[0] in refused("usage.argument", mode, "--host", "http://127.0.0.1:1", "-p", "x", *option, status=2)
    refused("usage.argument", "generate", "m", "-p", "x", "--api-key", "k", status=2)
    refused("usage.argument", "chat", "--host", "http://127.0.0.1:1", "-p", "x", "--json", "--top-logprobs", "1", status=2)


@pytest.mark.smoke
def test_thoughts_come_apart(fake, rocmforge, rocmforge_json):
    body = (event({"choices": [{"delta": {"reasoning_content": "Hmm"}}]}) + event({"choices": [{"delta": {"content": "Yes"}, "finish_reason": "stop"}]})
            + event(b"[DONE]"))
    args = ask("chat", fake)
    fake.will((200, SSE, body))
    assert rocmforge(*args, "-q").out == "Yes\n"
    fake.will((200, SSE, body))
    assert "Hmm" in rocmforge(*args, "-q", "--reasoning", "show").out
    fake.will((200, SSE, body), (404, {}, b""))
    got = rocmforge_json(*args, "--json")
    assert (got["text"], got["reasoning_content"]) == ("Yes", "Hmm")


@pytest.mark.smoke
def test_a_turn_that_failed_can_be_said_again(fake, rocmforge):
    fake.will((500, {}, b""), (200, SSE, GOOD["chat"]), (200, SSE, GOOD["chat"]))
    done = rocmforge("chat", "--host", fake.url, input="one\n/regen\ntwo\n", status=1)
    assert done.out == "Hello\nHello\n" and "/regen says it again" in done.err
    sent = [[m["content"] for m in json.loads(a[3])["messages"]] for a in fake.asked]
    assert sent == [["one"], ["one"], ["one", "Hello", "two"]]


@pytest.mark.smoke
def test_a_terminal_gets_no_control_characters(fake, rocmforge, binary):
    said = "a\x1b[2Jb\x07c\u009b5n\x7fd\u00e9\tf\n"
    body = event({"content": said, "stop": False}) + event({"content": "", "stop": True, "stop_type": "eos"})
    assert rocmforge(*ask("generate", fake.will((200, SSE, body)), "-q")).out == said + "\n", "a pipe gets it as it is"
    fake.will((200, SSE, body))
    with Terminal(binary, *ask("generate", fake), "-q") as t:
        assert t.end() == 0 and t.text == "a[2Jbc5nd\u00e9\tf\n\n"
    fake.will((200, SSE, event({"error": {"message": "x\x1b[2Jy", "code": "backend.device"}})))
    assert "x [2Jy" in rocmforge(*ask("generate", fake), status=1).err


@pytest.mark.smoke
def test_a_person_has_seen_what_failed(fake, binary):
    fake.will((500, {}, b""), (200, SSE, GOOD["chat"]))
    with Terminal(binary, "chat", "--host", fake.url, "--no-history") as t:
        t.expect("> ")
        t.type("Hi\n")
        t.expect("error[remote.refused]")
        t.expect("> ")
        t.type("/regen\n")
        t.expect("Hello\n")
        t.expect("> ")
        t.type("\x04")
        assert t.end() == 0
