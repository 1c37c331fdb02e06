"""Sidecars as people have them: each form is read, written back in its own form, and taken back to the byte."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutants import limited
from sidecar_drafts import ANY, WORDS

from tagcheck.changes import TagChange
from tagcheck.library.folder import forms
from tagcheck.library.folder.inside import Inside
from tagcheck.library.folder.library import FolderLibrary
from tagcheck.library.folder.tag_names import name
from tagcheck.library.protocol import NoWrite, TagWrite

ROUND_TRIPS = int(os.environ.get("TAGCHECK_ROUND_TRIPS", "300"))  # sidecars in all; 10,000: see docs/log.md
IN_ONE = 20


def put(root: Path, stem: str, **files: str | bytes) -> str:
    """A picture `stem`.jpg with files beside it: `txt`, `caption`, `json`, `xmp`. Returns its hash."""
    root.mkdir(parents=True, exist_ok=True)
    data = stem.encode()
    (root / f"{stem}.jpg").write_bytes(data)
    for ending, content in files.items():
        (root / f"{stem}.{ending}").write_bytes(content if isinstance(content, bytes) else content.encode())
    return hashlib.sha256(data).hexdigest()


def tags_of(library: FolderLibrary, hash: str) -> list[str]:
    return list(next(library.files([hash])).tags)


def change(library: FolderLibrary, hash: str, action: str, tag: str) -> list[TagWrite]:
    steps = library.plan([TagChange(hash, tag, action)])
    assert all(isinstance(step, TagWrite) for step in steps), steps
    library.write(steps)
    assert library.states([(step.hash, step.tag, step.service) for step in steps]) == [step.after for step in steps]
    return steps


def within(short: bytes, long: bytes) -> bool:
    """Whether `short` is `long` with some bytes left out."""
    rest = iter(long)
    return all(byte in rest for byte in short)


# --- what is read ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ending, content, expected",
    [
        ("txt", "1girl long_hair blue_eyes solo", ["1girl", "long hair", "blue eyes", "solo"]),
        ("txt", "1girl，long hair，solo", ["1girl", "long hair", "solo"]),
        ("txt", "1girl、long hair、solo", ["1girl", "long hair", "solo"]),
        ("txt", "1girl; long hair; ;); solo", ["1girl", "long hair", ";)", "solo"]),
        ("txt", "1girl；long hair", ["1girl", "long hair"]),
        ("txt", "1girl, (long hair:1.2), ((solo)), {{hat}}", ["1girl", "long hair", "solo", "hat"]),
        ("txt", "1girl, (long hair, smile:1.3), solo", ["1girl", "long hair", "smile", "solo"]),
        ("txt", "miku \\\\(vocaloid\\\\), saber \\(fate\\)", ["miku (vocaloid)", "saber (fate)"]),
        ("txt", "\ufefflong\u200b hair, e\u0301te\u0301, solo\u00ad", ["long hair", "été", "solo"]),
        ("txt", "1girl, solo\n1girl, smile", ["1girl", "solo", "smile"]),
        ("txt", "1girl, miku ||| solo, hat", ["1girl", "miku", "solo", "hat"]),
        ("txt", "1girl, <lora:x:0.8>, hat\nNegative prompt: bad\nSteps: 20, Sampler: Euler a", ["1girl", "hat"]),
        ("txt", "1girl,\nhat\nSteps: 20, Sampler: Euler a, Seed: 3", ["1girl", "hat"]),
        ("caption", "1girl, solo", ["1girl", "solo"]),
        ("json", '["1girl", "series:x"]', ["1girl", "series:x"]),
        ("json", '{"tags": ["1girl", "long_hair"]}', ["1girl", "long hair"]),
        ("json", '{"my files": {"tags": ["1girl"]}}', ["1girl"]),
        ("json", '{"id": 3, "tag_string": "1girl long_hair", "tags_artist": ["somebody"]}', ["1girl", "long hair", "somebody"]),
        ("json", '{"category": "gelbooru", "tags": "1girl long_hair"}', ["1girl", "long hair"]),
        ("json", '{"tags": ["\\ud800", "1girl\\udfff", "\\ud83d\\ude00"]}', ["1girl", "😀"]),
        ("json", '{"tags": {"general": ["1girl"], "artist": ["x_y"]}}', ["1girl", "x y"]),
        ("json", '{"tags": {"1girl": 0.98, "long_hair": 1, "x": -2e-3}, "size": {"hat": 3}}', ["1girl", "long hair", "x"]),
        ("json", '{"tags": {"general": {"1girl": 0.98}, "rating": {"safe": 0.9}}}', ["1girl", "safe"]),
        ("json", '{"tags": {}}', []),
        ("txt", "1girl、long hair，solo", ["1girl", "long hair", "solo"]),
        ("txt", "1girl､long hair､solo", ["1girl", "long hair", "solo"]),
        ("txt", "1girl\tlong hair\tsolo", ["1girl", "long hair", "solo"]),
        ("txt", "1girl | long hair | :| | solo", ["1girl", "long hair", ":|", "solo"]),
        ("txt", "((1girl, (hat, smile:1.2), [coat]:1.1)), (saber \\(fate\\), x:0.9)", ["1girl", "hat", "smile", "coat", "saber (fate)", "x"]),
        ("txt", "1.2::long hair, smile::, -0.5::hat::, solo", ["long hair", "smile", "hat", "solo"]),
        ("txt", "(;):1.2), (^_^), ((:3)), (>_>:1.1), T_T, \\(^o^)/", [";)", "^_^", ":3", ">_>", "t_t", "\\(^o^)/"]),
        ("txt", "1girl, solo;;;smile, miku|||hat", ["1girl", "solo", "smile", "miku", "hat"]),
        ("txt", "1girl, hat BREAK coat, BREAK, smile\nNegative prompt: bad, BREAK solo", ["1girl", "hat", "coat", "smile"]),
        ("txt", "Prompt: 1girl, hat\r\nNegative prompt: bad\r\nSteps: 20, Size: 8x8\r\n", ["1girl", "hat"]),
        ("txt", "1girl, hat\rNegative prompt: bad\rSteps: 20", ["1girl", "hat"]),
        ("txt", "long\u3164 hair, long\ufe0f hat, so\u034flo, ❤\ufe0f", ["long hair", "long hat", "solo", "❤"]),
        ("txt", "1girl, été".encode("utf-16"), ["1girl", "été"]),
        ("txt", b"\xfe\xff" + "1girl\r\n猫耳\r\n".encode("utf-16-be"), ["1girl", "猫耳"]),
        ("json", '{"tags": ["1girl", "猫耳"]}'.encode("utf-16"), ["1girl", "猫耳"]),
        ("json", '{"storage tags": ["1girl"], "deleted tags": ["solo"], "search_tags": "hat coat"}', ["1girl"]),
        ("json", '{"tags": "1girl, long hair"}', ["1girl", "long hair"]),
        ("json", '{"tags": [2, "1girl", null, "hat"], "tags_id": [1, 2], "parent_tags": [["x"]]}', ["1girl", "hat"]),
        ("txt", "solo, [cat:dog:0.5], [black cat:dog, white:7], [a b|c d], ([x::3]:1.1), hat", ["solo", "hat"]),
        ("txt", "a {red|blue} coat\nsolo\n[cat|dog]\n<lora:x:1>\nhat", ["solo", "hat"]),
        ("txt", "[hat:0.5], [smile:12], (<lora:x:1>:1.2), solo", ["hat", "smile", "solo"]),
        ("txt", "cat :1.2 AND dog:0.8 AND hat : 1\nNegative prompt: bad\nSteps: 20, Size: 8x8", ["cat", "dog", "hat"]),
        ("json", '{"tags": [{"name": "猫耳", "translated_name": "cat ears"}, {"name": "R-18"}]}', ["猫耳", "r-18"]),
        ("xmp", lambda: xmp(["été", "solo"]).encode("utf-16"), ["été", "solo"]),
        ("xmp", lambda: xmp(["hat", "x"]).replace("<rdf:li>x", "<rdf:li/><rdf:li> x "), ["hat", "x"]),
    ],
)  # fmt: skip
def test_each_form_is_read_and_each_of_its_tags_can_be_taken_out_and_put_back(tmp_path, ending, content, expected):
    hash = put(tmp_path, "a", **{ending: content() if callable(content) else content})
    library, sidecar = FolderLibrary(tmp_path), tmp_path / f"a.{ending}"
    before = sidecar.read_bytes()
    assert tags_of(library, hash) == expected
    for action, tag in [*(("remove", tag) for tag in expected), ("add", "brand new")]:
        steps = change(library, hash, action, tag)
        left = {one for one in expected if one != tag}
        assert set(tags_of(library, hash)) == (left if action == "remove" else left | {tag})
        assert within(sidecar.read_bytes(), before) or action == "add"
        library.write([step.reversed() for step in steps])
        assert sidecar.read_bytes() == before


def test_strings_in_json_are_told_apart_by_all_of_them(tmp_path):
    for number in range(3):
        put(tmp_path, f"p{number}", json='{"tags": "1girl, Long Hair, hat"}')
    hash = put(tmp_path, "a", json='{"tags": "long hair", "tag_string": "long_hair"}')
    library = FolderLibrary(tmp_path)
    assert tags_of(library, hash) == ["long hair"]
    change(library, hash, "add", "red coat")
    assert (tmp_path / "a.json").read_text(
        encoding="utf-8"
    ) == '{"tags": "long hair, red coat", "tag_string": "long_hair red_coat"}'


def xmp(subject: list[str], paths: list[str] = ()) -> str:
    def listed(name: str, kind: str, items) -> str:
        return (
            f"<{name}>\n <rdf:{kind}>\n"
            + "".join(f"  <rdf:li>{item}</rdf:li>\n" for item in items)
            + f" </rdf:{kind}>\n</{name}>"
        )

    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"'
        ' xmlns:digiKam="http://www.digikam.org/ns/1.0/">'
        + listed("dc:subject", "Bag", subject)
        + (listed("digiKam:TagsList", "Seq", paths) if paths else "")
        + "</rdf:Description></rdf:RDF></x:xmpmeta>"
    )  # fmt: skip


def test_the_last_part_of_digikams_paths_is_the_tag_and_all_lists_change_together(tmp_path):
    before = xmp(["Alice &amp; Bob", "solo"], ["People/Alice &amp; Bob", "solo"])
    hash = put(tmp_path, "a", xmp=before)
    put(tmp_path, "b", xmp=xmp(["hat"], ["Things/hat"]))
    library = FolderLibrary(tmp_path)
    assert tags_of(library, hash) == ["alice & bob", "solo"]
    steps = change(library, hash, "remove", "alice & bob") + change(library, hash, "add", "hat")
    assert (tmp_path / "a.xmp").read_text(encoding="utf-8") == xmp(["solo", "hat"], ["solo", "Things/hat"])
    library.write([step.reversed() for step in reversed(steps)])
    assert (tmp_path / "a.xmp").read_text(encoding="utf-8") == before


def test_records_of_tables_are_read_and_changed_alone(tmp_path):
    hash = put(tmp_path / "train", "a")
    other = put(tmp_path / "train", "b")
    lines = (
        '{"file_name": "a.jpg", "text": "1girl,  solo"}\r\n{"file_name":"b.jpg","text":"h\\u00e9, hat" , "n": 1.0}\r\n'
    )
    (tmp_path / "train" / "metadata.jsonl").write_bytes(lines.encode())
    (tmp_path / "meta_lat.json").write_text(
        '{\n "train/a": {"tags": "1girl, solo", "caption": "a girl in the park"},\n "train/c": {}\n}'
    )
    before = (tmp_path / "meta_lat.json").read_bytes()
    library = FolderLibrary(tmp_path)
    assert (tags_of(library, hash), tags_of(library, other)) == (["1girl", "solo"], ["hé", "hat"])
    steps = library.plan(
        [TagChange(hash, "solo", "remove"), TagChange(other, "hé", "remove"), TagChange(other, "ü", "add")]
    )
    library.write(steps)
    assert (tmp_path / "train" / "metadata.jsonl").read_bytes() == (
        b'{"file_name": "a.jpg", "text": "1girl"}\r\n{"file_name":"b.jpg","text":"hat, \\u00fc" , "n": 1.0}\r\n'
    )
    assert b'"tags": "1girl", "caption"' in (tmp_path / "meta_lat.json").read_bytes()
    library.write([step.reversed() for step in reversed(steps)])
    assert (tmp_path / "meta_lat.json").read_bytes() == before
    assert (tmp_path / "train" / "metadata.jsonl").read_bytes() == lines.encode()


def test_a_new_tag_goes_into_each_table_that_has_the_picture_and_comes_out_of_all(tmp_path):
    """sd-scripts makes meta_lat.json of meta_cap.json, and trains by the first."""
    hash = put(tmp_path, "a")
    for stem in ("meta_cap", "meta_lat"):
        (tmp_path / f"{stem}.json").write_text('{"a": {"tags": "solo, hat"}}')
    library = FolderLibrary(tmp_path)
    steps = change(library, hash, "add", "long hair")
    tables = [tmp_path / "meta_cap.json", tmp_path / "meta_lat.json"]
    assert [one.read_text(encoding="utf-8") for one in tables] == ['{"a": {"tags": "solo, hat, long hair"}}'] * 2
    library.write([step.reversed() for step in steps])
    change(library, hash, "remove", "solo")
    assert [one.read_text(encoding="utf-8") for one in tables] == ['{"a": {"tags": "hat"}}'] * 2


def test_lines_of_a_table_that_cannot_be_read_are_told(tmp_path):
    put(tmp_path, "a")
    (tmp_path / "metadata.jsonl").write_text(
        '{"file_name": "a.jpg", "text": "hat"}\n{"file_name": "b.jpg\n{"image": "c"}\n[]\n'
    )
    (said,) = [one for one in FolderLibrary(tmp_path).walk([]).notes if "lines" in one]
    assert said == 'seen and not read: 3 lines of tables that are no JSON with a "file_name"'


def test_a_table_of_another_machine_is_read_where_its_names_are_clear(tmp_path):
    hash = put(tmp_path / "a", "x")
    twins = [put(tmp_path / folder, "y") for folder in ("a", "b")]
    records = {"C:\\train\\x.jpg": {"tags": "hat"}, "D:/train/y": {"tags": "coat"}, "/gone/z": {"tags": "tree"}}
    (tmp_path / "meta_lat.v2.json").write_text(json.dumps(records))
    library = FolderLibrary(tmp_path)
    assert "2 records of tables that belong to no picture" in "\n".join(library.walk([]).notes)
    assert tags_of(library, hash) == ["hat"] and tags_of(library, twins[0]) == []


@pytest.mark.parametrize(
    "picture, sidecar", [("IMG.JPG", "img.txt"), ("a.jpg", "a.Txt"), ("a.png", "A.PNG.TXT"), ("e\u0301.jpg", "é.txt")]
)
def test_names_that_differ_in_case_or_unicode_form_alone_belong_together(tmp_path, picture, sidecar):
    (tmp_path / picture).write_bytes(b"x")
    (tmp_path / sidecar).write_text("1girl, solo")
    library = FolderLibrary(tmp_path)
    (hash,) = library.walk([]).pages[0].hashes
    assert tags_of(library, hash) == ["1girl", "solo"]
    change(library, hash, "add", "hat")
    assert (tmp_path / sidecar).read_text(encoding="utf-8") == "1girl, solo, hat" and len(list(tmp_path.iterdir())) == 2


# --- what is said ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "files, said",
    [
        ({"caption": "a girl with a hat in the park"}, "seen and not read: 3 .caption files hold sentences"),
        ({"json": '{"shapes": []}'}, "seen and not read: 3 .json files hold no tags"),
        ({"tags": "1girl"}, r"seen and not read: files beside pictures whose kind is not known here \(3 .tags\)"),
        ({"txt": ""}, "no picture has a tag: none of 3"),
        ({"csv": "file_name,text"}, r"not known here \(3 .csv\)"),
        ({"txt": "1girl long_hair"}, "tags are parted by blanks, as in 3 of 3 files"),
        ({"txt": "hat, [cat:dog:0.5], solo"}, "3 files hold prompts that change or mix things .* is no tag and stays"),
        ({"txt": "1girl, a cat sits on the mat, hat"}, "3 of 3 files hold sentences; what stands between two commas"),
        ({"zip": "PK", "txt": "hat"}, r"seen and not read: archives: unpack them \(3 .zip\)"),
        ({"txt": "1girl；solo"}, "tags are parted by full-width semicolons"),
        ({"caption": "1girl, solo"}, r"3 of 3 pictures have tags \(read: 3 .caption files\)"),
    ],
)
def test_what_was_seen_and_how_it_was_read_is_said_with_counts(tmp_path, files, said):
    for number in range(3):
        put(tmp_path, f"p{number}", **files)
    notes = "\n".join(FolderLibrary(tmp_path).walk([]).notes)
    assert re.search(said, notes), notes


def test_a_title_among_tags_on_lines_is_said_to_be_no_sentence(tmp_path):
    for number in range(3):
        put(tmp_path, f"p{number}", txt="solo\nseries:x\ntitle:hello, this is the title of a picture in the park\n")
    assert not any("sentences" in note for note in FolderLibrary(tmp_path).walk([]).notes)


def test_where_half_of_the_files_have_commas_and_half_have_blanks_that_is_said_and_commas_are_always_clear(tmp_path):
    for number in range(20):
        joint = ", " if number % 2 else " "
        put(tmp_path / "half", f"p{number}", txt=joint.join(["1girl", "long_hair", "solo", f"x{number}"]))
    (note,) = [one for one in FolderLibrary(tmp_path / "half").walk([]).notes if "blanks" in one]
    assert "10 of 20 files hold several words with blanks alone between them; each was read as one tag" in note
    for number in range(20):
        put(tmp_path / "few", f"p{number}", txt="1girl long_hair solo")
    hash = put(tmp_path / "few", "a", txt="1girl, long hair, ;)")
    assert tags_of(FolderLibrary(tmp_path / "few"), hash) == ["1girl", "long hair", ";)"]


@pytest.mark.parametrize("text", ["\\" * 300_000, "(" * 200_000 + "a" + ")" * 200_000, "1" * 400_000, "[a:" * 100_000])
def test_a_text_that_is_made_to_take_long_is_no_tag(text):
    with limited():
        assert not forms.decode(".txt", text.encode(), forms.Readings({})).names


# --- how a new tag is spelled ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "owners, added, written",
    [
        ("Long Hair", "long hair", "Long Hair"),
        ("long_hair", "long hair", "long_hair"),
        ("series: x", "series:x", "series: x"),
        ("Series:Re Zero", "series:re zero", "Series:Re Zero"),
        ("Straße", "straße", "Straße"),
        (":D", ":d", ":D"),
        ("saber \\(fate\\)", "saber (fate)", "saber \\(fate\\)"),
        ("(hat:1.1)", "hat", "hat"),
        ("e\u0301te\u0301", "été", "e\u0301te\u0301"),
    ],
)
def test_a_new_tag_is_written_as_the_owner_writes_it_most(tmp_path, owners, added, written):
    for number in range(3):
        put(tmp_path, f"p{number}", txt=f"1girl, {owners}")
    put(tmp_path, "other", txt=f"1girl, {name(owners)}, x")
    hash = put(tmp_path, "new", txt="1girl, solo")
    change(FolderLibrary(tmp_path), hash, "add", added)
    assert (tmp_path / "new.txt").read_bytes() == f"1girl, solo, {written}".encode()


@pytest.mark.parametrize(
    "neighbours, added, written",
    [
        ("1girl, Long Hair, Blue Eyes, Solo", "red coat", "Red Coat"),
        ("1girl, series: x, series: y", "series:z", "series: z"),
        ("1girl, Series:X, Series:Y", "series:z", "Series:Z"),
        ("1girl, long_hair, blue_eyes", "^_^", "^_^"),
        ("1girl, long hair, blue eyes", "o_o", "o_o"),
        ("1girl, saber \\(fate\\)", ":)", ":)"),
        ("1girl, T_T, O_O, red coat", "blue eyes", "blue eyes"),
        ("1GIRL, LONG HAIR, SOLO", "red coat", "RED COAT"),
        ("1GIRL, LONG HAIR, SOLO", "rote straße", "ROTE STRAßE"),
        ("1girl, Series: X, series: y, Series: z", "character:straße", "Character: straße"),
    ],
)
@pytest.mark.parametrize("ending, form", [("txt", "{}"), ("json", '["{}"]'), ("xmp", "")])
def test_a_tag_that_is_new_to_the_library_is_written_in_its_style(tmp_path, neighbours, added, written, ending, form):
    tags = [tag.replace("\\", "\\" * 2 if ending == "json" else "\\") for tag in neighbours.split(", ")]

    def sidecar(tags: list[str]) -> str:
        return form.format((", " if ending == "txt" else '", "').join(tags)) if form else xmp(tags)

    put(tmp_path, "a", **{ending: sidecar(tags)})
    hash = put(tmp_path, "new", **{ending: sidecar(tags[:1])})
    change(FolderLibrary(tmp_path), hash, "add", added)
    assert (tmp_path / f"new.{ending}").read_text(encoding="utf-8") == sidecar([tags[0], written])


@pytest.mark.parametrize("ending, form", [("txt", "{}"), ("json", '{{"tags": "{}"}}')])
def test_a_tag_gets_the_capitals_of_its_folder_where_the_rest_of_the_library_has_others(tmp_path, ending, form):
    """Whether it is in use elsewhere or not. Capitals of its own (NASA) stay, and a few names make no habit of a folder."""
    for number in range(5):
        put(tmp_path / "shop", f"s{number}", **{ending: form.format("1girl, Long Hair, Blue Eyes, Red_Hat")})
        for part in ("a", "b"):
            tags = "1girl, long hair, white dress, small_dog, NASA, outdoors"
            put(tmp_path / "own", f"{part}{number}", **{ending: form.format(tags)})
    one = put(tmp_path / "shop", "one", **{ending: form.format("1girl, Long Hair")})
    other = put(tmp_path / "names", "other", **{ending: form.format("1girl, Asuka, Rei")})
    library = FolderLibrary(tmp_path)
    for tag in ("white dress", "nasa", "brand new", "small dog"):
        change(library, one, "add", tag)
    change(library, other, "add", "white dress")
    after = form.format("1girl, Long Hair, White Dress, NASA, Brand New, Small_Dog")
    assert (tmp_path / "shop" / f"one.{ending}").read_text(encoding="utf-8") == after
    assert (tmp_path / "names" / f"other.{ending}").read_text(encoding="utf-8") == form.format(
        "1girl, Asuka, Rei, white dress"
    )


@pytest.mark.parametrize(
    "before, after",
    [
        (
            '{"tags": {"1girl": 0.98, "long_hair": 0.7}}',
            '{"tags": {"1girl": 0.98, "long_hair": 0.7, "brand_new": 1.0}}',
        ),
        ('{"tags":{"1girl":98.2,"long_hair":7}}', '{"tags":{"1girl":98.2,"long_hair":7,"brand_new":98.2}}'),
        ('{"tags": {"1girl": 1}}', '{"tags": {"1girl": 1, "brand_new": 1}}'),
        ('{"tags": {}}', '{"tags": {"brand_new": 1.0}}'),
        (
            '{"tags": {"general": {"long_hair": 0.5}, "character": {"x": 0.9}}}',
            '{"tags": {"general": {"long_hair": 0.5, "brand_new": 1.0}, "character": {"x": 0.9}}}',
        ),
    ],
)
def test_a_tag_that_is_put_among_scores_is_certain_and_no_score_is_lost(tmp_path, before, after):
    put(tmp_path, "b", json='["long_hair", "blue_eyes"]')
    hash = put(tmp_path, "a", json=before)
    path, library = tmp_path / "a.json", FolderLibrary(tmp_path)
    steps = change(library, hash, "add", "brand new")
    assert path.read_text(encoding="utf-8") == after
    library.write([library.undo_of(step) for step in steps])
    assert path.read_text(encoding="utf-8") == before
    for tag in tags_of(library, hash):
        steps = change(library, hash, "remove", tag)
        assert tag not in tags_of(library, hash) and path.read_text(encoding="utf-8") != before
        library.write([library.undo_of(step) for step in steps])
        assert path.read_text(encoding="utf-8") == before


def test_a_new_tag_in_json_follows_the_other_files_where_its_own_shows_no_manner(tmp_path):
    """In a table of captions too; and what stands in files of the other manner alone is written in that of this one."""
    for number in range(3):
        put(tmp_path / "danbooru", f"p{number}", json='{"tags": ["blue_eyes", "long_hair"]}')
        put(tmp_path / "other", f"q{number}", json='{"tags": ["white dress", "red hat"]}')
    plain, spaced = put(tmp_path / "danbooru", "a", json='["solo"]'), put(tmp_path / "other", "b", json='["red hat"]')
    for stem in ("c", "d"):
        put(tmp_path / "table", stem)
    records = [{"file_name": "c.jpg", "text": "hat, brown_eyes"}, {"file_name": "d.jpg", "text": "hat, solo"}]
    (tmp_path / "table" / "metadata.jsonl").write_text("\n".join(map(json.dumps, records)))
    library = FolderLibrary(tmp_path)
    change(library, plain, "add", "brand new")
    change(library, spaced, "add", "blue eyes")
    change(library, hashlib.sha256(b"d").hexdigest(), "add", "brand new")
    assert (tmp_path / "danbooru" / "a.json").read_text(encoding="utf-8") == '["solo", "brand_new"]'
    assert (tmp_path / "other" / "b.json").read_text(encoding="utf-8") == '["red hat", "blue eyes"]'
    assert '"hat, solo, brand_new"' in (tmp_path / "table" / "metadata.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "ending, content", [("caption", "1girl, solo"), ("json", '["1girl", "solo"]'), ("xmp", xmp(["1girl", "solo"]))]
)
def test_a_sidecar_that_has_to_be_made_is_of_the_usual_form(tmp_path, ending, content):
    put(tmp_path, "a", **{ending: content})
    hash = put(tmp_path, "new")
    library = FolderLibrary(tmp_path)
    steps = change(library, hash, "add", "hat")
    assert (tmp_path / f"new.{ending}").exists() and tags_of(FolderLibrary(tmp_path), hash) == ["hat"]
    library.write([step.reversed() for step in steps])
    assert not (tmp_path / f"new.{ending}").exists()


# --- round trips -------------------------------------------------------------------------------------


@settings(max_examples=max(1, ROUND_TRIPS // IN_ONE), deadline=None, suppress_health_check=list(HealthCheck))
@given(drafts=st.lists(ANY, min_size=IN_ONE, max_size=IN_ONE), data=st.data())
def test_one_tag_changed_and_taken_back_leaves_every_byte_as_it_was(drafts, data):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        hashes, table = [], []
        for number, (form, content) in enumerate(drafts):
            files = {} if form == "record" else {form[1:]: content}
            hashes.append(put(root, f"p{number}", **files))
            if form == "record":
                table.append(json.dumps({"file_name": f"p{number}.jpg"})[:-1].encode() + b", " + content.lstrip(b"{"))
        (root / "metadata.jsonl").write_bytes(b"\n".join(table))
        before = {path.name: path.read_bytes() for path in root.iterdir()}
        library = FolderLibrary(root)
        infos = {info.hash: info for info in library.files(hashes)}
        assert all(info.status == "ok" for info in infos.values()), infos
        wanted = []
        for hash in hashes:
            here = list(infos[hash].tags)
            assert all(name(tag) == tag for tag in here)
            if here and data.draw(st.booleans()):
                wanted.append(TagChange(hash, data.draw(st.sampled_from(here)), "remove"))
            else:
                new = [one for one in map(name, [*WORDS, "brand new"]) if one not in here]
                wanted.append(TagChange(hash, data.draw(st.sampled_from(new)), "add"))
        steps = library.plan(wanted)
        refused = [step for step in steps if isinstance(step, NoWrite)]
        assert all("would read differently" in step.reason for step in refused), refused
        writes = [step for step in steps if isinstance(step, TagWrite)]
        library.write(writes)
        after = {info.hash: set(info.tags) for info in library.files(hashes)}
        for write in writes:
            old = set(infos[write.hash].tags)
            assert after[write.hash] == (old | {write.tag} if write.after == "current" else old - {write.tag})
            number = hashes.index(write.hash)
            for path in root.glob(f"p{number}.*"):
                was, now = before.get(path.name, b""), path.read_bytes()
                assert within(was, now) if write.after == "current" else within(now, was), (was, now)
        library.write([write.reversed() for write in reversed(writes)])
        assert {path.name: path.read_bytes() for path in root.iterdir()} == before


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=30),
        st.lists(
            st.sampled_from(
                ["(", ")", "\\", "_", ":", "1.2", "a", "b c", "{", "}", "[", "]", "^_^", "\u200b", "İ", "ß"]
            ),
            max_size=9,
        ).map("".join),
    )
)
def test_the_name_of_a_name_is_the_same_name(raw):
    assert name(name(raw)) == name(raw)


def test_a_tag_that_stood_in_two_sidecars_comes_back_to_those_that_had_it(tmp_path):
    hash = put(tmp_path, "a", txt="1girl", json='{"tags": ["1girl", "solo"], "id": 1.50}', xmp=xmp(["solo", "hat"]))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    library = FolderLibrary(tmp_path)
    steps = change(library, hash, "remove", "solo")
    library.write([step.reversed() for step in steps])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("old_form", [False, True])
def test_undo_gives_the_same_bytes_after_the_library_was_moved(tmp_path, old_form):
    hash = put(tmp_path / "here" / "sub", "a", txt="z, Long_Hair ,a,\r\n")
    store = tmp_path / "store.sqlite3"
    steps = change(FolderLibrary(tmp_path / "here", store), hash, "remove", "long hair")
    if old_form:  # whole paths, as earlier versions kept them
        with sqlite3.connect(store) as db:
            whole = os.fsencode(tmp_path / "here") + b"/"
            db.execute("UPDATE folder_versions SET path = CAST(? || path AS BLOB)", (whole,))
            db.execute("UPDATE folder_meta SET value = '1' WHERE key = 'version'")
            db.execute(
                "INSERT OR IGNORE INTO folder_hashes VALUES (?, ?, 1, 1, 'x')", (os.fsencode(tmp_path / "here"), b"y")
            )
    (tmp_path / "here").rename(tmp_path / "there")
    FolderLibrary(tmp_path / "there", store).write([step.reversed() for step in steps])
    assert (tmp_path / "there" / "sub" / "a.txt").read_bytes() == b"z, Long_Hair ,a,\r\n"


# --- links and what is left out ----------------------------------------------------------------------


@pytest.mark.parametrize("make", ["symlink_to", "hardlink_to"])
@pytest.mark.parametrize("inside, tagged", [(True, True), (True, False), (False, True), (False, False)])
def test_a_linked_picture_shares_the_sidecar_of_the_file_that_it_is(tmp_path, make, inside, tagged):
    root = tmp_path / "library"
    home = root / "all" if inside else tmp_path / "elsewhere"
    hash = put(home, "a", **({"txt": "1girl, solo"} if tagged else {}))
    (root / "fav").mkdir(parents=True)
    getattr(root / "fav" / "b.jpg", make)(home / "a.jpg")
    library = FolderLibrary(root)
    if make == "symlink_to" and not inside:
        (row,) = library.files(library.walk([]).not_local["cannot be read"])
        assert "leads out of the library" in row.reason and sorted(one.name for one in home.iterdir()) == (
            ["a.jpg", "a.txt"] if tagged else ["a.jpg"]
        )
        return
    steps = change(library, hash, "add", "coat")
    if inside:
        assert sorted(path.name for path in (root / "fav").iterdir()) == ["b.jpg"]
        assert [path.name for path in home.glob("*.txt")] == (["a.txt"] if tagged else ["a.jpg.txt"])
        assert "coat" in next(home.glob("a*.txt")).read_text(encoding="utf-8")
    assert steps[0].service == "sidecar"
    library.write([step.reversed() for step in steps])
    assert ((home / "a.txt").read_text(encoding="utf-8") if tagged else list(home.glob("*.txt"))) == (
        "1girl, solo" if tagged else []
    )


@pytest.mark.parametrize(
    "patterns, left",
    [
        (["masks/"], ["a.jpg", "a-mask.png", "sub/b.jpg"]),
        (["*-mask.png"], ["a.jpg", "masks/a.png", "sub/b.jpg"]),
        (["/masks", "sub/*.jpg"], ["a.jpg", "a-mask.png"]),
        (["**/*.png", "!a-mask.png"], ["a.jpg", "a-mask.png", "sub/b.jpg"]),
        (["sub/**", "**/masks/**/a.png"], ["a.jpg", "a-mask.png"]),
        (["**", "!a*"], ["a.jpg", "a-mask.png"]),
        (["[!a]", "[z-a].jpg", "[", "*" * 3000 + "x"], ["a.jpg", "a-mask.png", "masks/a.png", "sub/b.jpg"]),
        (["# nothing", ""], ["a.jpg", "a-mask.png", "masks/a.png", "sub/b.jpg"]),
        (["[p-a]/", "[m-a]*.png"], ["a.jpg", "a-mask.png", "masks/a.png", "sub/b.jpg"]),
    ],
)
@pytest.mark.parametrize("by_file", [False, True])
def test_patterns_leave_pictures_out(tmp_path, patterns, left, by_file):
    for path in ("a.jpg", "a-mask.png", "masks/a.png", "sub/b.jpg"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(path.encode())
    if by_file:
        (tmp_path / ".tagcheckignore").write_text("\n".join(patterns))
    library = FolderLibrary(tmp_path, exclude=() if by_file else patterns)
    found = {hash for page in library.walk([]).pages for hash in page.hashes}
    assert found == {hashlib.sha256(path.encode()).hexdigest() for path in left}


def test_a_folder_that_can_be_listed_and_not_entered_is_a_row_and_the_rest_is_mapped(tmp_path, monkeypatch):
    good = put(tmp_path, "good", txt="1girl")
    put(tmp_path / "closed", "a")
    put(tmp_path / "closed" / "deep", "b")

    def refusing(real):
        def refuse(self, *args):
            if any(isinstance(one, str) and f"{os.sep}closed{os.sep}" in one for one in args):
                raise PermissionError(13, "Permission denied")
            return real(self, *args)

        return refuse

    monkeypatch.setattr(Inside, "status", refusing(Inside.status))
    monkeypatch.setattr(Inside, "_open", refusing(Inside._open))
    library = FolderLibrary(tmp_path)
    walk = library.walk([])
    assert good in walk.pages[0].hashes
    reasons = [info.reason for info in library.files(walk.not_local["cannot be read"])]
    assert len(reasons) == 2 and any("can be listed and not entered" in reason for reason in reasons)


# --- captions of training sets -----------------------------------------------------------------------

PROSE = (
    "A young woman with {0} hair stands in the {1} by the {2}, while a {0} lamp in the {1} throws its {2} on the wall."
)
MIXED = "ohwx woman, standing in the {1} with a {2}, {0} hair, freckles, medium shot"
SCENES = [
    (a, b, c) for a in ("red", "blue", "grey") for b in ("rain", "park", "snow", "house") for c in ("light", "sea")
]


def training_set(folder, kind, form):
    """A set of pictures of which each has one caption."""
    table = []
    for number, words in enumerate(SCENES):
        if kind != "jsonl":
            put(folder, f"p{number}", **{kind: form.format(*words)})
        else:
            put(folder, f"p{number}")
            table.append(json.dumps({"file_name": f"p{number}.jpg", "text": form.format(*words)}))
    if table:
        (folder / "metadata.jsonl").write_text("\n".join(table) + "\n")
    return FolderLibrary(folder)


@pytest.mark.parametrize("kind", ["txt", "caption", "jsonl"])
def test_captions_of_sentences_are_left_alone_whatever_file_they_stand_in(tmp_path, kind):
    library = training_set(tmp_path, kind, PROSE)
    assert any("24 " in note and "hold sentences and no tags" in note for note in library.walk([]).notes)


@pytest.mark.parametrize("kind", ["txt", "caption", "jsonl"])
def test_tags_are_read_beside_a_sentence_whatever_file_they_stand_in(tmp_path, kind):
    library = training_set(tmp_path, kind, MIXED)
    pages = library.walk([]).pages
    assert all({"freckles", "medium shot"} <= set(tags_of(library, hash)) for hash in pages[0].hashes)


def test_a_new_tag_goes_into_both_of_two_sidecars_that_say_the_same(tmp_path):
    hash = put(tmp_path, "a", txt="1girl, solo")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.jpg", "text": "1girl, solo"}\n')
    library = FolderLibrary(tmp_path)
    change(library, hash, "add", "hat")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "1girl, solo, hat"
    assert (tmp_path / "metadata.jsonl").read_text(
        encoding="utf-8"
    ) == '{"file_name": "a.jpg", "text": "1girl, solo, hat"}\n'
