"""The first stage as its user runs it: a process, a library behind it, a mapping or one line that says what to do."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydrus_server import AI_TAGS, INITIALISING, MY_TAGS, SEARCHING, HydrusServer, PageNode
from PIL import Image

import config
import dataset_hardcore_mapper as mapper
from tagcheck import data_folder
from tagcheck.data_folder import MAPPING, DataFolder
from tagcheck.errors import BadFile, LibraryRefused, LibraryUnreachable, MissingInput, UsageError
from tagcheck.library import choose
from tagcheck.library.choose import LibrarySettings
from tagcheck.library.hydrus import client


def picture(number: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 2 * number, 255 - number)).save(out, "PNG")
    return out.getvalue()


NAMES = ("a.png", "b.png", "c.png", "d.png")
HASH = {name: hashlib.sha256(picture(number)).hexdigest() for number, name in enumerate(NAMES)}
GHOST = "ab" * 32
PAGES = [
    ("files", ["d.png"]),
    ("Dataset", [("Elves", ["a.png", "b.png"]), ("Empty", []), ("Humans", [("Elves", ["b.png", "c.png"])])]),
]


@pytest.fixture
def server() -> Iterator[HydrusServer]:
    with HydrusServer(
        {name: (picture(number), [f"tag {number}"]) for number, name in enumerate(NAMES)}, PAGES
    ) as running:
        yield running
        assert running.alarms == running.refreshed == running.strays == running.committed == []


@pytest.fixture
def map_it(server: HydrusServer, folder: DataFolder, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Run the script's `main` on the server and return the mapping it wrote."""
    monkeypatch.setattr(config, "API_URL", server.url)
    monkeypatch.setattr(config, "API_KEY", server.key)
    monkeypatch.setattr(config, "LIBRARY", "hydrus")

    def run(*args: str) -> dict[str, Any]:
        assert mapper.main(["--data-dir", str(folder.root), *args]) == 0
        return data_folder.load(folder.require(MAPPING), MAPPING)

    return run


def nothing_written(folder: DataFolder) -> bool:
    return folder.files(MAPPING) == [] and not (folder.root / "mappings").exists()


def test_the_pages_of_the_dataset_become_a_mapping(map_it: Callable, capsys: pytest.CaptureFixture) -> None:
    mapping = map_it()
    assert [(page["path"], page["hashes"]) for page in mapping["pages"]] == [
        (["Dataset", "Elves"], [HASH["a.png"], HASH["b.png"]]),
        (["Dataset", "Empty"], []),
        (["Dataset", "Humans", "Elves"], [HASH["b.png"], HASH["c.png"]]),
    ]
    assert mapping["root"] == ["Dataset"] and mapping["library"]["type"] == "hydrus"
    assert mapping["summary"] == {"pages": 3, "files": 4, "unique_files": 3, "readable_files": 3, "not_local": {}}
    assert capsys.readouterr().out.startswith("3 pictures on 3 pages (4 places) -> ")


def test_page_keys_and_the_access_key_are_told_apart(map_it: Callable, server: HydrusServer) -> None:
    mapping = map_it("--page", "dataset, elves")
    assert [page["page_key"] for page in mapping["pages"]] == [server.page("Dataset", "Elves").key]
    assert server.key not in json.dumps(mapping)


def test_a_page_path_may_begin_anywhere(map_it: Callable) -> None:
    assert len(map_it("--page", "humans,ELVES")["pages"]) == 1
    assert len(map_it("--page", "elves")["pages"]) == 2


def test_a_page_whose_name_holds_a_comma_is_reached(map_it: Callable, server: HydrusServer) -> None:
    server.page("files").name = "mine, all mine"
    assert map_it("--page", "Mine, all mine")["pages"][0]["path"] == ["mine, all mine"]


def test_a_folder_whose_name_holds_a_comma_is_reached(folder: DataFolder, tmp_path: Path) -> None:
    inside = tmp_path / "pictures" / "mine, all mine"
    inside.mkdir(parents=True)
    (inside / "a.png").write_bytes(picture(0))
    assert (
        mapper.main(
            ["--data-dir", str(folder.root), "--library", str(tmp_path / "pictures"), "--page", "mine, all mine"]
        )
        == 0
    )
    (page,) = data_folder.load(folder.require(MAPPING), MAPPING)["pages"]
    assert page["hashes"] == [HASH["a.png"]]


