"""How to fine-tune. It stands apart from the training, which takes seconds to load, since every start of the script asks for its defaults."""

from dataclasses import dataclass

PARTS = 4  # that each fold is cut into; one of them says when a network stops


@dataclass(frozen=True)
class Settings:
    """How to train: epochs at most and without gain, blocks from the last, pictures a step, AdamW's rate."""

    epochs: int = 12
    patience: int = 4
    blocks: int = 2
    batch_size: int = 32
    rate: float = 3e-4
    folds: int = 3
    seed: int = 0
