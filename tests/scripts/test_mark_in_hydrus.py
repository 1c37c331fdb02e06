"""Findings become tags on a machine's tag service in Hydrus: asked for, taken back by one command, never on the owner's services."""

from __future__ import annotations

import documented
import pytest
from hydrus_server import AI_TAGS, MY_TAGS, REPOSITORY, HydrusServer
from review_data import missing, pair, save_mistagged, save_pairs, wrong
from test_hydrus import Bench, ai_tags, bench

import config
import mark_in_hydrus
from tagcheck import data_folder, tags
from tagcheck.data_folder import DATASET, MAPPING, DataFolder
from tagcheck.errors import UsageError
from tagcheck.library.hydrus.client import Hydrus
from tagcheck.review import Ask, Key, Review, by_picture

NAMES = ["a.png", "b.png", "c.png", "d.png"]


def save_found(folder: DataFolder, hashes: list[str]) -> None:
    """A dataset of four pictures and reports about it: what the first lacks and has wrongly, and that the last two are copies."""
    a, b, c, d = hashes
    sizes = {c: 10, d: 99}  # d is the better copy
    records = [
        {"hash": hash, "existing_all_tags": ["solo"], "width": sizes.get(hash, 50), "height": 50}
        for hash in (a, b, c, d)
    ]
    data_folder.save(folder, DATASET, {"summary": {}, "results": records})
    save_mistagged(
        folder, missing(a, "hat", confidence=0.9), wrong(a, "solo", confidence=0.6), missing(b, "cape", confidence=0.4)
    )
    save_pairs(folder, pair(c, d))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    with HydrusServer({name: (name.encode(), ["solo"]) for name in NAMES}, {"Dataset": NAMES}) as running:
        settings = {
            "API_URL": running.url,
            "API_KEY": running.key,
            "LIBRARY": "hydrus",
            "MACHINE_TAG_SERVICES": [AI_TAGS],
        }
        for name, value in settings.items():
            monkeypatch.setattr(config, name, value)
        yield running


@pytest.fixture
def found(folder: DataFolder, server: HydrusServer) -> DataFolder:
    save_found(folder, [server.names[name] for name in NAMES])
    return folder


def marks(server: HydrusServer) -> dict[str, set[str]]:
    return {name: set(server.stored(server.names[name], AI_TAGS).get("0", [])) for name in NAMES}


def run(folder: DataFolder, *options: str) -> int:
    return mark_in_hydrus.main(["ai suggestions", "--data-dir", str(folder.root), *options])


class Marked:
    """Four pictures in a client, what was found about them, and the marks that they have on a machine's service."""

    def __init__(self, folder: DataFolder, bench: Bench, service: str) -> None:
        self.bench, self.service = bench, service
        self.hashes = [bench.add("solo") for _ in NAMES]
        save_found(folder, self.hashes)
        bench.tag(self.hashes[1], "machine guess", service=service)

    def marks(self) -> list[set[str]]:
        """Of each picture, as a search for them in Hydrus finds it."""
        asked = ("tagcheck:missing", "tagcheck:wrong", "tagcheck:copy", "machine guess")
        found = {mark: set(self.bench.open(tag_services=()).search(mark).pages[0].hashes) for mark in asked}
        return [{mark for mark, hashes in found.items() if one in hashes} for one in self.hashes]


@pytest.fixture
def marked(folder: DataFolder, bench: Bench, ai_tags: str, monkeypatch: pytest.MonkeyPatch) -> Marked:
    settings = {"API_URL": bench.url, "API_KEY": bench.key, "LIBRARY": "hydrus", "MACHINE_TAG_SERVICES": [ai_tags]}
    for name, value in settings.items():
        monkeypatch.setattr(config, name, value)
    return Marked(folder, bench, ai_tags)


def test_what_is_found_is_marked_searched_for_and_taken_back_by_one_command(
    folder: DataFolder, marked: Marked, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*options: str) -> int:
        return mark_in_hydrus.main([marked.service, "--data-dir", str(folder.root), *options])

    others = [one.key for one in Hydrus(marked.bench.url, marked.bench.key).services() if one.key != marked.service]
    places = [(hash, tag, key) for hash in marked.hashes for tag in ("solo", *tags.MARKS) for key in others]
    before = marked.bench.hydrus.states(places)
    assert run() == 0
    assert marked.marks() == [{"tagcheck:missing", "tagcheck:wrong"}, {"machine guess"}, {"tagcheck:copy"}, set()]
    assert "1 tagcheck:missing, 1 tagcheck:wrong, 1 tagcheck:copy added" in capsys.readouterr().out
    assert run("--min-confidence", "0.8") == 0  # a later run takes off what holds no more
    assert marked.marks()[0] == {"tagcheck:missing"}
    with Review(folder.review) as review:
        review.decide([Ask(Key(marked.hashes[0], "hat", "add"), 0)], "ignored")
    assert run() == 0 and marked.marks()[0] == {"tagcheck:wrong"}
    assert run("--undo") == 0 and marked.marks() == [set(), {"machine guess"}, set(), set()]
    assert run() == 0 and marked.marks()[2] == {"tagcheck:copy"}  # what was taken off can come again
    assert run("--undo") == 0 and marked.marks() == [set(), {"machine guess"}, set(), set()]
    assert marked.bench.hydrus.states(places) == before


@pytest.mark.parametrize(
    "machine, named",
    [([], "ai suggestions"), ([AI_TAGS], "my tags"), ([MY_TAGS, AI_TAGS], "my tags"), ([REPOSITORY], REPOSITORY)],
)
def test_a_service_that_is_the_owners_or_others_is_refused(found, server, monkeypatch, machine, named):
    monkeypatch.setattr(config, "MACHINE_TAG_SERVICES", machine)
    with pytest.raises(UsageError, match="is not written to"):
        mark_in_hydrus.main([named, "--data-dir", str(found.root)])
    assert not any("add_tags" in call.path for call in server.calls)


def test_a_service_that_fixes_go_to_is_refused_though_a_machine_fills_it(found, server, monkeypatch):
    monkeypatch.setattr(config, "WRITE_TAG_SERVICE", AI_TAGS)
    with pytest.raises(UsageError, match="is not written to"):
        run(found)


def test_a_folder_of_pictures_has_no_such_service(found, tmp_path):
    (tmp_path / "pictures").mkdir()
    data_folder.save(found, MAPPING, {"library": {"type": "folder", "path": str(tmp_path / "pictures")}, "pages": []})
    with pytest.raises(UsageError, match="marks are for Hydrus"):
        run(found)


def test_the_documented_commands_work_as_they_stand(found, server, tmp_path):
    about = {"HYDRUS_API_URL": server.url, "HYDRUS_API_KEY": server.key, "DATASET_DIR": str(found.root)}
    for command, marked in zip(documented.commands("docs/hydrus.md"), (3, 0), strict=True):
        done = documented.run(command.replace("tagcheck marks", "ai suggestions"), tmp_path, **about)
        assert done.returncode == 0, done.stderr
        assert sum(map(len, marks(server).values())) == marked
