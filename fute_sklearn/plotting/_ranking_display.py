"""Plot the true gains of models against their predicted ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import rankdata

from .._utils._alignment import align, align_gains
from .._utils._optional import import_optional_dependency
from ..metrics import regret_loss, spearman_score


class RankingDisplay:
    """Display of the models' true gains on a task by their predicted rank.

    Create it with `from_predictions` or `from_estimator`.

    Parameters
    ----------
    scores : ndarray (n_models,)
        Scores by which the models are ranked, high is better.
    gains : ndarray (n_models,)
        True gains, such as accuracies.
    names : sequence of str of length n_models
        Names of the models.
    label : str or None, default=None
        Name of the ranking, shown in the title; None shows none.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the plot.
    figure_ : matplotlib Figure
        Figure that holds the axes.
    points_ : matplotlib PathCollection
        Points of the models.

    Examples
    --------
    >>> from fute_sklearn import RankingDisplay
    >>> RankingDisplay.from_predictions([.9, .6], [.7, .1], names=["svm", "tree"])
    <...RankingDisplay object at ...>
    """

    def __init__(
        self, scores: Any, gains: Any, names: Any, *, label: str | None = None
    ) -> None:
        self.scores = scores
        self.gains = gains
        self.names = names
        self.label = label

    def plot(self, ax: Any = None, *, n_named: int = 5) -> RankingDisplay:
        """Plot the true gain of each model against its predicted rank.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Axes to draw on; by default those of a new figure.
        n_named : int, default=5
            Number of top-ranked models whose names are listed.

        Returns
        -------
        display : RankingDisplay
            This object.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        if ax is None:
            pyplot = import_optional_dependency(
                "matplotlib.pyplot", "plots", "plots need"
            )
            _, ax = pyplot.subplots(layout="constrained", figsize=(7, 5))
        scores, gains = np.asarray(self.scores), np.asarray(self.gains)
        ranks = rankdata(-scores)
        self.points_ = ax.scatter(ranks, gains, s=28, alpha=0.8, label="models")
        ax.axhline(
            gains.mean(), color="grey", lw=1, ls="--", label="random choice, expected"
        )
        ax.axhline(gains.max(), color="green", lw=1, ls=":", label="best model")
        order = np.argsort(ranks, kind="stable")[:n_named]
        chosen = order[0]
        ax.scatter(
            [ranks[chosen]],
            [gains[chosen]],
            s=110,
            facecolors="none",
            edgecolors="red",
            label="chosen",
        )
        names = [f"{i + 1}  {self.names[m]}" for i, m in enumerate(order)]
        ax.text(
            0.02,
            0.02,
            "\n".join(names),
            transform=ax.transAxes,
            fontsize="small",
            va="bottom",
            bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "lightgrey"},
        )
        title = (
            f"Spearman {spearman_score(gains, scores):.2f}, "
            f"regret {regret_loss(gains, scores):.3f}"
        )
        ax.set(
            xlabel="predicted rank (1 is best)",
            ylabel="true gain",
            title=f"{self.label}: {title}" if self.label else title,
        )
        ax.margins(y=0.15)
        ax.legend(loc="upper right", fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_predictions(
        cls,
        gains: Any,
        scores: Any,
        *,
        names: Any = None,
        label: str | None = None,
        ax: Any = None,
    ) -> RankingDisplay:
        """Plot given scores and gains.

        Parameters
        ----------
        gains, scores : array-like (n_models,), Series or dict
            True gains and scores; aligned by name if both name the models.
        names : sequence of str, optional
            Names of the models, in the order of ``gains``; by default those of an
            index or a dict, else ``"model0"``, ``"model1"`` and so on.
        label : str, optional
            Name of the ranking, shown in the title.
        ax : matplotlib Axes, optional
            Axes to draw on; by default those of a new figure.

        Returns
        -------
        display : RankingDisplay
            The display, already plotted.

        Raises
        ------
        ValueError
            If lengths or names of gains, scores and ``names`` differ.
        ImportError
            If matplotlib is not installed.
        """
        true, predicted, known = align(gains, scores)
        if true.shape != predicted.shape or len(true) != 1:
            raise ValueError(
                f"gains {true.shape} and scores {predicted.shape} must be of one task "
                "and of the same length."
            )
        if names is None:
            names = known or [f"model{i}" for i in range(true.shape[1])]
        names = [str(name) for name in names]
        if known is not None and names != known:
            raise ValueError(
                f"names={names} contradict those of gains or scores, {known}; leave "
                "names out, or give plain arrays."
            )
        if len(names) != true.shape[1]:
            raise ValueError(f"{len(names)} names for {true.shape[1]} models.")
        return cls(predicted[0], true[0], names, label=label).plot(ax)

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, gains: Any, *, ax: Any = None
    ) -> RankingDisplay:
        """Plot the ranking of a fitted ranker, or of a pipeline that ends in one.

        Parameters
        ----------
        estimator : fitted ranker or Pipeline
            Estimator with ``decision_function``.
        X : sequence of length 1
            The target task, in the form that the estimator takes.
        gains : array-like (n_models,), Series or dict
            True gains on the target; aligned with the models by name if it has names,
            else in the order of ``model_names_``.
        ax : matplotlib Axes, optional
            Axes to draw on; by default those of a new figure.

        Returns
        -------
        display : RankingDisplay
            The display, already plotted.

        Raises
        ------
        ValueError
            If X is not a single target, or gains do not fit the models.
        ImportError
            If matplotlib is not installed.
        """
        ranker = estimator[-1] if hasattr(estimator, "steps") else estimator
        scores = estimator.decision_function(X)
        if len(scores) != 1:
            raise ValueError(f"expected one target, got {len(scores)}.")
        return cls.from_predictions(
            align_gains(gains, ranker.model_names_)[0],
            scores[0],
            names=ranker.model_names_,
            label=type(ranker).__name__,
            ax=ax,
        )
