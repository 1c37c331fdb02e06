"""The map of the house holds: each wing uses only what it may, scripts stay apart, and the page stays free of torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(path.stem for path in PROJECT.glob("*.py") if path.stem != "config")

# Wing: the wings it may use. Everything may use the ground (tagcheck/*.py); the ground uses no wing, except the doctor.
WINGS = {
    "library": "",
    "pictures": "",
    "embedding": "pictures",
    "learning": "",
    "similar": "",
    "tag_errors": "similar learning",
    "duplicates": "similar learning pictures embedding",
    "series": "embedding learning pictures",
    "review": "",
    "belief": "embedding learning similar tag_errors review series duplicates",
    "writing": "library",
}
DOCTOR = "library embedding"
NO_TORCH = ("", "library", "review", "writing")  # "" is the ground
MAY_IMPORT_JOYTAG = ("embedding", "series")
LONGEST_FUNCTION = 50  # lines
HEAVY = {"torch", "torchvision", "joytag", "safetensors", "sklearn"}


def python_files(folder: str) -> list[Path]:
    return sorted((PROJECT / folder).rglob("*.py"))


@cache
def imports(path: Path) -> frozenset[str]:
    """Every module that a file imports anywhere in it, as dotted names; `from a import b` counts as a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = path.relative_to(PROJECT).parent.parts
                base = ".".join([*here[: len(here) - node.level + 1], *filter(None, [base])])
            found.update(f"{base}.{alias.name}" for alias in node.names)
    return frozenset(found)


def tops(path: Path) -> set[str]:
    """The top-level names that a file imports."""
    return {name.split(".")[0] for name in imports(path)}


def modules() -> dict[str, Path]:
    """Every module of tagcheck/ by its dotted name; a package by its folder's name."""
    return _modules(PROJECT)


@cache
def _modules(project: Path) -> dict[str, Path]:
    found = {}
    for path in python_files("tagcheck"):
        parts = path.relative_to(project).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def used(path: Path) -> set[str]:
    """The modules of tagcheck/ that a file imports, other than itself and the empty top."""
    known = modules()
    found = {name if name in known else name.rpartition(".")[0] for name in imports(path)}
    return {name for name in found if name in known and name != "tagcheck" and known[name] != path}


def wing(module: str) -> str:
    """The wing that a module stands in, "" for the ground."""
    parts = module.split(".")
    inside = len(parts) > 2 or (module in modules() and modules()[module].name == "__init__.py")
    return parts[1] if inside and len(parts) > 1 and parts[1] in WINGS else ""


def heavy_way(path: Path, seen: set[Path] | None = None) -> list[str] | None:
    """A chain of imports from a file to a heavy library, or None. A file in `seen` leads to none, as was found before."""
    seen = set() if seen is None else seen
    if path in seen:
        return None
    seen.add(path)
    heavy = tops(path) & HEAVY
    if heavy:
        return [path.stem, min(heavy)]
    for module in sorted(used(path)):
        way = heavy_way(modules()[module], seen)
        if way:
            return [path.stem, *way]
    return None


def light_modules() -> list[str]:
    return [name for name in modules() if wing(name) in NO_TORCH and name != "tagcheck.doctor"]


@pytest.mark.parametrize("name", sorted(modules()))
def test_a_module_uses_only_the_wings_that_its_own_may_use(name):
    own = wing(name)
    allowed = {"", own, *(WINGS[own] if own else DOCTOR if name == "tagcheck.doctor" else "").split()}
    extra = {other for other in used(modules()[name]) if wing(other) not in allowed}
    assert not extra, f"{name} imports {sorted(extra)}: an arrow that is not on the map"


def test_no_imports_go_in_a_circle():
    left = {name: used(path) - {name} for name, path in modules().items()}
    while left:
        free = {name for name, others in left.items() if not others & set(left)}
        assert free, f"a circle of imports among {sorted(left)}"
        left = {name: others for name, others in left.items() if name not in free}


def test_every_wing_says_its_purpose_in_one_line():
    for name in WINGS:
        docstring = ast.get_docstring(
            ast.parse((PROJECT / "tagcheck" / name / "__init__.py").read_text(encoding="utf-8"))
        )
        assert docstring and len(docstring.splitlines()) == 1, name


