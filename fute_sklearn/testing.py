"""Checks for embedders, rankers and clients: the package's own, and yours.

scikit-learn's own suite runs on numbers; `RowsToText` lets it run on text estimators,
and the checks here cover what it cannot know of: sequences of strings, targets by name,
seeds, pickles without weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted, validate_data

from ._client_checks import CLIENT_CHECKS
from ._estimator_checks import EMBEDDER_CHECKS, RANKER_CHECKS, TASK_CHECKS
from .embedders._base_embedder import BaseTaskEmbedder
from .ranking._base_ranker import BaseRanker

__all__ = [
    "TINY_SURROGATE",
    "RowsToText",
    "check_estimator",
    "estimator_checks_generator",
    "parametrize_with_checks",
]

TINY_SURROGATE = "fute-tiny-random"


class RowsToText(TransformerMixin, BaseEstimator):
    """Let an embedder take rows of numbers, each written as a text.

    For scikit-learn's check suite, whose samples are numbers.

    Parameters
    ----------
    estimator : embedder
        The embedder under test.

    Examples
    --------
    >>> from fute_sklearn import TextEmbedder
    >>> from fute_sklearn.testing import RowsToText
    >>> est = RowsToText(TextEmbedder("fute-tiny-random"))
    >>> est.fit([[0.5, 1.0], [2.0, 3.0]], [0, 1]).transform([[0.5, 1.0]]).shape
    (1, 16)
    """

    def __init__(self, estimator: BaseTaskEmbedder) -> None:
        self.estimator = estimator

    def _texts(self, X: np.ndarray) -> list[str]:
        return [" ".join(f"{value:.4g}" for value in row) for row in X]

    def fit(self, X: Any, y: Any) -> RowsToText:
        """Fit the embedder on the rows' texts.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            Numbers.
        y : array-like (n_samples,)
            Targets.

        Returns
        -------
        self : object
            The fitted adapter.
        """
        X, y = validate_data(self, X, y)
        self.estimator_ = clone(self.estimator).fit(self._texts(X), y)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Features of the rows' texts.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            Numbers.

        Returns
        -------
        features : ndarray (n_samples, d_model)
            One row per row of X.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False)
        return self.estimator_.transform(self._texts(X))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def estimator_checks_generator(
    estimator: Any,
) -> Iterator[tuple[Any, Callable[[Any], None]]]:
    """Yield an estimator with every check that fits its kind of input.

    Parameters
    ----------
    estimator : estimator instance, or client of a language model
        An embedder (texts), an estimator on tasks, a ranker of embeddings, or a client.

    Yields
    ------
    estimator : estimator instance
        The instance.
    check : callable
        Takes the estimator; raises AssertionError.

    Examples
    --------
    >>> from fute_sklearn import TextEmbedder
    >>> from fute_sklearn.testing import estimator_checks_generator
    >>> est = TextEmbedder("fute-tiny-random")
    >>> len(list(estimator_checks_generator(est))) > 10
    True
    """
    if isinstance(estimator, BaseTaskEmbedder):
        checks = EMBEDDER_CHECKS
    elif hasattr(estimator, "capabilities"):
        checks = CLIENT_CHECKS
    elif isinstance(estimator, BaseRanker) and not hasattr(estimator, "embedder"):
        checks = RANKER_CHECKS
    else:
        checks = TASK_CHECKS
    for check in checks:
        yield estimator, check


def check_estimator(estimator: Any) -> None:
    """Run every check that fits the estimator.

    Parameters
    ----------
    estimator : estimator instance, or client of a language model
        An embedder, an estimator on tasks, a ranker of embeddings, or a client.

    Raises
    ------
    AssertionError
        From the first check that fails.

    Examples
    --------
    >>> from fute_sklearn import TextEmbedder
    >>> from fute_sklearn.testing import check_estimator
    >>> check_estimator(TextEmbedder("fute-tiny-random"))
    """
    for one, check in estimator_checks_generator(estimator):
        check(one)


def parametrize_with_checks(
    estimators: list[Any],
    *,
    expected_failed_checks: Callable[[Any], dict[str, str]] | None = None,
) -> Any:
    """Decorate a pytest function with all checks of several estimators.

    Parameters
    ----------
    estimators : list of estimator instances
        Each gets the checks that fit it.
    expected_failed_checks : callable, optional
        Maps an estimator to names of checks with the reason why they fail.

    Returns
    -------
    decorator : pytest.MarkDecorator
        Parametrises ``estimator`` and ``check``.

    Examples
    --------
    >>> from fute_sklearn import TextEmbedder
    >>> from fute_sklearn.testing import parametrize_with_checks
    >>> @parametrize_with_checks([TextEmbedder("fute-tiny-random")])
    ... def test_checks(estimator, check):
    ...     check(estimator)
    """
    import pytest

    cases = []
    for estimator in estimators:
        expected = expected_failed_checks(estimator) if expected_failed_checks else {}
        for one, check in estimator_checks_generator(estimator):
            inner = check.func if isinstance(check, partial) else check
            name = inner.__name__
            marks = (
                [pytest.mark.xfail(reason=expected[name], strict=True)]
                if name in expected
                else []
            )
            cases.append(
                pytest.param(one, check, marks=marks, id=f"{type(one).__name__}-{name}")
            )
    return pytest.mark.parametrize(("estimator", "check"), cases)
