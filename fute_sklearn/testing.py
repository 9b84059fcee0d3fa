"""Checks of custom embedders, rankers and language model clients.

They complement `sklearn.utils.estimator_checks`, whose samples are numbers, by checks
of text input, label names, seeds and the size of pickles.  With `RowsToText`,
scikit-learn's own checks can be run on embedders.
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
    """Adapt an embedder to numeric input by formatting each row as a text.

    It serves to run scikit-learn's estimator checks, whose samples are numbers.

    Parameters
    ----------
    estimator : embedder
        The embedder under test, which ``fit`` clones.

    Attributes
    ----------
    estimator_ : embedder
        The fitted embedder.
    n_features_in_ : int
        Number of columns of X.

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
        """Fit the embedder to the rows, formatted as texts.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            Numbers; each row is one text.
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
        """Compute the embedder's features of the rows, formatted as texts.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            Numbers; each row is one text.

        Returns
        -------
        features : ndarray (n_samples, d_model)
            One row per row of X.

        Raises
        ------
        NotFittedError
            If ``fit`` was not called.
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
    """Yield an estimator with every check of its kind.

    Parameters
    ----------
    estimator : estimator instance, or client of a language model
        An embedder (derived from `BaseTaskEmbedder`), a ranker of embeddings (derived
        from `BaseRanker`, without parameter ``embedder``), a client (with
        ``capabilities``), or else an estimator whose samples are tasks.

    Yields
    ------
    estimator : estimator instance
        The given object.
    check : callable
        Function of the estimator that raises AssertionError if the check fails.

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
    """Run every check of the estimator's kind.

    Parameters
    ----------
    estimator : estimator instance, or client of a language model
        The object to check, as in `estimator_checks_generator`.

    Raises
    ------
    AssertionError
        If a check fails; the first failure ends the run.

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
    """Parametrise a pytest function by the checks of several estimators.

    Parameters
    ----------
    estimators : list of estimator instances
        Objects to check, as in `estimator_checks_generator`.
    expected_failed_checks : callable, optional
        Function of an estimator that returns a dict from names of checks to the reason
        why they fail; these are marked as strict xfail.  By default none is.

    Returns
    -------
    decorator : pytest.MarkDecorator
        Decorator of functions with the arguments ``estimator`` and ``check``.

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
