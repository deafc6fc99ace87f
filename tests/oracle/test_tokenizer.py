"""src/text against the oracle: the same ids for the same text, the same text for the same ids.

Random strings: 10,000 for each pre-tokenizer, 300 for vocabularies that repeat one; RF_LONG=1: 10,000 for every one.
RF_BUILD is the build directory.
"""
import os
import pathlib
import random
import re
import struct
import subprocess
import unicodedata

import pytest

import llama

BUILD = pathlib.Path(os.environ["RF_BUILD"])
MODELS = pathlib.Path(os.environ["RF_ORACLE_SRC"]) / "models"
LONG = bool(os.environ.get("RF_LONG"))

# Vocabularies that stand in the oracle's source; those made here carry another pre-tokenizer over one of them.
STORED = ["llama-bpe", "gpt-2", "qwen2", "llama-spm", "phi-3", "refact", "starcoder", "command-r", "falcon", "mpt",
          "qwen35", "gemma-4", "aquila", "baichuan", "gpt-neox", "bert-bge",
          "nomic-bert-moe"]
MADE = {  # name: (base, keys to set; None removes)
    "default": ("gpt-2", {"tokenizer.ggml.pre": "default"}),
    "gemma3": ("llama-spm", {"tokenizer.ggml.pre": None, "tokenizer.ggml.add_space_prefix": False}),
    "gemma-pre-default": ("gemma-4", {"tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": "default"}),
    "smollm": ("starcoder", {"tokenizer.ggml.pre": "smollm"}),
    "laguna": ("qwen2", {"tokenizer.ggml.pre": "laguna"}),
    "glm4": ("llama-bpe", {"tokenizer.ggml.pre": "glm4", "tokenizer.ggml.bos_token_id": None}),
    "megrez": ("qwen2", {"tokenizer.ggml.pre": "megrez"}),
    "add-space-bpe": ("gpt-2", {"tokenizer.ggml.add_space_prefix": True, "tokenizer.ggml.add_eos_token": True,
                                "tokenizer.ggml.add_bos_token": True}),
    "jina-v2-code": ("gpt-2", {"tokenizer.ggml.pre": "jina-v2-code"}),
    "jina-v2-de": ("gpt-2", {"tokenizer.ggml.pre": "jina-v2-de"}),
    "modern-bert": ("gpt-2", {"tokenizer.ggml.pre": "modern-bert", "general.name": "modern-bert"}),
    "bert-cased": ("bert-bge", {"tokenizer.ggml.normalizer.lowercase": False}),
    "bert-accents": ("bert-bge", {"tokenizer.ggml.normalizer.strip_accents": False}),
    "bert-cased-no-accents": ("bert-bge", {"tokenizer.ggml.normalizer.lowercase": False,
                                           "tokenizer.ggml.normalizer.strip_accents": True}),
    "bert-flags": ("bert-bge", {"tokenizer.ggml.add_bos_token": False, "tokenizer.ggml.add_sep_token": False,
                                "tokenizer.ggml.add_eos_token": False, "tokenizer.ggml.add_space_prefix": True}),
    "unigram-all-spaces": ("nomic-bert-moe", {"tokenizer.ggml.remove_extra_whitespaces": False}),
    "unigram-bare": ("nomic-bert-moe", {"tokenizer.ggml.remove_extra_whitespaces": None,
                                        "tokenizer.ggml.add_space_prefix": None,
                                        "tokenizer.ggml.precompiled_charsmap": None,
                                        "tokenizer.ggml.add_bos_token": None, "tokenizer.ggml.add_eos_token": None,
                                        "general.architecture": "t5"}),
}
ALL = STORED + list(MADE) + ["SmolLM2"]
MAIN = {"llama-bpe", "gpt-2", "qwen2", "llama-spm", "default", "gemma3", "gemma-4", "SmolLM2", "bert-bge",
        "nomic-bert-moe"}
CHARACTERS = [n for n in ALL if n.startswith("bert-") or n in ("nomic-bert-moe", "unigram-bare")]


