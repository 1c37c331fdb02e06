"""Pictures opened for tests of what is read of a file, in their full size."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from tagcheck.pictures.file_formats import Limits
from tagcheck.pictures.preparation import TURNS, Recipe, open_pictures

WHOLE = Recipe(100_000)  # of which no JPEG is decoded at a fraction


def open_image(data: bytes, recipe: Recipe = WHOLE, limits: Limits | None = None) -> Image.Image:
    """The first picture as a person sees it."""
    (found, *_) = open_pictures(data, recipe, replace(limits or Limits(), frames=1))
    turn, image = TURNS.get(found.orientation), Image.fromarray(found.rgb)
    return image.transpose(turn[0]) if turn else image
