"""What `meson install` puts in place: the command by its three names, the library with its soname, header, pkg-config file,
and a C program that is built against them as a user would build it."""
import os
import pathlib
import shutil
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE = TOP / "examples" / "generate.c"


@pytest.fixture(scope="module")
def installed(build, tmp_path_factory):
    root = tmp_path_factory.mktemp("installed")
    done = subprocess.run(["meson", "install", "-C", build, "--no-rebuild", "--destdir", root], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "usr" / "local"


def library_folder(installed):
    return next(installed.glob("lib*/**/librocmforge.so")).parent


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


def flags_of(installed, static):
    flags = pkg_config(installed, "--cflags", "--libs", *(["--static"] if static else []))
    return [str(library_folder(installed) / "librocmforge.a") if static and f == "-lrocmforge" else f for f in flags]


@pytest.mark.parametrize("static", (False, True))
def test_the_example_builds_against_it_and_runs(installed, rocmforge, smollm2, tmp_path, static):
    program = tmp_path / "generate"
    command = ["cc", "-std=c17", "-Wall", "-Wextra", "-Werror", "-pedantic", "-o", program, EXAMPLE, *flags_of(installed, static)]
    subprocess.run(command, check=True)
    linked = subprocess.run(["readelf", "-d", program], capture_output=True, text=True, check=True).stdout
    assert ("librocmforge.so.0" in linked) == (not static)
    env = {**os.environ, "LD_LIBRARY_PATH": "" if static else str(library_folder(installed))}
    args = ("The capital of France is", "12")
    done = subprocess.run([program, smollm2, *args], env=env, capture_output=True, timeout=120)
    assert done.returncode == 0 and b"[5 tokens read, 12 made]" in done.stderr
    assert done.stdout == rocmforge("generate", smollm2, "-p", args[0], "-n", args[1], "--temp", "0", "-q").stdout[:-1]
    done = subprocess.run([program, tmp_path / "absent.gguf", "x"], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "error[io.failed]" in done.stderr


@pytest.mark.parametrize("language, compiler", (("c17", "cc"), ("c++11", "c++"), ("c++20", "c++"), ("c17", "clang"), ("c++17", "clang++")))
def test_the_header_compiles_alone(installed, tmp_path, language, compiler):
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed")
    source = tmp_path / ("user.c" if language == "c17" else "user.cpp")
    source.write_text("#include <rocmforge.h>\nint main() { return rf_version() == 0; }\n")
    command = [compiler, f"-std={language}", "-Wall", "-Wextra", "-Werror", "-pedantic", "-o", tmp_path / "user", source]
    subprocess.run([*command, *flags_of(installed, False)], check=True)
    env = {**os.environ, "LD_LIBRARY_PATH": str(library_folder(installed))}
    assert subprocess.run([tmp_path / "user"], env=env).returncode == 0
