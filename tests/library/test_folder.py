"""A folder of pictures with sidecar tags: what is read, and that a fix touches nothing but what it is meant to."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
import unicodedata
from contextlib import suppress
from pathlib import Path

import pytest
import warm

from tagcheck import data_folder, dataset
from tagcheck.changes import TagChange
from tagcheck.data_folder import DATASET
from tagcheck.errors import FileUnavailable, LibraryError, LibraryRefused, LibraryUnreachable, MissingInput
from tagcheck.library import refresh_tags
from tagcheck.library.folder import inside, scan, sidecar_text
from tagcheck.library.folder.library import FolderLibrary
from tagcheck.library.protocol import ABSENT, CURRENT, PARTLY, UNKNOWN, Library, NoWrite, TagWrite

needs_rights = pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() == 0, reason="root may read and write everything")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "pictures"
    path.mkdir()
    return path


def picture(path: Path, content: bytes | None = None, **sidecars_: bytes) -> str:
    """A picture file of some bytes; `full=` and `stem=` its sidecars. Returns its hash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content if content is not None else os.fsencode(path.name)
    path.write_bytes(data)
    if "full" in sidecars_:
        path.with_name(path.name + ".txt").write_bytes(sidecars_["full"])
    if "stem" in sidecars_:
        path.with_suffix(".txt").write_bytes(sidecars_["stem"])
    return hashlib.sha256(data).hexdigest()


def tags_of(library: FolderLibrary, hash: str) -> list[str]:
    return list(next(library.files([hash])).tags)


def carry(library: FolderLibrary, *changes: TagChange) -> list[TagWrite]:
    """Plan and write; every change must lead to a write."""
    steps = library.plan(changes)
    assert all(isinstance(step, TagWrite) for step in steps), steps
    library.write(steps)
    assert library.states([(step.hash, step.tag, step.service) for step in steps]) == [step.after for step in steps]
    return steps


def take_back(library: FolderLibrary, steps: list[TagWrite]) -> None:
    library.write([step.reversed() for step in reversed(steps)])


