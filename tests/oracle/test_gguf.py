"""The GGUF reader: bad files are refused for the right reason, quickly and without a large allocation; good files say what
the gguf package's own reader says. RF_BUILD: the build directory (drive_gguf)."""
import os
import pathlib
import subprocess
import zlib

import gguf
import numpy as np
import pytest

import bad_gguf

BUILD = pathlib.Path(os.environ.get("RF_BUILD", pathlib.Path(__file__).parents[2] / "build"))
DRIVER = BUILD / "tests/unit/drive_gguf"
MAX_CPU_S = 1.0
SLACK_KIB = 16 << 10
CASES = bad_gguf.cases()


def run(*args):
    """(lines of output, CPU seconds). The driver always ends with 0: a signal or a sanitizer's report is anything else."""
    before = os.times()
    done = subprocess.run([DRIVER, *args], capture_output=True, timeout=60)
    after = os.times()
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return done.stdout.decode().splitlines(), cpu


@pytest.fixture(scope="session")
def least_kib(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    path.write_bytes(bad_gguf.GOOD)
    return int(run(path)[0][0].split("\t")[1])


def test_there_are_enough_cases():
    assert sum(c.code != "ok" for c in CASES) >= 300


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_bad_file(case, tmp_path, least_kib):
    for name, blob in case.files.items():
        (tmp_path / name).write_bytes(blob)
    lines, cpu = run(tmp_path / next(iter(case.files)))
    code, kib, message = lines[0].split("\t", 2)
    assert (code, case.mentions in message) == (case.code, True), message
    assert (message == "") == (code == "ok")
    assert cpu < MAX_CPU_S
    assert int(kib) < least_kib + SLACK_KIB + sum(map(len, case.files.values())) // 1024


@pytest.mark.parametrize("code, make", [("io.failed", lambda p: None), ("io.failed", lambda p: p.mkdir()),
                                        ("io.failed", lambda p: os.mkfifo(p)), ("io.failed", lambda p: p.symlink_to(p)),
                                        ("io.failed", lambda p: p.symlink_to("/dev/zero"))],
                         ids=["missing", "directory", "fifo", "cyclic link", "device"])
def test_what_is_no_file(code, make, tmp_path):
    path = tmp_path / "x.gguf"
    make(path)
    assert run(path)[0][0].startswith(code + "\t")


def test_names_of_shards_stay_in_their_directory(tmp_path):
    """The path given decides where shards are looked for, even when the directory's name looks like a pattern."""
    a, b = bad_gguf.shard(0, 2, 2, "a"), bad_gguf.shard(1, 2, 2, "b")
    inner = tmp_path / "x-00001-of-00002.gguf"
    inner.mkdir()
    (inner / "m-00001-of-00002.gguf").write_bytes(a)
    (tmp_path / "m-00002-of-00002.gguf").write_bytes(b)
    assert run(inner / "m-00001-of-00002.gguf")[0][0].startswith("gguf.split\t")
    (inner / "m-00002-of-00002.gguf").write_bytes(b)
    assert run(inner / "m-00001-of-00002.gguf")[0][0].startswith("ok\t")


def test_sparse_file_of_a_tebibyte(tmp_path, least_kib):
    """A large file costs nothing by its size: only the header is read."""
    path = tmp_path / "big.gguf"
    path.write_bytes(bad_gguf.gguf([], [bad_gguf.tensor("w", [2**38])]))
    os.truncate(path, 2**40 + 4096)
    lines, cpu = run(path)
    code, kib, _ = lines[0].split("\t", 2)
    assert code == "ok" and cpu < MAX_CPU_S and int(kib) < least_kib + SLACK_KIB


def kv_line(field):
    kind = field.types[-1]
    is_array = field.types[0] == gguf.GGUFValueType.ARRAY
    values = [field.parts[i] for i in field.data]
    if kind == gguf.GGUFValueType.STRING:
        raw = b"".join(v.tobytes() + b"\n" for v in values)
    elif kind in (gguf.GGUFValueType.FLOAT32, gguf.GGUFValueType.FLOAT64):
        raw = np.array([v[0] for v in values], np.float64).tobytes()
    else:
        raw = np.array([int(v[0]) & (2**64 - 1) for v in values], np.uint64).tobytes()
    name = bad_gguf.NAME[int(kind)]
    return f"kv\t{field.name}\t{'array' if is_array else name}\t{name}\t{len(values)}\t{zlib.adler32(raw):08x}"


def tensor_line(t):
    dims = ",".join(str(int(d)) for d in t.shape)
    return f"tensor\t{t.name}\t{t.tensor_type.name}\t{dims}\t{t.n_bytes}\t{zlib.adler32(t.data.tobytes()):08x}"


def real_files():
    source = os.environ.get("RF_ORACLE_SRC")
    found = sorted(pathlib.Path(source, "models").glob("*.gguf")) if source else []
    if os.environ.get("RF_SMOLLM2"):
        found.append(pathlib.Path(os.environ["RF_SMOLLM2"]))
    return found


@pytest.mark.parametrize("path", real_files(), ids=lambda p: p.name)
def test_real_file_opens(path):
    lines, cpu = run(path)
    assert lines[0].startswith("ok\t") and cpu < MAX_CPU_S


# the reference reader takes 20 s for a vocabulary of 250,000 tokens: the large ones are compared in the long form only
SMALL = 1 << 30 if os.environ.get("RF_LONG") else 1_500_000


@pytest.mark.parametrize("path", [p for p in real_files() if p.stat().st_size < SMALL], ids=lambda p: p.name)
def test_real_file_reads_as_the_reference_reader_reads_it(path):
    reader = gguf.GGUFReader(path)
    want = [kv_line(f) for f in reader.fields.values() if not f.name.startswith("GGUF.")]
    want += [tensor_line(t) for t in reader.tensors]
    lines, _ = run("--dump", path)
    assert lines[0].startswith("ok\t")
    assert lines[1:] == want


def test_there_are_real_files():
    if not os.environ.get("RF_ORACLE_SRC"):
        pytest.skip("RF_ORACLE_SRC is not set")
    assert len(real_files()) >= 16
