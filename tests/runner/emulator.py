"""The stages `gpu emulator ARCH`: each kernel's code object in the emulator of AMD's instruction set, its numbers against the
CPU's reference: tests/gpu/check_*.c on the stand-in HIP library (tests/simt/standin.h), in their short form, or all of it.
"""
import re
import subprocess
import sys

from stages import Counts

ARCHS = ("gfx1100", "gfx1201", "gfx942")
PROGRAMS = ("attention", "linear_mat", "sample", "quantize", "rows", "moe", "recurrent", "linear_vec")
# Not among them: only shapes with a quantised cache differ: on gfx1100 ds_load_u16_d16 after ds_load_u16_d16_hi loses the upper
# half, which the ISA guide says is preserved. attention_split, which has that pair, differs there; that this is all is not yet shown.
CANNOT = {  # the emulator's faults: what it cannot run, and why
    ("gfx942", "rows_layer_norm"): "the emulator faults in ds_bpermute_b32 v2, v2, v1, which touches registers only",
    ("gfx942", "rows_rms_norm"): "ends the emulator's process; not yet explained",
    ("gfx942", "kv_append"): "ends the emulator's process; not yet explained",
    ("gfx942", "attention_split"): "not tried: kv_append, which fills the cache, ends the emulator's process",
    ("gfx942", "attention_tile"): "not tried: kv_append, which fills the cache, ends the emulator's process",
    ("gfx942", "attention, both forms"): "not tried: kv_append, which fills the cache, ends the emulator's process",
    ("gfx1100", "attention_split"): "wrong with quantised caches (docs/gpu-proof.md); the emulator loses half a register at "
                                    "ds_load_u16_d16, which this kernel uses; that this is all is not proven",
}
ENDS = {("gfx942", "attention")}  # programs whose kernels cannot be told apart before the emulator ends
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
    cannot = {kernel: text for (a, kernel), text in CANNOT.items() if a == arch}
    for kernel, text in cannot.items():
        counts.skip(f"{kernel} on {arch}", text)
    launches = build / f"emulator-{arch}.launches"
    launches.unlink(missing_ok=True)
    full = {**env, "ROCMFORGE_ISA_EMU": env["RF_ISA_EMU"], "ROCMFORGE_HIP_LIBRARY": str(standin),
            "ROCMFORGE_STANDIN": arch, "ROCMFORGE_STANDIN_LOG": str(launches), "RF_GPU_CHECK": "hip",
            "RF_GPU_SKIP": ",".join(cannot), **({} if long else {"RF_GPU_SHORT": "1"})}
    full.pop("RF_LONG", None)  # here the full counts would take days
    for name in PROGRAMS:
        if (arch, name) not in ENDS:
            program(log, build, full, name, arch, counts, cannot)
    return counts


def program(log, build, env, name, arch, counts, cannot):
    """One check program: a test for each kernel it tells of, and one for itself. What the emulator cannot do is skipped already."""
    status = log.call([build / f"tests/gpu/check_{name}"], env)
    told = list(LINE.finditer(log.tail(200).rpartition("device: ")[2]))
    for kernel, _, _, wrong, _ in (line.groups() for line in told):
        if kernel not in cannot:
            counts.ok(f"{kernel} on {arch}", wrong == "0", f"{wrong} values are not the reference's")
    counts.ok(f"check_{name} on {arch}", status in (0, 1) and bool(told), f"ended with status {status}")
