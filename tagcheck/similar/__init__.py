"""Unit rows: every pair above a cosine, and the nearest rows of each."""

from tagcheck.similar.pairs import NotFinite, Pairs, group_labels, near_pairs, top_k

__all__ = ["NotFinite", "Pairs", "group_labels", "near_pairs", "top_k"]
