"""A GPU from the command line: its text is the CPU's, it is verified when it is taken, one that computes wrongly is refused,
and what it costs per token does not grow unseen. The devices are played (tests/simt/standin.h), their kernels run for real.
"""
import json
import os
import pathlib
import stat

import pytest

ASK = ("-p", "the of and to in", "-n", "6", "-c", "128", "--json")
SAMPLED = ("--temp", "1.1", "-s", "5", "--repeat-penalty", "1.2")
COSTS = pathlib.Path(__file__).resolve().parents[1] / "gpu" / "costs.json"


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """small(architecture, type): as tiny, of two layers whatever the architecture; gemma3's are one of each kind."""
    tiny_models = pytest.importorskip("tiny_models", reason="the oracle, which encodes weights, is not there")
    folder, made = tmp_path_factory.mktemp("small"), {}

    def get(arch, kind="Q4_K"):
        if (arch, kind) not in made:
            made[arch, kind] = tiny_models.make(folder / f"{arch}-{kind}.gguf", arch, kind, n_layer=2, context=256)
        return made[arch, kind]

    return get


@pytest.fixture
def played(build, tmp_path):
    """played("gfx1100", fault=""): the environment of a machine with these devices and a cache folder of the test's own. What
    the stand-in counted and ran stands in report and log of tmp_path."""
    library = build / "tests" / "simt" / "libstandin_hip.so"
    if not library.exists():
        pytest.skip("the stand-in HIP library is not built (it needs clang++ 20 or later)")
    return lambda devices="gfx1100", fault="": {
        "ROCMFORGE_HIP_LIBRARY": str(library), "ROCMFORGE_CUDA_LIBRARY": "/nowhere/libcuda.so.1", "ROCMFORGE_STANDIN": devices,
        "ROCMFORGE_STANDIN_FAULT": fault, "ROCMFORGE_STANDIN_REPORT": str(tmp_path / "report"),
        "ROCMFORGE_STANDIN_LOG": str(tmp_path / "log"), "XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.fixture
def counted(tmp_path):
    """What the last process that used the stand-in counted."""
    return lambda: json.loads((tmp_path / "report").read_text().splitlines()[-1])


def said(done):
    """The line about the device's numbers."""
    return next((x.removeprefix("device's numbers: ") for x in done.err.splitlines() if x.startswith("device's numbers: ")), None)


def verdicts(tmp_path):
    return sorted((tmp_path / "cache" / "rocmforge" / "verified").glob("*"))


# --- the same text ------------------------------------------------------------------------------------------------------------

def same(rocmforge_json, model, env, *options, cpu=()):
    """The device's answers to the greedy and the sampled request, which must be the CPU's."""
    for how in (("--temp", "0"), SAMPLED):
        there = rocmforge_json("generate", model, *ASK, *how, "--device", "gpu", "--verify", "off", *options, env=env)
        here = rocmforge_json("generate", model, *ASK, *how, "--device", "cpu", *(cpu or options))
        assert there["device"]["kind"] == "gpu" and here["device"]["kind"] == "cpu"
        assert there["tokens"] == here["tokens"] and there["text"] == here["text"]


@pytest.mark.parametrize("device, arch, kind, cache", (
    ("gfx1100", "llama", "Q4_K", "f16"), ("gfx942", "llama", "Q8_0", "q8_0"), ("gfx1100", "qwen3", "Q4_0", "q4_0"),
    ("gfx942", "qwen3", "Q6_K", "bf16"), ("gfx1100", "gemma3", "Q5_1", "f32"), ("gfx942", "gemma3", "Q4_1", "f16"),
    ("gfx1100", "mixtral", "Q3_K", "q8_0"), ("gfx942", "qwen2", "F16", "f16"), ("gfx1100", "llama", "BF16", "f16")))
def test_the_text_is_the_cpus(rocmforge_json, small, played, device, arch, kind, cache):
    same(rocmforge_json, small(arch, kind), played(device), "-ctk", cache, "-ctv", cache)


@pytest.mark.parametrize("layers", ("0", "1", "all"))
def test_layers_on_the_gpu(rocmforge, rocmforge_json, small, played, counted, tmp_path, layers):
    args = ("generate", small("llama"), *ASK, "--temp", "0")
    want = rocmforge_json(*args, "--device", "cpu")["tokens"]
    option = rocmforge_json(*args, "--device", "gpu", "-ngl", layers, env=played())
    assert option["tokens"] == want
    launches = counted()["launches"] if (tmp_path / "report").exists() else 0
    twin = rocmforge_json(*args, env=played() | {"ROCMFORGE_GPU_LAYERS": layers, "ROCMFORGE_DEVICE": "gpu", "ROCMFORGE_VERIFY": "off"})
    assert twin["tokens"] == want and twin["device"]["kind"] == option["device"]["kind"]
    assert (launches > 0) == (layers != "0")


def crossing(rocmforge_json, model, env, counted):
    """Of one token: copies, bytes from and to the host, what the host waits for; and the warnings."""
    def run(n):
        got = rocmforge_json("generate", model, "-p", "the of", "-n", str(n), "-c", "128", "--temp", "0", "--ignore-eos", "--json", "--device",
                             "gpu", "--verify", "off", "-sm", "layer", "-ts", "1,1", env=env)
        return got, counted()

    (_, short), (got, long) = run(4), run(14)
    return {k: (long[k] - short[k]) / 10 for k in ("copies_in", "copies_out", "copies_within", "bytes_within", "syncs")}, got


def test_values_go_from_gpu_to_gpu(rocmforge_json, small, played, counted):
    """Where devices reach each other the residual stream of one token (256 floats) goes straight across, and the host waits once
    for each of the two; where they do not, it waits for the value too, and says why."""
    want = rocmforge_json("generate", small("llama"), "-p", "the of", "-n", "14", "-c", "128", "--temp", "0", "--ignore-eos", "--json", "--device", "cpu")
    straight, got = crossing(rocmforge_json, small("llama"), played("gfx1100:8GiB,gfx1100:8GiB"), counted)
    assert got["tokens"] == want["tokens"] and got["warnings"] == []
    assert straight["copies_within"] == 1 and straight["bytes_within"] == 256 * 4
    through, got = crossing(rocmforge_json, small("llama"), played("gfx1100:8GiB:nopeer,gfx1100:8GiB"), counted)
    assert got["tokens"] == want["tokens"] and through["copies_within"] == 0
    assert all(through[k] == straight[k] + 1 for k in ("copies_in", "copies_out")) and through["syncs"] == straight["syncs"] + 1
    (warning,) = got["warnings"]
    assert warning.startswith("copies.host [gpu.peer]: values go from GPU to GPU through the host: ") and "cannot reach" in warning


@pytest.mark.parametrize("call, n", (("hipEventCreateWithFlags", "*"), ("hipEventRecord", "*"), ("hipStreamWaitEvent", "1"), ("hipStreamWaitEvent", "2"),
                                     ("hipMemcpyPeerAsync", "*"), ("hipDeviceEnablePeerAccess", "*")))
def test_a_crossing_that_fails_is_no_silence(rocmforge, small, played, call, n):
    """What is no answer to "do they reach each other" ends the request with its reason. Of the one step there is each stream
    waits for the other: two waits, which the order of the interpreter's work would not miss."""
    done = rocmforge("generate", small("llama"), "-p", "the of", "-n", "1", "-c", "128", "--temp", "0", "--device", "gpu", "--verify", "off", "-sm",
                     "layer", "-ts", "1,1", status=1, env=played("gfx1100:8GiB,gfx1100:8GiB", fault=f"{call}:{n}:999"))
    assert "rocmforge: error[gpu.call]: " in done.err and call + ":" in done.err


def test_layers_over_two_gpus(rocmforge_json, small, played, tmp_path):
    two = played("gfx1100:8GiB,gfx1100:8GiB")
    same(rocmforge_json, small("llama"), two, "-sm", "layer", "-ts", "1,1", cpu=("-t", "2"))
    got = rocmforge_json("verify", small("llama"), "--device", "gpu", "-sm", "layer", "-ts", "1,1", "--json", env=two)
    assert got["equal"] and got["device"].count("gfx1100") == 2


# --- verification -------------------------------------------------------------------------------------------------------------

@pytest.mark.smoke
def test_verify_says_equal(rocmforge, rocmforge_json, small, played):
    done = rocmforge("verify", small("llama"), "--device", "gpu", env=played())
    assert done.out.rstrip().endswith("\nequal, bit for bit") and "gfx1100" in done.out.splitlines()[0]
    got = rocmforge_json("verify", small("llama"), "--device", "gpu", "--json", env=played())
    assert got["equal"] and got["values"] > 0 and got["differ"] == 0 == got["draws_differ"] and got["first_layer"] == -1
    assert [s["after"] for s in got["steps"]] == [32, 40, 41, 42, 43, 44, 108]


def test_verify_says_what_differs(rocmforge, rocmforge_json, small, played):
    fault = played(fault="launch:linear_mat_few_q4_k:skip")
    got = rocmforge_json("verify", small("llama"), "--device", "gpu", "--json", env=fault, status=1)
    assert not got["equal"] and got["differ"] == got["values"] and got["first_layer"] == 0
    assert "\nDIFFERENT: " in rocmforge("verify", small("llama"), "--device", "gpu", env=fault, status=1).out
    got = rocmforge_json("verify", small("llama"), "--device", "gpu", "--json", env=played(fault="launch:sample_pick:flip"), status=1)
    assert not got["equal"] and got["differ"] == 0 and got["draws_differ"] == got["draws"]


@pytest.mark.smoke
def test_a_verdict_is_kept_and_asked_for_when_damaged(rocmforge, small, played, tmp_path):
    args, env = ("generate", small("llama"), "-p", "the", "-n", "1", "--device", "gpu"), played()
    now, again = "equal to the CPU, bit for bit, now", "gives again what the CPU gave"
    assert said(rocmforge(*args, env=env)) == now
    (path,) = verdicts(tmp_path)
    good = path.read_text()
    assert good.startswith("equal ") and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert said(rocmforge(*args, env=env)) == again and path.read_text() == good
    for text in ("", "equal " + "0" * 32 + "\n", "\0" * 4096):
        path.write_text(text)
        assert said(rocmforge(*args, env=env)) == now and path.read_text() == good
    assert said(rocmforge(*args, "--verify", "always", env=env)) == now
    assert said(rocmforge(*args, "--verify", "off", env=env)) == "off"
    assert said(rocmforge(*args, "-ctk", "q8_0", env=env)) == now and len(verdicts(tmp_path)) == 2  # another question


@pytest.mark.parametrize("how", ("read-only", "a file", "no folder", "a folder in the file's place"))
def test_a_cache_that_cannot_be_written(rocmforge, small, played, tmp_path, how):
    args, env = ("generate", small("llama"), "-p", "the", "-n", "1", "--device", "gpu"), played()
    if how == "read-only":
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache").chmod(0o500)
    elif how == "a file":
        (tmp_path / "cache").write_text("")
    elif how == "no folder":
        env = env | {"XDG_CACHE_HOME": "relative", "HOME": ""}
    else:
        rocmforge(*args, env=env)
        (path,) = verdicts(tmp_path)
        path.unlink()
        path.mkdir()
    assert said(rocmforge(*args, env=env)) == "equal to the CPU, bit for bit, now"
    if how == "a folder in the file's place":
        assert verdicts(tmp_path) == [path]  # nothing half written stays


# --- devices that compute wrongly ------------------------------------------------------------------------------------------

KERNELS = ("attention_merge", "attention_split_h4", "attention_tile", "kv_append", "linear_mat_few_q4_k", "linear_mat_q4_k",
           "linear_vec1_gated_q4_k", "linear_vec1_q4_k", "linear_vec4_q4_k", "quantize_norm", "quantize_rows", "quantize_swiglu", "rows_get", "rows_rms_norm_small", "rows_take",
           "sample_adjust", "sample_collect", "sample_pick", "sample_sums")


def kernels_of(path):
    return {line.split()[1] for line in path.read_text().splitlines() if line.startswith("launch ")}


def test_the_probe_runs_every_kernel_that_a_short_chat_does(rocmforge, small, played, tmp_path):
    rocmforge("verify", small("llama"), "--device", "gpu", env=played())
    assert kernels_of(tmp_path / "log") == set(KERNELS)
    (tmp_path / "log").unlink()
    rocmforge("generate", small("llama"), *ASK, *SAMPLED, "--device", "gpu", "--verify", "off", env=played())
    assert kernels_of(tmp_path / "log") <= set(KERNELS)


@pytest.fixture(scope="module")
def known(rocmforge, small, build, tmp_path_factory):
    """A cache folder that holds the good verdict of small("llama") on the played gfx1100."""
    folder = tmp_path_factory.mktemp("known")
    env = {"ROCMFORGE_HIP_LIBRARY": str(build / "tests/simt/libstandin_hip.so"), "ROCMFORGE_STANDIN": "gfx1100", "XDG_CACHE_HOME": str(folder)}
    rocmforge("generate", small("llama"), "-p", "the", "-n", "1", "--device", "gpu", env=env)
    return folder


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_wrong_kernel_is_refused(request, refused, small, played, tmp_path, kernel):
    """One bit wrong in all that it writes; whether the CPU was asked before or not."""
    args, env = ("generate", small("llama"), "-p", "the", "-n", "2", "--device", "gpu"), played(fault=f"launch:{kernel}:flip")
    line = refused("gpu.wrong_numbers", *args, status=1, env=env)
    assert " is refused: " in line and " of " in line and "--device cpu" in line and not verdicts(tmp_path)
    folder = request.getfixturevalue("known")
    (path,) = (folder / "rocmforge/verified").glob("*")
    good = path.read_text()
    assert line == refused("gpu.wrong_numbers", *args, status=1, env=env | {"XDG_CACHE_HOME": str(folder)})
    assert path.read_text() == good


@pytest.mark.parametrize("fault", ("launch:linear_vec1_q4_k:skip", "launch:attention_split_h4:skip", "launch:sample_pick:skip", "copy:1:stale"))
def test_auto_goes_on_with_the_cpu(rocmforge, small, played, fault):
    args = ("generate", small("llama"), "-p", "the", "-n", "8", "--temp", "0", "--device")
    done = rocmforge(*args, "auto", env=played(fault=fault))
    (line,) = [x for x in done.err.splitlines() if x.startswith("device: ")]
    assert "GPU 0 is not used: " in line and " is refused: " in line
    assert done.out == rocmforge(*args, "cpu").out


def test_a_device_that_was_wrong_once_is_not_asked_again(rocmforge, refused, small, played):
    """Its first answer counts, where the verdict is kept: a second one that is right makes it no better."""
    args, fault = ("generate", small("llama"), "-p", "the", "-n", "1", "--device", "gpu"), "launch:linear_mat_few_q4_k:flip:2"
    rocmforge(*args, env=played())
    refused("gpu.wrong_numbers", *args, status=1, env=played(fault=fault))


# --- what it costs ----------------------------------------------------------------------------------------------------------

KEPT = ("launches", "graph_launches", "copies_in", "copies_out", "bytes_in", "bytes_out", "syncs")


@pytest.mark.parametrize("arch", ("llama", "qwen3", "gemma3", "mixtral"))
def test_what_a_token_costs(rocmforge_json, small, played, counted, arch):
    """Two runs that differ by ten decoded tokens, the sampler's work included. Less than the table is an improvement: write it
    down with RF_WRITE_COSTS=1."""
    def run(n):
        got = rocmforge_json("generate", small(arch), "-p", "the of", "-n", str(n), "-c", "128", "--temp", "0", "--ignore-eos", "--json",
                             "--device", "gpu", "--verify", "off", env=played())
        assert len(got["tokens"]) == n
        return counted()

    short, long = run(4), run(14)
    for c in (short, long):
        assert c["pageable_copies"] == c["file_copies"] == 0
        assert c["live_device_bytes"] == c["live_pinned_bytes"] == c["live_objects"] == 0
    assert long["captures"] == short["captures"] and long["allocations"] == short["allocations"]
    token = {k: (long[k] - short[k]) / 10 for k in KEPT}
    table = json.loads(COSTS.read_text()) if COSTS.exists() else {}
    if os.environ.get("RF_WRITE_COSTS"):
        COSTS.write_text(json.dumps({**table, arch: token}, indent=1, sort_keys=True) + "\n")
        return
    assert token["graph_launches"] == 1 and token["syncs"] == 1
    assert {k: (token[k], table[arch][k]) for k in KEPT if token[k] > table[arch][k]} == {}


# --- the profiler -----------------------------------------------------------------------------------------------------------

def matrices(path):
    """Bytes of the matrices that every token meets: all but the rows of token_embd."""
    gguf = pytest.importorskip("gguf")
    return sum(int(t.n_bytes) for t in gguf.GGUFReader(path).tensors if len(t.shape) == 2 and t.name != "token_embd.weight")


def profile_of(rocmforge_json, model, *options, env=None):
    (row,) = rocmforge_json("bench", model, "-p", "0", "-n", "4", "-r", "1", "-t", "1", "--profile", "-o", "json", *options, env=env)
    (device,) = row["profile"]
    for k in device["kernels"]:
        assert k["launches"] > 0 and k["bytes"] > 0 and k["ms"] >= 0
        if k["ms"]:
            assert k["gb_per_s"] == pytest.approx(k["bytes"] / k["ms"] / 1e6, rel=1e-6)
            assert k["share"] == pytest.approx(k["gb_per_s"] / device["peak_gb_per_s"], rel=1e-6)
    assert [k["ms"] for k in device["kernels"]] == sorted((k["ms"] for k in device["kernels"]), reverse=True)
    return device, {k["name"]: k for k in device["kernels"]}


def test_the_profiler_counts_launches_and_bytes(rocmforge_json, small, played):
    """Five steps of one token, the first of which is the prompt. The interpreter's times are nobody's speed; launches and bytes
    are what a card would have."""
    model = small("llama", "Q8_0")
    device, k = profile_of(rocmforge_json, model, "--device", "gpu", "--verify", "off", env=played())
    assert device["kind"] == "gpu" and device["peak_gb_per_s"] == pytest.approx(959.2, abs=0.1) and "graphs off" in device["device"]
    assert k["linear_vec1_q8_0"]["launches"] == 5 * (2 * 3 + 1) and k["linear_vec1_gated_q8_0"]["launches"] == 5 * 2
    weights = 5 * matrices(model)
    assert weights < k["linear_vec1_q8_0"]["bytes"] + k["linear_vec1_gated_q8_0"]["bytes"] < 1.1 * weights  # and the activations
    assert k["attention_split_h4"]["launches"] == k["kv_append"]["launches"] == 10 and k["rows_get"]["launches"] == 5
    cache = sum(range(1, 6)) * 2 * 2 * 2 * 64 * 2  # positions, layers, keys and values, heads, width, f16
    queries = 5 * 2 * 4 * 64 * 4
    quantised = 5 * (256 + 256 // 16 * 2 + 256 // 32 * 4)  # in place, but in the last layer, where rows are taken first
    assert k["attention_split_h4"]["bytes"] == cache + queries + quantised
    assert k["rows_get"]["bytes"] == 5 * (256 // 32 * 34 + 256 * 4 + 4)
    assert k["sample_sums"]["launches"] == 5


def test_the_profiler_of_the_cpu(rocmforge_json, small):
    model = small("llama", "Q8_0")
    device, k = profile_of(rocmforge_json, model, "--device", "cpu")
    assert device["kind"] == "cpu" and device["peak_gb_per_s"] > 0 and k["linear"]["launches"] == 5 * (2 * 4 + 1)
    assert 5 * matrices(model) < k["linear"]["bytes"] < 5.5 * matrices(model)
    assert k["attention"]["launches"] == 10


def test_a_profile_as_a_table(rocmforge, refused, small, played):
    args = ("bench", small("llama", "Q8_0"), "-p", "4", "-n", "0", "-r", "1", "--verify", "off", "--profile")
    said = rocmforge(*args, env=played()).out
    assert "| kernel " in said and "pp4, AMD Radeon RX 7900 XTX" in said and "peak 959 GB/s" in said and "linear_vec4_q8_0" in said
    refused("usage.argument", *args, "-o", "csv", status=2)
    refused("usage.argument", "generate", "m", "--profile", status=2)
