"""Stage 2 and the detectors' chain on a Hydrus: what its owner settled there comes into the dataset, and `--popup` shows and ends a run."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hydrus_server import MY_TAGS, HydrusServer
from joytag_folder import make_tiny_model_folder
from PIL import Image

import advanced_joytag_processing as extraction
import config
import dataset_hardcore_mapper as mapper
import run_error_detection
from tagcheck import dataset, script
from tagcheck.changes import TagChange
from tagcheck.data_folder import DATASET, MAPPING, DataFolder
from tagcheck.embedding import store
from tagcheck.errors import Cancelled, UsageError
from tagcheck.library.hydrus import popup
from tagcheck.library.hydrus.client import Hydrus
from tagcheck.review import Ask, Key, Review
from tagcheck.writing import Ledger
from tagcheck.writing import apply as applying

NAMES = [f"{number}.png" for number in range(6)]


def picture(seed: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def server() -> Iterator[HydrusServer]:
    with HydrusServer(
        {name: (picture(number), ["long hair", "sword"]) for number, name in enumerate(NAMES)}, {"Dataset": NAMES}
    ) as running:
        yield running
        assert running.alarms == running.refreshed == running.strays == running.committed == []
        assert running.popups == {}


@pytest.fixture
def run(server: HydrusServer, folder: DataFolder, tmp_path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run mapping or extraction on that server, with a tiny network."""
    for name, value in {"API_URL": server.url, "API_KEY": server.key, "LIBRARY": "hydrus"}.items():
        monkeypatch.setattr(config, name, value)
    monkeypatch.setattr(popup, "EVERY", 0.0)
    model = make_tiny_model_folder(tmp_path / "model")

    def main(stage: Any, *options: str) -> None:
        more = ["--model-dir", str(model), "--device", "cpu", "--decoders", "1"] if stage is extraction else []
        assert stage.main(["--data-dir", str(folder.root), *more, *options]) == 0

    return main


def cancelling(server: HydrusServer, after: int) -> list[str]:
    """Press cancel in the client when its message has been updated `after` times. The texts that it showed."""
    texts: list[str] = []

    def press(call: Any) -> None:
        if call.path == "/manage_popups/update_popup":
            texts.append(call.asked["status_text_1"])
            if len(texts) > after:
                for shown in server.popups.values():
                    shown["is_cancelled"] = True

    server.before_answer = press
    return texts


# --- what the owner settled there -------------------------------------------------------------------------


def test_siblings_parents_and_judged_pairs_come_into_the_dataset(
    run: Callable, server: HydrusServer, folder: DataFolder
) -> None:
    a, b, c, d, *_ = (server.names[name] for name in NAMES)
    server.siblings[MY_TAGS] |= {"long hair": "hair:long", "hat": "headwear:hat"}
    server.parents[MY_TAGS] |= {"sword": {"weapon"}}
    for pair, kind in (((a, b), "8"), ((b, c), "3"), ((c, d), "1")):
        server.relationships[min(pair), max(pair)] = kind
    run(mapper)
    run(extraction)
    found = dataset.load(folder)
    assert found.records[0].tags == {"hair:long", "sword", "weapon"} and found.records[0].implied_tags == {
        "hair:long",
        "weapon",
    }
    assert found.header["tag_relations"]["parents"] == {"sword": ["weapon"]} and found.parents == {"sword": {"weapon"}}
    kinds = {frozenset(pair): kind for pair, kind in found.judged.items()}
    assert kinds == {
        frozenset([a, b]): "duplicates",
        frozenset([a, c]): "alternates",
        frozenset([b, c]): "alternates",
        frozenset([a, d]): "false positives",
        frozenset([b, d]): "false positives",
        frozenset([c, d]): "false positives",
    }


def test_the_taggers_names_are_asked_about_in_every_spelling(
    run: Callable, server: HydrusServer, folder: DataFolder
) -> None:
    (folder.root / "tag_map.csv").write_text('tag_one_of_today,3,10,"tag_1"\n', encoding="utf-8")
    run(mapper)
    run(extraction)
    questions = [call for call in server.calls if call.path == "/add_tags/get_siblings_and_parents"]
    asked = {tag for call in questions for tag in json.loads(call.asked["tags"])}
    assert {
        "long hair",
        "sword",
        "tag 2",
        "tag 1",
        "series:tag 1",
        "tag one of today",
        "series:tag one of today",
    } <= asked


