"""The belief in tags, learned again by what one embedding says: a small model for a picture that comes after the detectors have run.

Two logistic regressions, of the probability that an unwritten tag is missing and that a written one is wrong, on the two ratios
that need nothing but the embedding. What neighbours, copies and the other tags say is missing, so it says less, and as the
targets are probabilities, what it says holds on average.
"""

from __future__ import annotations

import numpy as np

from tagcheck.learning.linear_probes import logit
from tagcheck.learning.logistic import logistic
from tagcheck.single_picture import SinglePicture, features
from tagcheck.tag_errors.error_model import FIT_CELLS, Cells
from tagcheck.tag_errors.evidence import Evidence

RIDGE = 1e-4  # of a coefficient, for each cell


def learn(found: Evidence, cells: Cells, error: np.ndarray) -> SinglePicture:
    """The model, from the evidence and what is believed of the cells: `error` (m,), the probability that each is wrong."""
    probe, tagger, own = found.probe, found.tagger, found.tagger_ratio
    weight = (probe.model.weights.mean(axis=0) * probe.ratio.slope.astype(np.float32)).T
    bias = (probe.model.bias.mean(axis=0) - probe.ratio.middle) * probe.ratio.slope
    columns, own_weight, own_bias = np.empty(0, np.int64), np.empty((0, weight.shape[1])), np.empty(0)
    if tagger is not None and own is not None:
        columns, own_weight = tagger.columns, tagger.weight * own.slope[:, None]
        own_bias = (tagger.bias - own.middle) * own.slope
    prior = logit(found.frequency)
    at = {name: place for place, name in enumerate(cells.names)}
    fitted = []
    for kind in (~cells.given, cells.given):
        some = np.flatnonzero(kind)
        some = some[:: max(1, len(some) // FIT_CELLS)]
        if not len(some):
            fitted.append(np.append(np.zeros(features(*np.zeros((4, 1))).shape[1] - 1), -40.0))
            continue
        learned, said, knows = (
            cells.features[some, at[name]].astype(np.float64) for name in ("probe", "tagger", "tagger_knows")
        )
        rows = features(learned, said, knows, prior[cells.column[some]])
        ridge = RIDGE * float(cells.weight[some].sum())
        fitted.append(logistic(rows, error[some], cells.weight[some].astype(np.float64), ridge))
    of_tagger = own_weight.astype(np.float32), own_bias.astype(np.float32)
    of_owner = weight.astype(np.float32), bias.astype(np.float32)
    return SinglePicture(*of_owner, columns, *of_tagger, prior.astype(np.float32), *fitted)
