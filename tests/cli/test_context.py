"""rocmforge context: what is said is kept and found again; what it prints, what it refuses, where it keeps its file."""
import json
import os
import re
import signal
import subprocess
import time

import pytest

pytestmark = pytest.mark.smoke


@pytest.fixture
def context(rocmforge, tmp_path):
    """context("add", "text", ...): the command on a database of this test's own."""
    return lambda *args, **more: rocmforge("context", args[0], "--db", tmp_path / "c.db", *args[1:], **more)


@pytest.fixture
def filled(context):
    for role, text in (("user", "Where do cats sleep?"), ("assistant", "On the mat, \"mostly\"."), ("user", "And dogs?")):
        context("add", text, "--role", role, "--conversation", "pets")
    context("add", "The weather is fine", "--metadata-json", '{"source": "radio", "n": [1, 2.5]}')
    return context


def test_lines(filled):
    out = filled("search", "cats mat", "--k", "2", "-q").out.splitlines()
    assert sorted(out) == ['[sim=n/a] "On the mat, \\"mostly\\"." (seq=2)', '[sim=n/a] "Where do cats sleep?" (seq=1)']
    listed = filled("list").out.splitlines()
    assert len(listed) == 4
    assert re.fullmatch(r'1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ pets/1 user: "Where do cats sleep\?"', listed[0])
    assert filled("add", "more", "--conversation", "pets").out == "added message 5 (conversation=pets, seq=4)\n"


def test_json(filled, tmp_path):
    found = json.loads(filled("search", "cats", "--json", "--expand", "1").stdout)
    assert (found["query"], found["total_messages"], found["result_count"], found["mode"]) == ("cats", 4, 2, "words")
    first, second = found["messages"]
    assert (first["id"], first["text"], first["seq_id"], first["similarity"]) == (1, "Where do cats sleep?", 1, None)
    assert first["found_by"] == ["words"] and abs(first["timestamp"] - time.time()) < 600
    assert (second["id"], second["found_by"], second["near_id"], second["steps"]) == (2, ["edge"], 1, 1)
    listed = json.loads(filled("list", "--json", "--limit", "3").stdout)
    assert (listed["total"], listed["more"], listed["next_after"], len(listed["messages"])) == (4, True, 3, 3)
    last = json.loads(filled("list", "--json", "--after", "3").stdout)
    assert last["messages"][0]["metadata"] == {"source": "radio", "n": [1, 2.5]} and last["more"] is False
    assert json.loads(filled("add", "x", "--json").stdout) == {"id": 5, "conversation": "default", "seq_id": 2}
    assert json.loads(filled("clear", "--conversation", "pets", "--json").stdout) == {"deleted": 3}


def test_filters(filled):
    def ids(*args):
        return [m["id"] for m in json.loads(filled("list", "--json", *args).stdout)["messages"]]

    assert ids("--conversation", "pets") == [1, 2, 3]
    assert ids("--role", "assistant") == [2]
    assert ids("--newest", "--limit", "2") == [4, 3]
    assert ids("--until", "2001-01-01") == [] and ids("--since", "2001-01-01T00:00:00Z") == [1, 2, 3, 4]
    assert ids("--since", str(int(time.time()) + 1000)) == []
    found = json.loads(filled("search", "cats weather", "--json", "--conversation", "default").stdout)
    assert [m["id"] for m in found["messages"]] == [4]


def test_words_only_is_said(filled):
    done = filled("search", "cats")
    assert "words only" in done.err and "-m MODEL" in done.err
    assert filled("search", "cats", "-q").err == ""


def test_meaning(context, tiny):
    model = tiny("llama", "F32")
    context("add", "before there was a model")
    for text in ("abc def", "xyz", "something else entirely"):
        context("add", text, "-m", model)
    done = context("search", "abc def", "-m", model, "--k", "4")
    assert "1 message" in done.err
    first = done.out.splitlines()[0]
    assert first == '[sim=1.0000] "abc def" (seq=2)'
    found = json.loads(context("search", "abc def", "-m", model, "--mode", "vector", "--json", "-q").stdout)
    assert found["mode"] == "vector" and found["exact"] is True and len(found["messages"]) == 4
    assert found["messages"][0]["similarity"] > 0.99999
    similarities = [m["similarity"] for m in found["messages"]]
    assert similarities == sorted(similarities, reverse=True)


def test_out_and_in(filled, rocmforge, tmp_path):
    lines = filled("export").out
    first = json.loads(lines.splitlines()[0])
    assert list(first) == ["id", "conversation", "seq", "role", "time_us", "text", "metadata", "edges"]
    other = tmp_path / "other.db"
    assert rocmforge("context", "import", "--db", other, input=lines).out == "added 4 messages\n"
    assert rocmforge("context", "export", "--db", other).out == lines
    (tmp_path / "lines").write_text(lines)
    again = rocmforge("context", "import", "--db", other, tmp_path / "lines", "--json")
    assert json.loads(again.stdout) == {"added": 4}
    assert [json.loads(line)["seq"] for line in rocmforge("context", "export", "--db", other).out.splitlines()] == [1, 2, 3, 1, 4, 5, 6, 2]


