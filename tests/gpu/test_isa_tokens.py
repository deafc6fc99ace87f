"""Whole tokens on a played gfx1100 whose kernels run from their code objects, in the emulator of the instruction set: the same
tokens and log-probabilities as the CPU's, to the last digit."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "oracle"))  # tiny_models
BUILD = pathlib.Path(os.environ["RF_BUILD"])
STANDIN = BUILD / "tests/simt/libstandin_hip.so"


def generate(model, device, env):
    command = [BUILD / "rocmforge", "generate", "-m", model, "-p", "the of", "-n", "4", "-c", "64", "--temp", "0", "--json",
               "--top-logprobs", "3", "--ignore-eos", "--verify", "off", "--device", device]
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout)
    return said["device"]["kind"], said["tokens"], said["logprobs"]


def test_tokens(tmp_path):
    if not os.environ.get("RF_ISA_EMU") or not STANDIN.exists():
        pytest.skip("ROCMFORGE_ISA_EMU does not name the emulator's folder, or this build has no stand-in HIP library")
    pytest.importorskip("tinygrad")
    tiny_models = pytest.importorskip("tiny_models", reason="the oracle, which encodes weights, is not there")
    model = tmp_path / "tiny.gguf"
    tiny_models.make(model, "llama", "Q8_0")
    played = {"ROCMFORGE_ISA_EMU": os.environ["RF_ISA_EMU"], "ROCMFORGE_HIP_LIBRARY": str(STANDIN), "ROCMFORGE_STANDIN": "gfx1100"}
    kind, *gpu = generate(model, "gpu", played)
    assert kind == "gpu"
    assert gpu == list(generate(model, "cpu", {})[1:])
