"""Two views of one picture that a person would call the same: what happens to near-duplicates, in batches of tensors."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sample.plant.copies import encode

CROP, COLOUR, SCALE, JPEG = 0.5, 0.5, 0.25, 0.3  # how often each is done


def view(pixels: Tensor, boxes: Tensor, side: int, random: torch.Generator) -> Tensor:
    """Pixels uint8 (b, S, S, 3) whose pictures take `boxes` (b, 2) of the square -> uint8 (b, 3, side, side).

    Each is by chance cropped by up to 8 % a side, scaled, recoloured and recompressed; never mirrored or turned.
    """
    images = _scale(_crop(pixels.permute(0, 3, 1, 2).float(), boxes, side, random), random)
    images = _colour(images, random)
    return _jpeg(images.round_().clamp_(0, 255).to(torch.uint8), random)


def _chosen(count: int, often: float, random: torch.Generator) -> Tensor:
    return torch.rand(count, generator=random) < often


def _crop(images: Tensor, boxes: Tensor, side: int, random: torch.Generator) -> Tensor:
    count = len(images)
    cuts = torch.rand(count, 4, generator=random) * 0.08 * _chosen(count, CROP, random)[:, None]
    low, high = -boxes * (1 - 2 * cuts[:, :2]), boxes * (1 - 2 * cuts[:, 2:])  # corners in -1 .. 1, (b, 2) as x, y
    middle, half = (low + high) / 2, ((high - low) / 2).amax(1)
    line = (torch.arange(side) * 2 + 1) / side - 1
    x = middle[:, :1] + half[:, None] * line  # (b, side)
    y = middle[:, 1:] + half[:, None] * line
    grid = torch.stack((x[:, None, :].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)), dim=-1)
    across, down = (x >= low[:, :1]) & (x <= high[:, :1]), (y >= low[:, 1:]) & (y <= high[:, 1:])
    inside = across[:, None, None, :] & down[:, None, :, None]
    found = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return torch.where(inside, found, torch.full((), 255.0))


def _scale(images: Tensor, random: torch.Generator) -> Tensor:
    chosen = _chosen(len(images), SCALE, random)
    factor = float(0.5 + 0.4 * torch.rand(1, generator=random))
    if chosen.any():
        side = images.shape[-1]
        small = F.interpolate(images[chosen], scale_factor=factor, mode="area")
        images[chosen] = F.interpolate(small, size=(side, side), mode="bilinear", align_corners=False)
    return images


def _colour(images: Tensor, random: torch.Generator) -> Tensor:
    """Brightness and contrast by up to 15 %, saturation by up to 30 %."""
    count = len(images)
    chosen = _chosen(count, COLOUR, random)[:, None]
    moved = (torch.rand(count, 3, generator=random) * 2 - 1) * torch.tensor([0.15, 0.15, 0.3]) * chosen
    brightness, contrast, saturation = (1 + moved).T[..., None, None, None]
    images = images * brightness
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    images = middle + (images - middle) * contrast
    grey = (images * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    return grey + (images - grey) * saturation


def _jpeg(images: Tensor, random: torch.Generator) -> Tensor:
    """Some of them through a JPEG of quality 30 to 80."""
    for place in _chosen(len(images), JPEG, random).nonzero().flatten().tolist():
        quality = int(torch.randint(30, 81, (1,), generator=random))
        data = encode(Image.fromarray(images[place].permute(1, 2, 0).numpy()), "jpg", quality)
        images[place] = torch.from_numpy(np.array(Image.open(io.BytesIO(data)))).permute(2, 0, 1)
    return images
