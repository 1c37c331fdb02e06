"""find_mistagged_images.py finds planted errors, says how sure it is, and respects what the owner said before."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

import find_mistagged_images
from tagcheck import data_folder, dataset, findings, folded
from tagcheck.belief import of_library
from tagcheck.data_folder import DATASET, DataFolder
from tagcheck.dataset import Record
from tagcheck.detectors import MISTAGGED
from tagcheck.embedding import store as embedding_store
from tagcheck.errors import BadFile, MissingInput
from tagcheck.refusals import Noes, Spellings
from tagcheck.review import store as review_store
from tagcheck.review.store import Ask, Key, Review
from tagcheck.tag_columns import tag_columns
from tagcheck.tag_errors import entries, look_alikes, tag_rules
from tagcheck.tag_errors.suggestions import Suggestion, Suggestions
from tagcheck.tag_errors.tag_rules import Rules

SERIES = [f"series:show {k}" for k in range(4)]
THINGS = [f"thing {k}" for k in range(8)]
TAGS = [*SERIES, *THINGS, "day", "night", "solo", "2girls", "multiple girls"]


def name(row: int) -> str:
    return f"{row:064x}"


def draw(n: int = 600, d: int = 48, seed: int = 0):
    """A library that is easy to see through: (true tags by picture, embeddings, tag directions)."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=(len(TAGS), d)) / np.sqrt(d) * 4
    truth = np.zeros((n, len(TAGS)), dtype=bool)
    truth[np.arange(n), rng.integers(0, 4, n)] = True
    truth[:, 4:12] = rng.random((n, 8)) < 0.3
    day, two = rng.random(n) < 0.5, rng.random(n) < 0.3
    truth[:, 12], truth[:, 13], truth[:, 14], truth[:, 15], truth[:, 16] = day, ~day, ~two, two, two
    twins = np.arange(0, 60, 2)
    truth[twins + 1] = truth[twins]
    matrix = truth @ direction + rng.normal(size=(n, d)) * 0.35 + 2
    matrix[twins + 1] = matrix[twins] + rng.normal(size=(len(twins), d)) * 0.01
    return [{TAGS[t] for t in np.flatnonzero(row)} for row in truth], matrix.astype(np.float32), direction


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A data folder with planted errors: (folder, planted {issue or kind: {(row, tag)}}, the dataset's records)."""
    truth, matrix, _ = draw()
    rng = np.random.default_rng(1)
    given = [set(tags) for tags in truth]
    planted = {"missing": set(), "incorrect": set(), "contradiction": set(), "swapped": set()}
    for row in range(60, 600):
        fate = rng.random()
        if fate < 0.3:
            tag = sorted(truth[row])[int(rng.integers(len(truth[row])))]
            given[row].discard(tag)
            planted["missing"].add((row, tag))
        elif fate < 0.4:
            tag = str(rng.choice(sorted(set(THINGS) - truth[row])))
            given[row].add(tag)
            planted["incorrect"].add((row, tag))
        elif fate < 0.43:
            tag = ({"day", "night"} - truth[row]).pop()
            given[row].add(tag)
            planted["contradiction"].add((row, tag))
        elif fate < 0.46:
            old = next(tag for tag in truth[row] if tag in SERIES)
            new = SERIES[(SERIES.index(old) + 1) % 4]
            given[row] = given[row] - {old} | {new}
            planted["swapped"] |= {(row, old), (row, new)}
    tag = next(tag for tag in sorted(given[0]) if tag in THINGS)
    given[0].discard(tag)
    planted["twin"] = {(0, tag)}
    records = [
        {
            "hash": name(row),
            "existing_all_tags": sorted(tags | {"source:somewhere"} | ({f"title:{row // 100}"} if row % 2 else set())),
        }
        for row, tags in enumerate(given)
    ]
    folder = DataFolder(tmp_path_factory.mktemp("data"))
    with embedding_store.ShardWriter(folder.embeddings, "m", "p") as writer:
        writer.add([name(row) for row in range(len(records))], matrix)
    data_folder.save(folder, DATASET, {"model": {"id": "m"}, "results": records})
    return folder, planted, records


def run(folder: DataFolder, *more: object) -> dict:
    assert find_mistagged_images.main(["--data-dir", str(folder.root), *map(str, more)]) == 0
    return data_folder.load(folder.newest(MISTAGGED), MISTAGGED)


@pytest.fixture(scope="module")
def report(library):
    return run(library[0])


def found(report: dict, kind: str | None = None, issue: str | None = None, least: float = 0.0) -> set[tuple[int, str]]:
    return {
        (int(error["hash"], 16), tag["tag"])
        for error in report["errors"]
        for tag in error["tags"]
        if kind in (None, tag["kind"]) and issue in (None, error["issue"]) and tag["confidence"] >= least
    }


def test_planted_errors_are_found_and_little_else(library, report):
    _, planted, _ = library
    wrong = set().union(*planted.values())
    assert len(found(report, "missing") & planted["missing"]) >= 0.8 * len(planted["missing"])
    assert len(found(report, "incorrect") & planted["incorrect"]) >= 0.6 * len(planted["incorrect"])
    assert len(found(report) & planted["swapped"]) >= 0.8 * len(planted["swapped"])
    sure = found(report, least=0.8)
    assert len(sure & wrong) >= 0.85 * len(sure)


def test_a_declared_contradiction_is_reported_on_the_side_the_picture_speaks_against(library, report):
    _, planted, _ = library
    said = found(report, "incorrect", "contradictory_tags")
    assert len(said & planted["contradiction"]) >= 0.8 * len(planted["contradiction"])
    entry = next(
        tag
        for error in report["errors"]
        for tag in error["tags"]
        if (int(error["hash"], 16), tag["tag"]) in planted["contradiction"]
    )
    assert entry["evidence"]["rule"] == "declared exclusion"
    assert "exclude each other" in entry["why"]


def test_a_tag_that_only_a_near_duplicate_has_is_inconsistent(library, report):
    _, planted, _ = library
    assert planted["twin"] <= found(report, "missing", "inconsistent_tags")


def test_what_a_declared_rule_implies_is_missing(library, report):
    _, planted, _ = library
    implied = {(row, tag) for row, tag in planted["missing"] if tag == "multiple girls"}
    assert implied and implied <= found(report, "missing", "contradictory_tags")


def test_each_tag_of_a_picture_is_suggested_once_with_a_reason(report):
    every = [(error["hash"], tag["tag"]) for error in report["errors"] for tag in error["tags"]]
    assert len(every) == len(set(every)) == report["summary"]["suggestions"]
    assert all(
        tag["why"].endswith(".") and any(c.isdigit() for c in tag["why"])
        for error in report["errors"]
        for tag in error["tags"]
    )


def test_all_that_was_weighed_about_a_tag_is_told(library, report, capsys):
    folder = library[0]
    entry = next(one for one in report["errors"] if one["issue"] == "missing_tags")
    tag = entry["tags"][0]
    assert find_mistagged_images.main(["--data-dir", str(folder.root), "--explain", entry["hash"], tag["tag"]]) == 0
    said = capsys.readouterr().out
    assert f"'{tag['tag']}' is not written there" in said and "so it is missing with" in said
    assert set(tag["evidence"]["weighed"]) >= {"probe", "kernel", "context", "prior"}


def test_the_summary_says_what_could_not_be_judged_and_the_rates(report):
    judged = report["summary"]["judged"]
    assert 0 <= judged["share_not_judged"] < 1
    assert set(judged["tags_not_judged"]) == {"picture_not_looked_at", "used_too_seldom"}
    assert 0 < judged["rates"]["forgotten"] < 1


def test_the_report_is_sorted_and_counted(report):
    summary, order = report["summary"], [error["confidence"] for error in report["errors"]]
    assert order == sorted(order, reverse=True)
    assert summary["errors_found"] == len(report["errors"])
    counts = {
        issue: sum(len(error["tags"]) for error in report["errors"] if error["issue"] == issue)
        for issue in find_mistagged_images.ISSUES
    }
    assert counts == {issue: summary[issue] for issue in counts}
    assert all(tag["confidence"] >= 0.5 for error in report["errors"] for tag in error["tags"])


def test_tags_that_cannot_be_seen_are_left_alone(report):
    assert not [tag for _, tag in found(report) if tag.startswith(("source:", "title:"))]


def test_a_run_without_a_tagger_says_so(report):
    assert any("no advanced_embeddings/tag_head.pt" in note for note in report["summary"]["notes"])


def with_hashes(report):
    """The report's errors with the hashes of similar pictures instead of their places."""
    errors = copy.deepcopy(report["errors"])
    for evidence in (one["evidence"] for error in errors for one in error["tags"]):
        for name in {"near_with", "near_without"} & evidence.keys():
            evidence[name] = [report["near_pictures"][at] for at in evidence[name]]
    return errors


def test_the_cut_is_counted_and_a_second_run_finds_the_same(library, report):
    folder, _, _ = library
    again = run(folder, "--min-confidence", 0.9)
    assert again["summary"]["suggestions"] + again["summary"]["below_min_confidence"] == (
        report["summary"]["suggestions"] + report["summary"]["below_min_confidence"]
    )
    ids = {error["id"]: error for error in with_hashes(report)}
    for error in with_hashes(again):
        if all(tag["confidence"] >= 0.9 for tag in ids.get(error["id"], {"tags": []})["tags"]):
            assert ids.get(error["id"], error) == error


def test_where_few_suggestions_are_sure_some_less_sure_ones_are_listed_until_enough_were_decided(
    library, report, monkeypatch
):
    def less_sure(report: dict, kind: str) -> list[float]:
        said = [tag for error in report["errors"] for tag in error["tags"] if tag["kind"] == kind]
        return sorted(tag["confidence"] for tag in said if tag["confidence"] < find_mistagged_images.LISTED)

    folder = library[0]
    assert not less_sure(report, "missing"), "enough are sure"
    monkeypatch.setattr(find_mistagged_images, "LISTED", 0.9999)
    listed = run(folder)
    said = less_sure(listed, "missing")
    assert 10 < len(said) <= 30 and 0.2 <= said[0] < 0.5 and less_sure(listed, "incorrect")
    assert sum("your decisions on them" in note for note in listed["summary"]["notes"]) == 2
    named = run(folder, "--min-confidence", 0.9999)
    assert not less_sure(named, "missing") and named["settings"]["min_confidence"] == 0.9999
    answers = [("add", "missing_tags", f"thing {k % 8}", 0.9, True) for k in range(30)]
    monkeypatch.setattr(review_store, "answers", lambda *of: answers)
    after = run(folder)
    assert not less_sure(after, "missing") and less_sure(after, "incorrect")


def test_a_large_report_says_the_same(library, report, monkeypatch):
    monkeypatch.setattr(folded, "LARGE", 50)
    monkeypatch.setattr(entries, "TOGETHER", 64)
    monkeypatch.setattr(folded, "TOGETHER", 64)
    again = run(library[0])
    assert len(again["errors"]) > 128 and with_hashes(again) == with_hashes(report)
    assert again["near_pictures"] != report["near_pictures"]  # those of the entries come first


def test_every_suggestion_shows_pictures_that_have_and_lack_the_tag(library, report):
    _, _, records = library
    tags = {record["hash"]: record["existing_all_tags"] for record in records}
    assert len(set(report["near_pictures"])) == len(report["near_pictures"])
    for error in with_hashes(report):
        for one in error["tags"]:
            near = {"near_with": [], "near_without": []} | one["evidence"]
            assert 1 <= len(near["near_with"]) <= 4 and all(one["tag"] in tags[hash] for hash in near["near_with"])
            assert len(near["near_without"]) <= 4 and not any(one["tag"] in tags[hash] for hash in near["near_without"])
            assert error["hash"] not in near["near_with"] + near["near_without"]


def test_the_examples_are_those_of_a_slow_search():
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(80, 6)).astype(np.float32)
    tag_sets = [
        frozenset(tag for tag, share in (("common", 0.5), ("rare", 0.03)) if rng.random() < share) for _ in range(80)
    ]
    centred = matrix - matrix.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    alike = unit @ unit.T - 9 * np.eye(80)
    order = np.argsort(-alike, axis=1)
    indices, cosine = order[:, 10::-1], np.take_along_axis(alike, order[:, 10::-1], axis=1)  # not the nearest first
    asked = [(row, tag) for row in range(80) for tag in ("common", "rare")]
    made = look_alikes.nearest(matrix, indices, cosine, asked, tag_sets)
    shown = ([[row for row in rows if row >= 0] for rows in one.tolist()] for one in made)
    for (row, tag), shown_having, shown_lacking in zip(asked, *shown, strict=True):
        near = order[row, :11]
        having = [other for other in near if tag in tag_sets[other]]
        having = having or [other for other in order[row, :-1] if tag in tag_sets[other]]
        assert shown_having == having[:4]
        assert shown_lacking == [other for other in near if tag not in tag_sets[other]][:4]


