"""rocmforge convert: tiny random Hugging Face folders become GGUF files.

What must come out is known: tiny_models writes the same weights directly. Every tensor is compared with that file's, the
oracle runs both to the same logits, and ours stay within test_logits' bounds of them. Tokenizers are compared with
huggingface/tokenizers on the folder's own tokenizer.json. What is wrong with a folder is refused by code, and leaves nothing.
"""
import functools
import json
import os
import pathlib
import resource
import shutil
import signal
import struct
import subprocess
import time

import gguf
import numpy as np
import pytest

import ggml
import hf_models
import oracle
import tiny_models
from harness import LONG, binary, kl, our_logits, random_tokens, run

ARCHS = list(hf_models.CLASSES)
TYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}


def convert(folder, out, *options, code=None):
    """The report; or with code, the error's line, which must have it, and nothing may be left beside the folder."""
    before = sorted(p.name for p in out.parent.iterdir())
    r = run(["convert", folder, out, "--json", *options])
    text = r.stderr.decode(errors="replace")
    if code is None:
        assert r.returncode == 0, text
        return json.loads(r.stdout)
    assert r.returncode in (1, 2) and r.stdout == b"", (r.returncode, text)
    line = text.splitlines()[-1]
    assert line.startswith(f"rocmforge: error[{code}]: "), text
    assert sorted(p.name for p in out.parent.iterdir()) == before
    return line


def direct(path, arch, seed=0, **changes):
    """The file that tiny_models writes of the same weights, with the norms and factors that a folder can say."""
    source = tiny_models.make(path.with_suffix(".direct"), arch, "F32", seed, **changes)
    c = tiny_models.config(arch, **changes)
    tensors = {}
    if c["arch"] == "gemma3":  # w - 1 and + 1 again, in float32, is not always w
        names = [t.name for t in gguf.GGUFReader(str(source)).tensors if t.name.endswith("norm.weight")]
        tensors = {n: lambda x: ((x - np.float32(1)) + np.float32(1), "F32") for n in names}
    if c["factors"]:
        tensors["rope_freqs.weight"] = (hf_models.llama3_factors(c), "F32")
    return tiny_models.rewrite(source, path, tensors=tensors)


@functools.lru_cache(maxsize=2)
def read_once(path, _time):
    return gguf.GGUFReader(str(path))


def read(path):
    return read_once(path, path.stat().st_mtime_ns)


def arrays(path):
    r = read(path)
    return {t.name: (t.tensor_type.name, tuple(int(n) for n in t.shape), np.array(t.data)) for t in r.tensors}


def keys(path):
    return {n: f.contents() for n, f in read(path).fields.items() if not n.startswith("GGUF.") and "charsmap" not in n}


@pytest.mark.parametrize("arch", ARCHS)
def test_weights_and_logits(arch, tmp_path):
    folder = hf_models.folder(tmp_path / "hf", arch)
    out, want = tmp_path / "out.gguf", direct(tmp_path / "want.gguf", arch)
    report = convert(folder, out, "--type", "f32")
    assert report["architecture"] == tiny_models.config(arch)["arch"] and report["warnings"] == []
    ours, theirs = arrays(out), arrays(want)
    assert sorted(ours) == sorted(theirs) and report["tensors"] == len(ours)
    for name, (kind, shape, x) in ours.items():
        assert (kind, shape) == theirs[name][:2] and np.array_equal(x.view(np.uint32), theirs[name][2].view(np.uint32)), name
    with oracle.Model(out) as a, oracle.Model(want) as b:
        tokens = random_tokens(130, a.n_vocab, 1)
        exact = b.logits(tokens)
        assert np.array_equal(a.logits(tokens).view(np.uint32), exact.view(np.uint32))
    mine = our_logits(out, tokens, tmp_path)
    assert kl(exact, mine).mean() <= 1e-5 and np.abs(mine - exact).max() <= 2e-2


@pytest.mark.parametrize("name", [n for n in hf_models.ENCODERS if LONG or n != "roberta"])
def test_encoders(name, tmp_path):
    folder, want = hf_models.encoder(tmp_path / "hf", name)
    out = tmp_path / "out.gguf"
    report = convert(folder, out, "--type", "f32")
    assert report["warnings"] == []
    ours, theirs = arrays(out), arrays(want)
    assert sorted(ours) == sorted(theirs)
    for tensor, (kind, shape, x) in ours.items():
        y = theirs[tensor][2]
        if name == "gemma-embedding" and tensor.endswith("norm.weight"):
            y = (y - np.float32(1)) + np.float32(1)
        assert (kind, shape) == theirs[tensor][:2] and np.array_equal(x, y), tensor
    a, b = keys(out), keys(want)
    for key in b:  # what the architecture is made of; what the file and its tokenizer are called may differ
        if key.startswith(b["general.architecture"]) and not key.endswith(("vocab_size", "output_labels")):
            assert a.get(key) == pytest.approx(b[key]), key
    rank = name.endswith("rank")
    with oracle.Model(out) as model, oracle.Model(want) as direct_model:
        prompts = [random_tokens(n, model.n_vocab, n).tolist() for n in (1, 9, 70, 160)]
        width = 1 if rank else 256
        exact = direct_model.embeddings(prompts, width=width)
        assert np.abs(model.embeddings(prompts, width=width) - exact).max() <= (0 if name != "gemma-embedding" else 1e-4)
    theirs = hf_models.tokenizers().Tokenizer.from_file(str(folder / "tokenizer.json"))
    with Driver(out) as driver:
        for text in [*TEXTS, *random_texts(200, 9)]:
            want_ids = theirs.encode(text).ids + ([2] if name == "gemma-embedding" else [])
            assert driver.encode(text) == want_ids, (text, [theirs.id_to_token(i) for i in want_ids])


