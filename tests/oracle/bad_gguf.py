"""Bad GGUF files, made here, each with the reason code that it must be refused with.

`cases()` gives a list of Case: a name, the files to write (the first is the one to open), the expected code and a text that
the message must hold: the offending key, tensor or file. A few must open (`ok`): the controls that show the others are
refused for the reason meant. Nothing is random; the list is the same on every machine. The holes that these inputs come
from are public: CVE-2024-21802, -21825, -21836, -23496, -23605, CVE-2025-53630, CVE-2026-27940, -33298 and the issues of
llama.cpp named below (lc#N).

This is the container only. Bad models in good containers (hyperparameters, vocabularies, shapes) are made elsewhere.
`python bad_gguf.py DIR` writes all of them, as seeds for the fuzzer.
"""
import dataclasses
import pathlib
import struct
import sys

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
SIZE = {U8: 1, I8: 1, U16: 2, I16: 2, U32: 4, I32: 4, F32: 4, BOOL: 1, U64: 8, I64: 8, F64: 8}
NAME = {U8: "u8", I8: "i8", U16: "u16", I16: "i16", U32: "u32", I32: "i32", F32: "f32", BOOL: "bool", STRING: "string",
        ARRAY: "array", U64: "u64", I64: "i64", F64: "f64"}
# id: (name, elements, bytes) of a block
TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18), 42: ("Q2_0", 64, 18)}
MAX_STRING = MAX_ARRAY = 16 << 20
MAX_COUNT = 65536
HUGE = {"2^64-1": 2**64 - 1, "2^64-8": 2**64 - 8, "2^63": 2**63, "2^63-1": 2**63 - 1, "2^61+1": 2**61 + 1, "2^32": 2**32}


@dataclasses.dataclass
class Case:
    name: str
    code: str
    mentions: str
    files: dict  # file name -> bytes; the first is opened


def u32(v):
    return struct.pack("<I", v)


def u64(v):
    return struct.pack("<Q", v)


def text(s):
    b = s if isinstance(s, bytes) else s.encode()
    return u64(len(b)) + b


def kv(key, kind, value):
    """One pair; value: the bytes after the type."""
    return text(key) + u32(kind) + value


def kv_u32(key, v):
    return kv(key, U32, u32(v))


def kv_str(key, v):
    return kv(key, STRING, text(v))


def array(elem, n, body):
    return u32(elem) + u64(n) + body


def tensor(name, dims, kind=0, offset=0, n_dims=None):
    return text(name) + u32(len(dims) if n_dims is None else n_dims) + b"".join(map(u64, dims)) + u32(kind) + u64(offset)


def pad(b, align=32):
    return b + bytes(-len(b) % align)


def gguf(kvs=(), tensors=(), data=b"", version=3, magic=b"GGUF", n_kv=None, n_tensors=None, align=32):
    head = magic + u32(version)
    head += u64(len(tensors) if n_tensors is None else n_tensors) + u64(len(kvs) if n_kv is None else n_kv)
    head += b"".join(kvs) + b"".join(tensors)
    return pad(head, align) + data if data else head


ARCH = kv_str("general.architecture", "llama")
GOOD = gguf([ARCH], [tensor("w", [8, 2])], bytes(64))


def one(name, code, mentions, blob):
    return Case(name, code, mentions, {"model.gguf": blob})


