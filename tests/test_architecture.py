"""The map of the house holds: arrows point down, scripts stay apart, and the page stays free of torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(path.stem for path in PROJECT.glob("*.py") if path.stem != "config")

# Each room of tagcheck/ with what it may import of the rooms above it in this table (never of those below).
ROOMS = {
    # what everything stands on
    "errors": "",
    "tags": "",
    "findings": "",
    "artifacts": "errors",
    "database": "errors",
    "lock": "artifacts errors",
    "cli": "artifacts errors",
    "dataset": "artifacts errors tags",
    # libraries of pictures
    "library": "",
    "sidecars": "tags",
    "folder_scan": "",
    "folder_store": "artifacts database",
    "folder_writing": "folder_scan sidecars",
    "folder": "artifacts errors folder_scan folder_store folder_writing library sidecars tags",
    "hydrus_connection": "errors",
    "hydrus_tags": "errors library tags",
    "hydrus_pairs": "library",
    "hydrus_popup": "errors hydrus_connection",
    "hydrus": "errors hydrus_connection hydrus_pairs hydrus_popup hydrus_tags library",
    "opening": "artifacts errors folder hydrus library",
    # decisions and writing
    "ledger": "artifacts database errors library lock",
    "applying": "errors ledger library",
    "tallies": "",
    "review": "artifacts errors tallies",
    "review_import": "artifacts dataset errors findings review tags tallies",
    "review_index": "findings review review_import tallies",
    # pictures and numbers
    "formats": "errors",
    "images": "errors formats",
    "decoding": "errors formats images",
    "failures": "artifacts errors",
    "shard_files": "",
    "embeddings": "artifacts errors shard_files",
    "weights": "artifacts errors",
    "descriptor": "errors images",
    "onnx_graph": "errors",
    "onnx_tagger": "descriptor embeddings errors onnx_graph",
    "compiler": "",
    "attention": "compiler",
    "tagger": "attention descriptor embeddings errors images onnx_tagger weights",
    "examples": "",
    "tiles": "errors",
    "native": "compiler errors tiles",
    "pruned": "errors native tiles",
    "accelerated": "errors tiles",
    "neighbors": "accelerated errors native pruned tiles",
    "probes": "errors",
    "plda": "errors",
    "vocabulary": "errors tags",
    "evidence": "neighbors probes tiles",
    "noise": "evidence probes",
    "copies": "dataset evidence tiles",
    "rules": "errors tags",
    "verdicts": "probes",
    "tag_errors": "evidence findings noise probes rules tags",
    "series": "errors plda probes tags",
    "series_confidence": "",
    "series_mixing": "probes series series_confidence",
    "finetuning": "",
    "series_files": "artifacts embeddings errors plda series series_confidence series_mixing",
    # looking at all of it
    "doctor": "artifacts cli errors folder hydrus hydrus_connection opening tagger weights",
}
NO_TORCH = [
    "errors",
    "tags",
    "findings",
    "artifacts",
    "database",
    "lock",
    "cli",
    "dataset",
    "library",
    "sidecars",
    "folder_scan",
    "folder_store",
    "folder_writing",
    "folder",
    "hydrus_connection",
    "hydrus_tags",
    "hydrus_pairs",
    "hydrus_popup",
    "hydrus",
    "opening",
    "ledger",
    "applying",
    "tallies",
    "review",
    "review_import",
    "review_index",
]
HEAVY = {"torch", "torchvision", "joytag", "safetensors", "sklearn"}


def package_files(folder: str) -> list[Path]:
    return sorted((PROJECT / folder).rglob("*.py"))


@cache
def imports(path: Path) -> frozenset[str]:
    """Every module that a file imports anywhere in it, as dotted names; `from a import b` counts as both a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = path.relative_to(PROJECT).parent.parts
                base = ".".join([*here[: len(here) - node.level + 1], *filter(None, [base])])
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names)
    return frozenset(found)


def tops(path: Path) -> set[str]:
    """The top-level names that a file imports."""
    return {name.split(".")[0] for name in imports(path)}


def rooms_of(path: Path) -> set[str]:
    """The rooms of tagcheck/ that a file imports."""
    return {parts[1] for name in imports(path) if (parts := name.split("."))[0] == "tagcheck" and len(parts) > 1} & set(
        room_files()
    )


def room_files() -> dict[str, Path]:
    return {path.stem: path for path in package_files("tagcheck") if path.stem != "__init__"}


