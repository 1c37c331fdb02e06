"""Published taggers' files, fetched once: checked against what the hub announces, resumed when broken off.

huggingface_hub says where a file is, how large, and its digest. The bytes are fetched here, since its
own download starts again from nothing when the process ended half way. A file gets its name only
once it is whole and its digest is right, so that what is there needs no second look.
"""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

import joytag
from tagcheck.embedding import published_layouts
from tagcheck.errors import BadFile, MissingInput, UsageError, short
from tagcheck.files import claim, remove, replace_over, sync_folder, write_atomically

REPOSITORY = "fancyfeast/joytag"
FILES = ("config.json", "top_tags.txt", "model.safetensors")  # the large one last
FOLDER = Path(joytag.__file__).resolve().parent / "weights"
LISTED = "files.txt"  # beside another tagger's files: which they are
PINNED = "commit.txt"  # beside them: the commit that they are of, from the first one on
CHUNK = 1 << 16  # what a broken connection loses at most
TIMEOUT = (10, 60)  # seconds to connect, and between two pieces
TRIES = 5  # in a row without one new byte
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Announced:
    """What the hub says about one file: where its bytes are, how many, its digest, the commit it is of; and the `headers` to ask
    for it with, among them the owner's token where the hub itself sends the bytes.
    """

    url: str
    size: int
    digest: str
    commit: str
    headers: Mapping[str, str]


def ensure(folder: Path, endpoint: str | None = None, progress: Progress | None = None, pause: float = 1.0) -> Path:
    """`folder`, with JoyTag's three published files in it; what is missing is fetched.

    `progress(name, bytes_here, bytes_in_all)` is called as bytes arrive. `endpoint` replaces the
    hub's address (default: HF_ENDPOINT, else huggingface.co). Raises `MissingInput` with both ways
    out when the files are not available, `BadFile` when what arrived is not what was announced.
    """
    return _fetch_all(Source(REPOSITORY, endpoint=endpoint), FILES, folder, _pinned(folder), progress, pause)


def ensure_model(
    name: str,
    root: Path | None = None,
    endpoint: str | None = None,
    progress: Progress | None = None,
    pause: float = 1.0,
) -> Path:
    """The folder of the tagger that the hub has as `name`, OWNER/NAME or OWNER/NAME/FOLDER, below `root`.

    `root`: where taggers are kept, a folder each below their owner's (default: TAGCHECK_MODELS, else beside JoyTag's).

    Its files are fetched at the first use, and asked for no more then. Raises as `ensure` does, and `UsageError` for
    what is no such name.
    """
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)+", name):
        raise UsageError(f"--model {name}: OWNER/NAME of a repository is expected, or OWNER/NAME/FOLDER inside it")
    folder = (root or Path(os.environ.get("TAGCHECK_MODELS") or FOLDER)) / name
    listed = folder / LISTED
    if listed.is_file() and all((folder / one).is_file() for one in listed.read_text(encoding="utf-8").splitlines()):
        return folder
    owner, repository, *inside = name.split("/")
    prefix = "".join(f"{part}/" for part in inside)
    source = Source(f"{owner}/{repository}", prefix, endpoint)
    there, commit = _listed(source, _pinned(folder))
    inside_it = [one.removeprefix(prefix) for one in there if one.startswith(prefix)]
    wanted = published_layouts.wanted_files([one for one in inside_it if "/" not in one])
    if not wanted:
        folders = sorted({one.rpartition("/")[0] for one in there if one.endswith(".onnx") and "/" in one})
        where = f"; it has some in {', '.join(folders[:5])}: add the folder to the name" if folders else ""
        raise MissingInput(f"{source.repository} holds no .onnx file{f' in {prefix}' if prefix else ''}{where}")
    _fetch_all(source, wanted, folder, commit, progress, pause)
    write_atomically(listed, lambda out: out.write("\n".join(wanted).encode()))
    return folder


@dataclass(frozen=True)
class Source:
    """A repository of the hub, the folder in it ("" or ending in a slash), and the hub's address."""

    repository: str
    prefix: str = ""
    endpoint: str | None = None

    @property
    def way_out(self) -> str:
        """What to do where its files cannot be fetched."""
        files = ", ".join(FILES) if self.repository == REPOSITORY else "the files"
        return (
            "connect to the internet and run the same command again (it goes on where it was), or put "
            f"{files} of https://huggingface.co/{self.repository} into a folder and name it with --model-dir"
        )

    @contextmanager
    def hub(self, trouble: str) -> Iterator[Any]:
        """huggingface_hub, whose errors become a `MissingInput` that begins with `trouble`."""
        import huggingface_hub  # takes a second, and is needed at the first use alone
        from huggingface_hub import errors

        try:
            yield huggingface_hub
        except (errors.HfHubHTTPError, errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]  # its own, by version
            raise MissingInput(f"{trouble} ({_words(error)}): {self.way_out}") from None


WAY_OUT = Source(REPOSITORY).way_out