def snapshot(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


# --- which pictures there are ------------------------------------------------------------------------


def test_it_is_a_library(root):
    assert isinstance(FolderLibrary(root), Library)


def test_tags_are_refreshed_and_what_the_owner_settled_stays(root, folder):
    first, second = sorted((picture(root / "a.png", full=b"hat"), picture(root / "b.png", full=b"coat")))
    settled = {
        "tag_relations": {"siblings": {"x": "y"}},
        "judged_pairs": [{"judgement": "alternates", "hashes": [first, second]}],
    }
    records = [{"hash": hash, "existing_all_tags": []} for hash in (first, second)]
    data_folder.save(folder, DATASET, {"model": {"id": "m"}, **settled, "results": records})
    before = dataset.load(folder)
    now = dataset.load(folder, refresh_tags(folder, FolderLibrary(root), "series"))
    assert {tag for one in now.records for tag in one.tags} == {"hat", "coat"}
    assert (now.judged, now.siblings, now.model) == (before.judged, before.siblings, "m") and len(now.judged) == 1


def test_a_record_of_a_picture_that_is_away_when_tags_are_read_again_says_so_until_it_is_back(root, folder):
    kept, away = picture(root / "a.png", full=b"hat"), picture(root / "b.png", full=b"coat")
    records = [{"hash": hash, "existing_all_tags": ["coat"]} for hash in (kept, away)]
    data_folder.save(folder, DATASET, {"model": {"id": "m"}, "results": records})

    def read_again() -> list[str]:
        now = dataset.load(folder, refresh_tags(folder, FolderLibrary(root), "series"))
        assert now.header[dataset.TAGS_READ] and len(now.records) == 2
        return [one.hash for one in now.records if one.raw.get(dataset.TAGS_OLD)]

    (root / "b.png").rename(root.parent / "b.png")
    assert read_again() == [away]
    (root.parent / "b.png").rename(root / "b.png")
    assert read_again() == []


def test_a_sidecar_is_one_where_the_system_does_not_tell_unicode_forms_apart(root, monkeypatch):
    """As on macOS: whoever asks for the picture's own form of the name finds the sidecar, too."""
    there = os.path.lexists
    monkeypatch.setattr(os.path, "lexists", lambda path: there(unicodedata.normalize("NFC", str(path))))
    picture(root / "e\u0301.png")
    (root / "\u00e9.txt").write_bytes(b"hat")
    library = FolderLibrary(root)
    (place,) = next(iter(library._index().places.values()))
    assert [os.path.basename(one.path) for one in library._targets(place)] == ["\u00e9.txt"]


def test_a_folder_that_is_called_like_a_sidecar_is_none(root):
    hash = picture(root / "a.png", full=b"hat")
    (root / "a.txt").mkdir()
    assert tags_of(FolderLibrary(root), hash) == ["hat"]


def test_subfolders_are_pages_and_the_hash_is_the_sha256_of_the_bytes(root):
    top = picture(root / "a.png")
    elf = picture(root / "elves" / "b.JPG")
    deep = picture(root / "elves" / "wood, deep" / "c.webp")
    walk = FolderLibrary(root).walk([])
    assert [(page.path, page.key, page.hashes) for page in walk.pages] == [
        (("pictures",), "", (top,)),
        (("pictures", "elves"), "elves", (elf,)),
        (("pictures", "elves", "wood, deep"), "elves/wood, deep", (deep,)),
    ]


def test_a_subfolder_is_found_without_regard_to_case_and_a_shown_path_can_be_given_back(root):
    picture(root / "a.png")
    elf = picture(root / "Elves" / "Wood" / "b.jpg")
    library = FolderLibrary(root)
    for names in (["elves", "WOOD"], ["Elves"], ["pictures", "Elves", "Wood"]):
        assert [page.hashes for page in library.walk(names).pages] == [(elf,)]
    assert library.walk(["elves", "wood"]).root == ("pictures", "Elves", "Wood")


def test_of_two_folders_that_differ_by_case_the_exact_name_wins(root):
    picture(root / "ELVES" / "a.jpg")
    lower = picture(root / "elves" / "b.jpg")
    if len(list(root.iterdir())) < 2:
        pytest.skip("this file system does not tell case apart")
    assert [page.hashes for page in FolderLibrary(root).walk(["elves"]).pages] == [(lower,)]


def test_a_folder_not_found_is_refused_with_those_there_are(root):
    picture(root / "elves" / "b.jpg")
    with pytest.raises(LibraryRefused, match=r"no folder 'dwarves' in .*: there is 'elves'"):
        FolderLibrary(root).walk(["dwarves"])


def test_what_is_no_folder_is_a_missing_input(root):
    (root / "file").write_text("x")
    for path in (root / "nothing", root / "file"):
        with pytest.raises(MissingInput, match="no folder"):
            FolderLibrary(path)


def test_every_usual_kind_of_picture_counts_and_other_files_do_not(root):
    names = [
        f"{kind}.{kind}"
        for kind in [
            "jpg",
            "JPEG",
            "png",
            "gif",
            "webp",
            "bmp",
            "tiff",
            "avif",
            "heic",
            "jxl",
            "psd",
            "svg",
            "mp4",
            "webm",
        ]
    ]
    for name in [
        *names,
        "notes.txt",
        "model.safetensors",
        "list.json",
        "noextension",
        ".hidden.jpg",
        ".git/x.jpg",
        "@eaDir/x.jpg",
    ]:
        picture(root / name)
    library = FolderLibrary(root)
    hashes = [hash for page in library.walk([]).pages for hash in page.hashes]
    assert sorted(hashes) == sorted(hashlib.sha256(name.encode()).hexdigest() for name in names)
    assert {info.mime.split("/")[0] for info in library.files(hashes)} == {"image", "video"}


def test_a_data_folder_inside_the_pictures_is_not_mistaken_for_pictures_but_a_folder_called_reports_is_not_lost(root):
    wanted = picture(root / "reports" / "cover.png")
    data = root / "data"
    for name in ("reports", "advanced_embeddings", "series_classifier", "cache/thumbnails/ab"):
        picture(data / name / "chart.png")
    assert [page.hashes for page in FolderLibrary(root).walk([]).pages] == [(wanted,)]


def test_a_loop_of_links_ends_and_linked_folders_are_walked_once(root):
    elsewhere = root / ".elsewhere"
    there = picture(elsewhere / "o.jpg")
    here = picture(root / "a" / "x.jpg")
    (root / "a" / "loop").symlink_to(root)
    (root / "b").symlink_to(elsewhere)
    (root / "c").symlink_to(elsewhere)
    (root / "itself").symlink_to(root / "itself")
    (root / "gone.jpg").symlink_to(root / "nowhere.jpg")
    walk = FolderLibrary(root).walk([])
    assert [(page.path[1:], page.hashes) for page in walk.pages] == [(("a",), (here,)), (("b",), (there,))]


@pytest.fixture(params=["by handles", "by real paths"])
def opening(request, monkeypatch):
    """Both ways to open what is in a library; the second is that of Windows."""
    monkeypatch.setattr(inside, "BY_HANDLE", inside.BY_HANDLE and request.param == "by handles")


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", ["txt", "jpg.txt", "caption", "json", "xmp"])
@pytest.mark.parametrize("leads_to", ["file", "nowhere", "its.name", "other.link"])
def test_a_sidecar_that_leads_out_of_the_library_is_neither_read_nor_written(opening, root, tmp_path, form, leads_to):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"secret, 1girl")
    (outside / f"a.{form}").write_bytes(b"secret, 1girl")
    (outside / "other.link").symlink_to(outside / "file")
    hash = picture(root / "a.jpg")
    (root / f"a.{form}").symlink_to(outside / (f"a.{form}" if leads_to == "its.name" else leads_to))
    before = contents(tmp_path)
    library = FolderLibrary(root)
    library.walk([])
    (info,) = library.files([hash])
    assert info.status == "unreadable" and "leads out of the library" in info.reason and not info.tags
    for action, tag in (("add", "coat"), ("remove", "secret")):
        (step,) = library.plan([TagChange(hash, tag, action)])
        assert isinstance(step, NoWrite) and "leads out of the library" in step.reason
    library.write([TagWrite(hash, "coat", "sidecar", "absent", "current", TagChange(hash, "coat", "add"))])
    assert library.states([(hash, "coat", "sidecar")]) == ["unknown"]
    assert contents(tmp_path) == before and sorted(path.name for path in root.iterdir()) == sorted(
        ["a.jpg", f"a.{form}"]
    )


@pytest.mark.parametrize("how", ["absolute", "relative", "through another link", "to a parent"])
def test_pictures_and_folders_that_lead_out_of_the_library_are_rows_that_say_so(opening, root, tmp_path, how):
    outside = tmp_path / "outside"
    picture(outside / "o.jpg", stem=b"secret")
    here = picture(root / "a" / "x.jpg")
    (tmp_path / "link").symlink_to(outside)
    target = {
        "absolute": outside,
        "relative": Path("..") / "outside",
        "through another link": tmp_path / "link",
        "to a parent": Path(".."),
    }[how]
    (root / "folder").symlink_to(target)
    (root / "o.jpg").symlink_to(target / ("outside/o.jpg" if how == "to a parent" else "o.jpg"))
    library = FolderLibrary(root)
    walk = library.walk([])
    problems = list(library.files(walk.not_local["cannot be read"]))
    assert len(problems) == 2 and all("leads out of the library" in info.reason for info in problems)
    assert {hash for page in walk.pages for hash in page.hashes} == {here, *(info.hash for info in problems)}
    assert "secret" not in str(walk.notes)


