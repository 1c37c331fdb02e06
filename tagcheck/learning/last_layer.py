"""A tagger's last layer: from an embedding to the logits of its tags."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tagger:
    """A tagger's last layer for the columns it knows: logit of `columns[v]` = weight[v] @ embedding + bias[v]."""

    columns: np.ndarray
    weight: np.ndarray
    bias: np.ndarray


def tagger_logits(tagger: Tagger, matrix: np.ndarray) -> np.ndarray:
    """The tagger's logits (m, V) for embeddings (m, d), kept within 15 of 0."""
    return np.asarray(np.clip(matrix @ tagger.weight.T + tagger.bias, -15, 15))
