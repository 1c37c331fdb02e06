"""Shards of embeddings in `advanced_embeddings/`: append, resume, load all as one matrix; and the tag head.

A shard is a `.pt` file of up to 4,096 rows that appears whole by a rename, so a shard that is there is finished. Names
carry the time and a number, and where two shards hold the same picture the one with the later name wins. The older
layout, one tensor `<hash>.pt` a picture, is read too, and loses against any shard.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from tagcheck import pt_files
from tagcheck.data_folder import STAMP, utc_now
from tagcheck.errors import BadFile, MissingInput, ToolError
from tagcheck.files import listed, reading, remove, replace_over, there, write_atomically

SHARD_ROWS = 4096
GATHERED = 256  # rows converted at a time while loading, as many as the processor's cache holds
HALF_BITS, HALF_SCALE, HALF_ENDS = np.int32(-0x70002000), np.float32(2.0**112), 2.0**16  # see `_as_float32`
LARGEST = 1e12  # number of an embedding: squares of larger ones, added up over a library, leave float32
HALF_LEAST = 2.0**-9  # largest number of a row from which float16 is off by less than a thousandth of its length
FLOATS = ("float16", "bfloat16", "float32", "float64")
PIXEL_BYTES = 32  # of the digest of a picture's pixels
MOST_HELD = 400_000  # embeddings that are kept in memory for all: who asks in another order has a copy beside
VERSION = 1
TAG_HEAD = "tag_head.pt"
AT_THRESHOLD = 0.35  # half of an F1 of .7, which is about what published taggers reach at their thresholds
ONE_FILE_A_PICTURE = re.compile(r"[0-9a-f]{64}\.pt")
OUR_SHARD = re.compile(r"(embeddings_\d{8}T\d{6}Z)_(\d{6})(?:_[0-9a-f]{8})?\.pt")  # time, number, who made it
ROWS_ALONE = frozenset(["thumbnails", "pixels"])  # what a reader of embeddings leaves out
MADE_BY = "run advanced_joytag_processing.py"


class DamagedShard(BadFile):
    """A shard whose bytes are not those that were written."""


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of n pictures: `matrix` (n, d), not L2-normalised, row i belonging to `hashes[i]`.

    `model` and `preprocess` say what made them, None for the older layout, which does not tell.
    """

    hashes: list[str]
    matrix: np.ndarray
    model: str | None
    preprocess: str | None


@dataclass(frozen=True)
class TagHead:
    """The tagger's last layer: probability of `tags[v]` = sigmoid(weight[v] @ embedding + bias[v]).

    `weight` (V, d) float32, `bias` (V,) float32, `tags` V names as the tagger spells them; `namespaces` of them ("" for
    a general tag) and the published `thresholds` (V,), NaN for none, where the tagger's files tell.
    """

    tags: list[str]
    weight: np.ndarray
    bias: np.ndarray
    model: str
    namespaces: list[str] | None = None
    thresholds: np.ndarray | None = None

    def prior_bias(self) -> np.ndarray:
        """`bias` moved so that the probability at a tag's published threshold is `AT_THRESHOLD`, (V,) float32.

        A threshold that was chosen for the best F1 stands where the chance of the tag is half of that F1 (Lipton, Elkan
        and Naryanaswamy 2014), whatever the network itself says there.
        """
        if self.thresholds is None:
            return self.bias
        at = np.clip(self.thresholds.astype(np.float64), 1e-4, 1 - 1e-4)
        moved = np.log(AT_THRESHOLD / (1 - AT_THRESHOLD)) - np.log(at / (1 - at))
        return (self.bias + np.where(np.isfinite(moved), moved, 0.0)).astype(np.float32)


def shard_paths(folder: Path) -> list[Path]:
    """The shards in `folder` (not the tag head, not the older layout), the oldest name first."""
    found = (one for one in _pt_files(folder) if one.name != TAG_HEAD and not ONE_FILE_A_PICTURE.fullmatch(one.name))
    return sorted(found, key=lambda path: path.name)