def test_a_folder_is_mapped_whole_by_default(folder: DataFolder, tmp_path: Path) -> None:
    for name in ("top.png", "sub/under.png"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(picture(len(name)))
    assert mapper.main(["--data-dir", str(folder.root), "--library", str(tmp_path / "pictures")]) == 0
    mapping = data_folder.load(folder.require(MAPPING), MAPPING)
    assert mapping["library"]["type"] == "folder" and mapping["summary"]["unique_files"] == 2


def test_pages_that_load_or_search_are_waited_for(
    map_it: Callable, server: HydrusServer, capsys: pytest.CaptureFixture
) -> None:
    for names, state in ((("Dataset", "Elves"), INITIALISING), (("Dataset", "Humans", "Elves"), SEARCHING)):
        page = server.page(*names)
        page.state, page.unready = state, 2
    assert map_it()["summary"]["files"] == 4
    said = capsys.readouterr().err
    assert "page 'Dataset / Elves' is loading: waiting up to" in said
    assert "page 'Dataset / Humans / Elves' is searching" in said


def test_a_restart_in_mid_walk_starts_the_walk_again(
    map_it: Callable, server: HydrusServer, capsys: pytest.CaptureFixture
) -> None:
    asked = []

    def restart_once(call: Any) -> None:
        if call.path == "/manage_pages/get_page_info" and not asked:
            asked.append(call)
            server.restart(unready=1, reopen=False)

    server.before_answer = restart_once
    mapping = map_it()
    assert mapping["summary"]["files"] == 4
    assert next(page["page_key"] for page in mapping["pages"]) == server.page("Dataset", "Elves").key
    assert "walking its pages again" in capsys.readouterr().err


def test_a_restart_after_the_last_page_is_noticed_by_the_boot_id(map_it: Callable, server: HydrusServer) -> None:
    """The pages were read, but from a client that was shutting down: their keys are void."""
    pages_read = []

    def restart_once(call: Any) -> None:
        pages_read.append(call.path)
        if call.path == "/client_info" and pages_read.count("/manage_pages/get_page_info") == 3:
            server.restart(unready=0, reopen=False)

    server.before_answer = restart_once
    assert map_it()["pages"][0]["page_key"] == server.page("Dataset", "Elves").key
    assert pages_read.count("/manage_pages/get_page_info") == 6


def test_ghosts_and_trashed_and_deleted_files_are_counted_apart(
    map_it: Callable, server: HydrusServer, capsys: pytest.CaptureFixture
) -> None:
    server.page("Dataset", "Elves").hashes.append(GHOST)
    server.files[HASH["a.png"]].state, server.files[HASH["b.png"]].state = "trashed", "deleted"
    mapping = map_it()
    assert mapping["summary"]["not_local"] == {"deleted": 1, "never imported": 1, "trashed": 1}
    assert mapping["summary"]["readable_files"] == 2
    assert mapping["not_local"] == {"trashed": [HASH["a.png"]], "deleted": [HASH["b.png"]], "never imported": [GHOST]}
    assert (
        "4 pictures on 3 pages (5 places), of which 1 deleted, 1 never imported, 1 trashed" in capsys.readouterr().out
    )


def test_names_keep_every_character(map_it: Callable, server: HydrusServer) -> None:
    odd = 'Ünï/çødé ☃ "q" <b>x</b>\\ '
    server.page("Dataset", "Elves").name = odd
    assert map_it()["pages"][0]["path"] == ["Dataset", odd]


def test_a_search_takes_the_place_of_pages(map_it: Callable) -> None:
    mapping = map_it("--search", "tag 3")
    assert [page["hashes"] for page in mapping["pages"]] == [[HASH["d.png"]]]
    assert mapping["search"] == "tag 3"


def test_later_stages_count_the_tags_of_the_service_that_was_chosen(
    map_it: Callable, server: HydrusServer, folder: DataFolder
) -> None:
    server.tag(HASH["a.png"], ["machine's"], service=AI_TAGS)
    settings = LibrarySettings("hydrus", server.url, server.key)

    def seen() -> tuple[str, ...]:
        return next(choose.open_library("hydrus", folder, settings).files([HASH["a.png"]])).tags

    assert map_it()["library"]["tag_services"] == [] and seen() == ("machine's", "tag 0")
    assert map_it("--tag-service", "my tags")["library"]["tag_services"] == [MY_TAGS] and seen() == ("tag 0",)
    assert map_it("--tag-service", AI_TAGS)["library"]["tag_services"] == [AI_TAGS] and seen() == ("machine's",)
    assert map_it()["library"]["tag_services"] == []  # a new mapping does not follow an old one


def test_a_mapping_with_damaged_tag_services_is_named(folder: DataFolder) -> None:
    path = data_folder.save(folder, MAPPING, {"library": {"type": "hydrus", "tag_services": "my tags"}, "pages": []})
    with pytest.raises(BadFile, match=path.name):
        choose.open_library("hydrus", folder, LibrarySettings("hydrus", "http://localhost:1", ""))


# --- what goes wrong ----------------------------------------------------------------------------------


def test_an_unknown_page_names_the_pages_there_are(map_it: Callable, folder: DataFolder) -> None:
    with pytest.raises(
        LibraryRefused, match="no page 'dragons' in Hydrus; it has 'files', 'Dataset', 'Dataset, Elves'"
    ):
        map_it("--page", "dragons")
    with pytest.raises(LibraryRefused, match="no page 'dataset, dragons'"):
        map_it("--page", "dataset, dragons")
    assert nothing_written(folder)


def test_a_folder_without_a_picture_is_an_error_in_words_of_folders(
    tmp_path: Path, folder: DataFolder, capsys: Any
) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "00000.tar").write_bytes(b"a")
    with pytest.raises(MissingInput, match="no picture in the folder 'shards': name another with --library or --page"):
        mapper.main(["--data-dir", str(folder.root), "--library", str(shards)])
    assert "note: seen and not read: archives: unpack them (1 .tar)" in capsys.readouterr().err and nothing_written(
        folder
    )


