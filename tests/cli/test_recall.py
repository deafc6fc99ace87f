"""chat --context: turns are kept, earlier ones are put before the model when asked."""
import json

import pytest


@pytest.fixture
def chat(rocmforge_json, smollm2, tmp_path):
    """chat(text, ...): one turn with a store of the test's own; the JSON of it."""
    return lambda text, *more, db=tmp_path / "said.db": rocmforge_json("chat", smollm2, "-q", "--json", "-c", 1024, "-n", 5, "--temp", 0,
                                                                      "--context", db, "-p", text, *more)


@pytest.fixture
def kept(rocmforge, tmp_path):
    def get(db=tmp_path / "said.db"):
        lines = rocmforge("context", "export", "--db", db).out.splitlines()
        return [(m["conversation"], m["role"], m["text"]) for m in map(json.loads, lines)]
    return get


@pytest.mark.smoke
def test_turns_are_kept(chat, kept):
    first = chat("Name a colour.")
    second = chat("Name an animal.", "--conversation", "zoo")
    assert kept() == [("default", "user", "Name a colour."), ("default", "assistant", first["text"]),
                      ("zoo", "user", "Name an animal."), ("zoo", "assistant", second["text"])]
    assert first["context"] == {"messages": 0, "tokens": 0, "ids": [], "stored": [1, 2]} and second["context"]["stored"] == [3, 4]


def test_recall_only_when_asked(chat, rocmforge_json, smollm2):
    plain = rocmforge_json("chat", smollm2, "-q", "--json", "-c", 1024, "-n", 5, "--temp", 0, "-p", "Where is the tower?")
    chat("The tower is in the harbour.")
    without = chat("Where is the tower?")
    assert without["text"] == plain["text"] and without["prompt_tokens"] == plain["prompt_tokens"] and "context" not in plain
    told = chat("Where is the tower?", "--recall", 5)
    assert 1 in told["context"]["ids"] and 3 not in told["context"]["ids"] and told["context"]["mode"] == "words"  # 3: the question itself
    assert told["prompt_tokens"] > told["context"]["tokens"] > 20
    assert chat("Where is the tower?", "--recall", 3, "--conversation", "other")["context"]["ids"] == []
    assert chat("Where is the tower?", "--recall", 3, "--recall-tokens", 8)["context"]["messages"] == 0


def test_by_meaning_too(chat, rocmforge, tmp_path, smollm2):
    tiny_encoders = pytest.importorskip("tiny_encoders", reason="the oracle, which encodes weights, is not there")
    model = tiny_encoders.make(tmp_path / "bert.gguf", "bert")
    chat("hot word", "--context-model", model)
    assert chat("hot words", "--context-model", model, "--recall", 1)["context"]["mode"] == "hybrid"
    err = rocmforge("chat", smollm2, "-c", 512, "-n", 2, "--context", tmp_path / "said.db", "--recall", 2, "-p", "hot word").err
    assert "messages kept, found by words alone" in err and "recalled: " in err


def test_another_answer_takes_the_first_ones_place(rocmforge, smollm2, tmp_path, kept):
    done = rocmforge("chat", smollm2, "-q", "-c", 512, "-n", 4, "--context", tmp_path / "said.db", input="Name a colour.\n/regen\n/regen\n")
    assert [k[:2] for k in kept()] == [("default", "user"), ("default", "assistant")] and len(done.out.splitlines()) >= 3


@pytest.mark.smoke
@pytest.mark.parametrize("code, args, word", (
    ("usage.argument", ("--recall", "3"), "--context FILE"), ("usage.argument", ("--conversation", "x"), "--context FILE"),
    ("usage.argument", ("--context-model", "x.gguf"), "--context FILE"), ("usage.argument", ("--context", "DB", "--recall-tokens", "9"), "--recall N"),
    ("usage.range", ("--context", "DB", "--conversation", "a b"), "--conversation"), ("usage.range", ("--context", "DB", "--recall", "65"), "--recall")))
def test_what_is_wrong_is_named(refused, tiny, smollm2, tmp_path, code, args, word):
    args = [tmp_path / "said.db" if a == "DB" else a for a in args]
    assert word in refused(code, "chat", smollm2, "-p", "x", *args, status=2)


@pytest.mark.smoke
def test_a_file_that_is_no_store(refused, smollm2, tmp_path):
    text = "this is a text, not a database, and it stays as it is\n" * 100
    (tmp_path / "text").write_text(text)
    refused("context.foreign", "chat", smollm2, "-p", "x", "-n", 1, "--context", tmp_path / "text")
    refused("context.foreign", "serve", smollm2, "--port", 0, "--context", tmp_path / "text")
    assert (tmp_path / "text").read_text() == text