@pytest.mark.parametrize("arch", ["llama", "qwen3", "gemma3", "mixtral"])
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
def test_types(arch, kind, dtype, tmp_path):
    """Each type of output from each of input: matrices encoded as ggml does, the rest whole."""
    folder = hf_models.folder(tmp_path / "hf", arch, dtype=dtype)
    out = tmp_path / "out.gguf"
    convert(folder, out, "--type", kind)
    for name, (have, _, x) in arrays(out).items():
        source = exact_array(arch, name, dtype)
        whole = source.ndim == 1 or name.endswith("ffn_gate_inp.weight")
        want = "F32" if whole else TYPES[kind]
        assert have == want, name
        assert np.array_equal(x.reshape(-1).view(np.uint8), ggml.encode(source, want).reshape(-1).view(np.uint8)), name


@functools.cache
def random_tensors(arch):
    c = tiny_models.config(arch)
    c["n_vocab"] = hf_models.n_tokens(c)
    rng = np.random.default_rng([0, sorted(tiny_models.ARCHS).index(arch)])
    return {n: x for n, x, _ in tiny_models.tensors(c, rng)}


def exact_array(arch, name, dtype):
    """A tensor of tiny_models as it comes out of a folder of this dtype."""
    x = random_tensors(arch)[name]
    if arch == "gemma3" and name.endswith("norm.weight"):
        return hf_models.DECODE[dtype](x - np.float32(1)) + np.float32(1)
    return hf_models.DECODE[dtype](x)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_type_not_said(dtype, tmp_path):
    report = convert(hf_models.folder(tmp_path / "hf", "llama", dtype=dtype), tmp_path / "out.gguf")
    assert report["type"] == dtype
    assert keys(tmp_path / "out.gguf")["general.file_type"] == {"F32": 0, "F16": 1, "BF16": 32}[dtype]


def test_shards(tmp_path):
    """The same file from one shard or five, and whichever way round the tensors lie."""
    one, five = (hf_models.folder(tmp_path / f"{n}" / "hf", "mixtral", shards=n) for n in (1, 5))
    assert len(list(five.glob("*.safetensors"))) == 5
    convert(one, tmp_path / "one.gguf")
    convert(five, tmp_path / "five.gguf")
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "five.gguf").read_bytes()


def test_keys(tmp_path):
    folder = hf_models.folder(tmp_path / "hf", "llama_yarn")
    convert(folder, tmp_path / "out.gguf", "--name", "Tiny Näme")
    k = keys(tmp_path / "out.gguf")
    c = tiny_models.config("llama_yarn")
    want = {"general.architecture": "llama", "general.name": "Tiny Näme", "general.type": "model", "general.quantization_version": 2,
            "llama.block_count": 2, "llama.embedding_length": 256, "llama.feed_forward_length": 512, "llama.context_length": 2048,
            "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2, "llama.rope.scaling.type": "yarn",
            "llama.rope.scaling.factor": c["scaling"][1], "llama.rope.scaling.original_context_length": c["scaling"][2],
            "llama.rope.dimension_count": 64, "tokenizer.ggml.model": "llama", "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 0, "tokenizer.ggml.add_bos_token": True,
            "tokenizer.ggml.add_space_prefix": True, "tokenizer.chat_template": "{{ messages[0]['content'] }}",
            "general.sampling.top_k": 20}
    assert {n: k.get(n) for n in want} == want
    assert abs(k["general.sampling.temp"] - 0.6) < 1e-6 and k["general.size_label"] == "1.4M"


