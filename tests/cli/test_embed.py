"""embed: texts to vectors."""
import json
import struct

import pytest

TEXTS = ["the cat sat", "the cat sat on the mat", "of all that was said, this was not said by one", "I"]


def bits(row):
    return struct.pack(f"<{len(row)}f", *row)


def lines(run):
    return [json.loads(line) for line in run.out.splitlines()]


def length(row):
    return sum(x * x for x in row) ** 0.5


@pytest.mark.smoke
def test_one_line_a_text(rocmforge, tiny):
    rows = lines(rocmforge("embed", tiny("llama"), "-q", input="\n".join(TEXTS)))
    assert len(rows) == 4 and all(len(r) == 256 and abs(length(r) - 1) < 1e-5 for r in rows)
    assert lines(rocmforge("embed", tiny("llama"), "-q", input="\r\n".join(TEXTS) + "\r\n")) == rows  # as Windows writes them
    assert lines(rocmforge("embed", tiny("llama"), "-q", "-p", TEXTS[1])) == [rows[1]]


@pytest.mark.smoke
def test_from_a_file(rocmforge, tiny, tmp_path):
    (tmp_path / "texts").write_text("\n".join(TEXTS))
    rows = lines(rocmforge("embed", tiny("llama"), "-q", "-f", tmp_path / "texts"))
    assert rows == lines(rocmforge("embed", tiny("llama"), "-q", "-f", "-", input="\n".join(TEXTS)))


def test_any_number_at_once_gives_the_same_bits(rocmforge, tiny):
    texts = "\n".join(f"{t} {i}" for i in range(20) for t in TEXTS)
    want = rocmforge("embed", tiny("llama"), "-q", input=texts).out
    assert len(want.splitlines()) == 80
    for more in (["-np", 1], ["-np", 3, "-t", 1], ["-ub", 8], ["-np", 64]):
        assert rocmforge("embed", tiny("llama"), "-q", *more, input=texts).out == want


@pytest.mark.smoke
def test_json(rocmforge_json, tiny):
    d = rocmforge_json("embed", tiny("llama"), "-q", "--json", input="\n".join(TEXTS))
    assert [e["index"] for e in d["data"]] == [0, 1, 2, 3] and d["pooling"] == "mean" and len(d["data"][0]["embedding"]) == 256
    assert d["usage"]["prompt_tokens"] == d["usage"]["total_tokens"] == sum(e["tokens"] for e in d["data"])


@pytest.mark.smoke
def test_length_as_the_model_gives_it(rocmforge, tiny):
    one, = lines(rocmforge("embed", tiny("llama"), "-q", "-p", TEXTS[0]))
    raw, = lines(rocmforge("embed", tiny("llama"), "-q", "--no-normalize", "-p", TEXTS[0]))
    assert abs(length(raw) - 1) > 0.1 and max(abs(a - b / length(raw)) for a, b in zip(one, raw)) < 1e-6
    assert lines(rocmforge("embed", tiny("llama"), "-q", "--normalize", "-p", TEXTS[0])) == [one]
    assert lines(rocmforge("embed", tiny("llama"), "-q", "-p", TEXTS[0], env={"ROCMFORGE_NO_NORMALIZE": "1"})) == [raw]


@pytest.mark.smoke
def test_pooling(rocmforge, refused, tiny):
    m = tiny("llama")
    rows = {p: lines(rocmforge("embed", m, "-q", "--pooling", p, input="\n".join(TEXTS[:2]))) for p in ("model", "mean", "cls", "last")}
    assert rows["model"] == rows["mean"] and bits(rows["cls"][0]) == bits(rows["cls"][1])  # both begin with the same token
    assert len({bits(rows[p][0]) for p in rows}) == 3 and rows["last"][0] != rows["last"][1]
    assert "no rank head" in refused("usage.argument", "embed", m, "--pooling", "rank", input="a\tb", status=2)
    assert "mean" in refused("usage.range", "embed", m, "--pooling", "max", input="a", status=2)


@pytest.mark.smoke
def test_too_long_is_refused_with_both_numbers_or_cut(rocmforge, refused, tiny):
    m, long = tiny("llama"), "the cat " * 60
    line = refused("request.context_length", "embed", m, "-c", 32, input=f"short\n{long}", status=1)
    assert "text 2 " in line and "context 32" in line and "--truncate" in line
    cut = rocmforge("embed", m, "-c", 32, "--truncate", "--json", input=f"short\n{long}")
    d = json.loads(cut.out)["data"]
    assert d[1]["tokens"] == 32 and d[1]["truncated"] is True and "truncated" not in d[0] and "1 of 2 texts" in cut.err


@pytest.mark.smoke
@pytest.mark.parametrize("code, args, text, word", (
    ("usage.argument", (), "", "no text"), ("usage.range", (), "a\n\nb", "text 2"), ("usage.range", ("-p", ""), "", "empty"),
    ("usage.argument", ("-p", "x", "-f", "y"), "", "not both"), ("usage.range", ("--dimensions", "16"), "a", "256"),
    ("usage.range", ("--dimensions", "0"), "a", "--dimensions"), ("usage.argument", ("--temp", "1"), "a", "--temp")))
def test_what_is_wrong_is_named(refused, tiny, code, args, text, word):
    assert word in refused(code, "embed", tiny("llama"), *args, input=text, status=2)


def test_dimensions_of_256_are_all(rocmforge, tiny):
    assert rocmforge("embed", tiny("llama"), "-q", "--dimensions", 256, "-p", "x").out == rocmforge("embed", tiny("llama"), "-q", "-p", "x").out


def test_bytes_that_are_no_text(rocmforge, tiny):
    rows = lines(rocmforge("embed", tiny("llama"), "-q", input=b"\xff\xfe\x00\x01\nplain\n"))
    assert len(rows) == 2