def heavy_way(path: Path, seen: frozenset[str] = frozenset()) -> list[str] | None:
    """A chain of imports from a file to a heavy library, or None."""
    heavy = tops(path) & HEAVY
    if heavy:
        return [path.stem, min(heavy)]
    for room in sorted(rooms_of(path) - seen):
        way = heavy_way(room_files()[room], seen | {room})
        if way:
            return [path.stem, *way]
    return None


def test_every_room_is_on_the_map_and_nothing_else_is():
    missing = {name: " ".join(sorted(rooms_of(path))) for name, path in room_files().items() if name not in ROOMS}
    assert not missing, (
        f"put into ROOMS of tests/test_architecture.py (and into the README's tree), below what they import: {missing}"
    )
    assert not set(ROOMS) - set(room_files()), "rooms on the map that are not in tagcheck/"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_the_map_allows(room):
    if room in room_files():
        extra = rooms_of(room_files()[room]) - set(ROOMS[room].split())
        assert not extra, f"tagcheck/{room}.py imports {sorted(extra)}: an arrow that is not on the map"


def test_all_arrows_on_the_map_point_up_the_table_so_that_none_can_go_in_a_circle():
    order = list(ROOMS)
    wrong = [
        (room, other)
        for room, allowed in ROOMS.items()
        for other in allowed.split()
        if order.index(other) >= order.index(room)
    ]
    assert not wrong


@pytest.mark.parametrize("path", package_files("tagcheck"), ids=lambda path: path.stem)
def test_the_package_knows_no_settings_scripts_or_page(path):
    assert not tops(path) & {"config", "webapp", "sample", "benchmarks", "tests", *SCRIPTS}
    if path.stem not in ("tagger", "weights", "finetuning"):
        assert "joytag" not in tops(path)


@pytest.mark.parametrize("path", package_files("joytag"), ids=lambda path: path.stem)
def test_the_network_knows_nothing_of_the_rest(path):
    assert not tops(path) & {"config", "tagcheck", "webapp", *SCRIPTS}


@pytest.mark.parametrize("name", [*SCRIPTS, "config"])
def test_no_script_imports_a_script_or_the_page(name):
    assert not tops(PROJECT / f"{name}.py") & {"webapp", *SCRIPTS}


@pytest.mark.parametrize("path", package_files("webapp"), ids=lambda path: path.stem)
def test_the_page_imports_no_script_and_only_its_app_reads_the_settings(path):
    assert not tops(path) & set(SCRIPTS)
    assert path.name == "app.py" or "config" not in tops(path)


@pytest.mark.parametrize(
    "path",
    [*(room_files()[room] for room in NO_TORCH if room in room_files()), *package_files("webapp")],
    ids=lambda path: path.stem,
)
def test_what_the_page_stands_on_reaches_no_torch(path):
    assert heavy_way(path) is None


def test_no_torch_is_loaded_in_truth_either():
    """What the parsed imports say, asked of a running process."""
    names = [f"tagcheck.{room}" for room in NO_TORCH if room in room_files()] + (
        ["webapp.app"] if (PROJECT / "webapp" / "app.py").exists() else []
    )
    program = f"import {', '.join(names)}, sys; print(sorted(set(sys.modules) & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=PROJECT)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_nothing_happens_when_a_script_is_imported():
    """Only imports, definitions, constants and the last lines `if __name__ == "__main__"` stand at a script's top level."""
    for name in SCRIPTS:
        for node in ast.parse((PROJECT / f"{name}.py").read_text(encoding="utf-8")).body:
            allowed = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            main = isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
            assert docstring or main or isinstance(node, allowed), (
                f"{name}.py line {node.lineno}: {ast.unparse(node)[:80]}"
            )


def test_this_test_sees_an_arrow_that_points_up(tmp_path, monkeypatch):
    """The check itself is checked, on a house of two rooms where the lower one imports the upper."""
    (tmp_path / "tagcheck").mkdir()
    (tmp_path / "tagcheck" / "errors.py").write_text(
        "def f():\n    from tagcheck import cli\n    from . import tags\n    import torch.nn\n"
    )
    (tmp_path / "tagcheck" / "cli.py").write_text("from .errors import x\nimport tagcheck.tags as t\n")
    (tmp_path / "tagcheck" / "tags.py").write_text("")
    monkeypatch.setattr(sys.modules[__name__], "PROJECT", tmp_path)
    files = room_files()
    assert rooms_of(files["errors"]) == {"cli", "tags"} and rooms_of(files["cli"]) == {"errors", "tags"}
    assert heavy_way(files["cli"]) == ["cli", "errors", "torch"] and heavy_way(files["tags"]) is None
