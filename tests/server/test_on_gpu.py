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
    gpu = h.json["checks"]["gpu"]
    assert gpu["available"] is False and "hipErrorLaunchFailure" in gpu["error"] and not h.json["checks"]["engine"]["running"]
    ready = s.get("/ready")
    assert ready.status == 503 and ready.json["ready"] is False and "hipErrorLaunchFailure" in ready.json["reason"]
    m = s.get("/metrics")
    assert m.status == 200 and "\nrocmforge_gpu_available 0\n" in m.text and s.process.poll() is None


def test_a_sampler_that_draws_nonsense(serve, tiny, played):
    """Ids that are none: nothing that the device says is believed any more."""
    s = serve("--device", "gpu", "-c", 256, "--verify", "off", model=tiny("llama"), env=played("launch:sample_pick:flip"))
    r = s.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 40, "temperature": 0, "ignore_eos": True})
    assert r.status == 503 and code_of(r) == "gpu.wrong_numbers", r.text
    assert code_of(s.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 4})) == "gpu.wrong_numbers"
    h = s.get("/health")
    assert h.status == 503 and not h.json["checks"]["gpu"]["available"] and s.get("/ready").status == 503


# --- what became less ---------------------------------------------------------------------------------------------------------

ASKED = (("/v1/completions", {"prompt": PROMPT, "max_tokens": 2}), ("/generate", {"prompt": PROMPT, "max_tokens": 2}), ("/completion", {"prompt": PROMPT, "n_predict": 2}))


def test_downgrades_stand_in_health_metrics_and_replies(serve, tiny, played):
    s = serve("-c", 256, "--verify", "off", model=tiny("llama"), env=played("hipStreamCreateWithFlags:*:999"))
    h = s.get("/health").json
    (down,) = h["downgrades"]
    assert (down["code"], down["what"], down["reason"], down["cause"]) == ("device.refused", "device", "CpuFallback", "gpu.call")
    assert h["status"] == "healthy" and h["device"]["reason_code"] == "CpuFallback" and not h["checks"]["gpu"]["available"]
    assert h["warnings"] == [f"device.refused [gpu.call]: {down['text']}"] and "hipStreamCreateWithFlags" in down["text"]
    m = s.get("/metrics").text
    assert 'rocmforge_downgrade_info{code="device.refused",what="device",reason="CpuFallback",cause="gpu.call"} 1\n' in m
    assert 'rocmforge_device_info{kind="cpu",' in m and 'reason="CpuFallback"} 1\n' in m and "\nrocmforge_gpu_available 0\n" in m
    for path, body in ASKED:
        assert s.post(path, body).json["warnings"] == h["warnings"], path


def test_tokens_drawn_on_the_cpu_are_told_to_their_request(serve, tiny, played):
    s = serve("--device", "gpu", "-c", 256, "--verify", "off", model=tiny("llama"), env=played())
    twice = {"logit_bias": [[300, 1], [300, 0.5]]}
    body = {"prompt": PROMPT, "n_predict": 3, "temperature": 0}
    assert "warnings" not in s.post("/completion", body).json and s.get("/health").json["downgrades"] == []
    assert s.post("/completion", body | twice).json["warnings"] == ["sampler.host: 3 tokens were drawn on the CPU: logit_bias names a token twice"]
    assert "warnings" not in s.post("/completion", body).json  # another's affair
    (down,) = s.get("/health").json["downgrades"]
    assert down["code"] == "sampler.host" and down["text"].startswith("3 tokens were drawn")
    m = s.get("/metrics").text
    assert "\nrocmforge_host_drawn_tokens_total 3\n" in m and "\nrocmforge_gpu_available 1\n" in m