def test_rope_parameters(tmp_path):
    """transformers 5 writes rope another way; gemma3 one for each kind of layer."""
    old = hf_models.folder(tmp_path / "old", "llama_factors")
    theta = tiny_models.config("llama_factors")["rope_base"]
    new = hf_models.folder(tmp_path / "new", "llama_factors", config={
        "rope_scaling": "absent", "rope_theta": "absent", "rope_parameters": {**hf_models.LLAMA3, "rope_theta": theta}})
    gemma = {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
             "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}
    gemma_new = hf_models.folder(tmp_path / "gnew", "gemma3", config={
        "rope_scaling": "absent", "rope_theta": "absent", "rope_local_base_freq": "absent", "rope_parameters": gemma})
    gemma_old = hf_models.folder(tmp_path / "gold", "gemma3")
    for a, b in ((old, new), (gemma_old, gemma_new)):
        convert(a, tmp_path / "a.gguf", "--name", "x")
        convert(b, tmp_path / "b.gguf", "--name", "x")
        assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_multimodal_config(tmp_path):
    """Gemma 3 with vision: the text's numbers stand in text_config, its tensors behind language_model."""
    plain = hf_models.folder(tmp_path / "plain", "gemma3")
    nested = hf_models.folder(tmp_path / "nested", "gemma3")
    text = json.loads((plain / "config.json").read_text())
    (nested / "config.json").write_text(json.dumps({"architectures": ["Gemma3ForConditionalGeneration"], "text_config": text,
                                                    "vision_config": {"hidden_size": 8}}))
    c = tiny_models.config("gemma3")
    c["n_vocab"] = hf_models.n_tokens(c)
    rng = np.random.default_rng([0, sorted(tiny_models.ARCHS).index("gemma3")])
    tensors = {"language_model." + n: x for n, x in hf_models.hf_tensors(c, rng)}
    tensors["vision_tower.vision_model.embeddings.patch_embedding.weight"] = np.ones((2, 3), np.float32)
    hf_models.write_weights(nested, tensors)
    convert(plain, tmp_path / "a.gguf", "--name", "x")
    convert(nested, tmp_path / "b.gguf", "--name", "x")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_tied_copy_is_left_out(tmp_path):
    """With tie_word_embeddings lm_head is the embedding, whatever stands in the file."""
    folder = hf_models.folder(tmp_path / "hf", "qwen2", tied=False, config={"tie_word_embeddings": True})
    convert(folder, tmp_path / "out.gguf")
    assert "output.weight" not in arrays(tmp_path / "out.gguf")


# --- tokenizers ------------------------------------------------------------------------------------------------------------

TEXTS = ["", " ", "  ", "the word", " the  word ", "The\tquick\n\n brown", "it's they've I'LL don't", "hot word hot word", "1234567 89 0",
         "Größe, naïve; ñandú!", "日本語のテキスト", "emoji 🦙🚀 ok", "a\u0301 combining", "x = y + 3; // comment\r\n", "<s> not special?",
         "what some we can out other were all there when up use your how said", "\u2581 mark", "null\x00byte", "ﬁ ligature", "....!!!???"]


class Driver:
    """Our tokenizer (tests/unit/drive_tokenizer.c)."""

    def __init__(self, path):
        self.p = subprocess.Popen([pathlib.Path(os.environ["RF_BUILD"]) / "tests/unit/drive_tokenizer", path], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.p.stdin.close()
        self.p.wait()

    def encode(self, text, special=True):
        raw = text.encode()
        self.p.stdin.write(struct.pack("<cBI", b"e", special | 2, len(raw)) + raw)
        self.p.stdin.flush()
        status, n = struct.unpack("<II", self.p.stdout.read(8))
        assert status == 0
        return list(struct.unpack(f"<{n // 4}i", self.p.stdout.read(n)))


def random_texts(n, seed):
    rng = np.random.default_rng(seed)
    pool = tiny_models.WORDS + list(" .,;:!?'\"()[]{}0123456789\n\t") + ["  ", "é", "ß", "日", "🦙", "'s", "\r\n", "Ab"]
    for _ in range(n):
        yield "".join(pool[i] + (" " if rng.random() < 0.4 else "") for i in rng.integers(0, len(pool), rng.integers(1, 25)))


@pytest.mark.parametrize("form", ["json", "model", "both"])
@pytest.mark.parametrize("arch", ["llama", "gemma3", "qwen2", "llama_factors"])
def test_tokens(arch, form, tmp_path):
    """Tokens as huggingface/tokenizers gives them, and as the oracle does."""
    spm = tiny_models.config(arch)["tokens"] == "spm"
    if form != "json" and not spm:
        pytest.skip("only SentencePiece has a tokenizer.model")
    folder = hf_models.folder(tmp_path / "hf", arch, form=form)
    hf_models.write_tokenizer(tmp_path, {**tiny_models.config(arch), "n_vocab": 512}, "json")
    theirs = hf_models.tokenizers().Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    convert(folder, tmp_path / "out.gguf")
    with Driver(tmp_path / "out.gguf") as ours, oracle.Model(tmp_path / "out.gguf") as model:
        for text in [*TEXTS, *random_texts(400, 7)]:
            want = theirs.encode(text).ids
            if spm and text == "":
                want = [1]  # tokenizers puts the space even before nothing
            assert ours.encode(text) == want, (text, [theirs.id_to_token(i) for i in want])
            assert model.tokenize(text) == want, text


def test_wordpiece_tokens(tmp_path):
    """all-MiniLM-L6-v2's own vocabulary."""
    source = os.environ.get("RF_MINILM")
    if not source:
        pytest.skip("RF_MINILM is not set")
    theirs = hf_models.tokenizers().Tokenizer.from_file(str(pathlib.Path(source) / "tokenizer.json"))
    theirs.no_padding()
    theirs.no_truncation()
    report = convert(pathlib.Path(source), tmp_path / "out.gguf")
    assert (report["type"], report["tokens"], report["warnings"]) == ("F32", 30522, [])
    with Driver(tmp_path / "out.gguf") as ours:
        for text in [*TEXTS, *random_texts(400, 8)]:
            assert ours.encode(text) == theirs.encode(text).ids, text


@pytest.mark.parametrize("name", ["llama-spm", "gpt-2", "bert-bge"] + (["llama-bpe", "qwen2", "nomic-bert-moe"] if LONG else []))
def test_real_vocabulary(name, tmp_path):
    """Llama 2's, Llama 3's, Qwen 2's, GPT-2's, BERT's: a tokenizer.json of it, converted, gives the tokens that llama.cpp keeps
    as its test vectors, and those of huggingface/tokenizers."""
    source = pathlib.Path(os.environ["RF_ORACLE_SRC"]) / "models" / f"ggml-vocab-{name}.gguf"
    folder = hf_models.vocabulary_folder(tmp_path / "hf", source)
    convert(folder, tmp_path / "out.gguf", "--type", "q8_0")
    texts, wanted = [], []
    if source.with_suffix(".gguf.inp").exists():
        texts = source.with_suffix(".gguf.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")[:-1]
        wanted = [[int(i) for i in line.split()] for line in source.with_suffix(".gguf.out").read_text().splitlines()]
        assert len(texts) == len(wanted) > 20
    theirs = hf_models.tokenizers().Tokenizer.from_file(str(folder / "tokenizer.json"))
    old, new = keys(source), keys(tmp_path / "out.gguf")
    assert new["tokenizer.ggml.tokens"] == old["tokenizer.ggml.tokens"]
    assert new.get("tokenizer.ggml.merges") == old.get("tokenizer.ggml.merges")
    with Driver(tmp_path / "out.gguf") as ours:
        for text, want in zip(texts, wanted):
            assert ours.encode(text, special=False) == want, text
        for text in random_texts(1500 if LONG else 300, 11):
            want = theirs.encode(text, add_special_tokens=False).ids
            assert ours.encode(text, special=False) == want, text


# --- what is refused -------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """One good folder for each of three forms; tests copy it."""
    top = tmp_path_factory.mktemp("good")
    return {"one": hf_models.folder(top / "one", "llama"), "many": hf_models.folder(top / "many", "llama", shards=3),
            "bpe": hf_models.folder(top / "bpe", "qwen2"), "model": hf_models.folder(top / "model", "llama", form="model"),
            "experts": hf_models.folder(top / "experts", "mixtral")}


def split(path):
    """A safetensors file -> (its header as an object, its data)."""
    raw = path.read_bytes()
    n, = struct.unpack_from("<Q", raw)
    return json.loads(raw[8:8 + n]), raw[8 + n:]


def rejoin(path, head, data):
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def edit_entry(**changes):
    """Changes the entry of the final norm (1,024 bytes of F32)."""
    def edit(folder):
        head, data = split(folder / "model.safetensors")
        entry = head["model.norm.weight"]
        for key, value in changes.items():
            entry[key] = value(entry[key]) if callable(value) else value
            if entry[key] is None:
                del entry[key]
        rejoin(folder / "model.safetensors", head, data)
    return edit


def raw_header(make):
    def edit(folder):
        head, data = split(folder / "model.safetensors")
        rejoin(folder / "model.safetensors", make(json.dumps(head).encode()), data)
    return edit


def rename(old, new):
    def edit(folder):
        head, data = split(folder / "model.safetensors")
        head = {(new if n == old else n): v for n, v in head.items() if new is not None or n != old}
        if new is None:  # its bytes stay behind under another name
            head["model.layers.0.self_attn.rotary_emb.inv_freq"] = split(folder / "model.safetensors")[0][old]
        rejoin(folder / "model.safetensors", head, data)
    return edit


def edit_json(name, change):
    def edit(folder):
        v = json.loads((folder / name).read_text())
        new = change(v)
        v = new if isinstance(new, dict) else v
        (folder / name).write_text(json.dumps(v))
    return edit


def config(**changes):
    return edit_json("config.json", lambda v: {k: x for k, x in {**v, **changes}.items() if x != "absent"})


def index(change):
    return edit_json("model.safetensors.index.json", change)


def first_shard(change):
    def edit(folder):
        change(folder / "model-00001-of-00003.safetensors")
    return edit


def write_bytes(name, data):
    return lambda folder: (folder / name).write_bytes(data)


def cut(path, n):
    path.write_bytes(path.read_bytes()[:n])


def remove(name):
    return lambda folder: (folder / name).unlink()


def set_nan(folder):
    head, data = split(folder / "model.safetensors")
    at = head["model.norm.weight"]["data_offsets"][0]
    rejoin(folder / "model.safetensors", head, data[:at] + struct.pack("<f", float("nan")) + data[at + 4:])


def set_large(folder):
    head, data = split(folder / "model.safetensors")
    at = head["model.layers.1.mlp.up_proj.weight"]["data_offsets"][0]
    rejoin(folder / "model.safetensors", head, data[:at] + struct.pack("<f", 70000.0) + data[at + 4:])


def point_elsewhere(name):
    def change(v):
        v["weight_map"]["model.norm.weight"] = name
    return change


def drop_expert(folder):
    head, data = split(folder / "model.safetensors")
    gone = head.pop("model.layers.1.block_sparse_moe.experts.2.w2.weight")
    head["x.inv_freq"] = gone
    head["model.layers.1.self_attn.rotary_emb.inv_freq"] = head.pop("x.inv_freq")
    rejoin(folder / "model.safetensors", head, data)


def unigrams(normalizer=None, **model):
    def change(v):
        v["normalizer"], v["pre_tokenizer"] = normalizer, {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always"}
        v["model"] = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0]], **model}
        v["added_tokens"] = []
    return edit_json("tokenizer.json", change)


