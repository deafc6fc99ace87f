"""The oracle: llama.cpp's own library, called through cffi with the declarations its Python package ships.

`load()` gives (ffi, lib). Environment: RF_ORACLE_DIR, the folder prepare.py made; RF_ORACLE_PKG, the unpacked wheel's
llama_cpp_py_sync folder (for its declarations). Tests only.
"""
import ctypes
import functools
import os
import pathlib
import re

import cffi


def library(name):
    return pathlib.Path(os.environ["RF_ORACLE_DIR"]) / name


@functools.cache
def load():
    here = library("")
    pkg = pathlib.Path(os.environ["RF_ORACLE_PKG"])
    os.environ.setdefault("GGML_LOG_LEVEL", "0")
    if (here / "libisoc23_shim.so").exists():  # only an older glibc wants it
        ctypes.CDLL(str(here / "libisoc23_shim.so"), ctypes.RTLD_GLOBAL)
    for name in ("libggml-base.so.0", "libggml-cpu.so.0", "libggml-rpc.so.0", "libggml.so.0"):
        ctypes.CDLL(str(here / name), ctypes.RTLD_GLOBAL)
    source = (pkg / "_cffi_bindings.py").read_text()
    ffi = cffi.FFI()
    ffi.cdef(declarations(source))
    lib = ffi.dlopen(str(here / "libllama.so"), ffi.RTLD_GLOBAL | ffi.RTLD_NOW)
    lib.llama_log_set(_silent(ffi), ffi.NULL)
    lib.llama_backend_init()
    return ffi, lib


def declarations(source):
    return re.search(r'_LLAMA_H_CDEF = r?"""(.*?)"""', source, re.S).group(1)


_keep = []


def _silent(ffi):
    cb = ffi.callback("void(enum ggml_log_level, const char *, void *)", lambda level, text, user: None)
    _keep.append(cb)
    return cb
