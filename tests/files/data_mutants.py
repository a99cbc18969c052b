"""Damaged and hostile files that others write: pictures, tables, records of runs, entries of the index."""

import functools
import io
import json
import random
import struct
import zlib

import numpy as np
from mutants import HUGE, deep, injured, places
from PIL import Image

PICTURES = {
    "PNG": "RGB",
    "PNG of 16 bits": "I;16",
    "PNG with a palette": "P",
    "PNG with transparency": "RGBA",
    "JPEG": "RGB",
    "GIF": "P",
    "BMP": "RGB",
    "DIB": "RGB",
    "TIFF": "RGB",
    "TIFF of floats": "F",
    "WEBP": "RGB",
    "AVIF": "RGB",
    "ICO": "RGBA",
    "ICNS": "RGBA",
    "PPM": "RGB",
    "TGA": "RGB",
    "PCX": "RGB",
    "SGI": "RGB",
    "DDS": "RGB",
    "IM": "RGB",
    "JPEG2000": "RGB",
    "XBM": "1",
    "MSP": "1",
}
PLAIN = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(gotcha) (w) file pop\nshowpage\n%%EOF\n"
REFUSED = {
    "PostScript": PLAIN,
    "PostScript with a preview": b"\xc5\xd0\xd3\xc6"
    + struct.pack("<IIIIIIH", 32, len(PLAIN), 0, 0, 0, 0, 0xFFFF)
    + bytes(2)
    + PLAIN,
    "PDF": b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script><image href="file:///etc/passwd"/></svg>',
    "FITS": b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800),
    "a web page": b"<html><script>alert(1)</script></html>",
    "a metafile": b"\xd7\xcd\xc6\x9a" + bytes(100),
}


@functools.cache
def picture(kind: str) -> bytes:
    """A sound picture of a kind in `PICTURES`."""
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 4), dtype=np.uint8)
    mode, file = PICTURES[kind], io.BytesIO()
    match mode:
        case "I;16":
            image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
        case "F":
            image = Image.fromarray(pixels[..., 0].astype(np.float32))
        case _:
            image = Image.fromarray(pixels).convert(mode)
    image.save(file, kind.partition(" ")[0])
    return file.getvalue()


