"""Train the sample's small network: JoyTag's make, on drawn pictures that no library holds.

    python sample/train_network.py /tmp/training --minutes 8
    python sample/train_network.py /tmp/training --steps 3000 --out /tmp/network

Reads   WORK/checkpoint.pt, and goes on from there
Writes  WORK/pictures_*.npy (the drawn pictures), WORK/checkpoint.pt, and model.safetensors (float16), config.json and
        top_tags.txt, as JoyTag publishes its own

It learns the tags (binary cross-entropy); that two views of one picture lie close together and different pictures apart
(NT-Xent: Chen et al., "A Simple Framework for Contrastive Learning", 2020); and, by a head that is dropped, where which
colours are. What is written is a moving average of the weights, with the tags' layer fitted to the end on it. The same
seed, settings and machine give the same network, in however many calls. 1,500 steps take 22 minutes on one core
(docs/log.md).
"""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script has only its own folder on the path

from joytag.Models import ViT, normalise
from sample.train import pictures as training_pictures
from sample.train.pictures import Training
from sample.train.views import view
from tagcheck import script
from tagcheck.errors import UsageError
from tagcheck.files import write_atomically

BATCH, TWICE = 48, 16  # pictures in a step, and how many of them are seen in two views
TOGETHER = 8  # steps that share their pictures out by kind
LEARNING_RATE, WARM_UP, WEIGHT_DECAY = 2e-3, 150, 0.05
TEMPERATURE = 0.1  # of the contrastive loss
WEIGHTS = {"tags": 30.0, "apart": 0.25, "together": 1.0, "colours": 2.0}
PENALTY = 3e-5  # of the tags' layer, on the squared weights of standardised inputs, against the mean loss of a tag
AVERAGING = 0.998  # how much of the moving average stays at each step
COLOUR_GRID = 7  # the dropped head tells the mean colour of each of 7 x 7 fields
FITTING = 90  # seconds that a call must have left to fit the tags' layer at the end
NETWORK = Path(__file__).resolve().parent / "network"
CONFIG: dict[str, Any] = json.loads((NETWORK / "config.json").read_text(encoding="utf-8"))


def main(argv: list[str] | None = None) -> int:
    made = script.plain_parser(__doc__)
    work = "the folder for the drawn pictures and the checkpoint"
    made.add_argument("work", metavar="WORK", type=script.place, help=work)
    script.add_whole(made, "--steps", f"steps of {BATCH} pictures in the whole training", 1500)
    minutes = "end this call after so many minutes and keep a checkpoint (default: no end)"
    script.add_number(made, "--minutes", minutes, 10_000, 0.1, 10_000)
    script.add_whole(made, "--pictures", "how many pictures to draw and train on", 16_000, low=BATCH * TOGETHER)
    out = "where to write the network (default: sample/network)"
    script.add_option(made, "--out", out, NETWORK, type=script.place, metavar="DIR")
    script.add_option(made, "--seed", "of the first weights, the order and the views", 0, type=int)
    args = made.parse_args(argv)
    end = time.monotonic() + args.minutes * 60
    torch.set_num_threads(1)  # two wait for each other most of the time as soon as the machine does anything else
    torch.set_flush_denormal(True)
    data = training_pictures.load(args.work, args.pictures)
    trainer = Trainer(data, args.steps, args.seed)
    checkpoint = args.work / "checkpoint.pt"
    if checkpoint.is_file():
        trainer.resume(torch.load(checkpoint, map_location="cpu", weights_only=True))
    with script.progress(range(trainer.step, args.steps), args.steps - trainer.step, "training", "step") as steps:
        for step in steps:
            losses = trainer.train_step(step)
            if step % 20 == 0:
                steps.set_postfix({name: f"{value:.3f}" for name, value in losses.items()})
            if time.monotonic() > end:
                break
    write_atomically(checkpoint, lambda out: torch.save(trainer.state(), out))
    finished = trainer.step == args.steps and time.monotonic() + FITTING < end
    export(trainer.finished() if finished else trainer.average, data.tags, args.out)
    outcome = "finished" if finished else "not finished: run the same command again"
    print(f"step {trainer.step} of {args.steps}, {outcome}; network of {len(data.tags)} tags in {args.out}")
    return 0


