"""The contract every command shares: exit codes, where text goes, one line for an error."""
import os
import subprocess

import pytest

pytestmark = pytest.mark.smoke


def test_version(rocmforge):
    assert rocmforge("--version").out.startswith("rocmforge ")


def test_help_names_every_command(rocmforge):
    text = rocmforge("--help").out
    for command in ("generate", "logits", "tokenize", "detokenize", "inspect", "plan", "bench", "devices", "doctor"):
        assert command in text


@pytest.mark.parametrize("command", ("generate", "logits", "tokenize", "detokenize", "inspect", "plan", "bench", "devices", "doctor"))
def test_each_command_has_help(rocmforge, command):
    assert command in rocmforge(command, "--help").out


@pytest.mark.parametrize("args", (["no-such-command"], ["generate", "--no-such-option", "x"], ["devices", "--temp", "1"]))
def test_bad_usage_is_2(refused, args):
    refused("usage.argument", *args, status=2)


def test_no_command_at_all_shows_what_there_is(rocmforge):
    done = rocmforge(status=2)
    assert "usage: rocmforge" in done.out + done.err


def test_a_missing_file_is_named(refused, tmp_path):
    assert "absent.gguf" in refused("io.failed", "inspect", tmp_path / "absent.gguf", status=1)


def test_a_file_that_is_no_model(refused, tmp_path):
    path = tmp_path / "text.gguf"
    path.write_text("this is not a model file, it is a line of text\n")
    refused("gguf.magic", "generate", path, "-p", "x", status=1)


@pytest.mark.parametrize("option, value", (("--temp", "-1"), ("-n", "x"), ("--top-p", "2"), ("-t", "0x")))
def test_a_value_out_of_range_is_2(refused, smollm2, option, value):
    refused("usage.range", "generate", smollm2, "-p", "x", option, value, status=2)


def test_generate_prints_only_the_text(rocmforge, smollm2):
    done = rocmforge("generate", smollm2, "-p", "The capital of France is", "-n", "4", "--temp", "0")
    assert done.out.startswith(" Paris")
    assert "\r" not in done.out


def test_a_closed_output_ends_it_quietly(binary, smollm2):
    read, write = os.pipe()
    os.close(read)
    command = [binary, "generate", smollm2, "-p", "Once upon a time", "-n", "32", "--temp", "0"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=write, stderr=subprocess.PIPE, timeout=120)
    os.close(write)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) < 10
