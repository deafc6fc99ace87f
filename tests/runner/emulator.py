"""The stages `gpu emulator ARCH`: each kernel's code object in the emulator of AMD's instruction set, its numbers against the
CPU's reference: tests/gpu/check_*.c on the stand-in HIP library (tests/simt/standin.h), in their short form, or all of it.
"""
import re
import subprocess
import sys

from stages import Counts

ARCHS = ("gfx1100", "gfx1201", "gfx942")
PROGRAMS = ("attention", "linear_mat", "sample", "quantize", "rows", "moe", "recurrent", "linear_vec")
LINE = re.compile(r"(\S.*?) \| (\S+) \| (\d+) cases \| (\d+) wrong \| max error (\S+)")


def missing(env):
    """Why nothing can be emulated here, "" if it can."""
    if not env["RF_ISA_EMU"]:
        return "ROCMFORGE_ISA_EMU does not name the emulator's folder (docs/testing.md)"
    if subprocess.run([sys.executable, "-c", "import numpy, tinygrad"], capture_output=True).returncode:
        return "the packages tinygrad and numpy are missing"
    return ""


def run(log, build, env, arch, long):
    counts = Counts()
    standin = build / "tests/simt/libstandin_hip.so"
    why = missing(env) or ("" if standin.exists() else "this build has no stand-in HIP library")
    if why:
        counts.skip(f"gpu emulator {arch}", why)
        return counts
    launches = build / f"emulator-{arch}.launches"
    launches.unlink(missing_ok=True)
    full = {**env, "ROCMFORGE_ISA_EMU": env["RF_ISA_EMU"], "ROCMFORGE_HIP_LIBRARY": str(standin),
            "ROCMFORGE_STANDIN": arch, "ROCMFORGE_STANDIN_LOG": str(launches), "RF_GPU_CHECK": "hip",
            **({} if long else {"RF_GPU_SHORT": "1"})}
    full.pop("RF_LONG", None)  # here the full counts would take days
    for name in PROGRAMS:
        program(log, build, full, name, arch, counts)
    return counts


def program(log, build, env, name, arch, counts):
    """One check program: a test for each kernel it tells of, and one for itself."""
    status = log.call([build / f"tests/gpu/check_{name}"], env)
    told = list(LINE.finditer(log.tail(200).rpartition("device: ")[2]))
    for kernel, _, _, wrong, _ in (line.groups() for line in told):
        counts.ok(f"{kernel} on {arch}", wrong == "0", f"{wrong} values are not the reference's")
    counts.ok(f"check_{name} on {arch}", status in (0, 1) and bool(told), f"ended with status {status}")
