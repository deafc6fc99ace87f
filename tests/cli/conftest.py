"""What the command-line tests share: the binary, the real model, and a way to run the one on the other.

RF_BUILD names the build folder, RF_SMOLLM2 the model; ./runtests sets both. Mark a test `smoke` to have it run in the
sanitizer build as well: it should take a second there, and measure neither time nor memory.
"""
import json
import os
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "oracle"))  # tiny_models, bad_gguf

TIMEOUT = 120  # seconds of wall time: a hang, not a limit on speed


def pytest_configure(config):
    config.addinivalue_line("markers", "smoke: short; run in the sanitizer build as well")
    config.addinivalue_line("markers", "long: runs only in ./runtests --long")


def pytest_collection_modifyitems(items):
    if not os.environ.get("RF_LONG"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="long: ./runtests --long"))


@pytest.fixture(scope="session")
def build():
    return pathlib.Path(os.environ["RF_BUILD"])


@pytest.fixture(scope="session")
def binary(build):
    return build / "rocmforge"


@pytest.fixture(scope="session")
def smollm2():
    return pathlib.Path(os.environ["RF_SMOLLM2"])


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """tiny(architecture, type="Q4_K"): a random model of a few hundred kilobytes."""
    folder, made = tmp_path_factory.mktemp("tiny"), {}

    def get(arch, kind="Q4_K"):
        tiny_models = pytest.importorskip("tiny_models", reason="the oracle, which encodes weights, is not there")
        if (arch, kind) not in made:
            made[arch, kind] = tiny_models.make(folder / f"{arch}-{kind}.gguf", arch, kind)
        return made[arch, kind]

    return get


@pytest.fixture(scope="session")
def rocmforge(binary):
    """rocmforge(*args, input=None, env=None, status=0): runs the command, checks its exit status, returns what it printed."""

    def run(*args, input=None, env=None, status=0, timeout=TIMEOUT):
        raw = input.encode() if isinstance(input, str) else input
        done = subprocess.run([str(a) for a in (binary, *args)], input=raw if raw is not None else b"", capture_output=True,
                              env={**os.environ, **(env or {})}, timeout=timeout)
        done.out = done.stdout.decode("utf-8", "replace")
        done.err = done.stderr.decode("utf-8", "replace")
        if status is not None:
            assert done.returncode == status, f"exit {done.returncode}, wanted {status}: {done.err[-800:]}"
        return done

    return run


@pytest.fixture(scope="session")
def rocmforge_json(rocmforge):
    """As rocmforge, and its standard output read as the one JSON document it must be."""
    return lambda *args, **more: json.loads(rocmforge(*args, **more).stdout)


@pytest.fixture(scope="session")
def refused(rocmforge):
    """refused(code, *args): the command ends with status 1 or 2 and one line on standard error that carries the code."""

    def run(code, *args, status=None, **more):
        done = rocmforge(*args, status=None, **more)
        assert done.returncode in ((1, 2) if status is None else (status,)), done.err
        assert done.stdout == b"", done.out[:200]
        errors = [line for line in done.err.splitlines() if line.startswith("rocmforge: error[")]
        assert len(errors) == 1 and errors[0].startswith(f"rocmforge: error[{code}]: "), done.err
        return errors[0]

    return run
