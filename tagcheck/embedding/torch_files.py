"""What PyTorch reads and writes of `.pt` files. It stands apart, since PyTorch takes seconds to load and most reading needs none of it."""

from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from tagcheck.pt_files import Raw


def save(document: Any, out: IO[bytes]) -> None:
    """`torch.save`, arrays of a dict as tensors, but a full disk is the `OSError` that it is: torch hides it behind a RuntimeError about
    positions.
    """
    if isinstance(document, dict):
        document = {
            name: torch.from_numpy(np.ascontiguousarray(one)) if isinstance(one, np.ndarray) else one
            for name, one in document.items()
        }
    try:
        torch.save(document, out)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def load(path: Path) -> Any:
    """What a file holds, its tensors as `Raw`: one, or those of a dict, but those of no plain numbers or of more than the file has bytes
    for. Raises whatever torch raises.
    """
    document = torch.load(path, map_location="cpu", weights_only=True)
    most = path.stat().st_size
    if isinstance(document, dict):
        return {name: _plain(one, most) for name, one in document.items()}
    return _plain(document, most)


def _plain(one: Any, most: int) -> Any:
    if not torch.is_tensor(one) or one.layout != torch.strided or one.is_complex() or one.is_quantized:
        return one
    if one.numel() * one.element_size() > most:
        return one
    flat = one.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    return Raw(str(one.dtype).removeprefix("torch."), tuple(one.shape), flat)
