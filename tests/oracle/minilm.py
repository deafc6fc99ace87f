"""all-MiniLM-L6-v2 from its Hugging Face folder (RF_MINILM): as a GGUF file, as a forward pass in NumPy, and 200 sentences to
embed. Tests only; the mathematics is the paper's (Devlin et al. 2018), in float64, with the exact GELU."""
import json
import math
import os
import pathlib

import gguf
import numpy as np
import pytest


def folder():
    path = os.environ.get("RF_MINILM")
    if not path or not os.path.exists(path):
        pytest.skip("RF_MINILM is not set")
    return pathlib.Path(path)


def tensors(path):
    """name -> array, of a safetensors file: the header's length, the header, the data."""
    raw = np.memmap(path / "model.safetensors", np.uint8, "r")
    n = int.from_bytes(raw[:8].tobytes(), "little")
    header = json.loads(raw[8:8 + n].tobytes())
    kinds = {"F32": np.float32, "I64": np.int64}
    return {name: raw[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]].view(kinds[t["dtype"]]).reshape(t["shape"])
            for name, t in header.items() if name != "__metadata__"}


NAMES = {"embeddings.word_embeddings": "token_embd", "embeddings.token_type_embeddings": "token_types",
         "embeddings.position_embeddings": "position_embd", "embeddings.LayerNorm": "token_embd_norm",
         "attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
         "attention.output.dense": "attn_output", "attention.output.LayerNorm": "attn_output_norm",
         "intermediate.dense": "ffn_up", "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm"}


def name_of(name):
    part, _, kind = name.rpartition(".")
    if part in NAMES:
        return f"{NAMES[part]}.{kind}"
    if not part.startswith("encoder.layer."):
        return None  # the pooler, which a sentence encoder does not use
    _, _, il, rest = part.split(".", 3)
    return f"blk.{il}.{NAMES[rest]}.{kind}"


