"""Every file becomes the picture that JoyTag was trained on, or says in words why it cannot."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from opened_pictures import WHOLE, open_image
from PIL import Image, ImageDraw

from tagcheck.pictures import file_formats, preparation
from tagcheck.pictures.preparation import (
    ImageUnreadable,
    ImageUnsupported,
    Limits,
    Recipe,
    open_pictures,
    prepare,
    prepare_bytes,
)

WHITE = (255, 255, 255)
FORMATS = Path(__file__).parents[1] / "data" / "formats"


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def drawing(width: int, height: int) -> Image.Image:
    """Something with edges, gradients and colours, as pictures have them."""
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], axis=2).astype(np.uint8)
    image = Image.fromarray(base)
    draw = ImageDraw.Draw(image)
    for step in range(12):
        draw.ellipse(
            [width * step // 14, height * step // 16, width * (step + 3) // 15, height * (step + 4) // 16],
            fill=(step * 20, 255 - step * 20, 90),
            outline="black",
            width=max(1, width // 200),
        )
    return image


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def pixels(image: Image.Image) -> list[tuple[int, ...]]:
    return [tuple(pixel) for row in np.asarray(image).tolist() for pixel in row]


def plainly(image: Image.Image, size: int) -> np.ndarray:
    """The same in the obvious way: the whole white square, then one resize."""
    side = max(image.size)
    square = Image.new("RGB", (side, side), WHITE)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    if side != size:
        square = square.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(square).transpose(2, 0, 1)


@pytest.mark.parametrize(
    "width, height",
    [(64, 64), (300, 200), (200, 301), (37, 999), (999, 37), (2, 500), (30, 20), (1, 1), (65, 64), (444, 415)],
)
def test_the_short_cut_gives_the_whole_white_square_to_a_rounding(width, height):
    image = noise(width, height)
    ours, plain = prepare(image, 64).astype(int), plainly(image, 64)
    assert np.abs(ours - plain).max() <= 1
    assert (ours != plain).mean() < 0.02


def test_a_picture_of_the_right_size_is_not_touched():
    image = noise(64, 64)
    assert np.array_equal(prepare(image, 64), np.asarray(image).transpose(2, 0, 1))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("width, height", [(90, 61), (60, 90)])
def test_a_turned_picture_is_prepared_as_a_person_sees_it(orientation, width, height):
    turns = {
        2: "FLIP_LEFT_RIGHT",
        3: "ROTATE_180",
        4: "FLIP_TOP_BOTTOM",
        5: "TRANSPOSE",
        6: "ROTATE_270",
        7: "TRANSVERSE",
        8: "ROTATE_90",
    }
    image, exif = noise(width, height), Image.Exif()
    exif[0x0112] = orientation
    upright = image.transpose(Image.Transpose[turns[orientation]]) if orientation > 1 else image
    data = saved(image, "PNG", exif=exif)
    assert np.array_equal(np.asarray(open_image(data)), np.asarray(upright))
    off = np.abs(prepare_bytes(data, 32)[0].astype(int) - plainly(upright, 32))
    assert off.mean() < 0.3 and off.max() <= 6  # the axes are resized in another order, which rounds noise differently


@pytest.mark.parametrize("width, height", [(2000, 1333), (1333, 2001), (3001, 1201)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_decoded_at_a_fraction_is_the_same_picture(width, height, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(drawing(width, height), "JPEG", quality=90, exif=exif)
    ours = prepare_bytes(data, 224)[0].astype(float)
    whole = plainly(open_image(data), 224).astype(float)
    assert open_pictures(data, Recipe(224))[0].shrink > 1
    off, shifted = np.abs(ours - whole).mean(), np.abs(whole[:, :, 1:] - whole[:, :, :-1]).mean()
    assert off < shifted / 4 and off < 0.8


def test_a_scaled_jpeg_keeps_twice_the_pixels_that_are_needed():
    for side in (447, 896, 1791, 1792, 3583, 3584, 7200):
        picture = open_pictures(saved(Image.new("RGB", (side, 40)), "JPEG"), Recipe(448))[0]
        assert max(picture.rgb.shape) >= min(side, 896)
        assert picture.shrink == max(k for k in (1, 2, 4, 8) if k == 1 or side // k >= 896)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "F"])
def test_every_mode_of_a_grey_becomes_that_grey(mode):
    grey = 255 if mode == "1" else 128
    if mode in ("I;16", "I"):
        image = Image.fromarray(np.full((8, 8), grey * 257, dtype=np.uint16 if mode == "I;16" else np.int32))
    else:
        image = Image.new("L", (8, 8), grey).convert(mode)
    data = saved(image, "TIFF" if mode in ("I", "F") else "PNG")
    assert open_image(data).getpixel((3, 3)) == (grey,) * 3


def test_transparent_pixels_are_white_whatever_colour_hides_there():
    image = Image.new("RGBA", (4, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 255))
    image.putpixel((2, 0), (0, 0, 0, 128))
    assert pixels(open_image(saved(image, "PNG"))) == [WHITE, (255, 0, 0), (127, 127, 127), WHITE]


def test_a_palette_with_a_transparent_colour_is_put_on_white():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert pixels(open_image(saved(image, "PNG", transparency=0))) == [WHITE, (0, 0, 255)]


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_a_browser_gets_a_transparent_colour_as_transparent(mode):
    image = saved(Image.new(mode, (4, 4)), "PNG", transparency=(0, 0, 0) if mode == "RGB" else 0)
    made, _ = preparation.shown(image, 4, Limits())
    assert Image.open(io.BytesIO(made)).convert("RGBA").getpixel((1, 1))[3] == 0


def test_a_cmyk_jpeg_is_read_in_its_colours():
    red = open_image(saved(Image.new("RGB", (16, 16), (200, 30, 30)).convert("CMYK"), "JPEG", quality=95)).getpixel(
        (8, 8)
    )
    assert np.abs(np.array(red) - (200, 30, 30)).max() < 8


def digest(data: bytes, size: int = 32) -> str | None:
    return preparation.prepare_file(data, size).pixels


def test_the_digest_of_pixels_is_that_of_the_picture_and_not_of_the_file():
    """Other compression, text, EXIF, colour profile, palette, container: the same. One value of one pixel: another."""
    flat = drawing(60, 40).quantize(50).convert("RGB")
    exif = Image.Exif()
    exif[0x010E] = "a caption"
    same = [
        saved(flat, "PNG"),
        saved(flat, "PNG", compress_level=1),
        saved(flat, "PNG", exif=exif, icc_profile=b"a profile", dpi=(72, 72)),
        saved(flat.convert("RGBA"), "PNG"),
        *(saved(flat, format) for format in ("BMP", "TIFF", "QOI" if "QOI" in Image.SAVE else "PPM")),
        saved(flat, "WEBP", lossless=True),
        saved(flat.quantize(256), "GIF"),
    ]
    assert len({digest(data) for data in same}) == 1 and digest(same[0]) is not None
    other = flat.copy()
    other.putpixel((59, 39), tuple(value ^ 1 for value in flat.getpixel((59, 39))))
    clear = flat.convert("RGBA")
    clear.putpixel((0, 0), (*flat.getpixel((0, 0)), 254))
    deep = Image.fromarray(np.arange(2400, dtype=np.uint16).reshape(40, 60))
    deeper = Image.fromarray(np.arange(2400, dtype=np.uint16).reshape(40, 60) + 1)
    others = [flat, other, clear, flat.transpose(Image.Transpose.ROTATE_90), deep, deeper, flat.convert("L")]
    assert len({digest(saved(one, "PNG")) for one in others}) == len(others)


def test_the_digest_is_of_the_upright_picture_also_of_a_jpeg_that_is_decoded_at_a_fraction():
    lying, exif = Image.Exif(), Image.Exif()
    lying[0x0112], exif[0x010E] = 6, "a caption"
    small = drawing(60, 40)
    turned = saved(small.transpose(Image.Transpose.ROTATE_90), "PNG", exif=lying)
    assert digest(turned) == digest(saved(small, "PNG"))
    large = drawing(640, 480)
    plain = digest(saved(large, "JPEG"))
    assert (
        plain
        == digest(saved(large, "JPEG", exif=exif, comment="another"))
        == digest(saved(large, "JPEG", optimize=True))
    )
    assert plain != digest(saved(large, "JPEG", quality=50)) and plain != digest(saved(large, "PNG"))
    frames = [drawing(30, 30), drawing(30, 20).resize((30, 30))]
    for format in ("GIF", "PNG", "WEBP"):  # of an animation only some frames are looked at
        moving = saved(frames[0], format, save_all=True, append_images=frames[1:])
        assert digest(moving) is None and preparation.prepare_file(moving, 32, Limits(frames=1)).pixels is None


@pytest.mark.parametrize(
    "format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "ICO", "TGA", "PPM", "JPEG2000", "QOI"]
)
def test_a_format_is_known_by_its_bytes_alone(format):
    image = drawing(64, 64)
    assert np.abs(np.asarray(open_image(saved(image, format)), dtype=int) - np.asarray(image)).mean() < 12


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP"])
def test_an_animation_gives_frames_spread_over_its_length(format):
    colours = [(step * 28, 0, 0) for step in range(9)]
    frames = [Image.new("RGB", (20, 20), colour) for colour in colours]
    data = saved(
        frames[0],
        format,
        save_all=True,
        append_images=frames[1:],
        duration=50,
        **({"lossless": True} if format == "WEBP" else {}),
    )
    pixels = prepare_bytes(data, 16, Limits(frames=3))
    assert pixels.shape == (3, 3, 16, 16)
    assert np.abs(pixels[:, 0, 8, 8].astype(int) - [1 * 28, 4 * 28, 7 * 28]).max() <= 3
    assert prepare_bytes(data, 16, Limits(frames=1)).shape == (1, 3, 16, 16)


def test_pages_of_a_tiff_are_no_animation():
    data = saved(
        Image.new("RGB", (8, 8), "red"), "TIFF", save_all=True, append_images=[Image.new("RGB", (8, 8), "blue")]
    )
    assert len(open_pictures(data, WHOLE)) == 1


def test_the_channels_lie_last_in_memory_so_that_nothing_is_copied_twice():
    pixels = prepare_bytes(saved(noise(50, 40), "PNG"), 32)
    assert pixels.dtype == np.uint8 and pixels.transpose(0, 2, 3, 1).flags.c_contiguous


def bomb() -> bytes:
    """A PNG of a few bytes that says it is 30,000 x 30,000."""
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" * 100)),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    "data, error, says",
    [
        (b"", ImageUnreadable, "the file is empty"),
        (b"just some text, no picture", ImageUnsupported, "not a picture of a kind"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", ImageUnsupported, "run git lfs pull"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 40, ImageUnreadable, "damaged"),
        (saved(noise(80, 80), "PNG")[:9000], ImageUnreadable, "damaged: .*truncated"),
        (saved(noise(80, 80), "JPEG")[:4000], ImageUnreadable, "damaged: .*truncated"),
        (saved(noise(80, 80), "WEBP")[:4000], ImageUnreadable, "damaged"),
        (saved(noise(80, 80), "WEBP")[:14], ImageUnreadable, "damaged: its header"),
        (saved(noise(80, 80), "AVIF")[:60], ImageUnreadable, "damaged: its header"),
        (saved(noise(80, 80), "GIF")[:4000], ImageUnreadable, "damaged"),
        (bomb(), ImageUnreadable, "too large"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(data, error, says):
    with pytest.raises(error, match=says):
        open_image(data)


def test_the_limit_on_pixels_counts_what_is_decoded():
    large = saved(Image.new("RGB", (2000, 1000)), "JPEG")
    with pytest.raises(ImageUnreadable, match="2000 x 1000 pixels, the limit is 1000000"):
        open_image(large, limits=Limits(pixels=1_000_000))
    assert open_image(large, Recipe(64), Limits(pixels=1_000_000)).size == (250, 125)


def test_a_file_that_takes_too_long_is_given_up():
    frames = [noise(30, 30, seed) for seed in range(6)]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageUnreadable, match="took longer than 1e-09 s"):
        open_pictures(data, WHOLE, Limits(seconds=1e-9))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_bytes_changed_at_random_never_raise_anything_else():
    rng = np.random.default_rng(1)
    files = [saved(drawing(40, 30), format) for format in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")]
    # Where their packages are not, a reason each time.
    files += [path.read_bytes() for path in sorted(FORMATS.iterdir())]
    for file in files:
        whole = np.frombuffer(file, np.uint8)
        for _ in range(60):
            data = whole.copy()
            data[rng.integers(0, len(data), 6)] = rng.integers(0, 256, 6)
            try:
                assert prepare_bytes(data.tobytes(), 16, Limits(pixels=10_000_000)).shape[1:] == (3, 16, 16)
            except (ImageUnreadable, ImageUnsupported) as error:
                assert str(error) and "\n" not in str(error)


def test_a_library_s_own_kind_of_error_is_a_damaged_file_too(monkeypatch):
    for error in (RuntimeError("could not determine frame count"), struct.error("unpack requires a buffer")):
        monkeypatch.setattr(preparation, "to_rgb", lambda *_, error=error: (_ for _ in ()).throw(error))
        with pytest.raises(ImageUnreadable, match=f"the file is damaged: {error}"):
            open_image(saved(drawing(40, 30), "PNG"))


def test_kinds_that_pillow_does_not_open_are_known_by_their_bytes():
    stream = (b"\x47" + bytes(187)) * 4
    # An MPEG transport stream.
    assert file_formats.kind_of(stream) == "video" and file_formats.kind_of(stream[:400]) is None
    assert file_formats.kind_of(b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif") == "avif"
    assert file_formats.kind_of(b"\0\0\0\x20ftypavis") == "avif" and file_formats.kind_of(b"RIFF\0\0\0\0WAVE") is None


def test_a_number_of_places_is_spread_evenly():
    assert file_formats.spread(9, 3) == [1, 4, 7] and file_formats.spread(1, 4) == [0]
    assert file_formats.spread(3, 5) == [0, 1, 2]


@pytest.mark.parametrize(
    "name, package, says",
    [("t.heic", "pi_heif", "HEIC"), ("t.jxl", "imagecodecs", "JPEG XL"), ("t.webm", "av", "video")],
)
def test_without_its_package_a_file_says_which_to_install(name, package, says, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImageUnsupported, match=f"a {says}.*: pip install {package.replace('_', '-')}"):
        open_image((FORMATS / name).read_bytes())


@pytest.mark.parametrize("name, package", [("t.heic", "pi_heif"), ("t.jxl", "imagecodecs")])
def test_heic_and_jpeg_xl_are_read_where_their_package_is(name, package):
    pytest.importorskip(package)
    y, x = np.mgrid[0:48, 0:64]
    drawn = np.stack([x * 4, y * 5, 255 - x * 3], axis=2)
    data = (FORMATS / name).read_bytes()
    assert np.abs(np.asarray(open_image(data), dtype=int) - drawn).mean() < 6
    with pytest.raises(ImageUnreadable, match="damaged"):
        open_image(data[:100])
    with pytest.raises(ImageUnreadable, match="64 x 48 pixels, the limit is 1000"):
        open_image(data, limits=Limits(pixels=1000))


def test_a_video_gives_frames_spread_over_its_length():
    pytest.importorskip("av")
    data = (FORMATS / "t.webm").read_bytes()  # 3 s at 10 frames a second, from black to red
    reds = prepare_bytes(data, 16, Limits(frames=3))[:, 0, 8, 8].astype(int)
    assert np.abs(reds - [5 * 8, 15 * 8, 25 * 8]).max() < 12
    with pytest.raises(ImageUnreadable, match="damaged"):
        open_pictures(data[:200], WHOLE)


@pytest.mark.parametrize(
    "form, codec", [("mpegts", "mpeg2video"), ("mpeg", "mpeg2video"), ("avi", "mjpeg"), ("mp4", "mpeg4")]
)
def test_a_video_is_looked_at_in_the_right_places_with_an_index_and_without(form, codec):
    av = pytest.importorskip("av")
    out = io.BytesIO()
    with av.open(out, "w", format=form) as file:
        stream = file.add_stream(codec, rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(100):  # ever brighter
            file.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (64, 64), (40 + 2 * number,) * 3))))
        file.mux(stream.encode())
    greys = prepare_bytes(out.getvalue(), 16, Limits(frames=4))[:, 0, 8, 8].astype(int)
    assert np.abs((greys - 40) / 2 - [12, 37, 62, 87]).max() < 16  # some have to be entered at a key frame beside


def test_only_the_formats_that_are_named_are_ever_opened(monkeypatch):
    """PostScript would start Ghostscript, whatever its file is called."""
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("a program was started"))
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EndComments\nshowpage\n%%EOF\n"
    others = [eps, b"\xc5\xd0\xd3\xc6" + bytes(28) + eps]
    others += [saved(drawing(8, 8), format) for format in ("EPS", "SGI", "PCX", "DDS")]
    for data in others:
        with pytest.raises(ImageUnsupported):
            open_image(data)
