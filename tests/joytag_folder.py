"""Model folders in which every file is as JoyTag publishes it: the reference network, and a tiny one that is quick."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from joytag.Models import ViT

REFERENCE = Path(__file__).parent / "data" / "joytag"


def make_model_folder(folder: Path) -> Path:
    """`folder`, with model.safetensors, config.json and top_tags.txt (40 tags)."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("model.safetensors", "config.json"):
        shutil.copy(REFERENCE / name, folder)
    (folder / "top_tags.txt").write_text("".join(f"tag_{number}\n" for number in range(40)))
    return folder


def make_tiny_model_folder(folder: Path) -> Path:
    """`folder`, with a random network for pictures of 64 x 64 (12 tags, embeddings of 32 numbers), in half precision on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((REFERENCE / "config.json").read_text()) | {
        "image_size": 64,
        "num_blocks": 2,
        "d_model": 32,
        "mlp_dim": 64,
        "num_heads": 2,
        "n_tags": 12,
        "cnn_stem": "conv:c=8;ln;relu;conv:c=8;ln;relu;conv:c=8;ln;relu;conv:c=16;ln;relu;conv:c=32,s=1,k=1,p=0",
    }
    torch.manual_seed(0)
    save_file(
        {name: tensor.half() for name, tensor in ViT.from_config(config).state_dict().items()},
        folder / "model.safetensors",
    )
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "top_tags.txt").write_text("".join(f"tag_{number}\n" for number in range(12)))
    return folder
