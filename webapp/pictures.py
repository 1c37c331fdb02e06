"""The library's pictures through this origin, by hash: thumbnails from a bounded cache, and the files themselves.

A file goes to the browser as it is where browsers can show it; what they cannot (TIFF, HEIC, PSD) or
should not (SVG may carry scripts, a 200-megapixel scan) is rendered to a picture first.
"""

import io
import logging
import os
import textwrap
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

from flask import Blueprint, Flask, Response, abort, current_app, request, send_file
from PIL import Image

from tagcheck import svg
from tagcheck.dataset import HASH
from tagcheck.errors import FileUnavailable, ToolError
from tagcheck.files import remove, write_atomically
from tagcheck.library import Library
from tagcheck.pictures import Limits
from tagcheck.pictures.decoder_processes import Decoders
from tagcheck.pictures.file_formats import ImageUnreadable, ImageUnsupported
from webapp import state
from webapp.security import FILE_POLICY

THUMBNAIL_SIDE = 360
LARGEST_SIDE = 4096
LARGEST_PIXELS = 40_000_000
LIMITS = Limits(seconds=20.0, frames=1)
DECODERS = 2  # files that are decoded at once
TURN_SECONDS = 60.0
SHOWN_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")  # of those the header is read here, and nothing decoded
IMMUTABLE = "private, max-age=31536000, immutable"
SIGNATURES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"\x1a\x45\xdf\xa3", "video/webm"),
)
BRANDS = {b"avif": "image/avif", b"avis": "image/avif"} | dict.fromkeys(
    (b"mp41", b"mp42", b"isom", b"iso2", b"iso5", b"iso6", b"avc1", b"dash", b"M4V "), "video/mp4"
)

blueprint = Blueprint("pictures", __name__, url_prefix="/pictures")
log = logging.getLogger(__name__)


class ThumbnailCache:
    """Thumbnails on disk, `<first two digits>/<hash>.webp` (the library's own are what they are under that name). The longest
    unused ones are removed when they outgrow `limit` bytes.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._lock = threading.Lock()
        self._size: int | None = None

    def path(self, hash: str) -> Path:
        """Where the thumbnail of a picture stands, made or not."""
        return self.folder / hash[:2] / f"{hash}.webp"

    def get(self, hash: str) -> bytes | None:
        """The thumbnail, or None. Reading one marks it as used."""
        with suppress(FileNotFoundError, PermissionError):  # the second on Windows, where it is just being removed
            data = self.path(hash).read_bytes()
            os.utime(self.path(hash))
            return data
        return None

    def put(self, hash: str, data: bytes) -> None:
        """Keep a thumbnail, making room first where needed."""
        with self._lock:
            if self._size is None:
                self._size = sum(path.stat().st_size for path in self.folder.glob("??/*.webp"))
            self._size += len(data)
            write_atomically(self.path(hash), lambda out: out.write(data))
            if self._size > self.limit:
                self._shrink()

    def _shrink(self) -> None:
        """Remove the longest unused until nine tenths of the limit are left."""
        paths = self.folder.glob("??/*.webp")
        found = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in paths)
        self._size = sum(size for _, size, _ in found)
        for _, size, path in found:
            if self._size <= self.limit * 0.9:
                return
            remove(path)
            self._size -= size


def install(app: Flask, settings: state.Settings) -> None:
    app.extensions["tagcheck_opener"] = opener()
    place = settings.folder.root / "cache" / "thumbnails"
    app.extensions["tagcheck_thumbnails"] = ThumbnailCache(place, settings.thumbnail_cache_bytes)
    app.register_blueprint(blueprint)
    for size in ("thumbnail", "full"):
        app.template_filter(size)(partial(address, size))


def address(size: str, hash: str) -> str:
    """Where a picture is, "thumbnail" or "full": pages name hundreds, and finding a route's address takes longer."""
    return f"{blueprint.url_prefix}/{hash}/{size}"


@blueprint.before_request
def not_modified() -> Response | None:
    """A hash names the bytes for ever, so a browser that asks again has them."""
    hash = (request.view_args or {})["hash"]
    if not HASH.fullmatch(hash):
        abort(404, "A picture's hash has 64 digits, 0 to 9 and a to f.")
    if hash not in request.if_none_match:
        return None
    response = Response(status=304, headers={"Cache-Control": IMMUTABLE})
    response.set_etag(hash)
    return response