def chunk(name: bytes, data: bytes, length: int | None = None) -> bytes:
    """A part of a PNG."""
    told = len(data) if length is None else length
    return struct.pack(">I", told) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(
    width: int, height: int, *, depth: int = 8, colour: int = 2, more: bytes = b"", data: bytes | None = bytes(9999)
) -> bytes:
    """A PNG that claims this size."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + more
        + chunk(b"IDAT", (zeros() if data is None else zlib.compress(data)))
        + chunk(b"IEND", b"")
    )


def tiff(*entries: tuple[int, int, int, int], after: int = 0) -> bytes:
    """A TIFF of these entries: tag, type, count, value; then the place of the next directory."""
    told = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + told + struct.pack("<I", after) + bytes(600)


@functools.cache
def zeros() -> bytes:
    """Eighty megabytes, packed."""
    return zlib.compress(bytes(80_000_000))


def claims(draw: random.Random) -> bytes:
    """A picture whose header claims what its data do not hold, or that unfolds to very much."""
    side, number = draw.choice((0, 1, 2**15, 2**16, 10**5, 2**20, 2**31 - 1)), draw.choice(HUGE) % 2**32
    size = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, draw.choice((1, 5, 7, 8, 32773, 34712)))]
    strips = [
        (262, 3, 1, 1),
        (273, 4, draw.choice((1, number)), 8),
        (277, 3, 1, draw.choice((1, 3, 99))),
        (279, 4, 1, number),
    ]
    bomb = zeros()
    return draw.choice(
        [
            lambda: png(side, side),
            lambda: png(side, 1, depth=draw.choice((1, 16, 3, 255)), colour=draw.choice((0, 3, 4, 6, 7))),
            lambda: png(9, 9, more=chunk(b"zTXt", b"a\0\0" + bomb)),
            lambda: png(9, 9, more=chunk(b"iCCP", b"a\0\0" + bomb)),
            lambda: png(9, 9, more=chunk(b"iTXt", b"a\0\1\0\0\0" + bomb)),
            lambda: png(9, 9, more=chunk(b"tEXt", b"a\0b") * 50_000),
            lambda: png(
                9, 9, more=chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1" + struct.pack(">I", number))
            ),
            lambda: png(9, 9, more=chunk(b"acTL", struct.pack(">II", number, 0))),
            lambda: png(9, 9, more=chunk(b"tEXt", b"a", number)),
            lambda: png(9, 9, data=None),
            lambda: tiff(*size, *strips),
            lambda: tiff(*size, *strips, after=8),
            lambda: tiff(*[(256 + i, draw.randrange(1, 14), number, number) for i in range(draw.choice((9, 40)))]),
            lambda: tiff(*size, (330, 4, 1, 8), (34665, 4, 1, 8)),
            lambda: (
                b"GIF89a"
                + struct.pack("<HH", side % 2**16, side % 2**16)
                + b"\0\0\0"
                + b"!\xff\x0bNETSCAPE2.0"
                + b"\xff" * 9000
            ),
            lambda: b"GIF89a\x09\0\x09\0\0\0\0" + b"!\xfe\x01a\0" * 200_000,
            lambda: (
                b"BM"
                + struct.pack(
                    "<IIIIiiHHIIIIII",
                    99,
                    0,
                    54,
                    40,
                    side - 2**31,
                    side,
                    1,
                    draw.choice((1, 8, 24, 99)),
                    draw.randrange(5),
                    0,
                    0,
                    0,
                    number,
                    0,
                )
            ),
            lambda: (
                f"P{draw.choice('123456fy7')} {side} {side} {draw.choice((0, 1, 255, 65535, 10**9))}\n".encode()
                + b"9 " * 9999
            ),
            lambda: b"P3 " + b"9" * 100_000 + b" 9 255\n",
            lambda: b"P6\n" + b"#a\n" * 100_000 + b"9 9 255\n" + bytes(99),
            lambda: (
                b"\0\0\1\0"
                + struct.pack("<H", draw.choice((1, 999, 2**16 - 1)))
                + struct.pack("<BBBBHHII", 9, 9, 0, 0, 1, 32, number, 22) * 999
            ),
            lambda: (
                b"icns"
                + struct.pack(">I", number)
                + b"ic07"
                + struct.pack(">I", draw.choice((0, 8, number)))
                + bytes(999)
            ),
            lambda: (
                b"8BPS\0\1"
                + bytes(6)
                + struct.pack(">HIIHH", draw.choice((1, 3, 999)), side, side, 8, 3)
                + struct.pack(">I", number)
                + bytes(999)
            ),
            lambda: (
                b"DDS "
                + struct.pack("<IIIII", 124, number, side, side, number)
                + bytes(56)
                + struct.pack("<II4s", 32, 4, b"DXT5")
                + bytes(999)
            ),
            lambda: b"qoif" + struct.pack(">II", side, side) + b"\4\0" + b"\xfd" * 999,
            lambda: (
                bytes([0, 0, draw.choice((2, 10))])
                + bytes(9)
                + struct.pack("<HHBB", side % 2**16, side % 2**16, 24, 0)
                + b"\xff" * 999
            ),
            lambda: b"\x01\xda\1\1\0\3" + struct.pack(">HHH", side % 2**16, side % 2**16, 3) + bytes(9999),
            lambda: (
                b"\n\5\1\x08"
                + struct.pack("<HHHH", 0, 0, side % 2**16, side % 2**16)
                + bytes(52)
                + b"\3"
                + bytes(63)
                + b"\xff\0" * 999
            ),
            lambda: (
                b"/* XPM */\nstatic char *a[] = {\n"
                + f'"{side} {side} {number} 1",\n'.encode()
                + b'"a c #ffffff",\n' * 9999
            ),
            lambda: (
                f"#define a_width {side}\n#define a_height {side}\nstatic char a_bits[] = {{\n".encode()
                + b"0x00, " * 9999
            ),
            lambda: (
                b"RIFF"
                + struct.pack("<I", number)
                + b"WEBPVP8X\x0a\0\0\0\x10\0\0\0"
                + struct.pack("<I", side)[:3] * 2
                + b"ANIM" * 99
            ),
            lambda: b"\0\0\0\x0cjP  \r\n\x87\n" + struct.pack(">I4s", number, b"ftyp") + b"jp2 " + bytes(999),
            lambda: struct.pack(">I", 20) + b"ftypavif" + bytes(8) + struct.pack(">I", number) + b"meta" + bytes(999),
            lambda: (
                b"\xff\xd8"
                + b"\xff\xe0\0\2" * 90_000
                + b"\xff\xc0\0\x11\x08"
                + struct.pack(">HH", side % 2**16, 9)
                + b"\3\1\x22\0\2\x11\1\3\x11\1"
            ),
            lambda: b"\xff\xd8\xff\xe2\0\x0aMPF\0II*\0" + struct.pack("<I", number) + b"\xff\xd9" * 99,
            lambda: REFUSED[draw.choice(list(REFUSED))],
        ]
    )()


def injured_picture(raw: bytes, draw: random.Random) -> bytes:
    return injured(picture(draw.choice(list(PICTURES))), draw)


def hostile_picture(raw: bytes, draw: random.Random) -> bytes:
    return claims(draw)


def in_other_clothes(raw: bytes, draw: random.Random) -> bytes:
    """A picture that begins as one format and goes on as another."""
    raw = picture(draw.choice(list(PICTURES)))
    other = draw.choice([*REFUSED.values(), picture("PNG"), picture("GIF")])
    return draw.choice([raw + other, raw[: draw.randrange(4, 40)] + other, other[:8] + raw[8:]])


# Tables.

CELLS = [
    "",
    '"',
    '"""',
    "'",
    "=cmd|' /C calc'!A0",
    "\0",
    "\xff",
    "1e999",
    "nan",
    "-",
    "9" * 5000,
    "x" * 200_000,
    "﻿",
    "\r",
    "a\nb",
    "$x$",
    "<script>",
    "1970-13-45",
    "1,5",
    "\x1b[2J",
    "‮",
    "{[(",
    "NA",
    "None",
    "True",
    "-0",
    "0x10",
    "1_000",
]


