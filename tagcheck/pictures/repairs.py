"""Files that are damaged beside their pixels: what can be set right in their bytes, so that the picture is used.

A JPEG or PNG without its end mark, a PNG whose texts or colour profile have a wrong checksum, texts or a colour profile
that Pillow refuses where viewers pass over them, an animation that was cut off after some whole frames. What is wrong
with the pixels themselves is not touched: such a file stays unreadable.
"""

import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
JPEG_END = b"\xff\xd9"
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
# Bytes that mean something else than the end to a JPEG decoder which still waits for pixels.
NOISE = bytes(random.Random(1).choices(range(255), k=4096))
CUT = "it was cut off after some frames"
ENDLESS = "it lacks its end mark"
NOTES = "what stands beside its pixels cannot be read"
# Chunks of a PNG beside its pixels without which it looks different; EXIF also tells how it is turned.
TOLD = (b"tRNS", b"acTL", b"fcTL", b"fdAT", b"bKGD")
TURNED = (*TOLD, b"eXIf")
# Segments of a JPEG beside its pixels: Adobe's says what its colours are, EXIF how it is turned.
NOTED = (*range(0xE0, 0xF0), 0xFE)
EXIF, ADOBE, ADOBE_LENGTH = 0xE1, 0xEE, 16


@dataclass(frozen=True)
class Repair:
    """Other bytes for the same picture, what was wrong, and, where only a comparison shows that every pixel is there,
    bytes that must give the very same picture."""

    data: bytes
    reason: str
    twin: bytes | None = None


def repair(data: bytes) -> Repair | None:
    """What can be set right in a damaged file; None where nothing is known to help."""
    if data.startswith(JPEG) and not data.rstrip(b"\0").endswith(JPEG_END):
        pixels = data.rstrip(b"\xff")  # half an end mark
        return Repair(pixels + JPEG_END, ENDLESS, pixels + NOISE + JPEG_END)
    if data.startswith(JPEG):
        return _without_notes(data, _jpeg_alone(data))
    if data.startswith(PNG):
        return _png(data) or _without_notes(data, _png_alone(data))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    return None


def noticed(data: bytes) -> str | None:
    """What is wrong with a file beside its pixels though a decoder reads it without a word; None for nothing."""
    if data.startswith(JPEG):
        scan = _jpeg_scan(data)
        return ENDLESS if scan and data.rfind(JPEG_END, scan) < 0 else None
    if data.startswith(PNG):
        faults = _png(data)
        wrong = [kind for kind, body, checksum in _png_chunks(data) if checksum != zlib.crc32(kind + body)]
        return faults.reason if faults else _of_checksums(wrong) if wrong else None
    return None


def _without_notes(data: bytes, alone: bytes) -> Repair | None:
    return Repair(alone, NOTES) if len(alone) < len(data) else None


def _jpeg_scan(data: bytes) -> int:
    """Where the pixels of a JPEG begin, 0 where that cannot be told. Previews that it holds stand before that."""
    return next((at for kind, at, _ in _jpeg_segments(data) if kind == 0xDA), 0)


def _jpeg_alone(data: bytes) -> bytes:
    """A JPEG without the notes in its head but those that say how it looks."""
    kept, last = [data[:2]], 2
    for kind, at, end in _jpeg_segments(data):
        last = at
        if kind == 0xDA:
            break
        if kind not in NOTED or kind == EXIF or (kind == ADOBE and end - at >= ADOBE_LENGTH):
            kept.append(data[at:end])
        last = end
    return b"".join(kept) + data[last:]


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The head of a JPEG: of each segment its kind, where it begins and where it ends. That of the pixels is the last."""
    at, kind = 2, 0
    while at + 4 <= len(data) and data[at] == 0xFF and kind != 0xDA:
        kind = data[at + 1]
        told = 0 if 0xD0 <= kind <= 0xD8 else int.from_bytes(data[at + 2 : at + 4], "big")
        length = 1 if kind == 0xFF else 2 + told
        yield kind, at, at + length
        at += length


def _png(data: bytes) -> Repair | None:
    kept, ended = [PNG], False
    wrong: list[bytes] = []
    for kind, body, checksum in _png_chunks(data):
        ended = ended or kind == b"IEND"
        if checksum == zlib.crc32(kind + body):
            kept.append(_png_chunk(kind, body))
        elif kind[0:1].islower():
            wrong.append(kind)
            if kind in TOLD:
                kept.append(_png_chunk(kind, body))
        else:
            return None  # a part of the pixels
    whole = sum(map(len, kept)) + len(PNG_END) > len(data)  # but for a part of the end mark
    if not ended and len(kept) > 1 and (whole or wrong):
        return Repair(b"".join(kept) + PNG_END, ENDLESS)
    if wrong:
        return Repair(b"".join(kept), _of_checksums(wrong))
    return None


def _png_alone(data: bytes) -> bytes:
    """A PNG of nothing but what says how it looks."""
    chunks = ((kind, body) for kind, body, _ in _png_chunks(data))
    return PNG + b"".join(_png_chunk(*one) for one in chunks if one[0][0:1].isupper() or one[0] in TURNED)


def _of_checksums(wrong: list[bytes]) -> str:
    names = dict.fromkeys(kind.decode("latin-1") for kind in wrong)
    return f"the checksum of its {', '.join(names)} is wrong"


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    at = len(PNG)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 12 + length
        if end > len(data):
            return
        yield data[at + 4 : at + 8], data[at + 8 : end - 4], struct.unpack_from(">I", data, end - 4)[0]
        at = end


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _webp(data: bytes) -> Repair | None:
    """The whole chunks of a file that was cut off, where they hold frames of an animation."""
    at = 12
    while at + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        end = at + 8 + length + length % 2
        if end > len(data):
            break
        at = end
    whole = data[12:at]
    if at == len(data) or b"ANMF" not in whole:
        return None
    return Repair(b"RIFF" + struct.pack("<I", len(whole) + 4) + b"WEBP" + whole, CUT)