def good():
    yield one("good/small", "ok", "", GOOD)
    yield one("good/v2", "ok", "", gguf([ARCH], [tensor("w", [8, 2])], bytes(64), version=2))
    yield one("good/header-only", "ok", "", gguf())
    yield one("good/no-tensors", "ok", "", gguf([ARCH]))
    yield one("good/scalar", "ok", "", gguf([ARCH], [tensor("w", [])], bytes(4)))
    yield one("good/bytes-behind", "ok", "", GOOD + b"trailing")
    yield one("good/gap", "ok", "", gguf([], [tensor("a", [1]), tensor("b", [1], offset=96)], bytes(100)))
    yield one("good/key-65535-bytes", "ok", "", gguf([kv_u32("k" * 65535, 1)]))
    yield one("good/name-63-bytes", "ok", "", gguf([], [tensor("n" * 63, [1])], bytes(4)))
    yield one("good/binary-value", "ok", "", gguf([kv_str("k", bytes(range(256)))]))
    yield one("good/merged-split", "ok", "",
              gguf([kv("split.no", U16, b"\0\0"), kv("split.count", U16, b"\0\0"), kv("split.tensors.count", I32, u32(9))]))
    for align in (8, 16, 64, 4096, 1 << 20):
        yield one(f"good/align-{align}", "ok", "", gguf([kv_u32("general.alignment", align)], [tensor("w", [1])], bytes(4),
                                                        align=align))
    for kind, (name, elems, size) in TYPES.items():
        yield one(f"good/type-{name}", "ok", "", gguf([], [tensor("w", [elems, 2], kind)], bytes(2 * size)))
    for kind, size in SIZE.items():
        yield one(f"good/empty-array-{NAME[kind]}", "ok", "", gguf([kv("k", ARRAY, array(kind, 0, b""))]))


def headers():
    for magic in (b"FUGG", b"gguf", b"GGML", b"ggjt", b"GGUf", b"UGGF", b"\0\0\0\0", b"PK\3\4", b"\x7fELF", b"{\"a\"", b"\xff" * 4):
        yield one(f"magic/{magic.hex()}", "gguf.magic", "not a GGUF", gguf([ARCH], magic=magic))
    for version in (2, 3, 1):
        swapped = struct.unpack("<I", struct.pack(">I", version))[0]
        yield one(f"magic/big-endian-v{version}", "gguf.magic", "big-endian", gguf([ARCH], version=swapped))
    for version in (0, 1, 4, 5, 16, 255, 65535, 2**24 + 3, 2**32 - 1, 2**31 - 1):
        yield one(f"version/{version}", "gguf.version" , "version", gguf([ARCH], version=version))
    for n in range(0, 24):
        yield one(f"short/{n}-bytes", "gguf.truncated", "", gguf()[:n])
    yield one("short/wrong-2-bytes", "gguf.magic", "not a GGUF", b"PK")


