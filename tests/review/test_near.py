"""Similar pictures are kept as numbers, and read again as the hashes that they stand for, from old reports and new ones."""

from __future__ import annotations

from review_data import missing, save_mistagged

from tagcheck import data_folder
from tagcheck.data_folder import DataFolder
from tagcheck.detectors import MISTAGGED
from tagcheck.review import queries
from tagcheck.review.report_import import sync
from tagcheck.review.store import Review

HASHES = [letter * 64 for letter in "abcd"]


def seen(folder: DataFolder) -> dict[str, list[str]]:
    with Review(folder.review) as review:
        assert not sync(review, folder)
        kept = [row[0] for row in review.db.execute("SELECT evidence FROM suggestions")]
        assert not any(hash in text for hash in HASHES for text in kept)
        found = queries.page(review, queries.Filter())
        return {key: found[0].suggestions[0].evidence[key] for key in ("near_with", "near_without")}


def test_hashes_of_an_old_report_come_back_in_their_order(folder):
    save_mistagged(folder, missing(HASHES[0], "night", near_with=[HASHES[2], HASHES[1]], near_without=[HASHES[3]]))
    assert seen(folder) == {"near_with": [HASHES[2], HASHES[1]], "near_without": [HASHES[3]]}


def test_places_of_a_new_report_are_those_of_its_own_list_and_what_is_no_place_is_left_out(folder):
    entry = missing(HASHES[0], "night", near_with=[2, 0, 99, -1], near_without=[1])
    data_folder.save(folder, MISTAGGED, {"summary": {}, "near_pictures": HASHES[1:], "errors": [entry]})
    assert seen(folder) == {"near_with": [HASHES[3], HASHES[1]], "near_without": [HASHES[2]]}