def test_the_owners_earlier_answers_are_respected(library, report, tmp_path):
    folder, _, records = library
    missing, incorrect = (
        sorted(found(report, "missing", "missing_tags"))[0],
        sorted(found(report, "incorrect", "incorrect_tags"))[0],
    )
    kept = DataFolder(tmp_path)
    (tmp_path / "advanced_embeddings").symlink_to(folder.embeddings)
    changed = [dict(record) for record in records]
    changed[missing[0]]["deleted_tags"] = [missing[1]]
    changed[incorrect[0]]["implied_tags"] = [incorrect[1]]
    data_folder.save(kept, DATASET, {"model": {"id": "m"}, "results": changed})
    again = run(kept)
    assert missing not in found(again) and incorrect not in found(again)
    assert again["summary"]["left_out"]["deleted_before"] >= 1
    assert again["summary"]["left_out"]["implied_by_others"] >= 1


def test_decisions_move_the_confidence_of_what_is_left(library, report, tmp_path):
    folder, _, records = library
    kept = DataFolder(tmp_path)
    (tmp_path / "advanced_embeddings").symlink_to(folder.embeddings)
    data_folder.save(kept, DATASET, {"model": {"id": "m"}, "results": records})
    first = {
        (error["hash"], tag["tag"]): (error["issue"], tag)
        for error in report["errors"]
        for tag in error["tags"]
        if tag["kind"] == "missing" and error["issue"] == "missing_tags"
    }
    refused = sorted(first)[::2]
    asks = [Ask(Key(*cell, "add"), None, first[cell][0], first[cell][1]["confidence"]) for cell in refused]
    with Review(kept.review) as store:
        store.decide(asks, review_store.IGNORED)
    again = run(kept, "--min-confidence", "0.01")
    left = {
        (error["hash"], tag["tag"]): tag
        for error in again["errors"]
        for tag in error["tags"]
        if tag["kind"] == "missing"
    }
    same = [cell for cell in first if cell not in refused and cell in left]
    assert len(same) > 20 and not set(refused) & left.keys()
    for cell in same:
        before, after = left[cell]["evidence"][findings.BEFORE_VERDICTS], left[cell]["confidence"]
        assert after < before - 0.1
    assert any("takes into account" in note and f"{len(refused):,}" in note for note in again["summary"]["notes"])
    assert run(kept, "--min-confidence", "0.01")["errors"] == again["errors"]


