"""The local server stands for a real client in all other tests, so it is compared here with what a real client was seen to answer.

tests/data/hydrus/exchanges.json holds recorded exchanges (v682, API 95), one a line, keys redacted.
Each is asked again of a local server that was given the same pages, files and tags.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import test_hydrus
import test_hydrus_trouble
import test_mapper
from conftest import PROJECT
from hydrus_server import DOWNLOADER_PAGE, KEY_HEADER, PAGE_OF_PAGES, TAG_SERVICES, HydrusServer, PageNode, StoredFile
from PIL import Image

from tagcheck.library.hydrus.client import Hydrus

EXCHANGES = json.loads((PROJECT / "tests/data/hydrus/exchanges.json").read_text(encoding="utf-8"))
DELETED = "dc6413f58bc58ed7bb8152131f21436566535013cfc06a8c70d5651f08899d38"
TRASHED = "9012f05d374940ecc757fe8b95df1f9412293723efa487ffeb9806d87c2e488c"
TAGGED = "eaac52839fab140828acf7ac7095c3d8aa676e747d33785460d777dad5b9ef11"
CLIP = "bd93ced7c087a736bd162a060585b5bc2e3d43a9462db168bd279a2a2967dbb1"
PAIR = (
    "acf85ef437c8793e596ecaf3149ac76305f9e5581a5822655c02b01cd0e7b4f9",
    "4df5c8ecfc080946aae7a090e903ff9f9f234cc235a0cfd3768371edd03b91aa",
)


def recorded(label: str) -> dict[str, Any]:
    return next(one for one in EXCHANGES if one["label"] == label)


@pytest.fixture
def server() -> Iterator[HydrusServer]:
    """A server with the recorded client's pages, files and tags, as far as the exchanges need them."""
    with HydrusServer({}, pages={}) as running:
        _recorded_pages(running)
        _recorded_files(running)
        yield running


def _recorded_pages(server: HydrusServer) -> None:
    def grown(page: dict[str, Any]) -> PageNode:
        kind = {PAGE_OF_PAGES: "pages", DOWNLOADER_PAGE: "downloader"}.get(page["page_type"], "hashes")
        return PageNode(
            page["name"], kind, page["page_key"], children=[grown(child) for child in page.get("pages", ())]
        )

    server.root = grown(recorded("get_pages")["response"]["body"]["pages"])
    server.root.children.append(PageNode("tmp", "locked"))
    by_key = {page.key: page for page in server.root.all()}
    by_key["401e48b7ee98ae7c3e7b203820d072cc187ed55a63472fe00bbd1683a606df32"].kind = "search"
    for label in ("get_page_info Elves simple=False", "its content"):
        page = recorded(label)["response"]["body"]["page_info"]
        node = by_key.get(page["page_key"]) or server.page("tmp")
        node.key, node.hashes = page["page_key"], page["media"]["hashes"]
        for hash, file_id in zip(page["media"]["hashes"], page["media"]["hash_ids"], strict=True):
            server.files[hash] = StoredFile(hash, file_id)


def _recorded_files(server: HydrusServer) -> None:
    out = io.BytesIO()
    Image.new("RGBA", (400, 400), "green").save(out, "PNG")
    never = "e" * 64
    for hash in {*server.files, DELETED, TRASHED, TAGGED, CLIP, *PAIR} - {never}:
        one = server.ghost(hash)
        one.data, one.mime, one.width, one.height, one.state, one.pixel_hash = (
            out.getvalue(),
            "image/png",
            400,
            400,
            "local",
            "0" * 64,
        )
    server.files[DELETED].state, server.files[TRASHED].state = "deleted", "trashed"
    server.files[CLIP].mime, server.files[CLIP].duration = "video/mp4", 2000
    server.siblings[test_hydrus.MY_TAGS].update(test_hydrus.SIBLINGS)
    server.parents[test_hydrus.MY_TAGS].update(test_hydrus.PARENTS)
    server.relationships[tuple(sorted(PAIR))] = "1"
    _take_tags(server, recorded("without services object"))


def _take_tags(server: HydrusServer, exchange: dict[str, Any]) -> dict[str, Any]:
    """Give the server the stored tags of a recorded metadata row; the row."""
    (row,) = exchange["response"]["body"]["metadata"]
    for key in TAG_SERVICES:
        for status, tags in row["tags"][key]["storage_tags"].items():
            server.tag(row["hash"], tags, key, status)
    return row


