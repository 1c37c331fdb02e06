"""Copies of one picture: which is best, which tags to carry over."""

from tagcheck.duplicates.tags_to_share import Support

__all__ = ["Support"]
