"""A model folder in which every file is as JoyTag publishes it: the reference network, with names for its tags."""

from __future__ import annotations

import shutil
from pathlib import Path

REFERENCE = Path(__file__).parent / "data" / "joytag"


def make_model_folder(folder: Path) -> Path:
    """`folder`, with model.safetensors, config.json and top_tags.txt (40 tags)."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("model.safetensors", "config.json"):
        shutil.copy(REFERENCE / name, folder)
    (folder / "top_tags.txt").write_text("".join(f"tag_{number}\n" for number in range(40)))
    return folder
