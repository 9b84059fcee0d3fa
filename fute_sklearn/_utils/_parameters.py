"""Checks of estimators' parameters outside of fit."""

from __future__ import annotations

from typing import Any

import sklearn


def validate_params(estimator: Any) -> None:
    """Check an estimator's parameters, unless scikit-learn is set to skip that."""
    if not sklearn.get_config()["skip_parameter_validation"]:
        estimator._validate_params()  # noqa: SLF001 - scikit-learn's own way
