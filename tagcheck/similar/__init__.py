"""Unit rows: every pair above a cosine, and the nearest rows of each."""

from tagcheck.similar.nearest import top_k
from tagcheck.similar.pairs import Pairs, group_labels, near_pairs

__all__ = ["Pairs", "group_labels", "near_pairs", "top_k"]
