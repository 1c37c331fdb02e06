"""`python config.py --check`: every line says that a thing is fine, or what it costs and the way out."""

from __future__ import annotations

import io
import runpy

import pytest
from PIL import Image

from tagcheck import doctor
from tagcheck.doctor import OK, PROBLEM, WARNING
from tagcheck.library.choose import LibrarySettings
from tagcheck.script import PROJECT
from tests.hydrus_server import HydrusServer
from tests.joytag_folder import make_model_folder


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (30, 20), "red").save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(make_model_folder(tmp_path_factory.mktemp("model")))


@pytest.fixture
def server():
    with HydrusServer({"a.png": (picture(), ["red"])}, {"dataset": ["a.png"]}) as running:
        yield running


@pytest.fixture
def look(folder, model):
    """All checks by what they look at: `look(settings, root_page=..., model_dir=...)`."""

    def checks(
        settings: LibrarySettings, root_page: str = "dataset", model_dir: str = model
    ) -> dict[str, list[doctor.Check]]:
        found: dict[str, list[doctor.Check]] = {}
        for check in doctor.checks(folder, settings, root_page, model_dir):
            found.setdefault(check.what, []).append(check)
        return found

    return checks


def test_a_ready_hydrus_has_no_problem(look, server):
    found = look(LibrarySettings("hydrus", server.url, server.key))
    here = found.pop("device")  # what this machine is like, no fault of the library's
    assert {check.level for some in found.values() for check in some} == {OK} and {check.level for check in here} <= {
        OK,
        WARNING,
    }
    assert found["page"][0].says == "'dataset': 1 file on 1 page"
    assert found["tags are written to"][0].says == "my tags (local)"
    assert not server.refreshed and not server.alarms


def test_a_hydrus_that_is_too_old_to_be_written_to_is_a_warning(look, server, monkeypatch):
    monkeypatch.setattr("tests.hydrus_server.HYDRUS_VERSION", 441)
    version, warning = look(LibrarySettings("hydrus", server.url, server.key))["library"]
    assert version.says.startswith("Hydrus v441") and warning.level == WARNING
    assert warning.says == "it is read, not written to: update it to v580 or newer"


def test_a_missing_permission_is_named_with_what_it_costs(look, server):
    key = server.add_key("reader", [3, 4])
    levels = {
        check.says.split(":")[0]: check.level
        for check in look(LibrarySettings("hydrus", server.url, key))["permission"]
    }
    assert levels == {
        "edit file tags": WARNING,
        "search for and fetch files": OK,
        "manage pages": OK,
        "manage database": WARNING,
        "edit file relationships": WARNING,
        "manage popups": WARNING,
    }


def test_a_key_that_may_not_read_is_a_problem_of_the_library(look, server):
    key = server.add_key("tagger", [2])
    problems = [
        check
        for some in look(LibrarySettings("hydrus", server.url, key)).values()
        for check in some
        if check.level == PROBLEM
    ]
    assert {check.exit_code for check in problems} == {5}
    assert any("search for and fetch files" in check.says for check in problems)


@pytest.mark.parametrize(
    ("url", "key", "says"),
    [("http://127.0.0.1:1", "00", "no Hydrus answers"), (None, "ab" * 32, "does not know this API key")],
)
def test_a_hydrus_that_is_away_or_refuses_is_one_line(look, server, url, key, says):
    (check,) = look(LibrarySettings("hydrus", url or server.url, key))["library"]
    assert (check.level, check.exit_code) == (PROBLEM, 5)
    assert says in check.says


def test_a_page_that_is_not_there_names_those_that_are(look, server):
    (check,) = look(LibrarySettings("hydrus", server.url, server.key), root_page="nowhere")["page"]
    assert check.level == PROBLEM and "dataset" in check.says


def test_a_data_folder_that_is_not_there_yet_keeps_nothing_else_from_being_checked(script, tmp_path, model, server):
    settings = {"HYDRUS_API_URL": server.url, "HYDRUS_API_KEY": server.key, "JOYTAG_MODEL_DIR": model}
    looked = script("config.py", "--check", "--data-dir", tmp_path / "not there", env=settings)
    assert looked.returncode == 3 and not (tmp_path / "not there").exists()
    assert "problem  data folder: no data folder" in looked.stdout
    assert "dataset_hardcore_mapper.py makes it" in looked.stdout
    assert "ok       permission: edit file tags" in looked.stdout and "ok       page: 'dataset'" in looked.stdout


def test_a_key_that_sees_some_files_only_is_a_problem(look, server):
    key = server.add_key("some", range(14), "allowing all tags except hidden")
    says = [
        check.says for check in look(LibrarySettings("hydrus", server.url, key))["permission"] if check.level == PROBLEM
    ]
    assert len(says) == 1 and "sees some files only (allowing all tags except hidden)" in says[0]


def test_the_service_that_is_written_to_can_be_named(script, folder, model, server):
    settings = {"HYDRUS_API_URL": server.url, "HYDRUS_API_KEY": server.key, "JOYTAG_MODEL_DIR": model}
    options = ("--write-tag-service", "AI Suggestions", "--machine-tag-service", "downloader tags")
    said = script("config.py", "--check", "--data-dir", folder.root, *options, env=settings).stdout
    assert "tags are written to: ai suggestions (local)" in said and "downloader" not in said
    wrong = script("config.py", "--check", "--data-dir", folder.root, "--write-tag-service", "nope", env=settings)
    assert wrong.returncode == 2 and "no tag service 'nope' in Hydrus; there are" in wrong.stdout


def test_a_folder_says_how_many_pictures_it_has(look, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "a.png").write_bytes(picture())
    (check,) = look(LibrarySettings(str(pictures), "", ""))["library"]
    assert check.level == OK and check.says.endswith("1 picture in 1 folder")


def test_damaged_weights_are_found_before_the_first_run(look, tmp_path):
    weights = make_model_folder(tmp_path / "model") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    (check,) = look(LibrarySettings(str(tmp_path), "", ""), model_dir=str(weights.parent))["model"]
    assert (check.level, check.exit_code) == (PROBLEM, 4)


def test_the_command_line_says_it_and_gives_the_exit_code(script, folder, model, server):
    settings = {"HYDRUS_API_URL": server.url, "HYDRUS_API_KEY": server.key, "JOYTAG_MODEL_DIR": model}
    ready = script("config.py", "--check", "--data-dir", folder.root, env=settings)
    assert ready.returncode == 0, ready.stdout + ready.stderr
    assert server.key not in ready.stdout + ready.stderr
    away = script(
        "config.py", "--check", "--data-dir", folder.root, env=settings | {"HYDRUS_API_URL": "http://127.0.0.1:1"}
    )
    assert away.returncode == 5 and "problem  library: API connection failed: no Hydrus answers" in away.stdout


def test_an_empty_variable_is_as_good_as_none(monkeypatch):
    names = ("HYDRUS_API_URL", "HYDRUS_API_KEY", "TAGCHECK_LIBRARY", "JOYTAG_MODEL_DIR")
    for name in names:
        monkeypatch.setenv(name, "")
    config = str(PROJECT / "config.py")
    empty = runpy.run_path(config)
    for name in names:
        monkeypatch.delenv(name)
    kept = ("API_URL", "API_KEY", "LIBRARY", "MODEL_DIR")
    assert [empty[one] for one in kept] == [runpy.run_path(config)[one] for one in kept]
