"""tools/gpu_kernels.py: which targets, what is compiled again, what is written for the library, what a failure says."""
import os
import pathlib
import re
import subprocess
import sys
import time

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tools"))
import gpu_kernels as kernels  # noqa: E402

TOOL = TOP / "tools/gpu_kernels.py"
GOOD = '#include "target.h"\n#include "size.h"\nstruct args { float *y; };\nKERNEL(one, args, 256) { a.y[thread_x()] = SIZE; }\n'


def machine(root, versions, nvidia=False):
    """A made-up /sys and /dev."""
    for n, version in enumerate(versions):
        node = root / f"sys/class/kfd/kfd/topology/nodes/{n}"
        node.mkdir(parents=True)
        (node / "properties").write_text(f"cpu_cores_count 16\ngfx_target_version {version}\nvendor_id 4098\n")
    if nvidia:
        (root / "dev").mkdir()
        (root / "dev/nvidia0").touch()
    return root


@pytest.mark.parametrize("versions, nvidia, found", [
    ([], False, []), ([0], False, []), ([0, 110000], False, ["gfx1100"]), ([90010, 90402, 90402], False, ["gfx90a", "gfx942"]),
    ([110501], True, ["gfx1151", "sm_80"]), ([90500, 100300, 120001], False, ["gfx950", "gfx1030", "gfx1201"]),
    ([80003], False, [])])
def test_auto(tmp_path, versions, nvidia, found):
    assert kernels.wanted_targets("auto", machine(tmp_path, versions, nvidia)) == found


def test_option():
    assert kernels.wanted_targets("none") == [] and kernels.wanted_targets("all") == kernels.TARGETS
    assert kernels.wanted_targets("sm_80, gfx906") == ["gfx906", "sm_80"]
    with pytest.raises(kernels.Problem, match="no target gfx9999; all, none, auto"):
        kernels.wanted_targets("gfx906,gfx9999")


class Fake:
    name, amd = "clang-22", True


def test_probe_without(tmp_path):
    assert kernels.probe("all", None) == ([], "none: no clang of version 20 or newer is here, so the GPU is left out")
    assert kernels.probe("none", None)[0] == [] and "this machine has no GPU" in kernels.probe("auto", Fake, tmp_path)[1]
    half = type("Half", (Fake,), {"amd": False})
    assert kernels.probe("gfx906,sm_80", half) == (["sm_80"], "sm_80 (by clang-22; AMD's left out: clang-22 finds no lld of its version)")


def test_closure(tmp_path):
    (tmp_path / "k.hip").write_text('#include "a.h"\n#include "nowhere.h"\n#include <stdint.h>\n')
    (tmp_path / "a.h").write_text('#include "b.h"\n  #  include "a.h"\n')
    (tmp_path / "b.h").write_text('#include "backend/gpu/kernels/args.h"\n')
    assert {p.name for p in kernels.closure(tmp_path / "k.hip")} == {"k.hip", "a.h", "b.h", "args.h"}


def test_none_is_an_empty_table(tmp_path):
    subprocess.run([TOOL, "build", "none", "--cache", tmp_path / "c", "--blobs", tmp_path / "b.S", "--table", tmp_path / "t.c",
                    "--depfile", tmp_path / "d"], check=True, env={"PATH": "/usr/bin:/bin"})
    assert "gpu_code_table_n = 0;" in (tmp_path / "t.c").read_text() and ".incbin" not in (tmp_path / "b.S").read_text()


@pytest.fixture(name="folder")
def with_compiler(tmp_path):
    compiler = kernels.find_compiler()
    if not compiler or not compiler.amd:
        pytest.skip("no clang >= 20 with lld")
    folder = tmp_path / "kernels"
    folder.mkdir()
    (folder / "one.hip").write_text(GOOD)
    (folder / "size.h").write_text("#define SIZE 4\n")
    return folder


def compiled(folder, targets="gfx1100,sm_80", **options):
    """(names of what had to be compiled, the jobs)."""
    lines = []
    jobs, _ = kernels.build(targets, folder.parent / "cache", [folder], say=lines.append, **options)
    return sorted(re.search(r"\] (\S+ for \S+),", line).group(1) for line in lines), jobs


def test_only_what_changed(folder):
    both = ["one.hip for gfx1100", "one.hip for sm_80"]
    assert compiled(folder)[0] == both
    start = time.process_time()
    assert compiled(folder)[0] == []
    assert time.process_time() - start < 1
    (folder / "size.h").write_text("#define SIZE 5\n")
    assert compiled(folder)[0] == both
    (folder / "size.h").write_text("#define SIZE 4\n")
    assert compiled(folder)[0] == []
    (folder / "two.hip").write_text(GOOD)
    assert compiled(folder)[0] == ["two.hip for gfx1100", "two.hip for sm_80"]
    assert compiled(folder, "gfx906,gfx1100")[0] == ["one.hip for gfx906", "two.hip for gfx906"]


