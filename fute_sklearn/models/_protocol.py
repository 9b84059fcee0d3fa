"""Protocol of the models that can be wrapped and ranked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Model(Protocol):
    """Protocol of models that can be wrapped and ranked: objects with ``predict``.

    `MTEWrapper` also uses these methods and attributes, if the model has them:

    ``predict_proba``, ``predict_log_proba``, ``decision_function``
        Scores with one column per class; called if ``response_method`` names them.
    ``classes_``
        All labels that the model can predict, in the order of the columns.  They are
        compared with the target's labels before the model is called.
    ``fingerprint``
        A str, or a method that returns one, that identifies the model in the cache of
        predictions and must change if they do.  Without it the content is hashed.
    ``text_of(X)``
        For models of records: the text of each record, for the surrogate.
    ``content_of(X)``
        For models of records: a str per record that identifies it in the cache of
        predictions; by default its text.
    ``failures_pass``
        True for models that leave out answers, as None or NaN, for reasons that may
        pass, as an outage of a server.  Such rows are asked for again the next time;
        those of other models abstain, which is kept as an answer.
    """

    def predict(self, X: Sequence[Any]) -> Any:
        """Predict a label, a number or a text for each text.

        Parameters
        ----------
        X : sequence of str of length n_samples
            Texts, in the container type that the user passed.

        Returns
        -------
        y : array-like of length n_samples
            The predictions.
        """
