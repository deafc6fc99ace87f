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


@pytest.fixture
def standin(build):
    """standin("gfx1100:24GiB", fault=None): the environment of a machine with these GPUs, played by tests/simt."""
    library = build / "tests" / "simt" / "libstandin_hip.so"
    if not library.exists():
        pytest.skip("the stand-in HIP library is not built (it needs clang++ 20 or later)")
    return lambda devices, fault="": NOWHERE | {"ROCMFORGE_HIP_LIBRARY": str(library), "ROCMFORGE_STANDIN": devices,
                                                "ROCMFORGE_STANDIN_FAULT": fault}


def test_gpus_are_ranked(rocmforge, rocmforge_json, standin):
    env = standin("gfx1036:512MiB:integrated,gfx1100:16GiB,gfx1151:64GiB:integrated,gfx1201:32GiB")
    gpus = [x for x in rocmforge_json("devices", "--json", env=env) if x["kind"] == "gpu"]
    assert [g["arch"] for g in gpus] == ["gfx1201", "gfx1100", "gfx1151", "gfx1036"] and [g["index"] for g in gpus] == [0, 1, 2, 3]
    assert [g["pci"] for g in gpus] == ["0000:06:00.0", "0000:04:00.0", "0000:05:00.0", "0000:03:00.0"]
    assert gpus[0]["memory_bytes"] == 32 << 30 and gpus[0]["wave"] == 32 and gpus[3]["integrated"]
    assert not gpus[3]["usable"] and gpus[3]["reason"]["code"] == "gpu.arch" and "gfx1036" in gpus[3]["reason"]["text"]
    said = rocmforge("devices", env=env).out
    assert "gpu:0: AMD Radeon RX 9070 XT, gfx1201 (hip), 32.0 GiB" in said and "not used: [gpu.arch] " in said


@pytest.mark.parametrize("devices, fault, code, text", (
    ("", "", "gpu.none", "finds no AMD GPU"), ("gfx1100", "hipInit:1:999", "gpu.driver", "hipInit: hipErrorUnknown"),
    ("gfx1100", "hipInit:1:100", "gpu.none", "finds no AMD GPU"), ("gfx1100", "hipInit:1:2", "gpu.memory", "hipErrorOutOfMemory"),
    ("gfx1100", "hipGetDeviceCount:1:35", "gpu.driver", "hipErrorInsufficientDriver"),
    ("gfx1100", "hipDeviceGetName:1:719", "gpu.call", "hipDeviceGetName: hipErrorLaunchFailure"),
    ("gfx1100", "hipDeviceTotalMem:1:999", "gpu.call", "hipDeviceTotalMem"),
    ("gfx1100", "hipDeviceGetAttribute:3:999", "gpu.call", "hipDeviceGetAttribute"),
    ("gfx1100", "hipDeviceGetPCIBusId:1:999", "gpu.call", "hipDeviceGetPCIBusId"),
    ("gfx1031", "", "gpu.arch", "gfx1031")))
def test_each_step_of_finding_a_gpu_fails_with_its_own_reason(refused, rocmforge_json, tiny, standin, devices, fault, code, text):
    env, args = standin(devices, fault), ("generate", tiny("llama"), "-p", "x", "-n", "1")
    assert text in refused(code, *args, "--device", "gpu", status=1, env=env)
    told = rocmforge_json(*args, "--json", env=env)["device"]  # auto: the CPU, and why
    assert told["kind"] == "cpu" and text in told["reason"]
    found = rocmforge_json("doctor", "--json", env=env, status=None)["findings"]
    assert any(f["code"] == code and text in f["text"] for f in found)


def test_a_runtime_that_is_too_old(refused, tiny, standin):
    env = standin("gfx1100") | {"ROCMFORGE_STANDIN_VERSION": "50731921"}
    line = refused("gpu.driver", "generate", tiny("llama"), "-p", "x", "-n", "1", "--device", "gpu", status=1, env=env)
    assert "HIP runtime 5.7" in line and "ROCm 6" in line


@pytest.mark.parametrize("device, code", (("gpu:1", "gpu.none"), ("0000:09:00.0", "gpu.none"), ("cuda", "gpu.no_driver")))
def test_a_gpu_that_is_not_among_those_there(refused, tiny, standin, device, code):
    env = standin("gfx1100")
    refused(code, "generate", tiny("llama"), "-p", "x", "-n", "1", "--device", device, status=1, env=env)