ST, CONFIG, TENSOR, TOKENIZER = "convert.safetensors", "convert.config", "convert.tensor", "convert.tokenizer"
BAD = {  # name: (folder, edit, code, part of the sentence)
    "no config": ("one", remove("config.json"), CONFIG, "config.json: there is no such file"),
    "no weights": ("one", remove("model.safetensors"), ST, "holds neither"),
    "pickled weights": ("one", lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), ST, "pytorch_model.bin"),
    "no tokenizer": ("one", remove("tokenizer.json"), TOKENIZER, "neither tokenizer.json nor tokenizer.model"),
    "config is no JSON": ("one", write_bytes("config.json", b"{"), CONFIG, "config.json:1"),
    "config is a list": ("one", write_bytes("config.json", b"[]"), CONFIG, "no JSON object"),
    "config twice": ("one", write_bytes("config.json", b'{"a":1,"a":2}'), CONFIG, "duplicate"),
    "config is not UTF-8": ("one", write_bytes("config.json", b'{"a":"\xff"}'), CONFIG, "byte 0xff"),
    "empty weights": ("one", write_bytes("model.safetensors", b""), ST, "0 bytes"),
    "seven bytes": ("one", write_bytes("model.safetensors", bytes(7)), ST, "7 bytes"),
    "header beyond the file": ("one", write_bytes("model.safetensors", struct.pack("<Q", 500) + b"{}"), ST, "incomplete"),
    "huge header": ("one", write_bytes("model.safetensors", struct.pack("<Q", 2**63) + b"{}"), ST, "is this a safetensors file"),
    "a pickle by that name": ("one", write_bytes("model.safetensors", b"\x80\x02" + bytes(50)), ST, "header"),
    "header is no JSON": ("one", raw_header(lambda t: t[:-1] + b"?"), ST, "no JSON"),
    "header is a list": ("one", raw_header(lambda t: b"[]"), ST, "no JSON object"),
    "a name twice": ("one", raw_header(lambda t: b'{"model.norm.weight":{},' + t[1:]), ST, "duplicate"),
    "an entry that is no object": ("one", raw_header(lambda t: b'{"x":1,' + t[1:]), ST, "no object"),
    "deep nesting": ("one", raw_header(lambda t: b'{"x":' + b"[" * 100000), ST, "no JSON"),
    "no dtype": ("one", edit_entry(dtype=None), ST, "dtype"),
    "unknown dtype": ("one", edit_entry(dtype="F33"), ST, "F33"),
    "shape of text": ("one", edit_entry(shape="256"), ST, "shape"),
    "negative shape": ("one", edit_entry(shape=[-256]), ST, "dimension 0"),
    "fractional shape": ("one", edit_entry(shape=[256.0]), ST, "dimension 0"),
    "shape that overflows": ("one", edit_entry(shape=[2**62, 2**62]), ST, "too large"),
    "shape of nine": ("one", edit_entry(shape=[1] * 9), ST, "9 dimensions"),
    "shape and bytes": ("one", edit_entry(shape=[255]), ST, "1024 bytes for 255 elements"),
    "offsets backwards": ("one", edit_entry(data_offsets=lambda o: o[::-1]), ST, "before it begins"),
    "offsets beyond": ("one", edit_entry(data_offsets=lambda o: [o[0] + 10**9, o[1] + 10**9]), ST, "incomplete"),
    "offsets negative": ("one", edit_entry(data_offsets=lambda o: [-1, o[1]]), ST, "whole numbers"),
    "one offset": ("one", edit_entry(data_offsets=[0]), ST, "whole numbers"),
    "overlap": ("one", edit_entry(data_offsets=lambda o: [o[0] - 4, o[1] - 4]), ST, "lies in the bytes of"),
    "bytes of nobody": ("one", raw_header(lambda t: json.dumps({n: v for n, v in json.loads(t).items() if n != "model.norm.weight"}).encode()),
                        ST, "belong to no"),
    "more behind": ("one", lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes() + b"1"), ST, "belong to no"),
    "truncated": ("one", lambda f: cut(f / "model.safetensors", -5000), ST, "incomplete"),
    "integers": ("one", edit_entry(dtype="I32"), TENSOR, "I32"),
    "eight-bit floats": ("one", edit_entry(dtype="F8_E4M3", shape=[1024]), TENSOR, "F8_E4M3"),
    "wrong shape": ("one", edit_entry(shape=[16, 16]), "model.tensor", "output_norm.weight"),
    "missing tensor": ("one", rename("model.layers.1.self_attn.v_proj.weight", None), "model.tensor", "blk.1.attn_v.weight is missing"),
    "unknown tensor": ("one", rename("model.norm.weight", "model.norn.weight"), TENSOR, "model.norn.weight"),
    "tensor without suffix": ("one", rename("model.norm.weight", "model.norm"), TENSOR, "neither"),
    "layer beyond": ("one", config(num_hidden_layers=1), TENSOR, "layer 1"),
    "layers missing": ("one", config(num_hidden_layers=3), "model.tensor", "blk.2"),
    "the same twice": ("one", rename("model.layers.1.input_layernorm.weight", "layers.0.input_layernorm.weight"), TENSOR, "are both"),
    "expert missing": ("experts", drop_expert, TENSOR, "expert 2 is missing"),
    "experts beyond": ("experts", config(num_local_experts=3), TENSOR, "expert 3"),
    "vocab_size": ("one", config(vocab_size=500), TENSOR, "vocab_size"),
    "not finite": ("one", set_nan, TENSOR, "output_norm.weight holds a value that is no number"),
    "heads": ("one", config(num_attention_heads=3, head_dim="absent"), CONFIG, "num_attention_heads"),
    "head_dim": ("one", config(head_dim=32), "model.tensor", "attn_q"),
    "no hidden_size": ("one", config(hidden_size="absent"), CONFIG, "hidden_size is missing"),
    "text for a number": ("one", config(num_hidden_layers="2"), CONFIG, "num_hidden_layers"),
    "unknown class": ("one", config(architectures=["MambaForCausalLM"]), "model.architecture", "MambaForCausalLM"),
    "no class": ("one", config(architectures=[]), CONFIG, "architectures"),
    "quantised": ("one", config(quantization_config={"quant_method": "gptq"}), CONFIG, "quantised"),
    "activation": ("one", config(hidden_act="relu"), CONFIG, "relu"),
    "rope of another kind": ("one", config(rope_scaling={"type": "longrope"}), CONFIG, "longrope"),
    "yarn with parameters": ("one", config(rope_scaling={"type": "yarn", "factor": 2.0, "beta_fast": 16}), CONFIG, "beta_fast"),
    "rope without factor": ("one", config(rope_scaling={"rope_type": "linear"}), CONFIG, "no factor"),
    "part of rope": ("one", config(partial_rotary_factor=0.5), CONFIG, "partial_rotary_factor"),
    "index of text": ("many", index(lambda v: {"weight_map": "x"}), ST, "weight_map"),
    "index without map": ("many", index(lambda v: {"metadata": {}}), ST, "weight_map"),
    "index names a number": ("many", index(point_elsewhere(1)), ST, "no name of a safetensors file"),
    "index leaves the folder": ("many", index(point_elsewhere("../model.safetensors")), ST, "no name of a safetensors file"),
    "index with a path": ("many", index(point_elsewhere("/etc/x.safetensors")), ST, "no name of a safetensors file"),
    "index with dots": ("many", index(point_elsewhere("..safetensors")), ST, "no name of a safetensors file"),
    "index names a pickle": ("many", index(point_elsewhere("model.bin")), ST, "no name of a safetensors file"),
    "index names a missing shard": ("many", index(point_elsewhere("model-00009-of-00003.safetensors")), ST, "no such file"),
    "index names another shard": ("many", index(point_elsewhere("model-00001-of-00003.safetensors")), ST, "elsewhere"),
    "index lacks a tensor": ("many", index(lambda v: v["weight_map"].pop("model.norm.weight") and None), ST, "does not list it"),
    "index lists too much": ("many", index(lambda v: v["weight_map"].update({"extra.weight": "model-00001-of-00003.safetensors"})), ST, "extra"),
    "a shard is missing": ("many", remove("model-00002-of-00003.safetensors"), ST, "no such file"),
    "a shard is truncated": ("many", first_shard(lambda p: cut(p, -100)), ST, "incomplete"),
    "a shard is empty": ("many", first_shard(lambda p: p.write_bytes(b"")), ST, "0 bytes"),
    "a shard is a folder": ("many", first_shard(lambda p: p.unlink() or p.mkdir()), "io.failed", "regular"),
    "tokenizer is no JSON": ("bpe", write_bytes("tokenizer.json", b"{"), CONFIG, "tokenizer.json:1"),
    "tokenizer of another type": ("bpe", edit_json("tokenizer.json", lambda v: v["model"].update(type="WordLevel")), TOKENIZER, "WordLevel"),
    "another pre-tokenizer": ("bpe", edit_json("tokenizer.json", lambda v: v["pre_tokenizer"]["pretokenizers"][0]["pattern"].update(Regex="\\w+")),
                              "model.pre_tokenizer", "\\w+"),
    "unknown pre-tokenizer": ("bpe", edit_json("tokenizer.json", lambda v: v["pre_tokenizer"]["pretokenizers"].insert(0, {"type": "Odd"})),
                              "model.pre_tokenizer", "Odd"),
    "normaliser": ("bpe", edit_json("tokenizer.json", lambda v: v.update(normalizer={"type": "Lowercase"})), TOKENIZER, "Lowercase"),
    "unigrams of numbers": ("bpe", unigrams(vocab=[[1, 2]]), TOKENIZER, "entry 0"),
    "unigrams with scores of text": ("bpe", unigrams(vocab=[["a", 0], ["b", "x"]]), TOKENIZER, "entry 1"),
    "unigrams without any": ("bpe", unigrams(vocab={}), TOKENIZER, "model.vocab"),
    "too many unigrams": ("bpe", unigrams(vocab=[["a", 0.0]] * 600), TOKENIZER, "600 tokens"),
    "unigrams with bytes": ("bpe", unigrams(byte_fallback=True), TOKENIZER, "bytes"),
    "unk_id beyond": ("bpe", unigrams(unk_id=512), TOKENIZER, "unk_id"),
    "no base64": ("bpe", unigrams({"type": "Precompiled", "precompiled_charsmap": "AAA"}), TOKENIZER, "base64"),
    "charsmap of rubbish": ("bpe", unigrams({"type": "Precompiled", "precompiled_charsmap": "/////w=="}), "model.tokenizer", "charsmap"),
    "another step": ("bpe", unigrams({"type": "NFKD"}), TOKENIZER, "NFKD"),
    "ids beyond": ("bpe", edit_json("tokenizer.json", lambda v: v["model"]["vocab"].update(zzz=600)), TOKENIZER, "600"),
    "an id twice": ("bpe", edit_json("tokenizer.json", lambda v: v["model"]["vocab"].update(zzz=5)), TOKENIZER, "same id"),
    "ids of text": ("bpe", edit_json("tokenizer.json", lambda v: v["model"]["vocab"].update(zzz="5")), TOKENIZER, "zzz"),
    "no vocabulary": ("bpe", edit_json("tokenizer.json", lambda v: v["model"].pop("vocab") and None), TOKENIZER, "vocab"),
    "no merges": ("bpe", edit_json("tokenizer.json", lambda v: v["model"].pop("merges") and None), TOKENIZER, "merges"),
    "merges of one": ("bpe", edit_json("tokenizer.json", lambda v: v["model"]["merges"].insert(3, ["a"])), TOKENIZER, "merge 3"),
    "merges without scores": ("one", edit_json("tokenizer.json", lambda v: v["model"]["merges"].pop()), TOKENIZER, "not those of a SentencePiece"),
    "merges out of order": ("one", edit_json("tokenizer.json", lambda v: v["model"]["merges"].sort()), TOKENIZER, "not those of a SentencePiece"),
    "tokenizer.model of rubbish": ("model", write_bytes("tokenizer.model", b"\x0f" * 99), TOKENIZER, "no SentencePiece model"),
    "tokenizer.model cut": ("model", lambda f: cut(f / "tokenizer.model", 3000), TOKENIZER, "no SentencePiece model"),
    "tokenizer.model empty": ("model", write_bytes("tokenizer.model", b""), TOKENIZER, "no SentencePiece model"),
    "tokenizer.model of unigrams": ("model", lambda f: (f / "tokenizer.model").write_bytes(hf_models.sentencepiece_model(512, True, 1)), TOKENIZER, "BPE"),
    "template of a number": ("one", edit_json("tokenizer_config.json", lambda v: v.update(chat_template=[{"name": "x", "template": 1}])), CONFIG, "template"),
    "sampling": ("one", write_bytes("generation_config.json", b'{"temperature": "hot"}'), CONFIG, "temperature"),
    "bos beyond": ("bpe", lambda f: (config(bos_token_id=9999)(f), remove("tokenizer_config.json")(f)), CONFIG, "bos_token_id"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_folder(name, good, tmp_path):
    which, edit, code, words = BAD[name]
    folder = shutil.copytree(good[which], tmp_path / "hf")
    edit(folder)
    (tmp_path / "out").mkdir()
    line = convert(folder, tmp_path / "out" / "out.gguf", code=code)
    assert words in line, line


def test_every_cut(good, tmp_path):
    """A shard cut anywhere in its header, and at some places behind it."""
    folder = shutil.copytree(good["one"], tmp_path / "hf")
    whole = (folder / "model.safetensors").read_bytes()
    n, = struct.unpack_from("<Q", whole)
    (tmp_path / "out").mkdir()
    for at in [*range(0, 60, 7), *range(60, 8 + n, 499), 8 + n, len(whole) - 1]:
        (folder / "model.safetensors").write_bytes(whole[:at])
        convert(folder, tmp_path / "out" / "out.gguf", code=ST)


def test_value_that_the_type_cannot_hold(good, tmp_path):
    folder = shutil.copytree(good["one"], tmp_path / "hf")
    set_large(folder)
    (tmp_path / "out").mkdir()
    line = convert(folder, tmp_path / "out" / "a.gguf", "--type", "f16", code=TENSOR)
    assert "70000" in line and "bf16" in line
    for kind in ("f32", "bf16", "q8_0"):
        convert(folder, tmp_path / "out" / f"{kind}.gguf", "--type", kind)


def test_odd_rows_become_f16(tmp_path):
    folder = hf_models.folder(tmp_path / "hf", "llama", d_ff=528)  # no multiple of 32
    report = convert(folder, tmp_path / "out.gguf", "--type", "q8_0")
    a = arrays(tmp_path / "out.gguf")
    assert a["blk.0.ffn_down.weight"][0] == "F16" and a["blk.0.ffn_up.weight"][0] == "Q8_0"
    assert len(report["warnings"]) == 1 and "528" in report["warnings"][0]


def test_warnings(tmp_path):
    folder = hf_models.folder(tmp_path / "hf", "mistral", config={"sliding_window": 512})
    assert "512" in convert(folder, tmp_path / "out.gguf")["warnings"][0]
    folder = hf_models.folder(tmp_path / "nfc", "qwen3")
    edit_json("tokenizer.json", lambda v: v.update(normalizer={"type": "NFC"}))(folder)
    assert "NFC" in convert(folder, tmp_path / "out.gguf")["warnings"][0]


# --- the file that comes out -----------------------------------------------------------------------------------------------

def other_mode(folder):
    (folder / "new").write_bytes(b"")
    mode = (folder / "new").stat().st_mode & 0o777
    (folder / "new").unlink()
    return mode


def test_target(good, tmp_path):
    out = tmp_path / "out.gguf"
    convert(good["one"], out, "--type", "f16")
    first = out.read_bytes()
    convert(good["one"], out, "--type", "q8_0")  # a GGUF is replaced
    assert out.read_bytes() != first
    assert out.stat().st_mode & 0o777 == other_mode(tmp_path)
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    convert(good["one"], other, code="usage.argument")
    assert other.read_text() == "mine"
    convert(good["one"], tmp_path, code="usage.argument")
    r = run(["convert", good["one"], tmp_path / "no" / "such" / "out.gguf"])
    assert r.returncode == 1 and b"error[io.failed]" in r.stderr
    convert(out, tmp_path / "x.gguf", code="usage.argument")
    convert(tmp_path / "nothing", tmp_path / "x.gguf", code="io.failed")


def test_source_is_not_replaced(good, tmp_path):
    folder = shutil.copytree(good["one"], tmp_path / "hf")
    before = (folder / "model.safetensors").read_bytes()
    r = run(["convert", folder, folder / "model.safetensors"])
    assert r.returncode == 2 and (folder / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("n_bytes", [1000, 60_000, 500_000])
def test_disk_full(n_bytes, good, tmp_path):
    """No file may grow beyond n_bytes: as a full disk, at the header, in the weights. Nothing stays; what was there stays."""
    out = tmp_path / "out.gguf"
    out.write_bytes(b"GGUF the old one")

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))

    r = subprocess.run([binary(), "convert", good["one"], out], preexec_fn=limit, restore_signals=False, capture_output=True)
    assert r.returncode == 1 and b"error[io.failed]" in r.stderr and b"large" in r.stderr, r.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["out.gguf"] and out.read_bytes() == b"GGUF the old one"


