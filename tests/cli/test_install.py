"""What `meson install` puts in place: the command by its three names, the library with its soname, header, pkg-config file,
and a C program that is built against them as a user would build it."""
import os
import pathlib
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
USER = """
#include <rocmforge.h>
#include <stdio.h>
int main(void) { return puts(rf_version()) < 0; }
"""


@pytest.fixture(scope="module")
def installed(build, tmp_path_factory):
    root = tmp_path_factory.mktemp("installed")
    done = subprocess.run(["meson", "install", "-C", build, "--no-rebuild", "--destdir", root], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "usr" / "local"


def library_folder(installed):
    return next(installed.glob("lib/**/librocmforge.so")).parent


def pkg_config(installed, *words):
    folder = library_folder(installed) / "pkgconfig"
    env = {**os.environ, "PKG_CONFIG_PATH": str(folder), "PKG_CONFIG_SYSROOT_DIR": str(installed.parents[1])}
    return subprocess.run(["pkg-config", *words, "rocmforge"], env=env, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("name", ("rocmforge", "rocmforge_cli", "rocmforge-cli"))
def test_the_command_has_three_names(installed, name):
    done = subprocess.run([installed / "bin" / name, "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("rocmforge ")


def test_the_library_has_a_soname(installed):
    text = subprocess.run(["readelf", "-d", library_folder(installed) / "librocmforge.so"], capture_output=True, text=True).stdout
    assert "Library soname: [librocmforge.so.0]" in text


def test_the_shared_library_shows_only_its_interface(installed):
    command = ["nm", "-D", "--defined-only", library_folder(installed) / "librocmforge.so"]
    names = [line.split()[-1] for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()]
    assert names and [n for n in names if not n.startswith("rf_")] == []


@pytest.mark.parametrize("static", (False, True))
def test_a_program_builds_against_it(installed, tmp_path, static):
    source, program = tmp_path / "user.c", tmp_path / "user"
    source.write_text(USER)
    flags = pkg_config(installed, "--cflags", "--libs", *(["--static"] if static else []))
    if static:
        flags = [str(library_folder(installed) / "librocmforge.a") if f == "-lrocmforge" else f for f in flags]
    subprocess.run(["cc", "-std=c17", "-Wall", "-Werror", "-o", program, source, *flags], check=True)
    env = {**os.environ, "LD_LIBRARY_PATH": str(library_folder(installed))}
    done = subprocess.run([program], env=env, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout[0].isdigit()
