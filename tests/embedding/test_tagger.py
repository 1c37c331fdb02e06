"""A model folder becomes a tagger, or a sentence about what is wrong with it; published files are fetched whole or not at all."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import weakref
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from joytag_folder import REFERENCE, make_model_folder
from PIL import Image
from safetensors.torch import load_file, save_file

from tagcheck import files, script
from tagcheck.embedding import download, joytag_network, tagger
from tagcheck.errors import BadFile, MissingInput, UsageError
from tagcheck.pictures import preparation

EXPECTED = json.loads((REFERENCE / "expected.json").read_text())


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture
def own_dir(tmp_path) -> Path:
    return make_model_folder(tmp_path / "model")


def rewrite(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def reconfigure(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.concatenate(
        [preparation.prepare_bytes((REFERENCE / name).read_bytes(), 448) for name in EXPECTED["images"]]
    )


@pytest.mark.parametrize(
    "cuda, mps, asked, chosen",
    [
        (False, True, "auto", "mps"),
        (True, True, "auto", "cuda"),
        (False, False, "auto", "cpu"),
        (False, True, "mps", "mps"),
        (False, True, "cpu", "cpu"),
        (False, False, "mps", "finds no GPU of Apple's"),
        (False, True, "cuda", "--device cuda"),
    ],
)
def test_a_gpu_is_chosen_where_there_is_one(monkeypatch, cuda, mps, asked, chosen):
    """Stand-ins for what PyTorch finds: no such card is here."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    if chosen not in script.DEVICES:
        with pytest.raises(UsageError, match=chosen):
            tagger.choose_device(asked)
        return
    device = tagger.choose_device(asked)
    assert device.type == chosen
    if chosen == "mps":
        assert (joytag_network.fast_precision(device), tagger.default_batch_size(device, 1)) == ("float32", 32)
        assert tagger.device_name(device) == "Apple's GPU"


def test_in_float32_it_agrees_with_the_original_to_a_ten_thousandth(model_dir, pictures):
    model = tagger.load(model_dir, "cpu", "float32")
    embeddings = model.embed(pictures)
    assert embeddings.dtype == np.float32
    assert np.abs(embeddings - EXPECTED["embeddings"]).max() < 1e-4
    assert np.abs(model.probabilities(embeddings) - EXPECTED["tag_probabilities"]).max() < 1e-4


def test_the_stored_head_gives_the_probabilities_without_the_pictures(model_dir, pictures):
    model = tagger.load(model_dir, "cpu", "float32")
    head = model.network.head
    again = 1 / (1 + np.exp(-(model.embed(pictures).astype(np.float16) @ head.weight.T + head.bias)))
    assert head.tags[:2] == ["tag_0", "tag_1"] and head.model == model.id
    assert np.abs(again - EXPECTED["tag_probabilities"]).max() < 2e-3


def test_pictures_may_come_in_any_number(model_dir, pictures):
    model = tagger.load(model_dir, "cpu", "float32", batch_size=2)
    one_by_one = [preparation.prepare(Image.open(REFERENCE / name), 448) for name in EXPECTED["images"]]
    assert np.allclose(model.embed(one_by_one), model.embed(pictures), atol=1e-5)
    with pytest.raises(ValueError, match="not uint8"):
        model.embed(pictures.astype(np.float32))


def test_the_id_names_weights_and_precision_and_auto_keeps_what_there_is(model_dir, own_dir):
    exact, fast = (tagger.load(model_dir, "cpu", precision) for precision in ("float32", "bfloat16"))
    digest = hashlib.sha256((model_dir / "model.safetensors").read_bytes()).hexdigest()
    assert (exact.id, fast.id) == (f"joytag-{digest[:12]}-float32", f"joytag-{digest[:12]}-bfloat16")
    for kept in (exact, fast):
        assert tagger.load(model_dir, "cpu", "auto", keep=kept.id).id == kept.id
    assert tagger.load(
        model_dir, "cpu", "auto", keep="joytag-000000000000-float32"
    ).precision == joytag_network.fast_precision(torch.device("cpu"))
    rewrite(own_dir, lambda tensors: tensors["head.bias"].add_(1))
    assert tagger.load(own_dir, "cpu", "float32").id != exact.id


def test_half_precision_weights_and_the_nine_extra_rows_of_old_heads_load(own_dir, pictures):
    def old(tensors: dict[str, torch.Tensor]) -> None:
        for name in ("head.weight", "head.bias"):
            tensors[name] = torch.cat([tensors[name], torch.full((9, *tensors[name].shape[1:]), 7.0)])
        for name in tensors:
            tensors[name] = tensors[name].half()

    rewrite(own_dir, old)
    model = tagger.load(own_dir, "cpu", "float32")
    assert model.network.head.weight.shape == (40, 96)
    assert np.abs(model.embed(pictures) - EXPECTED["embeddings"]).max() < 0.02


