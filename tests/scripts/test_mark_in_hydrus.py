"""Findings become tags on a machine's tag service in Hydrus: asked for, taken back by one command, never on the owner's services."""

from __future__ import annotations

import copy

import documented
import pytest
from hydrus_server import AI_TAGS, MY_TAGS, REPOSITORY, HydrusServer
from review_data import missing, pair, save_mistagged, save_pairs, wrong

import config
import mark_in_hydrus
from tagcheck import data_folder
from tagcheck.data_folder import DATASET, MAPPING, DataFolder
from tagcheck.errors import UsageError
from tagcheck.review import Ask, Key, Review

NAMES = ["a.png", "b.png", "c.png", "d.png"]


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
    a, b, c, d = (server.names[name] for name in NAMES)
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
    return folder


def marks(server: HydrusServer) -> dict[str, set[str]]:
    return {name: set(server.stored(server.names[name], AI_TAGS).get("0", [])) for name in NAMES}


def run(folder: DataFolder, *options: str) -> int:
    return mark_in_hydrus.main(["ai suggestions", "--data-dir", str(folder.root), *options])


def test_what_is_found_is_marked_and_one_command_takes_it_back(found, server, capsys):
    before = copy.deepcopy(
        {key: {hash: server.stored(hash, key) for hash in server.names.values()} for key in (MY_TAGS, REPOSITORY)}
    )
    server.tag(server.names["b.png"], ["machine guess"], AI_TAGS)
    assert run(found) == 0
    assert marks(server) == {
        "a.png": {"tagcheck:missing", "tagcheck:wrong"},
        "b.png": {"machine guess"},
        "c.png": {"tagcheck:copy"},
        "d.png": set(),
    }
    assert "1 tagcheck:missing, 1 tagcheck:wrong, 1 tagcheck:copy added" in capsys.readouterr().out
    assert run(found, "--min-confidence", "0.8") == 0  # a later run takes off what holds no more
    assert marks(server)["a.png"] == {"tagcheck:missing"}
    with Review(found.review) as review:
        review.decide([Ask(Key(server.names["a.png"], "hat", "add"), 0)], "ignored")
    assert run(found) == 0 and marks(server)["a.png"] == {"tagcheck:wrong"}
    assert run(found, "--undo") == 0
    assert marks(server) == {"a.png": set(), "b.png": {"machine guess"}, "c.png": set(), "d.png": set()}
    assert run(found) == 0 and marks(server)["c.png"] == {"tagcheck:copy"}  # what was taken off can come again
    assert before == {
        key: {hash: server.stored(hash, key) for hash in server.names.values()} for key in (MY_TAGS, REPOSITORY)
    }


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
