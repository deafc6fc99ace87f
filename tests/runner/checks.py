"""Checks of the source as text: includes, format, headers that stand alone, the printed error table, file sizes."""
import pathlib
import subprocess
import sys

from stages import Counts

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import gpu_kernels  # noqa: E402

FOLDERS = ("include", "src", "tests", "fuzz", "bench", "examples", "tools")
CLANG_FORMAT = 14
LONG_FILE = 800  # lines: look for the seam (generated tables, *_table*.c and *_data.c, apart)


def sources(top, *suffixes):
    return sorted(p for folder in FOLDERS for p in (top / folder).rglob("*") if p.suffix in suffixes and p.is_file())


def run(log, top, out):
    out.mkdir(exist_ok=True)
    counts = Counts()
    for name in ("check_includes.py", "check_includes.py --self-test", "errors_doc.py --check docs/errors.md"):
        status = log.call([sys.executable, *f"tools/{name}".split()], cwd=top)
        counts.ok(name, status == 0, log.tail(1))
    check_format(log, top, counts)
    headers_stand_alone(log, top, counts)
    for path in sources(top, ".c", ".h", ".hip", ".py"):
        n_lines = path.read_bytes().count(b"\n")
        if n_lines > LONG_FILE and not any(word in path.stem for word in ("table", "data", "generated")):
            print(f"    warning: {path.relative_to(top)} has {n_lines} lines; look for a seam", flush=True)
    return counts


def check_format(log, top, counts):
    """Versions of clang-format disagree about details, so only the one that the source was formatted with is asked."""
    version = subprocess.run(["clang-format", "--version"], capture_output=True, text=True).stdout
    if f"version {CLANG_FORMAT}." not in version:
        return counts.skip("clang-format", f"this system's is another version than {CLANG_FORMAT}")
    files = [p.relative_to(top) for p in sources(top, ".c", ".h", ".hip")]
    status = log.call(["clang-format", "--dry-run", "-Werror", *files], cwd=top)
    bad = {line.split(":")[0] for line in log.tail(100000).splitlines() if "[-Wclang-format-violations]" in line}
    return counts.ok("clang-format", status == 0, "clang-format -i " + " ".join(sorted(bad)))


KERNELS = "src/backend/gpu/kernels/"  # C++ for a device there, but for the arguments that the host shares
DEVICE = ["-x", "hip", "--cuda-device-only", "--offload-arch=gfx1100", "-nogpulib", "-nogpuinc", "-std=c++17", "-Wall", "-Wextra", "-Werror",
          "-Isrc", f"-I{KERNELS}", "-fsyntax-only"]
X86 = "src/backend/cpu/x86/"  # a tier's lanes come first there, then the kernel bodies they are meant for


def headers_stand_alone(log, top, counts):
    flags = ["-std=c17", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-D_GNU_SOURCE", "-Iinclude", "-Isrc", "-fsyntax-only", "-xc"]
    flags += subprocess.run(["pkg-config", "--cflags", "jansson"], capture_output=True, text=True).stdout.split()
    compiler, bad = gpu_kernels.find_compiler(), []
    if not compiler:
        counts.skip("kernel headers compile alone", "no clang >= 20")
    for path in sources(top, ".h"):
        name = path.relative_to(top).as_posix()
        if name == "tests/simt/simt.h":  # C++ with clang's attributes, in two widths
            wide = [compiler.name, "-xc++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-DSIMT_FILE=x", "-fsyntax-only"] if compiler else []
            if compiler and any(log.call([*wide, f"-DWAVE={n}", "-include", name, "/dev/null"], cwd=top) for n in (32, 64)):
                bad.append(name)
            continue
        if name.startswith(KERNELS) and not path.stem.startswith("args"):
            if compiler and log.call([compiler.name, *DEVICE, "-include", name, "/dev/null"], cwd=top):
                bad.append(name)
            continue
        isa = ["-mavx2", "-mfma", "-mf16c"] if name.startswith(X86) else []
        isa += ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni"] if "avx512" in path.stem else []
        if name.startswith(X86) and not path.stem.startswith("lanes_avx"):
            isa += ["-include", f"{X86}lanes_avx2.h", "-include", f"{X86}lanes_math.h"]
        if log.call(["gcc", *flags, *isa, "-include", name, "/dev/null"], cwd=top):
            bad.append(name)
    counts.ok("headers compile alone", not bad, ", ".join(bad))
