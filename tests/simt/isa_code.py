"""AMD code objects in memory, and their kernels in the emulator of the instruction set.

The emulator is test/mockgpu/amd of tinygrad's source repository (MIT licence): it is made from the pseudocode of AMD's ISA
guides and reads instructions and data where they lie in this process. What it leaves to the caller is here: the ELF image,
the kernel descriptor and the registers a wave begins with (LLVM's "User Guide for AMDGPU Backend": code object version 5,
kernel descriptor, initial kernel execution state).
"""
import contextlib
import ctypes
import functools
import mmap
import re
import shutil
import struct
import subprocess
import sys
import tempfile

FAMILIES = {"gfx11": "rdna3", "gfx12": "rdna4", "gfx94": "cdna", "gfx95": "cdna"}  # the emulator's names
PT_LOAD, SHT_DYNSYM, S_NOP, PAGE = 1, 11, 0xBF800000, 4096
# What only caches notice: memory is coherent here, so these become s_nop.
CACHE_ONLY = re.compile(r"^(buffer_gl[01]_inv|buffer_inv|buffer_wbl2|global_(inv|wb|wbinv))\b")
FORMS = "rocmforge_isa_forms_2"  # to be counted up when what is compiled for the same input changes
DS_LOAD_HALF = re.compile(r"DS_LOAD_[UI](?:8|16)_D16(_HI)?$")
PERMUTE_LANE = re.compile(r"src_lane = (?:32'I)?(\(.*\)) / 4U? % (64|32|num_lanes)U?")
MIXED_SIGNS = re.compile(r"(\*\(\(unsigned_int(\d+)\*\)[^;=]* = )\(int\2\)\{")
CODE_LINE = re.compile(r"^\s+(\S.*?)\s*// ([0-9A-F]+):((?: [0-9A-F]{8})+)")
LDS_SHIFT, LDS_MASK, LDS_UNIT = 15, 0x1FF, 512  # GRANULATED_LDS_SIZE of COMPUTE_PGM_RSRC2
LDS_REACH, MAP_NORESERVE = (1 << 32) + (1 << 16), 0x4000
KEEPS_DENORMALS = 3 << 16  # FLOAT_DENORM_MODE_32 of COMPUTE_PGM_RSRC1
DISPATCH_PACKET_BYTES, KERNARG_BYTES = 64, 8192
# ENABLE_SGPR_* of the kernel descriptor, in the order in which the registers are filled: bit, number of registers
USER_SGPRS = ((0, 4), (1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (6, 1))
DISPATCH_PTR, KERNARG_PTR, SCRATCH_SIZE = 1, 3, 6


def import_emulator(folder):
    sys.path.insert(0, folder)
    from test.mockgpu.amd import emu  # noqa: its folder is known only now

    map_all_of_lds(emu)
    mend_vectors()
    mend_permutes(emu)
    mend_halves(emu)
    mend_atomics(emu)
    keep_what_is_compiled(emu)
    return emu


def keep_what_is_compiled(emu):
    """To compile a form of instruction takes a quarter of a second, and a kernel has a hundred: they are kept in tinygrad's own
    cache on disk, apart by whether denormals are flushed, which the compiler's constants may depend on. And what stands at an
    address is decoded once, not once a launch: code objects stay where they are."""
    from tinygrad.helpers import diskcache_get, diskcache_put

    def to_program(sink, renderer, plain=emu.to_program):
        flushes = emu._MXCSRContext is not contextlib.nullcontext
        key = f"{sink.key.hex()} {renderer.target} {flushes}"
        known = diskcache_get(FORMS, key)
        return diskcache_put(FORMS, key, plain(sink, renderer)) if known is None else known

    emu.to_program = to_program
    emu._decode_at = functools.cache(emu._decode_at)


def mend_vectors():
    """Its C for gfx942's integer matrix instructions assigns vectors of int to vectors of unsigned, which clang refuses."""
    from tinygrad.runtime.support import compiler_cpu

    plain = compiler_cpu.ClangCompiler.compile
    compiler_cpu.ClangCompiler.compile = lambda self, source: plain(self, MIXED_SIGNS.sub(r"\1(unsigned_int\2){", source))


def mend_permutes(emu):
    """ds_bpermute_b32. Its reader of pseudocode has no operator % and drops it with what follows, so that the lane to read is address
    / 4, also of lanes switched off, and what lies outside the registers ends the process; the guides say "High-order bits are
    ignored". And lanes switched off get 0, where the pseudocode writes a register only `if EXEC[i]`."""
    lanes = {"64": "63U", "32": "31U", "num_lanes": "(num_lanes - 1)"}

    def parse(pcode, srcs=None, plain=emu.parse_pcode):
        names, writes = plain(PERMUTE_LANE.sub(lambda m: f"src_lane = {m[1]} >> 2U & {lanes[m[2]]}", pcode), srcs)
        if PERMUTE_LANE.search(pcode):  # one write for each lane, in their order
            on = [emu._lane_active(srcs["EXEC"], emu._c(lane)) for lane in range(len(writes))]
            writes = [(name, (at.valid(is_on), value)) for is_on, (name, (at, value)) in zip(on, writes)]
        return names, writes

    emu.parse_pcode = parse


def mend_halves(emu):
    """Its ds_load_*_d16 and _d16_hi write the whole register, the loaded half in the lower one. The guides say of DS_LOAD_U16_D16
    "RETURN_DATA[31:16] is preserved"; so does the emulator with global loads."""

    class KeepsHigh(emu._Ctx):
        __slots__ = ()

        def wvgpr_dyn(self, reg, lane, val, *more):
            low = emu._to_u32(val) & emu._c(0xFFFF)
            return super().wvgpr_dyn(reg, lane, self.rvgpr_dyn(reg, lane) & emu._c(0xFFFF0000) | low, *more)

    class KeepsLow(emu._Ctx):
        __slots__ = ()

        def wvgpr_dyn(self, reg, lane, val, *more):
            high = emu._to_u32(val) << emu._c(16)
            return super().wvgpr_dyn(reg, lane, self.rvgpr_dyn(reg, lane) & emu._c(0xFFFF) | high, *more)

    def compile_ds(inst, ctx, plain=emu._compile_mem_op):
        if found := DS_LOAD_HALF.match(emu._op_name(inst)):
            ctx.__class__ = KeepsLow if found[1] else KeepsHigh
        return plain(inst, ctx)

    for kind in emu._inst_kinds("DS"):
        emu._INST_HANDLERS[kind] = compile_ds


def mend_atomics(emu):
    """It knows by the bit glc alone whether an atomic gives back what was there. gfx942's guide calls the bit SC0 ("atomic with
    return"), gfx12's is the lowest of TH (TH_ATOMIC_RETURN)."""

    def iattr(inst, name, default=0, plain=emu._iattr):
        if name == "glc" and "ATOMIC" in emu._op_name(inst):
            return plain(inst, "glc") | plain(inst, "sc0") | plain(inst, "th") & 1
        return plain(inst, name, default)

    emu._iattr = iattr


def map_all_of_lds(emu):
    """In the emulator a lane that is switched off still reads from LDS, at whatever its address register happens to hold: so
    there is memory behind every address that 32 bits can name. Nobody uses what is read there."""
    room = mmap.mmap(-1, LDS_REACH, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
    address, plain = ctypes.addressof(ctypes.c_char.from_buffer(room)), emu.Buffer

    def buffer(device, n, dtype, options=None, **more):
        is_lds = options is None and dtype == emu.dtypes.uint32 and sys._getframe(1).f_code.co_name == "run_asm"
        if is_lds:
            ctypes.memset(address, 0, 4 * n)
            options = emu.BufferSpec(external_ptr=address)
        return plain(device, n, dtype, options=options, **more)

    emu.Buffer, emu.lds_room = buffer, room  # the room must live as long


def disassemble(code):
    tool = next(filter(shutil.which, ("llvm-objdump-22", "llvm-objdump-21", "llvm-objdump-20", "llvm-objdump")), None)
    if not tool:
        raise FileNotFoundError("llvm-objdump 20 or newer is needed")
    with tempfile.NamedTemporaryFile(suffix=".co") as f:
        f.write(code)
        f.flush()
        return subprocess.run([tool, "-d", f.name], capture_output=True, text=True, check=True).stdout


class CodeObject:
    kept = []  # images: what was decoded at their addresses must stay true

    def __init__(self, emulator, arch, code):
        if arch[:5] not in FAMILIES:
            raise ValueError(f"the emulator does not know {arch}")
        self.emulator, self.family = emulator, FAMILIES[arch[:5]]
        self.image = self._load(code)
        self.kept.append(self.image)
        self.symbols = dict(self._symbols(code))
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.image))
        self._drop_cache_instructions(code)

    @staticmethod
    def _load(code):
        at, size, n = *struct.unpack_from("<Q", code, 32), *struct.unpack_from("<HH", code, 54)
        headers = [struct.unpack_from("<IIQQQQQQ", code, at + i * size) for i in range(n)]
        loads = [(offset, place, n_file, n_memory) for kind, _, offset, place, _, n_file, n_memory, _ in headers if kind == PT_LOAD]
        end = max(place + n_memory for _, place, _, n_memory in loads)
        image = mmap.mmap(-1, end // PAGE * PAGE + 2 * PAGE)  # the emulator may decode a little past the last instruction
        for offset, place, n_file, _ in loads:
            image[place : place + n_file] = code[offset : offset + n_file]
        return image

    @staticmethod
    def _symbols(code):
        at, size, n = *struct.unpack_from("<Q", code, 40), *struct.unpack_from("<HH", code, 58)
        sections = [struct.unpack_from("<IIQQQQII", code, at + i * size) for i in range(n)]
        for _, kind, _, _, offset, n_bytes, link, _ in sections:
            if kind != SHT_DYNSYM:
                continue
            strings = sections[link][4]
            for name, _, _, _, value, _ in struct.iter_unpack("<IBBHQQ", code[offset : offset + n_bytes]):
                start = strings + name
                yield code[start : code.index(b"\0", start)].decode(), value

    def _drop_cache_instructions(self, code):
        for found in map(CODE_LINE.match, disassemble(code).splitlines()):
            if found and CACHE_ONLY.match(found[1]):
                for i in range(len(found[3].split())):
                    struct.pack_into("<I", self.image, int(found[2], 16) + 4 * i, S_NOP)

    def run(self, kernel, grid, block, args):
        if kernel + ".kd" not in self.symbols:
            raise KeyError(f"the code object has no kernel {kernel}")
        at = self.symbols[kernel + ".kd"]
        lds, scratch = struct.unpack_from("<II", self.image, at)
        (entry,) = struct.unpack_from("<q", self.image, at + 16)
        rsrc1, rsrc2, properties = struct.unpack_from("<IIH", self.image, at + 48)
        kernarg = ctypes.create_string_buffer(args + hidden_arguments(len(args), grid, block), KERNARG_BYTES)
        packet = ctypes.create_string_buffer(dispatch_packet(grid, block), DISPATCH_PACKET_BYTES)
        values = {DISPATCH_PTR: ctypes.addressof(packet), KERNARG_PTR: ctypes.addressof(kernarg), SCRATCH_SIZE: scratch}
        sgprs = [values.get(bit, 0) >> 32 * i & 0xFFFFFFFF for bit, n in USER_SGPRS if properties >> bit & 1 for i in range(n)]
        rsrc2 = rsrc2 & ~(LDS_MASK << LDS_SHIFT) | -(-lds // LDS_UNIT) << LDS_SHIFT
        with self._denormals(rsrc1):
            self.emulator.run_asm(self.address + at + entry, len(self.image), *grid, block, 1, 1, ctypes.addressof(kernarg), rsrc2,
                                  scratch, self.family, sgprs)

    @contextlib.contextmanager
    def _denormals(self, rsrc1):
        """The emulator flushes denormal numbers; a kernel that says it keeps them must keep them."""
        kept = self.emulator._MXCSRContext
        if rsrc1 & KEEPS_DENORMALS == KEEPS_DENORMALS:
            self.emulator._MXCSRContext = contextlib.nullcontext
        try:
            yield
        finally:
            self.emulator._MXCSRContext = kept


def hidden_arguments(n_bytes, grid, block):
    """Behind the kernel's own: numbers of blocks, threads of a block, remainders, 40 bytes of others, dimensions."""
    return bytes(-n_bytes % 8) + struct.pack("<3I6H40xH", *grid, block, 1, 1, 0, 0, 0, 3)


def dispatch_packet(grid, block):
    """hsa_kernel_dispatch_packet_t: header, setup, threads of a block, padding, threads of the grid."""
    return struct.pack("<HHHHHHIII", 0, 3, block, 1, 1, 0, grid[0] * block, grid[1], grid[2])