@pytest.mark.parametrize("table", ["metadata.jsonl", ".tagcheckignore"])
def test_a_table_and_a_list_of_what_is_left_out_are_not_read_outside_the_library(opening, root, tmp_path, table):
    (tmp_path / "outside").write_text('{"file_name": "a.jpg", "text": "secret"}\n*.jpg\n')
    hash = picture(root / "a.jpg")
    (root / table).symlink_to(tmp_path / "outside")
    library = FolderLibrary(root)
    assert library.walk([]).pages[0].hashes == (hash,) and tags_of(library, hash) == []


def test_a_folder_that_is_exchanged_for_a_link_while_it_is_written_leads_no_write_out(root, tmp_path):
    """One thread exchanges the folder and a link to another without end, another writes: the other stays as it is."""
    outside = tmp_path / "outside"
    hash = picture(root / "a" / "x.jpg", stem=b"1girl, solo")
    picture(outside / "x.jpg", stem=b"1girl, solo")
    library = FolderLibrary(root)
    library.walk([])
    (add,) = library.plan([TagChange(hash, "coat", "add")])
    aside, ended = root / ".aside", threading.Event()

    def exchange():
        while not ended.is_set():
            (root / "a").rename(aside)
            (root / "a").symlink_to(outside)
            (root / "a").unlink()
            aside.rename(root / "a")
            time.sleep(0.002)  # so that a write comes through now and then, on a busy machine too

    exchanging = threading.Thread(target=exchange)
    exchanging.start()
    until, done = time.monotonic() + 1.5, 0
    try:
        while time.monotonic() < (until if done else until + 60):
            for step in (add, add.reversed()):
                with suppress(LibraryError):
                    library.write([step])
                    done += 1
    finally:
        ended.set()
        exchanging.join()
    assert done and {path.name: path.read_bytes() for path in outside.iterdir()} == {
        "x.jpg": (root / "a" / "x.jpg").read_bytes(),
        "x.txt": b"1girl, solo",
    }


def test_an_empty_file_is_a_row_that_says_so_and_two_of_them_are_not_one_picture(root):
    picture(root / "a.jpg", b"")
    picture(root / "b.jpg", b"")
    library = FolderLibrary(root)
    walk = library.walk([])
    ((reason, hashes),) = walk.not_local.items()
    assert reason == "cannot be read" and len(set(hashes)) == 2 and walk.pages[0].hashes == hashes
    assert [(info.status, re.split(r"pictures[/\\]", info.reason)[1]) for info in library.files(hashes)] == [
        ("unreadable", "a.jpg is empty (0 bytes)"),
        ("unreadable", "b.jpg is empty (0 bytes)"),
    ]
    with pytest.raises(FileUnavailable, match="empty") as caught:
        library.read(hashes[0])
    assert caught.value.status == "unreadable"
    assert library.plan([TagChange(hashes[0], "x", "add")])[0].settled is False


@needs_rights
def test_a_file_or_folder_that_may_not_be_read_is_a_row_that_says_so(root):
    good = picture(root / "good.jpg")
    picture(root / "bad.jpg")
    (root / "bad.jpg").chmod(0)
    picture(root / "closed" / "x.jpg")
    (root / "closed").chmod(0)
    try:
        library = FolderLibrary(root)
        walk = library.walk([])
        rows = {
            re.split(r"pictures[/\\]", info.reason)[1]: info.status
            for info in library.files(walk.not_local["cannot be read"])
        }
        assert rows == {
            "bad.jpg cannot be read (Permission denied)": "unreadable",
            "closed cannot be looked into (Permission denied)": "unreadable",
        }
        assert good in walk.pages[0].hashes
    finally:
        (root / "closed").chmod(0o755)


def test_names_that_are_not_utf8_can_be_shown_and_read(root):
    raw = os.path.join(os.fsencode(root), b"\xe9t\xe9")
    os.mkdir(raw)
    with open(os.path.join(raw, b"p\xff.jpg"), "wb") as file:
        file.write(b"x")
    with open(os.path.join(raw, b"p\xff.txt"), "wb") as file:
        file.write("été, 1girl".encode())
    library = FolderLibrary(root)
    walk = library.walk([])
    (hash,) = walk.pages[0].hashes
    info = next(library.files([hash]))
    json.dumps([walk.pages[0].path, info.file_path], ensure_ascii=False).encode("utf-8")
    assert walk.pages[0].path == ("pictures", r"\xe9t\xe9") and info.tags == ("été", "1girl")
    assert library.read(hash) == b"x"
    carry(library, TagChange(hash, "solo", "add"))
    assert Path(os.fsdecode(os.path.join(raw, b"p\xff.txt"))).read_text(encoding="utf-8") == "été, 1girl, solo"


def test_unknown_pictures_are_missing_rows_in_the_order_asked_without_repeats(root):
    known = picture(root / "a.jpg", full=b"solo")
    library = FolderLibrary(root)
    assert [(info.hash, info.status) for info in library.files(["f" * 64, known, "f" * 64])] == [
        ("f" * 64, "missing"),
        (known, "ok"),
    ]
    with pytest.raises(FileUnavailable, match="no picture ffff"):
        library.read("f" * 64)


