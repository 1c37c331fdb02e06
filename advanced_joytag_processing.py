"""Bring every mapped picture's tags up to date and give each new picture its JoyTag embedding.

    python advanced_joytag_processing.py
    python advanced_joytag_processing.py --library ~/Pictures --data-dir ~/tags --first 10min
    python advanced_joytag_processing.py --model SmilingWolf/wd-vit-tagger-v3 --name wd

Reads   mappings/dataset_mapping_<UTC>.json (the newest, or --mapping), the library, JoyTag's files
Writes  advanced_embeddings/*.pt (shards, only for pictures that have none yet), advanced_embeddings/tag_head.pt,
        advanced_embeddings/same_picture.json (what copies look like to this tagger, measured once),
        and last datasets/advanced_joytag_complete_<UTC>.json; with --name only advanced_embeddings/NAME/

Pictures are taken in an order of which every beginning is spread over pages, series and time, so that --first 2000
or --first 10min gives a first look; the next run continues with the rest. Every run reads the tags again, and pictures only once. A picture that cannot be read is a record with
its reason; what is wrong with its bytes is remembered in advanced_embeddings/unreadable.json until a
decoder is installed or updated or a limit changed (or --retry). After Ctrl-C or a kill the same
command goes on. With --store URL shards also stand in an object store or a shared folder (docs/scale.md). A further tagger's embeddings get a --name and stand beside the first's: find_mistagged_images.py
weighs what both say.
"""

if __name__ == "__main__":  # before what takes seconds to import
    from tagcheck import interruption

    interruption.end_at_once()

import argparse
import math
import re
import secrets
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

import config
from tagcheck import cluster, data_folder, files, script, tags
from tagcheck.data_folder import DATASET, EXTRACTION_LOCK, MAPPING, DataFolder, isoformat, utc_now
from tagcheck.dataset import HASH, TAGS_READ
from tagcheck.duplicates import measuring, same_picture
from tagcheck.embedding import ShardWriter, download, joytag_network, store, tagger
from tagcheck.embedding.shared_store import SharedStore
from tagcheck.embedding.tagger import Begun, Tagger
from tagcheck.errors import BadFile, FileUnavailable, MissingInput, UsageError, told_as
from tagcheck.library import FileInfo, Library, choose, tag_fields
from tagcheck.lock import sole_run
from tagcheck.pictures import Limits, file_formats, preparation, unreadable
from tagcheck.pictures.decoder_processes import Clocks, Decoder, Prepared, prepared
from tagcheck.pictures.unreadable import Failure
from tagcheck.plural import plural
from tagcheck.review import Review
from tagcheck.script import run, say
from tagcheck.spread import Placed, spread_order
from tagcheck.tag_errors import tagger_vocabulary
from tagcheck.writing import Ledger
from tagcheck.writing.apply import confirm
from tagcheck.writing.ledger import outcomes

T = TypeVar("T")
FLUSH_SECONDS = 60.0  # a shard is written at least this often, so that a kill loses no more than that
PART = (8, 256)  # pictures that a worker of a cluster is given at once, at least and at most, and what a lost one costs
PARTS = 32  # into which few pictures are divided, so that all workers have some until the end
MEASURING = 0.25  # share of the time of a first look; where measuring copies would take more, a later run does it
CHECKED_EVERY = 1.0  # seconds, whether a first look has time left
AHEAD_BATCHES = 4  # decoded ahead of the model, for each of its lanes
SPENT = ("reading", "decoding", "waiting", "computing", "writing")  # what seconds are told of
MEGA = 1_000_000
UNITS = {"s": 1, "min": 60, "h": 3600}  # seconds


