"""The series classifier's numbers: scores, folds, probabilities, abstention, confidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import expit
from series_library import Drawn, draw
from sklearn.metrics import f1_score, roc_auc_score
from torch.nn.functional import logsigmoid

from tagcheck.learning import linear_probes
from tagcheck.learning.linear_probes import expected_calibration_error
from tagcheck.learning.same_class_model import fit_plda
from tagcheck.series import out_of_fold, probabilities, scoring, tagger_says
from tagcheck.series.labels import FOLDS, Labels, group_counts, label_images, spread_folds
from tagcheck.series.labels import learned as labels_learned
from tagcheck.series.mixing import FREE, NO_CANDIDATE, Likelihood, fit_mixing, shares
from tagcheck.tag_columns import tag_columns, values_at


def learn(drawn: Drawn, folds: np.ndarray | None = None):
    """(labels, folded, mixing, predictions, true series as a place in labels.series or -1)."""
    labels = label_images(drawn.tag_sets(), drawn.groups)
    if folds is None:
        folds = linear_probes.grouped_folds(drawn.groups, FOLDS, 0)
        folds = spread_folds(folds, drawn.groups, labels)
    folded, _ = out_of_fold.out_of_fold(drawn.matrix, labels, folds)
    mixing = fit_mixing(folded, labels)
    said = probabilities.predictions(folded.candidates, mixing, labels.contains(), labels.tags)
    place = {name: at for at, name in enumerate(labels.series)}
    return labels, folded, mixing, said, np.array([place.get(f"series:s{one}", -1) for one in drawn.truth])


def highest(said: probabilities.Predictions) -> tuple[np.ndarray, np.ndarray]:
    """(the likeliest series of each picture, its probability)."""
    return np.asarray(said.chance.argmax(axis=1)).ravel(), said.chance.max(axis=1).toarray().ravel()


def predicted_first(said: probabilities.Predictions) -> np.ndarray:
    """The likeliest series of each picture where it is predicted, -1 where nothing is."""
    likeliest, probability = highest(said)
    return np.where(probability >= probabilities.PREDICT_FROM, likeliest, -1)


@pytest.fixture(scope="module")
def library() -> Drawn:
    return draw(series=12, pictures=1200, seed=3)


@pytest.fixture(scope="module")
def learned(library: Drawn):
    return learn(library)


def by_torch(likelihood: Likelihood, at: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """(probability of each candidate and, last, of none (n, K + 1), log-likelihood of each tag (n,))."""
    found, kind = likelihood.found, torch.from_numpy(likelihood.kind)
    present, features = torch.from_numpy(found.present), torch.from_numpy(found.features.astype(np.float64))
    logits = torch.where(present, features @ at["weights"], NO_CANDIDATE)
    none = torch.from_numpy(likelihood.against) @ at["none"]
    none = none + at["agreement"] * torch.log_softmax(logits, dim=1).amax(dim=1)
    p = torch.softmax(torch.column_stack([logits, none]), dim=1)
    forgotten, swapped = torch.sigmoid(at["forgotten"])[kind], torch.sigmoid(at["swapped"])
    unknown, own = p[:, -1], (p[:, :-1] * torch.from_numpy(likelihood.hit)).sum(dim=1)
    tagged = (1.0 - swapped) * own + swapped * torch.from_numpy(likelihood.chance) * (1.0 - unknown)
    bare = torch.where(torch.from_numpy(likelihood.struck), unknown, unknown + (1.0 - unknown) * forgotten)
    return p, torch.log(torch.where(torch.from_numpy(likelihood.has), tagged * (1.0 - forgotten), bare))


def test_the_likelihood_and_its_slopes_are_those_that_pytorch_finds(learned):
    """Of pictures of both kinds, some without a candidate, at numbers far from those where the search begins."""
    labels, folded, *_ = learned
    found, own = folded.candidates.rows(np.arange(0, 1200, 3)), labels.single[::3]
    bare = np.flatnonzero(own < 0)[::4]
    found.classes[bare], found.features[bare], found.features[::2, 0, scoring.COMPANIONS] = -1, 0.0, 1.0
    likelihood = Likelihood(found, own, np.full(len(labels.classes), 0.05))
    rng = np.random.default_rng(0)
    at = {name: np.array(start) + rng.normal(size=len(start)) / 5 for name, (start, *_) in likelihood.free.items()}
    free = {name: torch.tensor(one, requires_grad=True) for name, one in at.items()}
    p, each = by_torch(likelihood, free)
    total = (torch.from_numpy(likelihood.weight) * each).sum()
    value, slopes = likelihood.of(at)
    assert value == pytest.approx(float(total.detach()), rel=1e-10)
    for name, theirs in zip(free, torch.autograd.grad(total, list(free.values()))):
        assert np.allclose(slopes[name], theirs.numpy(), rtol=1e-8, atol=1e-8) and slopes[name].any(), name
    among, odds = shares(likelihood.found, at)
    ours = np.column_stack([among * expit(-odds)[:, None], expit(odds)])
    some = likelihood.found.present.any(axis=1)
    assert np.allclose(ours[some], p.detach().numpy()[some], rtol=1e-10, atol=1e-12)


def sums(matrix: np.ndarray, classes: np.ndarray, number: int):
    mean = matrix.mean(axis=0)
    centred = matrix - mean
    member = np.eye(number)[classes]
    return mean, centred.T @ centred, member.T @ centred, member.sum(axis=0)


def test_plda_scores_are_the_ratio_of_two_gaussian_densities():
    drawn = draw(series=5, pictures=200, unknown=0, forgotten=0, seed=1)
    model = fit_plda(*sums(drawn.matrix, drawn.truth, 5))
    z = model.project(drawn.matrix[:20])
    unknown = stats.multivariate_normal(np.zeros(z.shape[1]), np.diag(1 + model.between)).logpdf(z)
    slow = np.stack(
        [stats.multivariate_normal(model.means[c], np.diag(model.variances[c])).logpdf(z) - unknown for c in range(5)],
        axis=1,
    )
    assert model.scores(z) == pytest.approx(slow, rel=1e-3, abs=1e-3)


def test_within_a_class_the_projected_variance_is_one():
    drawn = draw(series=4, pictures=4000, unknown=0, forgotten=0, swapped=0, duplicates=0, seed=2)
    model = fit_plda(*sums(drawn.matrix, drawn.truth, 4))
    z = model.project(drawn.matrix)
    for one in range(4):
        assert z[drawn.truth == one].var(axis=0) == pytest.approx(np.ones(z.shape[1]), abs=0.2)


def test_a_class_without_pictures_is_never_the_best():
    drawn = draw(series=4, pictures=100, unknown=0, forgotten=0)
    model = fit_plda(*sums(drawn.matrix, drawn.truth, 6))
    assert np.isneginf(model.scores(model.project(drawn.matrix))[:, 4:]).all()


def test_one_picture_makes_a_class_that_is_less_sure_of_itself():
    drawn = draw(series=4, pictures=300, unknown=0, forgotten=0)
    classes = drawn.truth.copy()
    classes[0] = 4
    model = fit_plda(*sums(drawn.matrix, classes, 5))
    assert (model.variances[4] > model.variances[0]).all()
    assert (model.variances[0] > 1).all()


def test_plda_needs_two_classes():
    with pytest.raises(ValueError, match="fewer than two"):
        fit_plda(np.zeros(3), np.eye(3), np.ones((2, 3)), np.array([4, 0]))


def test_sets_of_series_that_come_often_are_a_class_and_rare_ones_are_shared():
    both, other = frozenset({"series:a", "series:b"}), frozenset({"series:a", "series:c"})
    tag_sets = [both, both, both, other, frozenset({"series:a"}), frozenset()]
    labels = label_images(tag_sets, np.arange(6))
    assert labels.series == ("series:a", "series:b", "series:c")
    assert labels.classes == ((0,), (1,), (2,), (0, 1))
    assert labels.membership.toarray()[[0, 3, 4, 5]].tolist() == [
        [0, 0, 0, 1],
        [0.5, 0, 0.5, 0],
        [1, 0, 0, 0],
        [0, 0, 0, 0],
    ]
    assert labels.single.tolist() == [3, 3, 3, -1, 0, -1]


def test_two_series_that_meet_now_and_then_are_no_class():
    alone, both = frozenset({"series:b"}), frozenset({"series:a", "series:b"})
    for apart, classes in ((3, 3), (4, 2)):  # three of six pictures of the rarer one, then of seven
        tag_sets = [both] * 3 + [alone] * apart + [frozenset({"series:a"})] * 9
        assert len(label_images(tag_sets, np.arange(len(tag_sets))).classes) == classes


def test_near_duplicates_do_not_make_a_set_frequent():
    both = frozenset({"series:a", "series:b"})
    assert len(label_images([both, both, both], np.array([0, 0, 0])).classes) == 2


def test_a_series_of_two_groups_never_stands_in_one_fold_alone():
    tag_sets = [frozenset({"series:a"})] * 6 + [frozenset({"series:b"})] * 2 + [frozenset({"series:lonely"})] * 2
    groups = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 8])
    labels = label_images(tag_sets, groups)
    folds = spread_folds(np.array([0, 0, 0, 1, 1, 1, 1, 1, 0, 0]), groups, labels)
    assert folds[6] != folds[7]
    assert folds[8] == folds[9], "a group is never split"
    mixed = label_images([{"series:a"}, {"series:b"}, {"series:a", "series:b"}, *[()] * 4], np.arange(7))
    folds = spread_folds(np.array([0, 1, 1, 1, 1, 2, 2]), np.arange(7), mixed)
    assert folds[2] not in (folds[0], folds[1]), "what is moved for one series may have held another apart"


def test_out_of_fold_scores_are_those_of_a_model_fitted_without_the_fold():
    drawn = draw(series=4, pictures=150, seed=5)
    labels = label_images(drawn.tag_sets(), drawn.groups)
    folds = linear_probes.grouped_folds(drawn.groups, 5, 0)
    folded, _ = out_of_fold.out_of_fold(drawn.matrix, labels, folds)
    own = labels.single
    train = (folds != 2) & (own >= 0)
    model = fit_plda(*sums(drawn.matrix[train].astype(np.float64), own[train], len(labels.classes)))
    for row in np.flatnonzero(folds == 2)[:10]:
        slow = model.scores(model.project(drawn.matrix[row : row + 1]))[0]
        found = folded.candidates
        there = found.classes[row] >= 0
        assert found.features[row, there, 0] == pytest.approx(slow[found.classes[row, there]], rel=2e-2, abs=0.05)


def test_predictions_agree_with_the_truth(library, learned):
    labels, _, _, said, truth = learned
    first = predicted_first(said)
    assert f1_score(truth, first, labels=range(len(labels.series)), average="micro") > 0.93
    assert f1_score(truth, first, labels=range(len(labels.series)), average="macro") > 0.88


def test_pictures_of_unknown_series_are_flagged(learned):
    *_, said, truth = learned
    assert roc_auc_score(truth < 0, said.unknown) > 0.95


def test_probabilities_mean_what_they_say(learned):
    *_, said, truth = learned
    likeliest, probability = highest(said)
    right = (likeliest == truth) & (truth >= 0)
    assert expected_calibration_error(probability, right) < 0.05
    assert expected_calibration_error(said.unknown, truth < 0) < 0.05


def test_how_often_tags_are_forgotten_or_swapped_is_found_from_the_library_itself(library, learned):
    mixing = learned[2]
    known = library.truth < library.series
    assert mixing.unknown[0] == pytest.approx((~known).mean(), abs=0.04)
    assert mixing.forgotten[0] == pytest.approx((library.tagged[known] < 0).mean(), abs=0.04)
    swapped = (library.tagged >= 0) & (library.tagged != library.truth)
    assert float(mixing.swapped[0]) == pytest.approx(swapped.sum() / (library.tagged >= 0).sum(), abs=0.02)


def test_probabilities_of_candidates_and_none_sum_to_one(learned):
    _, folded, mixing, _, _ = learned
    p, none = mixing.probabilities(folded.candidates)
    assert p.sum(axis=1) + none == pytest.approx(np.ones(len(p)), abs=1e-5)
    assert (p[~folded.candidates.present] == 0).all()


def test_the_order_of_the_pictures_changes_nothing(library):
    small = draw(series=5, pictures=200, seed=8)
    labels = label_images(small.tag_sets(), small.groups)
    folds = linear_probes.grouped_folds(small.groups, 5, 0)
    said = learn(small, folds)[3]
    turned = np.random.default_rng(0).permutation(200)
    other = Drawn(small.matrix[turned], small.truth[turned], small.tagged[turned], small.groups[turned], small.series)
    again = learn(other, folds[turned])[3]
    assert again.unknown == pytest.approx(said.unknown[turned], abs=2e-3)
    assert len(labels.series) == 5


def test_duplicates_leak_through_random_folds_and_not_through_ours():
    """Tags drawn by lot cannot be predicted, unless a copy of the picture with the same lot was seen."""
    drawn = draw(series=6, pictures=240, unknown=0, forgotten=0, swapped=0, duplicates=0, noise=1.5, seed=4)
    rng = np.random.default_rng(0)
    lot = rng.integers(0, 6, 240)
    twice = Drawn(
        np.concatenate([drawn.matrix, drawn.matrix + rng.normal(size=drawn.matrix.shape).astype(np.float32) * 1e-3]),
        np.tile(lot, 2),
        np.tile(lot, 2),
        np.tile(np.arange(240), 2),
        6,
    )

    def hits(folds: np.ndarray) -> float:
        _labels, folded, _, _, truth = learn(twice, folds)
        best = folded.candidates.features[:, :, 0].argmax(axis=1)
        return float((folded.candidates.classes[np.arange(480), best] == truth).mean())

    grouped = hits(linear_probes.grouped_folds(twice.groups, 10, 0))
    random = hits(np.random.default_rng(1).integers(0, 10, 480))
    assert grouped < 0.25, "one in six by chance"
    assert random > 1.5 * grouped


def test_a_series_whose_pictures_are_one_group_is_said_to_be_unlearned():
    drawn = draw(series=4, pictures=120, unknown=0, forgotten=0, swapped=0, duplicates=0)
    drawn.tagged[:2], drawn.groups[1] = 9, 0
    labels, _, _, said, _ = learn(drawn)
    lonely = labels.series.index("series:s9")
    counts = group_counts(labels, drawn.groups)
    known = labels_learned(labels, counts)
    assert counts[lonely] == 1
    assert known[0, lonely] == known[1, lonely] == 0
    assert known[2:].sum() == labels.tags[2:].sum()
    assert said.chance[0, lonely] == said.chance[1, lonely] == 0


def test_nearness_is_the_highest_cosine_with_an_exemplar_of_the_class():
    rng = np.random.default_rng(0)
    z, exemplars, starts = rng.normal(size=(5, 8)), linear_probes.unit_rows(rng.normal(size=(9, 8))), [0, 2, 5]
    model = scoring.Model(None, exemplars, np.array(starts), None, None)
    found = scoring.nearness(model, z)
    for row, one in np.ndindex(5, 3):
        mine = exemplars[starts[one] : [2, 5, 9][one]]
        assert found[row, one] == pytest.approx((mine @ z[row]).max() / np.linalg.norm(z[row]), abs=1e-6)


def test_exemplars_are_of_the_class_they_stand_for():
    own = np.array([2, 0, -1, 2, 0, 2, 1])
    rows, starts = scoring.pick_exemplars(own, np.array([0, 1, 2, 3, 5]), 4)
    assert [sorted(some.tolist()) for some in np.split(rows, starts[1:])] == [[1], [], [0, 3, 5], []]


def test_a_series_of_two_looks_is_learned_as_well():
    """Characters of one series look different: its mean is like none of them."""
    drawn = draw(series=6, pictures=600, unknown=0, forgotten=0, swapped=0, duplicates=0, noise=0.3, seed=2)
    drawn.tagged, drawn.truth, drawn.series = drawn.tagged // 2, drawn.truth // 2, 3
    _labels, _, _, said, truth = learn(drawn)
    assert f1_score(truth, predicted_first(said), average="macro", labels=range(3)) > 0.97


def characters() -> tuple[Drawn, np.ndarray, list[str]]:
    """A library whose series hardly differ but for a direction that the tagger reads: (library, tagger's weight, its tags)."""
    drawn = draw(series=10, pictures=300, unknown=0.2, forgotten=0, swapped=0, duplicates=0, noise=2.0, seed=9)
    rng = np.random.default_rng(1)
    weight = np.concatenate([np.zeros((10, 32)), np.eye(10)], axis=1)
    sees = (drawn.truth[:, None] == np.arange(10)) & (rng.random((300, 1)) < 0.9)
    drawn.matrix = np.concatenate([drawn.matrix, sees * 9.0 - 6 + rng.normal(size=(300, 10)) * 0.5], axis=1).astype(
        np.float32
    )
    return drawn, weight.astype(np.float32), ["s0_(series)", *(f"heroine_{number}" for number in range(1, 10))]


def test_the_taggers_tags_speak_for_the_series_they_name_or_belong_to():
    drawn, weight, names = characters()
    labels = label_images(drawn.tag_sets(), drawn.groups)
    tagger = tagger_says.listen(drawn.matrix, weight, np.zeros(10, np.float32), names, labels)
    assert [labels.series[place] if place >= 0 else None for place in tagger.named] == ["series:s0", *[None] * 9]
    prior = tagger.prior(labels, np.arange(300))
    spoken_for = {labels.series[one] for one in prior.means}
    assert {"series:s0", "series:s1", "series:s2"} <= spoken_for
    heroine = int(np.flatnonzero(prior.means == labels.series.index("series:s1"))[0])
    assert prior.weight[heroine].tolist() == weight[1].tolist()
    unseen = tagger.prior(labels, np.flatnonzero(drawn.truth != 1))
    assert labels.series.index("series:s1") not in unseen.means, "rules are learned from the given pictures alone"


def test_evidence_is_the_loudest_tag_of_the_class():
    rng = np.random.default_rng(0)
    prior = tagger_says.Prior(rng.normal(size=(5, 3)), rng.normal(size=5), np.array([-2, 1, 1, 3, 6]))
    matrix, classes = rng.normal(size=(5, 3)) * 3, np.array([[1, 3], [0, 6], [6, -1], [3, 1], [7, 2]])
    found = prior.evidence(matrix, classes)
    for row, column in np.ndindex(classes.shape):
        mine = np.flatnonzero(prior.means == classes[row, column])
        logits = (prior.weight[mine] @ matrix[row] + prior.bias[mine]).tolist()
        assert found[row, column] == pytest.approx(np.clip(max(logits, default=-9) + 3, 0, 6), abs=1e-5)


def test_what_the_tagger_knows_helps_where_a_series_has_few_pictures():
    drawn, weight, names = characters()
    labels = label_images(drawn.tag_sets(), drawn.groups)
    folds = spread_folds(linear_probes.grouped_folds(drawn.groups, 10, 0), drawn.groups, labels)
    place = {name: at for at, name in enumerate(labels.series)}
    truth = np.array([place.get(f"series:s{one}", -1) for one in drawn.truth])
    macro, fits = [], []
    for tagger in (None, tagger_says.listen(drawn.matrix, weight, np.zeros(10, np.float32), names, labels)):
        folded, _ = out_of_fold.out_of_fold(drawn.matrix, labels, folds, tagger=tagger)
        said = probabilities.predictions(folded.candidates, fit_mixing(folded, labels), labels.contains())
        first = predicted_first(said)
        macro.append(f1_score(truth, first, labels=range(len(labels.series)), average="macro", zero_division=0))
        right = values_at(said.chance, np.flatnonzero(truth >= 0), truth[truth >= 0])
        fits.append(np.log(np.maximum(right, 1e-3)).mean())
    assert fits[1] > fits[0], "what is true is more probable"
    assert min(macro) > 0.9


def knowing() -> tuple[Drawn, np.ndarray, np.ndarray, list[str], list[str | None]]:
    """A library of six series and nine unknown ones, and a tagger that knows half of them by name:
    (library, weight, bias, names, what each would be called by the owner).
    """
    drawn = draw(series=6, pictures=900, unknown=0.35, forgotten=0.05, swapped=0.03, duplicates=0, noise=0.3, seed=21)
    rng = np.random.default_rng(3)
    numbers = [0, 2, 4, 6, 7]  # 0, 2 and 4 are the owner's
    shown = (drawn.truth[:, None] == np.array(numbers)) & (rng.random((900, 5)) < 0.85)
    shown |= rng.random((900, 5)) < 0.01
    drawn.matrix = np.concatenate([drawn.matrix, shown * 6.0 + rng.normal(size=(900, 5))], axis=1).astype(np.float32)
    weight = np.concatenate([np.zeros((5, 32)), 1.5 * np.eye(5)], axis=1).astype(np.float32)
    return (
        drawn,
        weight,
        np.full(5, -5, np.float32),
        [f"s{one}" for one in numbers],
        [f"series:s{one}" for one in numbers],
    )


def test_series_without_a_picture_of_the_owners_are_named_by_the_tagger_as_far_as_it_was_right_where_that_is_known():
    drawn, weight, bias, names, called = knowing()
    labels = label_images(drawn.tag_sets(), drawn.groups)
    folds = spread_folds(linear_probes.grouped_folds(drawn.groups, 10, 0), drawn.groups, labels)
    tagger = tagger_says.listen(drawn.matrix, weight, bias, names, labels, None, called)
    assert tagger.foreign_names == tuple(sorted(called))
    folded, model = out_of_fold.out_of_fold(drawn.matrix, labels, folds, tagger=tagger)
    assert {tagger.foreign_names[-1 - one] for one in model.prior.means if one < 0} == {"series:s6", "series:s7"}
    mixing = fit_mixing(folded, labels)
    said = probabilities.predictions(folded.candidates, mixing, labels.contains())
    named = np.array([tagger.foreign_names[one] if one >= 0 else "" for one in said.foreign])
    truth = np.array([f"series:s{one}" for one in drawn.truth])
    sure = said.foreign_probability >= probabilities.PREDICT_FROM
    assert (named == truth)[sure].mean() > 0.85
    assert sure[np.isin(truth, ["series:s6", "series:s7"])].mean() > 0.7
    assert expected_calibration_error(said.foreign_probability, named == truth) < 0.06
    assert (said.foreign_probability <= said.unknown).all()


def test_a_tagger_that_is_wrong_about_the_owners_series_is_not_believed_about_others():
    drawn, weight, bias, _names, called = knowing()
    labels = label_images(drawn.tag_sets(), drawn.groups)
    folds = spread_folds(linear_probes.grouped_folds(drawn.groups, 10, 0), drawn.groups, labels)
    mixed = ["series:s2", "series:s4", "series:s0", "series:s7", "series:s6"]
    trust = []
    for names_now in (called, mixed):
        tagger = tagger_says.listen(
            drawn.matrix, weight, bias, [name[7:] for name in names_now], labels, None, names_now
        )
        folded, _ = out_of_fold.out_of_fold(drawn.matrix, labels, folds, tagger=tagger)
        slope, offset = fit_mixing(folded, labels).trust
        trust.append(float(expit(slope * 4.0 + offset)))
    assert trust[0] > 0.9 and trust[1] < trust[0] - 0.25


def forgetful() -> tuple[Labels, out_of_fold.Folded, np.ndarray]:
    """A library in which who forgets the series mostly forgets the characters as well: (labels, folded, true series)."""
    drawn = draw(series=6, pictures=2000, unknown=0.3, forgotten=0, swapped=0.02, duplicates=0, noise=0.7, seed=11)
    rng = np.random.default_rng(5)
    tagged = rng.random(2000) < 0.8
    lost = rng.random(2000) < 0.2
    drawn.tagged[lost] = -1
    names = [f"character:{one}{letter}" for one in range(12) for letter in "abc"]
    shown = tagged & ~(lost & (rng.random(2000) < 0.9)) & ((drawn.truth < 6) | (rng.random(2000) < 0.2))
    people = [[names[3 * one + rng.integers(3)]] if has else [] for one, has in zip(drawn.truth, shown)]
    beside = tag_columns(people, names)
    labels = label_images(drawn.tag_sets(), drawn.groups)
    folds = spread_folds(linear_probes.grouped_folds(drawn.groups, 10, 0), drawn.groups, labels)
    folded, _ = out_of_fold.out_of_fold(drawn.matrix, labels, folds, beside=beside)
    place = {name: at for at, name in enumerate(labels.series)}
    return labels, folded, np.array([place.get(f"series:s{one}", -1) for one in drawn.truth])


def test_who_forgets_the_series_forgets_the_characters_too_so_pictures_with_and_without_them_are_told_apart():
    labels, folded, truth = forgetful()
    accompanied = (folded.candidates.features[..., scoring.COMPANIONS] > 0).any(axis=1)
    mixing = fit_mixing(folded, labels)
    said = probabilities.predictions(folded.candidates, mixing, labels.contains())
    known, bare = truth >= 0, ~labels.tagged
    for kind, unknown, forgotten in zip((~accompanied, accompanied), mixing.unknown, mixing.forgotten):
        assert unknown == pytest.approx((~known)[kind].mean(), abs=0.06)
        assert forgotten == pytest.approx(bare[kind & known].mean(), abs=0.06)
    likeliest, probability = highest(said)
    rows = np.flatnonzero(bare & (probability > 0))
    untagged = probability[rows] * said.forgotten[rows]
    confidence = untagged / ((1.0 - said.unknown[rows]) * said.forgotten[rows] + said.unknown[rows])
    assert expected_calibration_error(confidence, likeliest[rows] == truth[rows], low=0.1) < 0.1


def test_the_likeliest_series_is_as_sure_as_it_is_right_also_among_many():
    drawn = draw(series=10, pictures=3000, unknown=0, forgotten=0, swapped=0.03, duplicates=0, noise=1.5, seed=8)
    _labels, folded, mixing, _said, truth = learn(drawn)
    p, unknown = mixing.probabilities(folded.candidates)
    among = p / (1.0 - unknown)[:, None]
    right = folded.candidates.classes[np.arange(len(p)), p.argmax(axis=1)] == truth
    assert expected_calibration_error(among.max(axis=1), right) < 0.03
    assert unknown.mean() < 0.05, "all have a tag, so hardly any is unknown"


def test_a_character_that_the_owner_tags_speaks_for_its_series_where_the_embedding_does_not():
    drawn = draw(series=8, pictures=500, unknown=0.2, forgotten=0.05, swapped=0.03, duplicates=0, noise=3.0, seed=4)
    labels = label_images(drawn.tag_sets(), drawn.groups)
    rng = np.random.default_rng(0)
    names = [f"character:c{one}" for one in range(12)]
    beside = tag_columns([[names[one]] if rng.random() < 0.6 else [] for one in drawn.truth], names)
    folds = spread_folds(linear_probes.grouped_folds(drawn.groups, 10, 0), drawn.groups, labels)
    place = {name: at for at, name in enumerate(labels.series)}
    truth = np.array([place.get(f"series:s{one}", -1) for one in drawn.truth])
    scores = []
    for now in (None, beside):
        folded, model = out_of_fold.out_of_fold(drawn.matrix, labels, folds, beside=now)
        said = probabilities.predictions(folded.candidates, fit_mixing(folded, labels), labels.contains())
        scores.append(f1_score(truth, predicted_first(said), labels=range(8), average="micro"))
    assert scores[1] > scores[0] + 0.15
    assert model.companions.shape == (12, len(labels.classes))
    few = tagger_says.companion_ratios(beside, labels, np.flatnonzero(drawn.truth != 2))
    assert few[:, labels.series.index("series:s2")].nnz <= 2, (
        "learned from the pictures given alone, but for their swapped tags"
    )


def test_series_that_always_come_together_are_predicted_together():
    drawn = draw(series=5, pictures=400, unknown=0, forgotten=0, swapped=0, duplicates=0, seed=6)
    tag_sets = [tags | {"series:franchise"} if "series:s1" in tags else tags for tags in drawn.tag_sets()]
    labels = label_images(tag_sets, drawn.groups)
    folds = linear_probes.grouped_folds(drawn.groups, 10, 0)
    folded, _ = out_of_fold.out_of_fold(drawn.matrix, labels, folds)
    said = probabilities.predictions(folded.candidates, fit_mixing(folded, labels), labels.contains())
    wanted = {labels.series.index("series:s1"), labels.series.index("series:franchise")}
    rows = np.flatnonzero(drawn.truth == 1)
    together = [set(said.predicted[row].indices.tolist()) == wanted for row in rows]
    assert np.mean(together) > 0.9


def test_agreement_is_what_counting_gives(learned, library):
    labels, _, mixing, said, _ = learned
    known = labels_learned(labels, group_counts(labels, library.groups))
    scores = probabilities.agreement(said, labels, known, float(mixing.swapped[0]))
    both = said_of = has = 0
    for row, tags in enumerate(library.tag_sets()):
        if tags:
            predicted = {labels.series[place] for place in said.predicted[row].indices}
            both, said_of, has = both + len(predicted & tags), said_of + len(predicted), has + len(tags)
    assert scores["micro_f1"] == pytest.approx(2 * both / (said_of + has), abs=1e-4)
    assert scores["series_judged"] == 12


def test_two_series_of_two_pictures_are_enough_to_learn_from():
    drawn = draw(series=2, pictures=4, unknown=0, forgotten=0, swapped=0, duplicates=0)
    drawn.tagged[:] = [0, 0, 1, 1]
    labels = label_images(drawn.tag_sets(), np.arange(4))
    folds = spread_folds(np.array([0, 1, 0, 1]), np.arange(4), labels)
    folded, _ = out_of_fold.out_of_fold(drawn.matrix, labels, folds)
    said = probabilities.predictions(folded.candidates, fit_mixing(folded, labels), labels.contains(), labels.tags)
    assert np.isfinite(said.chance.data).all() and np.isfinite(said.unknown).all()
    start = fit_mixing(folded, labels, among=np.zeros(4, dtype=bool))
    assert start.weights.tolist() == list(FREE["weights"][0]), "nothing to learn from leaves all where it began"


def test_pictures_that_differ_by_less_than_numbers_are_rounded_by_are_learned_from():
    rng = np.random.default_rng(0)
    one = 3 * rng.normal(size=16)
    matrix = (one + 1e-4 * rng.normal(size=(250, 16))).astype(np.float16).astype(np.float32)
    matrix[-2:] = -one
    tag_sets = [frozenset({f"series:{row // 2}"}) for row in range(248)] + [frozenset()] * 2
    labels = label_images(tag_sets, np.arange(250))
    folded, _ = out_of_fold.out_of_fold(matrix, labels, np.arange(250) % 5)
    assert np.isfinite(folded.candidates.features).all()


def test_one_series_alone_is_refused():
    drawn = draw(series=1, pictures=20, unknown=0, forgotten=0, swapped=0, duplicates=0)
    labels = label_images(drawn.tag_sets(), np.arange(20))
    with pytest.raises(ValueError, match="fewer than two classes"):
        out_of_fold.out_of_fold(drawn.matrix, labels, np.arange(20) % 4)