def test_what_was_accepted_and_applied_is_still_read_as_it_was_written(library, report, tmp_path):
    """Else nothing that the evidence is sure of would look forgotten, and less would be suggested the more right was accepted."""
    folder, _, records = library
    kept = DataFolder(tmp_path)
    (tmp_path / "advanced_embeddings").symlink_to(folder.embeddings)
    accepted = sorted(found(report, "missing"))
    changed = [dict(record) for record in records]
    for row, tag in accepted:
        changed[row]["existing_all_tags"] = [*changed[row]["existing_all_tags"], tag]
    data_folder.save(kept, DATASET, {"model": {"id": "m"}, "results": changed})
    with Review(kept.review) as store:
        store.decide([Ask(Key(name(row), tag, "add"), None) for row, tag in accepted], review_store.ACCEPTED)
    again = run(kept)
    forgotten, now = (one["settings"]["forgotten_share"] for one in (report, again))
    assert len(accepted) > 100 and now == pytest.approx(forgotten, rel=0.2)
    assert not set(accepted) & found(again)


def test_tags_as_they_were_before_what_was_accepted_was_applied():
    records, column = [Record(name(0), ["hat", "cat"]), Record(name(1), ["dog"])], {"hat": 0, "dog": 1, "cat": 2}
    given = sparse.csr_matrix(np.array([[1, 0, 1], [0, 1, 0]], np.float32))
    accepted = {
        (name(0), "hat", "add"): "accepted",
        (name(0), "dog", "remove"): "accepted",
        (name(1), "cat", "add"): "accepted",  # not applied yet
        (name(1), "dog", "remove"): "accepted",  # nor this
        (name(0), "cat", "add"): "undone",
        (name(9), "hat", "add"): "accepted",
        (name(1), "cow", "add"): "accepted",
    }
    before = of_library.written_before(given, records, column, accepted, {})
    assert before is not None and before.toarray().tolist() == [[0, 1, 1], [0, 1, 0]]
    waiting = {(name(1), "cat", "add"): "accepted", (name(0), "dog", "add"): "ignored"}
    assert of_library.written_before(given, records, column, waiting, {}) is None
    assert of_library.written_before(given, records, column, {}, {}) is None


