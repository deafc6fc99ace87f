"""The manual page: current, complete, clean to the formatter, and installed."""
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
PAGE, TOOL = TOP / "docs" / "man" / "rocmforge.1", TOP / "tools" / "man_page.py"
pytestmark = pytest.mark.smoke


@pytest.fixture(scope="module")
def commands(rocmforge):
    names = re.findall(r"^  (\w+) +\S", rocmforge("--help").out, re.M)
    assert "generate" in names and "chat" in names
    return names


def sections():
    """The page's text, unquoted, by command."""
    text = PAGE.read_text().replace("\\-", "-").replace("\\&", "").replace("\\e", "\\")
    parts = re.split(r'^\.S[SH] "(.+)"$', text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def test_it_is_what_the_program_says(binary, tmp_path):
    check = [sys.executable, TOOL, binary, "--check"]
    done = subprocess.run([*check, PAGE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    old = tmp_path / "old.1"
    old.write_text(PAGE.read_text().replace("seed", "sead"))
    assert subprocess.run([*check, old], capture_output=True).returncode == 1


def test_every_option_of_every_command_is_in_it(rocmforge, commands):
    found = sections()
    for name in commands:
        text = next(body for title, body in found.items() if title.split("\\")[0].split()[:2] == ["rocmforge", name])
        options = re.findall(r"^  (-\S.*?)(?:  |$)", rocmforge(name, "--help").out, re.M)
        assert options and all(f".B {option}\n" in text for option in options), name


def test_its_sections():
    titles = [title for title in sections() if title.isupper()]
    assert titles == ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES"]


def test_slash_commands_are_in_it(rocmforge, tiny, tmp_path):
    template = tmp_path / "t"
    template.write_text("x")
    helped = rocmforge("chat", tiny("llama"), "--chat-template-file", template, input="/help\n").err
    names = re.findall(r"^  (/\w+)", helped, re.M)
    text = PAGE.read_text()
    assert len(names) >= 9 and all(re.search(rf"^\.B {name}\b", text, re.M) for name in names)


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")
def test_the_formatter_has_nothing_to_say():
    done = subprocess.run(["groff", "-man", "-ww", "-z", "-Tutf8", PAGE], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not shutil.which("man"), reason="man is not installed")
def test_man_has_nothing_to_say():
    done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", PAGE], capture_output=True, text=True,
                          env={"LC_ALL": "C.UTF-8", "MANWIDTH": "80", "PATH": "/usr/bin:/bin"})
    assert done.returncode == 0 and done.stderr == "" and "ROCMFORGE(1)" in done.stdout


def test_it_is_installed(build, tmp_path):
    done = subprocess.run(["meson", "install", "-C", build, "--no-rebuild", "--destdir", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {p.name for p in tmp_path.rglob("man1/*")}
    assert {"rocmforge.1", "rocmforge-cli.1", "rocmforge_cli.1"} <= found