def test_a_picture_that_was_changed_since_is_never_returned_for_the_old_one(root):
    hash = picture(root / "a.jpg", b"old")
    library = FolderLibrary(root)
    assert library.read(hash) == b"old"
    stamp = (root / "a.jpg").stat()
    (root / "a.jpg").write_bytes(b"new")
    os.utime(root / "a.jpg", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # same size, same time: only the bytes tell
    with pytest.raises(FileUnavailable, match="was changed since"):
        library.read(hash)


def test_a_drive_that_is_not_connected_is_unreachable_not_empty(root):
    hash = picture(root / "a.jpg", full=b"solo")
    library = FolderLibrary(root)
    library.walk([])
    for step in (lambda: (root / "a.jpg").unlink(), lambda: (root / "a.jpg.txt").unlink(), root.rmdir):
        step()
        for ask in (
            lambda: list(library.files([hash])),
            lambda: library.states([(hash, "solo", "sidecar")]),
            lambda: library.plan([TagChange(hash, "solo", "remove")]),
        ):
            with pytest.raises(LibraryUnreachable, match="is its drive connected"):
                ask()


# --- hashes between runs -----------------------------------------------------------------------------


def hashed(library: FolderLibrary, monkeypatch) -> list[str]:
    """The names of the files whose bytes a walk reads."""
    read: list[str] = []
    real = scan.hash_of
    monkeypatch.setattr(
        scan, "hash_of", lambda at, place: (read.append(os.path.basename(place.path)), real(at, place))[1]
    )
    library.walk([])
    monkeypatch.setattr(scan, "hash_of", real)
    return sorted(read)


def age(path: Path, seconds: int = 100) -> None:
    os.utime(path, (time.time() - seconds, time.time() - seconds))


def test_only_new_and_changed_files_are_hashed_again(root, tmp_path, monkeypatch):
    store = tmp_path / "store.sqlite3"
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        picture(root / name)
        age(root / name)
    assert hashed(FolderLibrary(root, store), monkeypatch) == ["a.jpg", "b.jpg", "c.jpg"]
    assert hashed(FolderLibrary(root, store), monkeypatch) == []
    (root / "a.jpg").write_bytes(b"longer than before")
    age(root / "a.jpg", 50)
    (root / "c.jpg").rename(root / "d.jpg")
    library = FolderLibrary(root, store)
    assert hashed(library, monkeypatch) == ["a.jpg", "d.jpg"]
    assert library.read(hashlib.sha256(b"longer than before").hexdigest())


def test_a_file_so_young_that_its_time_may_not_show_the_next_change_is_hashed_again(root, tmp_path, monkeypatch):
    picture(root / "a.jpg")
    assert hashed(FolderLibrary(root, tmp_path / "store"), monkeypatch) == ["a.jpg"]
    assert hashed(FolderLibrary(root, tmp_path / "store"), monkeypatch) == ["a.jpg"]


def test_progress_is_told_while_files_are_hashed(root):
    for number in range(3):
        picture(root / f"{number}.jpg")
    told = []
    FolderLibrary(root, progress=lambda done, total: told.append((done, total))).walk([])
    assert told == [(3, 3)]


# --- what a sidecar says -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", []),
        ("\n\n", []),
        ("solo", ["solo"]),
        ("solo\n", ["solo"]),
        ("1girl, long_hair,blue eyes , solo,\n", ["1girl", "long hair", "blue eyes", "solo"]),
        ("1girl\nLong  Hair\r\nseries:Re:Zero\n\n", ["1girl", "long hair", "series:re:zero"]),
        ("hatsune_miku_\\(vocaloid\\), ^_^, :d, \\m/", ["hatsune miku (vocaloid)", "^_^", ":d", "\\m/"]),
        ("title:hello, world\nsolo\n1girl", ["title:hello, world", "solo", "1girl"]),
        ("title:hello, world\nsolo", ["title:hello, world", "solo"]),
        ("1girl, solo, smile\nblue sky", ["1girl", "solo", "smile", "blue sky"]),
        ("solo, Solo, SOLO", ["solo"]),
        ("character:hatsune_miku\n_\n", ["character:hatsune miku", "_"]),
        ("\ufeffsolo, smile", ["solo", "smile"]),
        ("a\rb\rc", ["a", "b", "c"]),
        ("日本語、タグ\n猫　耳", ["日本語、タグ", "猫 耳"]),
        ("1girl, mr., a cat is asleep.\n", ["1girl", "mr.", "a cat is asleep"]),
        ("a, hat.\nb, character:m.d.\nc, title:hello.", ["a", "hat", "b", "character:m.d.", "c", "title:hello."]),
        ("mr.\nhat.", ["mr.", "hat."]),
        ("A cat.", ["a cat"]),
        ("1girl, etc.", ["1girl", "etc."]),
        ("1girl, character:mr.\n", ["1girl", "character:mr."]),
        ("solo, character:dr. house.", ["solo", "character:dr. house"]),
        ("solo, robert e.", ["solo", "robert e."]),
        ("Solo, Elves, series:wesnoth.", ["solo", "elves", "series:wesnoth"]),
    ],
)
def test_hydrus_and_kohya_habits_are_read(text, expected):
    assert sidecar_text.decode(text.encode("utf-8")).names == expected


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"caf\xe9, solo", "not UTF-8"),
        ("solo".encode("utf-16-le"), "not text"),
        (b"\x89PNG\0\0", "not text"),
        (b"a," * 600_000, "larger than 1 MiB"),
    ],
)
def test_what_is_no_sidecar_makes_the_row_say_so_and_is_never_written(root, data, reason):
    hash = picture(root / "a.jpg", full=data, stem=b"1girl, smile")
    library = FolderLibrary(root)
    info = next(library.files([hash]))
    assert (info.status, info.tags) == ("unreadable", ()) and reason in info.reason and "a.jpg.txt" in info.reason
    before = snapshot(root)
    for change in (TagChange(hash, "x", "add"), TagChange(hash, "smile", "remove")):
        (step,) = library.plan([change])
        assert isinstance(step, NoWrite) and not step.settled and reason in step.reason
    library.write([TagWrite(hash, "x", "sidecar", ABSENT, CURRENT)])
    assert library.states([(hash, "x", "sidecar")]) == [UNKNOWN] and snapshot(root) == before