def large(path):
    """A folder of 620 MB of weights, all zero: a header and a hole."""
    hf_models.folder(path, "llama", config={"intermediate_size": 200_000})
    head, _ = split(path / "model.safetensors")
    entries, at = {}, 0
    for name, v in head.items():
        shape = [200_000 if n == 512 and ".mlp." in name else n for n in v["shape"]]
        size = 4 * int(np.prod(shape)) if "layers.1.mlp" not in name else 2 * int(np.prod(shape))
        entries[name] = ("F32" if "layers.1.mlp" not in name else "F16", shape, at, at + size)
        at += size
    raw = hf_models.header(entries)
    (path / "model.safetensors").write_bytes(raw)
    os.truncate(path / "model.safetensors", len(raw) + at)
    return path


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(sig, tmp_path):
    folder = large(tmp_path / "hf")
    (tmp_path / "out").mkdir()
    p = subprocess.Popen([binary(), "convert", folder, tmp_path / "out" / "out.gguf", "--type", "q8_0"], stderr=subprocess.PIPE)
    deadline = time.time() + 60
    while not any((tmp_path / "out").iterdir()) and p.poll() is None and time.time() < deadline:
        time.sleep(0.002)
    p.send_signal(sig)
    assert p.wait(timeout=60) == 130
    assert list((tmp_path / "out").iterdir()) == []


def test_memory_does_not_grow_with_the_weights(tmp_path):
    """More than 600 MB of weights through less than 100 MB."""
    folder = large(tmp_path / "hf")
    code = ("import resource, subprocess, sys; r = subprocess.run(sys.argv[1:], capture_output=True); "
            "print(r.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")
    args = ["python3", "-c", code, binary(), "convert", folder, tmp_path / "out.gguf", "--type", "f16"]
    status, kib = map(int, subprocess.run(args, capture_output=True, check=True).stdout.split())
    assert status == 0 and (folder / "model.safetensors").stat().st_size > 600e6
    assert kib < 100_000 or os.environ.get("RF_SANITIZER"), kib
