"""README's examples of serving, run as they stand there but for the port."""
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

README = (pathlib.Path(__file__).resolve().parents[2] / "README.md").read_text()


def example(kind, server):
    block, = re.findall(rf"```{kind}\n(.*?)```", README, re.S)
    assert "http://127.0.0.1:8080" in block
    return block.replace("http://127.0.0.1:8080", server.url)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl(server):
    done = subprocess.run(["sh", "-c", example("sh", server)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and '"object":"chat.completion"' in done.stdout, done.stdout + done.stderr


def test_python(server):
    pytest.importorskip("openai")
    done = subprocess.run([sys.executable, "-c", example("python", server)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.strip() and done.stderr == "", done.stderr
