"""Damaged and hostile files, made from good ones: a mutant is its good file, the name of a change, and a seed."""

import functools
import hashlib
import io
import json
import random
import struct
import tarfile
import zipfile

import torch
from hostile_files import BROKEN, END, RUN_CODE, START, call, named, text

HUGE = [2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1, 2**40, 0]


def injured(raw, draw):
    """One to four wounds anywhere."""
    raw = bytearray(raw)
    for _ in range(draw.choice((1, 1, 2, 4))):
        i, j = sorted(draw.randrange(len(raw) + 1) for _ in range(2))
        match draw.randrange(9):
            case 0:
                raw[i : i + 1] = bytes(b ^ (1 << draw.randrange(8)) for b in raw[i : i + 1])
            case 1:
                raw[i : i + 1] = bytes([draw.randrange(256)])
            case 2:
                del raw[i:]
            case 3:
                del raw[i : min(j, i + 50)]
            case 4:
                raw[i:i] = raw[j : j + 30]
            case 5:
                raw[:0] = draw.randbytes(draw.randrange(1, 20))
            case 6:
                raw += draw.choice([bytes(100), raw[: len(raw) // 2], b"PK\x05\x06" + bytes(18)])
            case 7:
                raw[i : i + 8] = struct.pack("<Q", draw.choice(HUGE))
            case 8:
                raw[i:i] = draw.choice([b"(", b"R", b"cos\nsystem\n", b"[" * 200, b"\x8b\xff\xff\xff\x7f", b"0" * 20])
        raw = raw or bytearray(b"\0")
    return bytes(raw)


# Files of ours: changed as somebody would who means harm, and signed again.


def signed(header, data):
    """A file of ours with this header, a JSON text, and the right sha256."""
    raw = header.encode("utf-8", "surrogatepass")
    raw = len(raw).to_bytes(8, "little") + raw
    digest = hashlib.sha256(raw + data).hexdigest().encode()
    return raw.replace(b'"sha256":"' + b"0" * 64, b'"sha256":"' + digest, 1) + data


def parts(raw):
    """The header as a table whose sha256 is blank, and the data."""
    end = 8 + int.from_bytes(raw[:8], "little")
    entries = json.loads(raw[8:end])
    if "sha256" in entries.get("__metadata__", {}):
        entries["__metadata__"]["sha256"] = "0" * 64
    return entries, raw[end:]


def deep(levels, inner=0):
    for _ in range(levels):
        inner = [inner]
    return inner


def shared(levels):
    """A container of two containers that are one, and so on."""
    node = {"kind": "torch.ReLU", "args": {}}
    for level in reversed(range(levels)):
        same = {"same": ".".join(["0"] * (level + 1))}
        node = {"kind": "torch.Sequential", "args": {}, "children": {"0": node, "1": same}}
    return node


def renewed(tree):
    """What format 1 would say, as format 2 says it."""
    if isinstance(tree, list):
        return [renewed(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    match tree:
        case {"@": "function", "name": name}:
            return {"$function": name}
        case {"@": "pipeline", "steps": steps}:
            return {"$pipeline": renewed(steps)}
        case {"@": "vocab", **args}:
            return {"$value": "vocab", "args": renewed(args)}
        case {"@": "function_transform", "order": order, "split_idx": split_idx}:
            return {"$function_transform": "vision.PILImage.create", "order": order, "split_idx": split_idx}
        case {"@": tag, "kind": kind, "args": args, "fitted": fitted}:
            return {f"${tag}": kind, "args": renewed(args), "fitted": renewed(fitted)}
        case {"kind": kind, "args": args, **rest}:
            return {"$module": kind, "args": renewed(args), **renewed(rest)}
        case {"recipe": {"builder": builder, "args": args}}:
            return {"$builder": builder, "args": args}
        case {"tree": node} | {"module": node} | {"dict": node}:
            return renewed(node)
        case {"same": path}:
            return {"$same": path}
    return {name: renewed(value) for name, value in tree.items()}


@functools.cache
def spite():
    """What no file should say, in every place where a file says something, in the grammars of both formats."""
    old = spite_of_format_1()
    return [*old, *(renewed(item) for item in old if isinstance(item, (dict, list)))]


def spite_of_format_1():
    linear = {"kind": "torch.Linear", "args": {"in_features": 10**12, "out_features": 10**12}}
    wide = {"in_features": 10_000, "out_features": 10_000}
    path = "../../etc/passwd"
    alike = [n * (2**61 - 1) for n in range(1, 20_000)]  # Python gives them all the same hash
    part = {"module": {"kind": "torch.Identity", "args": {}}}
    mean = {"@": "loss", "version": 1, "kind": "MSELossFlat", "args": {}, "fitted": {}}
    opener = {"@": "function", "name": "vision.PILImage.create"}
    return [
        *(None, True, -1, 0, 1, 3.5, 10**9, 2**70, 1e308, float("nan"), float("inf"), -float("inf")),
        *("", "x" * 10**6, "__class__", "os.system", path, "\ud800", "a\0b", "(a+)+$", "cuda", "meta", "cpu"),
        *([], {}, [[]], {"": {}}, deep(90), [0] * 100_000, ["os.system", path], {"__class__": path, "__init__": 1}),
        *({"$tensor": path}, {"$tensor": 1}, {"$tensor": "w", "device": "hpu"}, {"$floats": path}, {"$none": 1}),
        *({"$tuple": None}, {"$set": [[]]}, {"$dict": [[[], 1]]}, {"$dict": 3}, {"$slice": [1, 2, 3, 4]}),
        {"$array": "w", "dtype": "O", "shape": [10**12]},
        {"$array": "w", "dtype": "f4," * 1000, "shape": [-1]},
        {"$tensor": "w", "device": "meta"},
        *({"@": "function", "name": "os.system"}, opener),
        {"@": "transform", "version": 1, "kind": "os", "args": {}, "fitted": {}},
        {"@": "function_transform", "function": opener, "order": 0, "split_idx": None},
        {"@": "transform", "version": 1, "kind": "Resize", "args": {"size": 10**9}, "fitted": {}},
        {"@": "transform", "version": 1, "kind": "Normalize", "args": {"mean": path, "std": opener}, "fitted": {}},
        {"@": "transform", "version": 1, "kind": "tabular.Categorify", "args": {}, "fitted": {"classes": path, "f": opener}},
        {"@": "transform", "version": 1, "kind": "RandomErasing", "args": {"max_count": 10**9, "sl": -1}, "fitted": {}},
        {"@": "pipeline", "steps": [opener] * 1000},
        {"@": "vocab", "items": [[]], "add_na": True},
        {"@": "vocab", "items": alike, "add_na": True},
        {"@": "vocab", "items": [{"$frozenset": [n]} for n in alike[:10_000]], "add_na": True},
        {"@": "transform", "version": 1, "kind": "Categorize", "args": {"vocab": alike}, "fitted": {}},
        *({"$counter": alike}, {"$tuple": {"$tensor": "w"}}, {"$defaultdict": ["exec", {}]}, {"$deque": [alike, "a"]}),
        *({"$stack": {"$tensor": "w"}}, {"$array": "w", "dtype": {}, "shape": 1}, {"$value": "NormType", "args": {"name": path}}),
        *(alike, {"$set": alike}, {"$frozenset": alike}, {"$dict": [[n, 1] for n in alike]}),
        {"@": "loss", "version": 1, "kind": "MultiTaskLoss", "args": {"losses": [mean] * 30_000, "sizes": []}, "fitted": {}},
        [{"name": "a", "pipeline": None}] * 30_000,
        [{"@": "pipeline", "steps": []}] * 30_000,
        {"@": "loss", "version": 1, "kind": "MultiTaskLoss", "args": {"losses": [opener], "sizes": [10**12]}, "fitted": {}},
        {"@": "loss", "version": 1, "kind": "CrossEntropyLossFlat", "args": {"weight": [0.0] * 10**5}, "fitted": {}},
        linear,
        {"tree": linear},
        {"tree": {"kind": "torch.Linear", "args": {**wide, "device": "cpu"}}},
        {"tree": {"kind": "torch.Linear", "args": {**wide, "device": "cuda"}}},
        {"tree": {"kind": "torch.Linear", "args": {**wide, "dtype": "float64"}}},
        {"tree": {"kind": "ConvLayer", "args": {"ni": 3, "nf": 4000, "ks": 99, "kwargs": {"dict": {"device": "cpu"}}}}},
        {"tree": {"kind": "PixelShuffle_ICNR", "args": {"ni": 20_000, "nf": 20_000, "scale": 64}}},
        {"tree": {"kind": "torch.LSTM", "args": {"input_size": 1, "hidden_size": 1, "num_layers": 10**12}}},
        {"tree": {"kind": "torch.ReLU", "args": {}, "children": {"forward": {"same": ""}, "a.b": linear}}},
        {"tree": {"kind": "torch.Sequential", "args": {}, "children": {"0": {"same": ""}}}},
        {"tree": {"kind": "torch.Sequential", "args": {}, "children": {f"{i}": {"same": "0"} for i in range(10_000)}}},
        *({"tree": shared(levels)} for levels in (3, 18, 32)),
        {"tree": {"kind": "Cat", "args": {"layers": [part] * 30_000}}},
        {"tree": {"kind": "Cat", "args": {"layers": [{"module": shared(10)}] * 1000}}},
        {"tree": {"kind": "Lambda", "args": {"func": {"function": "vision.PILImage.create"}}}},
        {"tree": {"kind": "PartialLambda", "args": {"func": {"function": "vision.PILImage.create"}, "source": path}}},
        {"tree": {"kind": "ConvLayer", "args": {"ni": 1, "nf": 1, "act_cls": {"function": "vision.PILImage.create"}}}},
        {"tree": {"kind": "ResBlock", "args": {"expansion": 1, "ni": 1, "nf": 10**9, "groups": 10**9}}},
        {"tree": {"kind": "SimpleCNN", "args": {"filters": [1] * 100_000}}},
        {"tree": {"kind": "tabular.TabularModel", "args": {"emb_szs": [[10**9, 10**9]], "n_cont": 10**9}}},
        {"tree": {"kind": "torch.Embedding", "args": {"num_embeddings": 10**6, "embedding_dim": 1000, "device": "cpu"}}},
        {"recipe": {"builder": "vision.model", "args": {"source": "timm", "arch": "hf-hub:a/b", "n_out": 3}}},
        {"recipe": {"builder": "vision.model", "args": {"source": "timm", "arch": path, "n_out": 3}}},
        {"recipe": {"builder": "vision.model", "args": {"source": "torchvision", "arch": "resnet18", "weights": path}}},
        {"recipe": {"builder": "vision.model", "args": {"source": "torchvision", "arch": "fasterrcnn_resnet50_fpn", "n_out": 3}}},
        {"recipe": {"builder": "vision.model", "args": {"source": "torchvision", "arch": "raft_small", "n_out": 3}}},
        {"recipe": {"builder": "vision.model", "args": {"source": "timm", "arch": "lraspp_mobilenet_v3_large", "n_out": 3}}},
        {"recipe": {"builder": "vision.model", "args": {"source": "torchvision", "arch": "squeezenet1_1", "n_out": 10**12}}},
        {"recipe": {"builder": "vision.model", "args": {"source": "registered", "arch": "vision.model"}}},
    ]  # fmt: skip


def places(tree, path=()):
    """All places in nested dicts and lists."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield (*path, key)
        yield from places(value, (*path, key))


def resaid(raw, draw):
    """The manifest, or the list of tied tensors, says something else."""
    entries, data = parts(raw)
    part = draw.choice(("layered",) * 9 + ("tied",))
    tree = [json.loads(entries["__metadata__"][part])]
    for _ in range(draw.choice((1, 1, 2))):
        tree = json.loads(json.dumps(tree))  # so that no part of it is there twice, to be made large at once
        *keys, last = draw.choice(list(places(tree)))
        node = tree
        for key in keys:
            node = node[key]
        name = list(entries)[-1]
        copies = [
            [{tag: content}] * 1000
            for tag in ("$tuple", "$floats", "$stack", "$array")
            for content in (name, {"$tensor": name})
        ]
        values = [*spite(), *([name] * 3), *copies]
        match draw.randrange(8):
            case 0 if isinstance(node, dict):
                del node[last]
            case 1 if isinstance(node, dict):
                node[draw.choice(["__class__", "device", "$tensor", "$module", "@", "x" * 1000, "forward", ""])] = (
                    draw.choice(values)
                )
            case 2:
                node[last] = [node[last]] * (2 if len(str(node[last])) > 10_000 else draw.choice((2, 1000)))
            case _:
                node[last] = draw.choice(values)
    entries["__metadata__"][part] = json.dumps(tree[0])
    return signed(json.dumps(entries, separators=(",", ":")), data)


def restated(raw, draw):
    """The header claims something else of its tensors."""
    entries, data = parts(raw)
    name = draw.choice([k for k in entries if k != "__metadata__"] or ["__metadata__"])
    entry, number = entries[name], draw.choice([-1, *HUGE, 2**70, 1.5, "3", None, True, [], {}, 1e999])
    match draw.randrange(7):
        case 0:
            entry["shape"] = draw.choice([number, [number], [2**32, 2**32], [0, 2**62], [1] * 100, [-1, -1], deep(50)])
        case 1:
            entry["data_offsets"] = draw.choice([number, [0, number], [number, 8], [8, 0], [0, 0], [4, 2**63]])
        case 2:
            entry["dtype"] = draw.choice([number, "F128", "os.system", "BOOL", "F8_E4M3", "I64", "C64"])
        case 3:
            entries[name + "'"] = dict(entry)  # overlaps
        case 4:
            entries[draw.choice(["", "__class__", "x" * 10**6, "\ud800"])] = entries.pop(name)
        case 5:
            entries["__metadata__"] = draw.choice(
                [number, {"layered": "{}"}, {**entries.get("__metadata__", {}), "format": "0"}]
            )
        case 6:
            empty = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
            entries.update({f"n{i}": empty for i in range(draw.choice((19_000, 120_000)))})
    return signed(json.dumps(entries, separators=(",", ":")), data)


def retold(raw, draw):
    """The header is no JSON, or not only."""
    entries, data = parts(raw)
    header = json.dumps(entries, separators=(",", ":"))
    places_of_commas = [i for i, c in enumerate(header) if c == ","]
    at = draw.choice(places_of_commas)
    choices = [
        header[: at + 1] + header[1:],
        header[: at + 1] + '"__metadata__":{},' + header[at + 1 :],
        header.replace('"shape":[', '"shape":[' + "[" * draw.choice((50, 100_000)), 1),
        header.replace('"shape":[', '"shape":[' + "9" * 5000 + ",", 1),
        header.replace('"shape":[', '"shape":[NaN,1e999,', 1),
        header + " " * 1_000_000,
        "{" * 200_000,
        '{"a":' * 200_000,
        '"' + "\\" * 1_000_000,
        "[" + "0," * 5_000_000 + "0]",
        "{" + '"a":{},' * 100_000 + '"b":{}}',
    ]
    return signed(draw.choice(choices), data)


# Pickles in the clothes of others.


def storage(kind="torch FloatStorage", key="0", count=b"K\x06"):
    return b"(" + text("storage") + named(*kind.split()) + text(key) + text("cpu") + count + b"tQ"


def tensor(
    offset=b"K\x00",
    shape=b"K\x02K\x03\x86",
    steps=b"K\x03K\x01\x86",
    builder="_rebuild_tensor_v2",
    store=None,
    rest=b"",
):
    return call("torch._utils", builder, store or storage(), offset, shape, steps, b"\x89", b"N", rest)


def empty_storage(number):
    return storage(key=f"{number}", count=b"K\x00")


def number(value):
    raw = value.to_bytes(16, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


NUMBERS = [number(n) for n in (-1, -(2**63), 2**31, 2**40, 2**62, 2**63, 2**70)]
OF_TYPE = ("torch._tensor", "_rebuild_from_type_v2")
CLOTHES = [
    *(tensor(offset=n) for n in NUMBERS),
    *(tensor(shape=n + n + b"\x86", steps=b"K\x00K\x00\x86") for n in NUMBERS),
    *(tensor(shape=b"K\x00" + n + b"\x86") for n in NUMBERS),
    *(tensor(steps=n + b"K\x01\x86") for n in NUMBERS),
    *(tensor(store=storage(count=n)) for n in NUMBERS),
    *(tensor(store=storage(key=key)) for key in ("", "../data.pkl", "/etc/passwd", "9", "x" * 100_000)),
    tensor(shape=b"]", steps=b"]"),
    tensor(shape=b"(" + b"K\x01" * 200_000 + b"t", steps=b"(" + b"K\x01" * 200_000 + b"t"),
    tensor(shape=b"\x88\x88\x86"),
    tensor(shape=b"G" + struct.pack(">d", 2.0) + b"K\x03\x86"),
    tensor(builder="_rebuild_sparse_tensor"),
    tensor(builder="_rebuild_qtensor"),
    tensor(builder="_rebuild_device_tensor_from_numpy"),
    tensor(builder="_rebuild_tensor", rest=b"N" * 1000),
    tensor(builder="_rebuild_tensor_v3", rest=named("torch", "float32")),
    tensor(builder="_rebuild_tensor_v3", rest=text("float32")),
    tensor(store=b"K\x01Q"),
    tensor(store=storage(kind="torch Tensor")),
    tensor(store=storage(kind="torch.storage UntypedStorage")),
    call(*OF_TYPE, named("posix", "system"), named("torch", "Tensor"), text("ls") + b"\x85", b"}"),
    call(*OF_TYPE, named("torch", "Size"), named("torch", "Tensor"), text("ls") + b"\x85", b"}"),
    call(*OF_TYPE, b"NNN"),
    call("torch", "device", text("cuda"), number(2**70)),
    call("torch", "Size", b"N"),
    call("numpy", "dtype", text("O8"), b"\x89\x88"),
    call("numpy.core.multiarray", "scalar", call("numpy", "dtype", text("f8")), text("x" * 50)),
    call("collections", "OrderedDict", b"(" + b"((NNtt" * 1000 + b"t"),
    call("_codecs", "encode", text("é" * 1000), text("idna")),
    *(call("builtins", name, tensor(shape=number(2**20) + b"\x85", steps=b"K\x00\x85")) for name in ("set", "frozenset")),
    call("collections", "OrderedDict", tensor()),
    b"}" + number(2**70) + tensor() + b"s",
    b"}K\x01" + tensor() + b"s",
    b"(" + b"".join(tensor(shape=b"K\x00\x85", steps=b"K\x01\x85", store=empty_storage(n)) for n in range(5000)) + b"l",
    b"(" + b"}" * 1_000_000 + b"l",
    b"".join(text("a" * 1000) + b"r" + struct.pack("<I", 2**32 - 1 - i) for i in range(1000)),
    b"\x85" * 10,
    b"X" + struct.pack("<I", 3) + b"\xed\xa0\x80",
    b"V\\ud800\\udfff" + b"\\u" + b"\n",
    b"S'\\x" + b"\n",
    b"S" + b'"a' * 1000 + b"\n",
    b"I" + b"9" * 5000 + b"\n",
    b"F" + b"1e999\n",
    b"I0x10\n",
    b"\x8d" + struct.pack("<Q", 2**63) + b"a",
    b"\x95" + struct.pack("<Q", 2**64 - 1),
    b"0" * 1000,
    b"2" * 900_000,
    b"2" * 3_000_000,
    b"q\x00" + b"h\x000" * 600_000,
    b"]" + b"(]" * 300_000,
    b"}" + b"(" * 100_000 + b"u" * 100_000,
]  # fmt: skip
PICKLES = [*RUN_CODE.values(), *BROKEN.values()]
PICKLES += [START + b"}" + text("w") + program + b"s" + END for program in CLOTHES]
PICKLES += [START + program + END for program in CLOTHES]


def zipped(pickle, key="0", byteorder=b"little"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle)
        archive.writestr("archive/byteorder", byteorder)
        archive.writestr(f"archive/data/{key}", bytes(24))
    return file.getvalue()


def legacy(pickle):
    file = io.BytesIO()
    torch.save({}, file, _use_new_zipfile_serialization=False)
    head = file.getvalue().split(b"}q\x00.")[0]
    return head + pickle + b"\x80\x02]X\x01\x00\x00\x000a." + struct.pack("<q", 6) + bytes(24)


def in_zip(raw, draw):
    return zipped(draw.choice(PICKLES))


def in_legacy(raw, draw):
    return legacy(draw.choice(PICKLES))


def bare(raw, draw):
    return draw.choice(PICKLES)


def rezipped(raw, draw):
    """The members of a zip again, with one that harms."""
    source, file = zipfile.ZipFile(io.BytesIO(raw)), io.BytesIO()
    members = source.infolist()
    chosen = draw.choice(members)
    injury = draw.randrange(9)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if injury == 0 else zipfile.ZIP_STORED) as archive:
        for member in members:
            data = source.read(member)
            archive.writestr(member.filename, injured(data, draw) if injury == 1 and member is chosen else data)
        if injury == 2:
            archive.fp.write(b"")
            archive.NameToInfo.clear()
            archive.writestr(chosen.filename, b"again")
        if injury == 3:
            harm = zipfile.ZipInfo(
                draw.choice(["../out", "/out", "a/../../out", "C:\\out", "..\\out", "a\nb", "x" * 60_000, "."])
            )
            archive.writestr(harm, b"harm")
        if injury == 4:
            link = zipfile.ZipInfo("link")
            link.external_attr = draw.choice([0o120777, 0o020777, 0o010777]) << 16
            archive.writestr(link, b"/etc/passwd")
        if injury == 5:
            archive.writestr(f"{chosen.filename.split('/')[0]}/bomb", bytes(20_000_000), zipfile.ZIP_DEFLATED, 9)
        if injury == 6:
            for i in range(3000):
                archive.writestr(f"many/{i}", b"")
    res = bytearray(file.getvalue())
    if injury >= 7:  # the sizes and places in the directory; two that overlap
        at = res.find(b"PK\x01\x02", draw.randrange(max(res.find(b"PK\x01\x02"), 1), len(res))) % len(res)
        field = draw.choice((8, 10, 16, 20, 24, 28, 30, 32, 34, 38, 42))
        res[at + field : at + field + 4] = struct.pack("<I", draw.choice([0, 2**31, 2**32 - 1, 99, 30]))
    return bytes(res)


def retarred(raw, draw):
    """A tar with an entry that harms, or a header that lies with the right checksum."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for i in range(3):
            entry = tarfile.TarInfo(f"a/{i}")
            entry.size = 5
            archive.addfile(entry, io.BytesIO(b"bytes"))
        entry = tarfile.TarInfo(
            draw.choice(["../out", "/out", "a/../../out", "a/0", "a", "link", "x" * 300, "a/0/b", "é" * 200])
        )
        entry.type = draw.choice(
            [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
        )
        entry.linkname = draw.choice(["", "a/0", "../../etc/passwd", "/etc/passwd", "link", ".", "x" * 300])
        archive.addfile(entry)
        if draw.randrange(2):
            after = tarfile.TarInfo("link/inside")
            after.pax_headers = draw.choice([{}, {"size": str(2**60)}, {"path": "../out"}, {"GNU.sparse.map": "0,1"}])
            archive.addfile(after)
    res = bytearray(file.getvalue())
    if draw.randrange(2):
        at = 512 * draw.randrange(len(res) // 512)
        field, length = draw.choice(((124, 12), (156, 1), (0, 100), (157, 100), (257, 8), (345, 155)))
        res[at + field : at + field + length] = draw.choice(
            [
                b"7" * length,
                b"\x80" + b"\xff" * (length - 1),
                b"L" * length,
                b"x" * length,
                b"S" * length,
                b"\0" * length,
            ]
        )[:length]
        res[at + 148 : at + 156] = b" " * 8
        res[at + 148 : at + 156] = b"%06o\0 " % sum(res[at : at + 512])
    return bytes(res)


OURS = (injured, resaid, resaid, resaid, resaid, restated, retold)
CHANGES = {
    "vision export": OURS,
    "tabular export": OURS,
    "export of format 1": OURS,
    "checkpoint": OURS,
    "checkpoint in parts": OURS,
    "weights": OURS,
    "zip weights": (injured, in_zip, in_zip, rezipped),
    "legacy weights": (injured, in_legacy, in_legacy),
    "safetensors": (injured, restated, retold),
    "pickled words": (injured, bare),
    "JSON words": (injured,),
    "zip of data": (injured, rezipped),
    "tar of data": (injured, retarred),
    "tgz of data": (injured,),
}


def mutant(good, changes, seed):
    """The kind, the change and the bytes of mutant number `seed`; `good` maps kinds to bytes, `changes` to functions."""
    draw = random.Random(seed)
    kind = draw.choice(list(changes))
    change = draw.choice(changes[kind])
    return kind, change.__name__, change(good[kind], draw)
