"""Block types against the oracle: sizes, decoding of random bytes bit for bit, half precision, the Q8_0 encoder."""
import ctypes
import os
import pathlib
import subprocess

import numpy as np
import pytest

import llama

BUILD = pathlib.Path(os.environ.get("RF_BUILD", "build"))
DECODED = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 10: "Q2_K", 11: "Q3_K",
           12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 30: "BF16"}
REMOVED = {4, 5, 31, 32, 33, 36, 37, 38}
# Where a block keeps its f16 scales: (offset, ...) by type id. Odd scales are put there on purpose.
SCALES = {2: (0,), 3: (0, 2), 6: (0,), 7: (0, 2), 8: (0,), 10: (80, 82), 11: (108,), 12: (0, 2), 13: (0, 2), 14: (208,)}
ODD = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00, 0x7C01, 0xFFFF]


class Traits(ctypes.Structure):  # ggml_type_traits of ggml.h
    _fields_ = [("name", ctypes.c_char_p), ("block_elems", ctypes.c_int64), ("interleave", ctypes.c_int64),
                ("block_bytes", ctypes.c_size_t), ("quantized", ctypes.c_bool),
                ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
                ("from_float_ref", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64))]


@pytest.fixture(scope="module")
def ggml():
    llama.load()
    lib = ctypes.CDLL(str(pathlib.Path(os.environ["RF_ORACLE_DIR"]) / "libggml-base.so.0"))
    lib.ggml_get_type_traits.restype = ctypes.POINTER(Traits)
    lib.ggml_fp16_to_fp32.restype = ctypes.c_float
    return lib


def traits(ggml, t):
    return ggml.ggml_get_type_traits(t).contents


def drive(*args, data=b""):
    return subprocess.run([BUILD / "tests/unit/drive_quant", *map(str, args)], input=data, stdout=subprocess.PIPE,
                          check=True).stdout


def same_bits(ours, theirs):
    """Equal as bits, except that any NaN equals any NaN."""
    return (ours.view(np.uint32) == theirs.view(np.uint32)) | (np.isnan(ours) & np.isnan(theirs))


def test_table_has_the_oracle_s_types_and_sizes(ggml):
    rows = {}
    for line in drive("table").decode().splitlines():
        t, name, elems, size, decodes = line.split()
        rows[int(t)] = (name.lower(), int(elems), int(size))
        assert (decodes == "1") == (int(t) in DECODED)
    assert set(rows) == set(range(43)) - REMOVED
    for t, row in rows.items():
        x = traits(ggml, t)
        assert row == (x.name.decode().lower(), x.block_elems, x.block_bytes)


def random_blocks(t, size, n, seed):
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (n, size), dtype=np.uint8)
    for k, offset in enumerate(SCALES.get(t, ())):
        for i in range(n // 2):
            odd = ODD[(i + 5 * k * i) % len(ODD)]
            blocks[i, offset:offset + 2] = (odd & 255, odd >> 8)
    return blocks.tobytes()


@pytest.mark.parametrize("t", DECODED, ids=DECODED.get)
@pytest.mark.parametrize("seed", range(3))
def test_decode_is_bit_exact(ggml, t, seed):
    x = traits(ggml, t)
    n = 4000 if x.block_elems > 1 else 200000
    data = random_blocks(t, x.block_bytes, n, seed)
    ours = np.frombuffer(drive("decode", t, data=data), np.float32)
    if t == 0:
        theirs = np.frombuffer(data, np.float32)  # the oracle has no function for it
    else:
        theirs = np.empty(n * x.block_elems, np.float32)
        x.to_float(data, theirs.ctypes.data, n * x.block_elems)
    assert ours.size == theirs.size and np.isfinite(theirs).any() and same_bits(ours, theirs).all()


def test_every_half(ggml):
    h = np.arange(65536, dtype=np.uint16)
    ours = np.frombuffer(drive("f16", data=h.tobytes()), np.float32)
    theirs = np.array([ggml.ggml_fp16_to_fp32(ctypes.c_uint16(int(v))) for v in h], np.float32)
    assert same_bits(ours, theirs).all() and same_bits(ours, h.view(np.float16).astype(np.float32)).all()
    ours = np.frombuffer(drive("bf16", data=h.tobytes()), np.float32)
    assert same_bits(ours, (h.astype(np.uint32) << 16).view(np.float32)).all()


def test_float_to_half(ggml):
    rng = np.random.default_rng(1)
    x = rng.integers(0, 2**32, 4_000_000, dtype=np.uint64).astype(np.uint32)
    halves = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32).view(np.uint32)
    near = np.concatenate([(halves.astype(np.int64) + k).astype(np.uint32) for k in (-1, 0, 1, 0xFFF, 0x1000, 0x1001)])
    x = np.concatenate([x, near]).view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        theirs = x.astype(np.float16)
    ours = np.frombuffer(drive("to_f16", data=x.tobytes()), np.float16)
    assert ((ours.view(np.uint16) == theirs.view(np.uint16)) | (np.isnan(ours) & np.isnan(theirs))).all()
    assert (np.isnan(ours) == np.isnan(x)).all()


def test_encode_q8_0(ggml):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((20000, 32)).astype(np.float32)
    x *= np.exp2(rng.integers(-40, 20, (20000, 1))).astype(np.float32)
    x[:500] = rng.integers(-127, 127, (500, 32)) + 0.5  # amax 127, so d is 1: halves are rounded away from zero
    x[:500, 0] = 127
    x[500:510] = 0
    theirs = np.zeros(20000 * 34, np.uint8)
    f = traits(ggml, 8).from_float_ref
    f(x.ctypes.data, theirs.ctypes.data, x.size)
    ours = np.frombuffer(drive("encode_q8_0", data=x.tobytes()), np.uint8)
    assert (ours == theirs).all()


def test_encode_q4_0():
    from gguf import GGMLQuantizationType, quants

    rng = np.random.default_rng(3)
    x = rng.standard_normal((20000, 32)).astype(np.float32)
    x *= np.exp2(rng.integers(-20, 15, (20000, 1))).astype(np.float32)
    x[:500] = rng.integers(-16, 17, (500, 32)) / 2  # halves, and ties for the greatest
    x[500:510] = 0
    theirs = quants.quantize(x, GGMLQuantizationType.Q4_0).reshape(-1)
    ours = np.frombuffer(drive("encode_q4_0", data=x.tobytes()), np.uint8)
    same = (ours.reshape(-1, 18) == theirs.reshape(-1, 18)).all(axis=1)
    assert same.all(), x[~same][:3]


def test_to_bf16():
    from gguf import GGMLQuantizationType, quants

    x = np.random.default_rng(4).integers(0, 1 << 32, 1 << 18, dtype=np.uint64).astype(np.uint32).view(np.float32)
    ours = np.frombuffer(drive("to_bf16", data=x.tobytes()), np.uint16)
    back = np.frombuffer(drive("bf16", data=ours.tobytes()), np.float32)
    theirs = quants.quantize(x, GGMLQuantizationType.BF16).reshape(-1).view(np.uint16)
    assert ((ours == theirs) | np.isnan(x)).all() and (np.isnan(back) == np.isnan(x)).all()


def test_encode_q8_0_keeps_what_is_not_finite():
    x = np.ones((3, 32), np.float32)
    x[0, 7], x[1, 31] = np.nan, -np.inf
    back = np.frombuffer(drive("decode", 8, data=drive("encode_q8_0", data=x.tobytes())), np.float32).reshape(3, 32)
    assert np.isnan(back[:2]).all() and np.isfinite(back[2]).all()
