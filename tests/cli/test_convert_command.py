"""rocmforge convert as a user meets it: arguments, what is printed where, what the result is good for."""
import json
import os
import shutil

import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    hf_models = pytest.importorskip("hf_models", reason="the oracle, which encodes weights, is not there")
    return hf_models.folder(tmp_path_factory.mktemp("convert") / "Tiny-Llama", "llama", dtype="BF16")


@pytest.mark.smoke
def test_convert_and_run(folder, tmp_path, rocmforge, rocmforge_json):
    """What comes out generates, is named after the folder, and says what it is."""
    out = tmp_path / "tiny.gguf"
    done = rocmforge("convert", folder, out)
    assert done.out.startswith(f"{out}: Tiny-Llama, llama, 21 tensors of BF16, 512 tokens") and done.out.count("\n") == 1
    assert done.err == ""
    assert rocmforge_json("inspect", out, "--json")["model"]["architecture"] == "llama"
    said = rocmforge_json("generate", out, "-p", "the word", "-n", "3", "--temp", "0", "--ignore-eos", "--json")
    assert len(said["tokens"]) == 3
    assert os.listdir(tmp_path) == ["tiny.gguf"]


@pytest.mark.smoke
def test_json(folder, tmp_path, rocmforge_json):
    v = rocmforge_json("convert", folder, "-o", tmp_path / "x.gguf", "--outtype", "Q8_0", "--name", "other", "--json")
    assert v == {"architecture": "llama", "name": "other", "type": "Q8_0", "tensors": 21, "parameters": v["parameters"], "bytes": v["bytes"],
                 "tokens": 512, "tokenizer": "llama", "pre_tokenizer": "default", "warnings": []}
    assert 0 < v["bytes"] < (tmp_path / "x.gguf").stat().st_size


@pytest.mark.smoke
def test_usage(folder, tmp_path, refused):
    out = tmp_path / "x.gguf"
    refused("usage.argument", "convert", status=2)
    refused("usage.argument", "convert", folder, status=2)
    refused("usage.argument", "convert", folder, out, "-o", out, status=2)
    refused("usage.argument", "convert", folder, out, "three", status=2)
    refused("usage.argument", "convert", folder, out, "--threads", "2", status=2)
    refused("usage.range", "convert", folder, out, "--type", "q4_k", status=2)
    refused("usage.range", "convert", folder, out, "--type", "", status=2)
    refused("usage.range", "convert", folder, out, "--name", os.fsdecode(b"\xff"), status=2)
    refused("usage.argument", "convert", folder / "config.json", out, status=2)
    refused("io.failed", "convert", tmp_path / "none", out, status=1)
    refused("convert.config", "convert", tmp_path, out, status=1)
    assert os.listdir(tmp_path) == []


@pytest.mark.smoke
def test_warnings_are_lines_on_standard_error(folder, tmp_path, rocmforge):
    odd = shutil.copytree(folder, tmp_path / "odd")
    config = json.loads((odd / "config.json").read_text())
    (odd / "config.json").write_text(json.dumps({**config, "sliding_window": 100}))
    done = rocmforge("convert", odd, tmp_path / "x.gguf")
    assert done.err.startswith("rocmforge: warning: the attention window of 100 tokens") and done.err.count("\n") == 1
    quiet = rocmforge("convert", odd, tmp_path / "x.gguf", "-q", "--json")
    assert len(json.loads(quiet.out)["warnings"]) == 1


def test_the_twin_of_an_option(folder, tmp_path, rocmforge_json):
    v = rocmforge_json("convert", folder, tmp_path / "x.gguf", "--json", env={"ROCMFORGE_TYPE": "f16"})
    assert v["type"] == "F16"
    v = rocmforge_json("convert", folder, tmp_path / "x.gguf", "--json", "--type", "f32", env={"ROCMFORGE_TYPE": "f16"})
    assert v["type"] == "F32"


def test_beside_where_one_stands(folder, tmp_path, rocmforge, monkeypatch):
    """A file name without a folder, and one with a space; a folder with a slash behind it."""
    monkeypatch.chdir(tmp_path)
    rocmforge("convert", f"{folder}/", "a b.gguf")
    assert os.listdir(tmp_path) == ["a b.gguf"]


def test_folder_of_links(folder, tmp_path, rocmforge):
    """The cache of huggingface_hub: names are links to files elsewhere."""
    here, there = tmp_path / "snapshot", tmp_path / "blobs"
    shutil.copytree(folder, there)
    here.mkdir()
    for p in there.iterdir():
        (here / p.name).symlink_to(f"../blobs/{p.name}")
    rocmforge("convert", here, tmp_path / "x.gguf")
