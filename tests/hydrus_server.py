"""A local server that answers as a real Hydrus client did (v682, Client API 95), errors and oddities included.

    python tests/hydrus_server.py --pictures DIR --port 0
    python tests/hydrus_server.py --pictures DIR --pages '{"dataset": {"cats": ["a.png"]}}'

It keeps everything in memory: pictures with their sidecar tags (`picture.jpg.txt` or `picture.txt`,
one tag a line), two local tag services and a repository, siblings and parents, pages. The ground
is recorded exchanges, of which tests/data/hydrus/ holds excerpts that it is compared with. What it
must never be asked for (`refresh_page`, bytes of what it does not know) is answered as Hydrus does,
harm included, and noted in `refreshed`, `alarms` and `strays`.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import io
import json
import re
import secrets
import socket
import sys
import threading
import time
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError

VERSION, HYDRUS_VERSION = 95, 682
KEY_HEADER = "Hydrus-Client-API-Access-Key"
MY_TAGS = "6c6f63616c2074616773"
DOWNLOADER_TAGS = "646f776e6c6f616465722074616773"
AI_TAGS = "fff40c24838590afb3f14c0bcf3bf5fdc25d4ff381b5bc78cc951f2dfeb67006"
REPOSITORY = "39d17ca516175ae5b3da66e7d0adc9bef80ead7417807808587fc8dae291751e"
ALL_KNOWN_TAGS = "616c6c206b6e6f776e2074616773"
MY_FILES, ALL_MEDIA, ALL_LOCAL = (
    "6c6f63616c2066696c6573",
    "616c6c206c6f63616c206d65646961",
    "616c6c206c6f63616c2066696c6573",
)
TRASH = "7472617368"
LOCAL_TAG, TAG_REPOSITORY, COMBINED_TAG = 5, 0, 10
PRETTY = {
    0: "hydrus tag repository",
    2: "local file domain",
    5: "local tag domain",
    10: "virtual combined tag domain",
    14: "local trash file domain",
    15: "virtual combined local file domain",
    21: "virtual combined local media domain",
}
SERVICES = {
    AI_TAGS: ("ai suggestions", LOCAL_TAG),
    DOWNLOADER_TAGS: ("downloader tags", LOCAL_TAG),
    MY_TAGS: ("my tags", LOCAL_TAG),
    REPOSITORY: ("fake tag repo", TAG_REPOSITORY),
    MY_FILES: ("my files", 2),
    ALL_LOCAL: ("hydrus local file storage", 15),
    ALL_MEDIA: ("combined local file domains", 21),
    ALL_KNOWN_TAGS: ("all known tags", COMBINED_TAG),
    TRASH: ("trash", 14),
}
TAG_SERVICES = tuple(key for key, (_, kind) in SERVICES.items() if kind in (LOCAL_TAG, TAG_REPOSITORY))
PERMISSION_NAMES = {
    0: "import and edit urls",
    1: "import and delete files",
    2: "edit file tags",
    3: "search for and fetch files",
    4: "manage pages",
    5: "manage cookies and headers",
    6: "manage database",
    7: "edit file notes",
    8: "edit file relationships",
    9: "edit file ratings",
    10: "manage popups",
    11: "edit file times",
    12: "commit pending",
    13: "see local file paths",
}
MIMES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
}
EXTENSIONS = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "image/bmp": ".bmp",
    "image/tiff": ".tiff",
}
READY, INITIALISING, SEARCHING, CANCELLED = 0, 1, 2, 3
MEDIA_PAGE, DOWNLOADER_PAGE, PAGE_OF_PAGES = 6, 7, 10
TOO_LONG = 2 * 1024 * 1024


@dataclass
class Refusal(Exception):
    """An error answer: HTTP status, Hydrus' exception name, its words."""

    status: int
    kind: str
    says: str


def bad_request(says: str) -> Refusal:
    return Refusal(400, "BadRequestException", says)


def not_found(says: str, kind: str = "NotFoundException") -> Refusal:
    return Refusal(404, kind, says)


@dataclass
class StoredFile:
    """One file of the client. `data` is None for what it has only heard of; `state` is "local", "trashed", "deleted" or "ghost"."""

    hash: str
    file_id: int
    data: bytes | None = None
    state: str = "ghost"
    mime: str = "unknown filetype"
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    duration: int | None = None
    pixel_hash: str | None = None
    imported: float = 1795442586.0
    inbox: bool = True

    @property
    def is_local(self) -> bool:
        return self.state in ("local", "trashed")


@dataclass
class PageNode:
    """A page. `kind`: "pages" (holds others), "hashes" (files without a search), "locked", "search" (by `terms`), "downloader".

    `unready` is how many more questions are answered as if it were loading or searching (`state`).
    """

    name: str
    kind: str
    key: str = field(default_factory=lambda: secrets.token_hex(32))
    hashes: list[str] = field(default_factory=list)
    terms: list[Any] = field(default_factory=list)
    children: list[PageNode] = field(default_factory=list)
    state: int = READY
    unready: int = 0

    @property
    def type(self) -> int:
        return {"pages": PAGE_OF_PAGES, "downloader": DOWNLOADER_PAGE}.get(self.kind, MEDIA_PAGE)

    def all(self) -> Iterable[PageNode]:
        yield self
        for child in self.children:
            yield from child.all()


@dataclass(frozen=True)
class Call:
    """One request that came in: `asked` is the query or the body, decoded."""

    method: str
    path: str
    asked: dict[str, Any]
    headers: dict[str, str]