def test_parents_that_came_or_went_with_what_was_applied_are_read_as_they_were():
    column = {"katana": 0, "weapon": 1, "axe": 2}
    parents = {"katana": frozenset(["weapon", "steel"]), "axe": frozenset(["weapon"])}
    records = [
        Record(name(0), ["katana", "weapon"], implied=["weapon"]),
        Record(name(1), ["katana", "weapon", "axe"], implied=["weapon"]),  # it would have come with the axe
        Record(name(2), ["katana", "weapon"]),  # it was written by hand
        Record(name(3), []),
    ]
    given = tag_columns([record.tags for record in records], list(column))
    decided = {(name(row), "katana", "add"): "accepted" for row in range(3)} | {(name(3), "axe", "remove"): "accepted"}
    before = of_library.written_before(given, records, column, decided, parents)
    assert before is not None and before.toarray().tolist() == [[0, 0, 0], [0, 1, 1], [0, 1, 0], [0, 1, 1]]


def test_a_tag_that_would_bring_a_deleted_one_back_as_its_parent_is_not_suggested(library, report, tmp_path):
    folder, _, records = library
    row, tag = sorted(found(report, "missing", "missing_tags"))[0]
    kept = DataFolder(tmp_path)
    (tmp_path / "advanced_embeddings").symlink_to(folder.embeddings)
    changed = [dict(record) for record in records]
    changed[row]["deleted_tags"] = ["furniture"]
    relations = {"siblings": {}, "parents": {tag: ["furniture"]}}
    data_folder.save(kept, DATASET, {"model": {"id": "m"}, "tag_relations": relations, "results": changed})
    again = run(kept)
    assert (row, tag) not in found(again) and again["summary"]["left_out"]["deleted_before"] == 1


