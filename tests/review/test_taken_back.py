"""An applied change that its owner takes back by hand in the library is a no; what the library lost, or does not show, is none."""

from __future__ import annotations

import pytest
from review_data import hashes, missing, save_mistagged, wrong

from tagcheck import data_folder
from tagcheck.changes import TagChange
from tagcheck.data_folder import DATASET
from tagcheck.dataset import TAGS_OLD, TAGS_READ, load
from tagcheck.library.protocol import NoWrite
from tagcheck.review import taken_back
from tagcheck.review.report_import import sync
from tagcheck.review.store import ACCEPTED, ADD, APPLIED, IGNORED, REMOVE, UNDONE, Ask, Key, Review, answers, decisions
from tagcheck.writing import Ledger

SOME = hashes(8)
BEFORE, AFTER = "2000-01-01T00:00:00Z", "2099-01-01T00:00:00Z"


class Evening:
    """Changes that were accepted and applied in one batch, and then a dataset."""

    def __init__(self, folder, library: str, adds: int, removes: int = 0, outcome: str = APPLIED) -> None:
        self.folder = folder
        self.keys = [Key(hash, "hat", ADD) for hash in SOME[:adds]]
        self.keys += [Key(hash, "dog", REMOVE) for hash in SOME[adds : adds + removes]]
        save_mistagged(
            folder, *(missing(k.hash, "hat") if k.action == ADD else wrong(k.hash, "dog") for k in self.keys)
        )
        self.read(BEFORE, {})
        self.review = Review(folder.review)
        sync(self.review, folder)
        asks = [Ask(key, issue="missing_tags", confidence=0.9) for key in self.keys]
        self.review.decide(asks, ACCEPTED)
        steps = [NoWrite(TagChange(*key[:3]), "", settled=True) for key in self.keys]
        batch = Ledger(folder.review).open_batch(library, None, "", steps)
        self.review.note_outcomes([(key, outcome, "", batch) for key in self.keys])

    def read(self, when: str, unlike: dict[str, dict], **header) -> None:
        """The library is read: every change is there, but for the pictures that are `unlike`; of None there is no record."""
        rows = []
        for key in self.keys:
            row = {"hash": key.hash, "existing_all_tags": ["1girl", *(["hat"] if key.action == ADD else [])]}
            if (other := unlike.get(key.hash, {})) is not None:
                rows.append(row | other)
        data_folder.save(self.folder, DATASET, {TAGS_READ: when, "summary": {}, **header, "results": rows})

    def states(self) -> list[str]:
        """What detectors are told of each change, and then what the page keeps of it, where that is the same."""
        data = load(self.folder)
        told = decisions(self.folder.review, data.pixels, data)
        seen = [told[key[:3]] for key in self.keys]
        right = sum(one[-1] for one in answers(self.folder.review, data))
        assert right == seen.count(ACCEPTED) and len(answers(self.folder.review, data)) == len(seen) - seen.count(
            UNDONE
        )
        before = {key: self.review.decision(key).queue for key in self.keys}
        sync(self.review, self.folder)
        for key, state in zip(self.keys, seen):
            decision = self.review.decision(key)
            expected = (IGNORED, taken_back.WHY) if state == IGNORED else (before[key], "")
            assert (decision.queue, decision.reason) == expected
        assert self.review.take_back() == []
        return seen


@pytest.fixture
def evening(folder, request):
    made = []

    def begun(*args, **more) -> Evening:
        made.append(Evening(folder, *args, **more))
        return made[-1]

    yield begun
    for one in made:
        one.review.close()


def test_in_a_folder_a_tag_that_is_as_before_was_taken_back(evening):
    one = evening("folder /pictures", 2, 2)
    one.read(AFTER, {SOME[0]: {"existing_all_tags": ["1girl"]}, SOME[2]: {"existing_all_tags": ["1girl", "dog"]}})
    assert one.states() == [IGNORED, ACCEPTED, IGNORED, ACCEPTED]


def test_in_hydrus_the_record_of_the_deletion_says_it_however_many_they_are(evening):
    one = evening("hydrus", 5)
    one.read(AFTER, {hash: {"existing_all_tags": ["1girl"], "deleted_tags": ["hat"]} for hash in SOME[:4]})
    assert one.states() == [IGNORED] * 4 + [ACCEPTED]


def test_in_hydrus_a_tag_that_shows_as_another_now_was_not_taken_back(evening):
    one = evening("hydrus", 2, 2)
    sibling = {"existing_all_tags": ["1girl", "headwear"]}
    one.read(AFTER, {SOME[0]: sibling, SOME[2]: {"existing_all_tags": ["dog"], "implied_tags": ["dog"]}})
    assert one.states() == [ACCEPTED] * 4


@pytest.mark.parametrize("library", ["folder /pictures", "hydrus"])
def test_an_older_copy_of_the_library_is_no_answer(evening, library):
    one = evening(library, 3, 1)
    lost = {hash: {"existing_all_tags": ["1girl"]} for hash in SOME[:3]} | {SOME[3]: {"existing_all_tags": ["dog"]}}
    one.read(AFTER, lost)
    assert one.states() == [UNDONE] * 4


@pytest.mark.parametrize(
    "unlike",
    [None, {"existing_all_tags": [], TAGS_OLD: True}, {"existing_all_tags": [], "status": "missing"}],
    ids=["deleted", "deleted and not mapped anew", "missing"],
)
def test_a_picture_that_is_gone_says_nothing(evening, unlike):
    one = evening("folder /pictures", 3)
    one.read(AFTER, {SOME[0]: unlike})
    assert one.states() == [ACCEPTED] * 3


def test_tags_that_were_read_before_the_change_say_nothing(evening):
    one = evening("folder /pictures", 3)
    one.read(BEFORE, {SOME[0]: {"existing_all_tags": []}})
    assert one.states() == [ACCEPTED] * 3


@pytest.mark.parametrize("outcome, state", [("waiting", ACCEPTED), ("undone", UNDONE)])
def test_what_is_not_confirmed_or_was_undone_on_the_page_is_no_refusal(evening, outcome, state):
    one = evening("folder /pictures", 3, outcome=outcome)
    one.read(AFTER, {SOME[0]: {"existing_all_tags": []}})
    assert one.states() == [state] * 3
