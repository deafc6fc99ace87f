"""Whole tokens on a played GPU whose kernels run from their code objects, in the emulator of the instruction set: the same tokens
and log-probabilities as the CPU's, to the last digit. Models of 2 layers and at most 200,000 weights, but for those of a type
whose blocks are 256 wide."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "oracle"))  # tiny_models
BUILD = pathlib.Path(os.environ["RF_BUILD"])
STANDIN = BUILD / "tests/simt/libstandin_hip.so"
SMALL = {"n_layer": 2, "d_model": 64, "d_ff": 128, "n_head": 2, "n_kv_head": 1, "d_head": 32, "context": 256}
WIDE = {**SMALL, "d_model": 256, "d_ff": 256, "n_head": 4, "d_head": 64}
SHORT = [("gfx1100", "llama", "Q8_0", "f16"), ("gfx1100", "qwen3", "Q4_0", "q8_0"), ("gfx1100", "gemma3", "Q5_1", "f16"),
         ("gfx1201", "llama", "F16", "q4_0"), ("gfx942", "llama", "Q4_0", "q8_0")]
LONG = [(device, arch, kind, cache) for device in ("gfx1100", "gfx1201", "gfx942") for arch in ("llama", "qwen3", "gemma3")
        for kind, cache in (("Q8_0", "f16"), ("Q5_1", "q8_0"), ("BF16", "q4_0"), ("Q4_K", "f16"), ("Q6_K", "bf16"))]
TOKENS = "4"


def generate(model, device, cache, env):
    command = [BUILD / "rocmforge", "generate", "-m", model, "-p", "the of", "-n", TOKENS, "-c", "64", "--temp", "0", "--json",
               "--top-logprobs", "3", "--ignore-eos", "--verify", "off", "-ctk", cache, "-ctv", cache, "--device", device]
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=1000)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout)
    return said["device"]["kind"], said["tokens"], said["logprobs"]


@pytest.mark.parametrize("device, arch, kind, cache", SHORT + LONG if os.environ.get("RF_LONG") else SHORT)
def test_tokens(tmp_path, device, arch, kind, cache):
    if not os.environ.get("RF_ISA_EMU") or not STANDIN.exists():
        pytest.skip("ROCMFORGE_ISA_EMU does not name the emulator's folder, or this build has no stand-in HIP library")
    pytest.importorskip("tinygrad")
    tiny_models = pytest.importorskip("tiny_models", reason="the oracle, which encodes weights, is not there")
    model = tmp_path / "tiny.gguf"
    tiny_models.make(model, arch, kind, **(WIDE if "_K" in kind else SMALL))
    played = {"ROCMFORGE_ISA_EMU": os.environ["RF_ISA_EMU"], "ROCMFORGE_HIP_LIBRARY": str(STANDIN), "ROCMFORGE_STANDIN": device}
    on, *gpu = generate(model, "gpu", cache, played)
    assert on == "gpu" and len(gpu[0]) == int(TOKENS)
    assert gpu == list(generate(model, "cpu", cache, {})[1:])