def test_a_parent_is_not_suggested_beside_the_tag_that_brings_it():
    record = dataset.Record(name(0), frozenset())
    pictures = find_mistagged_images.Pictures([record], [frozenset()], np.eye(1), None, [])

    def kept(sword: float, lowest: float) -> list[str]:
        both = [
            Suggestion(0, "sword", "missing", "missing_tags", sword, {}, ""),
            Suggestion(0, "weapon", "missing", "missing_tags", 0.9, {}, ""),
        ]
        return [
            one.tag
            for one in find_mistagged_images.respect(
                Suggestions.of(both), pictures, Rules(), Noes(Spellings()), {"sword": frozenset(["weapon"])}, lowest
            )[0]
        ]

    assert kept(0.8, 0.5) == ["sword"]
    assert kept(0.4, 0.5) == ["sword", "weapon"]  # the sword is not going to be listed


def test_a_tag_is_not_suggested_where_a_phrase_of_the_caption_holds_its_words(library, tmp_path):
    folder, _, records = library
    kept = DataFolder(tmp_path)
    (tmp_path / "advanced_embeddings").symlink_to(folder.embeddings)
    changed, (first, second) = (
        [dict(record) for record in records],
        sorted(found(run(folder), "missing", least=0.9))[:2],
    )
    for row, phrase in ((first, f"a {first[1]} with a lid"), (second, f"green {second[1]}")):
        changed[row[0]]["existing_all_tags"] = [*changed[row[0]]["existing_all_tags"], phrase]
    data_folder.save(kept, DATASET, {"model": {"id": "m"}, "results": changed})
    again = run(kept)
    assert first not in found(again) and second in found(again)
    assert again["summary"]["left_out"]["implied_by_others"] >= 1


