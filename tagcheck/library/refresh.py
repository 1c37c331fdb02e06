"""The newest dataset with the tags that its pictures have now: read from the library again, without looking at a pixel."""

from collections.abc import Callable, Iterator
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from tagcheck import data_folder, dataset, tags
from tagcheck.data_folder import DATASET, DataFolder, isoformat, utc_now
from tagcheck.json_files import Unusable
from tagcheck.library.protocol import FileInfo, Library

AT_ONCE = 1024  # pictures asked about together


def tag_fields(info: FileInfo, series_namespace: str) -> dict[str, Any]:
    """The part of a picture's record in the dataset that says its tags."""
    return {
        "existing_all_tags": sorted(info.tags),
        "existing_series_tags": tags.in_namespace(info.tags, series_namespace),
        "extra_metadata": {
            "person_tags": sorted(tag for name in tags.PERSON_NAMESPACES for tag in tags.in_namespace(info.tags, name)),
            "title_tags": tags.in_namespace(info.tags, "title"),
        },
        "deleted_tags": sorted(info.deleted_tags),
        "implied_tags": sorted(info.implied_tags),
    }


def refresh_tags(
    folder: DataFolder, library: Library, series_namespace: str, progress: Callable[[int], None] = lambda _: None
) -> Path:
    """Write the newest dataset again with the tags of now, and return its path; `progress` is told how many pictures were read.

    Pictures that the library no longer has keep their record and its tags. Raises what the library raises.
    """
    path, document = folder.require(DATASET), dict[str, Any]()
    began = isoformat(utc_now())
    judged = [row for _, row in takewhile(lambda one: not one[0], dataset.rows(path, document, Unusable()))]
    document |= {"judged_pairs": judged} if judged else {}
    document |= {dataset.TAGS_READ: began, "results": _Fresh(path, library, series_namespace, progress)}
    return data_folder.save(folder, DATASET, document)


class _Fresh:
    """The records of a dataset with the tags of now, a few at a time, and from the start whenever it is walked."""

    def __init__(self, path: Path, library: Library, series_namespace: str, progress: Callable[[int], None]) -> None:
        self.path, self.library, self.series_namespace, self.progress = path, library, series_namespace, progress

    def __iter__(self) -> Iterator[dict[str, Any]]:
        records = (one for place, one in dataset.rows(self.path, {}, Unusable()) if place)
        done = 0
        while batch := list(islice(records, AT_ONCE)):
            infos = {info.hash: info for info in self.library.files([one["hash"] for one in batch])}
            for record in batch:
                info = infos.get(record["hash"])
                there = info is not None and info.status == "ok"
                now = tag_fields(info, self.series_namespace) if info and there else {dataset.TAGS_OLD: True}
                yield {key: value for key, value in (record | now).items() if not (there and key == dataset.TAGS_OLD)}
            done += len(batch)
            self.progress(done)
