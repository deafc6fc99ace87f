#!/usr/bin/env python3
"""The other end of standin_emulator.c: runs kernels of AMD code objects in an emulator of the instruction set.

    isa_worker.py FOLDER SOCKET MEMORY ADDRESS BYTES

FOLDER holds isa_emu.py (docs/testing.md says where it comes from); SOCKET and MEMORY are inherited file descriptors. MEMORY
is the devices' memory, mapped here at the same ADDRESS as in the process that asks, so that pointers mean the same. A
request is one line of JSON, then as many bytes as its "bytes" says; the reply is one line, `ok` or what went wrong.

    {"load": ID, "arch": "gfx1100", "bytes": N}             code object N bytes long
    {"run": ID, "kernel": NAME, "grid": [x, y, z], "block": n, "bytes": N}     N bytes of arguments
"""
import contextlib
import ctypes
import json
import os
import socket
import struct
import sys
import tempfile

PROT_READ_WRITE, MAP_SHARED, MAP_FIXED_NOREPLACE = 3, 1, 0x100000
FLUSH_MASK = 3 << 16  # FLOAT_DENORM_MODE_32 of COMPUTE_PGM_RSRC1: 3 keeps denormal numbers


def map_memory(fd, address, n_bytes):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    if libc.mmap(address, n_bytes, PROT_READ_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0) != address:
        raise OSError(ctypes.get_errno(), "the devices' memory cannot be mapped at its address")


class Emulator:
    def __init__(self, folder):
        sys.path.insert(0, folder)
        import isa_emu  # noqa: the folder is known only now
        self.isa_emu, self.modules = isa_emu, {}
        self.flushing = isa_emu.emu._MXCSRContext

    def load(self, number, arch, code):
        if arch[:5] not in self.isa_emu.ARCH:
            raise ValueError(f"the emulator does not know {arch}")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, f"{arch}.o")
            with open(path, "wb") as f:
                f.write(code)
            self.modules[number] = self.isa_emu.Module(path, arch)

    def run(self, number, kernel, grid, block, args):
        module = self.modules[number]
        if kernel + ".kd" not in module.syms:
            raise KeyError(f"the code object has no kernel {kernel}")
        (rsrc1,) = struct.unpack_from("<I", module.buf, module.syms[kernel + ".kd"] + 48)
        keeps = rsrc1 & FLUSH_MASK == FLUSH_MASK  # the emulator flushes denormal numbers whatever the kernel says
        self.isa_emu.emu._MXCSRContext = contextlib.nullcontext if keeps else self.flushing
        module.run(kernel, tuple(grid), (block, 1, 1), [args])


def serve(emulator, stream):
    for line in stream:
        ask = json.loads(line)
        data = stream.read(ask["bytes"])
        try:
            if "load" in ask:
                emulator.load(ask["load"], ask["arch"], data)
            else:
                emulator.run(ask["run"], ask["kernel"], ask["grid"], ask["block"], data)
            reply = "ok"
        except Exception as e:  # whatever it is, the launch has failed and the test should read why
            reply = " ".join(f"{type(e).__name__}: {e}".split())[:800]
        stream.write(reply.encode() + b"\n")
        stream.flush()


def main():
    folder, fd, memory, address, n_bytes = sys.argv[1], *map(int, sys.argv[2:])
    stream = socket.socket(fileno=fd).makefile("rwb")
    try:
        map_memory(memory, address, n_bytes)
        emulator = Emulator(folder)
    except Exception as e:  # the folder's own needs: tinygrad, clang, llvm-objdump
        stream.write(f"{type(e).__name__}: {e}\n".encode())
        return 1
    stream.write(b"ok\n")
    stream.flush()
    serve(emulator, stream)
    return 0


if __name__ == "__main__":
    sys.exit(main())
