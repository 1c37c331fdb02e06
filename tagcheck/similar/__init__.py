"""Unit rows: every pair above a cosine, and the nearest rows of each."""

from tagcheck.similar.nearest import top_k
from tagcheck.similar.pairs import Pairs, group_labels, near_pairs
from tagcheck.similar.unit_rows import NotFinite

__all__ = ["NotFinite", "Pairs", "group_labels", "near_pairs", "top_k"]