def _pt_files(folder: Path) -> Iterator[Path]:
    return (path for path in listed(folder, "*.pt") if not path.name.startswith("."))


def embedded(
    folder: Path,
    model: str,
    preprocess: str,
    tell: Callable[[str], None] | None = None,
    pixels: dict[str, str] | None = None,
) -> dict[str, tuple[int, int] | None]:
    """The hashes that have an embedding of this very model and preprocessing, each with the (width, height)
    that its decoder found, where the shard says so.

    Raises `BadFile` naming the shard when one in the folder is of another model or preprocessing:
    the two must never mix. With `tell`, a damaged shard is named, put aside as `<name>.damaged`, and its pictures are
    not among the hashes; without, it is an error. `pixels` takes the digests of the pictures' pixels where shards have
    them, "" of what has none.
    """
    done: dict[str, tuple[int, int] | None] = {}
    for path in shard_paths(folder):
        try:
            shard = _load_shard(path)
        except DamagedShard as error:
            if tell is None:
                raise
            replace_over(path, path.with_name(f"{path.name}.damaged"))
            tell(f"warning: {error}; it is put aside as {path.name}.damaged")
            continue
        if (shard["model"], shard["preprocess"]) != (model, preprocess):
            raise BadFile(
                f"{path} holds embeddings of {shard['model']} ({shard['preprocess']}), this run would make {model} ({preprocess}): "
                "move the old shards away, or keep these beside them under a --name"
            )
        done.update(zip(shard["hashes"], _sizes(shard)))
        if pixels is not None:
            pixels.update(_pixels(shard))
    return done


