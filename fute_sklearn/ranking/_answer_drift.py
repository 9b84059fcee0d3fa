"""Whether a model still answers as it did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

from scipy.stats import binomtest

from ..tasks._validation import label_name

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.9


@dataclass(frozen=True, eq=False)
class AnswerDrift:
    """How a model's answers to some texts differ from those it gave before.

    Made by `ModelRegistry.drift`.

    Parameters
    ----------
    n_texts : int
        Number of texts that were asked again.
    n_changed : int
        Number of them with another label, or an answer where there was none, or none
        where there was one.
    low, high : float
        90 % interval (Clopper-Pearson) of the share of changed answers over all texts.
    p_value : float
        Probability, by the binomial distribution, of as many changes or more if a share
        ``tolerance`` of the answers changes by chance; 0 or 1 if none does.
    tolerance : float
        That share.
    changes : DataFrame
        The changed answers, with ``text``, ``before`` and ``now``.

    Examples
    --------
    >>> from fute_sklearn import AnswerDrift
    >>> drift = AnswerDrift.of(["a", "b"], ["x", "y"], ["x", "x"], tolerance=0.0)
    >>> drift.n_changed, drift.p_value
    (1, 0.0)
    """

    n_texts: int
    n_changed: int
    low: float
    high: float
    p_value: float
    tolerance: float
    changes: pd.DataFrame = field(repr=False)

    @property
    def share(self) -> float:
        """Share of the texts whose answer changed."""
        return self.n_changed / self.n_texts

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        before: Sequence[Any],
        now: Sequence[Any],
        tolerance: float,
    ) -> AnswerDrift:
        """Compare answers before and now.

        Parameters
        ----------
        texts : sequence of str
            The texts.
        before, now : sequence of length n_texts
            Labels, or None where there was no answer.
        tolerance : float
            Share of answers that changes by chance, between 0 and 1.

        Returns
        -------
        drift : AnswerDrift
            The comparison.

        Raises
        ------
        ValueError
            If ``tolerance`` is not between 0 and 1, or there are no texts.
        """
        import pandas as pd

        check_tolerance(tolerance)
        if not len(texts):
            raise ValueError("there are no texts to compare answers to.")
        rows = [
            (text, old, new)
            for text, old, new in zip(texts, before, now, strict=True)
            if _name(old) != _name(new)
        ]
        changes = pd.DataFrame(rows, columns=["text", "before", "now"])
        test = binomtest(len(rows), len(texts), tolerance, alternative="greater")
        ends = binomtest(len(rows), len(texts)).proportion_ci(LEVEL, "exact")
        return cls(
            len(texts),
            len(rows),
            float(ends.low),
            float(ends.high),
            float(test.pvalue),
            tolerance,
            changes,
        )


def _name(label: Any) -> str | None:
    return None if label is None else label_name(label)


def check_tolerance(tolerance: Any) -> None:
    """Refuse what is no share of answers that may change."""
    if not isinstance(tolerance, Real) or not 0 <= float(tolerance) < 1:
        raise ValueError(f"tolerance={tolerance!r}, expected 0 or more, below 1.")
