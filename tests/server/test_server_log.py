"""The server's log: what it tells, in which form, where, and what it never tells."""
import json
import re
import signal
import time

import pytest

SECRET = "zanzibar-quokka"


def until(what, seconds=60):
    end = time.monotonic() + seconds
    while not (got := what()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return got


def ask(server, request_id, **more):
    r = server.post("/generate", {"prompt": f"The {SECRET} says", "max_tokens": 4, "temperature": 0, **more},
                    headers={"X-Request-Id": request_id})
    return r


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.smoke
def test_json_file(start, tmp_path):
    path = tmp_path / "log"
    s = start("-c", 256, "--log-file", path)
    r = ask(s, "mine-1").json
    assert ask(s, "mine-2", temperature=9).status == 400
    s.end()
    said = lines(path)
    assert [(x["module"], x["msg"]) for x in said] == [
        ("engine", "open"), ("server", "listening"), ("server", "request finished"), ("server", "draining"), ("server", "stopped")]
    for x in said:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", x["ts"]) and x["level"] == "info"
    done = said[2]
    assert done["request_id"] == "mine-1" and done["route"] == "/generate" and done["status"] == 200
    assert done["tokens"] == 4 and done["finish"] == "length" and done["prompt_tokens"] == r["usage"]["prompt_tokens"]
    assert 0 < done["ttft_ms"] <= done["total_ms"]
    assert said[1]["address"] == s.url
    assert "Z info" not in s.stderr()  # the console is quiet
    assert SECRET not in path.read_text()


def test_human_console_and_levels(start):
    s = start("-c", 256, "--log-level", "warn,server=debug")
    ask(s, "mine-1")
    assert ask(s, "mine-2", temperature=9).status == 400
    s.end()
    said = s.stderr()
    assert re.search(r"^\S+Z info  server: request finished id=1 request_id=mine-1 route=/generate status=200 finish=length ", said, re.M)
    assert re.search(r"^\S+Z debug server: request refused request_id=mine-2 path=/generate status=400 code=", said, re.M)
    assert SECRET not in said
    assert "server: listening" in said  # debug: the plain lines tell it, too
    quiet = start("-c", 256, "--log-level", "error")
    ask(quiet, "mine-1")
    quiet.end()
    assert "request finished" not in quiet.stderr()


def test_start_is_told_once(start):
    """On a console the plain lines are enough; a file, or whoever reads JSON, gets the same as log lines."""
    s = start("-c", 256)
    s.end()
    said = s.stderr()
    assert said.count(s.url) == 1 and said.count("device: ") == 1 and "engine: open" not in said
    s = start("-c", 256, "--log-format", "json")
    s.end()
    told = [json.loads(line) for line in s.stderr().splitlines() if line.startswith("{")]
    assert [x["msg"] for x in told] == ["open", "listening", "draining", "stopped"]


def test_content_only_when_asked(start, tmp_path):
    path = tmp_path / "log"
    s = start("-c", 256, "--log-file", path, "--log-content", "--log-level", "debug")
    text = ask(s, "mine-1").json["text"]
    s.end()
    said = {x["msg"]: x for x in lines(path)}
    assert said["prompt"]["text"].endswith(f"The {SECRET} says") and said["answer"]["text"] == text
    path.unlink()
    s = start("-c", 256, "--log-file", path, "--log-level", "trace")
    ask(s, "mine-1")
    s.end()
    assert "mine-1" in path.read_text() and SECRET not in path.read_text()


def test_no_line_can_be_forged(start, tmp_path):
    path = tmp_path / "log"
    s = start("-c", 256, "--log-file", path, "--log-level", "debug")
    s.post("/gene%0a%1b[2Jrate", {})
    with s.raw() as c:
        c.send(b"GET /\xc2\x9bx%0d%0aerror HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: a\"b c\r\n\r\n")
        c.reply()
    ask(s, "x" * 129)
    s.end()
    raw = path.read_bytes()
    assert all(b >= 0x20 or b == 0x0A for b in raw) and b"\xc2\x9b" not in raw
    assert all(set(x) >= {"ts", "level", "module", "msg"} for x in lines(path))


def test_rotation(start, tmp_path):
    path = tmp_path / "log"
    s = start("-c", 256, "--log-file", path)
    ask(s, "before")
    path.rename(tmp_path / "log.1")
    ask(s, "between")
    s.process.send_signal(signal.SIGHUP)
    until(lambda: path.exists() and "log opened anew" in path.read_text())
    ask(s, "after")
    s.end()
    assert "between" in (tmp_path / "log.1").read_text() and "after" not in (tmp_path / "log.1").read_text()
    assert "after" in path.read_text() and "between" not in path.read_text()


def test_older_names(start, tmp_path):
    path = tmp_path / "log"
    older = {"ROCFORGE_LOG_FILE": str(path), "ROCFORGE_LOG_LEVEL": "debug", "RUST_LOG": "error"}
    s = start("-c", 256, env=older)
    assert ask(s, "mine", temperature=9).status == 400
    s.end()
    assert [x["level"] for x in lines(path) if x["msg"] == "request refused"] == ["debug"]  # over RUST_LOG, and as JSON
    path.unlink()
    s = start("-c", 256, env={**older, "ROCFORGE_LOG_FORMAT": "human", "ROCMFORGE_LOG_LEVEL": "warn"})
    ask(s, "mine")
    s.end()
    assert "request finished" not in path.read_text()  # our own name wins
    s = start("-c", 256, env={"RUST_LOG": "warn,rocmforge::server=info"})
    ask(s, "mine")
    s.end()
    assert "request finished" in s.stderr()
    s = start("-c", 256, env={"RUST_LOG": "hyper[span]=/x/"})
    ask(s, "mine")
    s.end()
    assert "warning: RUST_LOG" in s.stderr() and "request finished" in s.stderr()


@pytest.mark.parametrize("option", [("--log-level", "loud"), ("--log-level", "server="), ("--log-format", "xml"), ("--log-file", "/nowhere/at/all")])
def test_bad_options(binary, smollm2, option):
    import subprocess
    done = subprocess.run([str(binary), "serve", str(smollm2), "--port", "0", *option], capture_output=True, timeout=60)
    assert done.returncode == (1 if "file" in option[0] else 2) and done.stderr.startswith(b"rocmforge: error[")