def test_a_sidecar_that_is_a_folder_or_a_pipe_is_not_waited_for(root):
    hash = picture(root / "a.jpg")
    os.mkfifo(root / "a.txt")
    assert "is not a file" in next(FolderLibrary(root).files([hash])).reason


def test_both_sidecars_count(root):
    hash = picture(root / "a.jpg", full=b"solo\n1girl", stem=b"1girl, smile")
    assert tags_of(FolderLibrary(root), hash) == ["solo", "1girl", "smile"]


def test_a_full_name_belongs_to_its_picture_even_when_another_picture_has_that_stem(root):
    one = picture(root / "cat.jpg", full=b"cat")
    other = picture(root / "cat.jpg.png", full=b"dog")
    library = FolderLibrary(root)
    assert (tags_of(library, one), tags_of(library, other)) == (["cat"], ["dog"])
    carry(library, TagChange(other, "big", "add"))
    assert (root / "cat.jpg.txt").read_bytes() == b"cat"


# --- what a fix does to a sidecar --------------------------------------------------------------------

REWRITES = [  # before, what to add, what to remove, after
    (b"1girl, long_hair, solo\n", ["blue sky"], ["1girl"], b"long_hair, solo, blue_sky\n"),
    (b"1girl,long hair,solo", ["blue sky"], ["solo"], b"1girl,long hair,blue sky"),
    (b"1girl, solo, smile,\n", ["a"], ["smile"], b"1girl, solo, a,\n"),
    (b"1girl\r\nLong Hair\r\nsolo\r\n", ["blue sky"], ["long hair"], b"1girl\r\nsolo\r\nblue sky\r\n"),
    (b"1girl\nsolo", ["series:x"], [], b"1girl\nsolo\nseries:x"),
    (b"\xef\xbb\xbf1girl, solo", ["a b"], ["1girl"], b"\xef\xbb\xbfsolo, a b"),
    (b"long_hair, Long_Hair, long hair, x", [], ["long hair"], b"x"),
    (b"miku_\\(vocaloid\\), blue_sky", ["saber (fate)"], [], b"miku_\\(vocaloid\\), blue_sky, saber_\\(fate\\)"),
    (b"miku (vocaloid), x", ["saber (fate)"], ["miku (vocaloid)"], b"x, saber (fate)"),
    (b"a, b,\nc, d,\n", ["e"], ["b", "d"], b"a,\nc, e,\n"),
    (b"a b, ^_^\n", ["=_="], ["^_^"], b"a b, =_=\n"),
    (b"  solo  \n", [], ["solo"], b"    \n"),
    (b"1girl, solo, outdoors.\r\n", ["long hair"], ["solo"], b"1girl, outdoors, long hair.\r\n"),
    (b"1girl, outdoors.", [], ["outdoors"], b"1girl."),
    (b"1girl, outdoors.", ["series:x", "dr. y"], [], b"1girl, outdoors, dr. y, series:x."),
    (b"1girl, outdoors", ["hey."], [], b"1girl, hey., outdoors"),
    (b"1girl, outdoors", ["mr."], [], b"1girl, outdoors, mr."),
    (b"", ["hey."], [], b"hey.,"),
    (b".\n", ["mr."], [], b"mr., .\n"),
    (b"", ["hey.", "solo"], [], b"hey., solo"),
    (b"1girl, outdoors.", [], ["1girl", "outdoors"], b"."),
    (
        b"title:hello, world\nsolo\nx\ny\nz",
        ["title:one, two"],
        ["x"],
        b"title:hello, world\nsolo\ny\nz\ntitle:one, two",
    ),
]


@pytest.mark.parametrize("before, add, remove, after", REWRITES)
def test_a_fix_keeps_everything_else_as_the_owner_wrote_it_and_undo_gives_the_same_bytes(
    root, before, add, remove, after
):
    hash = picture(root / "a.jpg", stem=before)
    library = FolderLibrary(root)
    steps = carry(
        library, *[TagChange(hash, tag, "add") for tag in add], *[TagChange(hash, tag, "remove") for tag in remove]
    )
    assert (root / "a.txt").read_bytes() == after
    take_back(library, steps)
    assert (root / "a.txt").read_bytes() == before


def test_any_edit_changes_the_named_tags_only():
    """2,000 random sidecars: the names after are those before, less and plus the change; what stays keeps spelling and order."""
    rng = random.Random(7)
    words = [
        "1girl",
        "long_hair",
        "long hair",
        "Solo",
        "series:x",
        "re:zero",
        "^_^",
        "a (b)",
        r"a_\(c\)",
        "été",
        "title:x",
        "_",
    ]
    for _ in range(2000):
        joint = rng.choice([",", ", ", "\n", "\r\n", ",\n", " , ", "\n\n"])
        text = joint.join(rng.choices(words, k=rng.randint(0, 6))) + rng.choice(["", "\n", ",", " ", "\r\n"])
        data = rng.choice([b"", b"\xef\xbb\xbf"]) + text.encode()
        old = sidecar_text.decode(data)
        add = rng.sample(["new tag", "solo", "b (d)", "series:y"], k=rng.randint(0, 2))
        remove = {name for name in old.names if rng.random() < 0.3} - {sidecar_text.name(tag) for tag in add}
        new = sidecar_text.decode(
            sidecar_text.edited(data, add, remove, sidecar_text.Habit(joint=rng.choice([", ", "\n"])))
        )
        assert set(new.names) == set(old.names) - remove | set(add), (data, add, remove)
        kept = [entry.raw for entry in old.entries if entry.name not in remove]
        assert [entry.raw for entry in new.entries][: len(kept)] == kept and new.bom == old.bom


