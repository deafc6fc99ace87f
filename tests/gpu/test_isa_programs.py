"""Programs of a few instructions in the emulator of the instruction set, for what tests/simt/isa_code.py mends of it. What each
must give follows from the instructions' descriptions in AMD's ISA guides, not from a run."""
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

SIMT = pathlib.Path(__file__).resolve().parents[1] / "simt"
# In another process, which a fault of the emulator ends. A line for each program: a wave's 32-bit results, one of each lane.
RUN = """
import ctypes, json, struct, sys
sys.path.insert(0, sys.argv[1])
import isa_code
emulator = isa_code.import_emulator(sys.argv[2])
for path in sys.argv[5:]:
    out = (ctypes.c_uint32 * int(sys.argv[4]))()
    code = isa_code.CodeObject(emulator, sys.argv[3], open(path, "rb").read())
    code.run("program", [1, 1, 1], len(out), struct.pack("<Q", ctypes.addressof(out)))
    print(json.dumps(list(out)), flush=True)
"""
SOURCE = """
.amdgcn_target "amdgcn-amd-amdhsa--{arch}"
.text
.globl program
.p2align 8
.type program,@function
program:
  {begin}
  v_lshlrev_b32 v1, 2, v0
  {body}
  {store} v1, v3, s[0:1]
  s_endpgm
.rodata
.p2align 6
.amdhsa_kernel program
  .amdhsa_group_segment_fixed_size 1024
  .amdhsa_user_sgpr_kernarg_segment_ptr 1
  .amdhsa_next_free_vgpr 8
  .amdhsa_next_free_sgpr 8
  {wave}
.end_amdhsa_kernel
"""
WAVE = {"gfx1100": 32, "gfx1201": 32, "gfx942": 64}
RDNA_WAVE, CDNA_WAVE = ".amdhsa_wavefront_size32 1", ".amdhsa_accum_offset 8"
DIALECT = {  # how each begins (the address of the results is in s[0:1]), waits for LDS, stores; and the rest
    "gfx1100": {"begin": "s_load_b64 s[0:1], s[0:1], 0x0\n s_waitcnt lgkmcnt(0)", "wait": "s_waitcnt lgkmcnt(0)",
                "store": "global_store_b32", "wave": RDNA_WAVE, "exec": "s_mov_b32 exec_lo,"},
    "gfx1201": {"begin": "s_load_b64 s[0:1], s[0:1], 0x0\n s_wait_kmcnt 0x0", "wait": "s_wait_dscnt 0x0",
                "store": "global_store_b32", "wave": RDNA_WAVE, "exec": "s_mov_b32 exec_lo,"},
    "gfx942": {"begin": "s_load_dwordx2 s[0:1], s[0:1], 0x0\n s_waitcnt lgkmcnt(0)", "wait": "s_waitcnt lgkmcnt(0)",
               "store": "global_store_dword", "wave": CDNA_WAVE, "exec": "s_mov_b64 exec,"},
}


def compiler():
    return next(filter(shutil.which, ("clang-22", "clang-21", "clang-20")), None)


def run(tmp_path, arch, bodies):
    if not os.environ.get("RF_ISA_EMU"):
        pytest.skip("ROCMFORGE_ISA_EMU does not name the emulator's folder")
    pytest.importorskip("tinygrad")
    if not compiler():
        pytest.skip("there is no clang >= 20")
    words, made = DIALECT[arch], []
    for i, body in enumerate(bodies):
        source, code = tmp_path / f"{i}.s", tmp_path / f"{i}.co"
        source.write_text(SOURCE.format(arch=arch, body=body.format(**words), **{k: words[k] for k in ("begin", "store", "wave")}))
        subprocess.run([compiler(), "-target", "amdgcn-amd-amdhsa", f"-mcpu={arch}", source, "-o", code], check=True)
        made.append(code)
    done = subprocess.run([sys.executable, "-c", RUN, SIMT, os.environ["RF_ISA_EMU"], arch, str(WAVE[arch]), *made],
                          env={**os.environ, "CC": compiler()}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


LDS_WORD, BEFORE = 0x98765432, 0xABCDEF01  # 0x98 and 0x9876 are negative
HALF_LOADS = (
    (["ds_load_u16_d16_hi v3, v2 offset:2", "ds_load_u16_d16 v3, v2"], LDS_WORD),
    (["ds_load_u16_d16 v3, v2", "ds_load_u16_d16_hi v3, v2 offset:2"], LDS_WORD),
    (["ds_load_u8_d16 v3, v2"], 0xABCD0032),
    (["ds_load_u8_d16_hi v3, v2 offset:3"], 0x0098EF01),
    (["ds_load_i8_d16 v3, v2 offset:3"], 0xABCDFF98),
    (["ds_load_i8_d16_hi v3, v2 offset:3"], 0xFF98EF01),
)


@pytest.mark.parametrize("arch", ["gfx1100", "gfx1201"])
def test_half_loads(tmp_path, arch):
    """DS_LOAD_U16_D16: "RETURN_DATA[31:16] is preserved"; DS_LOAD_U16_D16_HI: "RETURN_DATA[15:0] is preserved"."""
    begin = f"v_mov_b32 v2, 0\n v_mov_b32 v4, {LDS_WORD}\n v_mov_b32 v3, {BEFORE}\n ds_store_b32 v2, v4"
    got = run(tmp_path, arch, ["\n {wait}\n ".join([begin, *loads, ""]) for loads, _ in HALF_LOADS])
    assert got == [[wanted] * WAVE[arch] for _, wanted in HALF_LOADS]


@pytest.mark.parametrize("arch", WAVE)
def test_permutes(tmp_path, arch):
    """DS_BPERMUTE_B32: "ADDR needs to be divided by 4. High-order bits are ignored." The lane's own value is 256 + its number."""
    n, highs = WAVE[arch], (0, 0x80, 0x7F000000, 0xFF000000)
    begin = "v_or_b32 v4, 0x100, v0\n v_xor_b32 v2, {high}, v1\n ds_bpermute_b32 v3, v2, v4\n {{wait}}"
    got = run(tmp_path, arch, [begin.format(high=high | 4) for high in highs])
    assert got == [[256 + ((lane ^ 1 ^ high >> 2) % n) for lane in range(n)] for high in highs]


@pytest.mark.parametrize("arch", WAVE)
def test_permute_of_lanes_switched_off(tmp_path, arch):
    """Lanes 1 and later are off and hold no address: they keep their register, and lane 0 reads 0 from a lane that is off."""
    body = ("v_mov_b32 v3, 7\n v_or_b32 v4, 0x100, v0\n v_mov_b32 v2, 0xfeedbeec\n {exec} 1\n v_mov_b32 v2, 4\n"
            " ds_bpermute_b32 v3, v2, v4\n {wait}\n {exec} -1")
    assert run(tmp_path, arch, [body]) == [[0] + [7] * (WAVE[arch] - 1)]
