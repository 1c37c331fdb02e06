"""Which series a picture is from, or none of the owner's."""

from tagcheck.series.classifier_files import Classifier
from tagcheck.series.labels import Labels

__all__ = ["Classifier", "Labels"]
