"""Makes the prebuilt oracle library (llama.cpp, from the PyPI wheel llama-cpp-py-sync) loadable on an older glibc.

Usage: prepare.py WHEEL_PACKAGE_DIR OUT_DIR.  Copies the libraries to OUT_DIR, marks their need of the symbol version
GLIBC_2.38 as weak in the copies (it stands for five parsing functions, which isoc23_shim.c provides), and builds the shim.
On glibc 2.38 and later the copies are plain and there is no shim.
"""
import os
import pathlib
import shutil
import struct
import subprocess
import sys

VER_FLG_WEAK = 2
SHT_GNU_VERNEED = 0x6FFFFFFE


def weaken(path, version=b"GLIBC_2.38"):
    data = bytearray(path.read_bytes())
    shoff, = struct.unpack_from("<Q", data, 0x28)
    shentsize, shnum = struct.unpack_from("<HH", data, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, shoff + i * shentsize) for i in range(shnum)]
    for _, kind, _, _, offset, _, link, count, _, _ in sections:
        if kind != SHT_GNU_VERNEED:
            continue
        names = sections[link][4]
        need = offset
        for _ in range(count):
            _, n_aux, _, aux, need_next = struct.unpack_from("<HHIII", data, need)
            at = need + aux
            for _ in range(n_aux):
                _, flags, _, name, aux_next = struct.unpack_from("<IHHII", data, at)
                end = data.index(b"\0", names + name)
                if bytes(data[names + name:end]) == version:
                    struct.pack_into("<H", data, at + 4, flags | VER_FLG_WEAK)
                at += aux_next
            need += need_next
    path.write_bytes(data)


def glibc():
    """(major, minor) of this system's C library."""
    return tuple(int(n) for n in os.confstr("CS_GNU_LIBC_VERSION").split()[1].split(".")[:2])


def main():
    src, out = map(pathlib.Path, sys.argv[1:3])
    out.mkdir(parents=True, exist_ok=True)
    old = glibc() < (2, 38)
    for lib in src.glob("lib*.so*"):
        shutil.copy(lib, out / lib.name)
        if old:
            weaken(out / lib.name)
    if not old:
        return
    shim = pathlib.Path(__file__).with_name("isoc23_shim.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", out / "libisoc23_shim.so", shim], check=True)


main()