def fit_head(embeddings: Tensor, targets: Tensor, penalty: float = PENALTY, rounds: int = 80) -> tuple[Tensor, Tensor]:
    """One logistic regression a tag, all at once by L-BFGS: embeddings float (n, d), targets bool (n, V) -> weight (V, d), bias (V,).

    >>> x = torch.linspace(-1, 1, 41)[:, None]
    >>> weight, bias = fit_head(x, x > 0.3)
    >>> bool(((x @ weight.T + bias > 0) == (x > 0.3)).all())
    True
    """
    middle, spread = embeddings.mean(0), embeddings.std(0).clamp(min=1e-6)
    inputs, wanted = (embeddings - middle) / spread, targets.float()
    weight = torch.zeros(targets.shape[1], embeddings.shape[1], requires_grad=True)
    bias = torch.logit(wanted.mean(0), eps=1e-4).requires_grad_()
    solver = torch.optim.LBFGS([weight, bias], max_iter=rounds, history_size=10, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = F.binary_cross_entropy_with_logits(inputs @ weight.T + bias, wanted) * len(bias)
        value += penalty * weight.pow(2).sum()
        value.backward()
        return value

    solver.step(loss)
    scaled = weight.detach() / spread
    return scaled, bias.detach() - scaled @ middle


class Trainer:
    def __init__(self, data: Training, steps: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.data, self.steps, self.seed, self.step = data, steps, seed, 0
        self.settings = {"steps": steps, "pictures": len(data.targets), "seed": seed}
        self.network = ViT.from_config(CONFIG | {"n_tags": len(data.tags)}).to(memory_format=torch.channels_last)
        frequency = torch.from_numpy(data.targets.mean(0)).float()
        nn.init.normal_(self.network.head.weight, std=0.02)
        self.network.head.bias.data = torch.logit(frequency, eps=1e-4)
        # A rare tag's loss is small however badly it is told. This brings it nearer to a common one's; probabilities stay true.
        self.tag_weights = F.normalize(frequency.clamp(min=1e-4) ** -0.5, p=1, dim=0) * len(frequency)
        self.colours = nn.Linear(CONFIG["d_model"], 3 * COLOUR_GRID**2)
        self.average = {name: value.clone() for name, value in self.network.state_dict().items()}
        named = [*self.network.named_parameters(), *self.colours.named_parameters()]
        groups = [
            {"params": [value for _, value in named if value.ndim > 1], "weight_decay": WEIGHT_DECAY},
            {"params": [value for _, value in named if value.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98))
        self.parts = {"network": self.network, "colours": self.colours, "optimizer": self.optimizer}

    def state(self) -> dict[str, Any]:
        kept = {name: part.state_dict() for name, part in self.parts.items()}
        return {"settings": self.settings, "step": self.step, "average": self.average, **kept}

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from there. Raises `UsageError` where that was begun with other settings."""
        then = state.get("settings", self.settings)
        if then != self.settings:
            told = " ".join(f"--{name} {value}" for name, value in then.items())
            raise UsageError(f"the checkpoint in WORK is of {told}: go on with these, or name another WORK")
        self.step, self.average = state["step"], state["average"]
        for name, part in self.parts.items():
            part.load_state_dict(state[name])

    def train_step(self, step: int) -> dict[str, float]:
        """One step, random by the seed and its number; returns each part of the loss."""
        random = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        rows = self._rows(step)
        pixels, boxes = torch.from_numpy(self.data.pixels[rows]), torch.from_numpy(self.data.boxes[rows])
        first = view(pixels, boxes, CONFIG["image_size"], random)
        second = view(pixels[:TWICE], boxes[:TWICE], CONFIG["image_size"], random)
        targets = torch.from_numpy(self.data.targets[rows]).float()
        losses = self._losses(torch.cat((first, second)), torch.cat((targets, targets[:TWICE])))
        self.optimizer.zero_grad(set_to_none=True)
        sum(WEIGHTS[name] * loss for name, loss in losses.items()).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        keep = min(AVERAGING, (1 + step) / (10 + step))
        for name, value in self.network.state_dict().items():
            self.average[name].lerp_(value, 1 - keep)
        self.step = step + 1
        return {name: float(loss.detach()) for name, loss in losses.items()}

    def finished(self) -> dict[str, Tensor]:
        """The averaged weights with the tags' layer fitted to the end on all pictures, about a minute's work."""
        network = ViT.from_config(CONFIG | {"n_tags": len(self.data.tags)}).to(memory_format=torch.channels_last).eval()
        network.load_state_dict(self.average)
        side, found = CONFIG["image_size"], []
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            batches = torch.arange(len(self.data.targets)).split(64)
            for rows in script.progress(batches, what="fitting the tags", unit="batch"):
                pixels = torch.from_numpy(self.data.pixels[rows.numpy()]).permute(0, 3, 1, 2).float()
                pixels = F.interpolate(pixels, (side, side), mode="bicubic", antialias=True).clamp(0, 255)
                found.append(network.features(normalise(pixels).contiguous(memory_format=torch.channels_last)).float())
        weight, bias = fit_head(torch.cat(found).clone(), torch.from_numpy(self.data.targets))
        return self.average | {"head.weight": weight, "head.bias": bias}

    def learning_rate(self, step: int) -> float:
        """A linear start, then half a cosine down to a hundredth."""
        share = min(1.0, max(0, step - WARM_UP) / max(1, self.steps - WARM_UP))
        return LEARNING_RATE * min(1, (step + 1) / WARM_UP) * (0.01 + 0.99 * (1 + math.cos(math.pi * share)) / 2)

    def _rows(self, step: int) -> list[int]:
        """The pictures of a step: similar ones, since these are hard to tell apart. Neighbours by number stay together (a
        picture and its `variant`), and a step takes few kinds out of those that `TOGETHER` steps share.
        """
        half = BATCH // 2
        window, place = divmod(step, TOGETHER)
        epoch, window = divmod(window, len(self.data.targets) // (BATCH * TOGETHER))
        random = torch.Generator().manual_seed(self.seed * 7919 + epoch)
        order = torch.randperm(len(self.data.targets) // 2, generator=random).numpy()
        shared = order[window * half * TOGETHER :][: half * TOGETHER]
        shared = shared[np.argsort(self.data.kinds[2 * shared], kind="stable")]
        turn = int(torch.randperm(TOGETHER, generator=random.manual_seed(self.seed * 7919 + step // TOGETHER))[place])
        return [row for pair in shared[turn * half :][:half].tolist() for row in (2 * pair, 2 * pair + 1)]

    def _losses(self, views: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Views uint8 (b, 3, S, S), the last TWICE of the same pictures as the first TWICE; targets (b, V)."""
        with torch.autocast("cpu", torch.bfloat16):
            embedding = self.network.features(normalise(views).contiguous(memory_format=torch.channels_last)).float()
        fields = F.adaptive_avg_pool2d(views.float() / 255 - 0.5, COLOUR_GRID).flatten(1)
        unit = F.normalize(embedding, dim=1)
        cosine = unit @ unit.T - 2 * torch.eye(len(unit))  # nothing is its own twin
        some = torch.cat((torch.arange(TWICE), torch.arange(len(unit) - TWICE, len(unit))))
        twin = some.roll(TWICE)
        return {
            "tags": F.binary_cross_entropy_with_logits(self.network.head(embedding), targets, self.tag_weights),
            "apart": F.cross_entropy(cosine[some] / TEMPERATURE, twin),
            "together": (1 - cosine[some, twin]).mean(),
            "colours": F.mse_loss(self.colours(embedding), fields) / 0.06,
        }


def export(weights: dict[str, Tensor], tags: list[str], folder: Path) -> None:
    """Write the three files of a published network, the configuration last."""
    files = {
        "model.safetensors": save({name: value.half().contiguous() for name, value in weights.items()}),
        "top_tags.txt": "".join(f"{tag}\n" for tag in tags).encode(),
        "config.json": json.dumps(CONFIG | {"n_tags": len(tags)}, indent=2).encode() + b"\n",
    }
    for name, data in files.items():
        write_atomically(folder / name, lambda out, data=data: out.write(data))


if __name__ == "__main__":
    script.run(main)
