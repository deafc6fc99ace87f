"""ggml's own block formats, through ctypes: encode float rows to any type, decode any type to float32. Tests only."""
import ctypes
import functools

import gguf
import numpy as np

import llama


class _Traits(ctypes.Structure):  # struct ggml_type_traits
    _fields_ = [("type_name", ctypes.c_char_p), ("blck_size", ctypes.c_int64), ("blck_size_interleave", ctypes.c_int64),
                ("type_size", ctypes.c_size_t), ("is_quantized", ctypes.c_bool),
                ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
                ("from_float_ref", ctypes.c_void_p)]


@functools.cache
def _lib():
    llama.load()
    base = ctypes.CDLL(str(llama.library("libggml-base.so.0")))
    base.ggml_quantize_chunk.restype = ctypes.c_size_t
    base.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
                                         ctypes.c_int64, ctypes.c_void_p]
    base.ggml_get_type_traits.restype = ctypes.POINTER(_Traits)
    base.ggml_get_type_traits.argtypes = [ctypes.c_int]
    return base


def kind(name):
    """'Q4_K' -> the gguf package's enum member, whose value is the id in the file."""
    return gguf.GGMLQuantizationType[name.upper()]


def encode(x, name):
    """x: float32 [..., k] -> uint8 [..., bytes of k values] (or float32 itself for F32)."""
    x = np.ascontiguousarray(x, np.float32)
    if name == "F32":
        return x
    k = x.shape[-1]
    block, n_bytes = gguf.GGML_QUANT_SIZES[kind(name)]
    assert k % block == 0, (name, k)
    out = np.empty(x.shape[:-1] + (k // block * n_bytes,), np.uint8)
    imatrix = np.ones(k, np.float32)  # some types insist on one
    n = _lib().ggml_quantize_chunk(int(kind(name)), x.ctypes.data, out.ctypes.data, 0, x.size // k, k, imatrix.ctypes.data
                                   if name.startswith(("IQ1", "IQ2")) else None)
    assert n == out.nbytes, (name, n, out.nbytes)
    return out


def decode(raw, type_id, n):
    """raw: the bytes of n values of a type -> float32 [n]."""
    raw = np.ascontiguousarray(raw).view(np.uint8).reshape(-1)
    if type_id == int(kind("F32")):
        return raw.view(np.float32).copy()
    out = np.empty(n, np.float32)
    _lib().ggml_get_type_traits(type_id).contents.to_float(raw.ctypes.data, out.ctypes.data, n)
    return out