@pytest.mark.parametrize(
    "damage, error, says",
    [
        (lambda d: (d / "top_tags.txt").unlink(), MissingInput, "no top_tags.txt in .*: a model folder holds"),
        (lambda d: (d / "top_tags.txt").write_text("a\nb\n"), BadFile, "top_tags.txt has 2 tags, the network has 40"),
        (lambda d: (d / "top_tags.txt").write_text("a\n" * 40), BadFile, "top_tags.txt names 'a' twice"),
        (lambda d: (d / "top_tags.txt").write_bytes(b"\xff\xfe\n" * 40), BadFile, "top_tags.txt is not UTF-8"),
        (lambda d: (d / "config.json").write_text("{"), BadFile, "config.json is not JSON"),
        (lambda d: (d / "config.json").write_text("[]"), BadFile, "config.json: a list is not an object"),
        (
            lambda d: (d / "config.json").write_text('{"class": "ViT"}'),
            BadFile,
            "config.json cannot be used: its keys do not describe a network",
        ),
        (
            lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes()[:-100]),
            BadFile,
            "not a whole safetensors file",
        ),
        (lambda d: (d / "model.safetensors").write_bytes(b""), BadFile, "not a whole safetensors file"),
        (
            lambda d: rewrite(d, lambda t: t.pop("norm.bias")),
            BadFile,
            "does not fit config.json beside it: no norm.bias",
        ),
        (lambda d: rewrite(d, lambda t: t.update(more=torch.zeros(1))), BadFile, "an unknown more"),
        (
            lambda d: rewrite(d, lambda t: t.update({"norm.bias": torch.zeros(5)})),
            BadFile,
            r"norm.bias of shape \(5,\) instead of \(96,\)",
        ),
        (
            lambda d: rewrite(d, lambda t: t["head.bias"][3:].fill_(torch.nan)),
            BadFile,
            "holds no finite numbers in head.bias",
        ),
        (
            lambda d: reconfigure(d, patch_size=32),
            BadFile,
            "config.json cannot be used: its cnn_stem makes 28² tokens of 96 numbers, not 14² of 96",
        ),
    ],
)
def test_a_model_folder_that_is_not_whole_is_refused_by_name(own_dir, damage, error, says):
    damage(own_dir)
    with pytest.raises(error, match=says):
        tagger.load(own_dir, "cpu")


def test_a_batch_that_does_not_fit_the_memory_is_halved_from_there_on(model_dir, pictures, monkeypatch):
    model = tagger.load(model_dir, "cpu", "float32", batch_size=3)
    expected, compute, tried = model.embed(pictures), model.network.compute, []

    def small_memory(pixels: torch.Tensor) -> torch.Tensor:
        tried.append(len(pixels))
        if len(pixels) > 1:
            raise torch.OutOfMemoryError("no room")
        return compute(pixels)

    monkeypatch.setattr(model.network, "compute", small_memory)
    assert np.array_equal(model.embed(pictures), expected)
    assert tried == [3, 2, 1, 1, 1] and model.batch_size == 1


def test_memory_is_given_back_after_the_failed_attempt_has_let_go_of_it(model_dir, pictures, monkeypatch):
    model = tagger.load(model_dir, "cpu", "float32", batch_size=3)
    compute, held, freed = model.network.compute, [], []

    def small_memory(pixels: torch.Tensor) -> torch.Tensor:
        activations = torch.ones(1)
        if len(pixels) > 1:
            held.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("no room")
        return compute(pixels)

    monkeypatch.setattr(model.network, "compute", small_memory)
    monkeypatch.setattr(tagger.torch.cuda, "empty_cache", lambda: freed.append(all(one() is None for one in held)))
    model.embed(pictures)
    assert freed == [True, True]


def test_only_a_gpu_gets_its_batches_from_pinned_memory(model_dir, pictures, monkeypatch):
    model, asked, empty = tagger.load(model_dir, "cpu", "float32"), [], torch.empty

    def noted(*shape, pin_memory=False, **options):
        asked.append(pin_memory)
        return empty(*shape, **options)

    monkeypatch.setattr(tagger.torch, "empty", noted)
    whole = model._pixels(list(pictures))
    model.device = torch.device("cuda")  # a stand-in: pinning itself needs a GPU
    assert torch.equal(model._pixels(list(pictures)), whole) and np.array_equal(whole.numpy(), pictures)
    assert asked == [False, True]


