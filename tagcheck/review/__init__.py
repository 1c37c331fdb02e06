"""What was found, what the owner decided, and what is still to see (review.sqlite3)."""

from tagcheck.review.queries import Filter
from tagcheck.review.store import Ask, Key, Review, start

__all__ = ["Ask", "Filter", "Key", "Review", "start"]
