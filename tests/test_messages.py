"""Four troubles begin with the words that people search for."""

from __future__ import annotations

import pytest
from review_data import draw_library, save_dataset

import advanced_joytag_processing
import dataset_hardcore_mapper
import find_mistagged_images
from tagcheck.embedding import store
from tagcheck.errors import LibraryUnreachable, MissingInput


def test_no_processed_dataset_found(folder):
    with pytest.raises(MissingInput, match=r"^No processed dataset found: .*run advanced_joytag_processing\.py first"):
        find_mistagged_images.main(["--data-dir", str(folder.root)])


def test_no_embeddings_found(folder):
    save_dataset(folder, {"a" * 64: ["x"]})
    with pytest.raises(MissingInput, match="^No embeddings found"):
        store.load(folder.embeddings)
    with pytest.raises(MissingInput, match="^No embeddings found"):
        find_mistagged_images.main(["--data-dir", str(folder.root)])


def test_api_connection_failed(folder, monkeypatch):
    monkeypatch.setenv("HYDRUS_API_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(dataset_hardcore_mapper.config, "API_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(dataset_hardcore_mapper.config, "API_KEY", "a" * 64)
    with pytest.raises(LibraryUnreachable, match="^API connection failed: no Hydrus answers"):
        dataset_hardcore_mapper.main(["--data-dir", str(folder.root), "--library", "hydrus"])


def test_model_loading_failed(folder, tmp_path):
    draw_library(tmp_path / "library", [["x"]])
    data = ["--data-dir", str(folder.root)]
    dataset_hardcore_mapper.main([*data, "--library", str(tmp_path / "library")])
    (tmp_path / "model").mkdir()
    with pytest.raises(MissingInput, match="^Model loading failed: no "):
        advanced_joytag_processing.main([*data, "--model-dir", str(tmp_path / "model")])
