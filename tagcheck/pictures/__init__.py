"""From a file's bytes to the square of pixels that a network was trained on."""

from tagcheck.pictures.file_formats import Limits
from tagcheck.pictures.preparation import Recipe

__all__ = ["Limits", "Recipe"]
