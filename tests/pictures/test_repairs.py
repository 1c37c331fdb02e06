"""Files that are damaged beside their pixels are used and marked, and those whose pixels are damaged are not."""

from __future__ import annotations

import io
import struct
import time
import zlib

import numpy as np
import pytest
from opened_pictures import WHOLE, open_image
from PIL import Image

from tagcheck.pictures import repairs, unreadable
from tagcheck.pictures.decoder_processes import Decoder
from tagcheck.pictures.file_formats import ImageUnreadable, Limits
from tagcheck.pictures.preparation import open_pictures, prepare_file, shown


def picture(seed: int = 0, size: tuple[int, int] = (60, 90)) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def saved(kind: str, image: Image.Image | None = None, **options) -> bytes:
    out = io.BytesIO()
    (image or picture()).save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["TIFF", "JPEG", "PNG", "WEBP"])
def test_a_picture_is_turned_once_whatever_its_format(kind, orientation):
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    image = picture()
    exif = image.getexif()
    exif[0x0112] = orientation
    plain, turned = open_image(saved(kind, image, **options)), open_image(saved(kind, image, exif=exif, **options))
    turns = {1: (), 2: (0,), 3: (3,), 4: (1,), 5: (5,), 6: (4,), 7: (6,), 8: (2,)}[orientation]
    for turn in turns:
        plain = plain.transpose(Image.Transpose(turn))
    assert turned.size == plain.size
    assert np.abs(np.asarray(turned).astype(int) - np.asarray(plain)).max() <= 3
    frames, size = prepare_file(saved(kind, image, exif=exif, **options), 64)[:2]
    assert size == plain.size and frames.shape == (1, 3, 64, 64)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30, "subsampling": 2}, {"quality": 5}])
@pytest.mark.parametrize("end", [b"", b"\xff", b"\0" * 40, b"some text"])
def test_a_jpeg_that_lacks_only_its_end_mark_is_used_and_marked(options, end):
    whole = saved("JPEG", **options)
    (found,) = open_pictures(whole[:-2] + end, WHOLE)
    assert found.damaged == "it lacks its end mark"
    assert np.array_equal(found.rgb, open_pictures(whole, WHOLE)[0].rgb)


@pytest.mark.parametrize("options", [{}, {"quality": 30, "subsampling": 2}, {"quality": 95}])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.97])
def test_a_jpeg_that_lacks_pixels_stays_unreadable(options, share):
    whole = saved("JPEG", picture(size=(300, 400)), **options)
    with pytest.raises(ImageUnreadable):
        open_image(whole[: int(share * len(whole))])


def test_what_stands_behind_a_jpegs_end_is_no_damage():
    (found,) = open_pictures(saved("JPEG") + b"a film \xff\xda of a telephone" * 9, WHOLE)
    assert found.damaged is None


def with_chunk(data: bytes, kind: bytes, body: bytes, checksum: bytes = b"\0\0\0\0") -> bytes:
    return data[:33] + struct.pack(">I", len(body)) + kind + body + checksum + data[33:]


@pytest.mark.parametrize(
    "kind, body",
    [
        (b"tEXt", b"a\0bcd"),
        (b"iTXt", b"x"),
        (b"iCCP", b"p\0\0zz"),
        (b"gAMA", b"\0\1\x86\xa0"),
        (b"zzZz", b""),
        (b"pHYs", b"x"),
    ],
)
def test_a_png_with_a_bad_checksum_beside_its_pixels_is_used_and_marked(kind, body):
    whole = saved("PNG")
    (found,) = open_pictures(with_chunk(whole, kind, body), WHOLE)
    assert kind.decode() in found.damaged and np.array_equal(found.rgb, open_pictures(whole, WHOLE)[0].rgb)


LONG = zlib.compress(b"A" * 2_000_000)


@pytest.mark.parametrize(
    "kind, body",
    [
        (b"zTXt", b"workflow\0\0" + LONG),
        (b"iTXt", b"workflow\0\1\0\0\0" + LONG),
        (b"iCCP", b"p\0\0" + LONG),
        (b"iCCP", b""),
        (b"gAMA", b"x"),
        (b"pHYs", b"x"),
    ],
)
def test_a_png_with_notes_that_pillow_refuses_is_used_and_keeps_its_turn(kind, body):
    image = picture()
    exif = image.getexif()
    exif[0x0112] = 6
    whole = saved("PNG", image, exif=exif)
    (found,) = open_pictures(with_chunk(whole, kind, body, struct.pack(">I", zlib.crc32(kind + body))), WHOLE)
    assert found.damaged == "what stands beside its pixels cannot be read" and found.orientation == 6
    assert np.array_equal(found.rgb, open_pictures(whole, WHOLE)[0].rgb)


