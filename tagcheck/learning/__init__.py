"""Plain statistics that know no tag and no picture."""

from tagcheck.learning.last_layer import Tagger
from tagcheck.learning.linear_probes import expected_calibration_error

__all__ = ["Tagger", "expected_calibration_error"]