def test_embeddings_on_their_way_from_a_gpu_are_waited_for_before_they_are_read(monkeypatch):
    """With stand-ins for a GPU's tensor, its event and pinned memory: sent at once, read after the event."""
    order: list[str] = []

    class Event:
        record, synchronize = (lambda self, name=name: order.append(name) for name in ("record", "synchronize"))

    class Held:
        copy_ = staticmethod(lambda rows, non_blocking: order.append(f"copy, non-blocking: {non_blocking}"))
        numpy = staticmethod(lambda: order.append("read"))

    def memory(shape, dtype, pin_memory):
        order.append(f"pinned: {pin_memory}")
        return Held

    monkeypatch.setattr(tagger.torch.cuda, "Event", Event)
    monkeypatch.setattr(tagger.torch, "empty", memory)
    begun = tagger.Begun.of(SimpleNamespace(device=torch.device("cuda"), shape=(2, 3), dtype=torch.float32))
    assert order == ["pinned: True", "copy, non-blocking: True", "record"]
    begun.rows()
    assert order[3:] == ["synchronize", "read"]


def test_a_gpu_beside_a_pytorch_that_cannot_use_it_is_said_loudly(model_dir, monkeypatch):
    monkeypatch.setattr(tagger.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(tagger.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    for built, says in (
        (None, "built without CUDA: install a build that fits"),
        ("13.0", "finds no usable GPU or driver"),
    ):
        monkeypatch.setattr(tagger.torch.version, "cuda", built)
        assert (
            f"THE GPU IS NOT USED: {'this PyTorch was ' if built is None else 'PyTorch (CUDA 13.0) '}{says}"
            in tagger.load(model_dir, "auto").sentence()
        )
        assert "GPU" not in tagger.load(model_dir, "cpu").sentence()  # asked for, so nothing is overlooked


def test_a_small_network_leaves_the_other_threads_to_the_decoders(model_dir, pictures):
    before = torch.get_num_threads()
    model = tagger.load(model_dir, "cpu")
    model.embed(pictures)
    assert model.threads == 1 and torch.get_num_threads() == before


@pytest.fixture
def lanes(model_dir, monkeypatch) -> tagger.Tagger:
    """A tagger of three lanes, two pictures at a time: what a large network has on a processor with three cores."""
    monkeypatch.setattr(joytag_network, "SMALL_WORK", 0.0)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        return tagger.load(model_dir, "cpu", "float32")
    finally:
        torch.set_num_threads(before)


def test_batches_are_computed_beside_each_other_by_one_thread_each(lanes, model_dir, pictures, monkeypatch):
    assert (lanes.network.lanes, lanes.ahead, lanes.batch_size) == (3, 3, 2) and "threads: 3" in lanes.sentence()
    alone, compute, seen, together = tagger.load(model_dir, "cpu", "float32"), lanes.network.compute, set(), Barrier(3)

    def noted(pixels: torch.Tensor) -> torch.Tensor:
        together.wait(20)  # raises unless three are at work at once
        seen.add((threading.current_thread().name, torch.get_num_threads()))
        return compute(pixels)

    monkeypatch.setattr(lanes.network, "compute", noted)
    six = np.concatenate([pictures, pictures])
    assert lanes.embed(six).tobytes() == np.concatenate([alone.embed(pictures)] * 2).tobytes()
    assert {threads for _, threads in seen} == {1} and len(seen) == 3


def test_what_goes_wrong_in_a_lane_is_said_and_what_waits_can_be_given_up(lanes, pictures, monkeypatch):
    hold = threading.Event()

    def broken(pixels: torch.Tensor) -> torch.Tensor:
        hold.wait(20)
        raise RuntimeError("the network is broken")

    monkeypatch.setattr(lanes.network, "compute", broken)
    begun = [lanes.begin(list(pictures[:1])) for _ in range(4)]
    assert begun[3].cancel() and not begun[0].cancel()
    hold.set()
    with pytest.raises(RuntimeError, match="the network is broken"):
        begun[0].rows()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_asked_for_and_not_there_is_said_loudly(model_dir):
    with pytest.raises(UsageError, match="--device cuda: .*; use --device cpu"):
        tagger.load(model_dir, "cuda")


# --- fetching the published files -------------------------------------------------------------------


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does: a HEAD announces size, digest and commit and sends on to where the bytes are."""

    files: dict[str, bytes]
    breaks: int  # how many downloads of the large file are cut off half way
    ranges: list[str]
    forget_ranges: bool
    wrong_digest: bool

    def do_HEAD(self) -> None:
        name = self.path.rpartition("/")[2]
        if name not in self.files:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
        else:
            data = self.files[name]
            large = name.endswith(".safetensors")
            digest = (
                hashlib.sha256(data).hexdigest() if large else hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            )
            self.send_response(302)
            self.send_header("X-Repo-Commit", "c" * 40)
            self.send_header("X-Linked-Etag", f'"{"0" * len(digest) if self.wrong_digest else digest}"')
            self.send_header("X-Linked-Size", str(len(data)))
            self.send_header("Location", f"{self.server.storage}/bytes/{name}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        assert "Authorization" not in self.headers  # the bytes are on another host, which gets no token
        data = self.files[self.path.rpartition("/")[2]]
        start = 0
        if "Range" in self.headers:
            self.ranges.append(self.headers["Range"])
            start = 0 if self.forget_ranges else int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if len(data) > 100_000 and self.breaks:
            type(self).breaks -= 1
            self.wfile.write(data[start : start + (len(data) - start) // 2])
            self.wfile.flush()
            self.connection.close()
            return
        self.wfile.write(data[start:])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(model_dir) -> Iterator[type[Hub]]:
    answers = type(
        "ThisHub",
        (Hub,),
        {
            "files": {name: (model_dir / name).read_bytes() for name in download.FILES},
            "breaks": 0,
            "ranges": [],
            "forget_ranges": False,
            "wrong_digest": False,
        },
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), answers)
    answers.address = f"http://127.0.0.1:{server.server_port}"
    server.storage = f"http://localhost:{server.server_port}"  # another host, as the hub has it
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield answers
    server.shutdown()
    server.server_close()


def test_the_published_files_are_fetched_once(hub, tmp_path, model_dir, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_owners")
    seen = []
    folder = download.ensure(
        tmp_path / "weights", hub.address, lambda name, here, size: seen.append((name, here, size))
    )
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == hub.files | {download.PINNED: b"c" * 40}
    assert seen[-1] == ("model.safetensors", 1045720, 1045720)
    assert tagger.load(folder, "cpu", "float32").id == tagger.load(model_dir, "cpu", "float32").id
    hub.files = {}
    assert download.ensure(folder, hub.address) == folder


@pytest.mark.parametrize("forgets", [False, True])
def test_a_connection_that_breaks_is_taken_up_where_it_broke(hub, tmp_path, forgets):
    hub.breaks, hub.forget_ranges = 2, forgets
    folder = download.ensure(tmp_path / "weights", hub.address, pause=0)
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert len(hub.ranges) == 2 and hub.ranges[0] == f"bytes={7 * download.CHUNK}-"  # half of it, in whole pieces


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_two_runs_never_fetch_into_one_file(hub, tmp_path):
    folder = tmp_path / "weights"
    hub.breaks, hub.forget_ranges = 100, True
    with pytest.raises(MissingInput):
        download.ensure(folder, hub.address, pause=0)
    (part,) = folder.glob("*.part")
    hub.breaks = 0
    with open(part, "ab") as other:
        assert files.claim(other.fileno())
        with pytest.raises(UsageError, match="another run is fetching model.safetensors"):
            download.ensure(folder, hub.address)
    assert download.ensure(folder, hub.address) == folder


def test_a_download_given_up_goes_on_in_the_next_run(hub, tmp_path):
    hub.breaks, hub.forget_ranges = 100, True
    with pytest.raises(MissingInput, match="model.safetensors of fancyfeast/joytag could not be fetched .*--model-dir"):
        download.ensure(tmp_path / "weights", hub.address, pause=0)
    assert not (tmp_path / "weights" / "model.safetensors").exists()
    hub.breaks, hub.forget_ranges, hub.ranges = 0, False, []
    download.ensure(tmp_path / "weights", hub.address)
    assert hub.ranges == [f"bytes={7 * download.CHUNK}-"]
    assert (tmp_path / "weights" / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


def test_bytes_with_another_digest_are_thrown_away(hub, tmp_path):
    hub.wrong_digest = True
    with pytest.raises(BadFile, match="config.json arrived with another digest"):
        download.ensure(tmp_path / "weights", hub.address)
    assert list((tmp_path / "weights").iterdir()) == []


def test_a_file_that_the_hub_does_not_have_and_no_network_name_both_ways_out(hub, tmp_path):
    hub.files = {}
    for address in (hub.address, "http://127.0.0.1:9"):
        with pytest.raises(
            MissingInput,
            match="no JoyTag weights in .*, and the hub cannot be asked for config.json .*internet.*--model-dir",
        ):
            download.ensure(tmp_path / "weights", address)
