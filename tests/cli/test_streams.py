"""Pipes, closed and full outputs, and what an interruption leaves behind."""
import json
import os
import signal
import subprocess
import time

import pytest

LONG = ("-p", "Once upon a time", "-n", "4000", "--temp", "0", "--ignore-eos")


def shell(line, **names):
    return subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], capture_output=True, timeout=120,
                          env={**os.environ, **{k: str(v) for k, v in names.items()}})


def test_a_reader_that_leaves(binary, smollm2):
    done = shell('"$RF" generate "$M" -p "Once upon a time" -n 500 --temp 0 -q | head -c 1; echo "${PIPESTATUS[0]}" >&2', RF=binary, M=smollm2)
    assert len(done.stdout) == 1 and done.stderr == b"1\n"


@pytest.mark.smoke
@pytest.mark.parametrize("command", ('generate "$M" -p the -n 3 -q --ignore-eos', 'generate "$M" -p the -n 3 -q --json', 'inspect "$M"',
                                     'tokenize "$M" < /dev/null', "devices --json", "--help", "generate --help",
                                     "completion bash", 'plan "$M"', 'inspect "$M" --graph'))
def test_closed_and_full_outputs(binary, tiny, command):
    names = dict(RF=binary, M=tiny("llama"))
    done = shell(f'"$RF" {command} >&-', **names)
    assert (done.returncode, done.stderr) == (1, b"")
    done = shell(f'"$RF" {command} > /dev/full', **names)
    assert done.returncode == 1 and done.stderr.startswith(b"rocmforge: error[io.failed]: standard output: No space left")
    done = shell(f'"$RF" {command} 2>&-', **names)
    assert done.returncode == 0 and done.stdout


@pytest.mark.smoke
def test_a_closed_standard_input(binary, tiny):
    done = shell('"$RF" tokenize "$M" <&-', RF=binary, M=tiny("llama"))
    assert done.returncode == 1 and b"error[io.failed]: standard input" in done.stderr


@pytest.mark.smoke
def test_no_permission_to_write(refused, tiny, tmp_path):
    model = tiny("llama")
    args = ("logits", model, "--tokens", "5", "-q", "-o")
    refused("io.failed", *args, tmp_path / "absent" / "x.npy", status=1)
    refused("io.failed", *args, tmp_path, status=1)
    assert list(tmp_path.iterdir()) == [] and not tmp_path.with_name(tmp_path.name + ".part").exists()
    refused("io.failed", *args, "/proc/x.npy", status=1)


class Running:
    """A command that is running; signals sent to it are not blocked or ignored, whatever started the tests."""

    def __init__(self, *command):
        def reset():
            for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(sig, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
        self.child = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, bufsize=0, preexec_fn=reset)

    def stop(self, sig, n_bytes=0):
        """Waits for so many bytes of output, sends the signal; the whole output and the exit status."""
        first = b""
        while len(first) < n_bytes:
            first += self.child.stdout.read(n_bytes - len(first))
        self.child.send_signal(sig)
        out, err = self.child.communicate(timeout=60)
        return first + out, err.decode(), self.child.returncode


@pytest.mark.parametrize("sig", (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
def test_interrupted_while_generating(binary, smollm2, rocmforge, sig):
    out, err, status = Running(binary, "generate", smollm2, *LONG).stop(sig, 20)
    assert status == 130 and len(out) >= 20 and "cancelled" in err and out.endswith(b"\n")
    expected = rocmforge("generate", smollm2, *LONG[:2], "-n", "64", *LONG[4:], "-q").stdout[:-1]
    assert out[:-1].startswith(expected) or expected.startswith(out[:-1]), "the text stays"


def test_interrupted_json_is_whole(binary, smollm2):
    running = Running(binary, "generate", smollm2, *LONG, "--json")
    while b"context:" not in running.child.stderr.readline():
        pass
    time.sleep(1)
    out, _, status = running.stop(signal.SIGINT)
    got = json.loads(out)
    assert status == 130 and got["finish_reason"] == "cancelled"


def test_interrupted_while_the_prompt_is_read(binary, smollm2, tmp_path):
    path = tmp_path / "long"
    path.write_text(" the" * 8000)
    running = Running(binary, "generate", smollm2, "-f", path, "-n", "5", "-ub", "64")
    while b"context:" not in running.child.stderr.readline():
        pass
    out, err, status = running.stop(signal.SIGINT)
    assert status == 130 and out.strip() == b""


def catches(pid, sig):
    """Whether the process has a handler for the signal by now."""
    with open(f"/proc/{pid}/status") as file:
        mask = next(int(line.split()[1], 16) for line in file if line.startswith("SigCgt"))
    return mask >> (sig - 1) & 1 == 1


@pytest.mark.smoke
@pytest.mark.parametrize("sig", (signal.SIGINT, signal.SIGTERM))
@pytest.mark.parametrize("seconds", (0.02, 0.06, 0.3))
def test_interrupted_at_any_time_of_loading(binary, smollm2, sig, seconds):
    running = Running(binary, "generate", smollm2, *LONG, "-q")
    time.sleep(seconds)
    caught = catches(running.child.pid, sig)
    _, err, status = running.stop(sig)
    assert status == 130 or (status == -sig and not caught), err  # before main() nothing can be caught


@pytest.mark.smoke
def test_interrupted_while_reading_standard_input(binary, tiny):
    running = Running(binary, "tokenize", tiny("llama"))
    time.sleep(0.5)
    out, err, status = running.stop(signal.SIGINT)
    assert (out, err, status) == (b"", "", 130)


def test_interrupted_logits_leave_no_file(binary, smollm2, tmp_path):
    ids = tmp_path / "ids"
    ids.write_text(",".join(["253"] * 4000))
    path = tmp_path / "x.npy"
    running = Running(binary, "logits", smollm2, "--tokens-file", ids, "-o", path, "-ub", "32")
    part = tmp_path / "x.npy.part"
    while not (part.exists() and part.stat().st_size > 1 << 20):
        assert running.child.poll() is None
        time.sleep(0.01)
    _, _, status = running.stop(signal.SIGINT)
    assert status == 130 and not path.exists() and not part.exists()


@pytest.mark.smoke
def test_a_second_signal_ends_it_at_once(binary, tiny):
    running = Running(binary, "generate", tiny("llama"), "-p", "the", "-n", "-1", "-c", "2048", "--ignore-eos", "-q")
    running.child.stdout.read(1)
    running.child.send_signal(signal.SIGINT)
    _, _, status = running.stop(signal.SIGINT)
    assert status == 130