class HydrusServer:
    """The server, as a context manager: `.url` and `.key` (all permissions) are what a client needs.

    `pictures`: a folder (sub-folders become pages under "Dataset", the rest a page "loose"), or a
    mapping of file name -> (bytes, tags). `pages`: a nested mapping or list of pairs, page name ->
    list of file names or hashes, or -> more pages; None takes the folder's own shape.
    """

    def __init__(
        self, pictures: str | Path | Mapping[str, tuple[bytes, Iterable[str]]], pages: Any = None, port: int = 0
    ) -> None:
        self.files: dict[str, StoredFile] = {}
        self.names: dict[str, str] = {}
        self.mappings: dict[str, dict[str, dict[str, set[str]]]] = {key: {} for key in TAG_SERVICES}
        self.siblings: dict[str, dict[str, str]] = {key: {} for key in TAG_SERVICES}
        self.parents: dict[str, dict[str, set[str]]] = {key: {} for key in TAG_SERVICES}
        self.keys: dict[str, tuple[str, frozenset[int]]] = {}
        self.filters: dict[str, str] = {}  # of keys that see some files only: what they may search for, in words
        self.relationships: dict[tuple[str, str], str] = {}
        self.popups: dict[str, dict[str, Any]] = {}
        # Keys of popups that the GUI has not taken yet: the next question does not find them.
        self.arriving: set[str] = set()
        self.calls: list[Call] = []
        self.refreshed: list[str] = []  # pages that somebody refreshed: harmful
        self.alarms: list[int] = []  # unknown file ids that somebody asked bytes for: harmful
        self.strays: list[str] = []  # unknown hashes that somebody asked bytes or relationships for: each leaves a row
        self.committed: list[str] = []  # repositories whose pending changes somebody uploaded
        self.locked = False
        self.saves_after = 30.0  # seconds until what was changed is on the disk; a kill before loses it
        self._unsaved: tuple[float, dict[str, dict[str, dict[str, set[str]]]]] | None = None
        self.before_answer: Callable[[Call], None] = lambda call: None
        self.guard = threading.RLock()
        self.key = self.add_key("toolkit full", range(14))
        self.asking: tuple[str, frozenset[int]] = ("", frozenset())
        self.boot_id = secrets.token_hex(32)
        self.root = PageNode("top page notebook", "pages")
        self._take_in(pictures)
        self._add_pages(self.root, self._default_pages() if pages is None else pages)
        self._port = port
        self._server: ThreadingHTTPServer | None = None

    # --- running ------------------------------------------------------------------------------------

    def __enter__(self) -> HydrusServer:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        handler = type("BoundHandler", (Handler,), {"client": self})
        self._server = Listener(("127.0.0.1", self._port), handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Close the port and every connection: from now on connections are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.close_all()
            self._server = None

    def restart(self, unready: int = 2, reopen: bool = True) -> None:
        """The client is closed and started again: a new boot id, new page keys, pages that load for `unready` questions."""
        running = self._server is not None
        if running and reopen:
            self.stop()
        with self.guard:
            self.boot_id = secrets.token_hex(32)
            for page in self.root.all():
                page.key = secrets.token_hex(32)
                if page.kind != "pages":
                    page.state, page.unready = INITIALISING, unready
        if running and reopen:
            self.start()

    def kill(self) -> None:
        """The client dies: what it had not saved is lost, and connections are refused."""
        self.stop()
        with self.guard:
            if self._unsaved is not None:
                self.mappings = self._unsaved[1]
            self._unsaved = None

    def save(self) -> None:
        """Everything is on the disk."""
        with self.guard:
            self._unsaved = None

    def changing(self) -> None:
        """Called before mappings change: from now on there is something that a kill would lose."""
        if self._unsaved is not None and time.monotonic() - self._unsaved[0] > self.saves_after:
            self._unsaved = None
        if self._unsaved is None:
            self._unsaved = (time.monotonic(), copy.deepcopy(self.mappings))

    # --- arranging ----------------------------------------------------------------------------------

    def add_key(self, name: str, permissions: Iterable[int], only: str = "") -> str:
        """A key with these permissions; `only`: the filter on what it may search for, like "allowing all tags except x"."""
        key = secrets.token_hex(32)
        if only:
            self.filters[name] = only
        self.keys[key] = (name, frozenset(permissions))
        return key

    def add_file(self, data: bytes, tags: Iterable[str] = (), service: str = MY_TAGS) -> str:
        """Import a file with its tags; its hash."""
        hash = hashlib.sha256(data).hexdigest()
        stored = self.files.setdefault(hash, StoredFile(hash, 2 * len(self.files) + 1))
        stored.data, stored.state, stored.imported = data, "local", stored.imported + len(self.files)
        _look_into(stored)
        self.tag(hash, tags, service)
        return hash

    def ghost(self, hash: str) -> StoredFile:
        """What Hydrus makes of a hash that it has only heard of."""
        return self.files.setdefault(hash, StoredFile(hash, 1000000 + len(self.files)))

    def tag(self, hash: str, tags: Iterable[str], service: str = MY_TAGS, status: str = "0") -> None:
        """Store tags under a status ("0" current, "1" pending, "2" deleted, "3" petitioned)."""
        self._statuses(service, hash)[status].update(clean for clean in map(clean_tag, tags) if clean)

    def stored(self, hash: str, service: str = MY_TAGS) -> dict[str, list[str]]:
        """The stored tags of a file by status, sorted; statuses without tags are left out."""
        return {status: sorted(tags) for status, tags in sorted(self._statuses(service, hash).items()) if tags}

    def page(self, *names: str) -> PageNode:
        """The page with that path of names."""
        node = self.root
        for name in names:
            node = next(child for child in node.children if child.name == name)
        return node

    def _statuses(self, service: str, hash: str) -> dict[str, set[str]]:
        return self.mappings[service].setdefault(hash, defaultdict(set))

    def _take_in(self, pictures: Any) -> None:
        if isinstance(pictures, Mapping):
            for name, (data, tags) in pictures.items():
                self.names[name] = self.add_file(data, tags)
            return
        root = Path(pictures)
        for path in sorted(path for path in root.rglob("*") if path.is_file() and path.suffix != ".txt"):
            tags: list[str] = []
            for sidecar in (path.with_name(path.name + ".txt"), path.with_suffix(".txt")):
                if sidecar.is_file():
                    tags += re.split(r"[\n,]", sidecar.read_text(encoding="utf-8"))
            self.names[path.relative_to(root).as_posix()] = self.add_file(path.read_bytes(), tags)

    def _default_pages(self) -> Any:
        """The folder's own shape: a folder that has pictures and sub-folders holds a page of its own name for the pictures."""

        def shaped(prefix: str, name: str) -> Any:
            below = [path.removeprefix(prefix) for path in self.names if path.startswith(prefix)]
            own = [prefix + path for path in below if "/" not in path]
            folders = dict.fromkeys(path.partition("/")[0] for path in below if "/" in path)
            if not folders and prefix:
                return own
            return [
                *([(name, own)] if own else []),
                *((folder, shaped(f"{prefix}{folder}/", folder)) for folder in folders),
            ]

        return [("Dataset", shaped("", "loose"))]

    def _add_pages(self, parent: PageNode, pages: Any) -> None:
        for name, content in pages.items() if isinstance(pages, Mapping) else pages:
            if isinstance(content, PageNode):
                content.name = name
                content.hashes = [self.names.get(one, one) for one in content.hashes]
                parent.children.append(content)
            elif isinstance(content, Mapping) or (content and isinstance(content[0], tuple)):
                node = PageNode(name, "pages")
                parent.children.append(node)
                self._add_pages(node, content)
            else:
                hashes = [self.names.get(one, one) for one in content]
                for hash in hashes:
                    self.ghost(hash)
                parent.children.append(PageNode(name, "hashes", hashes=hashes))

    # --- tags ---------------------------------------------------------------------------------------

    def ideal(self, service: str, tag: str) -> str:
        while tag in self.siblings.get(service, {}):
            tag = self.siblings[service][tag]
        return tag

    def ancestors(self, service: str, tag: str) -> set[str]:
        found: set[str] = set()
        todo = [self.ideal(service, tag)]
        while todo:
            for parent in self.parents.get(service, {}).get(todo.pop(), ()):
                ideal = self.ideal(service, parent)
                if ideal not in found:
                    found.add(ideal)
                    todo.append(ideal)
        return found

    def displayed(self, service: str, hash: str) -> dict[str, list[str]]:
        """Stored tags with siblings and parents applied to the current and the pending ones."""
        shown = {}
        for status, tags in self.stored(hash, service).items():
            if status in "01":
                tags = sorted(
                    {one for tag in tags for one in {self.ideal(service, tag)} | self.ancestors(service, tag)}
                )
            shown[status] = tags
        return shown

    def tags_object(self, hash: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        union: dict[str, dict[str, set[str]]] = {"storage_tags": defaultdict(set), "display_tags": defaultdict(set)}
        for key in TAG_SERVICES:
            both = {"storage_tags": self.stored(hash, key), "display_tags": self.displayed(key, hash)}
            found[key] = _service_words(key) | both
            for which, by_status in both.items():
                for status, tags in by_status.items():
                    union[which][status] |= set(tags)
        found[ALL_KNOWN_TAGS] = _service_words(ALL_KNOWN_TAGS) | {
            which: {status: sorted(tags) for status, tags in by_status.items()} for which, by_status in union.items()
        }
        return found

    def search(self, terms: list[Any], service: str = ALL_KNOWN_TAGS, where: str = ALL_MEDIA) -> list[str]:
        """Hashes of the local files that satisfy all terms; a list among them means "one of these"."""
        if not terms:
            return []
        limit = next(
            (
                int(term.partition("=")[2])
                for term in terms
                if isinstance(term, str) and term.startswith("system:limit")
            ),
            None,
        )
        rest = [term for term in terms if not (isinstance(term, str) and term.startswith("system:limit"))]
        for term in rest:  # what cannot be parsed is refused, also where no file is looked at
            self._matches(StoredFile("0" * 64, 0), term, service)
        found = [
            hash
            for hash in self.on_domain(where)
            if all(self._matches(self.files[hash], term, service) for term in rest)
        ]
        return found[:limit]

    def on_domain(self, where: str) -> list[str]:
        """Hashes of the files of a file domain."""
        wanted = {TRASH: ("trashed",), ALL_LOCAL: ("local", "trashed")}.get(where, ("local",))
        return [hash for hash, one in self.files.items() if one.state in wanted]

    def _matches(self, one: StoredFile, term: Any, service: str) -> bool:
        if isinstance(term, list):
            return any(self._matches(one, some, service) for some in term)
        if not (term.removeprefix("-").startswith("system:") or clean_tag(term)):
            raise bad_request(f'Could not understand the tag: "{term}"')
        if term.startswith("-"):
            return not self._matches(one, term[1:], service)
        if term.startswith("system:"):
            return self._system(one, term)
        services = TAG_SERVICES if service == ALL_KNOWN_TAGS else (service,)
        shown = {
            (key, tag)
            for key in services
            for status, tags in self.displayed(key, one.hash).items()
            if status in "01"
            for tag in tags
        }
        if term.endswith(":*"):
            return any(tag.startswith(term[:-1]) for _, tag in shown)
        return any(tag == self.ideal(key, term) for key, tag in shown)

    def _system(self, one: StoredFile, term: str) -> bool:
        known = {
            "system:everything": True,
            "system:inbox": one.inbox,
            "system:archive": not one.inbox,
            "system:filetype is image": one.mime.startswith("image/") and one.duration is None,
        }
        if term in known:
            return known[term]
        relation = re.fullmatch(r"system:num file relationships > 0 (duplicates|alternates|false positives)", term)
        if relation:
            kind = {"duplicates": "8", "alternates": "3", "false positives": "1"}[relation[1]]
            return one.hash in self.files and bool(Judged(self, self.on_domain(ALL_LOCAL)).others(one.hash, kind))
        hashes = re.fullmatch(r"system:hash\s*(?:=|is)\s*((?:[0-9a-f]{64}\s*)+)", term)
        if hashes:
            return one.hash in hashes[1].split()
        raise bad_request(f'Could not parse system predicate "{term}"!')


# --- HTTP -------------------------------------------------------------------------------------------


class Listener(ThreadingHTTPServer):
    """A threaded server that can close the connections which clients keep open, as a program that ends does."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, *args: Any) -> None:
        self.open: set[socket.socket] = set()
        super().__init__(*args)

    def process_request(self, request: socket.socket, address: Any) -> None:
        self.open.add(request)
        super().process_request(request, address)

    def shutdown_request(self, request: socket.socket) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, address)

    def close_all(self) -> None:
        self.server_close()
        for connection in list(self.open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # the other side was quicker
                continue


class Handler(BaseHTTPRequestHandler):
    """One request: who asks, what for, and the answer in Hydrus' own form."""

    client: HydrusServer
    protocol_version = "HTTP/1.1"
    server_version = sys_version = ""
    wbufsize = 1 << 16  # head and body in one packet: without this every answer waits 40 ms for an acknowledgement

    def do_GET(self) -> None:
        self._serve("GET")

    def do_HEAD(self) -> None:
        self._serve("HEAD")

    def do_POST(self) -> None:
        self._serve("POST")

    def log_message(self, *args: Any) -> None:
        """Silent: `calls` keeps what matters."""

    def _serve(self, method: str) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if len(self.requestline) > TOO_LONG:
            self.close_connection = True
            return None
        address = urlsplit(self.path)
        route = ROUTES.get(("GET" if method == "HEAD" else method, address.path))
        try:
            if route is None:
                raise self._no_such_page(address.path)
            with self.client.guard:
                if self.client.locked and address.path != "/manage_database/lock_off":
                    raise Refusal(503, "ServerBusyException", "This server is busy, please try again later.")
            asked = dict(parse_qsl(address.query)) if method != "POST" else _body(raw, self.headers.get("Content-Type"))
            call = Call(method, address.path, asked, dict(self.headers))
            self.client.calls.append(call)
            self.client.before_answer(call)
            with self.client.guard:
                self._check_key(asked, route.permission)
                answer = route.answer(self.client, asked)
        except Refusal as refusal:
            return self._refuse(refusal)
        self._send(200, answer)
        return None

    def _check_key(self, asked: Mapping[str, Any], permission: int | None) -> None:
        if permission == OPEN:
            return
        given = self.headers.get(KEY_HEADER, asked.get(KEY_HEADER))
        if given is None:
            raise Refusal(401, "MissingCredentialsException", "No access key or session key provided!")
        if not re.fullmatch(r"([0-9a-fA-F]{2})*\s*", given):
            raise bad_request(f"Problem parsing {KEY_HEADER}!")
        held = self.client.keys.get(given.strip().lower())
        if held is None:
            raise Refusal(403, "InsufficientCredentialsException", "Did not find an entry for that access key!")
        self.client.asking = held
        if permission is not None and permission not in held[1]:
            raise Refusal(
                403,
                "InsufficientCredentialsException",
                f"You do not have permission to: {PERMISSION_NAMES[permission]}",
            )

    def _no_such_page(self, path: str) -> Refusal:
        if any(known == path for _, known in ROUTES):
            return not_found("This service does not support that request!")
        return Refusal(
            404,
            "html",
            "<html><head><title>404 - No Such Resource</title></head><body><h1>No Such Resource</h1></body></html>",
        )

    def _refuse(self, refusal: Refusal) -> None:
        if refusal.kind == "html":
            return self._send(404, Bytes(refusal.says.encode(), "text/html; charset=utf-8", ""))
        says = {"error": refusal.says, "exception_type": refusal.kind, "status_code": refusal.status}
        self._send(refusal.status, says | {"version": VERSION, "hydrus_version": HYDRUS_VERSION})
        return None

    def _send(self, status: int, answer: dict[str, Any] | Bytes | None) -> None:
        self.send_response(status)
        self.send_header("Hydrus-Server", f"client api/{VERSION} ({HYDRUS_VERSION})")
        if isinstance(answer, dict):
            data = json.dumps(
                {**answer, "version": VERSION, "hydrus_version": HYDRUS_VERSION}, ensure_ascii=False
            ).encode()
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Disposition", "inline")
        elif answer is None:
            data = b""
        else:
            data = answer.data
            self.send_header("Content-Type", answer.mime)
            if not answer.mime.startswith("text/html"):
                self.send_header(
                    "Content-Disposition", f'inline; filename="{answer.name}"' if answer.name else "inline"
                )
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def version_string(self) -> str:
        return f"client api/{VERSION} ({HYDRUS_VERSION})"


@dataclass(frozen=True)
class Bytes:
    """An answer that is no JSON."""

    data: bytes
    mime: str
    name: str


OPEN = -1  # "permission" of what needs no key at all


@dataclass(frozen=True)
class Route:
    answer: Callable[[HydrusServer, dict[str, Any]], dict[str, Any] | Bytes | None]
    permission: int | None


ROUTES: dict[tuple[str, str], Route] = {}


def route(method: str, path: str, permission: int | None) -> Callable[[Callable], Callable]:
    """Register the function that answers `method path` to keys with `permission` (None: any key)."""

    def register(answer: Callable) -> Callable:
        ROUTES[method, path] = Route(answer, permission)
        return answer

    return register


def _body(raw: bytes, content_type: str | None) -> dict[str, Any]:
    """A POST's arguments. Without the JSON content type Hydrus ignores the body, unless it is a file's bytes."""
    if content_type == "application/octet-stream":
        return {"bytes": raw}
    if (content_type or "").split(";")[0].strip() != "application/json":
        return {}
    try:
        body = json.loads(raw.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise bad_request(f"Sorry, did not understand the JSON you gave me: {error}") from None
    if not isinstance(body, dict):
        raise bad_request("The given parameter did not seem to be a JSON Object!")
    return body


def _parsed(asked: Mapping[str, Any], name: str, default: Any, what: str = "string") -> Any:
    """A query argument that is JSON in the address; `False` and `['a']` are none."""
    value = asked.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        raise bad_request(f"I was expecting to parse '{name}' as a json-encoded {what}, but it failed.") from None


def _hashes(asked: Mapping[str, Any]) -> list[str]:
    """The hashes of a request, checked as Hydrus does: one bad one spoils all."""
    if "hash" in asked:
        given = [asked["hash"]]
    elif "hashes" in asked:
        given = _parsed(asked, "hashes", [], "hex strings")
    else:
        raise bad_request("Please include some files in your request--file_id or hash based!")
    if not isinstance(given, list):
        raise bad_request("I was expecting to parse 'hashes' as a json-encoded hex strings, but it failed.")
    if not given:
        raise bad_request("Sorry, I was expecting at least 1 sha256 hash, but none were given!")
    for one in given:
        if not re.fullmatch("([0-9a-fA-F]{2})*", one):
            raise bad_request("I was expecting to parse 'hashes' as a json-encoded hex strings, but it failed.")
        if len(one) != 64:
            raise bad_request(
                f"Sorry, one of the given hashes was the wrong length! sha256 hashes should be 32 bytes long, but {one} is {len(one) // 2} bytes long!"
            )
    return [one.lower() for one in given]


# --- access -----------------------------------------------------------------------------------------


@route("GET", "/api_version", OPEN)
def api_version(client: HydrusServer, asked: dict[str, Any]) -> dict[str, Any]:
    return {}


@route("GET", "/verify_access_key", None)
def verify_access_key(client: HydrusServer, asked: dict[str, Any]) -> dict[str, Any]:
    name, permissions = client.asking
    said = (
        "can do anything" if len(permissions) == 14 else ", ".join(PERMISSION_NAMES[one] for one in sorted(permissions))
    )
    return {
        "name": name,
        "permits_everything": len(permissions) == 14,
        "basic_permissions": sorted(permissions),
        "human_description": f"API Permissions ({name}): {said}{_may_search(client, name, permissions)}",
    }


def _may_search(client: HydrusServer, name: str, permissions: frozenset[int]) -> str:
    if name in client.filters:
        return f": Can search: {client.filters[name]}"
    return ": Can search: allowing all tags" if 3 in permissions and len(permissions) < 14 else ""


@route("GET", "/client_info", None)
def client_info(client: HydrusServer, asked: dict[str, Any]) -> dict[str, Any]:
    return {"boot_id": client.boot_id, "boot_time": 1795442433.35, "currently_idle": False}


@route("GET", "/get_services", None)
def get_services(client: HydrusServer, asked: dict[str, Any]) -> dict[str, Any]:
    some = (1, 9, 2, 7, 4, 8, 3)
    if client.asking[1].isdisjoint(some):
        names = ", ".join(PERMISSION_NAMES[one] for one in some)
        says = f"You need at least one these permissions: {names}"
        raise Refusal(403, "InsufficientCredentialsException", says)
    lists = {
        "local_tags": LOCAL_TAG,
        "tag_repositories": TAG_REPOSITORY,
        "local_files": 2,
        "all_known_tags": COMBINED_TAG,
        "trash": 14,
    }
    found: dict[str, Any] = {
        name: [_service_words(key) | {"service_key": key} for key, (_, of) in SERVICES.items() if of == kind]
        for name, kind in lists.items()
    }
    return found | {"services": {key: _service_words(key) for key in SERVICES}}


def _service_words(key: str) -> dict[str, Any]:
    name, kind = SERVICES[key]
    return {"name": name, "type": kind, "type_pretty": PRETTY[kind]}


# --- pages ------------------------------------------------------------------------------------------


@route("GET", "/manage_pages/get_pages", 4)
def get_pages(client: HydrusServer, asked: dict[str, Any]) -> dict[str, Any]:
    def shown(page: PageNode, selected: bool) -> dict[str, Any]:
        found = _page_head(page) | {"selected": selected}
        if page.kind == "pages":
            found["pages"] = [shown(child, place == 0 and selected) for place, child in enumerate(page.children)]
        return found

    return {"pages": shown(client.root, True)}


def _page_head(page: PageNode) -> dict[str, Any]:
    state = page.state if page.unready else (CANCELLED if page.state == CANCELLED else READY)
    return {
        "name": page.name,
        "page_key": page.key,
        "page_state": state,
        "page_type": page.type,
        "is_media_page": page.kind != "pages",
    }


def _page_asked(client: HydrusServer, asked: Mapping[str, Any], says: str) -> PageNode:
    key = asked.get("page_key")
    if key is None:
        raise bad_request('The required parameter "page_key" was missing!')
    if not re.fullmatch("[0-9a-f]*", key):
        raise bad_request("I was expecting to parse 'page_key' as a hex string, but it failed.")
    for page in client.root.all():
        if page.key == key:
            return page
    raise not_found(says.format(key))


@route("GET", "/manage_pages/get_page_info", 4)
def get_page_info(client: HydrusServer, asked: dict[str, Any]) -> dict[str, Any]:
    page = _page_asked(client, asked, 'Did not find a page for "{}"!')
    simple = _parsed(asked, "simple", True)
    info = _page_head(page)
    if page.kind != "pages":
        hashes = (
            []
            if page.unready
            else client.search(page.terms)
            if page.kind == "search" and not page.hashes
            else page.hashes
        )
        media: dict[str, Any] = {
            "num_files": len(hashes),
            "hash_ids": [client.ghost(hash).file_id for hash in hashes],
            "num_files_selected": 0,
            "hash_ids_selected": [],
        }
        info |= {"management": {}, "media": media if simple else media | {"hashes": hashes, "hashes_selected": []}}
        page.unready = max(0, page.unready - 1)
    return {"page_info": info}


@route("POST", "/manage_pages/refresh_page", 4)
def refresh_page(client: HydrusServer, asked: dict[str, Any]) -> None:
    page = _page_asked(client, asked, "Could not find that page!")
    client.refreshed.append(page.name)
    if page.kind == "pages":
        raise Refusal(
            500,
            "AttributeError",
            'The "client api" encountered an error it could not handle!\n\nTraceback (most recent call last):',
        )
    if page.kind == "search":
        page.hashes, page.state, page.unready = [], SEARCHING, 1
    elif page.kind != "locked":
        page.hashes = []


@route("POST", "/manage_pages/new_page", 4)
def new_page(client: HydrusServer, asked: dict[str, Any]) -> dict[str, Any]:
    kind = asked.get("page_type")
    if kind is None:
        raise bad_request('The required parameter "page_type" was missing!')
    if kind not in (MEDIA_PAGE, DOWNLOADER_PAGE, PAGE_OF_PAGES):
        raise bad_request("Unrecognised or unsupported page type!")
    parent = client.root
    if "page_of_pages_key" in asked:
        parent = next(
            (one for one in client.root.all() if one.key == asked["page_of_pages_key"] and one.kind == "pages"), None
        )
        if parent is None:
            raise not_found("Could not find a page of pages with that key!")
    locked = asked.get("system_hash_locked", False)
    if locked and not asked.get("hashes"):
        raise bad_request("system_hash_locked requires hashes to be provided!")
    terms = asked.get("tags", [])
    shape = {PAGE_OF_PAGES: "pages", DOWNLOADER_PAGE: "downloader"}.get(kind) or (
        "locked" if locked else "search" if terms else "hashes"
    )
    page = PageNode(
        asked.get("page_name", "files"), shape, hashes=_hashes(asked) if asked.get("hashes") else [], terms=terms
    )
    for hash in page.hashes:
        client.ghost(hash)
    parent.children.append(page)
    return {"page_key": page.key, "page_type": kind, "page_name": page.name}


@route("POST", "/manage_pages/add_files", 4)
def add_files(client: HydrusServer, asked: dict[str, Any]) -> None:
    page = _page_asked(client, asked, "Could not find that page!")
    if page.kind == "pages":
        raise bad_request("That page key was not for a normal media page!")
    for hash in _hashes(asked):
        client.ghost(hash)
        if hash not in page.hashes:
            page.hashes.append(hash)


# --- files ------------------------------------------------------------------------------------------


@route("POST", "/add_files/add_file", 1)
def add_file(client: HydrusServer, asked: dict[str, Any]) -> dict[str, Any]:
    """Import the body's bytes. Whether that went well is in the JSON's `status`, not in the HTTP status."""
    data = asked.get("bytes", b"")
    hash = hashlib.sha256(data).hexdigest()
    known = client.files.get(hash)
    if known is not None and known.state in ("trashed", "deleted"):
        return {"status": 3, "hash": hash, "note": "Deleted from the client"}
    if known is not None and known.is_local:
        return {"status": 2, "hash": hash, "note": "File already in database"}
    if not data:
        return {"status": 4, "hash": hash, "note": "File had zero size", "traceback": "Traceback"}
    client.add_file(data)
    return {"status": 1, "hash": hash, "note": ""}


@route("POST", "/add_files/delete_files", 1)
def delete_files(client: HydrusServer, asked: dict[str, Any]) -> None:
    """To the trash; from everywhere when the domain over all local files is named."""
    for hash in _hashes(asked):
        client.files[hash].state = "deleted" if asked.get("file_service_key") == ALL_LOCAL else "trashed"


@route("GET", "/get_files/search_files", 3)
def search_files(client: HydrusServer, asked: dict[str, Any]) -> dict[str, Any]:
    found = client.search(
        _parsed(asked, "tags", []),
        asked.get("tag_service_key", ALL_KNOWN_TAGS),
        asked.get("file_service_key", ALL_MEDIA),
    )
    answer: dict[str, Any] = {}
    if _parsed(asked, "return_hashes", False):
        answer["hashes"] = found
    if _parsed(asked, "return_file_ids", True):
        answer["file_ids"] = [client.files[hash].file_id for hash in found]
    return answer


@route("GET", "/get_files/file_metadata", 3)
def file_metadata(client: HydrusServer, asked: dict[str, Any]) -> dict[str, Any]:
    if client.asking[0] in client.filters:
        raise bad_request("It looks like those search results are no longer available--please run the search again!")
    if "file_ids" in asked:
        by_id = {one.file_id: hash for hash, one in client.files.items()}
        wanted = _parsed(asked, "file_ids", [])
        novel = [one for one in wanted if one not in by_id]
        if novel:
            raise not_found(
                f"It seems you gave a file_id that does not exist! Was asked about these novel hash_ids: {novel}"
            )
        hashes = [by_id[one] for one in wanted]
    else:
        hashes = _hashes(asked)
    rows = []
    for hash in dict.fromkeys(hashes):
        one = client.files.get(hash)
        if one is None:
            rows.append({"file_id": None, "hash": hash})
        elif _parsed(asked, "only_return_identifiers", False):
            rows.append({"file_id": one.file_id, "hash": hash})
        else:
            rows.append(_row(client, one, _parsed(asked, "only_return_basic_information", False)))
    answer: dict[str, Any] = {"metadata": rows}
    if _parsed(asked, "include_services_object", True):
        answer["services"] = {key: _service_words(key) for key in SERVICES}
    return answer


def _row(client: HydrusServer, one: StoredFile, basic: bool) -> dict[str, Any]:
    known = one.data is not None
    row: dict[str, Any] = {
        "file_id": one.file_id,
        "hash": one.hash,
        "size": len(one.data) if known else None,
        "mime": one.mime,
        "filetype_human": one.mime.rpartition("/")[2],
        "filetype_enum": 2 if known else 101,
        "ext": EXTENSIONS.get(one.mime, ""),
        "width": one.width,
        "height": one.height,
        "duration": one.duration,
        "num_frames": one.frames,
        "num_words": None,
        "has_audio": False if known else None,
        "filetype_forced": False,
    }
    if basic:
        return row
    when = {"time_imported": int(one.imported)}
    domains = {"local": (MY_FILES, ALL_MEDIA, ALL_LOCAL), "trashed": (TRASH, ALL_LOCAL)}.get(one.state, ())
    row |= {
        "blurhash": None,
        "pixel_hash": one.pixel_hash,
        "thumbnail_width": 125,
        "thumbnail_height": 125,
        "file_services": {"current": {key: _service_words(key) | when for key in domains}, "deleted": {}},
        "time_modified": int(one.imported) if known else None,
        "time_modified_details": {},
        "is_inbox": one.inbox and one.is_local,
        "is_local": one.is_local,
        "is_trashed": one.state == "trashed",
        "is_deleted": one.state in ("trashed", "deleted"),
        "has_transparency": False,
        "has_exif": False,
        "has_xmp": False,
        "has_iptc": False,
        "has_human_readable_embedded_metadata": False,
        "has_software_source": False,
        "has_icc_profile": False,
        "known_urls": [],
        "ipfs_multihashes": {},
        "ratings": {},
        "tags": client.tags_object(one.hash),
        "file_viewing_statistics": [],
    }
    if not known:
        del row["thumbnail_width"], row["thumbnail_height"]
    return row


def _one_file(client: HydrusServer, asked: Mapping[str, Any]) -> StoredFile | None:
    """The file of a request for bytes. An unknown id alarms the owner and leaves a row behind."""
    if "file_id" in asked:
        wanted = int(asked["file_id"])
        for one in client.files.values():
            if one.file_id == wanted:
                return one
        client.alarms.append(wanted)
        client.ghost(hashlib.sha256(b"invented %d" % wanted).hexdigest()).file_id = wanted
        return None
    if "hash" not in asked:
        raise bad_request("Please include a file_id or hash parameter!")
    return _made_up(client, _hashes(asked)[0])


def _made_up(client: HydrusServer, hash: str) -> StoredFile:
    """The file of a hash; for an unknown one, the row that the question leaves behind."""
    if hash not in client.files:
        client.strays.append(hash)
    return client.ghost(hash)


@route("GET", "/get_files/file", 3)
def file(client: HydrusServer, asked: dict[str, Any]) -> Bytes:
    one = _one_file(client, asked)
    if one is None or not one.is_local:
        raise not_found("The client does not have this file!", "FileMissingException")
    return Bytes(one.data, one.mime, one.hash + EXTENSIONS.get(one.mime, ""))


@route("GET", "/get_files/file_path", 13)
def file_path(client: HydrusServer, asked: dict[str, Any]) -> dict[str, Any]:
    one = _one_file(client, asked)
    if one is None or not one.is_local:
        raise not_found("The client does not have this file!", "FileMissingException")
    return {"path": f"/home/user/hydrus/db/client_files/f{one.hash[:2]}/{one.hash}{EXTENSIONS.get(one.mime, '')}"}


@route("GET", "/get_files/thumbnail", 3)
def thumbnail(client: HydrusServer, asked: dict[str, Any]) -> Bytes:
    """Never a 404: an unknown hash gives the program's own icon, a deleted file another one."""
    one = _one_file(client, asked)
    if one is None or one.state == "ghost":
        return Bytes(_png(Image.new("RGBA", (200, 200), (90, 120, 200, 255))), "image/png", "hydrus.png")
    picture = _opened(one.data)
    if one.state == "deleted" or picture is None:
        return Bytes(_png(Image.new("RGB", (200, 200), "gray")), "image/png", "image.png")
    picture.thumbnail((150, 125))
    if "A" in picture.getbands() or "transparency" in picture.info:
        return Bytes(_png(picture.convert("RGBA")), "image/png", f"{one.hash}.thumbnail")
    out = io.BytesIO()
    picture.convert("RGB").save(out, "JPEG")
    return Bytes(out.getvalue(), "image/jpeg", f"{one.hash}.thumbnail")


@route("GET", "/get_files/render", 3)
def render(client: HydrusServer, asked: dict[str, Any]) -> Bytes:
    """A PNG of a still picture; what cannot be drawn is 200 too, as a picture of an error message."""
    one = _one_file(client, asked)
    if one is None:
        raise not_found("The client does not have this file!", "FileMissingException")
    if not one.mime.startswith("image/") or one.duration is not None:
        raise bad_request("Requested file is not an image!")
    picture = _opened(one.data) if one.is_local else None
    if picture is None:
        return Bytes(_png(failed_to_render(one.width or 200, one.height or 200)), "image/png", "")
    return Bytes(_png(picture.convert("RGBA" if "A" in picture.getbands() else "RGB")), "image/png", "")


def failed_to_render(width: int, height: int) -> Image.Image:
    """What Hydrus draws where drawing failed: grey frame, white ground, words in the middle."""
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, width - 1, height - 1), outline=(20, 20, 20), width=3)
    draw.text((width / 2, height / 2), "Image failed to render:\nthe file was missing", fill=(20, 20, 20), anchor="mm")
    return picture


def _look_into(stored: StoredFile) -> None:
    """Fill in what an import finds out about a file."""
    if _opened(stored.data) is None:
        known = {b"\x89PNG": "image/png", b"\xff\xd8\xff\xe0": "image/jpeg", b"8BPS": "image/vnd.adobe.photoshop"}
        stored.mime = known.get(stored.data[:4], "video/mp4")
        stored.width = stored.height = 64
        stored.duration = 1000 if stored.mime == "video/mp4" else None
        return
    with Image.open(io.BytesIO(stored.data)) as picture:
        stored.mime = MIMES.get(picture.format, "image/png")
        stored.frames = getattr(picture, "n_frames", 1)
        if stored.frames > 1:
            stored.duration = 100 * stored.frames
            if picture.format == "PNG":
                stored.mime = "image/apng"
        else:
            stored.frames = None
    upright = _opened(stored.data)
    stored.width, stored.height = upright.size
    if stored.duration is None:
        stored.pixel_hash = hashlib.sha256(upright.convert("RGBA").tobytes()).hexdigest()


def _opened(data: bytes) -> Image.Image | None:
    """The picture, turned upright, or None for what Pillow cannot read."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            return ImageOps.exif_transpose(picture)
    except (UnidentifiedImageError, OSError, SyntaxError):
        return None


def _png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


# --- tags -------------------------------------------------------------------------------------------


def clean_tag(tag: str) -> str:
    """A tag as Hydrus stores it, "" for nothing; a namespace alone is none."""
    made = _cleaned(tag)
    _, colon, rest = made.partition(":")
    return made if rest or not colon else ""


def _cleaned(tag: str) -> str:
    """Lower case, 1024 characters, single spaces, no leading "-" or "system:", and a second colon before a tag that begins with
    its only one.
    """
    tag = tag[:1024].lower()
    if tag.startswith(":") and ":" not in tag[1:] and len(tag) > 1:
        tag = f":{tag}"
    if ":" not in tag:
        return _stripped(tag)
    tag = _stripped(tag)  # which "system:" may take the colon of
    head, rest = tag.split(":", 1) if ":" in tag else ("", tag)
    head, rest = _stripped(head), _stripped(rest)
    return f"{head}:{rest}" if head or ":" in rest else rest


def _stripped(text: str) -> str:
    wide = r"\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff\ue000-\uf8ff"
    text = re.sub(rf"[\x00-\x1f\x7f-\x9f{wide}\U000f0000-\U000ffffd\U00100000-\U0010fffd]", "", text)
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"^(-|system:)+", "", text).strip()
    if not any("\u1100" <= one <= "\u11ff" or "\uac00" <= one <= "\ud7af" for one in text):
        text = text.replace("\u3164", "")  # a blank of Korean script
    joiners = {"\u200c", "\u200d"}
    if all(one in joiners or " " <= one <= "~" or "\xa0" <= one <= "\u024f" for one in text):
        text = "".join(one for one in text if one not in joiners)  # which Latin letters do not need
    return re.sub(r"\s+", " ", text).strip()


@route("POST", "/add_tags/add_tags", 2)
def add_tags(client: HydrusServer, asked: dict[str, Any]) -> None:
    hashes = _hashes(asked)
    for option in ("override_previously_deleted_mappings", "create_new_deleted_mappings"):
        if not isinstance(asked.get(option, True), bool):
            raise bad_request(
                f'The parameter "{option}", with value "{asked[option]}", was not the expected type: boolean!'
            )
    if "service_keys_to_actions_to_tags" in asked:
        steps = [
            (key, action, tags)
            for key, actions in asked["service_keys_to_actions_to_tags"].items()
            for action, tags in actions.items()
        ]
    elif "service_keys_to_tags" in asked:
        steps = [
            (key, "0" if _kind_of(key) == LOCAL_TAG else "2", tags)
            for key, tags in asked["service_keys_to_tags"].items()
        ]
    else:
        raise bad_request("Need a service_keys_to_tags or service_keys_to_actions_to_tags parameter!")
    for key, action, tags in steps:
        _check_step(key, action, tags)
    override, record = (
        asked.get("override_previously_deleted_mappings", True),
        asked.get("create_new_deleted_mappings", True),
    )
    client.changing()
    for hash in hashes:
        client.ghost(hash)
        for key, action, tags in steps:
            if _kind_of(key) != COMBINED_TAG:
                for item in tags:
                    tag = clean_tag(item if isinstance(item, str) else item[0])
                    if tag:
                        _change(client._statuses(key, hash), action, tag, override, record)


def _kind_of(key: str) -> int:
    if key not in SERVICES or SERVICES[key][1] not in (LOCAL_TAG, TAG_REPOSITORY, COMBINED_TAG):
        raise bad_request(f'Could not find the tag service "{key}"!')
    return SERVICES[key][1]


def _check_step(key: str, action: str, tags: Any) -> None:
    said = f'Sorry, you submitted a content action of "{action}" for service "{key}", but you '
    if _kind_of(key) == LOCAL_TAG and action not in ("0", "1"):
        raise bad_request(said + "can only add/delete on a local tag domain!")
    if _kind_of(key) == TAG_REPOSITORY and action in ("0", "1"):
        raise bad_request(said + "cannot add/delete on a remote tag repository!")
    if not isinstance(tags, list):
        raise bad_request(
            f'The parameter "tags in service_keys_to_tags", with value "{tags}", was not the expected type: list!'
        )


def _change(by_status: dict[str, set[str]], action: str, tag: str, override: bool, record: bool) -> None:
    current, pending, deleted, petitioned = (by_status[status] for status in "0123")
    if (action in "02" and tag in deleted and not override) or (action in "14" and tag not in current and not record):
        return
    if action == "0":
        current.add(tag)
        deleted.discard(tag)
    elif action == "1":
        current.discard(tag)
        deleted.add(tag)
    elif action == "2" and tag not in current:
        pending.add(tag)
    elif action == "3":
        pending.discard(tag)
    elif action == "4":
        petitioned.add(tag)
    elif action == "5":
        petitioned.discard(tag)


@route("GET", "/add_tags/clean_tags", 2)
def clean_tags(client: HydrusServer, asked: dict[str, Any]) -> dict[str, Any]:
    if "tags" not in asked:
        raise bad_request('The required parameter "tags" was missing!')
    found = {tag for tag in map(clean_tag, _parsed(asked, "tags", [])) if tag}
    return {"tags": sorted(found, key=lambda tag: (not tag.isdigit(), int(tag) if tag.isdigit() else 0, tag))}


@route("GET", "/add_tags/get_siblings_and_parents", 2)
def get_siblings_and_parents(client: HydrusServer, asked: dict[str, Any]) -> dict[str, Any]:
    if "tags" not in asked:
        raise bad_request('The required parameter "tags" was missing!')
    wanted = _parsed(asked, "tags", [])
    if not all(map(_cleaned, wanted)):
        raise bad_request('Tag "" was empty!')  # a namespace alone is not refused
    tags = [tag for tag in map(clean_tag, wanted) if tag]

    def related(tag: str, key: str) -> dict[str, Any]:
        ideal = client.ideal(key, tag)
        return {
            "siblings": [*{ideal, tag, *(bad for bad in client.siblings[key] if client.ideal(key, bad) == ideal)}],
            "ideal_tag": ideal,
            "descendants": sorted(child for child in client.parents[key] if ideal in client.ancestors(key, child)),
            "ancestors": sorted(client.ancestors(key, tag)),
        }

    return {
        "tags": {tag: {key: related(tag, key) for key in TAG_SERVICES} for tag in tags},
        "services": {key: _service_words(key) for key in SERVICES},
    }


@route("POST", "/manage_services/commit_pending", 12)
def commit_pending(client: HydrusServer, asked: dict[str, Any]) -> None:
    client.committed.append(asked.get("service_key", ""))


# --- relationships, popups, database ----------------------------------------------------------------


class Judged:
    """What the client knows about pairs: groups of duplicates, groups of alternates of those, and what lies between.

    Of another group, a file's relationships name one file (its king, here the first by hash).
    """

    def __init__(self, client: HydrusServer, domain: Iterable[str]) -> None:
        self.domain, self.pairs = set(domain), client.relationships
        self.media = self._joined({hash: hash for hash in client.files}, ("8",))
        self.family = self._joined(dict(self.media), ("8", "3"))

    def _joined(self, group: dict[str, str], kinds: tuple[str, ...]) -> dict[str, str]:
        for (one, other), kind in self.pairs.items():
            if kind in kinds:
                first, second = sorted((group[one], group[other]))
                group = {hash: first if name == second else name for hash, name in group.items()}
        return group

    def others(self, hash: str, kind: str) -> list[str]:
        """The files that `hash` has relationships of one kind with, as the client lists them."""
        if kind == "8":
            return [other for other in sorted(self.domain) if self.media[other] == self.media[hash] and other != hash]
        if kind == "3":
            found = {self.media[other] for other in self.media if self.family[other] == self.family[hash]} - {
                self.media[hash]
            }
        elif kind == "1":
            apart = self._across(hash, kind, self.family)
            found = {self.media[other] for other in self.media if self.family[other] in apart}
        else:
            found = self._across(hash, kind, self.media)
        kings = (min((other for other in self.domain if self.media[other] == name), default=None) for name in found)
        return sorted(king for king in kings if king)

    def _across(self, hash: str, kind: str, group: dict[str, str]) -> set[str]:
        ends = [(group[one], group[other]) for (one, other), of in self.pairs.items() if of == kind]
        return {there for pair in ends for here, there in (pair, pair[::-1]) if here == group[hash]} - {group[hash]}


@route("GET", "/manage_file_relationships/get_file_relationships", 8)
def get_file_relationships(client: HydrusServer, asked: dict[str, Any]) -> dict[str, Any]:
    hashes, found = _hashes(asked), {}
    for hash in hashes:
        _made_up(client, hash)
    judged = Judged(client, client.on_domain(asked.get("file_service_key", ALL_MEDIA)))
    for hash in hashes:
        king, local = judged.media[hash], client.files[hash].is_local
        found[hash] = {"is_king": king == hash, "king": king, "king_is_on_file_domain": local, "king_is_local": local}
        found[hash] |= {kind: judged.others(hash, kind) for kind in ("0", "8", "1", "3")}
    return {"file_relationships": found}


@route("POST", "/manage_file_relationships/set_file_relationships", 8)
def set_file_relationships(client: HydrusServer, asked: dict[str, Any]) -> None:
    for one in asked.get("relationships", []):
        if one["relationship"] not in (0, 1, 2, 3, 4, 7):
            raise bad_request(
                f'The parameter "relationship", with value "{one["relationship"]}", was not one of the allowed ones!'
            )
        if not isinstance(one.get("do_default_content_merge"), bool):
            raise bad_request('The required parameter "do_default_content_merge" was missing!')
        for hash in (one["hash_a"], one["hash_b"]):
            client.ghost(hash)
        if one["hash_a"] != one["hash_b"]:
            pair = tuple(sorted((one["hash_a"], one["hash_b"])))
            kind = {2: "8", 4: "8", 7: "8"}.get(one["relationship"], str(one["relationship"]))
            if not (kind == "0" and pair in client.relationships):
                client.relationships[pair] = kind


@route("POST", "/manage_popups/add_popup", 10)
def add_popup(client: HydrusServer, asked: dict[str, Any]) -> dict[str, Any]:
    key = secrets.token_hex(32)
    client.arriving.add(key)
    client.popups[key] = {"key": key, "creation_time": time.time(), "had_error": False, "is_cancelled": False, **asked}
    return {"job_status": client.popups[key]}


@route("GET", "/manage_popups/get_popups", 10)
def get_popups(client: HydrusServer, asked: dict[str, Any]) -> dict[str, Any]:
    return {"job_statuses": [shown for key, shown in client.popups.items() if key not in client.arriving]}


def _popup(client: HydrusServer, asked: Mapping[str, Any]) -> dict[str, Any]:
    if asked.get("job_status_key") not in client.popups or asked["job_status_key"] in client.arriving:
        client.arriving.discard(asked.get("job_status_key", ""))
        raise bad_request("This job key doesn't exist!")
    return client.popups[asked["job_status_key"]]


@route("POST", "/manage_popups/update_popup", 10)
def update_popup(client: HydrusServer, asked: dict[str, Any]) -> dict[str, Any]:
    shown = _popup(client, asked)
    shown |= {name: value for name, value in asked.items() if name != "job_status_key"}
    return {"job_status": shown}


@route("POST", "/manage_popups/cancel_popup", 10)
def cancel_popup(client: HydrusServer, asked: dict[str, Any]) -> None:
    shown = _popup(client, asked)
    shown["is_cancelled"] = bool(shown.get("is_cancellable"))


@route("POST", "/manage_popups/finish_and_dismiss_popup", 10)
def finish_and_dismiss_popup(client: HydrusServer, asked: dict[str, Any]) -> None:
    del client.popups[_popup(client, asked)["key"]]


@route("POST", "/manage_database/force_commit", 6)
def force_commit(client: HydrusServer, asked: dict[str, Any]) -> None:
    client.save()


@route("POST", "/manage_database/lock_on", 6)
def lock_on(client: HydrusServer, asked: dict[str, Any]) -> None:
    client.locked = True


@route("POST", "/manage_database/lock_off", 6)
def lock_off(client: HydrusServer, asked: dict[str, Any]) -> None:
    if not client.locked:
        raise bad_request("The server is not busy!")
    client.locked = False


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", required=True, metavar="DIR", help="a folder of pictures with sidecar tags")
    parser.add_argument(
        "--pages",
        metavar="JSON",
        help="page name -> list of file names, or -> more pages (default: the folder's shape)",
    )
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    args = parser.parse_args(argv)
    with HydrusServer(args.pictures, json.loads(args.pages) if args.pages else None, args.port) as server:
        print(f"{server.url} {server.key}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