def ask(server: HydrusServer, exchange: dict[str, Any]) -> requests.Response:
    """The recorded request, sent to the local server with keys of the same rights."""
    request = exchange["request"]
    keys = {"ACCESS_KEY": server.key, "ACCESS_KEY_SEARCH_ONLY": server.add_key("search only", [3])}
    headers = {name: keys.get(value, value) for name, value in request.get("headers", {}).items()}
    body = request.get("body")
    if body is not None and not isinstance(body, str):
        body, headers = json.dumps(body), {"Content-Type": "application/json", **headers}
    return requests.request(
        request["method"],
        server.url + request["path"],
        params=request.get("query"),
        data=body,
        headers=headers,
        timeout=10,
    )


def shape(value: Any) -> Any:
    """What a JSON value is made of: names and kinds, with hashes, keys and tags as names standing for each other."""
    if isinstance(value, dict):
        if value and all(re.fullmatch("[0-9a-f]{20,}", name) for name in value):
            return {"<key>": shape(next(iter(value.values())))}
        return {name: shape(one) for name, one in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value and isinstance(value[0], dict) else "list"
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


# What is told of the recorded client's own: its services, ratings, thumbnails and viewing.
OWN = {
    "services",
    "ratings",
    "file_viewing_statistics",
    "blurhash",
    "file_services",
    "time_modified_details",
    "local_updates",
    "file_repositories",
    "all_local_files",
    "all_local_media",
    "all_known_files",
    "management",
}


def trimmed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: trimmed(one) for name, one in value.items() if name not in OWN}
    return [trimmed(one) for one in value] if isinstance(value, list) else value


def prepare(server: HydrusServer, label: str) -> None:
    """What had happened to the recorded client just before."""
    if label.startswith("page info right after refresh"):
        ask(server, recorded("refresh_page hashes page"))
    if label.startswith("search page info right after refresh"):
        key = recorded(label)["request"]["query"]["page_key"]
        requests.post(
            server.url + "/manage_pages/refresh_page",
            json={"page_key": key},
            headers={KEY_HEADER: server.key},
            timeout=10,
        )
    server.locked = label.startswith("while locked")


@pytest.mark.parametrize("exchange", EXCHANGES, ids=[one["label"] for one in EXCHANGES])
def test_the_local_server_answers_as_the_real_client_did(server: HydrusServer, exchange: dict[str, Any]) -> None:
    prepare(server, exchange["label"])
    if exchange["label"] in ("after add+delete", "repo after petition", "after adding sibling source tags"):
        _take_tags(server, exchange)
    answer, seen = ask(server, exchange), exchange["response"]
    assert answer.status_code == seen["status"]
    assert answer.headers.get("Content-Type") == seen["headers"].get("Content-Type")
    if "body" not in seen:
        assert answer.headers.get("Content-Disposition") == seen["headers"].get("Content-Disposition")
        assert (answer.content == b"") == (seen.get("body_text") == "")
        return
    body = answer.json()
    if "error" in seen["body"]:
        assert body["error"].partition("\n")[0] == seen["body"]["error"].partition("\n")[0]
        assert body["exception_type"] == seen["body"]["exception_type"]
    assert shape(trimmed(body)) == shape(trimmed(seen["body"]))


@pytest.mark.parametrize(
    "label", ["without services object", "after add+delete", "repo after petition", "after adding sibling source tags"]
)
def test_display_tags_are_made_of_stored_ones_as_the_real_client_makes_them(server: HydrusServer, label: str) -> None:
    row = _take_tags(server, recorded(label))
    assert server.tags_object(row["hash"]) == {
        key: one
        | {
            which: {status: sorted(tags) for status, tags in one[which].items()}
            for which in ("storage_tags", "display_tags")
        }
        for key, one in row["tags"].items()
    }


@pytest.mark.parametrize(
    "label",
    [
        "get_page_info Elves simple=False",
        "get_page_info Elves simple=True",
        "get_page_info Empty simple=False",
        "its content",
        "page info right after refresh",
        "search page info right after refresh",
        "order of response vs request + duplicates",
        "clean_tags",
        "identifiers only",
        "empty tags",
        "unknown hash, basic",
    ],
)
def test_what_can_be_equal_is_equal(server: HydrusServer, label: str) -> None:
    prepare(server, label)
    if label.startswith(("order", "identifiers")):
        for row in recorded(label)["response"]["body"]["metadata"]:
            server.ghost(row["hash"]).file_id = row["file_id"]
    body = ask(server, recorded(label)).json()
    if label.startswith("order"):
        body["metadata"] = [{name: row[name] for name in ("file_id", "hash")} for row in body["metadata"]]
    body.pop("services", None)
    assert body == recorded(label)["response"]["body"]


