"""Copies of one picture: how alike their pixels are, which tags to carry over."""

from tagcheck.duplicates.tags_to_share import Support

__all__ = ["Support"]
