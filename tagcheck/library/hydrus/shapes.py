"""What the answers of Hydrus' API that are used here have to look like, and the check of it.

A shape is a type (or several), `[shape]` for a list, `{str: shape}` for a mapping of any keys, `{"key": shape}` for an object
("key?" may be missing, keys that are not named may be there), or a function that says whether a value fits.
"""

import re
from collections.abc import Callable
from typing import Any

_SHA256 = re.compile(r"[0-9a-f]{64}")
NUMBER = (int, float, type(None))
WORDS = (str, type(None))
COUNT = (int, type(None))
FLAG = (bool, type(None))


def is_hash(value: object) -> bool:
    """A SHA-256 as Hydrus writes it."""
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


TAGS = {str: [str]}  # by status
ROW = {
    "hash": is_hash,
    "file_id": COUNT,
    "is_local?": FLAG,
    "is_deleted?": FLAG,
    "is_trashed?": FLAG,
    "size?": COUNT,
    "width?": COUNT,
    "height?": COUNT,
    "duration?": NUMBER,
    "mime?": WORDS,
    "pixel_hash?": WORDS,
    "file_services?": {"current?": {str: {"time_imported?": NUMBER}}},
    "tags?": {str: {"storage_tags?": TAGS, "display_tags?": TAGS}},
}
PAGE: dict[str, Any] = {"name": str, "page_key": str, "is_media_page?": FLAG}
PAGE["pages?"] = [PAGE]
SERVICE = {"service_key": str, "name": str}
RELATION = {"ideal_tag": str, "siblings": [str], "ancestors": [str], "descendants": [str]}
POPUP = {"key": str, "is_cancelled?": FLAG, "status_title?": WORDS}
ANSWERS: dict[str, Any] = {
    "/api_version": {"version": int, "hydrus_version?": COUNT},
    "/verify_access_key": {"name?": WORDS, "basic_permissions?": [int], "human_description?": WORDS},
    "/client_info": {"boot_id?": WORDS},
    "/get_services": {"local_tags?": [SERVICE], "tag_repositories?": [SERVICE]},
    "/manage_pages/get_pages": {"pages": PAGE},
    "/manage_pages/get_page_info": {"page_info": {"page_state?": int, "media?": {"hashes?": [is_hash]}}},
    "/get_files/search_files": {"hashes": [is_hash]},
    "/get_files/file_metadata": {"metadata": [ROW]},
    "/add_tags/clean_tags": {"tags": [str]},
    "/add_tags/get_siblings_and_parents": {"tags": {str: {str: RELATION}}},
    "/manage_file_relationships/get_file_relationships": {
        "file_relationships": {str: {"0": [str], "1": [str], "3": [str], "8": [str]}}
    },
    "/manage_popups/add_popup": {"job_status": POPUP},
    "/manage_popups/update_popup": {"job_status": POPUP},
    "/manage_popups/get_popups": {"job_statuses": [POPUP]},
}


def misfit(value: object, shape: Any, where: str = "it") -> str:
    """What does not fit, in words; "" where all does.

    >>> misfit({"a": [1, "x"]}, {"a": [int], "b?": str}), misfit({}, {"a": int}), misfit({"a": 1}, {"a": int})
    ("'a' has an entry that is no int", "'a' is missing", '')
    """
    if isinstance(shape, dict):
        return _misfit_object(value, shape, where)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{where} is no list"
        return next(filter(None, (misfit(one, shape[0], f"{where} has an entry that") for one in value)), "")
    if isinstance(shape, (type, tuple)):
        kinds = shape if isinstance(shape, tuple) else (shape,)
        if type(value) in kinds or (isinstance(value, kinds) and not isinstance(value, bool)):
            return ""
        return f"{where} is no {' or '.join(kind.__name__ for kind in kinds if kind is not type(None))}"
    check: Callable[[object], bool] = shape
    return "" if check(value) else f"{where} is no hash"


def _misfit_object(value: object, shape: dict[Any, Any], where: str) -> str:
    if not isinstance(value, dict):
        return f"{where} is no object"
    if str in shape:
        return next(filter(None, (misfit(one, shape[str], f"'{key}'") for key, one in value.items())), "")
    for name, inner in shape.items():
        key = name.removesuffix("?")
        if key in value:
            found = misfit(value[key], inner, f"'{key}'")
        else:
            found = "" if name.endswith("?") else f"'{key}' is missing"
        if found:
            return found
    return ""
