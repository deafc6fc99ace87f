#!/usr/bin/env python3
"""The other end of standin_emulator.c: runs kernels of AMD code objects in an emulator of the instruction set.

    isa_worker.py FOLDER SOCKET MEMORY ADDRESS BYTES

FOLDER holds the emulator (isa_code.py); SOCKET and MEMORY are inherited file descriptors. MEMORY is the devices' memory,
mapped here at the same ADDRESS as in the process that asks, so that pointers mean the same. A request is one line of JSON,
then as many bytes as its "bytes" says; the reply is one line, `ok` or what went wrong.

    {"load": ID, "arch": "gfx1100", "bytes": N}             a code object of N bytes
    {"run": ID, "kernel": NAME, "grid": [x, y, z], "block": n, "bytes": N}     N bytes of arguments
"""
import ctypes
import json
import os
import shutil
import socket
import sys

import isa_code

PROT_READ_WRITE, MAP_SHARED, MAP_FIXED_NOREPLACE = 3, 1, 0x100000


def map_memory(fd, address, n_bytes):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    if libc.mmap(address, n_bytes, PROT_READ_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0) != address:
        raise OSError(ctypes.get_errno(), "the devices' memory cannot be mapped at its address")


def one_line(e):
    return " ".join(f"{type(e).__name__}: {e}".split())[:800]


def serve(emulator, stream):
    loaded = {}
    for line in stream:
        ask = json.loads(line)
        data = stream.read(ask["bytes"])
        reply = "ok"
        try:
            if "load" in ask:
                loaded[ask["load"]] = isa_code.CodeObject(emulator, ask["arch"], data)
            else:
                loaded[ask["run"]].run(ask["kernel"], ask["grid"], ask["block"], data)
        except Exception as e:  # whatever it is, the launch has failed and the test should read why
            reply = one_line(e)
        stream.write(reply.encode() + b"\n")
        stream.flush()


def main():
    folder, fd, memory, address, n_bytes = sys.argv[1], *map(int, sys.argv[2:])
    compilers = ("clang-22", "clang-21", "clang-20", "clang")  # the emulator compiles each form of instruction once
    os.environ.setdefault("CC", next(filter(shutil.which, compilers), "clang"))
    stream = socket.socket(fileno=fd).makefile("rwb")
    try:
        map_memory(memory, address, n_bytes)
        emulator = isa_code.import_emulator(folder)
    except Exception as e:  # what the folder itself needs is not there: tinygrad, a compiler
        stream.write(one_line(e).encode() + b"\n")
        return 1
    stream.write(b"ok\n")
    stream.flush()
    serve(emulator, stream)
    return 0


if __name__ == "__main__":
    sys.exit(main())