def counts():
    wide = {**HUGE, "size_max/56+1": (2**64 - 1) // 56 + 1, "size_max/96+1": (2**64 - 1) // 96 + 1, "2^31": 2**31,
            "65537": 65537, "2^64/14": 2**64 // 14 + 1, "2^64/25": 2**64 // 25 + 1}
    for label, n in wide.items():
        yield one(f"count/kv-{label}", "gguf.limit", "keys", gguf(n_kv=n))
        yield one(f"count/tensors-{label}", "gguf.limit", "tensors", gguf(n_tensors=n))
        yield one(f"count/kv-{label}-before-a-good-one", "gguf.limit", "keys", gguf([ARCH], n_kv=n))
    for n in (1, 2, 1000, 65536):
        yield one(f"count/kv-{n}-of-none", "gguf.truncated", "keys", gguf(n_kv=n))
        yield one(f"count/tensors-{n}-of-none", "gguf.truncated", "tensors", gguf(n_tensors=n))
    yield one("count/one-kv-too-many", "gguf.truncated", "key 1", gguf([ARCH], n_kv=2) + u64(20) + b"k" * 6)
    yield one("count/one-kv-too-many-zeros", "gguf.key", "key 1", gguf([ARCH], n_kv=2) + bytes(14))
    yield one("count/one-tensor-too-many", "gguf.tensor", "tensor 1", gguf([], [tensor("w", [8, 2])], bytes(64), n_tensors=2))
    yield one("count/one-kv-too-few", "gguf.tensor", "tensor 0", gguf([ARCH, kv_u32("b" * 70, 1)], [tensor("w", [8, 2])],
                                                                     bytes(64), n_kv=1))


def strings():
    lengths = {**HUGE, "2^30+1": 2**30 + 1, "16Mi+1": MAX_STRING + 1}
    for label, n in lengths.items():
        yield one(f"string/key-{label}", "gguf.limit", "key 0", gguf(n_kv=1) + u64(n) + bytes(64))
        yield one(f"string/second-key-{label}", "gguf.limit", "key 1", gguf([ARCH], n_kv=2) + u64(n) + bytes(64))
        yield one(f"string/value-{label}", "gguf.limit", "'k'", gguf([kv("k", STRING, u64(n) + bytes(64))]))
        yield one(f"string/element-{label}", "gguf.limit", "string 1",
                  gguf([kv("k", ARRAY, array(STRING, 3, text("a") + u64(n) + bytes(64)))]))
        yield one(f"string/name-{label}", "gguf.tensor", "tensor 0", gguf(n_tensors=1) + u64(n) + bytes(64))
    for past in (1, 2, 8):
        yield one(f"string/key-{past}-past-the-end", "gguf.truncated", "key 0", gguf(n_kv=1) + u64(64 + past) + b"k" * 64)
        yield one(f"string/value-{past}-past-the-end", "gguf.truncated", "'k'",
                  gguf([kv("k", STRING, u64(64 + past) + b"v" * 64)]))
        yield one(f"string/element-{past}-past-the-end", "gguf.truncated", "'k'",
                  gguf([kv("k", ARRAY, array(STRING, 2, text("a") + u64(64 + past) + b"v" * 64))]))
        yield one(f"string/name-{past}-past-the-end", "gguf.truncated", "tensor 0",
                  gguf(n_tensors=1) + u64(20 + past) + b"n" * 20)
    yield one("string/key-65536-bytes", "gguf.limit", "key 0", gguf([kv_u32("k" * 65536, 1)]))


def arrays():
    for kind in [*SIZE, STRING]:
        size = SIZE.get(kind, 8)
        for label, n in {**HUGE, "16Mi+1": MAX_ARRAY + 1}.items():
            yield one(f"array/{NAME[kind]}-{label}", "gguf.limit", "'k'", gguf([kv("k", ARRAY, array(kind, n, bytes(64)))]))
        yield one(f"array/{NAME[kind]}-one-too-many", "gguf.truncated", "'k'",
                  gguf([kv("k", ARRAY, array(kind, 64 // size + 1, bytes(64)))]))
        yield one(f"array/{NAME[kind]}-16Mi-of-none", "gguf.truncated", "'k'",
                  gguf([kv("k", ARRAY, array(kind, MAX_ARRAY, bytes(64)))]))
    for depth in (1, 2, 3, 1000, 100000):
        body = array(U8, 1, b"\1")
        yield one(f"array/nested-{depth}", "gguf.key", "arrays of arrays",
                  gguf([kv("k", ARRAY, (u32(ARRAY) + u64(1)) * depth + body)]))
    yield one("array/nested-huge", "gguf.key", "arrays of arrays", gguf([kv("k", ARRAY, array(ARRAY, 2**64 - 1, b""))]))
    for kind in (13, 14, 255, 2**31, 2**32 - 1):
        yield one(f"type/kv-{kind}", "gguf.key", "'k'", gguf([kv("k", kind, bytes(64))]))
        yield one(f"type/element-{kind}", "gguf.key", "'k'", gguf([kv("k", ARRAY, array(kind, 4, bytes(64)))]))
    for kind, size in SIZE.items():
        if size > 1:
            yield one(f"value/{NAME[kind]}-cut", "gguf.truncated", "'kkkkkkkkkkkk'",
                      gguf([kv("kkkkkkkkkkkk", kind, bytes(size - 1))]))
    for v in (2, 128, 255):
        yield one(f"bool/{v}", "gguf.key", "'flag'", gguf([kv("flag", BOOL, bytes([v]))]))
        yield one(f"bool/array-{v}", "gguf.key", "'flags'", gguf([kv("flags", ARRAY, array(BOOL, 3, bytes([0, 1, v])))]))


BAD_UTF8 = (b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc3", b"\xe0\x80\x80", b"\xe2\x82", b"\xed\xa0\x80", b"\xed\xbf\xbf",
            b"\xf0\x80\x80\x80", b"\xf0\x9f\x98", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xff", b"\xfe")


def key_names():
    yield one("key/empty", "gguf.key", "key 1", gguf([ARCH, kv_u32("", 1)]))  # lc#24884: 37 bytes, an assertion
    yield one("key/empty-alone", "gguf.key", "key 0", gguf([kv_u32("", 1)]) + bytes(9))
    for bad in BAD_UTF8:
        yield one(f"key/utf8-{bad.hex()}", "gguf.key", "UTF-8", gguf([kv_u32(b"key" + bad, 1)]))
        yield one(f"tensor-name/utf8-{bad.hex()}", "gguf.tensor", "UTF-8", gguf([], [tensor(b"w" + bad, [1])], bytes(4)))
    for where, key in {"first": b"\0key", "inside": b"ke\0y", "last": b"key\0", "only": b"\0"}.items():
        yield one(f"key/nul-{where}", "gguf.key", "NUL", gguf([kv_u32(key, 1)]))
        yield one(f"tensor-name/nul-{where}", "gguf.tensor", "NUL", gguf([], [tensor(key, [1])], bytes(4)))
    yield one("tensor-name/empty", "gguf.tensor", "tensor 0", gguf([], [tensor("", [1, 1])], bytes(4)))
    for n in (64, 65, 127, 255, 65536):
        yield one(f"tensor-name/{n}-bytes", "gguf.tensor", "tensor 0", gguf([], [tensor("n" * n, [1])], bytes(4)))


def duplicates():
    yield one("twice/key", "gguf.key", "'a.b'", gguf([kv_u32("a.b", 1), kv_u32("a.b", 1)]))
    yield one("twice/key-other-type", "gguf.key", "'a.b'", gguf([kv_u32("a.b", 1), ARCH, kv_str("a.b", "x")]))
    yield one("twice/alignment", "gguf.key", "'general.alignment'",
              gguf([kv_u32("general.alignment", 32), kv_u32("general.alignment", 64)]))
    yield one("twice/last-of-5000-keys", "gguf.key", "'key.17'", gguf([kv_u32(f"key.{i}", i) for i in range(5000)] + [kv_u32("key.17", 0)]))
    yield one("twice/tensor", "gguf.tensor", "'w'", gguf([], [tensor("w", [8]), tensor("w", [8], offset=32)], bytes(64)))
    many = [tensor(f"t.{i}", [8], offset=32 * i) for i in range(500)] + [tensor("t.3", [8], offset=32 * 500)]
    yield one("twice/last-of-501-tensors", "gguf.tensor", "'t.3'", gguf([], many, bytes(32 * 501)))


def alignments():
    w = [tensor("w", [8])]
    for v in (0, 1, 2, 3, 4, 5, 7, 12, 13, 24, 31, 33, 48, 100, 2**20 - 1, 2**20 + 1, 2**21, 2**24, 2**30, 2**31, 2**31 + 1, 2**32 - 1):
        yield one(f"align/{v}", "gguf.key", "general.alignment", gguf([kv_u32("general.alignment", v)], w, bytes(4096)))
    for kind, body in {U8: b" ", U16: b" \0", I32: u32(32), U64: u64(32), I64: u64(32), F32: u32(0x42000000), BOOL: b"\1",
                       STRING: text("32"), ARRAY: array(U32, 1, u32(32))}.items():
        yield one(f"align/of-type-{NAME[kind]}", "gguf.key", "general.alignment", gguf([kv("general.alignment", kind, body)], w, bytes(64)))


def shapes():
    for n in (5, 6, 255, 256, 65536, 2**31, 2**32 - 1):  # CVE-2024-21802
        yield one(f"dims/{n}", "gguf.tensor", "'w'", gguf([], [tensor("w", [1] * 6, n_dims=n)], bytes(64)))
    for n in range(1, 5):
        for at in range(n):
            dims = [2] * n
            dims[at] = 0
            yield one(f"dims/zero-{at}-of-{n}", "gguf.tensor", "'w'", gguf([], [tensor("w", dims)], bytes(64)))
    wide = {"2^64-1": [2**64 - 1], "2^63": [2**63], "2^32x2^32": [2**32, 2**32], "2^31x2^31x4": [2**31, 2**31, 4],
            "2^63-1x3": [2**63 - 1, 3], "3x2^63-1": [3, 2**63 - 1], "2^16-four-times": [2**16] * 4, "2^62x2": [2**62, 2],
            "1x1x1x2^64-1": [1, 1, 1, 2**64 - 1], "2^33x2^31": [2**33, 2**31], "two-2^63-1": [2**63 - 1, 2**63 - 1],
            "5x2^62": [5, 2**62]}
    for label, dims in wide.items():
        for kind in (0, 24):
            yield one(f"dims/{label}-{TYPES[kind][0]}", "gguf.tensor", "'w'", gguf([], [tensor("w", dims, kind)], bytes(64)))
    # the sum or product wraps only once bytes are counted
    yield one("poc/pad-to-zero", "gguf.tensor", "'w'", gguf([], [tensor("w", [4611686018427387903])], bytes(64)))  # lc#26318
    yield one("poc/f64-2^61", "gguf.tensor", "'w'", gguf([], [tensor("w", [2**61], 28)], bytes(64)))
    yield one("poc/two-i8-sum-wraps", "gguf.truncated", "'a'",  # CVE-2025-53630
              gguf([], [tensor("a", [0x7FFFFFFFFFFFFFC0], 24), tensor("b", [0x7FFFFFFFFFFFFFC0], 24, 0x7FFFFFFFFFFFFFC0)], bytes(64)))
    yield one("poc/offset-plus-size-wraps", "gguf.tensor", "'w'", gguf([], [tensor("w", [2**62], 1, 2**64 - 32)], bytes(64)))
    for kind in (2, 8):  # CVE-2026-33298: the product of strides wraps to 4 bytes
        elems, size = TYPES[kind][1:]
        n = (2**64 // size + 1) * elems
        yield one(f"poc/nbytes-wraps-{TYPES[kind][0]}", "gguf.tensor" if n >= 2**63 else "gguf.truncated", "'w'",
                  gguf([], [tensor("w", [elems, n // elems], kind)], bytes(1024)))
    yield one("poc/576-petabytes", "gguf.truncated", "'w'", gguf([], [tensor("w", [2**60], 2)], bytes(64)))
    yield one("poc/zero-rows", "gguf.tensor", "'w'", gguf([], [tensor("w", [4, 0])]) + bytes(32))  # lc#8816: SIGFPE


def types():
    for kind in (4, 5, 31, 32, 33, 36, 37, 38, 100, 133, 144, 255, 1000, 65536 + 8, 2**31, 2**31 + 8, 2**32 - 1):
        yield one(f"type/tensor-{kind}", "gguf.tensor", "'w'", gguf([], [tensor("w", [256, 2], kind)], bytes(4096)))
    for kind, (name, elems, size) in TYPES.items():
        if elems > 1:
            for n in (1, elems - 1, elems + 1, elems // 2):
                yield one(f"rows/{name}-{n}", "gguf.tensor", "'w'", gguf([], [tensor("w", [n, elems], kind)], bytes(size * elems * 2)))
        yield one(f"short-data/{name}", "gguf.truncated", "'w'", gguf([], [tensor("w", [elems, 4], kind)], bytes(4 * size - 1)))


def places():
    for offset in (1, 4, 8, 16, 31, 33, 2**63 + 1, 2**64 - 1, 2**64 - 33):
        yield one(f"offset/{offset}-unaligned", "gguf.tensor", "'w'", gguf([], [tensor("w", [8], offset=offset)], bytes(4096)))
    for offset in (2**63 - 32, 2**63, 2**64 - 64):
        yield one(f"offset/{offset}-past-all-files", "gguf.tensor", "'w'", gguf([], [tensor("w", [8], offset=offset)], bytes(32)))
    for offset in (32, 64, 4096, 2**31, 2**32, 2**40, 2**62):
        yield one(f"offset/{offset}-past-the-end", "gguf.truncated", "'w'", gguf([], [tensor("w", [8], offset=offset)], bytes(32)))
    yield one("offset/2^64-32-wraps", "gguf.tensor", "'w'", gguf([], [tensor("w", [8], offset=2**64 - 32)], bytes(32)))
    yield one("offset/2^64-64-wraps", "gguf.tensor", "'w'", gguf([], [tensor("w", [32], offset=2**64 - 64)], bytes(256)))
    yield one("overlap/same-place", "gguf.tensor", "'b'", gguf([], [tensor("a", [8]), tensor("b", [8])], bytes(64)))
    yield one("overlap/half", "gguf.tensor", "'b'", gguf([], [tensor("a", [16]), tensor("b", [16], offset=32)], bytes(128)))
    yield one("overlap/inside", "gguf.tensor", "'b'", gguf([], [tensor("a", [64]), tensor("b", [8], offset=64)], bytes(256)))
    yield one("overlap/descending", "gguf.tensor", "'b'", gguf([], [tensor("a", [8], offset=32), tensor("b", [8])], bytes(64)))
    everywhere = [tensor(f"t{i}", [1024]) for i in range(1000)]
    yield one("overlap/1000-tensors-in-one-place", "gguf.tensor", "'t1'", gguf([], everywhere, bytes(4096)))
    for n in (0, 1, 31, 32, 63):
        yield one(f"cut/data-{n}-of-64", "gguf.truncated", "'w'", GOOD[:len(GOOD) - 64 + n])
    yield one("cut/in-the-padding", "gguf.truncated", "'w'", gguf([ARCH], [tensor("w", [8, 2])]))
    yield one("cut/second-tensor", "gguf.truncated", "'b'", gguf([], [tensor("a", [8]), tensor("b", [8], offset=32)], bytes(63)))


def truncations():
    """A header cut at every byte; at each the message names the record that the file ends in, or the counts."""
    head = gguf([ARCH, kv("many", ARRAY, array(STRING, 2, text("one") + text("two")))], [tensor("weight", [8, 2])])
    for n in range(24, len(head)):
        yield one(f"cut/header-{n}", "gguf.truncated", "", head[:n])


def shard(no, count, total, names, kvs=(), kinds=(U16, U16, I32), **more):
    keys = []
    for key, kind, v in (("split.no", kinds[0], no), ("split.count", kinds[1], count), ("split.tensors.count", kinds[2], total)):
        if v is not None:
            keys.append(kv(key, kind, text(v) if kind == STRING else struct.pack({U16: "<H", U32: "<I", I32: "<i", U64: "<Q", U8: "<B"}[kind], v)))
    return gguf([*kvs, *keys], [tensor(n, [8], offset=32 * i) for i, n in enumerate(names)], bytes(32 * len(names)), **more)


def splits():
    one_of_two, two_of_two = "m-00001-of-00002.gguf", "m-00002-of-00002.gguf"
    a, b = shard(0, 2, 2, "a", [ARCH]), shard(1, 2, 2, "b")

    def pair(name, code, mentions, first, second, names=(one_of_two, two_of_two)):
        files = {names[0]: first}
        if second is not None:
            files[names[1]] = second
        return Case("split/" + name, code, mentions, files)

    yield pair("good", "ok", "", a, b)
    yield pair("good-repeats-keys", "ok", "", a, shard(1, 2, 2, "b", [ARCH]))
    yield pair("good-own-alignment", "ok", "", a, shard(1, 2, 2, "b", [kv_u32("general.alignment", 64)], align=64))
    yield pair("good-empty-first", "ok", "", shard(0, 2, 1, "", [ARCH]), shard(1, 2, 1, "b"))
    three = {f"m-0000{i + 1}-of-00003.gguf": shard(i, 3, 3, "abc"[i]) for i in range(3)}
    yield Case("split/good-three", "ok", "", three)
    yield pair("missing-shard", "gguf.split", two_of_two, a, None)
    yield pair("missing-shards-of-1024", "gguf.split", "m-00002-of-01024.gguf", shard(0, 1024, 2, "a"), None,
               ("m-00001-of-01024.gguf", ""))
    yield pair("count-65535", "gguf.split", "split.count", shard(0, 65535, 2, "a"), None, ("m-00001-of-65535.gguf", ""))
    yield pair("count-2^32-1", "gguf.split", "split.count", shard(0, 2**32 - 1, 2, "a", kinds=(U16, U32, I32)), None)
    yield pair("count-2^64-1", "gguf.key", "split.count", shard(0, 2**64 - 1, 2, "a", kinds=(U16, U64, I32)), None)
    yield pair("count-0-no-1", "gguf.split", "split.no", shard(1, 0, 1, "a"), None)
    yield pair("no-above-count", "gguf.split", "split.no", shard(3, 2, 2, "a"), b)
    yield pair("no-equals-count", "gguf.split", "split.no", shard(2, 2, 2, "a"), b)
    yield pair("no-65535", "gguf.split", "split.no", shard(65535, 2, 2, "a"), b)
    yield pair("count-is-a-string", "gguf.key", "split.count", shard(0, "2", 2, "a", kinds=(U16, STRING, I32)), b)
    yield pair("no-is-negative", "gguf.key", "split.no", shard(-1, 2, 2, "a", kinds=(I32, U16, I32)), b)
    yield pair("count-is-negative", "gguf.key", "split.count", shard(0, -2, 2, "a", kinds=(U16, I32, I32)), b)
    yield pair("tensors-count-is-negative", "gguf.key", "split.tensors.count", shard(0, 2, -2, "a"), b)
    yield pair("tensors-count-missing", "gguf.split", "split.tensors.count", shard(0, 2, None, "a"), b)
    yield pair("tensors-count-too-high", "gguf.split", "split.tensors.count", shard(0, 2, 3, "a"), shard(1, 2, 3, "b"))
    yield pair("tensors-count-too-low", "gguf.split", "split.tensors.count", shard(0, 2, 1, "a"), shard(1, 2, 1, "b"))
    yield pair("tensors-counts-differ", "gguf.split", "split.tensors.count", a, shard(1, 2, 5, "b"))
    yield pair("second-opened-first", "gguf.split", "00001-of-00002", b, a, (two_of_two, one_of_two))
    yield pair("second-says-first", "gguf.split", "shard 2 of 2", a, shard(0, 2, 2, "b"))
    yield pair("second-is-the-first", "gguf.split", "shard 2 of 2", a, a)
    yield pair("second-of-three", "gguf.split", "shard 2 of 2", a, shard(1, 3, 2, "b"))
    yield pair("second-without-keys", "gguf.split", "split.no", a, gguf([ARCH], [tensor("b", [8])], bytes(32)))
    yield pair("second-without-count", "gguf.split", "split.count", a, shard(1, None, 2, "b"))
    yield pair("second-of-another-model", "gguf.split", "'general.architecture'", a,
               shard(1, 2, 2, "b", [kv_str("general.architecture", "qwen2")]))
    yield pair("second-with-another-type", "gguf.split", "'general.architecture'", a,
               shard(1, 2, 2, "b", [kv_u32("general.architecture", 5)]))
    yield pair("same-tensor-in-both", "gguf.tensor", "'a'", a, shard(1, 2, 2, "a"))
    yield pair("second-is-cut", "gguf.truncated", two_of_two, a, b[:-1])
    yield pair("second-is-empty", "gguf.truncated", two_of_two, a, b"")
    yield pair("second-is-no-gguf", "gguf.magic", two_of_two, a, b"x" * 100)
    yield pair("second-has-bad-type", "gguf.tensor", "shard 2 of 2",
               a, gguf([kv("split.no", U16, b"\1\0"), kv("split.count", U16, b"\2\0")], [tensor("b", [8], 4)], bytes(32)))
    for label, name in {"plain": "m.gguf", "other-count": "m-00001-of-00003.gguf", "no-hyphen": "m00001-of-00002.gguf",
                        "upper-case": "m-00001-of-00002.GGUF", "four-digits": "m-0001-of-0002.gguf"}.items():
        yield pair(f"name-{label}", "gguf.split", name, a, b, (name, two_of_two))


GROUPS = (good, headers, counts, strings, arrays, key_names, duplicates, alignments, shapes, types, places, truncations, splits)


def cases():
    made = [case for group in GROUPS for case in group()]
    assert len({c.name for c in made}) == len(made), "two cases of one name"
    return made


def main():
    to = pathlib.Path(sys.argv[1])
    to.mkdir(parents=True, exist_ok=True)
    for case in cases():
        for i, blob in enumerate(case.files.values()):
            (to / f"{case.name.replace('/', '-')}.{i}").write_bytes(blob)


if __name__ == "__main__":
    main()