def test_a_change_that_would_make_the_rest_read_differently_is_refused(root):
    lines = picture(root / "a.jpg", stem=b"title:hello, world\nsolo")
    commas = picture(root / "b.jpg", stem=b"1girl, solo")
    stopped = picture(root / "c.jpg", stem=b"1girl\nKimi no Na wa.")  # which alone would be a caption with a full stop
    library = FolderLibrary(root)
    before = snapshot(root)
    for change in (
        TagChange(lines, "solo", "remove"),
        TagChange(commas, "hello, world", "add"),
        TagChange(stopped, "1girl", "remove"),
    ):
        (step,) = library.plan([change])
        assert isinstance(step, NoWrite) and not step.settled and "would read differently" in step.reason
    assert snapshot(root) == before


def test_an_empty_tag_is_refused(root):
    hash = picture(root / "a.jpg")
    assert FolderLibrary(root).plan([TagChange(hash, "  ", "add")])[0].reason == "the tag is empty"


@pytest.mark.parametrize(
    "neighbours, made, content",
    [
        ({}, "new.jpg.txt", b"blue sky"),
        ({"a.jpg.txt": b"1girl\r\nlong hair\r\n"}, "new.jpg.txt", b"blue sky\r\n"),
        ({"a.txt": b"1girl, long_hair\n"}, "new.txt", b"blue_sky\n"),
        ({"a.txt": b"\xef\xbb\xbf1girl, long hair"}, "new.txt", b"\xef\xbb\xbfblue sky"),
    ],
)
def test_a_sidecar_that_has_to_be_made_follows_its_neighbours_and_undo_leaves_none(root, neighbours, made, content):
    for name, data in neighbours.items():
        (root / name).write_bytes(data)
        picture(root / (name.split(".")[0] + ".jpg"))
    hash = picture(root / "new.jpg")
    library = FolderLibrary(root)
    before = snapshot(root)
    steps = carry(library, TagChange(hash, "blue sky", "add"))
    assert snapshot(root) == before | {made: content}
    take_back(library, steps)
    assert snapshot(root) == before


def test_a_tag_that_stands_in_files_of_another_manner_alone_is_written_in_the_manner_of_this_one(root):
    """Where most files agree with this one, or where it shows nothing, a tag is spelled as it mostly is."""
    written = {
        "danbooru/a": "long_hair, blue_eyes",
        "danbooru/b": "dark_skin, blue_eyes",
        "own/c": "long hair, score_9",
        "own/d": "long hair, white shirt",
        "own/e": "long hair, solo, score_8, score_7",
    }
    for name, text in written.items():
        (root / name).parent.mkdir(exist_ok=True)
        picture(root / f"{name}.jpg", stem=text.encode())
    hashes = {name: hashlib.sha256((root / f"{name}.jpg").read_bytes()).hexdigest() for name in written}
    library = FolderLibrary(root)
    for name, tag in (
        ("danbooru/b", "long hair"),
        ("danbooru/b", "white shirt"),
        ("own/d", "dark skin"),
        ("own/d", "score 9"),
        ("own/e", "dark skin"),
    ):
        carry(library, TagChange(hashes[name], tag, "add"))
    after = {name: (root / f"{name}.txt").read_text(encoding="utf-8") for name in written}
    assert after["danbooru/b"] == "dark_skin, blue_eyes, long_hair, white_shirt"
    assert after["own/d"] == "long hair, white shirt, dark skin, score_9"
    assert after["own/e"] == "long hair, solo, score_8, score_7, dark_skin"


def test_one_tag_alone_is_joined_in_the_neighbours_way(root):
    hash = picture(root / "a.jpg", stem=b"1girl")
    picture(root / "b.jpg", stem=b"1girl, long_hair")
    library = FolderLibrary(root)
    carry(library, TagChange(hash, "blue sky", "add"))
    assert (root / "a.txt").read_bytes() == b"1girl, blue_sky"


def test_where_the_last_tag_goes_an_empty_file_stays(root):
    hash = picture(root / "a.jpg", full=b"solo")
    library = FolderLibrary(root)
    steps = carry(library, TagChange(hash, "solo", "remove"))
    assert (root / "a.jpg.txt").read_bytes() == b""
    take_back(library, steps)
    assert (root / "a.jpg.txt").read_bytes() == b"solo"


def test_a_tag_goes_from_both_sidecars_and_comes_back_to_both(root):
    hash = picture(root / "a.jpg", full=b"1girl\nsolo", stem=b"solo, smile")
    library = FolderLibrary(root)
    before = snapshot(root)
    steps = carry(library, TagChange(hash, "solo", "remove"), TagChange(hash, "hat", "add"))
    assert ((root / "a.jpg.txt").read_bytes(), (root / "a.txt").read_bytes()) == (b"1girl\nhat", b"smile")
    take_back(library, steps)
    assert tags_of(library, hash) == ["1girl", "solo", "smile"]
    assert snapshot(root)["a.jpg.txt"] == before["a.jpg.txt"]