def test_siblings_in_the_dataset_tell_what_the_taggers_names_mean(library, tmp_path):
    folder, _, records = library
    kept = DataFolder(tmp_path)
    kept.embeddings.mkdir()
    for shard in embedding_store.shard_paths(folder.embeddings):
        (kept.embeddings / shard.name).symlink_to(shard)
    head = embedding_store.TagHead(
        [f"old_name_{k}" for k in range(len(TAGS))], draw()[2].astype(np.float32), np.zeros(len(TAGS), np.float32), "m"
    )
    embedding_store.save_tag_head(kept.embeddings, head)
    relations = {"siblings": {f"old name {k}": tag for k, tag in enumerate(TAGS)}, "parents": {}}
    data_folder.save(kept, DATASET, {"model": {"id": "m"}, "tag_relations": relations, "results": records})
    assert any("17 of the 17 tags" in note for note in run(kept)["summary"]["notes"])


def test_a_tagger_that_knows_the_tags_by_other_names_has_a_say(library, tmp_path):
    folder, _, records = library
    _, _, direction = draw()
    kept = DataFolder(tmp_path)
    kept.embeddings.mkdir()
    for shard in embedding_store.shard_paths(folder.embeddings):
        (kept.embeddings / shard.name).symlink_to(shard)
    heads = [tag.split(":")[-1].replace(" ", "_") for tag in TAGS]
    embedding_store.save_tag_head(
        kept.embeddings,
        embedding_store.TagHead(heads, direction.astype(np.float32), -np.full(len(TAGS), 30, np.float32), "m"),
    )
    data_folder.save(kept, DATASET, {"model": {"id": "m"}, "results": records})
    again = run(kept)
    assert any("17 of the 17 tags" in note for note in again["summary"]["notes"])
    assert "the tagger gives it" in json.dumps(again["errors"])


def test_too_few_pictures_leave_the_declared_rules(folder):
    with embedding_store.ShardWriter(folder.embeddings, "m", "p") as writer:
        writer.add([name(0), name(1)], np.eye(2, 4))
    records = [
        {"hash": name(0), "existing_all_tags": ["day", "night", "hat"]},
        {"hash": name(1), "existing_all_tags": ["day"]},
    ]
    data_folder.save(folder, DATASET, {"results": records})
    report = run(folder)
    assert found(report) == {(0, "day"), (0, "night")}
    assert any("too few to learn from" in note for note in report["summary"]["notes"])


def test_pictures_without_embeddings_and_unreadable_ones_are_told_apart(library, tmp_path):
    folder, _, records = library
    kept = DataFolder(tmp_path)
    (tmp_path / "advanced_embeddings").symlink_to(folder.embeddings)
    extra = [
        {"hash": name(9001), "existing_all_tags": ["solo", "3girls"]},
        {"hash": name(9002), "existing_all_tags": ["day"], "status": "unreadable"},
    ]
    data_folder.save(kept, DATASET, {"model": {"id": "m"}, "results": records[:300] + extra})
    report = run(kept)
    assert report["summary"]["total_images_analyzed"] == 301
    assert any("1 picture has no embedding" in note for note in report["summary"]["notes"])
    assert {(9001, "solo"), (9001, "3girls")} <= found(report, "incorrect", "contradictory_tags")
    assert (9001, "multiple girls") in found(report, "missing", "contradictory_tags"), "others have it"


def test_without_embeddings_the_message_names_the_way_out(folder):
    data_folder.save(folder, DATASET, {"results": [{"hash": name(1), "existing_all_tags": ["a"]}]})
    with pytest.raises(MissingInput, match="run advanced_joytag_processing.py"):
        find_mistagged_images.main(["--data-dir", str(folder.root)])
    assert folder.newest(MISTAGGED) is None