def _fetch_all(
    source: Source, names: Sequence[str], folder: Path, commit: str | None, progress: Progress | None, pause: float
) -> Path:
    """`folder`, with `names` in it; what is missing is fetched, all of `commit` (None: of the newest), in however many runs."""
    for name in (one for one in names if not (folder / one).is_file()):
        folder.mkdir(parents=True, exist_ok=True)
        announced = _announced(source, name, commit, folder)
        commit = announced.commit
        _fetch(folder / name, announced, source, progress, pause)
    return folder


def _pinned(folder: Path) -> str | None:
    """The commit of the files that an earlier run has fetched into `folder`, None where none of them is left."""
    pin = folder / PINNED
    if not pin.is_file():
        return None
    others = [one for one in folder.iterdir() if one.is_file() and one.name not in (PINNED, LISTED)]
    return pin.read_text(encoding="utf-8") if any(one.suffix != ".part" for one in others) else None


def _of(commit: str | None) -> str:
    """Words for the commit that is asked for."""
    return f" of commit {commit[:12]}" if commit else ""


def _listed(source: Source, commit: str | None) -> tuple[list[str], str | None]:
    """The names of the repository's files, at the commit or now, and at which commit that is."""
    with source.hub(f"the hub does not tell the files of {source.repository}{_of(commit)}") as hub:
        api = hub.HfApi(endpoint=source.endpoint)
        said = api.model_info(source.repository, revision=commit, timeout=TIMEOUT[0])
    return [one.rfilename for one in said.siblings or ()], commit or said.sha


def _announced(source: Source, name: str, commit: str | None, folder: Path) -> Announced:
    """Ask the hub about one file, of the same commit as the files before it."""
    missing = (
        f"no {'JoyTag weights' if source.repository == REPOSITORY else f'files of {source.repository}'} in {folder}"
    )
    with source.hub(f"{missing}, and the hub cannot be asked for {name}{_of(commit)}") as hub:
        url = hub.hf_hub_url(source.repository, source.prefix + name, revision=commit, endpoint=source.endpoint)
        said = hub.get_hf_file_metadata(url, timeout=TIMEOUT[0])
    if said.size is None or said.etag is None or said.commit_hash is None:
        raise MissingInput(f"{missing}, and {url} does not announce its size and digest: {source.way_out}")
    here = urlsplit(said.location).netloc == urlsplit(url).netloc  # another host is no one to tell the token
    headers = hub.utils.build_hf_headers() if here else {}
    return Announced(said.location, said.size, said.etag, said.commit_hash, headers)


def _fetch(path: Path, announced: Announced, source: Source, progress: Progress | None, pause: float) -> None:
    """Fetch one file beside its final name, check it, give it its name."""
    part = path.with_name(f"{path.name}.{announced.digest[:16]}.part")
    if part.exists() and part.stat().st_size > announced.size:
        remove(part)
    failures = 0
    while (here := _size(part)) < announced.size:
        try:
            _append(part, announced, here, path.name, progress)
        except requests.RequestException as error:
            failures = 1 if _size(part) > here else failures + 1
            refused = error.response is not None and error.response.status_code < 500
            if refused or failures >= TRIES:
                raise MissingInput(
                    f"{path.name} of {source.repository} could not be fetched ({_words(error)}): {source.way_out}"
                ) from None
            time.sleep(pause * failures)
    if digest(part, announced.digest) != announced.digest:
        remove(part)
        raise BadFile(
            f"{path.name} arrived with another digest than {announced.url} announces and was thrown away: "
            "run the same command again"
        )
    write_atomically(path.with_name(PINNED), lambda out: out.write(announced.commit.encode()))
    replace_over(part, path)
    sync_folder(path.parent)


def _append(part: Path, announced: Announced, here: int, name: str, progress: Progress | None) -> None:
    """Fetch the bytes from `here` on into `part`. Raises requests.RequestException when the connection breaks, `UsageError`
    where another process is at it.
    """
    headers = {**announced.headers, "Accept-Encoding": "identity"} | ({"Range": f"bytes={here}-"} if here else {})
    with open(part, "ab") as out, requests.get(announced.url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if not claim(out.fileno()):
            raise UsageError(f"another run is fetching {name} into {part.parent}: wait for it or stop it first")
        answer.raise_for_status()
        if here and answer.status_code != requests.codes.partial_content:
            out.truncate(0)  # the server starts from the beginning, whatever was asked
            here = 0
        for piece in answer.iter_content(CHUNK):
            out.write(piece)
            here += len(piece)
            if progress is not None:
                progress(name, here, announced.size)
        out.flush()
        os.fsync(out.fileno())
    if here > announced.size:
        remove(part)
        raise BadFile(
            f"{announced.url} sent more than the {announced.size} bytes it announced: run the same command again"
        )
    if here < announced.size:
        raise requests.ConnectionError(f"the connection ended after {here} of {announced.size} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def digest(path: Path, like: str) -> str:
    """The file's digest in the manner of `like`: SHA-256 (64 hex digits, large files), or git's SHA-1 of a blob (40)."""
    made = (
        hashlib.sha256()
        if re.fullmatch("[0-9a-f]{64}", like)
        else hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    )
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: made).hexdigest()


def _words(error: Exception) -> str:
    """What a library said, and the kind of its error."""
    said = short(error, 150)
    return f"{type(error).__name__}: {said}" if str(error) else said