def _pixels(shard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The digest of each row's pixels, "" for one without; nothing of a shard that has none at all."""
    kept = _beside(shard, "pixels", "uint8", PIXEL_BYTES)
    if kept is None:
        return iter(())
    return ((hash, row.tobytes().hex() if row.any() else "") for hash, row in zip(shard["hashes"], kept))


def _sizes(shard: dict[str, Any]) -> list[tuple[int, int] | None]:
    """(width, height) of each row of a shard, None where it does not say; another program may have written it oddly."""
    sizes = _beside(shard, "sizes", "int32", 2)
    if sizes is None:
        return [None] * len(shard["hashes"])
    return [(width, height) if width > 0 and height > 0 else None for width, height in sizes.tolist()]


def _beside(shard: dict[str, Any], name: str, dtype: str, width: int) -> np.ndarray | None:
    """What a shard holds beside its rows under a name, an array of these numbers, `width` a row; None where it is not so."""
    kept, shape = shard.get(name), (len(shard["hashes"]), width)
    return kept.array() if isinstance(kept, pt_files.Raw) and (kept.dtype, kept.shape) == (dtype, shape) else None


def found_model(folder: Path) -> tuple[str, str] | None:
    """(model, preprocess) of the newest whole shard, or None when there is none. Raises `DamagedShard` when all are damaged."""
    damaged: DamagedShard | None = None
    for path in reversed(shard_paths(folder)):
        try:
            shard = _load_shard(path)
        except DamagedShard as error:
            damaged = damaged or error
            continue
        return shard["model"], shard["preprocess"]
    if damaged is not None:
        raise damaged
    return None


def compact(rows: np.ndarray) -> np.ndarray:
    """`rows` (n, d) as float16, or as they are where that is too coarse: beyond its numbers, or a row of nothing but its smallest.

    >>> compact(np.array([[0.1, 2.0]])).dtype, compact(np.array([[1e-6, 2e-7]])).dtype
    (dtype('float16'), dtype('float64'))
    """
    largest = np.abs(rows).max(axis=1, initial=0.0)
    fits = largest.max(initial=0.0) <= np.finfo(np.float16).max and largest[largest > 0].min(initial=1.0) >= HALF_LEAST
    return rows.astype(np.float16) if fits else rows


class _Row(NamedTuple):
    """One picture on its way into a shard, as `ShardWriter.add` takes it."""

    hash: str
    embedding: np.ndarray
    size: tuple[int, int] | None
    thumbnail: np.ndarray | None
    pixels: str | None


class ShardWriter:
    """Collects rows and writes a shard whenever `rows` of them are there, and at `close`.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with ShardWriter(folder, "m", "p") as writer:
    ...     writer.add(["a" * 64], np.ones((1, 3)))
    >>> load(folder).matrix.tolist()
    [[1.0, 1.0, 1.0]]
    """

    def __init__(self, folder: Path, model: str, preprocess: str, rows: int = SHARD_ROWS, maker: str = "") -> None:
        """`maker`, eight hex digits, makes names that no other machine gives in the same second."""
        self.folder, self.model, self.preprocess, self.rows = folder, model, preprocess, rows
        self.ending = f"_{maker}.pt" if maker else ".pt"
        self._waiting: list[_Row] = []
        self.written = 0

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(
        self,
        hashes: Sequence[str],
        rows: np.ndarray,
        sizes: Sequence[tuple[int, int] | None] | None = None,
        thumbnails: Sequence[np.ndarray] | None = None,
        pixels: Sequence[str | None] | None = None,
    ) -> None:
        """Take in rows (m, d), one for each hash, and the (width, height), the thumbnail and the digest of the pixels of each
        picture, where known.

        A thumbnail is uint8 and one-dimensional, of one length in a folder; a digest is 64 hex digits. Raises ValueError for
        rows that are not finite numbers of at most `LARGEST`.
        """
        if len(hashes) != len(rows) or (sizes is not None and len(sizes) != len(rows)):
            raise ValueError(f"{len(hashes)} hashes for {len(rows)} rows")
        if not (np.abs(rows) <= LARGEST).all():
            raise ValueError(f"embeddings that are not finite numbers, or beyond {LARGEST:g}")
        none = [None] * len(rows)
        several = (none if one is None else one for one in (sizes, thumbnails, pixels))
        self._waiting += map(_Row, hashes, np.asarray(rows, dtype=np.float32), *several)
        while len(self._waiting) >= self.rows:
            self._write(self.rows)

    def close(self) -> None:
        """Write what is left."""
        if self._waiting:
            self._write(len(self._waiting))

    def _write(self, count: int) -> None:
        from tagcheck.embedding import torch_files  # here, since PyTorch takes seconds to load

        written = self._waiting[:count]
        rows = np.stack([one.embedding for one in written])
        document: dict[str, Any] = {
            "kind": "embeddings",
            "version": VERSION,
            "model": self.model,
            "preprocess": self.preprocess,
            "hashes": [one.hash for one in written],
            "embeddings": compact(rows),
        }
        if any(one.size for one in written):
            document["sizes"] = np.array([one.size or (0, 0) for one in written], dtype=np.int32)
        thumbnails = [one.thumbnail for one in written if one.thumbnail is not None]
        if len(thumbnails) == count:
            document["thumbnails"] = np.stack(thumbnails)
        if any(one.pixels for one in written):
            digests = b"".join(bytes.fromhex(one.pixels or "00" * PIXEL_BYTES) for one in written)
            document["pixels"] = np.frombuffer(digests, np.uint8).reshape(count, -1).copy()
        while True:
            path = _next_name(self.folder, self.ending)
            try:
                write_atomically(path, lambda out: torch_files.save(document, out), replace=False)
            except FileExistsError:  # another process took the name in this moment
                continue
            except BaseException:
                if path.exists() and _load_shard(path)["hashes"] == document["hashes"]:
                    self._forget(count)  # it is stored: the interruption came after the link
                raise
            break
        self._forget(count)

    def _forget(self, count: int) -> None:
        """The first rows are stored."""
        self.written += count
        del self._waiting[:count]


def load(folder: Path, hashes: Iterable[str] | None = None, model: str | None = None) -> Embeddings:
    """All embeddings in `folder` as one float32 matrix; with `hashes`, only those of them that are there, in that order.

    Raises `MissingInput` when there are none at all, `BadFile` naming the file when one is damaged, holds other rows
    than it says or what is no number, or was made by another model than the rest (or than `model`, where given).
    """
    wanted = None if hashes is None else dict.fromkeys(hashes)
    if wanted is not None and (held := _HELD.get(folder)) and (taken := held.of(folder, wanted, model)):
        return taken
    place: dict[str, int] = {}  # hash -> row, counted over all parts
    parts: list[_Part] = []
    starts = [0]
    first: tuple[str, str] | None = None
    for path in shard_paths(folder):
        shard = _load_shard(path, ROWS_ALONE, later=["embeddings"])
        first = first or (shard["model"], shard["preprocess"])
        _check_same_model(path, shard, first, model, parts)
        found = zip(shard["hashes"], range(starts[-1], starts[-1] + len(shard["hashes"])))
        place.update(found if wanted is None else ((hash, row) for hash, row in found if hash in wanted))
        parts.append(_Part(path, shard["embeddings"]))
        starts.append(starts[-1] + len(shard["hashes"]))
    for path in sorted(path for path in _pt_files(folder) if ONE_FILE_A_PICTURE.fullmatch(path.name)):
        if path.stem not in place and (wanted is None or path.stem in wanted):
            row = _load_single(path)
            if parts and row.shape[1] != parts[0].width:
                raise BadFile(
                    f"{path} has {row.shape[1]} numbers, the others have {parts[0].width}: it is of another model, remove it"
                )
            place[path.stem] = starts[-1]
            parts.append(_Part(path, row))
            starts.append(starts[-1] + 1)
    if not parts:
        raise MissingInput(f"No embeddings found: no embeddings in {folder}: {MADE_BY} first")
    order = sorted(place) if wanted is None else [hash for hash in wanted if hash in place]
    places = np.fromiter(map(place.__getitem__, order), np.int64, len(order))
    return Embeddings(order, _gather(parts, np.array(starts), order, places), *(first or (None, None)))


@dataclass(frozen=True)
class _Held:
    """What was loaded of `asked` hashes while the files of a folder were as `stamp` says; the row of each that is there."""

    stamp: list[tuple[str, int, int]]
    asked: frozenset[str]
    found: Embeddings
    row: dict[str, int]

    def of(self, folder: Path, wanted: dict[str, None], model: str | None) -> Embeddings | None:
        """What `load` would read; None where it has to be read."""
        if model not in (None, self.found.model) or not wanted.keys() <= self.asked:
            return None
        if self.stamp != _stamp(folder):
            return None
        order = [hash for hash in wanted if hash in self.row]
        if order == self.found.hashes:
            return self.found
        places = np.fromiter(map(self.row.__getitem__, order), np.int64, len(order))
        return replace(self.found, hashes=order, matrix=self.found.matrix[places])


_HELD: dict[Path, _Held] = {}


def hold(folder: Path, hashes: Iterable[str], model: str | None) -> None:
    """Load embeddings, `MOST_HELD` at most, and keep them in memory, for forks of this process: `load` takes them from there as long as
    no file changes.
    """
    _HELD.clear()
    asked, stamp = list(hashes), _stamp(folder)
    if len(asked) > MOST_HELD:
        return
    found = load(folder, asked, model)
    _HELD[folder] = _Held(stamp, frozenset(asked), found, {hash: row for row, hash in enumerate(found.hashes)})


def _stamp(folder: Path) -> list[tuple[str, int, int]]:
    about = ((path.name, path.stat()) for path in _pt_files(folder))
    return sorted((name, one.st_size, one.st_mtime_ns) for name, one in about)


def load_thumbnails(folder: Path, hashes: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]:
    """The thumbnails uint8 (n, length) of `hashes` in their order, and which of them there are (n,); the newest shard wins."""
    place = {hash: row for row, hash in enumerate(hashes)}
    found, known = np.zeros((len(hashes), length), np.uint8), np.zeros(len(hashes), bool)
    for path in shard_paths(folder):
        shard = _load_shard(path)
        kept = _beside(shard, "thumbnails", "uint8", length)
        pairs = [(place[hash], row) for row, hash in enumerate(shard["hashes"]) if hash in place]
        targets, rows = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        if kept is not None:
            found[targets], known[targets] = kept[rows], True
        else:
            known[targets] = False  # this shard's embedding counts, and it has no thumbnail
    return found, known


def save_tag_head(folder: Path, head: TagHead | None) -> None:
    """Write `tag_head.pt`; None, for a tagger that has none, removes that of another."""
    if head is None:
        remove(folder / TAG_HEAD)
        return
    from tagcheck.embedding import torch_files  # here, as in `ShardWriter`

    document = {
        "kind": "tag_head",
        "version": VERSION,
        "model": head.model,
        "tags": list(head.tags),
        "weight": head.weight.astype(np.float32),
        "bias": head.bias.astype(np.float32),
    }
    if head.namespaces is not None:
        document["namespaces"] = list(head.namespaces)
    if head.thresholds is not None and np.isfinite(head.thresholds).any():
        document["thresholds"] = head.thresholds.astype(np.float32)
    path = folder / TAG_HEAD
    write_atomically(path, lambda out: torch_files.save(document, out))


def load_tag_head(folder: Path, model: str | None = None, width: int | None = None) -> TagHead | None:
    """The tag head, or None when there is none: the detectors then work from the library's own tags.

    Raises `BadFile` when it is damaged or, with `model` and `width`, belongs to another model than the embeddings of so many numbers.
    """
    path = folder / TAG_HEAD
    if not there(path):
        return None
    document = _load_pt(path)
    _check_kind(path, document, "tag_head")
    tags, weight, bias = document.get("tags"), document.get("weight"), document.get("bias")
    if not (
        isinstance(tags, list)
        and all(isinstance(tag, str) for tag in tags)
        and isinstance(weight, pt_files.Raw)
        and isinstance(bias, pt_files.Raw)
        and {weight.dtype, bias.dtype} <= {*FLOATS}
        and len(weight.shape) == 2
        and bias.shape == (len(tags),)
        and weight.shape[0] == len(tags)
    ):
        raise BadFile(f"{path}: tags, weight and bias do not belong together: {MADE_BY} again")
    rows, offsets = _as_float32(weight.array()), _as_float32(bias.array())
    if not (np.isfinite(rows).all() and np.isfinite(offsets).all()):
        raise BadFile(f"{path} holds numbers that are not finite: {MADE_BY} again")
    if model is not None and document.get("model") != model:
        raise BadFile(f"{path} is of model {document.get('model')}, the embeddings are of {model}: {MADE_BY} again")
    if width not in (None, weight.shape[1]):
        says = f"{path} is for embeddings of {weight.shape[1]} numbers, these have {width}"
        raise BadFile(f"{says}: {MADE_BY} again")
    spaces, thresholds = document.get("namespaces"), document.get("thresholds")
    if not isinstance(spaces, list) or len(spaces) != len(tags) or not all(isinstance(one, str) for one in spaces):
        spaces = None
    at = None
    if isinstance(thresholds, pt_files.Raw) and thresholds.shape == (len(tags),) and thresholds.dtype in FLOATS:
        at = thresholds.array().astype(np.float32)
    return TagHead(tags, rows, offsets, document.get("model", ""), spaces, at)


def _next_name(folder: Path, ending: str = ".pt") -> Path:
    """A shard name that sorts after every name there is, also when the clock was set back."""
    newest = max(filter(OUR_SHARD.fullmatch, (path.name for path in shard_paths(folder))), default="")
    name = f"embeddings_{utc_now().strftime(STAMP)}_000000{ending}"
    if newest >= name and (found := OUR_SHARD.fullmatch(newest)):
        name = f"{found[1]}_{int(found[2]) + 1:06d}{ending}"
    return folder / name


def _load_pt(path: Path) -> Any:
    """What a file holds, its tensors as `pt_files.Raw`, held against the archive's checksums."""
    try:
        with reading(path):
            pt_files.check(path)
            if (document := pt_files.read(path)) is not None:
                return document
            from tagcheck.embedding import torch_files  # here, as in `ShardWriter`

            with warnings.catch_warnings():
                warnings.simplefilter("ignore", category=UserWarning)
                return torch_files.load(path)
    except Exception as error:  # torch raises pickle, zip, runtime and value errors for one damaged file
        if isinstance(error, (MemoryError, ToolError)):
            raise
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise DamagedShard(f"{path} cannot be read ({reason}): remove it and {MADE_BY} again") from None


def _load_shard(path: Path, without: Container[str] = (), later: Container[str] = ()) -> dict[str, Any]:
    """A shard, its tensors as `pt_files.Raw`, and as `pt_files.Later` those of them that are to be read `later`."""
    with _reading(path):
        shard = pt_files.read(path, without, later)
    if shard is None:
        shard = _load_pt(path)
    _check_kind(path, shard, "embeddings")
    hashes, rows = shard.get("hashes"), shard.get("embeddings")
    shape: Sequence[int] = getattr(rows, "shape", ())
    if not (isinstance(hashes, list) and len(shape) == 2 and len(hashes) == shape[0] and shape[1]):
        raise BadFile(f"{path}: hashes and embeddings do not belong together: remove it and {MADE_BY} again")
    if set(map(type, hashes)) - {str}:
        raise BadFile(f"{path}: a hash is not text: remove it and {MADE_BY} again")
    if not isinstance(rows, (pt_files.Raw, pt_files.Later)) or rows.dtype not in FLOATS:
        raise _not_plain(path, rows)
    named = {name: shard.get(name, "") for name in ("model", "preprocess")}
    if set(map(type, named.values())) - {str}:
        raise BadFile(f"{path}: the name of its model or preprocessing is not text: remove it and {MADE_BY} again")
    return cast("dict[str, Any]", shard | named)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What goes wrong while a shard is read, in our words."""
    try:
        with reading(path):
            yield
    except pt_files.Refused as error:
        raise DamagedShard(
            f"{path} cannot be read ({error}): {MADE_BY} again, which embeds its pictures anew"
        ) from None


def _not_plain(path: Path, rows: Any) -> BadFile:
    """Why these rows are no embeddings."""
    dtype, layout = str(rows.dtype).removeprefix("torch."), getattr(rows, "layout", "torch.strided")
    if dtype in FLOATS and str(layout) == "torch.strided":
        return BadFile(f"{path}: more embeddings than the file has bytes for: remove it and {MADE_BY} again")
    return BadFile(
        f"{path}: embeddings are torch.{dtype} ({layout}), not plain floating point: remove it and {MADE_BY} again"
    )


def _load_single(path: Path) -> pt_files.Raw:
    row = _load_pt(path)
    if not isinstance(row, pt_files.Raw) or row.dtype not in FLOATS or not len(row.data):
        raise BadFile(f"{path} is not one tensor of floating-point numbers: remove it and {MADE_BY} again")
    return pt_files.Raw(row.dtype, (1, int(np.prod(row.shape))), row.data)


def _check_kind(path: Path, document: Any, kind: str) -> None:
    if not isinstance(document, dict) or document.get("kind") != kind:
        raise BadFile(f"{path} is not of kind {kind!r}: remove it and {MADE_BY} again")
    version = document.get("version", 1)
    if not isinstance(version, int) or version > VERSION:
        raise BadFile(
            f"{path} has version {repr(version)[:40]}, this program reads up to {VERSION}: update the program"
        )


def _check_same_model(
    path: Path, shard: dict[str, Any], first: tuple[str, str], model: str | None, parts: list[_Part]
) -> None:
    way_out = "move the shards of one of them away, or use another --data-dir"
    if (shard["model"], shard["preprocess"]) != first:
        raise BadFile(
            f"{path} is of model {shard['model']} ({shard['preprocess']}), others are of {first[0]} ({first[1]}): {way_out}"
        )
    if model is not None and shard["model"] != model:
        raise BadFile(f"{path} is of model {shard['model']}, the dataset is of {model}: {MADE_BY} again, or {way_out}")
    if parts and shard["embeddings"].shape[1] != parts[0].width:
        width, others = shard["embeddings"].shape[1], parts[0].width
        raise BadFile(f"{path} has rows of {width} numbers, others have {others}: {way_out}")


@dataclass(frozen=True)
class _Part:
    """The rows of a file on their way into a matrix: a shard's are read when they are gathered, so that one alone is held."""

    path: Path
    rows: pt_files.Raw | pt_files.Later

    @property
    def width(self) -> int:
        return self.rows.shape[1]

    def read(self) -> np.ndarray:
        if isinstance(self.rows, pt_files.Raw):
            return self.rows.array()
        with _reading(self.path):
            return self.rows.now().array()


def _gather(parts: list[_Part], starts: np.ndarray, hashes: list[str], places: np.ndarray) -> np.ndarray:
    """Rows picked from the parts into one array, a part at a time.

    `places` (n,) of each hash: its row counted over all parts, which begin at `starts`.
    """
    out = np.empty((len(hashes), parts[0].width), dtype=np.float32)
    order = np.argsort(places, kind="stable")
    bounds = np.searchsorted(places[order], starts)
    for number in np.flatnonzero(np.diff(bounds)):
        held = parts[number].read()
        for first in range(bounds[number], bounds[number + 1], GATHERED):
            targets = order[first : min(first + GATHERED, bounds[number + 1])]
            rows = places[targets] - starts[number]
            whole = rows[-1] - rows[0] == len(rows) - 1  # the places are in order, so these are neighbours
            found = _as_float32(held[rows[0] : rows[-1] + 1] if whole else held[rows])
            if not (found.min() >= -LARGEST and found.max() <= LARGEST):
                raise _unusable(found, parts[number].path, [hashes[target] for target in targets])
            out[targets] = found
    return out


def _as_float32(rows: np.ndarray) -> np.ndarray:
    """`rows` as float32. Half precision, finite, is put where float32 has its sign, exponent and digits, and scaled by the difference of what
    their exponents begin at: in a third of NumPy's own time, with the same numbers.
    """
    with np.errstate(over="ignore"):  # which is then no finite number
        if rows.dtype != np.float16:
            return rows.astype(np.float32)
    bits = rows.view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= HALF_BITS
    found = bits.view(np.float32)
    found *= HALF_SCALE
    return found if found.min(initial=0) > -HALF_ENDS and found.max(initial=0) < HALF_ENDS else rows.astype(np.float32)


def _unusable(rows: np.ndarray, path: Path, hashes: list[str]) -> BadFile:
    """What is wrong with the first of some rows that is beyond `LARGEST`."""
    place = int(np.argmin((np.abs(rows) <= LARGEST).all(axis=1)))
    numbers = f"numbers beyond {LARGEST:g}" if np.isfinite(rows[place]).all() else "numbers that are not finite"
    return BadFile(f"{path}: the embedding of {hashes[place]} holds {numbers}: remove the file and {MADE_BY} again")
