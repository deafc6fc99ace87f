"""inspect, devices, bench: what they tell; and inspect refuses whatever generate would."""
import csv
import io
import json

import pytest

bad_gguf = pytest.importorskip("bad_gguf")


@pytest.mark.smoke
def test_a_model_is_described(rocmforge, rocmforge_json, smollm2):
    text = rocmforge("inspect", smollm2).out
    for word in ("llama", "134.5", "Q4_1", "8192", "smollm", "49152"):
        assert word in text
    got = rocmforge_json("inspect", smollm2, "--json")
    assert got["model"]["architecture"] == "llama" and got["model"]["n_layer"] == 30 and got["tokenizer"]["eos"] == 2


@pytest.mark.smoke
def test_tensors_metadata_graph(rocmforge, rocmforge_json, tiny):
    model = tiny("gemma3")
    got = rocmforge_json("inspect", model, "--json", "--tensors", "--metadata")
    assert len(got["tensors"]) == got["n_tensors"] and got["metadata"]["general.architecture"] == "gemma3"
    text = rocmforge("inspect", model, "--tensors", "--metadata").out
    assert "token_embd.weight" in text and "general.architecture = " in text
    graph = rocmforge("inspect", model, "--graph").out
    assert "attention" in graph and "# " in graph


@pytest.mark.smoke
def test_names_from_a_file_cannot_steer_a_terminal(rocmforge, tiny, tmp_path):
    tiny_models, test_model = pytest.importorskip("tiny_models"), pytest.importorskip("test_model")
    evil = "a\x1b[31mb\x07\u009bc\nd"
    path = tiny_models.rewrite(tiny("llama"), tmp_path / "evil.gguf", keys={"general.name": (evil, test_model.STR)})
    for args in ((), ("--metadata",)):
        raw = rocmforge("inspect", path, *args).stdout
        assert b"\x1b" not in raw and b"\x07" not in raw and b"\xc2\x9b" not in raw
    assert json.loads(rocmforge("inspect", path, "--json").stdout)["model"]["name"] == evil


def test_bench_forms(rocmforge, rocmforge_json, refused, tiny):
    args = ("bench", tiny("llama"), "-p", "16,8", "-n", "4", "-r", "2", "-t", "1", "-q")
    rows = rocmforge_json(*args, "-o", "json")
    assert [(r["n_prompt"], r["n_gen"]) for r in rows] == [(16, 0), (8, 0), (0, 4)]
    assert all(len(r["samples_ts"]) == 2 and r["avg_ts"] > 0 for r in rows) and rows[2]["read_gbs"] > 0
    table = list(csv.DictReader(io.StringIO(rocmforge(*args, "-o", "csv").out)))
    assert [r["n_prompt"] for r in table] == ["16", "8", "0"] and float(table[2]["bandwidth_gbs"]) > 0
    lines = rocmforge(*args, "-d", "32").out.splitlines()
    assert len(lines) == 5 and "pp16 @ d32" in lines[2] and "%" in lines[4] and "±" in lines[4]
    assert len({line.count("|") for line in lines}) == 1
    refused("usage.argument", "bench", tiny("llama"), "-p", "0", "-n", "0", status=2)
    refused("usage.range", "bench", tiny("llama"), "-o", "xml", status=2)
    refused("usage.range", "bench", tiny("llama"), "-p", "1,,2", status=2)


# --- refusals ---------------------------------------------------------------------------------------------------------------


def both_refuse(rocmforge, path, codes, mentions):
    lines = []
    for args in (("inspect", path), ("inspect", path, "--json"), ("plan", path), ("generate", path, "-p", "x", "-n", "1", "-q")):
        done = rocmforge(*args, status=None)
        assert done.returncode == 1 and done.stdout == b"" and len(done.err.splitlines()) == 1, (args, done.err)
        lines.append(done.err)
    assert len(set(lines)) == 1, lines
    assert any(lines[0].startswith(f"rocmforge: error[{code}]: ") for code in codes) and mentions in lines[0], lines[0]


def test_bad_containers(rocmforge, tmp_path):
    cases = [c for c in bad_gguf.cases() if c.code != "ok"]
    for i, case in enumerate(cases[::4]):
        folder = tmp_path / str(i)
        folder.mkdir()
        for name, data in case.files.items():
            (folder / name).write_bytes(data)
        both_refuse(rocmforge, folder / next(iter(case.files)), [case.code], case.mentions)


def test_bad_models(rocmforge, tiny, tmp_path):
    tiny_models, test_model = pytest.importorskip("tiny_models"), pytest.importorskip("test_model")
    for arch, key, value, code, text in test_model.BAD_KEYS[::3]:
        path = tiny_models.rewrite(tiny(arch), tmp_path / "bad.gguf", keys={key: value})
        both_refuse(rocmforge, path, code.split("|"), text)


@pytest.mark.parametrize("arch", ("llama", "mixtral", "gemma3"))
def test_missing_weights(rocmforge, tiny, tmp_path, arch):
    tiny_models, test_model = pytest.importorskip("tiny_models"), pytest.importorskip("test_model")
    for name, _ in test_model.names_of(tiny(arch)):
        if name.startswith("blk.1.") and not name.endswith(test_model.OPTIONAL):
            both_refuse(rocmforge, tiny_models.rewrite(tiny(arch), tmp_path / "bad.gguf", drop=[name]), ["model.tensor"], name)


def test_weights_that_are_not_finite(rocmforge, tiny, tmp_path):
    """Only running can find them: then it is said, and nothing is printed that looks like an answer."""
    np, tiny_models = pytest.importorskip("numpy"), pytest.importorskip("tiny_models")

    def spoil(x):
        x[5] = np.nan
        return x, "F32"
    path = tiny_models.rewrite(tiny("llama"), tmp_path / "nan.gguf", tensors={"blk.1.attn_norm.weight": spoil})
    done = rocmforge("generate", path, "-p", "the", "-n", "4", "-q", status=1)
    assert done.out.strip() == "" and done.err.startswith("rocmforge: error[model.not_finite]: ")
