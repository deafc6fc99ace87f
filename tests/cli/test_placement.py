"""Which device computes what: every placement gives the same text, and what becomes less than was wanted is said with its
reason, once, and in the reply. The devices are played (tests/simt/standin.h), their kernels run for real."""
import pathlib

import pytest

ASK = ("-p", "the of and to in", "-n", "4", "-c", "128", "--temp", "0")
CODES = pathlib.Path(__file__).resolve().parents[2] / "src" / "api" / "downgrade.h"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """model(name, type, **changes): a tiny llama of two layers; changes replace entries of tiny_models.BASE."""
    tiny_models = pytest.importorskip("tiny_models", reason="the oracle, which encodes weights, is not there")
    folder, made = tmp_path_factory.mktemp("placed"), {}

    def get(name, kind="Q4_K", **changes):
        if name not in made:
            made[name] = tiny_models.make(folder / f"{name}.gguf", "llama", kind, **{"n_layer": 2, "context": 256, **changes})
        return made[name]

    return get


@pytest.fixture
def usual(model):
    return model("usual")


@pytest.fixture
def odd(model):
    """Its rows of 510 floats are not whole groups of four: the GPU has no kernel for the matrices behind them."""
    return model("odd", "F16", d_ff=510)


@pytest.fixture
def played(build, tmp_path):
    library = build / "tests" / "simt" / "libstandin_hip.so"
    if not library.exists():
        pytest.skip("the stand-in HIP library is not built (it needs clang++ 20 or later)")
    return lambda devices="gfx1100", fault="": {
        "ROCMFORGE_HIP_LIBRARY": str(library), "ROCMFORGE_CUDA_LIBRARY": "/nowhere/libcuda.so.1", "ROCMFORGE_STANDIN": devices,
        "ROCMFORGE_STANDIN_FAULT": fault, "XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.fixture
def ask(rocmforge_json):
    return lambda model, *options, **more: rocmforge_json("generate", model, *ASK, "--json", *options, **more)


def codes(got):
    return [w.split(":")[0].split(" ")[0] for w in got["warnings"]]


# --- the strategies -----------------------------------------------------------------------------------------------------------

@pytest.mark.smoke
@pytest.mark.parametrize("options, kind, placement, reason", (
    ((), "gpu", "gpu", "GpuAvailable"), (("--placement", "gpu"), "gpu", "gpu", "GpuAvailable"),
    (("--placement", "cpu"), "cpu", "cpu", "UserPreference"), (("--placement", "only"), "gpu", "only", "GpuAvailable"),
    (("--device", "gpu"), "gpu", "only", "UserPreference"), (("--device", "gpu", "--placement", "cpu"), "cpu", "cpu", "UserPreference"),
    (("--device", "cpu"), "cpu", "only", "UserPreference")))
def test_each_placement_gives_the_same_text(ask, usual, played, options, kind, placement, reason):
    want = ask(usual, "--device", "cpu")
    got = ask(usual, *options, env=played())
    assert got["tokens"] == want["tokens"] and got["text"] == want["text"] and got["warnings"] == []
    device = got["device"]
    assert (device["kind"], device["placement"], device["reason_code"]) == (kind, placement, reason)


def test_its_twin_in_the_environment(ask, usual, played):
    env = played() | {"ROCMFORGE_PLACEMENT": "cpu"}
    assert ask(usual, env=env)["device"]["kind"] == "cpu"
    assert ask(usual, "--placement", "gpu", env=env)["device"]["kind"] == "gpu"


@pytest.mark.parametrize("options, text", (
    (("--placement", "both"), "gpu, cpu, cost or only"), (("--placement", ""), "gpu, cpu, cost or only"),
    (("--placement", "gpu", "--device", "cpu"), "no GPU"), (("--placement", "cost", "--device", "cpu"), "no GPU"),
    (("--placement", "cost", "-ngl", "1"), "-ngl 1"), (("--placement", "only", "-ngl", "1"), "-ngl 1")))
def test_what_contradicts_itself_is_refused(refused, usual, played, options, text):
    assert text in refused("usage.argument", "generate", usual, *ASK, *options, status=2, env=played())


def test_cost_takes_the_cpu_where_it_is_twice_as_cheap(ask, rocmforge_json, model, played):
    """Launches alone cost a model of 60,000 weights more than all of its token on the CPU; one of 67 MB reads for longer than
    that on any CPU, and it is not run here, only planned."""
    small = model("small", "F16", d_model=64, d_ff=128, n_head=2, n_kv_head=1, d_head=32)
    got = ask(small, "--placement", "cost", env=played())
    assert got["device"]["kind"] == "cpu" and got["device"]["reason_code"] == "CostModel" and got["warnings"] == []
    assert "reckoned at" in got["device"]["reason"] and got["tokens"] == ask(small, "--device", "cpu")["tokens"]
    plan = ("plan", model("large", "F16", d_model=1024, d_ff=4096, n_head=8), "--placement", "cost", "-c", "128", "--json")
    whole = rocmforge_json(*plan, env=played())
    assert whole["device"] == "gpu" and whole["gpus"][0]["layers"] == 2 and whole["reason_code"] == "CostModel"
    part = rocmforge_json(*plan, env=played("gfx1100:150MiB"))
    assert part["fits"] and part["gpus"][0]["layers"] == 1 and [d["code"] for d in part["downgrades"]] == ["layers.memory"]


def test_cost_without_a_gpu(ask, usual):
    env = {"ROCMFORGE_HIP_LIBRARY": "/nowhere/libamdhip64.so", "ROCMFORGE_CUDA_LIBRARY": "/nowhere/libcuda.so.1"}
    got = ask(usual, "--placement", "cost", env=env)
    assert got["device"]["kind"] == "cpu" and got["device"]["reason_code"] == "GpuUnavailable" and got["warnings"] == []


# --- operations without a kernel ----------------------------------------------------------------------------------------------

@pytest.mark.smoke
@pytest.mark.parametrize("options", (("--device", "gpu"), ("--placement", "only"), ("--device", "gpu", "-ngl", "1")))
def test_backend_only_refuses_an_operation(refused, odd, played, options):
    line = refused("backend.unsupported", "generate", odd, *ASK, *options, env=played())
    assert 'linear "ffn_down"' in line and "--placement gpu" in line


@pytest.mark.parametrize("options, count", (((), "2 operations"), (("--device", "gpu", "--placement", "gpu"), "2 operations"),
                                            (("-ngl", "1"), "1 operation")))
def test_the_cpu_takes_an_operation_and_says_so(ask, rocmforge, rocmforge_json, odd, played, options, count):
    got = ask(odd, *options, env=played())
    assert got["tokens"] == ask(odd, "--device", "cpu")["tokens"] and got["device"]["kind"] == "gpu"
    (warning,) = got["warnings"]
    assert warning.startswith(f"op.no_kernel [backend.unsupported]: {count} ") and 'linear "ffn_down"' in warning
    said = rocmforge("generate", odd, *ASK, *options, env=played()).err
    assert said.count("op.no_kernel") == 1
    (down,) = rocmforge_json("plan", odd, "-c", "128", "--json", *options, env=played())["downgrades"]
    assert (down["code"], down["what"], down["reason"], down["cause"]) == ("op.no_kernel", "op", "CpuFallback", "backend.unsupported")


# --- memory --------------------------------------------------------------------------------------------------------------------

@pytest.fixture
def deep(model):
    return model("deep", n_layer=12)


@pytest.mark.parametrize("options", ((), ("--device", "gpu", "--placement", "gpu")))
def test_layers_that_do_not_fit_go_to_the_cpu(ask, rocmforge_json, refused, deep, played, options):
    env = played("gfx1100:106MiB") | {"ROCMFORGE_VERIFY": "off"}
    got = ask(deep, *options, env=env)
    assert got["tokens"] == ask(deep, "--device", "cpu")["tokens"] and codes(got) == ["layers.memory"]
    layers = int(got["warnings"][0].split(": ")[1].split()[0])
    assert 0 < layers < 12 and " 106 are free" in got["warnings"][0]
    plan = rocmforge_json("plan", deep, "-c", "128", "--json", *options, env=env)
    assert plan["fits"] and plan["downgrades"][0]["reason"] == "MemoryConstraint" and plan["gpus"][0]["need"] + plan["gpus"][0]["margin"] <= 106 << 20
    line = refused("gpu.memory", "generate", deep, *ASK, "--device", "gpu", status=1, env=env)
    assert f"or -ngl {layers} leaves the other layers to the CPU" in line  # the same number
    assert codes(ask(deep, "-ngl", str(layers), env=env)) == []


def test_no_layer_fits(ask, rocmforge, deep, played):
    env = played("gfx1100:99MiB")
    got = ask(deep, env=env)
    assert got["device"]["kind"] == "cpu" and got["device"]["reason_code"] == "MemoryConstraint"
    assert got["warnings"][0].startswith("device.memory [gpu.memory]: GPU 0 is not used: ")
    said = rocmforge("generate", deep, *ASK, env=env).err
    assert said.count("GPU 0 is not used") == 1  # in the device's line


def test_cpu_preferred_brings_the_gpu_for_what_the_host_cannot_hold(rocmforge_json, usual, played):
    """A cache of 8 GiB a sequence, more of them than there is memory; nothing of it is taken."""
    n = rocmforge_json("plan", usual, "--device", "cpu", "--json")["available"] // (8 << 30) + 2
    vast = ("plan", usual, "-c", "16777216", "--parallel", str(n), "--placement", "cpu", "--json")
    alone = rocmforge_json(*vast, "--device", "cpu")
    assert alone["device"] == "cpu" and not alone["fits"]
    got = rocmforge_json(*vast, env=played("gfx1100:65536GiB"))
    assert got["fits"] and got["device"] == "gpu" and got["gpus"][0]["layers"] == 2
    (down,) = got["downgrades"]
    assert down["code"] == "layers.memory" and down["cause"] == "memory.plan" and down["reason"] == "MemoryConstraint"


# --- what fails ----------------------------------------------------------------------------------------------------------------

STEPS = ("hipStreamCreateWithFlags", "hipMemGetInfo", "hipModuleLoadData", "hipModuleGetFunction", "hipMalloc", "hipMemsetD8Async",
         "hipHostMalloc", "hipEventCreateWithFlags", "hipMemcpyHtoDAsync", "hipEventRecord", "hipStreamSynchronize",
         "hipModuleLaunchKernel", "hipMemcpyDtoHAsync")


@pytest.mark.parametrize("call", STEPS)
def test_each_step_of_loading_fails_with_its_own_reason(ask, refused, usual, played, call):
    """Found by its name in the reason, whether the device was asked for or not; the last two while it is verified. A kernel
    is looked for in every module, so that it is missing is no call that failed."""
    env = played(fault=f"{call}:*:999")
    got = ask(usual, env=env)
    if call == "hipModuleGetFunction":
        assert codes(got) == ["device.refused"] and "[backend.unsupported]" in got["warnings"][0] and "has no kernel" in got["warnings"][0]
        return
    assert got["device"]["kind"] == "cpu" and got["device"]["reason_code"] == "CpuFallback"
    assert codes(got) == ["device.refused"] and "gpu.call" in got["warnings"][0] and call + ":" in got["warnings"][0]
    assert got["tokens"] == ask(usual, "--device", "cpu")["tokens"]
    assert call + ":" in refused("gpu.call", "generate", usual, *ASK, "--device", "gpu", status=1, env=env)


@pytest.mark.parametrize("fault, code, cause", (
    ("hipInit:1:999", "device.none", "gpu.driver"), ("hipDeviceGetName:1:719", "device.none", "gpu.call"),
    ("hipMalloc:*:2", "device.memory", "gpu.memory"), ("launch:linear_vec1_q4_k:skip", "device.refused", "gpu.wrong_numbers")))
def test_a_device_that_is_not_taken(ask, usual, played, fault, code, cause):
    got = ask(usual, env=played(fault=fault))
    assert got["device"]["kind"] == "cpu" and got["warnings"][0].startswith(f"{code} [{cause}]: ") and len(got["warnings"]) == 1


def test_capture_that_fails_is_said_once(ask, rocmforge, usual, played):
    env = played(fault="hipStreamBeginCapture:1:999")
    got = ask(usual, "--verify", "off", env=env)
    assert codes(got) == ["graphs.off"] and "hipStreamBeginCapture" in got["warnings"][0]
    said = rocmforge("generate", usual, *ASK, "--verify", "off", env=env).err
    assert said.count("graphs.off") == 1


def test_tokens_that_the_cpu_draws_are_said(ask, rocmforge, usual, played):
    twice = ("--logit-bias", "300+1", "--logit-bias", "300+0.5")
    got = ask(usual, *twice, env=played())
    assert got["warnings"] == ["sampler.host: 4 of 4 tokens were drawn on the CPU: logit_bias names a token twice"]
    assert got["tokens"] == ask(usual, *twice, "--device", "cpu")["tokens"]
    assert rocmforge("generate", usual, *ASK, *twice, env=played()).err.count("sampler.host") == 1  # not once a token


@pytest.mark.parametrize("what", ("skip", "flip"))
def test_a_sampler_that_draws_nonsense_ends_the_engine(rocmforge, usual, played, what):
    done = rocmforge("generate", usual, *ASK, "--verify", "off", status=1, env=played(fault=f"launch:sample_pick:{what}"))
    assert "rocmforge: error[gpu.wrong_numbers]: " in done.err and "no token of this model" in done.err and not done.out.strip()


# --- the table -----------------------------------------------------------------------------------------------------------------

def test_the_table_of_reasons_is_documented():
    rows = [line.split('"')[1] for line in CODES.read_text().splitlines() if line.strip().startswith("X(DOWN_")]
    page = (CODES.parents[2] / "docs" / "devices.md").read_text()
    assert len(rows) >= 11 and [code for code in rows if f"| `{code}` |" not in page] == []


def test_the_weights_way_up_is_told(rocmforge, usual, played):
    (line,) = [x for x in rocmforge("generate", usual, *ASK, env=played()).err.splitlines() if x.startswith("weights: ")]
    assert " KiB into the GPU in " in line and line.endswith(" GB/s")
