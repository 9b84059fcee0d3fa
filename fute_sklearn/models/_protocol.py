"""What is asked of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Model(Protocol):
    """A model that can be ranked: anything with ``predict``.

    Beyond ``predict``, `MTEWrapper` calls what a model has and the user asks for:

    ``predict_proba``, ``predict_log_proba``, ``decision_function``
        Scores with a column per class, where ``response_method`` names them.
    ``classes_``
        All labels it can answer, in the order of the columns.  They are compared with
        the target's before the model is called.
    ``fingerprint``
        A string, or a method that returns one, that changes with the model's answers.
        Without it the model's content is hashed.
    ``text_of(X)``, ``content_of(X)``
        For models of records: the text that stands for each record, and what tells
        records apart where their text does not.
    """

    def predict(self, X: Sequence[Any]) -> Any:
        """Predict a label, a number or a text for each of some texts.

        Parameters
        ----------
        X : sequence of str of length n_samples
            Texts, in the type that the user gave.

        Returns
        -------
        y : array-like of length n_samples
            The answers.
        """