@blueprint.get("/<hash>/thumbnail")
def thumbnail(hash: str) -> Response:
    """A small picture of one file, kept for when the library is away; where there is none, a note that says why."""
    cache: ThumbnailCache = current_app.extensions["tagcheck_thumbnails"]
    if (kept := cache.get(hash)) is not None:
        return _picture(kept, sniff(kept) or "image/webp", hash)
    try:
        library = state.shared().library()
        own = library.thumbnail(hash)
        made = own[0] if own is not None else _opened(library, hash, THUMBNAIL_SIDE)
    except ToolError as error:
        return _note(str(error))
    try:
        cache.put(hash, made)
    except OSError as error:
        log.warning("the thumbnail cache cannot be written (%s)", error)  # a full disk costs time, not the picture
    return _picture(made, own[1] if own is not None else "image/webp", hash)


@blueprint.get("/<hash>/full")
def full(hash: str) -> Response:
    """One file as it is where a browser can show it, else rendered to WebP."""
    try:
        library = state.shared().library()
        data = library.read(hash)
        mime = sniff(data)
        if mime is None or (mime.startswith("image/") and pixels(data) > LARGEST_PIXELS):
            data, mime = _opened(library, hash, LARGEST_SIDE, data), "image/webp"
    except ToolError as error:
        return _note(str(error))
    return _picture(data, mime, hash)


def sniff(data: bytes) -> str | None:
    """The type of a file that browsers show, by its first bytes; None for anything else, SVG among it.

    >>> sniff(b"GIF89a..."), sniff(b"<svg onload='...'>"), sniff(b"\\0\\0\\0 ftypavif")
    ('image/gif', None, 'image/avif')
    """
    for start, mime in SIGNATURES:
        if data.startswith(start):
            return mime
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp":
        return BRANDS.get(data[8:12])
    return None


def _opened(library: Library, hash: str, side: int, data: bytes | None = None) -> bytes:
    """A file as WebP. Raises `FileUnavailable` when neither a decoder nor the library can show it."""
    decoders: Decoders = current_app.extensions["tagcheck_opener"]
    why = ""
    for ask in (library.read if data is None else lambda _: data, library.render):
        try:
            if (found := ask(hash)) is not None:
                return decoders.show(found, side)[0]
        except (ImageUnreadable, ImageUnsupported) as error:
            why = str(error)
    raise FileUnavailable(f"this file cannot be shown ({why})", "unreadable")


def opener() -> Decoders:
    return Decoders(DECODERS, 1, LIMITS, TURN_SECONDS)


def pixels(data: bytes) -> int:
    """Width times height of a picture that browsers show, out of its header alone; 0 where it does not tell."""
    try:
        with Image.open(io.BytesIO(data), formats=SHOWN_FORMATS) as picture:
            return picture.width * picture.height
    except Image.DecompressionBombError:
        return LARGEST_PIXELS + 1
    except Exception:  # Pillow's plug-ins raise anything for a damaged header; the browser then shows the file or not
        return 0


def _picture(data: bytes, mime: str, hash: str) -> Response:
    response = send_file(io.BytesIO(data), mimetype=mime, conditional=True, etag=False)
    response.headers["Cache-Control"] = IMMUTABLE
    response.headers["Content-Security-Policy"] = FILE_POLICY
    response.set_etag(hash)
    return response


def _note(reason: str) -> Response:
    """A small drawing with words, for a picture that is not available now; never cached."""
    lines = textwrap.wrap(reason, 34, break_long_words=False, break_on_hyphens=False)[:9]
    top = 118 - 10 * len(lines)
    text = [svg.part("text", text="No picture", x=180, y=top, font_size=20)]
    text += [svg.part("text", text=line, x=180, y=top + 36 + 22 * place) for place, line in enumerate(lines)]
    ground = svg.part("rect", width=360, height=270, fill="#d9d9d6")
    told = svg.part("g", *text, font_family="sans-serif", font_size=17, text_anchor="middle", fill="#333")
    note = svg.drawing([ground, told], 360, 270, width=360, height=270)
    headers = {"Content-Security-Policy": FILE_POLICY, "X-Picture": "unavailable"}
    return Response(note, mimetype="image/svg+xml", headers=headers)
