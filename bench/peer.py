"""What bench/compare.py measures against and with: the pinned llama.cpp built for this machine, and the 1B models.
Everything is made once and kept in the cache; RF_BENCH_LLAMA (a folder with llama-bench, llama-completion and llama-server) and
RF_BENCH_MODELS (a folder with random-1b-*.gguf) name others that are there already."""
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

TOP = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "tests" / "runner"))
import oracles  # noqa: E402 (the pins live there)

CMAKE = ["-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DGGML_CCACHE=OFF", "-DLLAMA_BUILD_TESTS=OFF",
         "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_APP=OFF", "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF",
         "-DLLAMA_OPENSSL=OFF"]
PROGRAMS = ("llama-bench", "llama-completion", "llama-server")


def call(command):
    return subprocess.run([str(c) for c in command], stdout=sys.stderr).returncode


def llama_programs(cache):
    """The folder that holds PROGRAMS, built natively with their default OpenMP from the pinned source."""
    if "RF_BENCH_LLAMA" in os.environ:
        return pathlib.Path(os.environ["RF_BENCH_LLAMA"])
    home = cache / "bench" / f"llama-{oracles.SOURCE[1][:12]}"
    if not all((home / "bin" / p).exists() for p in PROGRAMS):
        build_llama(home)
    return home / "bin"


def build_llama(home):
    print("building llama.cpp (once; some minutes)", file=sys.stderr, flush=True)
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home) as work:
        archive = oracles.source_package(pathlib.Path(work), call)
        with tarfile.open(archive) as tar:
            tar.extractall(work, filter="data")
        source = next(pathlib.Path(work).glob("*/vendor/llama.cpp"))
        shutil.rmtree(home / "source", ignore_errors=True)
        source.rename(home / "source")
    if call(["cmake", "-S", home / "source", "-B", home, *CMAKE]) or call(["ninja", "-C", home, *PROGRAMS]):
        sys.exit("bench: llama.cpp did not build; its messages are above")


def models(cache, names):
    """{name: path} for the names asked: smollm2, 1b-q4_k_m, 1b-q8_0."""
    folder = pathlib.Path(os.environ.get("RF_BENCH_MODELS", cache / "bench" / "models"))
    found = {}
    for name in names:
        if name == "smollm2":
            found[name] = pathlib.Path(os.environ["RF_SMOLLM2"])
            continue
        found[name] = folder / f"random-{name}.gguf"
        if not found[name].exists():
            make_1b(cache, folder, name.removeprefix("1b-"))
    return found


def make_1b(cache, folder, mix):
    print(f"making the random 1B model in {mix} (once; minutes)", file=sys.stderr, flush=True)
    env = {**os.environ, **oracles.get(cache, call)}
    subprocess.run([sys.executable, TOP / "bench" / "make_1b.py", folder, mix], env=env, stdout=sys.stderr, check=True)
