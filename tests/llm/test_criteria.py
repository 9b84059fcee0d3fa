"""Label-free criteria against few-line computations of their own."""

from collections import Counter
from itertools import combinations
from math import log

import numpy as np
import pytest

from fute_sklearn.llm import criteria


def entropy(row):
    return -sum(p * log(p) for p in row if p > 0)


def mutual_information(prompt):
    return entropy(np.mean(prompt, 0)) - np.mean([entropy(row) for row in prompt])


def local_entropy(prompt):
    return np.mean([entropy(row) for row in prompt])


def global_entropy(prompt):
    shares = Counter(list(row).index(max(row)) for row in prompt)
    return entropy([count / len(prompt) for count in shares.values()])


def voters(proba):
    """The upper of two clusters, found by trying every pair of groups."""
    margins = [np.mean([a - b for *_, b, a in map(sorted, p)]) for p in proba]
    best, chosen = np.inf, list(range(len(margins)))
    for size in range(1, len(margins)):
        for up in combinations(range(len(margins)), size):
            down = [i for i in range(len(margins)) if i not in up]
            if min(margins[i] for i in up) <= max(margins[i] for i in down):
                continue
            spread = sum(
                np.sum(
                    (
                        np.array([margins[i] for i in g])
                        - np.mean([margins[i] for i in g])
                    )
                    ** 2
                )
                for g in (up, down)
            )
            if spread < best - 1e-15:
                best, chosen = spread, list(up)
    if len(chosen) == 1 and best < np.inf:
        ordered = sorted(range(len(margins)), key=lambda i: -margins[i])
        chosen = ordered[: max(1, len(margins) // 2)]
    return chosen


def zps(proba, kind):
    chosen = [proba[i] for i in voters(proba)]
    found = []
    for text in range(proba.shape[1]):
        rows = [p[text] for p in chosen]
        if kind == "vote":
            rows = [np.arange(len(r)) == list(r).index(max(r)) for r in rows]
        if kind == "log":
            rows = [[log(max(v, 1e-12)) for v in r] for r in rows]
        total = list(np.sum(rows, 0))
        found.append(total.index(max(total)))
    return [
        np.mean([list(r).index(max(r)) == f for r, f in zip(p, found, strict=True)])
        for p in proba
    ]


def cases():
    rng = np.random.default_rng(0)
    for labels in (2, 3):
        yield rng.dirichlet(np.ones(labels), (7, 12))
        yield rng.dirichlet(np.full(labels, 0.1), (5, 9))
    yield np.full((4, 6, 2), 0.5)  # ties everywhere
    yield np.eye(3)[rng.integers(0, 3, (6, 8))]  # zeros and ones
    yield rng.dirichlet(np.ones(2), (1, 5))  # one prompt
    yield np.array([[[1.0, 0.0]], [[0.5, 0.5]]])  # one text


@pytest.mark.parametrize("proba", list(cases()))
def test_criteria_equal_plain_computations(proba):
    for own in (mutual_information, local_entropy, global_entropy):
        found = getattr(criteria, own.__name__)(proba)
        np.testing.assert_allclose(found, [own(p) for p in proba], atol=1e-12)
    for kind in ("log", "prob", "vote"):
        found = getattr(criteria, f"zps_{kind}")(proba)
        np.testing.assert_allclose(found, zps(proba, kind))


def test_pseudo_labels_are_not_inverted():
    """The prompt that agrees with the confident majority wins, never loses."""
    sure = np.tile([[0.95, 0.05], [0.05, 0.95]], (5, 1))
    proba = np.stack([sure, sure, sure[:, ::-1] * 0.2 + 0.4])
    for name in ("zps_log", "zps_prob", "zps_vote"):
        assert getattr(criteria, name)(proba).tolist() == [1, 1, 0]


@pytest.mark.parametrize("name", criteria.__all__)
def test_bad_probabilities_are_refused(name):
    call = getattr(criteria, name)
    with pytest.raises(ValueError, match="shape"):
        call([[0.5, 0.5]])
    for bad in ([0.5, 0.9], [np.nan, 1.0], [-0.5, 1.5]):
        with pytest.raises(ValueError, match=r"proba\[1, 0\]"):
            call([[[0.5, 0.5]], [bad]])