def n_random(name):
    return 10_000 if LONG or name in MAIN else 300


# ---- vocabulary files ----

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # of GGUF's value types
STRING, ARRAY, BOOL = 8, 9, 7


def value_end(data, kind, at):
    if kind == STRING:
        return at + 8 + struct.unpack_from("<Q", data, at)[0]
    if kind != ARRAY:
        return at + SIZES[kind]
    kind, n = struct.unpack_from("<IQ", data, at)
    at += 12
    if kind != STRING:
        return at + n * SIZES[kind]
    for _ in range(n):
        at += 8 + int.from_bytes(data[at:at + 8], "little")
    return at


def key_values(data):
    """(key, its bytes) of a GGUF's metadata, in file order."""
    n_kv, at = struct.unpack_from("<Q", data, 16)[0], 24
    for _ in range(n_kv):
        n, = struct.unpack_from("<Q", data, at)
        key = data[at + 8:at + 8 + n].decode()
        kind, = struct.unpack_from("<I", data, at + 8 + n)
        end = value_end(data, kind, at + 12 + n)
        yield key, data[at:end]
        at = end


def text_of(s):
    return struct.pack("<Q", len(s)) + s.encode()


def rewrite(source, target, changes):
    """Copies the metadata of a GGUF with some keys changed (text or bool; None removes); no tensors."""
    kvs = [raw for key, raw in key_values(source.read_bytes()) if key not in changes]
    for key, value in changes.items():
        if isinstance(value, bool):
            kvs.append(text_of(key) + struct.pack("<I?", BOOL, value))
        elif value is not None:
            kvs.append(text_of(key) + struct.pack("<I", STRING) + text_of(value))
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, len(kvs))
    target.write_bytes((head + b"".join(kvs)).ljust(len(head) + sum(map(len, kvs)) + 64, b"\0"))


@pytest.fixture(scope="session")
def vocab_path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocab")

    def path(name):
        if name == "SmolLM2":
            return pathlib.Path(os.environ["RF_SMOLLM2"])
        if name in STORED:
            return MODELS / f"ggml-vocab-{name}.gguf"
        made = folder / f"{name}.gguf"
        if not made.exists():
            base, changes = MADE[name]
            rewrite(MODELS / f"ggml-vocab-{base}.gguf", made, changes)
        return made

    return path


# ---- both sides ----

class Oracle:
    def __init__(self, path):
        self.ffi, self.lib = llama.load()
        params = self.lib.llama_model_default_params()
        params.vocab_only = True
        self.model = self.lib.llama_model_load_from_file(str(path).encode(), params)
        assert self.model != self.ffi.NULL, path
        self.vocab = self.lib.llama_model_get_vocab(self.model)
        self.n = self.lib.llama_vocab_n_tokens(self.vocab)

    def close(self):
        self.lib.llama_model_free(self.model)

    def encode(self, text, special, parse):
        cap = len(text) + 16
        ids = self.ffi.new("int32_t[]", cap)
        n = self.lib.llama_tokenize(self.vocab, text, len(text), ids, cap, special, parse)
        assert n >= 0
        return list(ids[0:n])

    def decode(self, ids, special):
        cap = 64 + 1100 * len(ids)
        out = self.ffi.new("char[]", cap)
        n = self.lib.llama_detokenize(self.vocab, ids, len(ids), out, cap, False, special)
        assert n >= 0
        return bytes(self.ffi.buffer(out, n))

    def piece(self, token, special):
        out = self.ffi.new("char[]", 4096)
        n = self.lib.llama_token_to_piece(self.vocab, token, out, 4096, 0, special)
        assert n >= 0
        return bytes(self.ffi.buffer(out, n))

    def eog(self):
        return [i for i in range(self.n) if self.lib.llama_vocab_is_eog(self.vocab, i)]