def _many(cell: str, count: int) -> list[str]:
    """So many equal cells, or as many as 4 MiB hold."""
    return [cell] * min(count, max(1, 2**22 // (len(cell) + 1)))


def retabled(raw: bytes, draw: random.Random) -> bytes:
    """A table with cells, lines or columns that nobody expects."""
    rows = [line.split(",") for line in raw.decode().splitlines()]
    for _ in range(draw.choice((1, 1, 3))):
        row = draw.choice(rows)
        match draw.randrange(9):
            case 0 | 1 | 2:
                row[draw.randrange(len(row))] = draw.choice(CELLS)
            case 3:
                row += _many(draw.choice(CELLS), draw.choice((1, 3, 1000, 30_000)))
            case 4:
                del row[draw.randrange(len(row)) + 1 :]
            case 5:
                rows[0] = [draw.choice(rows[0])] * len(rows[0])
            case 6:
                rows[draw.randrange(len(rows))] = [""]
            case 7:
                rows = [_many(cell, draw.choice((1, 100))) for cell in row]
            case 8:
                rows = rows[: draw.randrange(1, 3)]
    text = draw.choice(",,,,;\t| ").join
    return "\n".join(map(text, rows)).encode(draw.choice(("utf-8", "utf-8", "latin-1", "utf-16")), "replace")


def wide(raw: bytes, draw: random.Random) -> bytes:
    """Columns without number."""
    mark = draw.choice((b",", b",", b"\t", b";", b"|", b"a,", b'"a",', b"\0,"))
    return (
        draw.choice((b"", b"\n", b"\xef\xbb\xbf", b'"\n'))
        + mark * draw.choice((30_000, 1_000_000))
        + draw.choice((b"", b"\n1,2\n"))
    )


# JSON in lines or whole, and TOML.

ODD = [
    None,
    True,
    -1,
    2**70,
    1.5,
    float("nan"),
    "",
    "x" * 10**5,
    "\x1b[2J<script>$x$",
    "\ud800",
    [],
    {},
    [[]],
    {"": {}},
    deep(90),
    [0] * 10**5,
]


def reworded(raw: bytes, draw: random.Random) -> bytes:
    """A value of a line is another one, or is there twice, or missing; or a line is."""
    lines = raw.decode().splitlines()
    at = draw.randrange(len(lines))
    event = json.loads(lines[at])
    for _ in range(draw.choice((1, 2))):
        *keys, last = draw.choice(list(places(event)))
        node = event
        for key in keys:
            node = node[key]
        if draw.randrange(4):
            node[last] = draw.choice([*ODD, 0, 1, 10**9, "fit", "epoch", "end", "checkpoint"])
        elif isinstance(node, dict):
            del node[last]
        if not event:
            break
    lines[at] = json.dumps(event)
    match draw.randrange(8):
        case 0:
            lines[at] = lines[at].replace("{", draw.choice(('{"event":"fit",', "{" * 5000, "[" * 200_000)), 1)
        case 1:
            del lines[: draw.randrange(len(lines))]
        case 2:
            lines *= draw.choice((2, 100))
        case 3:
            draw.shuffle(lines)
    return ("\n".join(lines) + draw.choice(("\n", "\n", ""))).encode("utf-8", "surrogatepass")


def whole(raw: bytes, draw: random.Random) -> bytes:
    """The same for a text that is one JSON value."""
    return reworded(json.dumps(json.loads(raw)).encode(), draw)


def resettled(raw: bytes, draw: random.Random) -> bytes:
    """An entry in TOML with other values, names or nesting."""
    lines = raw.decode().splitlines()
    at = draw.randrange(len(lines))
    name = lines[at].partition("=")[0].strip() or "name"
    values = [
        "1",
        "-1",
        "true",
        "[]",
        "{}",
        '""',
        '"../../etc"',
        '"a\\u0000b"',
        "inf",
        "nan",
        "1979-05-27",
        "9" * 5000,
        "[" * 5000,
        '["a", 1, [2]]',
        "{a.b.c = 1}",
        "'''",
        '"file:///etc/passwd"',
        '"http://x"',
        '"' + "x" * 10**6 + '"',
    ]
    match draw.randrange(6):
        case 0 | 1 | 2:
            lines[at] = f"{name} = {draw.choice(values)}"
        case 3:
            lines.insert(
                at,
                draw.choice(
                    (lines[at], "[source]", "[[source]]", "[" + "a." * 5000 + "a]", "[splits]", "__class__ = 1")
                ),
            )
        case 4:
            del lines[at]
        case 5:
            lines += ["[[source]]"] * draw.choice((1, 5000))
    return "\n".join(lines).encode()


CHANGES = {
    "picture": (injured_picture, injured_picture, hostile_picture, hostile_picture, in_other_clothes),
    "table": (injured, retabled, retabled, retabled, wide),
    "labels of pictures": (injured, retabled, wide),
    "events of a run": (injured, reworded, reworded, reworded),
    "manifest of a run": (injured, whole),
    "lock of a folder": (injured, whole),
    "log of a fit in lines": (injured, reworded),
    "log of a fit in columns": (injured, retabled),
    "entry of the index": (injured, resettled, resettled),
}