@pytest.mark.parametrize(
    "kind, body",
    [(0xE0, b"JFIF\0"), (0xE2, b"ICC_PROFILE\0"), (0xED, b"Photoshop 3.0\x008BIM\x03\xed"), (0xEE, b"Adobe")],
)
@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_a_jpeg_with_notes_that_pillow_refuses_is_used_with_its_colours(kind, body, mode):
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = saved("JPEG", picture().convert(mode), exif=exif)
    bad = whole[:2] + bytes([0xFF, kind]) + struct.pack(">H", len(body) + 2) + body + whole[2:]
    (found,) = open_pictures(bad, WHOLE)
    assert found.damaged == "what stands beside its pixels cannot be read" and found.orientation == 6
    assert np.array_equal(found.rgb, open_pictures(whole, WHOLE)[0].rgb)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_picture_whose_exif_is_no_exif_is_used_as_it_is_stored(kind):
    whole = saved(kind, exif=b"Exif\0\0no TIFF")
    assert open_image(whole).size == (60, 90) and shown(whole, 30, Limits())[1] == (60, 90)


@pytest.mark.parametrize("kind", [b"IDAT", b"IEND"])
def test_a_png_whose_pixels_are_right_and_their_checksum_is_wrong_is_used_and_marked(kind):
    whole = saved("PNG")
    at = whole.rindex(kind) + 4
    end = at + int.from_bytes(whole[at - 8 : at - 4], "big")
    (found,) = open_pictures(whole[:end] + b"\1\2\3\4" + whole[end + 4 :], WHOLE)
    assert found.damaged == f"the checksum of its {kind.decode()} is wrong"
    assert np.array_equal(found.rgb, open_pictures(whole, WHOLE)[0].rgb)


def test_a_png_without_its_end_is_used_and_one_with_bad_pixels_is_not():
    whole = saved("PNG")
    assert open_image(whole[:-12]).tobytes() == open_image(whole).tobytes()
    place = whole.index(b"IDAT") + 20
    for bad in (whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :], whole[: len(whole) // 2]):
        with pytest.raises(ImageUnreadable):
            open_image(bad)


def animation(kind: str) -> bytes:
    first, *rest = [picture(seed, (80, 80)) for seed in range(6)]
    return saved(kind, first, save_all=True, append_images=rest, duration=100)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.5, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
def test_the_good_frames_of_a_cut_animation_are_used_and_marked(kind, share):
    whole = animation(kind)
    found = open_pictures(whole[: int(share * len(whole))], WHOLE, Limits(frames=10))
    every = open_pictures(whole, WHOLE, Limits(frames=10))
    assert 1 < len(found) < 6 + (share > 0.9) and len(every) == 6 and every[0].damaged is None
    assert found[0].damaged == "it was cut off after some frames"
    assert [one.rgb.tolist() for one in found] == [one.rgb.tolist() for one in every[: len(found)]]


def test_what_a_cut_animation_still_has_takes_no_longer_for_many_chunks():
    chunks = (b"ANMF" + struct.pack("<I", 8) + bytes(8)) * 100_000
    began = time.process_time()
    assert repairs.repair(b"RIFF" + bytes(4) + b"WEBP" + chunks + b"ANMF\xff\xff").data[12:] == chunks
    assert time.process_time() - began < 2


def test_a_decoder_process_tells_what_is_wrong_beside_the_pixels(tmp_path):
    decoder = Decoder(32, Limits())
    try:
        whole = saved("JPEG")
        cut, again = decoder.prepare(whole[:-2]), decoder.prepare(whole)
        assert cut.size == (60, 90) and cut.damaged == "it lacks its end mark"
        assert again.damaged is None and (again.frames == cut.frames).all()
    finally:
        decoder.close()
    unreadable.DAMAGED.keep(tmp_path, {"a" * 64: "it lacks its end mark"})
    assert unreadable.DAMAGED.load(tmp_path) == {"a" * 64: "it lacks its end mark"}
