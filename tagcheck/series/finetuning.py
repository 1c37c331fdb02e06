"""Training the last blocks of the tagger's network, with a head of the owner's classes, on the pictures themselves.

What is frozen is computed once. The network is cut before its last K blocks: everything in front of the
cut gives *tokens*, the same in every epoch, fold and evaluation, for the picture as it is and for each
of a few augmented views of it. Augmentation works on pixels, in front of the cut, so that behind it
nothing random is left. Where the tokens of all views fit the space given they lie in one file
(`CachedTokens`), and an epoch costs the last blocks only; where they do not, pictures are read and
computed anew in every epoch (`StreamedTokens`), with views that never repeat.

Everything that is random in a step comes from the seed, the fold and the step's number, so that a run
that was killed goes on from its checkpoint to the very network it would have become.

Files are the caller's but for the tokens; which pictures are held out is the caller's too.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from joytag.Models import ViT, normalise

BALANCES = ("auto", "none", "weighted", "focal")
UNBALANCED = 5.0  # `auto` weighs classes from this ratio of the largest to the median one on
FOCUS = 2.0  # the exponent of focal loss (Lin et al., ICCV 2017)
SMOOTHING = 0.05  # of the target is shared out among all classes: a few tags in a hundred are wrong
WEIGHT_DECAY = 0.05
WARM_UP = 0.1  # of all steps with unfrozen blocks
CLIP = 1.0  # length of the gradient at most
FROZEN_BATCH = 256  # rows of stored embeddings in a step while the blocks are frozen
LEAST_LOG = -9.0  # of a probability: what is less is not told apart
PLAIN = -1  # the view that is the picture as it is


@dataclass(frozen=True)
class Settings:
    """How to train. Rates are learning rates of AdamW; `views` augmented views a picture where tokens are kept."""

    frozen_epochs: int = 20
    unfrozen_epochs: int = 16
    unfreeze_last_k: int = 2
    batch_size: int = 32
    head_rate: float = 2e-3
    block_rate: float = 3e-4
    balance: str = "auto"
    patience: int = 5
    views: int = 6
    seed: int = 0

    def described(self) -> dict[str, Any]:
        """All of it, for the model card."""
        return asdict(self)


# --- the network in two parts -------------------------------------------------------------------------


class Front(nn.Module):
    """What stays frozen: pixels uint8 (b, 3, S, S) -> tokens (b, t, d) at the cut before the last `last` blocks."""

    def __init__(self, network: ViT, last: int) -> None:
        super().__init__()
        self.stem, self.positions = network.patch_embeddings, network.pos_embedding
        self.blocks = network.blocks[: len(network.blocks) - last]
        self.eval().requires_grad_(False)

    @torch.no_grad()  # not inference mode: its tensors cannot be trained on
    def forward(self, pixels: Tensor) -> Tensor:
        x = self.stem(normalise(pixels).contiguous(memory_format=torch.channels_last))
        x = self.positions(x.flatten(2).transpose(1, 2))
        for block in self.blocks:
            x = block(x)
        return x


class Back(nn.Module):
    """What is trained: the last blocks and the norm, copied from `network`, and a head of `classes` on the mean token.

    The head sees embeddings with `mean` (d,) taken away and divided by `scale` (d,), which are those of
    the stored embeddings: they differ by orders of magnitude from number to number.
    """

    def __init__(self, network: ViT, last: int, classes: int, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.blocks = copy.deepcopy(network.blocks[len(network.blocks) - last :])
        self.norm = copy.deepcopy(network.norm)
        self.register_buffer("mean", mean.clone().float())
        self.register_buffer("scale", scale.clone().float())
        self.head = nn.Linear(network.d_model, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.requires_grad_(True)

    def classify(self, embedding: Tensor) -> Tensor:
        """Embeddings (b, d) -> logits (b, C)."""
        return self.head((embedding - self.mean) / self.scale)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens at the cut (b, t, d) -> logits (b, C)."""
        for block in self.blocks:
            tokens = block(tokens)
        return self.classify(self.norm(tokens).mean(dim=1))