class Ours:
    def __init__(self, path):
        self.p = subprocess.Popen([BUILD / "tests/unit/drive_tokenizer", path], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)

    def close(self):
        self.p.stdin.close()
        assert self.p.wait() == 0

    def ask(self, op, flags=0, data=b""):
        self.p.stdin.write(struct.pack("<cBI", op, flags, len(data)) + data)
        self.p.stdin.flush()
        status, n = struct.unpack("<II", self.p.stdout.read(8))
        reply = self.p.stdout.read(n)
        assert status == 0, reply
        return reply

    def encode(self, text, special, parse, user=0):
        reply = self.ask(b"e", special | parse << 1 | user << 2, text)
        return list(struct.unpack(f"<{len(reply) // 4}i", reply))

    def decode(self, ids, special):
        return self.ask(b"d", int(special), struct.pack(f"<{len(ids)}i", *ids))

    def pieces(self, special):
        data, out, at = self.ask(b"p", int(special)), [], 0
        while at < len(data):
            n, = struct.unpack_from("<I", data, at)
            out.append(data[at + 4:at + 4 + n])
            at += 4 + n
        return out

    def kinds(self):
        return list(self.ask(b"k"))

    def seconds(self, text):
        return struct.unpack("<d", self.ask(b"l", 3, text))[0]

    def facts(self):
        return self.ask(b"i").decode()


@pytest.fixture(scope="module", params=ALL)
def pair(request, vocab_path):
    path = vocab_path(request.param)
    oracle, ours = Oracle(path), Ours(path)
    yield request.param, oracle, ours
    ours.close()
    oracle.close()


# ---- random text: valid UTF-8 over the code points that Unicode 15.1 assigns ----

CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'vE", "'LL", "'", "''", "\u2019s", "'\u017f"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "\r", "\u00a0", "\u3000", "\u2009", "\x0b", "\x0c", "\u0085",
          "\u2028", " \n", "\n ", "\t\n  "]
SPECIALS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<s>", "</s>", "<unk>", "<|begin_of_text|>", "<|eot_id|>",
            "<start_of_turn>", "<end_of_turn>", "<bos>", "<|user|>", "<|end|>", "<|assistant|>", "<fim_prefix>",
            "<|START_OF_TURN_TOKEN|>", "<mask>", "<pad>", "<0x0A>", "<|", "|>", "<", "[INST]", "\u2581", "\u2581\u2581",
            "<|im_start", "im_end|>", "<unused7>", "<|turn>", "<turn|>", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "[PAD]",
            "[unused3]", "##ing", "\u2581the"]
EMOJI = ["\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1eb\U0001f1f7", "\u2764\ufe0f", "\U0001f44d\U0001f3fd", "\u00a9", "\u20ac", "\u2190"]
WORDS = ["the", "Hello", "world", "Ünïcödé", "naïve", "Straße", "İstanbul", "Привет", "мир", "γειά", "שלום", "مرحبا",
         "नमस्ते", "สวัสดี", "你好世界", "こんにちは", "안녕하세요", "ǅ", "ﬁ", "function", "return", "x_1", "HTTP", "don't",
         "we'll", "I'M", "3.14", "1234567", "٣٤٥", "½", "Ⅷ", "e\u0301", "a\u0300\u0316", "\u0e33", "\u1e9e"]
PUNCT = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + ["...", "--", "==", "\u2026", "\u3002", "\uff0c", "\u00bf", "\u00ab", "\u2014"]


def assigned():
    """Ranges by script-like blocks, only code points this Python knows too: a subset of Unicode 15.1's."""
    return [cp for cp in range(0x20, 0x110000)
            if unicodedata.category(chr(cp)) not in ("Cn", "Cs", "Co") and not 0x20000 <= cp < 0x2FA20]


ASSIGNED = assigned()
BY_CATEGORY = {}
for _cp in ASSIGNED:
    BY_CATEGORY.setdefault(unicodedata.category(chr(_cp)), []).append(chr(_cp))


HANGUL = [chr(cp) for cp in range(0xAC00, 0xD7A4, 97)] + ["\u1100\u1161\u11a8", "\u3131"]
ACCENTED = [c for c in map(chr, range(0xC0, 0x2000)) if unicodedata.normalize("NFD", c) != c]


