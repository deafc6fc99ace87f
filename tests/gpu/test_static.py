"""tools/gpu_static.py: its readers on known text, its figures on the probe's code objects, what counts as worse."""
import pathlib
import shutil
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tools"))
import gpu_kernels  # noqa: E402
import gpu_static as static  # noqa: E402

NOTES = """
amdhsa.kernels:
  - .agpr_count:     4
    .args:
      - .offset:         0
        .size:           32
        .value_kind:     by_value
    .group_segment_fixed_size: 4096
    .max_flat_workgroup_size: 256
    .name:           k
    .private_segment_fixed_size: 16
    .sgpr_spill_count: 1
    .uses_dynamic_stack: false
    .vgpr_count:     104
    .wavefront_size: 64
  - .name:           other
    .vgpr_count:     3
"""

CODE = """
0000000000001800 <k>:
\ts_cbranch_scc1 53                                          // 000000001800: BFA20035 <k+0x28>
\tglobal_load_dwordx4 v[6:9], v[1:2], off                    // 000000001804: DC5E0000 067C0001
\tglobal_load_ubyte v6, v[1:2], off                          // 00000000180C: DC5E0000 067C0001
\ts_waitcnt vmcnt(1)                                         // 000000001814: BF8903F7
\tv_dot4_i32_iu8 v5, v6, v10, v5 neg_lo:[1,1,0]              // 000000001818: CC164005 7C161506
\tv_dual_mov_b32 v1, v2 :: v_dual_mov_b32 v3, v4             // 000000001820: CC164005 7C161506
\ts_cbranch_vccz 65507                                       // 000000001824: BFA1FFE3 <k+0x4>
\ts_endpgm                                                   // 000000001828: BFB00000
\ts_nop 0                                                    // 00000000182C: BF800000

0000000000001900 <other>:
\ts_branch 3                                                 // 000000001900: BFA00001 <k+0x0>
\ts_endpgm                                                   // 000000001904: BFB00000
"""

PTX = """
.visible .entry k(
\t.param .align 8 .b8 k_param_0[32]
)
.maxntid 256
{
\t.local .align 16 .b8 \t__local_depot0[48];
\tld.global.b32 \t%r6, [%rd12];
$L__BB0_2:                              // =>This Inner Loop Header: Depth=1
\tld.global.v4.b32 \t{%r9, %r10, %r11, %r12}, [%rd26+-4096];
\tdp4a.s32.s32 \t%r8, %r9, %r10, %r5;
\t@%p2 bra \t$L__BB0_2;
\tbra.uni \t$L__BB0_4;
$L__BB0_4:
\tret;
}
"""


def test_notes():
    notes = static.read_notes(NOTES)
    assert notes["k"] == {"agpr_count": 4, "group_segment_fixed_size": 4096, "max_flat_workgroup_size": 256, "vgpr_count": 104,
                          "private_segment_fixed_size": 16, "sgpr_spill_count": 1, "wavefront_size": 64}
    assert notes["other"]["vgpr_count"] == 3


def test_code_and_loop():
    functions = static.read_code(CODE)
    assert list(functions) == ["k", "other"]
    k = functions["k"]
    assert [i.op for i in k][-1] == "s_endpgm" and k[0].to == 0x28 and k[6].to == 4
    loop = static.main_loop(k, static.load_bytes)
    assert [i.at for i in loop] == [4, 0xc, 0x14, 0x18, 0x20, 0x24]
    assert static.main_loop(functions["other"], static.load_bytes) == functions["other"]  # another's code is no loop
    assert static.in_flight(loop) == 1 + 16 + 1  # the byte of the round before is still under way


def test_row():
    notes = {"vgpr_count": 104, "sgpr_count": 9, "group_segment_fixed_size": 4096, "private_segment_fixed_size": 0, "vgpr_spill_count": 0,
             "sgpr_spill_count": 0, "max_flat_workgroup_size": 256, "wavefront_size": 32}
    row = static.amd_row("linear_vec1_q8_0", "gfx1100", notes, static.read_code(CODE)["k"])
    assert row == {"vgpr": 104, "sgpr": 9, "lds": 4096, "scratch": 0, "spills": 0, "sgpr_spills": 0, "waves": 12, "loop": 6, "valu": 2, "dots": 1,
                   "matrix": 0, "widest": 16, "flight": 18 * 32, "per_weight": 0.5, "code": 0x2c}


def test_loads():
    for op, n in {"global_load_b128": 16, "global_load_dwordx3": 12, "buffer_load_dwordx2": 8, "flat_load_b32": 4, "global_load_d16_b16": 2,
                  "global_load_ushort": 2, "global_load_d16_hi_u8": 1, "global_load_sbyte_d16": 1, "global_store_b128": 0,
                  "ds_load_b128": 0, "s_load_b128": 0, "scratch_load_b32": 0}.items():
        assert static.load_bytes(op) == n, op
    for op, n in {"ld.global.v4.b32": 16, "ld.global.nc.v2.b64": 16, "ld.global.b8": 1, "ld.global.L1::no_allocate.v4.b32": 16,
                  "ld.shared.v4.b32": 0, "ld.global.f32": 4}.items():
        assert static.ptx_load_bytes(op) == n, op


def test_waits():
    def left(op, args):
        return static.wait_left(static.Instr(0, op, args))
    assert left("s_waitcnt", "vmcnt(3) lgkmcnt(0)") == 3 and left("s_waitcnt", "lgkmcnt(0)") is None
    assert left("s_wait_loadcnt", "0x2") == 2 and left("s_wait_loadcnt_dscnt", "0x301") == 3 and left("s_wait_dscnt", "0x0") is None