def restored(network: ViT, last: int, arrays: dict[str, np.ndarray]) -> tuple[Front, Back]:
    """The two parts of a network that was tuned and stored as `arrays`. Raises ValueError when they do not fit `network`."""
    try:
        back = Back(
            network, last, len(arrays["head.bias"]), torch.from_numpy(arrays["mean"]), torch.from_numpy(arrays["scale"])
        )
        back.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}, strict=True)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"the tuned blocks do not fit the network: {str(error).splitlines()[0]}") from None
    return Front(network, last), back.eval().requires_grad_(False)


@dataclass(frozen=True)
class Device:
    """Where and how precisely it is computed: `mixed` lets the device multiply in bfloat16, weights stay float32."""

    device: torch.device
    mixed: bool = False

    def autocast(self) -> Any:
        """The context to compute in."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed)


# --- views and tokens ---------------------------------------------------------------------------------


class Reader(Protocol):
    """Pictures in the order of `rows`: (row, uint8 (f, 3, S, S)), or None instead where one cannot be read."""

    def __call__(self, rows: Sequence[int]) -> Iterator[tuple[int, np.ndarray | None]]: ...


def augmentation(size: int) -> v2.Transform:
    """Another view of a picture, uint8 (3, S, S) -> uint8 (3, size, size). Never mirrored: what is written, worn or
    held on one side belongs to a character there.
    """
    return v2.Compose(
        [
            v2.RandomApply(
                [v2.RandomAffine(8.0, (0.05, 0.05), fill=255, interpolation=v2.InterpolationMode.BILINEAR)], 0.5
            ),
            v2.RandomResizedCrop(size, scale=(0.55, 1.0), ratio=(0.8, 1.25), antialias=True),
            v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02),
            v2.RandomErasing(0.25, scale=(0.02, 0.15), value=255),
        ]
    )


def view(frames: np.ndarray, number: int, row: int, seed: int, change: v2.Transform) -> Tensor:
    """One view of a picture of (f, 3, S, S) frames: uint8 (3, S, S). The same number gives the same view.

    `PLAIN` is the middle frame as it is. The others go through the frames in turn.
    """
    if number == PLAIN:
        return torch.from_numpy(np.ascontiguousarray(frames[len(frames) // 2]))
    picture = torch.from_numpy(np.ascontiguousarray(frames[number % len(frames)]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed((seed * 1_000_003 + number) * 1_000_033 + row)
        return change(picture)


class Tokens(Protocol):
    """Tokens at the cut of n pictures in any of their views."""

    def batches(self, rows: np.ndarray, epoch: int, size: int) -> Iterator[tuple[np.ndarray, Tensor]]:
        """(rows (b,), tokens (b, t, d)) in the order given, in the views that belong to the epoch (`PLAIN`: as they are).

        Pictures that cannot be read are left out.
        """


class StreamedTokens:
    """Tokens computed from the pictures, anew each time they are asked for."""

    def __init__(self, front: Front, read: Reader, size: int, device: Device, seed: int) -> None:
        self.front, self.read, self.device, self.seed = front.to(device.device), read, device, seed
        self.change = augmentation(size)

    def batches(self, rows: np.ndarray, epoch: int, size: int) -> Iterator[tuple[np.ndarray, Tensor]]:
        """As `Tokens.batches`; each epoch has views of its own."""
        held: list[tuple[int, Tensor]] = []
        for row, frames in self.read(rows.tolist()):
            if frames is not None:
                held.append((row, view(frames, epoch, row, self.seed, self.change)))
            if len(held) == size:
                yield self._computed(held)
                held = []
        if held:
            yield self._computed(held)

    def compute(self, pixels: Sequence[Tensor]) -> Tensor:
        """Views uint8 (3, S, S) -> tokens (b, t, d) on the device."""
        with self.device.autocast():
            return self.front(torch.stack(list(pixels)).to(self.device.device))

    def _computed(self, held: list[tuple[int, Tensor]]) -> tuple[np.ndarray, Tensor]:
        return np.array([row for row, _ in held]), self.compute([pixels for _, pixels in held]).float()


class CachedTokens:
    """Tokens of every view in one file, float16, computed once; a run that was killed goes on filling it.

    `varied` (n,) bool: which pictures have augmented views, `views` of them; all have the plain one.
    """

    def __init__(
        self, path: Path, streamed: StreamedTokens, varied: np.ndarray, views: int, shape: tuple[int, int]
    ) -> None:
        self.streamed, self.varied, self.views = streamed, varied, views
        slots = np.where(varied, views + 1, 1)
        self.first = np.concatenate([[0], np.cumsum(slots)[:-1]])
        wanted = int(slots.sum()), *shape
        self.tokens = _mapped(path, wanted, np.float16)
        self.state = _mapped(
            path.with_name(path.name + "_state"), (len(varied),), np.uint8
        )  # 0 to do, 1 done, 2 unreadable

    @staticmethod
    def size(varied: np.ndarray, views: int, shape: tuple[int, int]) -> int:
        """Bytes that the file takes."""
        return int(np.where(varied, views + 1, 1).sum()) * shape[0] * shape[1] * 2

    def fill(self, progress: Callable[[int], None]) -> int:
        """Compute what is not there yet, telling `progress` how many pictures more; returns how many cannot be read."""
        missing = np.flatnonzero(self.state == 0)
        progress(len(self.state) - len(missing))
        for row, frames in self.streamed.read(missing.tolist()):
            if frames is not None:
                numbers = [PLAIN, *range(self.views)] if self.varied[row] else [PLAIN]
                pixels = [view(frames, number, row, self.streamed.seed, self.streamed.change) for number in numbers]
                start = self.first[row]
                self.tokens[start : start + len(numbers)] = self.streamed.compute(pixels).half().cpu().numpy()
            self.state[row] = 2 if frames is None else 1
            progress(1)
        self.tokens.flush()
        return int((self.state == 2).sum())

    def batches(self, rows: np.ndarray, epoch: int, size: int) -> Iterator[tuple[np.ndarray, Tensor]]:
        """As `Tokens.batches`; a picture goes through its views in turn, each from another one on."""
        rows = rows[self.state[rows] == 1]
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            slot = self.first[part]
            if epoch != PLAIN:
                slot = slot + np.where(self.varied[part], 1 + (epoch + part * 7919) % self.views, 0)
            yield part, torch.from_numpy(self.tokens[slot]).to(self.streamed.device.device).float()


def _mapped(path: Path, shape: tuple[int, ...], dtype: Any) -> np.memmap:
    """A file of numbers, that of an earlier run where it has this very size, else a new one of zeros."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if not path.exists() or path.stat().st_size != size:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            file.truncate(size)
    return np.memmap(path, dtype=dtype, mode="r+", shape=shape)