def test_another_folder_makes_the_same(folder):
    """Nothing of where a checkout lies is in an object."""
    other = folder.parent / "elsewhere/deeper"
    other.mkdir(parents=True)
    for name in ("one.hip", "size.h"):
        (other / name).write_text((folder / name).read_text())
    a, b = compiled(folder)[1], compiled(other)[1]
    assert [x.path.read_bytes() for x in a] == [x.path.read_bytes() for x in b]


def test_failure_names_file_and_target(folder):
    (folder / "bad.hip").write_text('#include "target.h"\n#if defined(__gfx1100__)\n#error "no such luck"\n#endif\n')
    with pytest.raises(kernels.Problem) as problem:
        compiled(folder)
    text = str(problem.value)
    assert text.startswith("bad.hip for gfx1100: clang") and "no such luck" in text and "sm_80" not in text and "one.hip" not in text
    (folder / "bad.hip").write_text("#error everywhere\n")
    with pytest.raises(kernels.Problem, match="bad.hip for gfx906 gfx1100: clang") as problem:
        compiled(folder, "gfx906,gfx1100")
    assert str(problem.value).count("error: everywhere") == 1
    (folder / "bad.hip").unlink()
    assert compiled(folder, "gfx906,gfx1100,sm_80")[0] == []  # what was good is kept


def test_an_undefined_function_fails(folder):
    (folder / "gone.hip").write_text('#include "target.h"\n__attribute__((device)) float gone(float);\nstruct args { float *y; };\n'
                                     "KERNEL(calls, args, 64) { a.y[0] = gone(a.y[1]); }\n")
    with pytest.raises(kernels.Problem, match=r"gone.hip for gfx1100: (?s:.*)undefined .*gone"):
        compiled(folder, "gfx1100")


def test_a_warning_fails_when_told(folder):
    (folder / "one.hip").write_text(GOOD.replace("{ a.y", "{ int unused; a.y"))
    with pytest.raises(kernels.Problem, match="unused variable"):
        compiled(folder, werror=True)
    assert len(compiled(folder)[0]) == 2


def test_equal_objects_are_kept_once(tmp_path):
    paths = [tmp_path / name for name in ("a.co", "b.co", "c.co")]
    for path, text in zip(paths, ("same", "same", "other")):
        path.write_text(text)
    jobs = [type("Job", (), {"path": path}) for path in paths]
    symbols = kernels.write_blobs(tmp_path / "b.S", jobs)
    assert symbols[jobs[0]] == symbols[jobs[1]] != symbols[jobs[2]]
    assert (tmp_path / "b.S").read_text().count(".incbin") == 2


PROGRAM = r"""
#include "backend/gpu/code_table.h"
#include <stdio.h>
int main(void) {
    for (uint32_t i = 0; i < gpu_code_table_n; i++) {
        const gpu_code *c = &gpu_code_table[i];
        const unsigned char *p = c->data;
        printf("%s %s %zu %02x%02x %d\n", c->file, c->target, c->n_bytes, p[0], p[1], p[c->n_bytes - 1]);
    }
    printf("%s\n", gpu_code_table_targets);
}
"""


def test_what_the_library_gets(folder):
    """The table compiles and links, holds each object whole, PTX with its NUL."""
    work = folder.parent
    (folder / "two.hip").write_text(GOOD)
    subprocess.run([TOOL, "build", "gfx1100,sm_80", "--kernels", folder, "--cache", work / "with \"quotes\" and spaces", "--blobs", work / "b.S",
                    "--table", work / "t.c", "--depfile", work / "d"], check=True, env={**os.environ, "ROCMFORGE_KERNEL_CACHE": ""})
    (work / "main.c").write_text(PROGRAM)
    subprocess.run(["cc", "-std=c17", "-Wall", "-Wextra", "-Werror", f"-I{TOP}/src", "main.c", "t.c", "b.S", "-o", "main"], cwd=work, check=True)
    lines = subprocess.run([work / "main"], check=True, capture_output=True, text=True).stdout.splitlines()
    assert [line.split()[:2] for line in lines[:4]] == [["one", "gfx1100"], ["one", "sm_80"], ["two", "gfx1100"], ["two", "sm_80"]]
    for line in lines[:4]:
        _, target, size, magic, last = line.split()
        assert magic == ("7f45" if target == "gfx1100" else "2f2f") and int(size) > 100
        assert target == "gfx1100" or last == "0"
    assert lines[4:] == ["gfx1100 sm_80"]
    depends = (work / "d").read_text()
    assert "one.hip" in depends and "target.h" in depends and f"{folder} " in depends