def some(r, things, low=1, high=12, sep=""):
    return sep.join(r.choice(things) for _ in range(r.randint(low, high)))


GENERATORS = [
    lambda r: some(r, WORDS, 1, 10, " "),
    lambda r: some(r, WORDS + SPACES + PUNCT, 1, 20),
    lambda r: some(r, SPACES, 1, 12) + some(r, WORDS, 0, 2) + some(r, SPACES, 0, 6),
    lambda r: "".join(str(r.randint(0, 10 ** r.randint(1, 12))) + r.choice(["", " ", ".", ",", "\n", "\u0660", "a"]) for _ in range(r.randint(1, 6))),
    lambda r: "".join(r.choice(WORDS) + r.choice(CONTRACTIONS) + r.choice(["", " ", "s", "1"]) for _ in range(r.randint(1, 6))),
    lambda r: some(r, SPECIALS + WORDS + SPACES, 1, 10),
    lambda r: some(r, EMOJI + WORDS[:4] + [" "], 1, 10),
    lambda r: "".join(r.choice("aeinou") + some(r, BY_CATEGORY["Mn"], 0, 3) for _ in range(r.randint(1, 8))),
    lambda r: "".join(chr(r.choice(ASSIGNED)) for _ in range(r.randint(1, 24))),
    lambda r: "".join(r.choice(BY_CATEGORY[r.choice(list(BY_CATEGORY))]) for _ in range(r.randint(1, 24))),
    lambda r: "".join(chr(r.randint(0x20, 0x7e)) for _ in range(r.randint(1, 40))),
    lambda r: "".join(r.choice("ab \n1'.") for _ in range(r.randint(1, 40))),
    lambda r: r.choice(["a", " ", "\n", "1", "é", "中", "=", "-", "\u0301", "\U0001f600", "<", "\t"]) * r.randint(1, 300),
    lambda r: "".join(chr(r.randint(0, 0x7f)) for _ in range(r.randint(1, 30))).replace("\0", ""),
    lambda r: some(r, HANGUL + ACCENTED + ["\u200b", "\u00ad", "\ufffd", " "], 1, 20),
    lambda r: "".join(r.choice("aeinorst") for _ in range(r.randint(50, 400))) + r.choice(["", "\u4e2d", "\u2603", "!"]),
]


def random_texts(name, n):
    r = random.Random(f"tokenizer {name}")
    for i in range(n):
        yield GENERATORS[i % len(GENERATORS)](r).encode()


# ---- tests ----

