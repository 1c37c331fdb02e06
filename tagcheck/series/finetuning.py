"""Training the last blocks of the tagger's network on the owner's pictures, with a head of the owner's classes.

A few networks are trained side by side, each without a part of the near-duplicate groups: what it says of these is out
of fold. A twelfth of the pictures, of other groups again, says when it stops; of a new picture the networks' mean is
taken. What is random in a step comes from seed, epoch and step, so that a killed run goes on to the same networks.
"""

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn import functional as F

from joytag.Models import ViT, normalise
from tagcheck.embedding import joytag_network, torch_files
from tagcheck.errors import BadFile
from tagcheck.files import write_atomically
from tagcheck.series.settings import Settings

SMOOTHING = 0.05  # of the target is shared out among all classes: a few tags in a hundred are wrong
WEIGHT_DECAY, CLIP, WARM_UP = 0.05, 1.0, 0.1  # the last of all steps
HEAD_STEPS, HEAD_PENALTY, CHECKPOINT_SECONDS = 40, 1e-2, 60.0
LEAST_LOG = -9.0  # of a probability: what is less is not told apart

# The frames (f, 3, S, S) of each row asked for, in order; None where its picture cannot be read.
Reader = Callable[[Sequence[int]], Iterable[np.ndarray | None]]


@dataclass(frozen=True)
class Trained:
    """`log_p` (n, C) of each picture by the network `folds` (n,) that did not see it, zeros where it cannot be read; `known`
    (folds, C) the classes of each network, `tensors` of all, `history` a row an epoch.
    """

    log_p: np.ndarray
    folds: np.ndarray
    known: np.ndarray
    tensors: dict[str, np.ndarray]
    history: list[dict[str, Any]]


@torch.no_grad()  # not inference mode: its tensors cannot be trained on
def tokens_of(network: ViT, blocks: int, pixels: Tensor) -> Tensor:
    """What stays frozen: pixels uint8 (b, 3, S, S) -> tokens (b, t, d) in front of the last `blocks` blocks."""
    x = network.patch_embeddings(normalise(pixels).contiguous(memory_format=torch.channels_last))
    x = network.pos_embedding(x.flatten(2).transpose(1, 2))
    for block in network.blocks[: len(network.blocks) - blocks]:
        x = block(x)
    return cast(Tensor, x.float())