def test_undo_after_the_owner_edited_keeps_the_edit_and_brings_the_old_spelling_back_in_its_place(root):
    hash = picture(root / "a.jpg", stem=b"trigger_word, Long_Hair, solo\n")
    library = FolderLibrary(root)
    steps = carry(library, TagChange(hash, "long hair", "remove"), TagChange(hash, "hat", "add"))
    (root / "a.txt").write_bytes(b"trigger_word, solo, hat, by_hand\n")
    take_back(library, steps)
    assert (root / "a.txt").read_bytes() == b"trigger_word, Long_Hair, solo, by_hand\n"


def test_undo_gives_the_same_bytes_in_another_process_too(root, tmp_path):
    hash = picture(root / "a.jpg", stem=b"z, Long_Hair ,a,\r\n")
    before = snapshot(root)
    steps = carry(FolderLibrary(root, tmp_path / "store"), TagChange(hash, "long hair", "remove"))
    assert snapshot(root) != before
    take_back(FolderLibrary(root, tmp_path / "store"), steps)
    assert snapshot(root) == before


def test_a_sidecar_shared_by_two_pictures_is_never_changed_for_one_of_them(root):
    jpg = picture(root / "cat.jpg", stem=b"1girl, solo")
    png = picture(root / "cat.png")
    library = FolderLibrary(root)
    assert tags_of(library, jpg) == tags_of(library, png) == ["1girl", "solo"]
    (step,) = library.plan([TagChange(jpg, "solo", "remove")])
    assert isinstance(step, NoWrite) and "belongs to several pictures" in step.reason and "cat.jpg.txt" in step.reason
    carry(library, TagChange(jpg, "hat", "add"))
    assert (tags_of(library, jpg), tags_of(library, png)) == (["hat", "1girl", "solo"], ["1girl", "solo"])


def test_a_sidecar_that_links_to_another_pictures_is_not_written_but_a_tree_of_links_is(root):
    view = root / "view"
    real = root / "real"
    hash = picture(real / "a.jpg", stem=b"1girl, solo")
    view.mkdir()
    (view / "a.jpg").symlink_to(real / "a.jpg")
    (view / "a.txt").symlink_to(real / "a.txt")
    (view / "0001.jpg").symlink_to(real / "a.jpg")
    (view / "0001.txt").symlink_to(real / "a.txt")
    other = picture(root / "b.jpg")
    (root / "b.txt").symlink_to(real / "a.txt")
    library = FolderLibrary(root)
    assert "is a link to" in library.plan([TagChange(other, "solo", "remove")])[0].reason
    carry(library, TagChange(hash, "solo", "remove"))
    assert (real / "a.txt").read_bytes() == b"1girl" and (view / "a.txt").is_symlink()
    steps = carry(library, TagChange(hash, "hat", "add"))
    assert (real / "a.txt").read_bytes() == b"1girl, hat" and len(steps) == 1


def test_mode_is_kept_and_write_protection_is_respected(root):
    hash = picture(root / "a.jpg", stem=b"1girl, solo")
    (root / "a.txt").chmod(0o640)
    library = FolderLibrary(root)
    steps = carry(library, TagChange(hash, "hat", "add"))
    assert (root / "a.txt").stat().st_mode & 0o777 == 0o640
    (root / "a.txt").chmod(0o440)
    assert "is write-protected" in library.plan([TagChange(hash, "hat", "remove")])[0].reason
    with pytest.raises(LibraryRefused, match="a.txt is write-protected"):
        take_back(library, steps)
    assert (root / "a.txt").read_bytes() == b"1girl, solo, hat"


@needs_rights
def test_a_folder_that_may_not_be_written_is_said_before_anything_is_tried(root):
    hash = picture(root / "sub" / "a.jpg")
    (root / "sub").chmod(0o555)
    try:
        assert "nothing may be written in" in FolderLibrary(root).plan([TagChange(hash, "x", "add")])[0].reason
    finally:
        (root / "sub").chmod(0o755)


def test_a_picture_that_the_disk_does_not_give_is_a_row_that_says_so(root, monkeypatch):
    picture(root / "a.jpg")
    refuse = OSError(errno.EIO, "Input/output error")

    def refused(*_):
        raise refuse

    monkeypatch.setattr(inside.Inside, "status", refused)
    monkeypatch.setattr(inside.Inside, "file", refused)
    ((said, (_,)),) = FolderLibrary(root).walk([]).not_local.items()
    assert said == "cannot be read"


def test_a_name_too_long_for_a_sidecar_is_said(root):
    hash = picture(root / ("x" * 251 + ".jpg"))
    assert "too long a name" in FolderLibrary(root).plan([TagChange(hash, "x", "add")])[0].reason


def test_what_another_program_writes_in_the_same_moment_is_never_overwritten(root, monkeypatch):
    one, two = picture(root / "a.jpg", stem=b"1girl, solo"), picture(root / "b.jpg", stem=b"1girl, solo")
    library = FolderLibrary(root)
    steps = library.plan([TagChange(one, "hat", "add"), TagChange(two, "hat", "add")])
    keep = library._store.keep_versions

    def meanwhile(rows):
        keep(rows)
        (root / "a.txt").write_bytes(b"by hand")

    monkeypatch.setattr(library._store, "keep_versions", meanwhile)
    with pytest.raises(LibraryRefused, match="a.txt was changed by another program"):
        library.write(steps)
    assert ((root / "a.txt").read_bytes(), (root / "b.txt").read_bytes()) == (b"by hand", b"1girl, solo, hat")
    assert sorted(path.name for path in root.iterdir()) == ["a.jpg", "a.txt", "b.jpg", "b.txt"]


