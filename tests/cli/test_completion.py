"""Shell completion: what a shell offers after it has read the script. zsh and fish where they are installed."""
import os
import shutil
import subprocess

import pytest

pytestmark = pytest.mark.smoke


@pytest.fixture(scope="module")
def scripts(rocmforge, tmp_path_factory):
    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh", "fish"):
        (folder / shell).write_text(rocmforge("completion", shell).out)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    (folder / "sub").mkdir()
    for name in ("model one.gguf", "BIG.GGUF", "notes.txt"):
        (folder / name).touch()
    return folder


def offered(scripts, files, *words):
    """What bash offers for the last word."""
    line = 'source "$1"; shift; COMP_WORDS=(rocmforge "$@"); COMP_CWORD=$#; _rocmforge; (( ${#COMPREPLY[@]} )) && printf "%s\\n" "${COMPREPLY[@]}"; true'
    done = subprocess.run(["bash", "-c", line, "bash", scripts / "bash", *words], cwd=files, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return sorted(done.stdout.splitlines())


@pytest.mark.parametrize("words, want", (
    (["gen"], ["generate"]), (["--ver"], ["--version"]), (["generate", "--top-"], ["--top-k", "--top-logprobs", "--top-p"]),
    (["plan", "--temp"], []), (["generate", ""], ["BIG.GGUF", "model one.gguf", "sub"]), (["generate", "mo"], ["model one.gguf"]),
    (["generate", "-m", "B"], ["BIG.GGUF"]), (["generate", "x.gguf", "-f", "n"], ["notes.txt"]),
    (["generate", "x.gguf", "--device", ""], ["auto", "cpu", "cuda", "gpu", "hip"]), (["bench", "x.gguf", "-o", ""], ["csv", "json", "md"]),
    (["generate", "x.gguf", "-n", ""], []), (["completion", ""], ["bash", "fish", "zsh"]),
    (["chat", ""], ["BIG.GGUF", "model one.gguf", "sub"]), (["status", ""], []), (["chat", "--reas"], ["--reasoning"]),
    (["chat", "x.gguf", "--reasoning", ""], ["auto", "hide", "show"]), (["chat", "--chat-template-file", "n"], ["notes.txt"])))
def test_bash(scripts, files, words, want):
    assert offered(scripts, files, *words) == want


def test_bash_knows_every_name_of_the_command(scripts):
    line = f'source "{scripts}/bash"; complete -p rocmforge rocmforge_cli rocmforge-cli'
    assert subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True).stdout.count("_rocmforge") == 3


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh(scripts):
    subprocess.run(["zsh", "-n", scripts / "zsh"], check=True)
    line = 'autoload -U compinit; compinit -u -d "$1.dump"; source "$1"; print $_comps[rocmforge] $_comps[rocmforge-cli]'
    done = subprocess.run(["zsh", "-f", "-c", line, "zsh", scripts / "zsh"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("_rocmforge _rocmforge\n", "")


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish(scripts, files):
    env = {**os.environ, "HOME": str(scripts)}

    def offers(line):
        done = subprocess.run(["fish", "--no-config", "-c", f"source {scripts}/fish; complete -C '{line}'"], cwd=files, env=env,
                              capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return [row.split("\t")[0] for row in done.stdout.splitlines()]

    assert offers("rocmforge gen") == ["generate"]
    assert set(offers("rocmforge generate --top-")) == {"--top-k", "--top-p", "--top-logprobs"}
    assert offers("rocmforge completion ") == ["bash", "fish", "zsh"]
    assert set(offers("rocmforge generate x.gguf --device ")) == {"auto", "cpu", "gpu", "hip", "cuda"}
