"""tokenize, detokenize, logits."""
import io
import json

import pytest

np = pytest.importorskip("numpy")


@pytest.mark.smoke
@pytest.mark.parametrize("text", ("Hello, world", "", " \n\t x", "日本 🙂", "a" * 3000))
def test_there_and_back(rocmforge, rocmforge_json, tiny, text):
    for arch in ("qwen2", "llama_factors"):
        ids = rocmforge_json("tokenize", tiny(arch), "--no-bos", input=text)
        assert rocmforge("detokenize", tiny(arch), input=json.dumps(ids)).out == text


def test_control_tokens_there_and_back(rocmforge, rocmforge_json, smollm2):
    text = "<|im_start|>user\nHi<|im_end|>"
    ids = rocmforge_json("tokenize", smollm2, input=text)
    assert ids[0] == 1 and ids[-1] == 2 and rocmforge("detokenize", smollm2, input=str(ids)).out == text
    assert len(rocmforge_json("tokenize", smollm2, "--no-parse-special", input=text)) > len(ids)


@pytest.mark.smoke
def test_bos_and_pieces(rocmforge_json, tiny):
    ids = rocmforge_json("tokenize", tiny("llama"), input="the hot")
    assert ids[0] == 1 and rocmforge_json("tokenize", tiny("llama"), "--no-bos", input="the hot") == ids[1:]
    pieces = rocmforge_json("tokenize", tiny("llama"), "--pieces", "--no-bos", input="the hot")
    assert len(pieces) == len(ids) - 1 and "".join(pieces).strip() == "the hot"
    assert rocmforge_json("tokenize", tiny("llama"), "--pieces", input=b"\xff\xfe")  # broken text is still JSON


@pytest.mark.smoke
@pytest.mark.parametrize("form", ("[5, 6, 7]", "5,6,7", "5 6 7", "5\n6\n7\n", "[5,6,\n7]\n"))
def test_ids_in_every_form(rocmforge, tiny, form):
    assert rocmforge("detokenize", tiny("qwen2"), input=form).out == rocmforge("detokenize", tiny("qwen2"), input="5,6,7").out


@pytest.mark.smoke
@pytest.mark.parametrize("ids, code", (("1,x", "usage.range"), ("1.5", "usage.range"), ("99999999999", "usage.range"),
                                       ("512", "request.token"), ("-1", "request.token")))
def test_ids_that_are_none(refused, tiny, tmp_path, ids, code):
    refused(code, "detokenize", tiny("llama"), input=ids, status=2)
    refused(code, "logits", tiny("llama"), "--tokens", ids, "-o", tmp_path / "x.npy", status=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.smoke
def test_no_ids(rocmforge, refused, tiny, tmp_path):
    assert rocmforge("detokenize", tiny("llama"), input="[]").out == ""
    refused("usage.argument", "logits", tiny("llama"), "--tokens", "", "-o", tmp_path / "x.npy", status=2)


@pytest.mark.smoke
def test_logits_are_numpy(rocmforge, tiny, tmp_path):
    one, two, ids = tmp_path / "one.npy", tmp_path / "two.npy", tmp_path / "ids"
    ids.write_text("[1, 260,\n270]")
    assert rocmforge("logits", tiny("llama"), "--tokens", "1,260,270", "-o", one).stdout == b""
    rocmforge("logits", tiny("llama"), "--tokens-file", ids, "-o", two, "-ub", "1", "-t", "1")
    x = np.load(io.BytesIO(one.read_bytes()))
    assert x.dtype == np.float32 and x.shape == (3, 512) and np.isfinite(x).all()
    assert one.read_bytes() == two.read_bytes() and sorted(p.name for p in tmp_path.iterdir()) == ["ids", "one.npy", "two.npy"]


@pytest.mark.smoke
def test_logits_longer_than_the_context(refused, tiny, tmp_path):
    refused("request.context_length", "logits", tiny("llama"), "--tokens", "1,2,3", "-c", "2", "-o", tmp_path / "x.npy", status=1)