def test_a_damaged_rules_file_is_named(library, tmp_path):
    folder, _, records = library
    (tmp_path / "advanced_embeddings").symlink_to(folder.embeddings)
    (tmp_path / "tag_rules.json").write_text('{"exclusive_groups": ["day", "night"]}')
    data_folder.save(DataFolder(tmp_path), DATASET, {"model": {"id": "m"}, "results": records})
    with pytest.raises(BadFile, match="tag_rules.json: 'exclusive_groups'"):
        find_mistagged_images.main(["--data-dir", str(tmp_path)])


def test_ids_are_those_of_the_finding(report):
    error = report["errors"][0]
    assert error["id"] == findings.finding_id(
        error["issue"], [error["hash"]], [f"{tag['kind']}:{tag['tag']}" for tag in error["tags"]]
    )


def test_the_help_shows_two_commands(script):
    done = script("find_mistagged_images.py", "--help")
    assert done.returncode == 0 and done.stdout.count("python find_mistagged_images.py") == 2


def test_the_shipped_rules_are_whole():
    assert Path(tag_rules.SHIPPED).is_file()
    declared = tag_rules.load()
    assert "night" in declared.excludes["day"] and declared.never_suggested("translation request")


def test_owners_rules_are_read_as_tags_are_written(tmp_path):
    own = {"exclusive_namespaces": ["Rating:", "page"], "never_suggest": ["Sketch", "a [b]?", "* of *"]}
    (tmp_path / "tag_rules.json").write_text(json.dumps(own))
    declared = tag_rules.load(tmp_path)
    assert declared.namespaces == {"rating", "page"}
    never = [
        tag
        for tag in ("sketch", "meta:a [b]?", "a b?", "a bc", "a [b]c", "king of hats")
        if declared.never_suggested(tag)
    ]
    assert never == ["sketch", "meta:a [b]?", "king of hats"]


def test_refusing_all_of_one_tag_leaves_the_findings_of_the_others_as_they_were(library, report, tmp_path):
    folder, _, records = library
    kept = DataFolder(tmp_path)
    (tmp_path / "advanced_embeddings").symlink_to(folder.embeddings)
    data_folder.save(kept, DATASET, {"model": {"id": "m"}, "results": records})
    listed = [(error, tag) for error in report["errors"] for tag in error["tags"] if tag["kind"] == "missing"]
    (often, _), *_ = Counter(tag["tag"] for _, tag in listed).most_common()
    refused = [(error, tag) for error, tag in listed if tag["tag"] == often]
    with Review(kept.review) as store:
        asks = [
            Ask(Key(error["hash"], often, "add"), None, error["issue"], tag["confidence"]) for error, tag in refused
        ]
        store.decide(asks, review_store.IGNORED)
    again = run(kept)
    others = {(e["hash"], t["tag"], t["kind"]) for e in report["errors"] for t in e["tags"] if t["tag"] != often}
    left = {(e["hash"], t["tag"], t["kind"]) for e in again["errors"] for t in e["tags"] if t["tag"] != often}
    assert len(refused) > 3 and len(others ^ left) <= 0.05 * len(others)


def test_a_muted_tag_is_left_out_and_moves_no_other(library, report, tmp_path):
    folder, _, records = library
    kept = DataFolder(tmp_path)
    (tmp_path / "advanced_embeddings").symlink_to(folder.embeddings)
    data_folder.save(kept, DATASET, {"model": {"id": "m"}, "results": records})
    muted = report["errors"][0]["tags"][0]["tag"]
    with Review(kept.review) as store:
        store.mute(muted)
    again = run(kept)
    before = {(e["hash"], t["tag"], t["kind"]): t["confidence"] for e in report["errors"] for t in e["tags"]}
    after = {(e["hash"], t["tag"], t["kind"]): t["confidence"] for e in again["errors"] for t in e["tags"]}
    assert after == {key: value for key, value in before.items() if key[1] != muted}
    assert again["summary"]["left_out"]["muted"] >= 1


def test_a_sample_is_looked_at_and_the_report_says_of_how_many(library, capsys):
    report = run(library[0], "--max-embeddings", 300)
    assert report["summary"]["total_images_analyzed"] == 300
    assert (report["summary"]["pictures_mapped"], report["summary"]["max_embeddings"]) == (len(library[2]), 300)
    assert f"300 of {len(library[2]):,} pictures" in capsys.readouterr().out
