"""The systemd unit: valid, hardened, and what it counts on holds."""
import os
import re
import shutil
import subprocess

import pytest

MOST_EXPOSED = 2.0  # of systemd-analyze security, 0 to 10; an unhardened service has 9.6


@pytest.fixture(scope="session")
def unit(build):
    return build / "packaging" / "rocmforge.service"


@pytest.fixture(scope="session")
def analyze():
    program = shutil.which("systemd-analyze")
    if not program:
        pytest.skip("systemd-analyze is not there")
    return program


def settings(unit):
    return [line.split("=", 1) for line in unit.read_text().splitlines() if re.match(r"[A-Za-z]+=", line)]


def test_it_is_valid(unit, analyze, binary, tmp_path):
    text = re.sub(r"ExecStart=\S+", f"ExecStart={binary.resolve()}", unit.read_text())
    (tmp_path / "rocmforge.service").write_text(text.replace("man:rocmforge(1)", "https://example.org"))
    done = subprocess.run([analyze, "verify", "--recursive-errors=no", str(tmp_path / "rocmforge.service")], capture_output=True, text=True)
    if "Failed to" in done.stderr and "manager" in done.stderr:
        pytest.skip("systemd-analyze cannot verify units here")
    assert "rocmforge.service" not in done.stderr, done.stderr


def test_it_is_hardened(unit, analyze):
    done = subprocess.run([analyze, "security", "--offline=yes", "--no-pager", str(unit)], capture_output=True, text=True)
    if done.returncode and "exposure level" not in done.stdout:
        pytest.skip("this systemd-analyze cannot judge files")
    exposed = float(re.search(r"exposure level for rocmforge.service: ([\d.]+)", done.stdout)[1])
    assert exposed <= MOST_EXPOSED, done.stdout


def test_it_starts_what_is_installed(unit):
    found = dict(settings(unit))
    assert re.fullmatch(r"/\S*bin/rocmforge serve", found["ExecStart"])
    assert found["Type"] == "notify" and int(found["TimeoutStopSec"]) > 30 + 10  # the longest drain, and the cancels after it


def test_a_wrong_option_is_not_tried_again(binary, smollm2):
    """RestartPreventExitStatus=2, and every option has its variable."""
    env = {**os.environ, "ROCMFORGE_GGUF": str(smollm2), "ROCMFORGE_PORT": "70000"}
    done = subprocess.run([str(binary), "serve"], env=env, capture_output=True, timeout=60)
    assert done.returncode == 2 and b"ROCMFORGE_PORT" in done.stderr


def test_it_runs_from_its_environment_alone(binary, smollm2, start, tmp_path):
    env = {"ROCMFORGE_GGUF": str(smollm2), "ROCMFORGE_CTX_SIZE": "256", "ROCMFORGE_PARALLEL": "2", "ROCMFORGE_ALIAS": "ours",
           "ROCMFORGE_KV_CACHE_DIR": str(tmp_path), "ROCMFORGE_API_KEY": "k3y"}
    s = start(env=env)
    h = s.get("/health").json
    assert h["model"] == "ours" and h["limits"]["context"] == 256 and h["limits"]["parallel"] == 2
    assert s.get("/metrics").status == 401
    s.end()