def add_vocabulary(w, path):
    words = (path / "vocab.txt").read_text().split("\n")[:-1]
    special = {word: i for i, word in enumerate(words) if word in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")}
    tokens = [t if t in special else t[2:] if t.startswith("##") else "\u2581" + t for t in words]
    w.add_tokenizer_model("bert")
    w.add_tokenizer_pre("jina-v2-en")  # what converters name WordPiece of lower-case texts
    w.add_token_list(tokens)
    w.add_token_types([3 if t in special else 1 for t in words])
    w.add_token_type_count(2)
    w.add_bos_token_id(special["[CLS]"])
    w.add_sep_token_id(special["[SEP]"])
    w.add_unk_token_id(special["[UNK]"])
    w.add_pad_token_id(special["[PAD]"])
    w.add_mask_token_id(special["[MASK]"])


def make(out):
    """The model as a GGUF file of F32 weights."""
    path = folder()
    c = json.loads((path / "config.json").read_text())
    w = gguf.GGUFWriter(str(out), "bert")
    w.add_name("all-MiniLM-L6-v2")
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_block_count(c["num_hidden_layers"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(c["num_attention_heads"])
    w.add_layer_norm_eps(c["layer_norm_eps"])
    w.add_causal_attention(False)
    w.add_pooling_type(gguf.PoolingType.MEAN)
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    add_vocabulary(w, path)
    for name, x in tensors(path).items():
        if name_of(name) and x.dtype == np.float32:
            w.add_tensor(name_of(name), np.ascontiguousarray(x))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return pathlib.Path(out)


class Forward:
    """The same in NumPy: embed([[101, ..., 102], ...]) -> the means of the last hidden states, float64. The rows of all token
    lists stand in one matrix; only attention goes list by list."""

    def __init__(self):
        path = folder()
        self.w = {name: x.astype(np.float64) for name, x in tensors(path).items() if x.dtype == np.float32}
        c = json.loads((path / "config.json").read_text())
        self.n_layer, self.n_head, self.eps = c["num_hidden_layers"], c["num_attention_heads"], c["layer_norm_eps"]

    def linear(self, name, x):
        return x @ self.w[name + ".weight"].T + self.w[name + ".bias"]

    def norm(self, name, x):
        d = x - x.mean(-1, keepdims=True)
        return d / np.sqrt((d * d).mean(-1, keepdims=True) + self.eps) * self.w[name + ".weight"] + self.w[name + ".bias"]

    def attend(self, q, k, v):
        q, k, v = (t.reshape(len(t), self.n_head, -1).transpose(1, 0, 2) for t in (q, k, v))
        s = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
        p = np.exp(s - s.max(-1, keepdims=True))
        return (p / p.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(q.shape[1], -1)

    def attention(self, at, x, ends):
        parts = (np.split(self.linear(f"{at}.self.{n}", x), ends) for n in ("query", "key", "value"))
        return self.linear(f"{at}.output.dense", np.concatenate([self.attend(*qkv) for qkv in zip(*parts)]))

    def embed(self, lists):
        w, ends = self.w, np.cumsum([len(t) for t in lists])[:-1]
        x = w["embeddings.word_embeddings.weight"][np.concatenate(lists)] + w["embeddings.token_type_embeddings.weight"][0]
        x += np.concatenate([w["embeddings.position_embeddings.weight"][:len(t)] for t in lists])
        x = self.norm("embeddings.LayerNorm", x)
        for il in range(self.n_layer):
            at = f"encoder.layer.{il}"
            x = self.norm(f"{at}.attention.output.LayerNorm", x + self.attention(f"{at}.attention", x, ends))
            x = self.norm(f"{at}.output.LayerNorm", x + self.linear(f"{at}.output.dense", gelu(self.linear(f"{at}.intermediate.dense", x))))
        return np.stack([rows.mean(0) for rows in np.split(x, ends)])


ERF_AT = np.linspace(-6, 6, 1 << 20)  # between these points a straight line is within 2e-11 of erf
ERF = np.array([math.erf(x) for x in ERF_AT])


def gelu(x):
    return x * 0.5 * (1 + np.interp(x / math.sqrt(2), ERF_AT, ERF))


def sentences():
    """200 of them: 40 in twenty languages, alone, in pairs, with their case or spaces changed."""
    plain = SENTENCES.strip().split("\n")
    n = len(plain)
    pairs = [f"{a} {plain[(i * 7 + 3) % n]}" for i, a in enumerate(plain)]
    longer = [" ".join(plain[(i * 11 + k) % n] for k in range(3)) for i in range(n)]
    changed = [f"  {a.upper()}\t{i}, {i * 37 % 1000}!" for i, a in enumerate(plain)]
    return plain + pairs + longer + changed + [a[:len(a) // 2] for a in plain]


SENTENCES = """
The quick brown fox jumps over the lazy dog.
How do I reset the password of my account?
Water boils at 100 degrees Celsius at sea level.
She bought three kilograms of apples, two loaves of bread and a newspaper.
The committee postponed its decision until next Wednesday.
A GPU multiplies large matrices faster than most CPUs.
Is this the platform for the train to Edinburgh?
Der Zug nach München hat heute zwanzig Minuten Verspätung.
Wie kann ich mein Passwort zurücksetzen?
Straßenbahnen fahren über die Brücke.
Le chat dort sur le canapé près de la fenêtre.
Où se trouve la bibliothèque municipale, s'il vous plaît ?
L'été dernier, nous avons voyagé à travers les Alpes.
¿Cuánto cuesta una habitación doble con desayuno?
El niño corrió hacia la playa con su perro.
Mañana lloverá en toda la península.
La pizza napoletana è più buona con la mozzarella di bufala.
Perché il cielo è blu?
O gato preto atravessou a rua sem olhar.
Não há açúcar suficiente para o bolo.
De fiets staat tegen de muur van het café.
Kan jag få notan, tack?
Smörgåsar med räkor och ägg är gott.
Sää on tänään aurinkoinen ja lämmin.
Zażółć gęślą jaźń, powiedział nauczyciel.
Příliš žluťoučký kůň úpěl ďábelské ódy.
Az időjárás holnap változékony lesz.
Bugün hava çok güzel, parka gidelim.
Мама мыла раму, а папа читал газету.
Где находится ближайшая аптека?
Σήμερα ο καιρός είναι πολύ καλός.
今天的天气非常好，我们去公园散步吧。
请问最近的地铁站在哪里？
東京は日本の首都であり、世界最大の都市の一つです。
猫が窓のそばで寝ています。
오늘 날씨가 정말 좋네요.
الطقس اليوم جميل جدا.
איפה נמצאת תחנת הרכבת?
आज मौसम बहुत अच्छा है।
Emoji 😀🚀 and symbols ∑∫√ ≈ ½ ™ also occur — don't they?
"""
