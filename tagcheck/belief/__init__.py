"""What is believed of every tag of every picture of a library, weighed once for all reports."""

from tagcheck.belief.of_library import Believed, Pictures, Weighed, believed, load_tagger, weigh

__all__ = ["Believed", "Pictures", "Weighed", "believed", "load_tagger", "weigh"]
