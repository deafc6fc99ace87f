"""Devices: what is there, why a GPU is not taken, and what the doctor says of it. The runtimes are files that the unit tests
build (tests/unit/fake_hip.c): one without devices, one that lacks a function; kernels run in tests/gpu."""
import pytest

pytestmark = pytest.mark.smoke
NOWHERE = {"ROCMFORGE_HIP_LIBRARY": "/nowhere/libamdhip64.so.7", "ROCMFORGE_CUDA_LIBRARY": "/nowhere/libcuda.so.1"}


@pytest.fixture
def played(build):
    """The environment of a machine whose runtimes are the played ones."""
    folder = build / "tests" / "unit"
    if not (folder / "fake_hip.so").exists():
        pytest.skip("built without tests")
    return lambda hip, cuda: {"ROCMFORGE_HIP_LIBRARY": str(folder / hip), "ROCMFORGE_CUDA_LIBRARY": str(folder / cuda)}


def test_devices(rocmforge, rocmforge_json):
    every = rocmforge_json("devices", "--json")
    cpu = every[0]
    assert cpu["kind"] == "cpu" and cpu["threads"] >= 1 and cpu["tier"] in cpu["tiers"] and cpu["tiers"][0] == "scalar"
    assert cpu["tier"] in rocmforge("devices").out
    runtimes = [x for x in every if x["kind"] == "runtime"]
    assert [x["platform"] for x in runtimes] == ["hip", "cuda"] and all(("version" in x) != ("reason" in x) for x in runtimes)
    for gpu in every[1:-2]:
        assert gpu["kind"] == "gpu" and (gpu["usable"] or gpu["reason"]["code"].startswith("gpu."))


def test_nothing_of_rocm_is_needed(rocmforge, rocmforge_json):
    reasons = [x["reason"] for x in rocmforge_json("devices", "--json", env=NOWHERE)[1:]]
    assert [r["code"] for r in reasons] == ["gpu.no_driver"] * 2 and "/nowhere/libamdhip64.so.7" in reasons[0]["text"]
    said = rocmforge("devices", env=NOWHERE).out.splitlines()
    assert said[1].startswith("hip: none: [gpu.no_driver] ") and said[2].startswith("cuda: none: [gpu.no_driver] ")


def test_a_library_without_a_function_is_too_old(rocmforge_json, played):
    hip, cuda = [x["reason"] for x in rocmforge_json("devices", "--json", env=played("fake_hip_old.so", "fake_cuda_old.so"))[1:]]
    assert hip["code"] == cuda["code"] == "gpu.driver" and "hipGraphLaunch" in hip["text"] and "cuGraphLaunch" in cuda["text"]


@pytest.mark.parametrize("device", ("gpu", "hip", "cuda", "gpu:0", "0000:03:00.0", "GPU-0123456789abcdef"))
def test_a_gpu_that_is_not_there_is_never_replaced(refused, tiny, device):
    line = refused("gpu.no_driver", "generate", tiny("llama"), "-p", "x", "-n", "1", "--device", device, status=1, env=NOWHERE)
    assert f"--device {device}: " in line


@pytest.mark.parametrize("device", ("tpu", "gpu:", "gpu:x", "GPU-", "cuda:0"))
def test_a_device_of_no_known_form(refused, tiny, device):
    assert "--device" in refused("usage.argument", "generate", tiny("llama"), "-p", "x", "--device", device, status=2)


def test_broken_runtimes_have_their_own_reason(refused, tiny, played):
    args = ("generate", tiny("llama"), "-p", "x", "-n", "1", "--device")
    assert "too old" in refused("gpu.driver", *args, "hip", status=1, env=played("fake_hip_old.so", "fake_cuda.so"))
    env = played("fake_hip_5.so", "fake_cuda.so") | {"ROCMFORGE_HIP_LIBRARY": __file__}
    assert "cannot be loaded" in refused("gpu.driver", *args, "hip", status=1, env=env)


def test_auto_says_why_the_cpu_computes(rocmforge, rocmforge_json, tiny):
    args = ("generate", tiny("llama"), "-p", "x", "-n", "1")
    line = next(x for x in rocmforge(*args, env=NOWHERE).err.splitlines() if x.startswith("device: "))
    assert "/nowhere/libamdhip64.so.7 is not there" in line
    told = rocmforge_json(*args, "--json", env=NOWHERE)["device"]
    assert told["kind"] == "cpu" and told["reason"] in line
    assert rocmforge_json(*args, "--json", "--device", "cpu")["device"]["reason"] == "asked for"


def test_doctor(rocmforge, rocmforge_json):
    v = rocmforge_json("doctor", "--json", status=None)
    levels = [f["level"] for f in v["findings"]]
    assert set(levels) <= {"ok", "note", "warning", "error"}
    assert (levels.count("error"), levels.count("warning")) == (v["errors"], v["warnings"])
    assert {"cpu.tier", "memory.available", "memory.huge_pages"} <= {f["code"] for f in v["findings"]}
    said = rocmforge("doctor", status=1 if v["errors"] else 0)
    assert said.err == "" and said.out.splitlines()[-1].startswith(f"{v['errors']} error")


def test_doctor_warns_of_what_is_set(rocmforge_json, played):
    env = NOWHERE | {"HSA_OVERRIDE_GFX_VERSION": "11.0.0", "ROCMFORGE_CPU": "scalar"}
    found = {f["code"]: f for f in rocmforge_json("doctor", "--json", env=env, status=None)["findings"]}
    assert found["gpu.override"]["fix"].startswith("unset HSA_OVERRIDE_GFX_VERSION") and found["gpu.override"]["level"] == "warning"
    assert found["cpu.tier"]["level"] in ("warning", "ok")
    bad = {f["code"]: f for f in rocmforge_json("doctor", "--json", env=env | {"ROCMFORGE_CPU": "x"}, status=1)["findings"]}
    assert bad["backend.cpu_tier"]["level"] == "error"