@pytest.mark.parametrize("name", [n for n in STORED if (MODELS / f"ggml-vocab-{n}.gguf.inp").exists()])
def test_vectors(name, vocab_path):
    """The pairs that stand beside the vocabularies."""
    base = MODELS / f"ggml-vocab-{name}.gguf"
    texts = pathlib.Path(f"{base}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    wanted = pathlib.Path(f"{base}.out").read_text().split("\n")
    ours = Ours(base)
    bad = [(t, w) for t, w in zip(texts, wanted) if ours.encode(t.encode(), 0, 0) != [int(x) for x in w.split()]]
    ours.close()
    assert len(texts) > 40 and not bad


def test_random_text(pair):
    name, oracle, ours = pair
    bad = []
    for i, text in enumerate(random_texts(name, n_random(name))):
        special, parse = i & 1, i >> 1 & 1
        if ours.encode(text, special, parse) != oracle.encode(text, special, parse):
            bad.append((text, special, parse))
    assert not bad, (len(bad), bad[:5])


@pytest.mark.parametrize("name", CHARACTERS)
def test_every_character(name, vocab_path):
    """Each Unicode scalar, alone, inside a word and with a mark: WordPiece's cleaning, unigram's map."""
    path = vocab_path(name)
    oracle, ours, bad = Oracle(path), Ours(path), []
    for base in range(0, 0x110000, 64):
        chars = [chr(cp) for cp in range(base, base + 64) if not 0xD800 <= cp < 0xE000]
        text = " ".join(f"{c} a{c}b {c}\u0301" for c in chars).encode()
        if chars and ours.encode(text, 0, 0) != oracle.encode(text, 0, 0):
            bad += [hex(ord(c)) for c in chars for t in [f"{c} a{c}b {c}\u0301".encode()]
                    if ours.encode(t, 0, 0) != oracle.encode(t, 0, 0)]
    ours.close()
    oracle.close()
    assert not bad, (len(bad), bad[:20])


@pytest.mark.parametrize("name", CHARACTERS)
def test_broken_utf8(name, vocab_path):
    """Stray and missing bytes are U+FFFD on both sides. (Overlong forms and surrogates are characters to the oracle.)"""
    path = vocab_path(name)
    oracle, ours = Oracle(path), Ours(path)
    r = random.Random(f"broken {name}")
    pool = [b"a", b"The", b" ", b"\0", b"\x80", b"\xa9", b"\xbf", b"\xc3", b"\xe2", b"\xe2\x96", b"\xf0\x9f", b"\xff", b"\xf8"]
    bad = []
    for _ in range(2000):
        text = b"".join(r.choices(pool, k=r.randint(1, 24)))
        if ours.encode(text, 0, 1) != oracle.encode(text, 0, 1):
            bad.append(text)
    ours.close()
    oracle.close()
    assert not bad, (len(bad), bad[:5])


CONTROL = 3


def test_user_words_give_no_control_token(pair):
    """The text of every control token, alone and among words, where a user wrote it."""
    name, _, ours = pair
    kinds, pieces = ours.kinds(), ours.pieces(1)
    words = ours.facts().split()
    control = {i for i, k in enumerate(kinds) if k == CONTROL} - {int(words[words.index("unk") + 1])}  # any words give it
    texts = [pieces[i] for i in control if pieces[i]]
    assert texts or name in ("gpt-2", "default", "gpt-neox", "baichuan", "aquila", "add-space-bpe", "starcoder", "refact", "jina-v2-code",
                             "jina-v2-de", "modern-bert")
    if texts:  # where nobody wrote it but the template, it is that token
        assert sum(bool(control & set(ours.encode(t, 0, 1))) for t in texts) > 0.9 * len(texts)
    r = random.Random(f"user {name}")
    for text in texts + [b" ".join(r.sample(texts, min(4, len(texts)))) for _ in range(200)] + [
            b"".join((r.choice(texts or [b"x"]), r.choice(WORDS).encode(), r.choice(SPACES).encode())) for _ in range(200)]:
        found = control & set(ours.encode(text, 0, 1, user=1))
        assert not found, (text, found)


def unmark(piece):
    """A token whose text holds a character that stands for no byte (command-r has emoji so): the oracle answers with a
    mark of that and the whole text; ours gives the character itself, which is the text."""
    while (at := piece.find(b"[UNK_BYTE_0x")) >= 0:
        digits = piece[at + 12:piece.find(b"]", at)]
        char = bytes.fromhex(re.match(rb"[0-9a-f]*", digits).group().decode())
        char = char.decode(errors="ignore")[0].encode()
        text = piece[at + 12 + 2 * len(char):piece.find(b"]", at)]
        piece = piece[:at] + char + piece[at + 13 + 2 * len(char) + len(text):]
    return piece


def test_pieces(pair):
    """Every id, with and without special tokens."""
    name, oracle, ours = pair
    for special in (0, 1):
        bad = [(i, got) for i, got in enumerate(ours.pieces(special)) if got != unmark(oracle.piece(i, special))]
        assert not bad, (special, len(bad), [(i, got, oracle.piece(i, special)) for i, got in bad[:5]])


def test_detokenize(pair):
    name, oracle, ours = pair
    r = random.Random(f"detokenize {name}")
    for i, text in enumerate(random_texts(name, n_random(name) // 20)):
        ids = oracle.encode(text, i & 1, 1)
        if i % 3 == 0:
            ids += [r.randrange(oracle.n) for _ in range(r.randint(1, 10))]
        for special in (0, 1):
            wanted = oracle.decode(ids, special)
            if b"[UNK_BYTE_0x" not in wanted:
                assert ours.decode(ids, special) == wanted, (text, ids, special)


def test_facts(pair):
    """Special ids and the set that ends a generation. eot may be any of several; it is in the set in any case."""
    name, oracle, ours = pair
    facts = ours.facts()
    head, eog = facts.split(" open ")[0].split(" eog")
    assert [int(x) for x in eog.split()] == oracle.eog()
    words = head.split()
    for label, ask in (("bos", "bos"), ("eos", "eos"), ("sep", "sep"), ("pad", "pad"), ("pre", "fim_pre"),
                       ("suf", "fim_suf"), ("mid", "fim_mid")):
        assert int(words[words.index(label) + 1]) == getattr(oracle.lib, f"llama_vocab_{ask}")(oracle.vocab), (label, facts)
    add = words.index("add")
    assert int(words[add + 1]) == oracle.lib.llama_vocab_get_add_bos(oracle.vocab)
    assert int(words[add + 2]) == oracle.lib.llama_vocab_get_add_eos(oracle.vocab)
    sep = oracle.lib.llama_vocab_sep(oracle.vocab) >= 0  # ours adds none that there is not
    assert int(words[add + 4]) == (sep and oracle.lib.llama_vocab_get_add_sep(oracle.vocab))
    assert int(words[words.index("mask") + 1]) == oracle.lib.llama_vocab_mask(oracle.vocab)


def test_bytes_survive(pair):
    """Arbitrary bytes: an answer, and the same one twice."""
    name, _, ours = pair
    r = random.Random(f"bytes {name}")
    for _ in range(300):
        data = r.randbytes(r.randint(1, 200))
        ids = ours.encode(data, 0, 1)
        assert ids == ours.encode(data, 0, 1)
        ours.decode(ids, True)


UNITS = ["a", "A", " ", "\n", "\t", "\r\n", "1", "é", "中", "\u0301", "\U0001f468\u200d", "'", "!", "<", "\u2581", "<|im_start|>"]


@pytest.mark.parametrize("name", ["SmolLM2", "llama-spm", "gemma-4", "bert-bge", "nomic-bert-moe"] if not LONG else ALL)
def test_linear_time(name, vocab_path):
    """One repeated character, real vocabularies, a stack of 256 KiB: 1 MiB within 1 s of CPU, 2 MiB within 2.5 times
    that. The best of several tries each, since neighbours on the machine only ever add; below a quarter of a second
    the ratio is not looked at."""
    ours, slow = Ours(vocab_path(name)), []
    for unit in UNITS:
        text, one, two = unit.encode(), 1e9, 1e9
        mib = text * (2 ** 20 // len(text))
        for _ in range(12):
            one, two = min(one, ours.seconds(mib)), min(two, ours.seconds(mib + mib))
            if one < 1 and (two < 2.5 * one or two < 0.25):
                break
        else:
            slow.append((unit, one, two))
    ours.close()
    assert not slow


@pytest.mark.parametrize("name, limit", [("SmolLM2", 0.025), ("gpt-2", 0.025), ("gemma-4", 0.150), ("bert-bge", 0.025), ("nomic-bert-moe", 0.150)])
def test_opens_quickly(name, limit, vocab_path):
    """CPU time of tokenizer_open, with threefold slack."""
    ours = Ours(vocab_path(name))
    assert float(ours.facts().rsplit(" ", 1)[1]) < 3 * limit
    ours.close()


def test_unknown_pre_tokenizer(vocab_path, tmp_path):
    target = tmp_path / "x.gguf"
    rewrite(MODELS / "ggml-vocab-gpt-2.gguf", target, {"tokenizer.ggml.pre": "no-such-thing"})
    done = subprocess.run([BUILD / "tests/unit/drive_tokenizer", target], stdin=subprocess.DEVNULL, capture_output=True)
    assert done.returncode == 1 and done.stdout.startswith(b"model.pre_tokenizer ") and b"no-such-thing" in done.stdout