class Back(nn.Module):
    """What is trained: the last blocks, the norm, and a head of C classes on the mean token, standardised by `mean` and `scale`."""

    mean: Tensor
    scale: Tensor

    def __init__(self, network: ViT, blocks: int, classes: int, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.blocks = copy.deepcopy(network.blocks[len(network.blocks) - blocks :])
        self.norm = copy.deepcopy(network.norm)
        for name, one in (("mean", mean), ("scale", scale)):
            self.register_buffer(name, one.clone().float())
        self.head = nn.Linear(network.d_model, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.requires_grad_(True)

    def classify(self, embedding: Tensor) -> Tensor:
        """Embeddings (b, d) -> logits (b, C)."""
        return cast(Tensor, self.head((embedding - self.mean) / self.scale))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens in front of the blocks (b, t, d) -> logits (b, C)."""
        for block in self.blocks:
            tokens = block(tokens)
        return self.classify(self.norm(tokens).mean(dim=1))


class Training:
    """All networks of one fine-tuning of n pictures. `stored` embeddings (n, d); `targets` csr (n, C) shares of classes, rows
    without a tag empty; `parts` (n,) of `PARTS` * folds parts, a near-duplicate group in one of them.
    """

    def __init__(
        self, base: ViT, read: Reader, stored: np.ndarray, targets: csr_matrix, parts: np.ndarray, settings: Settings
    ) -> None:
        self.read, self.embeddings, self.targets = read, stored, targets
        self.settings, self.device, self.change = settings, base.head.weight.device, views(base.image_size)
        self.network, self.folds = base.eval(), parts % settings.folds
        tagged = np.asarray(targets.sum(axis=1)).ravel() > 0
        self.tagged = np.flatnonzero(tagged)
        each = np.arange(settings.folds)[:, None]
        self.held = (parts == (each + 1) % settings.folds) & tagged  # (folds, n) what says when each network stops
        self.learns = (self.folds != each) & ~self.held & tagged
        count = np.asarray(targets.sum(axis=0)).ravel()  # the weight of a class falls with the root of its pictures
        self.weights = torch.from_numpy(1.0 / np.sqrt(np.maximum(count, 1.0))).float().to(self.device)
        torch.manual_seed(settings.seed)
        self.backs = [self._back(base, np.flatnonzero(rows)) for rows in self.learns]
        decay = WEIGHT_DECAY
        self.optimizers = [torch.optim.AdamW(one.parameters(), settings.rate, weight_decay=decay) for one in self.backs]
        self.best: list[dict[str, Tensor]] = [{} for _ in self.backs]
        self.epoch = self.step = 0
        self.history: list[dict[str, Any]] = []

    def run(self, checkpoint: Path, progress: Callable[[int, float], None]) -> Trained:
        """Train to the end, or on from `checkpoint`; `progress` hears how many pictures more and the loss."""
        if checkpoint.exists():
            self._resume(torch.load(checkpoint, map_location=self.device, weights_only=True))
            progress(self.epoch * len(self.tagged) + self.step * self.settings.batch_size, math.nan)
        saved = time.monotonic()
        try:
            while self.epoch < self.settings.epochs and self._going():
                for count, loss in self._train_epoch():
                    progress(count, loss)
                    if time.monotonic() - saved > CHECKPOINT_SECONDS:
                        self._save(checkpoint)
                        saved = time.monotonic()
                self._judge()
                self.epoch, self.step = self.epoch + 1, 0
        except KeyboardInterrupt:
            self._save(checkpoint)
            raise
        for back, best in zip(self.backs, self.best):
            back.load_state_dict(best or back.state_dict())
        log_p = np.zeros(self.targets.shape, np.float32)
        for rows, found in self._plain(np.arange(len(self.folds))):
            log_p[rows] = np.maximum(found[self.folds[rows], np.arange(len(rows))], LEAST_LOG)
        known = np.array([np.asarray(self.targets[rows].sum(axis=0)).ravel() > 0 for rows in self.learns])
        states = [(f"{fold}.", back.state_dict()) for fold, back in enumerate(self.backs)]
        tensors = {front + name: one.cpu().numpy() for front, state in states for name, one in state.items()}
        return Trained(log_p, self.folds, known, tensors, self.history)

    def _train_epoch(self) -> Iterator[tuple[int, float]]:
        """One pass over the tagged pictures in new views, from the step it stands at; (pictures, mean loss) of each step."""
        size, seed, going = self.settings.batch_size, self.settings.seed, self._going()
        order = np.random.default_rng([seed, self.epoch]).permutation(self.tagged)
        frames, steps = iter(self.read(order[self.step * size :].tolist())), -(-len(order) // size)
        while self.step < steps:
            torch.manual_seed((seed * 7919 + self.epoch) * 100_003 + self.step)
            rows = order[self.step * size :][:size]
            seen = [(row, one) for row, one in zip(rows.tolist(), frames) if one is not None]
            losses = []
            if seen:
                pictures = [self.change(torch.from_numpy(one[self.epoch % len(one)].copy())) for _, one in seen]
                with autocast(self.device):
                    tokens = tokens_of(self.network, self.settings.blocks, torch.stack(pictures).to(self.device))
                found = np.array([row for row, _ in seen])
                share = (self.epoch + self.step / steps) / self.settings.epochs
                losses = [self._descend(fold, tokens, found, share) for fold in going]
            self.step += 1
            yield len(rows), float(np.mean(losses or [0.0]))

    def _descend(self, fold: int, tokens: Tensor, rows: np.ndarray, share: float) -> float:
        """One step of one network on those of `rows` that it learns from; its loss. `share` of all steps are done."""
        mine = np.flatnonzero(self.learns[fold][rows])
        if not len(mine):
            return 0.0
        back, optimizer = self.backs[fold].train(), self.optimizers[fold]
        falling = min(1.0, share / WARM_UP) * 0.5 * (1.0 + math.cos(math.pi * share))  # after a linear start
        optimizer.param_groups[0]["lr"] = self.settings.rate * (0.02 + 0.98 * falling)
        with autocast(self.device):
            logits = back(tokens[mine])
        loss = self._loss(logits.float(), rows[mine])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(back.parameters(), CLIP)
        optimizer.step()
        return float(loss.detach())

    def _judge(self) -> None:
        """The loss of each network on the pictures it is stopped by; where that is the least so far, the network is kept."""
        losses = np.zeros(len(self.backs))
        for rows, found in self._plain(np.flatnonzero(self.held.any(axis=0))):
            losses -= np.einsum("kbc,bc,kb->k", found, self.targets[rows].toarray(), self.held[:, rows])
        losses = (losses / np.maximum(1, self.held.sum(axis=1))).round(5)
        self.history.append({"epoch": self.epoch, "held_losses": losses.tolist()})
        for fold in np.flatnonzero(self._best_epochs() == self.epoch):
            self.best[fold] = {name: one.detach().clone() for name, one in self.backs[fold].state_dict().items()}

    def _best_epochs(self) -> np.ndarray:
        """The epoch of each network's least loss so far, (folds,)."""
        losses = np.array([row["held_losses"] for row in self.history] or [[0.0] * len(self.backs)])
        return np.asarray(losses.argmin(axis=0))

    def _going(self) -> list[int]:
        """The networks whose best epoch is not longer ago than `patience`."""
        return np.flatnonzero(self.epoch - self._best_epochs() <= self.settings.patience).tolist()

    def _plain(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """`log_probabilities` of its own networks."""
        return log_probabilities(self.network, self.backs, self.read, rows, self.settings.blocks)

    def _back(self, network: ViT, rows: np.ndarray) -> Back:
        """A network to be trained on `rows`, its head fitted to the stored embeddings, which are what the blocks give now."""
        spread = self.embeddings[rows].std(axis=0) + 1e-4 * self.embeddings[rows].std() + 1e-8
        mean, scale = torch.from_numpy(self.embeddings[rows].mean(axis=0)), torch.from_numpy(spread)
        back = Back(network, self.settings.blocks, self.targets.shape[1], mean, scale).to(self.device)
        inputs = torch.from_numpy(self.embeddings[rows]).float().to(self.device)
        solver = torch.optim.LBFGS(back.head.parameters(), max_iter=HEAD_STEPS, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            solver.zero_grad()
            value = self._loss(back.classify(inputs), rows) + HEAD_PENALTY * back.head.weight.pow(2).sum()
            value.backward()
            return value

        solver.step(loss)
        return back

    def _loss(self, logits: Tensor, rows: np.ndarray) -> Tensor:
        wanted = torch.from_numpy(self.targets[rows].toarray().astype(np.float32)).to(self.device)
        weighted = (wanted * (1.0 - SMOOTHING) + SMOOTHING / wanted.shape[1]) * self.weights
        return -(weighted * F.log_softmax(logits, dim=1)).sum() / weighted.sum()

    def _save(self, path: Path) -> None:
        state = {"at": [self.epoch, self.step], "history": self.history, "best": self.best}
        state |= {"backs": [one.state_dict() for one in self.backs]}
        state |= {"optimizers": [one.state_dict() for one in self.optimizers]}
        write_atomically(path, lambda out: torch_files.save(state, out))

    def _resume(self, state: dict[str, Any]) -> None:
        (self.epoch, self.step), self.history, self.best = state["at"], state["history"], state["best"]
        parts: list[Any] = [*self.backs, *self.optimizers]
        for part, saved in zip(parts, (*state["backs"], *state["optimizers"])):
            part.load_state_dict(saved)


def new_log_probabilities(
    network: ViT, tensors: Mapping[str, np.ndarray], known: np.ndarray, read: Reader, count: int, blocks: int
) -> np.ndarray:
    """The log of stored networks' mean probabilities for `count` new pictures, (count, C); zeros where one cannot be read."""
    backs, log_p = [], np.zeros((count, known.shape[1]), np.float32)
    for front in (f"{fold}." for fold in range(len(known))):
        own = {name.removeprefix(front): torch.tensor(one) for name, one in tensors.items() if name.startswith(front)}
        try:
            back = Back(network, blocks, known.shape[1], own["mean"], own["scale"])
            back.load_state_dict(own)
        except (KeyError, RuntimeError) as error:
            raise BadFile(f"the tuned blocks do not fit the network: {str(error).splitlines()[0]}") from None
        backs.append(back.to(network.head.weight.device))
    for rows, found in log_probabilities(network.eval(), backs, read, np.arange(count), blocks):
        mean = (np.exp(found) * known[:, None]).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        log_p[rows] = np.log(np.maximum(mean / mean.sum(axis=1, keepdims=True), math.exp(LEAST_LOG)))
    return log_p


@torch.no_grad()
def log_probabilities(
    network: ViT, backs: Sequence[Back], read: Reader, rows: np.ndarray, blocks: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rows that can be read (b,), float32 (networks, b, C)) of pictures as they are, in batches."""
    device = network.head.weight.device
    left = ((row, one[len(one) // 2]) for row, one in zip(rows.tolist(), read(rows.tolist())) if one is not None)
    while batch := list(islice(left, Settings.batch_size)):
        with autocast(device):
            tokens = tokens_of(network, blocks, torch.from_numpy(np.stack([one for _, one in batch])).to(device))
            found = [F.log_softmax(back.eval()(tokens).float(), dim=1).cpu().numpy() for back in backs]
        yield np.array([row for row, _ in batch]), np.stack(found)


def autocast(device: torch.device) -> torch.autocast:
    """Products in bfloat16 where the device is quicker so; weights stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=joytag_network.fast_precision(device) == "bfloat16")


def views(size: int) -> nn.Module:
    """Another view of a picture, uint8 (3, S, S) -> uint8 (3, size, size). Never mirrored: sides belong to a character."""
    from torchvision.transforms import v2  # here, since it takes a second to load and only training needs it

    turned = v2.RandomAffine(8.0, (0.05, 0.05), fill=255, interpolation=v2.InterpolationMode.BILINEAR)
    cropped = v2.RandomResizedCrop(size, scale=(0.55, 1.0), ratio=(0.8, 1.25), antialias=True)
    colours = v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02)
    erased = v2.RandomErasing(0.25, (0.02, 0.15), value=255)
    return cast(nn.Module, v2.Compose([v2.RandomApply([turned], 0.5), cropped, colours, erased]))