def test_without_the_permissions_the_dataset_is_made_all_the_same(
    run: Callable,
    server: HydrusServer,
    folder: DataFolder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr(config, "API_KEY", server.add_key("reader", [3, 4]))
    run(mapper)
    run(extraction)
    found = dataset.load(folder)
    assert len(found.records) == 6 and "tag_relations" not in found.header and found.judged == {}
    said = capsys.readouterr().err
    assert 'lacks the permission "edit file tags", so your siblings' in said
    assert 'lacks the permission "edit file relationships"' in said


# --- --popup ----------------------------------------------------------------------------------------------


def test_by_default_no_message_appears(run: Callable, server: HydrusServer) -> None:
    run(mapper)
    run(extraction)
    assert not [call for call in server.calls if call.path.startswith("/manage_popups")]


def test_a_run_shows_its_progress_and_takes_the_message_away(run: Callable, server: HydrusServer) -> None:
    texts = cancelling(server, 10**6)
    run(mapper, "--popup")
    assert "page Dataset" in texts and "files looked up" in texts
    run(extraction, "--popup")
    assert "metadata and tags: 5 of 6" in texts and "embedding: 5 of 6" in texts


def test_a_cancelled_walk_writes_nothing(run: Callable, server: HydrusServer, folder: DataFolder) -> None:
    cancelling(server, 0)
    with pytest.raises(Cancelled):
        run(mapper, "--popup")
    assert folder.files(MAPPING) == []


def test_a_cancelled_extraction_keeps_what_was_finished_and_goes_on_later(
    run: Callable, server: HydrusServer, folder: DataFolder
) -> None:
    run(mapper)
    cancelling(server, 6 + 3)  # after the metadata, in the midst of the pictures
    with pytest.raises(Cancelled):
        run(extraction, "--popup", "--batch-size", "1")
    kept = len(store.load(folder.embeddings, [server.names[name] for name in NAMES], None).hashes)
    assert 0 < kept < 6 and folder.files(DATASET) == []
    server.before_answer = lambda call: None
    run(extraction, "--popup")
    summary = dataset.load(folder).header["summary"]
    assert (summary["reused"], summary["embedded"]) == (kept, 6 - kept)


def test_a_cancelled_chain_ends_its_detector(
    run: Callable, server: HydrusServer, folder: DataFolder, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(mapper)
    run(extraction)
    project = tmp_path / "project"
    project.mkdir()
    (project / "find_mistagged_images.py").write_text("import time; time.sleep(60)", encoding="utf-8")
    monkeypatch.setattr(script, "PROJECT", project)
    texts = cancelling(server, 1)
    began = time.monotonic()
    with pytest.raises(Cancelled):
        run_error_detection.main(["--data-dir", str(folder.root), "--popup"])
    assert time.monotonic() - began < 30 and set(texts) == {"mistagged images"}


def test_a_folder_has_no_program_to_show_progress_in(folder: DataFolder, tmp_path) -> None:
    with pytest.raises(UsageError, match="--popup is for Hydrus"):
        mapper.main(["--data-dir", str(folder.root), "--library", str(tmp_path), "--popup"])


def test_a_deleted_spelling_and_files_in_the_trash_come_into_the_dataset(
    run: Callable, server: HydrusServer, folder: DataFolder, capsys: pytest.CaptureFixture
) -> None:
    a, b, *_ = (server.names[name] for name in NAMES)
    server.siblings[MY_TAGS]["1girl"] = "one girl"
    server.tag(a, ["1girl"], status="2")
    server.files[b].state = "trashed"
    run(mapper)
    run(extraction)
    found = dataset.load(folder)
    assert found.records[0].refused == {"1girl": "1girl", "one girl": "1girl"}
    assert found.header["summary"]["trashed"] == 1 and "1 of them in the trash" in capsys.readouterr().out
    assert [record.raw.get("trashed") for record in found.records[:2]] == [None, True]


def test_the_next_extraction_sees_what_the_library_has_lost(
    run: Callable, server: HydrusServer, folder: DataFolder, capsys: pytest.CaptureFixture
) -> None:
    key, hash = Key(server.names["0.png"], "hat", "add"), server.names["0.png"]
    server.save()
    library = Hydrus(server.url, server.add_key("no database", [2, 3, 4, 8]))
    with Review(folder.review) as review:
        review.decide([Ask(key)], "accepted")
        result = applying.apply(Ledger(folder.review), library, [TagChange(hash, "hat", "add")])
        review.note_outcomes([(key, "waiting", "", result.batch)])
    server.kill()
    server.start()
    run(mapper)
    run(extraction)
    assert "the library has lost 1 change that was written" in capsys.readouterr().err
    with Review(folder.review) as review:
        assert review.decision(key).queue == "failed"
    assert [row.status for row in Ledger(folder.review).rows()] == ["failed"]