def test_an_empty_dataset_is_an_error_and_writes_nothing(
    map_it: Callable, server: HydrusServer, folder: DataFolder
) -> None:
    with pytest.raises(MissingInput, match=r"'Dataset, Empty' is empty \(1 page without files\): put pictures there"):
        map_it("--page", "dataset, empty")
    server.root.children.append(PageNode("bare", "pages"))
    with pytest.raises(MissingInput, match="no page of files under 'bare'"):
        map_it("--page", "bare")
    with pytest.raises(MissingInput, match="'no such tag' is empty: no file in Hydrus matches this search"):
        map_it("--search", "no such tag")
    server.page("Dataset", "Empty").hashes = [GHOST]
    with pytest.raises(MissingInput, match=r"none of the files of 'Dataset, Empty' is here \(1 never imported\)"):
        map_it("--page", "empty")
    assert nothing_written(folder)


def test_a_page_that_never_loads_is_given_up_with_its_name(
    map_it: Callable, server: HydrusServer, folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = client.Hydrus
    monkeypatch.setattr(client, "Hydrus", lambda *args, **options: real(*args, page_wait=0.3, **options))
    page = server.page("Dataset", "Elves")
    page.state, page.unready = INITIALISING, 1000
    with pytest.raises(LibraryUnreachable, match="page 'Dataset / Elves' is still loading after 0 s"):
        map_it()
    assert nothing_written(folder)


def test_a_client_that_keeps_restarting_is_given_up(map_it: Callable, server: HydrusServer, folder: DataFolder) -> None:
    server.before_answer = lambda call: server.restart(unready=0, reopen=False) if call.path == "/client_info" else None
    with pytest.raises(LibraryUnreachable, match="kept changing"):
        map_it()
    assert nothing_written(folder)


def test_options_that_cannot_be_meant_are_usage_errors(map_it: Callable, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has an empty name"):
        map_it("--page", "dataset,, elves")
    with pytest.raises(UsageError, match="are for Hydrus"):
        map_it("--library", str(tmp_path), "--search", "system:archive")
    with pytest.raises(UsageError, match="no tag service 'nope' in Hydrus; there are 'ai suggestions'"):
        map_it("--tag-service", "nope")
    with pytest.raises(SystemExit) as caught:
        map_it("--page", "a", "--search", "b")
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("permissions", "says"),
    [((2, 3), 'lacks the permission "manage pages"'), ((2, 4), 'lacks the permission "search for and fetch files"')],
)
def test_a_missing_permission_is_named(
    script, server: HydrusServer, folder: DataFolder, permissions: tuple[int, ...], says: str
) -> None:
    key = server.add_key("small key", permissions)
    done = script(
        "dataset_hardcore_mapper.py",
        "--data-dir",
        folder.root,
        env={"HYDRUS_API_URL": server.url, "HYDRUS_API_KEY": key},
    )
    assert done.returncode == 5 and done.stdout == ""
    assert f"error: the API key 'small key' {says}" in done.stderr and "Traceback" not in done.stderr
    assert nothing_written(folder)


@pytest.mark.parametrize("key", ["00" * 32, "abcd", "your_api_key_here", "", "schlüssel", "line\nbreak"])
def test_a_wrong_key_is_told_and_the_way_to_a_right_one(
    script, server: HydrusServer, folder: DataFolder, key: str
) -> None:
    done = script(
        "dataset_hardcore_mapper.py",
        "--data-dir",
        folder.root,
        "--library",
        "hydrus",
        env={"HYDRUS_API_URL": server.url, "HYDRUS_API_KEY": key},
    )
    assert done.returncode == 5 and "API key" in done.stderr and "HYDRUS_API_KEY" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and nothing_written(folder)


def test_no_hydrus_running_is_one_line_and_exit_code_5(script, folder: DataFolder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = script(
        "dataset_hardcore_mapper.py", "--data-dir", folder.root, env={"HYDRUS_API_URL": f"http://localhost:{port}"}
    )
    assert done.returncode == 5 and f"no Hydrus answers at http://localhost:{port}: start Hydrus" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and nothing_written(folder)


def test_the_script_works_as_a_process(script, server: HydrusServer, folder: DataFolder) -> None:
    done = script(
        "dataset_hardcore_mapper.py",
        "--data-dir",
        folder.root,
        env={"HYDRUS_API_URL": server.url + "/", "HYDRUS_API_KEY": server.key},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"3 pictures on 3 pages (4 places) -> {folder.require(MAPPING)}"


def test_a_locked_database_is_waited_out(map_it: Callable, server: HydrusServer, capsys: pytest.CaptureFixture) -> None:
    server.locked = True
    timer = threading.Timer(0.5, lambda: setattr(server, "locked", False))
    timer.start()
    assert map_it()["summary"]["files"] == 4
    assert "is busy (its database is locked); trying again for up to 60 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    "search", ["", " ", ",", " , ,", "[]", "[1]", "[null]", '[""]', "[[]]", '[["a", 2]]', '[{"a": 1}]', "[true]"]
)
def test_a_search_without_a_term_is_a_usage_error_before_hydrus_is_asked(
    map_it: Callable, server: HydrusServer, folder: DataFolder, search: str
) -> None:
    with pytest.raises(UsageError, match="holds no search term|is not a search term"):
        map_it("--search", search)
    assert folder.newest(MAPPING) is None and not [call for call in server.calls if "search_files" in call.path]


def test_an_empty_search_of_a_folder_is_a_usage_error_too(folder: DataFolder, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(UsageError, match="are for Hydrus"):
        mapper.main(["--data-dir", str(folder.root), "--library", str(tmp_path / "pictures"), "--search", ""])


def test_a_machines_tag_service_can_be_named_and_later_stages_count_the_same(
    map_it: Callable, server: HydrusServer, folder: DataFolder
) -> None:
    map_it("--machine-tag-service", "AI suggestions", "--page", "dataset")
    library = data_folder.load(folder.newest(MAPPING), MAPPING)["library"]
    assert "ai suggestions" not in library["counted"] and len(library["tag_services"]) == 3
    settings = LibrarySettings("hydrus", server.url, server.key)
    opened = choose.open_library("hydrus", folder, settings)
    assert opened.describe()["counted"] == library["counted"]
