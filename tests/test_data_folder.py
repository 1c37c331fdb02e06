"""Files between the stages: whole or not there, the newest by name, and nothing taken for what it is not."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import warm

from tagcheck import data_folder
from tagcheck.data_folder import DATASET, MAPPING, RUN_SUMMARY, DataFolder, load, save
from tagcheck.detectors import DETECTORS, MISTAGGED, NEAR_DUPLICATES
from tagcheck.errors import BadFile, MissingInput
from tagcheck.files import write_atomically

PROJECT = Path(__file__).resolve().parent.parent
NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def put(folder: DataFolder, name: str, content: bytes = b"{}", kind: data_folder.Kind = MAPPING) -> Path:
    path = folder.root / kind.folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


# --- names and the newest ----------------------------------------------------------------------------


def test_a_file_is_named_by_its_kind_and_the_time_in_utc(folder):
    path = save(folder, MAPPING, {"pages": []}, NOON)
    assert path == folder.root / "mappings" / "dataset_mapping_20261123T120000Z.json"
    assert load(path, MAPPING) == {
        "kind": "dataset_mapping",
        "version": 1,
        "created": "2026-11-23T12:00:00Z",
        "pages": [],
    }


def test_every_kind_stands_where_the_formats_say():
    kinds = [MAPPING, DATASET, RUN_SUMMARY, *(one.report for one in DETECTORS)]
    assert {(kind.name, kind.folder, kind.prefix) for kind in kinds} == {
        ("dataset_mapping", "mappings", "dataset_mapping"),
        ("dataset", "datasets", "advanced_joytag_complete"),
        ("mistagged_images_report", "reports", "mistagged_images_report"),
        ("near_duplicates_report", "reports", "near_duplicates_report"),
        ("series_validation_report", "reports", "series_validation_report"),
        ("error_detection_summary", "reports", "error_detection_summary"),
    }


def test_the_newest_is_decided_by_the_name_not_by_the_modification_time(folder):
    new = put(folder, "dataset_mapping_20261123T120001Z.json")
    old = put(folder, "dataset_mapping_20251123T120000Z.json")
    os.utime(new, (1, 1))
    assert folder.newest(MAPPING) == new and folder.files(MAPPING) == [old, new]


def test_names_that_only_look_like_files_of_ours_are_passed_over(folder):
    real = put(folder, "dataset_mapping_20261123T120000Z.json")
    for name in (
        "dataset_mapping_backup.json",
        "dataset_mapping_99999999T999999Z.json",
        "dataset_mapping_20261323T120000Z.json",
        ".dataset_mapping_20261124T120000Z.json.ab12.tmp",
        "dataset_mapping_20261124T120000Z.json.bak",
        "mistagged_images_report_20261124T120000Z.json",
    ):
        put(folder, name)
    assert folder.files(MAPPING) == [real] and folder.newest(MISTAGGED) is None
    assert save(folder, MAPPING, {}, NOON).name == "dataset_mapping_20261123T120001Z.json"


def test_two_files_of_one_second_and_a_clock_set_back_keep_their_order(folder):
    names = [
        save(folder, MAPPING, {"n": number}, when).name
        for number, when in enumerate((NOON, NOON, datetime(2020, 1, 1, tzinfo=UTC), NOON))
    ]
    assert names == [f"dataset_mapping_20261123T12000{second}Z.json" for second in range(4)]
    assert load(folder.newest(MAPPING), MAPPING)["n"] == 3


def test_two_processes_that_save_at_once_lose_no_file(folder):
    program = f"""
import sys
from pathlib import Path
from tagcheck.data_folder import MAPPING, DataFolder, save
for number in range(15):
    save(DataFolder(Path({str(folder.root)!r})), MAPPING, {{"by": sys.argv[1] + str(number)}})