@pytest.mark.parametrize("name", sorted(modules()))
def test_the_package_knows_no_settings_scripts_or_page(name):
    path = modules()[name]
    assert not tops(path) & {"config", "webapp", "sample", "benchmarks", "tests", *SCRIPTS}
    if wing(name) not in MAY_IMPORT_JOYTAG:
        assert "joytag" not in tops(path)


@pytest.mark.parametrize("path", python_files("joytag"), ids=lambda path: path.stem)
def test_the_network_knows_nothing_of_the_rest(path):
    assert not tops(path) & {"config", "tagcheck", "webapp", *SCRIPTS}


@pytest.mark.parametrize("name", [*SCRIPTS, "config"])
def test_no_script_imports_a_script_or_the_page(name):
    assert not tops(PROJECT / f"{name}.py") & {"webapp", *SCRIPTS}


@pytest.mark.parametrize("path", python_files("webapp"), ids=lambda path: path.stem)
def test_the_page_imports_no_script_and_only_its_app_reads_the_settings(path):
    assert not tops(path) & set(SCRIPTS)
    assert path.name == "app.py" or "config" not in tops(path)


def test_what_the_page_stands_on_reaches_no_torch():
    seen: set[Path] = set()
    files = [*(modules()[name] for name in light_modules()), *python_files("webapp")]
    assert not [way for path in files if (way := heavy_way(path, seen))]


def test_no_torch_is_loaded_in_truth_either():
    """What the parsed imports say, asked of a running process."""
    program = f"import {', '.join([*light_modules(), 'webapp.app'])}, sys; print(sorted(set(sys.modules) & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=PROJECT)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_what_runs_after_a_small_change_loads_no_torch():
    """The training and the detectors start without it, and so does comparing new pictures with all, or few with each other. Its import takes
    seconds.
    """
    rows = "np.random.default_rng(0).normal(size=(5200, 160)).astype(np.float32)"
    program = (
        "import sys, numpy as np, train_series_classifier_images, find_mistagged_images, find_near_duplicates, run_error_detection\n"
        "import validate_series_predictions\n"
        "from tagcheck.similar import Pairs, pairs, top_k\n"
        f"none, rows = np.empty(0, np.int64), {rows}\n"
        "found = pairs.with_fresh(rows, 0.3, Pairs(none, none, none), np.arange(200))\n"
        "print(len(found) > 0, top_k(rows[:200], 3)[0].shape, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=PROJECT)
    assert (done.returncode, done.stdout) == (0, "True (200, 3) False\n"), done.stderr


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


@pytest.mark.parametrize("folder", ["tagcheck", "webapp", "joytag", "."])
def test_no_function_is_longer_than_a_screen(folder):
    files = python_files(folder) if folder != "." else [PROJECT / f"{name}.py" for name in [*SCRIPTS, "config"]]
    functions = (
        (path.name, node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    )
    assert not [one for one in functions if one[2] > LONGEST_FUNCTION]


def test_this_test_sees_an_arrow_that_points_up(tmp_path, monkeypatch):
    """The check itself is checked, on a small house where the library imports the writing and the ground imports torch."""
    for wing_name in ("library", "writing"):
        (tmp_path / "tagcheck" / wing_name).mkdir(parents=True)
        (tmp_path / "tagcheck" / wing_name / "__init__.py").write_text('"""A wing."""\n')
    (tmp_path / "tagcheck" / "errors.py").write_text("def f():\n    import torch.nn\n")
    (tmp_path / "tagcheck" / "library" / "walk.py").write_text(
        "from ..writing import ledger\nfrom tagcheck.errors import x\n"
    )
    (tmp_path / "tagcheck" / "writing" / "ledger.py").write_text("import tagcheck.library.walk as t\n")
    monkeypatch.setattr(sys.modules[__name__], "PROJECT", tmp_path)
    found = modules()
    assert used(found["tagcheck.library.walk"]) == {"tagcheck.writing.ledger", "tagcheck.errors"}
    assert heavy_way(found["tagcheck.writing.ledger"]) == ["ledger", "walk", "errors", "torch"]
    with pytest.raises(AssertionError, match="not on the map"):
        test_a_module_uses_only_the_wings_that_its_own_may_use("tagcheck.library.walk")
    with pytest.raises(AssertionError, match="circle"):
        test_no_imports_go_in_a_circle()