# --- training -----------------------------------------------------------------------------------------


@dataclass
class Progress:
    """Where a training is: everything it goes on from, and what to plot.

    `history` a row an epoch: phase, loss of training, loss and score (mean of micro- and macro-F1
    against the tags, 0 to 1) of the pictures it is stopped by.
    """

    epoch: int = 0
    step: int = 0
    summed: float = 0.0
    best_score: float = -1.0
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


class Training:
    """One network in training on `rows` (m,), stopped by its score on `held` rows (none: after `epochs` of them).

    `embeddings` (n, d) the stored ones, `targets` csr (n, C) shares of classes, rows that count sum to 1.
    """

    def __init__(
        self,
        network: ViT,
        tokens: Tokens,
        embeddings: np.ndarray,
        targets: sparse.csr_matrix,
        rows: np.ndarray,
        held: np.ndarray,
        settings: Settings,
        device: Device,
        fold: int,
        epochs: int | None = None,
    ) -> None:
        self.tokens, self.embeddings, self.targets, self.rows, self.held = tokens, embeddings, targets, rows, held
        self.settings, self.device, self.fold = settings, device, fold
        self.epochs = settings.unfrozen_epochs if epochs is None else epochs
        mean, scale = embeddings[rows].mean(axis=0), embeddings[rows].std(axis=0) + 1e-4 * embeddings[rows].std() + 1e-8
        self.back = Back(
            network, settings.unfreeze_last_k, targets.shape[1], torch.from_numpy(mean), torch.from_numpy(scale)
        )
        self.back.to(device.device)
        self.weights, self.focal = class_weights(targets[rows], settings.balance)
        self.weights = self.weights.to(device.device)
        self.at = Progress()
        self.best: dict[str, Tensor] = {}
        blocks = [*self.back.blocks.parameters(), *self.back.norm.parameters()]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": list(self.back.head.parameters()), "peak": settings.head_rate, "lr": settings.head_rate},
                {"params": blocks, "peak": settings.block_rate, "lr": settings.block_rate},
            ],
            weight_decay=WEIGHT_DECAY,
        )

    def state(self) -> dict[str, Any]:
        """Everything that training goes on from, loadable with weights_only."""
        return {
            "fold": self.fold,
            "at": asdict(self.at),
            "back": self.back.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a `state` of the same fold and settings."""
        self.back.load_state_dict(state["back"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.at, self.best = Progress(**state["at"]), state["best"]

    def run(self, tick: Callable[[Training, int], None]) -> Back:
        """Train to the end and return the network of the best epoch; `tick` hears of every step and its number of pictures."""
        if not self.at.history:
            self._train_head()
        while self.at.epoch < self.epochs and not self._stopped():
            self._train_epoch(tick)
            self._judge("unfrozen", self.at.summed / max(1, self.at.step))
            self.at.epoch, self.at.step, self.at.summed = self.at.epoch + 1, 0, 0.0
            tick(self, 0)
        if self.best:
            self.back.load_state_dict(self.best)
        return self.back.eval()

    def _stopped(self) -> bool:
        done = len(self.at.history) - 1
        return len(self.held) > 0 and done - self.at.best_epoch >= self.settings.patience

    def _train_head(self) -> None:
        """The frozen epochs: the blocks are as they were, so the stored embeddings are what they give: no picture is needed."""
        x = torch.from_numpy(self.embeddings[self.rows]).to(self.device.device)
        y = self._wanted(self.rows)
        head = torch.optim.AdamW(self.back.head.parameters(), lr=self.settings.head_rate, weight_decay=WEIGHT_DECAY)
        total = 0.0
        for epoch in range(self.settings.frozen_epochs):
            order = torch.from_numpy(self._order(-1 - epoch, len(self.rows)))
            total = 0.0
            for part in order.split(FROZEN_BATCH):
                loss = self._loss(self.back.classify(x[part]), y[part])
                head.zero_grad(set_to_none=True)
                loss.backward()
                head.step()
                total += float(loss.detach()) * len(part) / len(order)
        self._judge("frozen", total)

    def _train_epoch(self, tick: Callable[[Training, int], None]) -> None:
        """One pass over the training pictures in views of this epoch, from the step it stands at."""
        self.back.train()
        order = self.rows[self._order(self.at.epoch, len(self.rows))]
        steps = -(-len(order) // self.settings.batch_size)
        left = order[self.at.step * self.settings.batch_size :]
        for rows, tokens in self.tokens.batches(left, self.at.epoch, self.settings.batch_size):
            self._set_rates((self.at.epoch + self.at.step / steps) / max(1, self.settings.unfrozen_epochs))
            torch.manual_seed(
                (self.settings.seed * 7919 + self.fold) * 1_000_003 + self.at.epoch * 100_003 + self.at.step
            )
            with self.device.autocast():
                logits = self.back(tokens)
            loss = self._loss(logits.float(), self._wanted(rows))
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.back.parameters(), CLIP)
            self.optimizer.step()
            self.at.step += 1
            self.at.summed += float(loss.detach())
            tick(self, len(rows))

    def _set_rates(self, share: float) -> None:
        """A linear start, then half a cosine down to a fiftieth, over `share` 0 to 1 of the unfrozen epochs."""
        warm = min(1.0, share / WARM_UP) if WARM_UP else 1.0
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * (0.02 + 0.98 * warm * 0.5 * (1.0 + math.cos(math.pi * min(1.0, share))))

    def _judge(self, phase: str, trained: float) -> None:
        """Score the held pictures, and keep the network where it is the best so far."""
        row: dict[str, Any] = {"phase": phase, "epoch": len(self.at.history), "loss": round(trained, 5)}
        score = float(len(self.at.history))  # without held pictures the last epoch is the one to keep
        if len(self.held):
            log_p = (
                self.embedded_log_probabilities(self.held) if phase == "frozen" else self.log_probabilities(self.held)
            )
            wanted = self.targets[self.held].toarray()
            row["held_loss"] = round(float(-(wanted * log_p).sum(axis=1).mean()), 5)
            row["held_score"] = score = round(agreement(log_p.argmax(axis=1), wanted.argmax(axis=1)), 5)
        self.at.history.append(row)
        if score > self.at.best_score:
            self.at.best_score, self.at.best_epoch = score, row["epoch"]
            self.best = {name: value.detach().clone() for name, value in self.back.state_dict().items()}

    def embedded_log_probabilities(self, rows: np.ndarray) -> np.ndarray:
        """Log-probabilities (m, C) from the stored embeddings: what the head says while the blocks are as they were."""
        with torch.inference_mode():
            logits = self.back.classify(torch.from_numpy(self.embeddings[rows]).to(self.device.device))
        return F.log_softmax(logits.float(), dim=1).cpu().numpy()

    def log_probabilities(self, rows: np.ndarray) -> np.ndarray:
        """Log-probabilities of the classes of pictures as they are, (m, C) float32; 0 throughout for one that cannot be read."""
        return log_probabilities(self.back, self.tokens, rows, self.settings.batch_size, self.device)

    def _wanted(self, rows: np.ndarray) -> Tensor:
        wanted = torch.from_numpy(self.targets[rows].toarray().astype(np.float32)).to(self.device.device)
        return wanted * (1.0 - SMOOTHING) + SMOOTHING / wanted.shape[1]

    def _loss(self, logits: Tensor, wanted: Tensor) -> Tensor:
        log_p = F.log_softmax(logits, dim=1)
        if self.focal:
            log_p = log_p * (1.0 - log_p.detach().exp()) ** FOCUS
        weighted = wanted * self.weights
        return -(weighted * log_p).sum() / weighted.sum()

    def _order(self, epoch: int, count: int) -> np.ndarray:
        return np.random.default_rng([self.settings.seed, self.fold, epoch + (1 << 20)]).permutation(count)


def log_probabilities(back: Back, tokens: Tokens, rows: np.ndarray, batch: int, device: Device) -> np.ndarray:
    """Log-probabilities of the classes of pictures as they are, (m, C) float32; 0 throughout for one that cannot be read."""
    out = np.zeros((len(rows), back.head.out_features), dtype=np.float32)
    place = {row: at for at, row in enumerate(rows.tolist())}
    training = back.training
    back.eval()
    with torch.inference_mode():
        for found, part in tokens.batches(rows, PLAIN, batch):
            with device.autocast():
                logits = back(part)
            out[[place[row] for row in found.tolist()]] = F.log_softmax(logits.float(), dim=1).cpu().numpy()
    back.train(training)
    return np.maximum(out, LEAST_LOG)


def class_weights(targets: sparse.csr_matrix, balance: str) -> tuple[Tensor, bool]:
    """(weight of each class (C,), whether the loss is focal). `auto` weighs where the largest class is `UNBALANCED` times the
    median one; weights fall with the square root of a class's pictures and have a mean of 1 over pictures.

    >>> class_weights(sparse.csr_matrix(np.eye(2)[[0, 0, 0, 0, 1]]), "weighted")[0].numpy().round(2)
    array([0.83, 1.67], dtype=float32)
    """
    count = np.asarray(targets.sum(axis=0)).ravel()
    there = count > 0
    ones = torch.ones(len(count))
    if balance == "auto":
        balance = "weighted" if there.any() and count.max() >= UNBALANCED * np.median(count[there]) else "none"
    if balance != "weighted" or not there.any():
        return ones, balance == "focal"
    weight = np.where(there, 1.0 / np.sqrt(np.maximum(count, 1e-9)), 0.0)
    weight *= count.sum() / (weight * count).sum()
    return torch.from_numpy(weight).float(), False


def agreement(said: np.ndarray, wanted: np.ndarray) -> float:
    """Mean of micro-F1 (here the share that agrees) and macro-F1 over the classes wanted, of one class a picture, 0 to 1.

    >>> round(agreement(np.array([0, 0, 1]), np.array([0, 1, 1])), 3)
    0.667
    """
    number = int(max(said.max(initial=0), wanted.max(initial=0))) + 1
    both = np.bincount(wanted[said == wanted], minlength=number)
    has = np.bincount(wanted, minlength=number)
    f1 = 2 * both / np.maximum(np.bincount(said, minlength=number) + has, 1)
    return float((both.sum() / max(1, len(wanted)) + f1[has > 0].mean()) / 2) if len(wanted) else 0.0


# --- what is shown ------------------------------------------------------------------------------------

COLOURS = ("#15c", "#c51", "#183", "#817", "#576", "#a33")


def curves(histories: Sequence[Sequence[dict[str, Any]]], names: Sequence[str]) -> str:
    """Training curves as an SVG: losses above (dashed: on held pictures), scores below, an epoch a step, a colour a network."""
    length = max((len(one) for one in histories), default=1)
    losses = [row[key] for one in histories for row in one for key in ("loss", "held_loss") if key in row]
    highest = max(losses, default=1.0) or 1.0
    marks = []

    def line(points: list[tuple[int, float]], top: float, most: float, colour: str, dashed: bool, title: str) -> str:
        step = 480 / max(1, length - 1)
        where = " ".join(f"{60 + step * epoch:.1f},{top + 150 * (1 - value / most):.1f}" for epoch, value in points)
        style = ' stroke-dasharray="5 3"' if dashed else ""
        drawn = f'points="{where}" fill="none" stroke="{colour}"{style} stroke-width="1.5"'
        return f"<polyline {drawn}><title>{title}</title></polyline>"

    for number, (history, name) in enumerate(zip(histories, names)):
        colour = COLOURS[number % len(COLOURS)]
        for key, top, most, dashed in (
            ("loss", 20, highest, False),
            ("held_loss", 20, highest, True),
            ("held_score", 210, 1.0, True),
        ):
            points = [(row["epoch"], row[key]) for row in history if key in row]
            if points:
                marks.append(line(points, top, most, colour, dashed, f"{name}: {key.replace('_', ' ')}"))
        marks.append(f'<text x="550" y="{30 + 16 * number}" fill="{colour}">{name}</text>')
    frames = "".join(
        f'<rect x="60" y="{top}" width="480" height="150" fill="none" stroke="#444"/>'
        f'<text x="54" y="{top + 10}" text-anchor="end">{label}</text><text x="54" y="{top + 150}" text-anchor="end">0</text>'
        for top, label in ((20, f"{highest:.2f}"), (210, "1"))
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 660 400" width="990" height="600" font-family="sans-serif" '
        'font-size="12">\n<rect width="660" height="400" fill="#fff"/>'
        + frames
        + "\n"
        + "\n".join(marks)
        + '\n<text x="20" y="95" text-anchor="middle" transform="rotate(-90 20 95)">loss</text>'
        '<text x="20" y="285" text-anchor="middle" transform="rotate(-90 20 285)">score (0 to 1)</text>'
        f'<text x="300" y="385" text-anchor="middle">epochs with unfrozen blocks (0 to {length - 1}; 0: the head alone); '
        "dashed: on pictures held back</text>\n</svg>\n"
    )
