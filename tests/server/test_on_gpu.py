"""A server on a GPU that is played (tests/simt/standin.h): it says which and how it was verified, its text is the command
line's, and a GPU that is lost in the middle is told to its clients while the process lives."""
import subprocess

import pytest

PROMPT = "the of and to in"


@pytest.fixture
def played(build, tmp_path):
    library = build / "tests" / "simt" / "libstandin_hip.so"
    if not library.exists():
        pytest.skip("the stand-in HIP library is not built (it needs clang++ 20 or later)")
    return lambda fault="": {"ROCMFORGE_HIP_LIBRARY": str(library), "ROCMFORGE_CUDA_LIBRARY": "/nowhere/libcuda.so.1",
                             "ROCMFORGE_STANDIN": "gfx1100", "ROCMFORGE_STANDIN_FAULT": fault, "XDG_CACHE_HOME": str(tmp_path / "cache")}


def code_of(reply):
    e = reply.json["error"]
    return e["code"] if isinstance(e, dict) else reply.json["code"]


def test_health_and_text(serve, binary, tiny, played):
    model = tiny("llama")
    for verified in ("equal to the CPU, bit for bit, now", "gives again what the CPU gave"):
        s = serve("--device", "gpu", "-c", 256, "--parallel", 2, model=model, env=played())
        h = s.get("/health").json
        assert h["status"] == "healthy" and h["checks"]["gpu"]["available"]
        device = h["device"]
        assert device["kind"] == "gpu" and "gfx1100" in device["name"] and device["reason"] == "asked for" and device["verified"] == verified
    want = subprocess.run([binary, "generate", model, "-p", PROMPT, "-n", "8", "--temp", "0", "-q", "--device", "cpu"], capture_output=True,
                          check=True).stdout.decode().removesuffix("\n")
    r = s.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 8, "temperature": 0})
    assert r.status == 200 and r.json["choices"][0]["text"] == want


def test_a_gpu_that_is_lost(serve, tiny, played):
    """After the probe, in the middle of a request."""
    s = serve("--device", "gpu", "-c", 256, "--verify", "off", model=tiny("llama"), env=played("lost:150"))
    r = s.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 40, "temperature": 0, "ignore_eos": True})
    assert r.status in (500, 503) and code_of(r).startswith("gpu."), r.text
    again = s.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 4})
    assert again.status in (500, 503) and code_of(again).startswith("gpu."), again.text
    h = s.get("/health")
    assert h.status == 503 and h.json["status"] == "unhealthy" and "hipErrorLaunchFailure" in h.json["reason"], h.text
    assert s.get("/metrics").status == 200 and s.process.poll() is None
