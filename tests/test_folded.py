"""Large reports say most of each record packed: all of it comes back, anybody finds the main keys, and damage is named."""

from __future__ import annotations

import base64
import bz2
import json
import lzma
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagcheck import base85, columns, data_folder, folded
from tagcheck.data_folder import DataFolder
from tagcheck.detectors import MISTAGGED, PLAIN
from tagcheck.errors import BadFile
from tagcheck.findings import finding_id, tags_of
from tagcheck.json_files import Unusable

HASHES = [f"{number:064x}" for number in range(700)]
NEAR = [
    *HASHES,
    *(f"{number:064x}" for number in range(900, 700, -1)),
]  # those of the entries first, so they need not stand twice
ERRORS = [
    {
        "id": f"{place:016x}" if place % 2 else finding_id("missing_tags", [hash], ["missing:grösse"]),
        "hash": hash,
        "issue": "missing_tags",
        "missing_tags": ["größe\ud800" if place % 2 else "grösse"],
        "confidence": 0.5,
        "tags": [
            {"tag": "größe", "kind": "missing", "confidence": 0.5, "evidence": {"near_with": [place]}, "why": "So."}
        ],
    }
    for place, hash in enumerate(HASHES)
]


@pytest.fixture
def large(folder: DataFolder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(folded, "LARGE", 600)
    monkeypatch.setattr(folded, "TOGETHER", 256)
    return data_folder.save(
        folder, MISTAGGED, {"summary": {"errors_found": 700}, "near_pictures": NEAR, "errors": ERRORS}
    )


def test_entries_that_name_very_many_tags_are_fewer_a_line(folder, monkeypatch):
    monkeypatch.setattr(folded, "LARGE", 6)
    monkeypatch.setattr(folded, "NAMED", 10)
    counts = [1, 9, 1, 12, 4, 4, 4, 0]
    errors = [
        {"hash": hash, "issue": "missing_tags", "missing_tags": [f"tag {k}" for k in range(count)], "confidence": 0.5}
        | {"tags": [{"confidence": 0.5, "why": f"{hash[-2:]} {k}"} for k in range(count)]}
        for hash, count in zip(HASHES, counts)
    ]
    path = data_folder.save(folder, MISTAGGED, {"summary": {}, "near_pictures": [], "errors": errors})
    lines = json.loads(path.read_text(encoding="utf-8"))["folded"]
    assert [line["count"] for line in lines] == [2, 1, 1, 2, 2]
    found = data_folder.load(path, MISTAGGED)["errors"]
    assert [[tag["why"] for tag in one["tags"]] for one in found] == [
        [tag["why"] for tag in one["tags"]] for one in errors
    ]


def as_lists(some):
    """Columns as they were when their numbers stood in the JSON."""
    return json.loads(
        json.dumps(columns.columns(some), default=lambda one: hexed(one) if isinstance(one, bytes) else one.tolist())
    )


def hexed(hashes):
    return [hashes[at : at + 32].hex() for at in range(0, len(hashes), 32)]


OLDER = {"columns": (bz2.compress, as_lists), "bz2": (bz2.compress, list), None: (zlib.compress, list)}


def test_all_comes_back_and_any_reader_finds_the_main_keys(large):
    read = data_folder.load(large, MISTAGGED)
    assert read["errors"] == ERRORS and read["near_pictures"] == NEAR and "folded" not in read
    assert data_folder.head(large, MISTAGGED)["summary"] == {"errors_found": 700}
    plain = json.loads(large.read_text(encoding="utf-8"))
    assert plain["errors"] == [{key: one[key] for key in PLAIN["errors"] if key in one} for one in ERRORS]
    whole = [
        columns.unpacked(lzma.decompress(base64.b85decode(one["packed"])), one["count"]) for one in plain["folded"][1:]
    ]
    assert ["id" in one for one in whole[1]] == [False, True] * 128  # the others follow from the rest
    # another layout of the same JSON, and packed as before xz, before columns and before bzip2
    assert plain["folded"][0] == {"list": "near_pictures", "count": 700, "hashes_of": "errors"}
    for how, (pack, laid) in OLDER.items():
        for line, some in zip(plain["folded"][1:], whole, strict=True):
            line |= {"how": how, "packed": base64.b85encode(pack(json.dumps(laid(some)).encode())).decode()}
        large.write_text(json.dumps(plain), encoding="utf-8")
        read = data_folder.load(large, MISTAGGED)
        assert read["errors"] == ERRORS and read["near_pictures"] == NEAR
    plain["errors"].pop()  # a hash is gone: the places of the others would not be theirs
    large.write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(BadFile, match="line 1 of 'folded' cannot be unfolded"):
        data_folder.load(large, MISTAGGED)
    assert data_folder.load(large, MISTAGGED, Unusable())["near_pictures"] == [None] * 700 + NEAR[700:]


@given(st.binary(max_size=40))
def test_base_85_is_that_of_python(data):
    text = base85.encoded(data)
    assert text == base64.b85encode(data).decode() and base85.decoded(text) == data


@given(st.text('09Az~"\u0663', max_size=11))
def test_what_python_refuses_in_base_85_is_refused(text):
    try:
        read = base64.b85decode(text)
    except ValueError:
        with pytest.raises(ValueError):
            base85.decoded(text)
    else:
        assert base85.decoded(text) == read


def test_a_small_report_is_as_it_was(folder):
    path = data_folder.save(folder, MISTAGGED, {"summary": {}, "near_pictures": HASHES, "errors": ERRORS})
    assert json.loads(path.read_text(encoding="utf-8"))["errors"] == ERRORS


@pytest.mark.parametrize("broken", ["@", "0" * 40, None, 3])
def test_a_damaged_line_is_named_and_costs_what_stood_there(large, broken):
    lines = large.read_text(encoding="utf-8").split("\n")
    place = next(place for place, line in enumerate(lines) if '"errors", "count"' in line)
    line = json.loads(lines[place].removesuffix(","))
    lines[place] = json.dumps(line | {"packed": broken}) + ","
    large.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(BadFile, match="line 1 of 'folded' cannot be unfolded"):
        data_folder.load(large, MISTAGGED)
    unusable = Unusable()
    found = data_folder.load(large, MISTAGGED, unusable)["errors"]
    assert unusable.counts == {"record": 1} and found[256:] == ERRORS[256:] and "tags" not in found[0]
    assert found[0]["hash"] == HASHES[0]


MADE = [
    {"hash": hash, "issue": "contradictory_tags", "missing_tags": ["b", f"m{place % 7}"], "incorrect_tags": ["a"]}
    | {"confidence": 0.9}
    for place, hash in enumerate(HASHES)
]


class Made:
    """These entries, made as columns, each of their tags with a sentence that says it and evidence that says whose it is."""

    def __len__(self) -> int:
        return len(MADE)

    def plain(self):
        return MADE

    def further(self, start, stop):
        rows = sorted((tag, place) for place in range(start, stop) for tag in tags_of(MADE[place]))
        return columns.columns([{"confidence": 0.5, "evidence": {"of": place}, "why": tag} for tag, place in rows])


def test_tags_that_are_packed_by_name_come_back_to_their_entries(large, folder):
    path = data_folder.save(folder, MISTAGGED, {"near_pictures": [], "errors": Made()})
    found = data_folder.load(path, MISTAGGED)["errors"]
    for place, (one, entry) in enumerate(zip(found, MADE, strict=True)):
        assert entry.items() <= one.items() and one["id"] == finding_id(
            entry["issue"], [entry["hash"]], ["missing:b", f"missing:m{place % 7}", "incorrect:a"]
        )
        assert [(row["tag"], row["why"], row["evidence"]["of"]) for row in one["tags"]] == [
            (tag, tag, place) for tag in ("b", f"m{place % 7}", "a")
        ]


def test_an_entry_that_cannot_be_read_leaves_no_other_with_its_tags(large, folder):
    path = data_folder.save(folder, MISTAGGED, {"near_pictures": [], "errors": Made()})
    for written, kept in ((path, [*range(256, 700)]), (large, [*range(10), *range(11, 700)])):
        text = written.read_text(encoding="utf-8")
        line = next(line for line in text.split("\n") if HASHES[10] in line)
        written.write_text(text.replace(line, line[:-9]), encoding="utf-8")
        unusable = Unusable()
        found = data_folder.load(written, MISTAGGED, unusable)["errors"]
        assert unusable and len(found) == len(HASHES) - 1 and HASHES[10] not in [one["hash"] for one in found]
        assert [HASHES.index(one["hash"]) for one in found if "tags" in one] == kept
        own = [one["tags"][0]["evidence"] for one in found if "tags" in one]
        assert [mine.get("of", *mine.get("near_with", ())) for mine in own] == kept