def test_a_full_disk_leaves_the_old_sidecar_whole(root):
    """A limit on file sizes stands in for the full disk: the write fails in its midst."""
    hash = picture(root / "a.jpg", stem=b"1girl, solo " + b"x" * 5000)
    program = f"""
import resource, signal
from tagcheck.library.folder.library import FolderLibrary
from tagcheck.library.protocol import TagChange
from tagcheck.errors import LibraryRefused
library = FolderLibrary({str(root)!r})
steps = library.plan([TagChange({hash!r}, "hat", "add")])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    library.write(steps)
except LibraryRefused as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert "a.txt could not be written: File too large" in done.stdout, done.stderr
    assert snapshot(root) == {"a.jpg": b"a.jpg", "a.txt": b"1girl, solo " + b"x" * 5000}


def test_what_a_killed_process_left_half_written_is_swept_away_and_never_read(root):
    hash = picture(root / "a.jpg", stem=b"1girl, solo")
    (root / ".tagcheck-0123456789ab.tmp").write_bytes(b"1gi")
    library = FolderLibrary(root)
    carry(library, TagChange(hash, "hat", "add"))
    assert sorted(path.name for path in root.iterdir()) == ["a.jpg", "a.txt"]


# --- states and plans --------------------------------------------------------------------------------


def test_a_plan_is_the_exact_difference_and_says_why_there_is_none(root):
    hash = picture(root / "a.jpg", stem=b"long_hair, solo")
    library = FolderLibrary(root)
    before = snapshot(root)
    add, remove, has, lacks, gone = (
        TagChange(hash, "hat", "add"),
        TagChange(hash, "long hair", "remove"),
        TagChange(hash, "Long_Hair", "add"),
        TagChange(hash, "smile", "remove"),
        TagChange("f" * 64, "hat", "add"),
    )
    steps = library.plan([add, remove, has, lacks, gone])
    assert steps[:2] == [
        TagWrite(hash, "hat", "sidecar", ABSENT, CURRENT),
        TagWrite(hash, "long hair", "sidecar", CURRENT, ABSENT),
    ]
    assert [(step.change, step.settled) for step in steps[2:]] == [(has, True), (lacks, True), (gone, False)]
    assert [step.change for step in steps] == [add, remove, has, lacks, gone]
    assert snapshot(root) == before
    with pytest.raises(LibraryRefused, match="no tag service 'my tags'"):
        library.plan([add], "my tags")


def test_the_same_file_in_two_places_is_one_picture_on_two_pages_and_a_fix_goes_to_both(root):
    hash = picture(root / "a" / "x.jpg", b"same", stem=b"1girl, solo")
    assert picture(root / "b" / "y.png", b"same", full=b"1girl\nsolo") == hash
    library = FolderLibrary(root)
    assert [page.hashes for page in library.walk([]).pages] == [(hash,), (hash,)]
    before = snapshot(root)
    steps = carry(library, TagChange(hash, "hat", "add"), TagChange(hash, "solo", "remove"))
    assert len(steps) == 2 and snapshot(root) == before | {"a/x.txt": b"1girl, hat", "b/y.png.txt": b"1girl\nhat"}
    take_back(library, steps)
    assert snapshot(root) == before


def test_copies_that_disagree_are_fixed_where_they_need_it_and_go_back_to_disagreeing(root):
    hash = picture(root / "a" / "x.jpg", b"same", stem=b"1girl, solo")
    picture(root / "b" / "x.jpg", b"same", stem=b"1girl, hat")
    picture(root / "c" / "x.jpg", b"same")
    library = FolderLibrary(root)
    assert library.states([(hash, tag, "sidecar") for tag in ("1girl", "solo", "x")]) == [PARTLY, PARTLY, ABSENT]
    before = snapshot(root)
    steps = carry(library, TagChange(hash, "solo", "add"), TagChange(hash, "hat", "remove"))
    assert [step.service for step in steps] == ["sidecar:b/x.jpg", "sidecar:c/x.jpg", "sidecar:b/x.jpg"]
    assert snapshot(root) == before | {"b/x.txt": b"1girl, solo", "c/x.txt": b"solo"}
    take_back(library, steps)
    assert snapshot(root) == before


def test_a_write_of_what_is_so_already_changes_nothing(root):
    hash = picture(root / "a.jpg", stem=b"1girl, solo")
    library = FolderLibrary(root)
    library.write(
        [TagWrite(hash, "solo", "sidecar", ABSENT, CURRENT), TagWrite(hash, "hat", "sidecar", CURRENT, ABSENT)]
    )
    assert snapshot(root) == {"a.jpg": b"a.jpg", "a.txt": b"1girl, solo"}


def test_two_processes_that_write_the_same_sidecars_lose_nothing(root, tmp_path):
    hashes = [picture(root / f"{number}.jpg", stem=b"1girl, solo") for number in range(20)]
    program = """
import sys
from tagcheck.library.folder.library import FolderLibrary
from tagcheck.library.protocol import TagChange
root, name, hashes = sys.argv[1], sys.argv[2], sys.argv[3:]
library = FolderLibrary(root)
for number in range(3):
    for hash in hashes:
        library.write(library.plan([TagChange(hash, f"{name}{number}", "add")]))
"""
    running = [
        subprocess.Popen([warm.python(), "-c", program, root, name, *hashes], cwd=Path(__file__).parents[2])
        for name in "ab"
    ]
    assert [process.wait(60) for process in running] == [0, 0]
    expected = {"1girl", "solo", *(f"{name}{number}" for name in "ab" for number in range(3))}
    library = FolderLibrary(root)
    assert [set(tags_of(library, hash)) for hash in hashes] == [expected] * 20