@dataclass
class Until:
    """The time (`time.monotonic`) at which a run of so many `seconds` is to end, with the measuring of copies that follows embedding."""

    end: float = math.inf
    seconds: float = math.inf
    reused: int = 0
    pace: float = 0.0  # seconds that a picture took so far

    def over(self, items: Iterable[T], job: "Job", work: "Work") -> Iterator[T]:
        """The items, until no time is left."""
        start = looked = time.monotonic()
        for number, item in enumerate(items, 1):
            yield item
            now, done = time.monotonic(), len(work.tried)
            if now - looked > CHECKED_EVERY and done:
                looked, self.pace = now, (now - start) / done
                decoded = max(number - done, 0)  # and on their way through the network
                if now + decoded * self.pace + self.measuring(job, self.reused + done - len(work.failures)) > self.end:
                    return

    def measuring(self, job: "Job", pictures: int) -> float:
        """The seconds in which copies of so many pictures are measured; 0 where that is left to a later run, since it would take too much of this."""
        took = self.pace * measuring.changes(job.folder.embeddings, job.model, pictures)
        return took if took <= MEASURING * self.seconds else 0.0


class First(NamedTuple):
    """How far a first look goes: the pictures that have an embedding then, the seconds that the run takes."""

    pictures: int | None = None
    seconds: float = math.inf

    @classmethod
    def read(cls, text: str) -> "First":
        """An option's type: a number of pictures, or a time such as 90s, 10min or 2h."""
        found = re.fullmatch(r"(\d+)(s|min|h)?", text, re.ASCII)
        if not found or not int(found[1]):
            raise argparse.ArgumentTypeError(f"{text!r} is neither a number of pictures nor a time such as 10min")
        number, unit = int(found[1]), found[2]
        return cls(seconds=number * UNITS[unit]) if unit else cls(number)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = script.parser(__doc__)
    script.add_library(parser, "the one that was mapped")
    which = "the mapping to follow (default: the newest in mappings/)"
    parser.add_argument("--mapping", metavar="FILE", type=script.path, help=which)
    folder = (
        "a folder with model.safetensors, config.json and top_tags.txt, or another tagger's as it is published or "
        "with a tagger.json (default: JoyTag's, fetched once from the hub)"
    )
    script.add_option(parser, "--model-dir", folder, config.MODEL_DIR, metavar="DIR", type=script.path)
    name = "another tagger of the hub, fetched once; OWNER/NAME/FOLDER where it is in a folder (docs/taggers.md)"
    parser.add_argument("--model", metavar="OWNER/NAME", help=name)
    beside = "embed for a further tagger beside the first: lower-case letters, digits, - and _ (docs/taggers.md)"
    script.add_option(parser, "--name", beside, None, type=set_name)
    device = "where the network runs (default: auto, the GPU where there is one)"
    script.add_option(parser, "--device", device, "auto", choices=script.DEVICES)
    precision = "of the network's arithmetic (default: auto, as the embeddings that are there, else what is fast here)"
    script.add_option(parser, "--precision", precision, "auto", choices=("auto", *joytag_network.PRECISIONS))
    script.add_whole(parser, "--batch-size", "pictures computed at once (default: what suits the device)")
    script.add_whole(parser, "--limit", "embed at most N new pictures in this run (default: all)", low=0)
    first = "for a first look, stop when N pictures have been embedded in all, or after a time such as 10min (default: no such limit)"
    script.add_option(parser, "--first", first, First(), metavar="N", type=First.read)
    script.add_option(
        parser,
        "--max-embeddings",
        "the same as --first (default: no such limit)",
        First(),
        metavar="N",
        type=First.read,
        dest="first",
    )
    script.add_whole(parser, "--decoders", "processes that decode pictures (default: what suits the device)")
    again = "try again the files that no decoder here could read (default: not before a decoder or a limit changes)"
    script.add_switch(parser, "--retry", again)
    limits = Limits()
    pixels = "million pixels from which a picture counts as unreadable"
    script.add_whole(parser, "--max-pixels", pixels, limits.pixels // MEGA)
    size = "million bytes from which a file counts as unreadable"
    script.add_whole(parser, "--max-megabytes", size, limits.bytes // MEGA)
    seconds = "seconds after which decoding a file is given up"
    script.add_number(parser, "--max-seconds", seconds, limits.seconds, 0.1, 3600)
    frames = "frames of an animation that are looked at; its embedding is their mean"
    script.add_whole(parser, "--frames", frames, limits.frames)
    script.add_services(parser, write=False)
    script.add_cluster(parser)
    shared = "where shards stand beside those of the data folder: a folder or an object store (docs/scale.md)"
    parser.add_argument("--store", metavar="URL", help=shared)
    script.add_popup(parser)
    return script.parsed(parser, argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    began = time.monotonic()
    folder = replace(script.data_folder(args), named=args.name)
    mapping, pages = mapped_pages(folder, args.mapping)
    library = choose.mapped_library(folder, config, args, say)
    with (
        sole_run(folder.embeddings / EXTRACTION_LOCK),
        script.popup(library, args.popup, "tagcheck: embedding pictures") as message,
    ):
        for path in folder.embeddings.glob(".*.tmp"):  # half written when a run was killed; this is the only one here
            files.remove(path)
        confirm_writes(folder, library)
        model = load_tagger(args, folder)
        pixels: dict[str, str] = {}
        exchange_shards(args.store, folder)
        done = store.embedded(folder.embeddings, model.id, model.preprocess_id, script.say, pixels)
        tags_read = isoformat(utc_now())
        infos = list(script.shown(library.files(list(pages)), len(pages), "metadata and tags", message))
        habits = owners_habits(library, model, infos, folder)
        limits = Limits(args.max_pixels * MEGA, args.max_seconds, args.frames, args.max_megabytes * MEGA)
        job, tools = Job.of(args, library, model, folder, limits), decoding_tools(library, limits)
        known = {} if args.retry else unreadable.load(folder.embeddings, tools)
        new = [info for info in infos if info.status == "ok" and info.hash not in done and info.hash not in known]
        reused = sum(info.hash in done for info in infos)
        wanted = to_embed(infos, new, pages, reused, args.first.pictures, args.limit)
        until = Until(began + args.first.seconds, args.first.seconds, reused)
        work = embed_by_engine(args, replace(job, until=until), wanted, message)
        failed, damaged = keep_failures(folder, tools, known, work)
        sizes, pixels = done | work.sizes, pixels | work.pixels

        def described(one: FileInfo, hash: str) -> dict[str, Any]:
            return record(one, pages[hash], failed.get(hash), sizes.get(hash), damaged.get(hash), pixels.get(hash))

        looked_at = done.keys() | failed.keys() | work.tried
        records = [described(one, one.hash) for one in infos if one.status != "ok" or one.hash in looked_at]
        summary = summarise(records, done, known, work, len(infos), time.monotonic() - began)
        if not any(one["status"] == "ok" for one in records):
            raise MissingInput(nothing_embedded(mapping, records, summary))
        store.save_tag_head(folder.embeddings, model.network.head)
        if args.name:
            print(outcome(summary) + f" -> {folder.embeddings}")
            return 0
        if not until.pace or until.measuring(job, summary["ok"]):
            measure_copies(job, infos, records)
        header = {"mapping": mapping.name, "model": model.describe(), "summary": summary}
        header |= {TAGS_READ: tags_read, **habits}
        path = data_folder.save(folder, DATASET, header | {"results": records})
    print(outcome(summary) + f" -> {path}")
    return 0


def keep_failures(
    folder: DataFolder, tools: dict[str, Any], known: dict[str, Failure], work: "Work"
) -> tuple[dict[str, Failure], dict[str, str]]:
    """Remember the files that could not be read, and what is wrong with others; all of both, by hash."""
    failed = known | {hash: Failure(one.status, one.reason or "") for hash, one in work.failures.items()}
    lasting = {hash: failed[hash] for hash, one in work.failures.items() if one.lasting}
    unreadable.save(folder.embeddings, tools, known | lasting)
    damaged = unreadable.DAMAGED.load(folder.embeddings) | work.damaged
    unreadable.DAMAGED.keep(folder.embeddings, damaged)
    return failed, damaged


def exchange_shards(url: str | None, folder: DataFolder) -> None:
    """Let the data folder and the store that was named, if any, have the same shards."""
    if url:
        folder.embeddings.mkdir(parents=True, exist_ok=True)
        SharedStore(url).exchange(folder.embeddings)


def set_name(text: str) -> str:
    """An option's type: what a further tagger's embeddings may be called."""
    if not data_folder.SET_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name of lower-case letters, digits, - and _")
    return text


def confirm_writes(folder: DataFolder, library: Library) -> None:
    """See whether the library still has what was written to it before: what it lost is the owner's to decide, on the page."""
    if not Ledger(folder.review).batches():
        return
    try:
        found = confirm(Ledger(folder.review), library, everything=True, seconds=1.0)
    except UsageError:
        say("changes are being written just now, so earlier ones were not read again")
        return
    with Review(folder.review) as store:
        store.note_outcomes(outcomes(found.rows))
    if found.lost:
        say(
            f"warning: the library has lost {plural(found.lost, 'change that was', 'changes that were')} written: see Applied changes on the page"
        )


def mapped_pages(folder: DataFolder, given: str | None) -> tuple[Path, dict[str, list[list[str]]]]:
    """The mapping's path, and for each of its pictures the paths of the pages that it is on."""
    path = folder.require(MAPPING, given)
    pages: dict[str, list[list[str]]] = {}
    again = f"run {MAPPING.made_by} again"
    for page in data_folder.load(path, MAPPING).get("pages", []):
        if not isinstance(page, dict) or not all(isinstance(page.get(key), list) for key in ("hashes", "path")):
            raise BadFile(f"{path}: a page has no 'path' and 'hashes': {again}")
        for hash in page["hashes"]:
            if not isinstance(hash, str) or not HASH.fullmatch(hash):
                raise BadFile(f"{path}: {hash!r} is not a hash of 64 lower-case hex digits: {again}")
            places = pages.setdefault(hash, [])
            if page["path"] not in places:
                places.append(page["path"])
    if not pages:
        raise MissingInput(f"{path} holds no pictures: put some on the mapped pages and run {MAPPING.made_by} again")
    return path, pages


def owners_habits(library: Library, model: Tagger, infos: Sequence[FileInfo], folder: DataFolder) -> dict[str, Any]:
    """What the owner has settled in the library's own program, for the dataset's header: which tags are shown in the
    place of others and besides them (of the owner's tags, also the deleted ones, and of the tagger's names), and which pairs were judged. Nothing of a
    library that knows no such things or does not tell.
    """
    found: dict[str, Any] = {}
    own, head = tagger_vocabulary.load(folder.root), model.network.head
    vocabularies = [(model.tags, head.namespaces if head else None)]
    for other in folder.further():
        with suppress(BadFile):  # find_mistagged_images.py says so
            if (further := store.load_tag_head(other.embeddings)) is not None:
                vocabularies.append((further.tags, further.namespaces))
    asked = {tag for info in infos for tag in (*info.tags, *info.deleted_tags)}
    for names, spaces in vocabularies:
        known = tagger_vocabulary.with_categories(own, names, spaces)
        asked.update(tag for name in names for tag in tagger_vocabulary.spellings(name, known))
    relations = library.tag_relations(asked)
    if relations is not None:
        found["tag_relations"] = {
            "siblings": dict(sorted(relations.siblings.items())),
            "parents": {tag: list(above) for tag, above in sorted(relations.parents.items())},
            "other_siblings": {tag: list(ideals) for tag, ideals in sorted(relations.other_siblings.items())},
        }
    judged = library.judgements([info.hash for info in infos])
    if judged is not None:
        found["judged_pairs"] = [
            {"judgement": one.kind, "hashes": list(one.hashes), **({"others": list(one.others)} if one.others else {})}
            for one in judged
        ]
    return found


def to_embed(
    infos: Sequence[FileInfo],
    new: Sequence[FileInfo],
    pages: dict[str, list[list[str]]],
    done: int,
    first: int | None,
    limit: int | None,
) -> list[FileInfo]:
    """The pictures that this run embeds: of `new`, in an order that is spread over all of `infos`, as many as are asked for.

    `done` pictures have an embedding already; `first` counts these, `limit` does not.
    """
    placed = [
        Placed(
            info.hash,
            tuple(" / ".join(path) for path in pages[info.hash]),
            tuple(tags.in_namespace(info.tags, config.SERIES_NAMESPACE)),
            info.time_imported or 0.0,
        )
        for info in infos
    ]
    wanted = {info.hash for info in new}
    ordered = [infos[place] for place in spread_order(placed) if infos[place].hash in wanted]
    room = min(len(ordered) if first is None else max(0, first - done), len(ordered) if limit is None else limit)
    return ordered[:room]


def decoding_tools(library: Library, limits: Limits) -> dict[str, Any]:
    """What decides whether a file can be read: the decoders here, the limits, and what the library can render."""
    return {
        "method": preparation.METHOD,
        "repairs": preparation.REPAIRS,
        "decoders": file_formats.decoders(),
        "limits": {"pixels": limits.pixels, "seconds": limits.seconds},
        "library": [library.kind, library.describe().get("hydrus_version")],
    }


def load_tagger(args: argparse.Namespace, folder: DataFolder) -> Tagger:
    """The tagger as the options want it, JoyTag fetched first where it is not here; says in one line what was chosen."""
    tagger.choose_device(args.device)  # before anything is fetched
    if args.model and args.model_dir != (config.MODEL_DIR and script.path(config.MODEL_DIR)):
        raise UsageError("--model and --model-dir name two taggers: leave one of them out")
    named = Path(args.model_dir) if args.model_dir and not args.model else None
    found = None
    with suppress(store.DamagedShard):  # all are: `store.embedded` names them and puts them aside
        found = store.found_model(folder.embeddings)
    with told_as("Model loading failed"):
        model_dir = named or fetch(args.model)
        model = tagger.load(model_dir, args.device, args.precision, args.batch_size, keep=found[0] if found else None)
    with suppress(store.DamagedShard):
        if folder.named and (store.found_model(DataFolder(folder.root).embeddings) or ("",))[0] == model.id:
            raise UsageError(f"--name {folder.named}: {DataFolder(folder.root).embeddings} has the same tagger already")
    say(model.sentence())
    return model


def fetch(name: str | None = None) -> Path:
    """The folder of JoyTag's published files, or of the tagger that is named; says how far it is while they arrive."""
    bars: dict[str, Any] = {}

    def progress(file: str, here: int, size: int) -> None:
        bar = bars.get(file) or bars.setdefault(file, script.progress([], size, f"fetching {file}", "B"))
        bar.update(here - bar.n)

    try:
        if name:
            return download.ensure_model(name, progress=progress)
        return download.ensure(download.FOLDER, progress=progress)
    finally:
        for bar in bars.values():
            bar.close()


@dataclass(frozen=True)
class Job:
    """What pictures are embedded with: where they are, the tagger, the data folder, what a file may cost, where shards go, and until when."""

    library: Library
    model: Tagger
    folder: DataFolder
    limits: Limits
    shards: Path
    shared: bool  # whether shards of other machines may stand beside these
    until: Until = field(default_factory=Until)

    @staticmethod
    def of(args: argparse.Namespace, library: Library, model: Tagger, folder: DataFolder, limits: Limits) -> "Job":
        """With shards in the data folder."""
        return Job(library, model, folder, limits, folder.embeddings, bool(args.store))

    def reader(self, new: Sequence[FileInfo]) -> Callable[[str], bytes]:
        """`library.read`, but for files that are known to be too large to be held in memory."""
        sizes, most = {info.hash: info.size or 0 for info in new}, self.limits.bytes

        def read(hash: str) -> bytes:
            if sizes[hash] > most:
                raise FileUnavailable(f"too large: {sizes[hash]} bytes, the limit is {most}", "unreadable")
            return self.library.read(hash)

        return read


@dataclass
class Work:
    """What one run did: the pictures it tried, those that failed, the sizes it learned, the thumbnails in hand, and the seconds it spent."""

    tried: set[str] = field(default_factory=set)
    failures: dict[str, Prepared] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int] | None] = field(default_factory=dict)
    thumbnails: dict[str, np.ndarray] = field(default_factory=dict)  # of pictures that are not yet written
    damaged: dict[str, str] = field(default_factory=dict)
    pixels: dict[str, str] = field(default_factory=dict)  # their digests
    clocks: Clocks = field(default_factory=Clocks)
    computing: float = 0.0
    writing: float = 0.0

    def add(self, other: "Work") -> None:
        """Take in what another did."""
        for name in ("tried", "failures", "sizes", "damaged", "pixels"):
            getattr(self, name).update(getattr(other, name))
        self.computing += other.computing
        self.writing += other.writing
        for name in ("reading", "decoding", "waiting"):
            self.clocks.add(name, getattr(other.clocks, name))


def embed_by_engine(args: argparse.Namespace, job: Job, new: Sequence[FileInfo], message: script.Shown | None) -> Work:
    """`embed` here or on a cluster; the store that was named, if any, gets what it lacks."""
    if args.engine == "ray":
        work = embed_on_cluster(args, job, new, message)
    else:
        work = embed(job, new, args.decoders, message)
    exchange_shards(args.store, job.folder)
    return work


def embed(job: Job, new: Sequence[FileInfo], decoders: int | None, message: script.Shown | None) -> Work:
    """Embed the pictures of `new` into shards. What was finished is kept, however this ends."""
    work = Work()
    if not new:
        return work
    model = job.model
    processes = [Decoder(model.recipe, job.limits) for _ in range(min(decoders or model.decoders, len(new)))]
    hashes, ahead = [info.hash for info in new], AHEAD_BATCHES * model.batch_size * model.network.lanes
    files = prepared(hashes, job.reader(new), job.library.render, processes, ahead, work.clocks)
    maker = secrets.token_hex(4) if job.shared else ""
    with closing(files), ShardWriter(job.shards, model.id, model.preprocess_id, maker=maker) as writer:
        written, seen = time.monotonic(), script.shown(files, len(new), "embedding", message)
        for hash, row in embedded_rows(job.until.over(seen, job, work), model, work):
            start = time.monotonic()
            writer.add([hash], row[None], [work.sizes[hash]], [work.thumbnails.pop(hash)], [work.pixels.get(hash)])
            if start - written > FLUSH_SECONDS:
                writer.close()
                written = time.monotonic()
            work.writing += time.monotonic() - start
        start = time.monotonic()
        writer.close()
        work.writing += time.monotonic() - start
    return work


def measure_copies(job: Job, infos: Sequence[FileInfo], records: Sequence[dict[str, Any]]) -> None:
    """See what copies of the owner's pictures look like to this tagger, where that is not known yet, and keep it."""
    hashes = [record["hash"] for record in records if record["status"] == "ok"]
    if not measuring.wanted(job.folder.embeddings, job.model, len(hashes)):
        return
    say("measuring what copies of your pictures look like to this tagger")
    found = measuring.measure(job.folder.embeddings, hashes, job.model, job.reader(infos), job.limits)
    if found is None:
        say("too few pictures that differ and have thumbnails: near-duplicates are found by the cosine alone")
        return
    same_picture.save(job.folder.embeddings, found)
    say(f"{plural(found.changes, 'changed picture')}: pairs from a cosine of {found.threshold:g} on may be copies")


def embed_on_cluster(args: argparse.Namespace, job: Job, new: Sequence[FileInfo], message: script.Shown | None) -> Work:
    """`embed` by the workers of a Ray cluster, each of which commits the shards that it made and no others."""
    size = min(max(len(new) // PARTS, PART[0]), PART[1])
    parts = [new[start : start + size] for start in range(0, len(new), size)]
    make = partial(cluster_worker, args, job.model.id, job.folder, job.limits, data_folder.utc_now())
    total = Work()

    def pictures() -> Iterator[str]:
        done = cluster.over_parts(make, parts, args.address, args.workers)
        for some in job.until.over(done, job, total):
            total.add(some)
            yield from some.tried

    for _ in script.shown(pictures() if parts else iter(()), len(new), "embedding", message):
        pass
    return total


def cluster_worker(
    args: argparse.Namespace, model_id: str, folder: DataFolder, limits: Limits, since: datetime
) -> Callable[[Sequence[FileInfo], int], Work]:
    """Load the network and open the library once, in a worker; returns what embeds a part.

    A part that was begun before may have shards of a worker that was lost `since`: what is in these is not made again.
    With a `--store` nothing of the data folder is needed here.
    """
    torch.set_num_threads(1)
    named = Path(args.model_dir) if args.model_dir and not args.model else None
    model = tagger.load(named or fetch(args.model), args.device, args.precision, args.batch_size, keep=model_id)
    if model.id != model_id:
        raise UsageError(f"a worker has {model.id} where this machine has {model_id}: give all of them the same files")
    job = Job.of(args, choose.mapped_library(folder, config, args, say), model, folder, limits)
    shared = SharedStore(args.store) if args.store else None
    eldest = f"embeddings_{(since - timedelta(days=1)).strftime(data_folder.STAMP)}"  # clocks may differ

    def embed_part(part: Sequence[FileInfo], begun: int, made: Path, found: Path) -> Work:
        pixels: dict[str, str] = {}
        if begun and shared:
            shared.fetch(found, eldest)
        there = store.embedded(found, model.id, model.preprocess_id, pixels=pixels) if begun else {}
        left = [info for info in part if info.hash not in there]
        done = embed(replace(job, shards=made), left, args.decoders or 1, None)
        kept = [info.hash for info in part if info.hash in there]
        done.tried.update(kept)
        done.sizes.update((hash, there[hash]) for hash in kept)
        done.pixels.update((hash, pixels[hash]) for hash in kept if hash in pixels)
        return done

    def work(part: Sequence[FileInfo], begun: int) -> Work:
        if shared is None:
            return embed_part(part, begun, folder.embeddings, folder.embeddings)
        with tempfile.TemporaryDirectory() as place:
            made = Path(place) / "made"
            done = embed_part(part, begun, made, Path(place) / "found")
            shared.send(store.shard_paths(made))
        return done

    return work


def embedded_rows(files: Iterable[Prepared], model: Tagger, work: Work) -> Iterator[tuple[str, np.ndarray]]:
    """(hash, float32 (d,)) of every file that could be read, in order; the others go to `work.failures`.

    They are computed in full batches, up to `model.ahead` of them while the next is gathered. A file of several
    frames gets the mean of their embeddings.
    """
    frames: list[np.ndarray] = []
    owners: deque[tuple[str, int]] = deque()
    begun: deque[Begun] = deque()
    rows: deque[np.ndarray] = deque()

    def compute(count: int, left_open: int) -> Iterator[tuple[str, np.ndarray]]:
        start = time.monotonic()
        if count:
            begun.append(model.begin(frames[:count]))
            del frames[:count]
        while len(begun) > left_open:
            rows.extend(begun.popleft().rows())
        work.computing += time.monotonic() - start
        while owners and owners[0][1] <= len(rows):
            hash, of = owners.popleft()
            row = np.mean([rows.popleft() for _ in range(of)], axis=0)
            work.tried.add(hash)
            if np.abs(row).max() <= store.LARGEST:  # nor NaN
                yield hash, row
            else:
                work.thumbnails.pop(hash, None)
                work.failures[hash] = Prepared(hash, None, "unreadable", "the network gives no finite numbers for it")

    try:
        for file in files:
            if file.frames is None:
                work.tried.add(file.hash)
                work.failures[file.hash] = file
                continue
            work.sizes[file.hash] = file.size
            if file.thumbnail is not None:
                work.thumbnails[file.hash] = file.thumbnail
            if file.pixels:
                work.pixels[file.hash] = file.pixels
            if file.damaged:
                work.damaged[file.hash] = file.damaged
            frames.extend(file.frames)
            owners.append((file.hash, len(file.frames)))
            while len(frames) >= model.batch_size:
                yield from compute(model.batch_size, model.ahead)
        yield from compute(len(frames), 0)
    finally:
        for one in begun:  # of a run that is interrupted
            one.cancel()


def record(
    info: FileInfo,
    pages: list[list[str]],
    failure: Failure | None,
    size: tuple[int, int] | None,
    damaged: str | None = None,
    pixels: str | None = None,
) -> dict[str, Any]:
    """One picture's entry in the dataset file. `size` and `pixels`, the digest of its pixels, are what its decoder found, for a
    library that does not know them; `damaged` what is wrong with a file whose pixels were read all the same.
    """
    status, reason = (failure.status, failure.reason) if failure else (info.status, info.reason)
    row: dict[str, Any] = {"hash": info.hash, "status": status}
    if reason is not None:
        row["reason"] = reason
    elif damaged is not None:
        row["damaged"] = damaged
    row |= tag_fields(info, config.SERIES_NAMESPACE) | {"pages": pages, "file_path": info.file_path}
    for key in ("mime", "width", "height", "size", "duration", "pixel_hash", "time_imported"):
        value = getattr(info, key)
        if value is not None:
            row[key] = value
    if pixels and info.pixel_hash is None:
        row["pixel_hash"] = pixels
    if info.trashed:
        row["trashed"] = True
    if size is not None and (info.width is None or info.height is None):
        row["width"], row["height"] = size
    return row


def summarise(
    records: list[dict[str, Any]], done: Container[str], known: Container[str], work: Work, mapped: int, seconds: float
) -> dict[str, Any]:
    """Counts of pictures and seconds by what they were spent on.

    Reading and decoding go on beside computing; `waiting` is how long files were waited for, `computing` the network.
    """
    counts = Counter(one["status"] for one in records)
    spent = vars(work.clocks) | vars(work) | {"total": seconds}
    return {
        "total_images": len(records),
        "mapped": mapped,
        "ok": counts["ok"],
        "embedded": len(work.tried) - len(work.failures),
        "reused": sum(one["status"] == "ok" and one["hash"] in done for one in records),
        "unreadable": counts["unreadable"],
        "unsupported": counts["unsupported"],
        "missing": counts["missing"],
        "not_tried_again": sum(one["status"] != "ok" and one["hash"] in known for one in records),
        "not_yet_embedded": mapped - len(records),
        "trashed": sum("trashed" in one for one in records),
        "seconds": {name: round(spent[name], 2) for name in ("total", *SPENT)},
    }


def nothing_embedded(mapping: Path, records: list[dict[str, Any]], summary: dict[str, Any]) -> str:
    """Why there is no dataset to write."""
    if not records:
        return f"none of the pictures in {mapping} has an embedding yet: run without --limit"
    first = records[0]
    return (
        f"none of the pictures in {mapping} could be embedded ({summary['unreadable']} unreadable, "
        f"{summary['unsupported']} unsupported, {summary['missing']} missing), for example {first['hash']}: "
        f"{first.get('reason')}; "
        "map pages with readable pictures"
    )


def outcome(summary: dict[str, Any]) -> str:
    """The line that a run ends with."""
    seconds = summary["seconds"]
    failed = [f"{summary[name]} {name}" for name in ("unreadable", "unsupported", "missing") if summary[name]]
    if summary["not_tried_again"]:
        failed.append(f"{summary['not_tried_again']} of them known from before (--retry)")
    if summary["trashed"]:
        failed.append(f"{summary['trashed']} of them in the trash")
    if summary["not_yet_embedded"]:
        failed.append(f"{summary['not_yet_embedded']} not yet embedded")
    spent = ", ".join(f"{one} {seconds[one]:.1f}" for one in SPENT)
    counts = ", ".join([f"{summary['embedded']} embedded", f"{summary['reused']} reused", *failed])
    return f"{plural(summary['mapped'], 'picture')}: {counts}; {seconds['total']:.1f} s ({spent})"


if __name__ == "__main__":
    run(main)
