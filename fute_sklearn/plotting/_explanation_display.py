"""Plot which labels and texts make the difference between two models."""

from __future__ import annotations

import textwrap
from typing import Any

from .._utils._optional import import_optional_dependency

BETTER, WORSE = "tab:blue", "tab:orange"
WIDTH = 44


class ExplanationDisplay:
    """Display of the contributions to the difference between two models.

    Create it with `from_explanation`.

    Parameters
    ----------
    explanation : DataFrame
        What `explain` returned.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes (2,)
        Axes of the labels and of the texts.
    figure_ : matplotlib Figure
        Figure that holds the axes.

    Examples
    --------
    >>> from fute_sklearn import ExplanationDisplay, TuPaTEEmbedder
    >>> from fute_sklearn import explain, rank_models
    >>> texts = ["a fine film", "a dull film", "fine food", "dull and grey"]
    >>> first = {text: "good" if "fine" in text else "bad" for text in texts}
    >>> second = {text: "good" for text in texts[:3]} | {texts[3]: "bad"}
    >>> table = rank_models(
    ...     {"first": first, "second": second},
    ...     ["fine wine", "a dull day"], ["good", "bad"], texts=texts,
    ...     embedder=TuPaTEEmbedder("fute-tiny-random", max_epochs=1))
    >>> ExplanationDisplay.from_explanation(explain(table, "first", "second"))
    <...ExplanationDisplay object at ...>
    """

    def __init__(self, explanation: Any) -> None:
        self.explanation = explanation

    def plot(self, *, n_texts: int = 10) -> ExplanationDisplay:
        """Plot the contributions of the labels and of the texts that count most.

        Parameters
        ----------
        n_texts : int, default=10
            Number of texts.

        Returns
        -------
        display : ExplanationDisplay
            This object.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        pyplot = import_optional_dependency("matplotlib.pyplot", "plots", "plots need")
        table = self.explanation
        labels = table.attrs["labels"].frame
        height = 1.2 + 0.32 * max(len(labels), min(n_texts, len(table)))
        figure, axes = pyplot.subplots(
            1, 2, layout="constrained", figsize=(11, height), width_ratios=(1, 2)
        )
        names = [f"{k} ({n} rows)" for k, n in labels["n_rows"].items()]
        _bars(axes[0], names, labels["contribution"], "by label")
        top = table.head(n_texts)
        texts = [
            f"{textwrap.shorten(text, WIDTH, placeholder='...')} [{label}]"
            for text, label in zip(top["text"], top["label"], strict=True)
        ]
        _bars(axes[1], texts, top["contribution"], "by text")
        gap = table.attrs["difference"]
        figure.suptitle(
            f"{table.attrs['model']} against {table.attrs['other']}: {gap:+.3f}"
        )
        self.axes_, self.figure_ = axes, figure
        return self

    @classmethod
    def from_explanation(
        cls, explanation: Any, *, n_texts: int = 10
    ) -> ExplanationDisplay:
        """Plot what `explain` returned.

        Parameters
        ----------
        explanation : DataFrame
            What `explain` returned.
        n_texts : int, default=10
            Number of texts.

        Returns
        -------
        display : ExplanationDisplay
            The display, already plotted.

        Raises
        ------
        TypeError
            If ``explanation`` was not made by `explain`.
        ImportError
            If matplotlib is not installed.
        """
        if "difference" not in getattr(explanation, "attrs", {}):
            raise TypeError(
                f"explanation is a {type(explanation).__name__} without the attrs of "
                "an explanation; expected the DataFrame that explain returned."
            )
        return cls(explanation).plot(n_texts=n_texts)


def _bars(ax: Any, names: Any, values: Any, title: str) -> None:
    values = list(values)
    colours = [BETTER if value >= 0 else WORSE for value in values]
    ax.barh(range(len(values)), values, color=colours)
    ax.set_yticks(range(len(values)), names, fontsize="small")
    ax.invert_yaxis()
    ax.axvline(0, color="grey", lw=1)
    ax.margins(x=0.1)
    ax.locator_params("x", nbins=5)  # so that long numbers do not touch
    ax.tick_params("x", labelsize="small")
    ax.set(xlabel="contribution to the difference", title=title)