def test_ptx():
    code, frame = static.read_ptx(PTX)["k"]
    assert frame == 48
    row = static.ptx_row("k", code, frame)
    assert (row["scratch"], row["loop"], row["dots"], row["widest"], row["vgpr"]) == (48, 3, 1, 16, None)


# (target, VGPRs, LDS bytes, wave) of blocks of 256: waves as clang 22 says (-Rpass-analysis=kernel-resource-usage).
@pytest.mark.parametrize("target, vgpr, lds, wave, waves", [
    ("gfx1100", 96, 0, 32, 16), ("gfx1100", 97, 0, 32, 12), ("gfx1100", 200, 0, 32, 7), ("gfx1100", 256, 0, 32, 5),
    ("gfx1150", 73, 0, 32, 12), ("gfx1150", 223, 0, 32, 4), ("gfx1030", 64, 0, 32, 16), ("gfx1030", 65, 0, 32, 12),
    ("gfx906", 24, 0, 64, 10), ("gfx906", 65, 0, 64, 3), ("gfx90a", 64, 0, 64, 8), ("gfx90a", 65, 0, 64, 7), ("gfx942", 128, 0, 64, 4),
    ("gfx1100", 8, 64000, 32, 4), ("gfx942", 8, 64000, 64, 1), ("gfx950", 8, 64000, 64, 2)])
def test_occupancy(target, vgpr, lds, wave, waves):
    assert static.occupancy(target, vgpr, lds, 256, wave) == waves


def row(**changes):
    base = dict.fromkeys(static.FIELDS, 0)
    return {**base, "vgpr": 40, "waves": 16, "valu": 100, "dots": 8, "widest": 16, "flight": 1024, "per_weight": 2.0, **changes}


def complaints(kept, now, kernel="linear.linear_vec1_q4_0"):
    return static.compare({kernel: {"gfx1100": kept}}, {kernel: {"gfx1100": now}})


def test_regressions():
    assert complaints(row(), row()) == []
    assert complaints(row(), row(vgpr=44, valu=110, per_weight=2.1, flight=1000)) == []  # within tolerance
    assert complaints(row(), row(vgpr=20, valu=50, per_weight=1.0, flight=4096, waves=16)) == []  # better
    for change, words in {("vgpr", 45): "vgpr 45, more than the table's 40 (bound 44)", ("waves", 15): "waves 15, less than the table's 16",
                          ("per_weight", 2.2): "per_weight 2.2, more than the table's 2.0 (bound 2.12)",
                          ("widest", 8): "widest 8, less than the table's 16", ("lds", 1): "lds 1, more than the table's 0",
                          ("dots", 0): "no dots in the main loop, the table has 8"}.items():
        assert complaints(row(), row(**dict([change]))) == [f"linear.linear_vec1_q4_0 on gfx1100: {words}"]


def test_spills():
    kept = row(scratch=64, spills=3)
    assert complaints(kept, kept) == ["linear.linear_vec1_q4_0 on gfx1100: 64 bytes of scratch, 3 vector registers spilled; a vector kernel has none"]
    assert complaints(kept, kept, "linear.linear_mat_q4_0") == []
    assert len(complaints(row(), kept, "linear.linear_mat_q4_0")) == 2


def test_kernels_come_and_go():
    assert static.compare({}, {"a.b": {"gfx906": row()}}) == ["a.b: not in the table; run with --update"]
    assert static.compare({"a.b": {"gfx906": row()}}, {}) == ["a.b: in the table, but there is no such kernel; run with --update"]
    assert static.compare({"a.b": {"gfx906": row()}}, {"a.b": {"gfx906": row(), "gfx908": row()}}) == [
        "a.b on gfx908: only in the build; run with --update"]


def test_table_round_trip(tmp_path):
    table = {"a.b": {"gfx906": row(), "sm_80": row(vgpr=None)}, "a.c": {"gfx906": row()}}
    static.save_table(tmp_path / "t.json", "clang 22", table)
    assert static.load_table(tmp_path / "t.json") == ("clang 22", table)


def test_probe(tmp_path):
    compiler = gpu_kernels.find_compiler()
    if not compiler or not compiler.amd or static.Tools(compiler).missing:
        pytest.skip("no clang >= 20 with lld and LLVM's tools")
    shutil.copy(TOP / "tests/gpu/kernels/probe.hip", tmp_path)
    jobs, _ = gpu_kernels.build("all", tmp_path / "cache", [tmp_path], compiler=compiler)
    table = static.measure(jobs, static.Tools(compiler))
    assert sorted(table) == ["probe.probe_scratch", "probe.probe_vec1_q8_0"]
    for target, r in table["probe.probe_vec1_q8_0"].items():
        assert (r["widest"], r["scratch"], r["spills"] or 0, r["matrix"]) == (16, 0, 0, 0), target
        assert r["dots"] and r["dots"] % 4 == 0, target
        if target != "sm_80":
            assert r["flight"] >= 1024 and r["per_weight"] < 1 and r["vgpr"] <= 32, target
    assert all(r["scratch"] >= 1200 for r in table["probe.probe_scratch"].values())
    assert table["probe.probe_scratch"]["gfx1100"]["lds"] == 4096
    assert static.measure(jobs, static.Tools(compiler)) == table  # from what it kept
    assert "probe_vec1_q8_0" in static.page("clang", table, static.sizes_of(jobs))
