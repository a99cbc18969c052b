"""Pickles that mean harm, by name: some want to run code, some to eat memory or time, some are only broken."""

import struct

START, END = b"\x80\x02", b"."


def named(module, name):
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def text(word):
    raw = word.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def call(module, name, *arguments):
    return named(module, name) + b"(" + b"".join(arguments) + b"tR"


RUN_CODE = {
    "a shell command": START + call("posix", "system", text("echo gotcha")) + END,
    "a shell command in protocol 0": b"cposix\nsystem\n(S'echo gotcha'\ntR.",
    "a shell command by STACK_GLOBAL": b"\x80\x04" + text("posix") + text("system") + b"\x93" + text("ls") + b"\x85R.",
    "a shell command deep inside": START + b"}" + text("w") + b"](" + call("os", "system", text("ls")) + b"es.",
    "eval": START + call("builtins", "eval", text("__import__('os')")) + END,
    "getattr": START + call("builtins", "getattr", text("a"), text("upper")) + END,
    "an import": START + call("importlib", "import_module", text("antigravity")) + END,
    "a name inside a known function": START + named("torch._utils", "_rebuild_tensor_v2.__globals__") + END,
    "torch.load": START + call("torch", "load", text("other.pth")) + END,
    "a class as a value": START + named("subprocess", "Popen") + END,
    "INST": b"(S'echo gotcha'\niposix\nsystem\n.",
    "OBJ": START + b"(" + named("posix", "system") + text("echo") + b"o.",
    "OBJ of a known class": START + b"(" + named("collections", "OrderedDict") + b"o.",
    "EXT1": START + b"\x82\x01.",
    "EXT4": START + b"\x84\x01\x00\x00\x00.",
    "NEWOBJ_EX": b"\x80\x04" + named("collections", "OrderedDict") + b")}\x92.",
    "NEXT_BUFFER": b"\x80\x05\x97.",
    "PERSID": b"Pkey\n.",
    "a call of what a call gave": START + call("collections", "OrderedDict") + b")R.",
    "a known function as a value": START + named("collections", "OrderedDict") + END,
}

LAUGHS = b"".join(b"](" + b"h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(60))

BROKEN = {
    "nothing": b"",
    "no end": START + b"K\x01",
    "an unknown instruction": START + b"\xff.",
    "an empty stack": START + END,
    "two values": START + b"K\x01K\x02.",
    "POP of nothing": START + b"0.",
    "REDUCE of nothing": START + b"R.",
    "a call without a tuple": START + named("collections", "OrderedDict") + b"]R.",
    "APPEND to a dict": START + b"}K\x01a.",
    "SETITEM on a list": START + b"]K\x01K\x02s.",
    "SETITEMS on a string": START + text("a") + b"(K\x01K\x02u.",
    "SETITEMS of an odd count": START + b"}(K\x01K\x02K\x03u.",
    "ADDITEMS to a list": b"\x80\x04](K\x01\x90.",
    "BUILD on a number": START + b"K\x01}b.",
    "a list as a key": START + b"}]K\x01s.",
    "a key whose hash was chosen": START + b"}\x8a\x09" + (2**66 - 2**5).to_bytes(9, "little") + b"K\x01s.",
    "a key of two numbers": START + b"}\x8a\x08" + b"\x01" * 8 + b"\x8a\x08" + b"\x01" * 8 + b"\x86K\x01s.",
    "a set of tuples of tuples": START + b"}" + call("builtins", "set", b"]K\x01\x85\x85a") + b"K\x01s.",
    "a set of a text": START + b"]" + call("builtins", "set", text("abc")) + b"a.",
    "a table of texts": START + b"]" + call("collections", "OrderedDict", b"]" + text("ab") + b"a") + b"a.",
    "GET of nothing": START + b"h\x07.",
    "PUT far away": START + b"K\x01p" + b"9" * 40 + b"\n.",
    "a number of two million bits": START + b"\x8b" + struct.pack("<i", 250_000) + b"\x01" * 250_000 + END,
    "LONG4 longer than the file": START + b"\x8b" + struct.pack("<i", 2**31 - 1) + END,
    "LONG4 of negative length": START + b"\x8b" + struct.pack("<i", -5) + END,
    "a decimal number without end": b"L" + b"9" * 100_000 + b"L\n.",
    "a string of 2**62 bytes": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + END,
    "bytes of 2**62 bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + END,
    "a line without end": b"S'" + b"a" * 100_000,
    "nesting": START + b"]" * 50_000 + b"a" * 49_999 + END,
    "nesting of tuples": START + b")" + b"\x85" * 50_000 + END,
    "a list that holds itself": START + b"]q\x00h\x00a.",
    "two texts of protocol 0": b"Vcaf\\u00e9\nVb\n.",
    "a billion laughs": START + b"]q\x00" + LAUGHS + END,
    "a list that doubles": START + b"](K\x01K\x02eq\x00" + (b"}" + text("items") + b"h\x00sb") * 60 + END,
    "a text copied again and again": START
    + text("a" * 100_000)
    + b"q\x00]"
    + (named("_codecs", "encode") + b"h\x00" + text("latin1") + b"\x86Ra") * 500
    + END,
    "three million marks": START + b"(" * 3_000_000 + END,
    "a million tables": START + b"(" + b"}" * 1_000_000 + b"l.",
    "a million calls": START + b"(" + named("collections", "OrderedDict") + b"q\x00" + b"h\x00)R" * 300_000 + b"l.",
    "three million sets": b"\x80\x04(" + b"\x8f" * 3_000_000 + b"l.",
}