def test_clear_leaves_no_byte(filled, tmp_path):
    assert filled("clear").out == "deleted 4 messages\n"
    for path in tmp_path.iterdir():
        data = path.read_bytes()
        assert b"cats" not in data and b"weather" not in data and b"radio" not in data, path
    assert filled("list").out == ""


def test_text_from_standard_input(context):
    context("add", input="two\nlines\n")
    assert context("list").out.endswith('user: "two\\nlines"\n')


def test_where_it_is_kept(rocmforge, refused, tmp_path):
    env = {"XDG_DATA_HOME": str(tmp_path / "data"), "ROCMFORGE_DB": ""}
    rocmforge("context", "add", "kept", env=env)
    kept = tmp_path / "data" / "rocmforge" / "context.db"
    assert kept.stat().st_mode & 0o777 == 0o600 and kept.parent.stat().st_mode & 0o777 == 0o700
    assert '"kept"' in rocmforge("context", "list", env=env).out
    rocmforge("context", "add", "elsewhere", env={**env, "ROCMFORGE_DB": str(tmp_path / "b.db")})
    assert (tmp_path / "b.db").exists()
    rocmforge("context", "add", "gone at once", "--db", ":memory:", env=env)
    assert rocmforge("context", "list", "--db", ":memory:").out == ""
    assert "gone" not in rocmforge("context", "list", env=env).out
    assert "context add" in refused("io.failed", "context", "search", "x", "--db", tmp_path / "none.db", status=1)
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize("args, word", (
    ((), "what to do"), (("forget",), "forget"), (("search",), "search for what"), (("list", "x"), "one argument too many"),
    (("add", "a", "b"), "one argument too many"), (("list", "--k", "3"), "--k"), (("add", "x", "--expand", "1"), "--expand"),
    (("clear", "--role", "user"), "--role"), (("export", "--json"), "--json"), (("list", "--temp", "1"), "--temp")))
def test_bad_usage(refused, tmp_path, args, word):
    assert word in refused("usage.argument", "context", *args, "--db", tmp_path / "c.db", status=2)


@pytest.mark.parametrize("args, word", (
    (("search", "x", "--k", "0"), "--k"), (("search", "x", "--k", "1001"), "--k"), (("search", "x", "--expand", "17"), "--expand"),
    (("search", "x", "--mode", "magic"), "magic"), (("list", "--since", "yesterday"), "yesterday"), (("list", "--limit", "10001"), "--limit"),
    (("add", "x", "--role", "a b"), "role"), (("add", ""), "text"), (("add", "x", "--metadata-json", "[]"), "metadata")))
def test_out_of_range(refused, tmp_path, args, word):
    (tmp_path / "c.db").touch()
    assert word in refused("usage.range", "context", *args, "--db", tmp_path / "c.db", status=2)


def test_other_files_are_left_alone(refused, tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("my notes\n" * 100)
    refused("context.foreign", "context", "add", "x", "--db", notes, status=1)
    assert notes.read_text() == "my notes\n" * 100
    refused("io.failed", "context", "add", "x", "--db", tmp_path / "no" / "folder.db", status=1)
    refused("io.failed", "context", "add", "x", "--db", tmp_path, status=1)


def test_a_damaged_file_is_put_aside(filled, tmp_path):
    file = tmp_path / "c.db"
    data = bytearray(file.read_bytes())
    data[300] ^= 4
    file.write_bytes(data)
    done = filled("list")
    assert "damaged" in done.err and "c.db.damaged-1" in done.err and done.out == ""
    assert (tmp_path / "c.db.damaged-1").read_bytes() == data


def test_a_damaged_page_is_an_error(filled, refused, tmp_path):
    file = tmp_path / "c.db"
    data = bytearray(file.read_bytes())
    data[data.index(b"On the mat") + 3] ^= 1
    file.write_bytes(data)
    assert "damaged" in refused("context.damaged", "context", "list", "--db", file, status=1)


def test_a_closed_output_ends_it(filled, binary, tmp_path):
    for _ in range(3):
        filled("import", input=filled("export").out)
    done = subprocess.run(f"{binary} context export --db {tmp_path}/c.db | head -c 1; exit ${{PIPESTATUS[0]}}", shell=True, executable="/bin/bash",
                          capture_output=True, text=True)
    assert done.stdout == "{" and done.returncode in (0, 1) and "Traceback" not in done.stderr


def test_killed_while_adding(filled, binary, tmp_path):
    """What was said to be added is there."""
    acknowledged = 0
    for i in range(6):
        child = subprocess.Popen([binary, "context", "add", f"again {i}", "--db", tmp_path / "c.db"], stdout=subprocess.PIPE)
        time.sleep(0.004 * i)
        child.send_signal(signal.SIGKILL)
        acknowledged += b"added" in child.communicate()[0]
    rows = [json.loads(line)["text"] for line in filled("export").out.splitlines()]
    assert acknowledged <= sum(text.startswith("again") for text in rows) <= 6 and len(rows) >= 4


def test_it_embeds_with_no_more_than_it_says(refused, context, tmp_path):
    context("add", "x")
    assert "model" in refused("usage.argument", "context", "search", "x", "--mode", "vector", "--db", tmp_path / "c.db", status=2)
    refused("io.failed", "context", "add", "x", "-m", tmp_path / "none.gguf", "--db", tmp_path / "c.db", status=1)
    assert os.path.exists(tmp_path / "c.db")