def test_siblings_and_parents_are_those_of_the_real_client(server: HydrusServer) -> None:
    seen, body = (
        recorded("siblings+parents")["response"]["body"]["tags"],
        ask(server, recorded("siblings+parents")).json()["tags"],
    )
    for tag, services in seen.items():
        for key, one in services.items():
            assert {name: sorted(value) for name, value in body[tag][key].items()} == {
                name: sorted(value) for name, value in one.items()
            }


def test_the_server_runs_as_a_process(tmp_path: Path) -> None:
    folder = tmp_path / "pictures" / "cats"
    folder.mkdir(parents=True)
    Image.new("RGB", (20, 10), "red").save(folder / "a.png")
    (folder / "a.png.txt").write_text("Cat\nseries:x\n", encoding="utf-8")
    command = [
        sys.executable,
        str(PROJECT / "tests/hydrus_server.py"),
        "--pictures",
        str(tmp_path / "pictures"),
        "--port",
        "0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            url, key = process.stdout.readline().split()
            hydrus = Hydrus(url, key)
            (page,) = hydrus.walk(["dataset"]).pages
            assert page.path == ("Dataset", "cats")
            assert next(hydrus.files(page.hashes)).tags == ("cat", "series:x")
            assert hydrus.read(page.hashes[0]) == (folder / "a.png").read_bytes()
        finally:
            process.terminate()


# --- every fact about a real client -------------------------------------------------------------------------

# The facts that a real client showed, each with the test that holds it, or why nothing here depends on it.
FACTS: dict[int, tuple[str, str]] = {
    1: ("a refresh empties pages that hold files without a search", "all: the bench fails where a page was refreshed"),
    2: ("a searching page shows no files and page_state is an int", "test_pages_that_load_or_search_are_waited_for"),
    3: ("a loading page shows no files", "test_pages_that_load_or_search_are_waited_for"),
    4: ("hashes come with simple=false only", "test_pages_are_found_by_name_whatever_its_case"),
    5: ("False is not JSON", "test_metadata_is_asked_for_without_the_service_list_and_by_hash_only"),
    6: ("hashes are in the page's order", "test_all_pages_under_a_page_of_pages_are_walked_in_order"),
    7: ("a page of pages has no media", "test_all_pages_under_a_page_of_pages_are_walked_in_order"),
    8: ("refreshing or filling a page of pages is an error", "none: neither is ever asked"),
    9: (
        "names are verbatim and may repeat, keys last until the next start",
        "test_several_pages_of_one_name_are_all_walked",
    ),
    10: ("a page may hold deleted files", "test_ghosts_and_trashed_and_deleted_files_are_told_apart"),
    11: ("a page may hold files that were never here", "test_findings_open_as_a_locked_page_without_ghosts"),
    12: ("a refresh turns paused searches on", "all: the bench fails where a page was refreshed"),
    13: ("downloader pages hold files too", "test_a_downloader_page_is_walked_too"),
    14: ("pages can be opened, not closed", "test_findings_open_as_a_locked_page_without_ghosts"),
    15: ("bytes of an unknown file id alarm the owner", "all: the bench fails where such bytes were asked for"),
    16: (
        "an unknown hash is a bare row, one that was heard of a full one",
        "test_metadata_comes_in_the_order_asked_one_row_each",
    ),
    17: ("rows come in order, without repeats, in lower case", "test_metadata_comes_in_the_order_asked_one_row_each"),
    18: ("one bad hash, or none, spoils the batch", "test_an_empty_question_is_not_sent"),
    19: ("metadata cannot be POSTed", "none: it is asked with GET"),
    20: ("2 MiB of address, less behind a proxy", "test_an_address_that_is_too_long_for_a_proxy_is_sent_in_halves"),
    21: ("all known tags repeats every tag", "test_tags_of_every_service_count_once"),
    22: (
        "display tags have siblings and parents, deletions work on stored ones",
        "test_a_tag_shown_through_a_sibling_is_removed_where_it_is_stored",
    ),
    23: ("the service list costs 4 kB a call", "test_metadata_is_asked_for_without_the_service_list_and_by_hash_only"),
    24: ("no file path, but a pixel hash", "test_a_row_says_what_the_file_is"),
    25: ("sizes are after rotation", "test_sizes_are_those_of_the_upright_picture"),
    26: ("trashed files are readable, deleted ones are known", "test_a_trashed_file_can_still_be_read"),
    27: ("the duration tells an animation, not the mime", "test_an_animation_has_a_duration_whatever_its_mime"),
    28: (
        "truncated files are imported without a mark",
        "none: whoever decodes the bytes finds out; imports are the owner's",
    ),
    29: (
        "a range past the end is never answered; unknown files are 404",
        "test_a_file_that_is_not_there_costs_one_row",
    ),
    30: ("a thumbnail is never 404", "test_the_icon_that_stands_for_a_deleted_file_is_not_its_thumbnail"),
    31: (
        "a failed render is 200 with a picture of words",
        "test_a_picture_that_says_it_failed_to_render_is_recognised",
    ),
    32: ("paths need a permission of their own", "none: bytes are read over HTTP, which search permission allows"),
    33: ("writes are a bare 200 whatever happened", "test_a_tag_is_added_and_taken_back"),
    34: (
        "local services and repositories take different actions",
        "test_a_repository_gets_a_pending_tag_that_is_taken_back_without_a_trace",
    ),
    35: (
        "deletions are remembered, re-adding overrides them by default",
        "test_a_tag_that_its_owner_deleted_is_not_suggested_and_not_written",
    ),
    36: (
        "tags are cleaned, and cleaned lists come sorted",
        "test_a_tag_that_hydrus_would_store_differently_is_refused",
    ),
    37: ("tags cannot be listed by namespace", "none: tags are read from metadata"),
    38: ("service names still work for writing", "none: services are addressed by key"),
    39: ("403 is an unknown key or a missing permission", "test_the_permission_that_is_missing_is_named"),
    40: ("HTML 404 for unknown paths and stray slashes", "test_slashes_and_spaces_round_the_address_do_no_harm"),
    41: ("a body without its content type is ignored", "test_a_tag_is_added_and_taken_back"),
    42: ("a locked database is 503 everywhere", "test_a_locked_database_is_said_to_be_so_and_waited_out"),
    43: ("the key may come in many ways", "test_the_key_travels_in_the_header_of_every_request_and_nowhere_else"),
    44: ("no CORS, no compression", "none: the web page asks its own server"),
    45: ("a key with a tag filter is refused batches", "test_a_key_that_sees_some_files_only_is_told_so"),
    46: ("relationships accept nonsense", "test_pairs_are_told_to_hydrus_once_and_judged_pairs_are_left_alone"),
    47: ("a restart changes all page keys", "test_a_restart_in_mid_walk_starts_the_walk_again"),
    48: ("page calls wait for the GUI", "test_a_client_whose_window_is_busy_is_waited_for_and_then_named"),
    # Found later, on the same version.
    49: (
        "bytes or relationships of an unknown hash leave a row in the database",
        "test_asking_for_what_hydrus_never_had_leaves_no_row",
    ),
    50: (
        "relationships hold between groups, and name one file of each other group",
        "test_what_was_judged_of_one_copy_holds_for_all_copies",
    ),
    51: ("a message is not there at once, and is gone after a restart", "test_a_popup_comes_back_after_a_restart"),
    52: (
        "siblings and parents need the permission to edit tags",
        "test_what_the_key_may_not_ask_is_left_out_and_said_once",
    ),
}


@pytest.mark.parametrize("number", range(1, 53))
def test_every_fact_about_a_real_client_is_held_by_a_test_or_shown_not_to_matter(number: int) -> None:
    fact, held = FACTS[number]
    assert fact
    if not held.startswith(("none: ", "all: ")):
        assert any(
            callable(getattr(module, held, None)) for module in (test_hydrus, test_hydrus_trouble, test_mapper)
        ), f"no test {held}"


def test_what_must_never_be_asked_is_not_in_the_program() -> None:
    """The facts that harm their owner's client are held by the code not knowing those requests at all."""
    for path in [*PROJECT.glob("*.py"), *(PROJECT / "tagcheck").glob("*.py"), *(PROJECT / "webapp").glob("*.py")]:
        text = path.read_text(encoding="utf-8")
        for never in (
            "refresh_page",
            "commit_pending",
            "file_id=",
            '"file_ids"',
            "/get_files/file_path",
            "delete_files",
            "set_kings",
        ):
            assert never not in text, f"{path.name} has {never}"
