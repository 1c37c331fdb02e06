"""Which tags of which pictures are likely missing or wrong, and why."""

from tagcheck.tag_errors.suggestions import Examined, Suggestion
from tagcheck.tag_errors.tag_rules import Rules

__all__ = ["Examined", "Rules", "Suggestion"]
