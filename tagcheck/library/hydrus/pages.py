"""The pages that a Hydrus client shows, what names them, and the picture that it draws for a file it cannot."""

import json
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from typing import Any

from PIL import Image

from tagcheck.errors import UsageError
from tagcheck.library.protocol import TagService

# The frame that Hydrus draws round "Image failed to render": grey lines, white inside.
FRAME, INSIDE, INSET = (20, 20, 20), (255, 255, 255), 4
MOST_NAMED = 20  # pages in a message


def service_named(name: str, services: Mapping[str, TagService], asked_by: str) -> TagService:
    """The service of that key, or of that name without regard to case. `UsageError` lists those there are."""
    if name in services:
        return services[name]
    found = [one for one in services.values() if one.name.casefold() == name.casefold()]
    if len(found) != 1:
        wrong = f"{len(found)} tag services are called {name!r}" if found else f"no tag service {name!r} in Hydrus"
        raise UsageError(f"{asked_by}: {wrong}; there are {service_names(services.values())}")
    return found[0]


def service_names(services: Iterable[TagService]) -> str:
    return ", ".join(f"{one.name!r} ({one.key})" for one in services)


def search_terms(query: str) -> list[Any]:
    """The terms of a search: a JSON list as it is, else the text split at commas. Raises `UsageError` where no term is left.

    >>> search_terms("system:archive, series:x"), search_terms('["hat", ["elf", "orc"], ""]')
    (['system:archive', 'series:x'], ['hat', ['elf', 'orc']])
    """
    try:
        terms = _terms(json.loads(query) if query.lstrip().startswith("[") else query.split(","), query)
    except json.JSONDecodeError as error:
        raise UsageError(f"--search {query!r} begins like a JSON list and is not one: {error.msg}") from None
    except RecursionError:
        raise UsageError("--search begins like a JSON list and is nested too deep") from None
    if not terms:
        raise UsageError(f"--search {query!r} holds no search term: give one or more, like 'system:archive, series:x'")
    return terms


def _terms(found: list[Any], query: str) -> list[Any]:
    """The terms of a JSON list, without empty ones; a list in it means "one of these"."""
    terms: list[Any] = []
    for one in found:
        if isinstance(one, list):
            terms += [some] if (some := _terms(one, query)) else []
        elif isinstance(one, str):
            terms += [one.strip()] if one.strip() else []
        else:
            wrong = f"--search {query!r}: {json.dumps(one)} is not a search term"
            raise UsageError(f"{wrong}: each is a text, or a list of texts (or)")
    return terms


def names_a_tag(terms: Iterable[Any]) -> bool:
    """Whether a search asks for tags, and not only for what Hydrus calls system predicates."""
    return any(names_a_tag(term) if isinstance(term, list) else not str(term).startswith("system:") for term in terms)


def _spelled(names: Iterable[str]) -> str:
    """A path of names as one text to compare: without case, and the same however a comma came into it."""
    return ",".join(part.strip() for part in ",".join(names).casefold().split(","))


def pages_named(tree: Mapping[str, Any], names: Iterable[str]) -> list[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """(names above it, page) for every page whose path ends in `names`, but not for those under another that was found.

    The root, which holds all pages, goes by no name or its own ("top page notebook"), and is in no path.
    """
    wanted = _spelled(names)

    def search(page: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
        path = (*above, page["name"])
        if any(_spelled(path[start:]) == wanted for start in range(len(path))):
            yield above, page
            return
        for child in page.get("pages") or ():
            yield from search(child, path)

    top = tree.get("pages") or ()
    if wanted in ("", _spelled([tree["name"]])):
        return [((), page) for page in top]
    return [found for page in top for found in search(page, ())]


def pages_at(node: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """(path, page) for a page and each page under it."""
    path = (*above, node["name"])
    yield path, node
    for child in node.get("pages") or ():
        yield from pages_at(child, path)


def page_list(tree: Mapping[str, Any]) -> str:
    """The pages under the root in words, for a message: paths, as many as fit."""
    paths = [repr(", ".join(path)) for page in tree.get("pages") or () for path, _ in pages_at(page, ())]
    more = f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else ""
    return ", ".join(paths[:MOST_NAMED]) + more if paths else "no pages"


def says_failed(drawn: bytes) -> bool:
    """Whether a rendered picture is Hydrus' own "Image failed to render": a grey frame with white next to it, nothing else there."""
    with Image.open(BytesIO(drawn)) as opened:
        picture = opened.convert("RGB")
    width, height = picture.size
    if min(width, height) <= 2 * INSET:
        return False

    def only(box: tuple[int, int, int, int], colour: tuple[int, int, int]) -> bool:
        colours = picture.crop(box).getcolors(maxcolors=1)
        return colours is not None and colours[0][1] == colour

    edges = [(0, 0, width, 1), (0, height - 1, width, height), (0, 0, 1, height), (width - 1, 0, width, height)]
    inner = [(INSET, y, width - INSET, y + 1) for y in (INSET, height - 1 - INSET)]
    return all(only(box, FRAME) for box in edges) and all(only(box, INSIDE) for box in inner)