"""
    running = [subprocess.Popen([warm.python(), "-c", program, name], cwd=PROJECT) for name in "ab"]
    assert [process.wait(60) for process in running] == [0, 0]
    saved = [load(path, MAPPING)["by"] for path in folder.files(MAPPING)]
    assert sorted(saved) == sorted(f"{name}{number}" for name in "ab" for number in range(15))


def test_require_takes_the_given_file_else_the_newest_else_says_who_makes_one(folder):
    with pytest.raises(
        MissingInput, match=r"no dataset_mapping_\*.json in .*mappings: run dataset_hardcore_mapper.py first"
    ):
        folder.require(MAPPING)
    path = save(folder, MAPPING, {})
    assert folder.require(MAPPING) == path and folder.require(MAPPING, str(path)) == path
    with pytest.raises(MissingInput, match="no file nowhere.json"):
        folder.require(MAPPING, "nowhere.json")
    with pytest.raises(MissingInput, match="no file"):
        folder.require(MAPPING, folder.root)


# --- what stands in the file ---------------------------------------------------------------------------


def test_big_lists_stand_one_record_a_line_and_the_whole_is_ordinary_json(folder):
    pages = [
        {"path": ["Dataset", 'a, "b" / é 日本'], "page_key": "k", "hashes": ["0" * 64]},
        {"path": [], "page_key": "", "hashes": []},
    ]
    path = save(folder, MAPPING, {"summary": {"pages": 2}, "pages": pages, "root": []}, NOON)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line.rstrip(",")) for line in lines if line.startswith('{"path')] == pages
    assert json.loads(path.read_text(encoding="utf-8"))["pages"] == pages and "é 日本" in path.read_text(
        encoding="utf-8"
    )
    assert lines[0] == "{" and lines[-1] == "}"


@pytest.mark.parametrize(
    "lines", [{"first": '["a, [1]", {"b": 2}]'}, {"first": "[\n1\n]", "second": '["a, [1]", {"b": 2}]'}]
)
def test_a_list_within_one_line_is_read_record_by_record(tmp_path, lines):
    kind = data_folder.Kind("thing", "things", "thing", "make_thing.py", ("first", "second"))
    path = tmp_path / "thing_20260101T000000Z.json"
    rest = ",\n".join(f'"{name}": {value}' for name, value in lines.items())
    path.write_text(f'{{\n"kind": "thing",\n"version": 1,\n{rest}\n}}\n', encoding="utf-8")
    read = list(data_folder.records(path, kind, {}))
    expected = [(name, one) for name, value in lines.items() for one in json.loads(value)]
    assert read == expected


def test_the_same_document_gives_the_same_bytes(folder):
    document = {"b": 1, "a": [1.5, None], "similar_pairs": [{"z": 1, "y": 2}], "groups": []}
    one, two = (save(DataFolder(folder.root / name), NEAR_DUPLICATES, document, NOON) for name in "xy")
    assert one.read_bytes() == two.read_bytes()


def test_unknown_keys_are_kept_and_the_header_is_ours(folder):
    path = save(folder, MAPPING, {"kind": "lie", "version": 7, "created": "never", "future": {"x": 1}}, NOON)
    document = load(path, MAPPING)
    assert (document["kind"], document["version"], document["created"], document["future"]) == (
        "dataset_mapping",
        1,
        "2026-11-23T12:00:00Z",
        {"x": 1},
    )


def test_names_that_are_not_utf8_go_through_json_and_back(folder):
    name = os.fsdecode(b"caf\xe9")
    path = save(folder, MAPPING, {"pages": [{"path": [name]}]})
    path.read_bytes().decode("utf-8")
    assert load(path, MAPPING)["pages"][0]["path"] == [name]


def test_what_is_no_json_number_is_never_written(folder):
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError):
            save(folder, MISTAGGED, {"errors": [{"confidence": value}]})
    assert folder.newest(MISTAGGED) is None and list((folder.root / "reports").iterdir()) == []


# --- what is no such file ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content, says",
    [
        (b"", "is not whole JSON"),
        (b'{"kind": "dataset_mapping", "pages": [', "is not whole JSON"),
        (b'{"kind": "dataset_mapping"}\0\0\0', "is not whole JSON"),
        (b"\x80\x81", "is not whole JSON"),
        (b'{"kind": "dataset_mapping", "caf\xe9": 1}', "bytes that are not UTF-8"),
        (b'{"kind": "dataset_mapping", "x": NaN}', "NaN is no number in JSON"),
        (b'{"kind": "dataset_mapping", "x": -Infinity}', "-Infinity is no number"),
        (b'{"kind": "dataset_mapping", "x": ' + b"9" * 5000 + b"}", "is not whole JSON"),
        (b"[" * 200_000, "is not whole JSON"),
        (b"[]", "is not a dataset_mapping .it says 'list'"),
        (b"null", "is not a dataset_mapping"),
        (b'{"kind": "dataset"}', "is not a dataset_mapping .it says 'dataset'"),
        (b"{}", "is not a dataset_mapping .it says None"),
        (b'{"kind": "dataset_mapping", "version": 2}', "has version 2, this program reads up to 1: update"),
        (b'{"kind": "dataset_mapping", "version": "1"}', "has version '1'"),
        (b'{"kind": "dataset_mapping", "pages": {}}', "'pages' is not a list"),
    ],
)
def test_a_damaged_or_foreign_file_is_named_with_the_way_out(folder, content, says):
    path = put(folder, "dataset_mapping_20261123T120000Z.json", content)
    with pytest.raises(BadFile, match=says) as caught:
        load(path, MAPPING)
    assert str(path) in str(caught.value)


def test_a_file_of_another_program_may_lack_the_version_and_carry_a_byte_order_mark(folder):
    path = put(folder, "dataset_mapping_20261123T120000Z.json", b'\xef\xbb\xbf{"kind": "dataset_mapping", "pages": []}')
    assert load(path, MAPPING)["pages"] == []


def test_a_file_that_is_gone_is_a_missing_input(folder):
    with pytest.raises(MissingInput, match="no file"):
        load(folder.root / "x.json", MAPPING)


def test_a_large_file_loads_in_reasonable_time(folder):
    """20,000 records of 30 tags: about 10 MB."""
    record = {"hash": "0" * 64, "existing_all_tags": [f"some tag {number}" for number in range(30)]}
    path = save(folder, DATASET, {"results": [record] * 20_000})
    start = time.process_time()
    assert len(load(path, DATASET)["results"]) == 20_000
    assert time.process_time() - start < 3


# --- whole or not at all -------------------------------------------------------------------------------


def failing(out) -> None:
    out.write(b"half of it")
    raise KeyboardInterrupt


def test_what_breaks_off_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, failing)
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("x.json", b"old")]


def test_the_file_is_not_there_until_it_is_whole(tmp_path):
    path = tmp_path / "sub" / "x.json"

    def write(out):
        out.write(b"a" * 100_000)
        assert not path.exists()
        out.write(b"b")

    write_atomically(path, write)
    assert path.read_bytes() == b"a" * 100_000 + b"b" and [one.name for one in path.parent.iterdir()] == ["x.json"]


def test_a_new_file_has_the_rights_that_the_owners_umask_gives(tmp_path):
    old = os.umask(0o027)
    try:
        write_atomically(tmp_path / "x", lambda out: None)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_a_name_that_is_taken_is_not_replaced_when_it_must_not_be(tmp_path, monkeypatch):
    path = tmp_path / "x"
    write_atomically(path, lambda out: out.write(b"first"), replace=False)

    def no_links(*_):
        raise OSError("this file system has no links")

    for _ in range(2):
        with pytest.raises(FileExistsError):
            write_atomically(path, lambda out: out.write(b"second"), replace=False)
        monkeypatch.setattr(os, "link", no_links)
    write_atomically(tmp_path / "y", lambda out: out.write(b"y"), replace=False)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"x": b"first", "y": b"y"}


def test_a_full_disk_is_said_with_the_file_and_leaves_no_newest_file_behind(folder):
    save(folder, MAPPING, {"n": 1}, NOON)
    program = f"""
import resource, signal
from pathlib import Path
from tagcheck.data_folder import MAPPING, DataFolder, save
from tagcheck.script import run
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
run(lambda: save(DataFolder(Path({str(folder.root)!r})), MAPPING, {{"pages": ["x" * 100] * 1000}}) and 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "File too large" in done.stderr and "mappings/dataset_mapping_2" in done.stderr
    assert "free some space" in done.stderr
    assert [path.name for path in (folder.root / "mappings").iterdir()] == ["dataset_mapping_20261123T120000Z.json"]


def test_a_kill_in_the_middle_of_a_save_leaves_no_file_that_counts(folder):
    program = f"""
import os, signal
from pathlib import Path
from tagcheck import data_folder, files
files.os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
data_folder.save(data_folder.DataFolder(Path({str(folder.root)!r})), data_folder.MAPPING, {{"pages": []}})
"""
    assert subprocess.run([sys.executable, "-c", program], cwd=PROJECT).returncode == -9
    assert folder.newest(MAPPING) is None
    assert save(folder, MAPPING, {}) == folder.newest(MAPPING)
