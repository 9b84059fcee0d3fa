"""Plot a two-dimensional projection of task embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.preprocessing import normalize

from .._utils._alignment import aligned_column, index_names
from .._utils._optional import import_optional_dependency
from ..tasks._validation import first_seen
from ..tasks._vectors import space_of

MARKERS = "osD^vP*X<>hp8d"


class TaskMapDisplay:
    """Display of task embeddings of models and data sets, projected to two dimensions.

    The colour of a point is its task, the marker its family, as in Figures 3 and 4 of
    the FUTE paper.  Create it with `from_embeddings`.

    Parameters
    ----------
    positions : ndarray (n, 2)
        Coordinates of the points.
    tasks : sequence of str of length n
        Task of each point.
    families : sequence of str of length n
        Family of each point: the kind of model, or ``"data set"``.
    method : str
        Name of the projection, for the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the plot.
    figure_ : matplotlib Figure
        Figure that holds the axes.

    References
    ----------
    Wang et al. (2024), "Towards unified task embeddings across multiple models"
    (FUTE), Figures 3 and 4.

    Examples
    --------
    >>> import numpy as np
    >>> from fute_sklearn import TaskMapDisplay
    >>> E = np.random.default_rng(0).normal(size=(6, 8))
    >>> TaskMapDisplay.from_embeddings(
    ...     E, tasks=["film", "food"] * 3, families=["svm"] * 6, method="pca")
    <...TaskMapDisplay object at ...>
    """

    def __init__(
        self, positions: np.ndarray, tasks: Any, families: Any, *, method: str
    ) -> None:
        self.positions = positions
        self.tasks = tasks
        self.families = families
        self.method = method

    def plot(self, ax: Any = None) -> TaskMapDisplay:
        """Plot the points with a legend of tasks and families.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Axes to draw on; by default those of a new figure.

        Returns
        -------
        display : TaskMapDisplay
            This object.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        pyplot = import_optional_dependency("matplotlib.pyplot", "plots", "plots need")
        if ax is None:
            _, ax = pyplot.subplots(layout="constrained", figsize=(8, 5.5))
        tasks, families = first_seen(self.tasks), first_seen(self.families)
        colours = pyplot.get_cmap("tab10" if len(tasks) <= 10 else "tab20")
        for task, family, (x, y) in zip(
            self.tasks, self.families, self.positions, strict=True
        ):
            large = family == "data set"
            ax.scatter(
                x,
                y,
                color=colours(tasks.index(task) % colours.N),
                marker=MARKERS[families.index(family) % len(MARKERS)],
                s=170 if large else 42,
                edgecolors="black" if large else "none",
                linewidths=1.2 if large else 0,
                zorder=3 if large else 2,
            )
        handles = [
            pyplot.Line2D(
                [], [], ls="", marker="s", color=colours(i % colours.N), label=t
            )
            for i, t in enumerate(tasks)
        ] + [
            pyplot.Line2D(
                [], [], ls="", marker=MARKERS[i % len(MARKERS)], color="black", label=f
            )
            for i, f in enumerate(families)
        ]
        ax.legend(
            handles=handles,
            bbox_to_anchor=(1.01, 1),
            loc="upper left",
            fontsize="small",
        )
        ax.set(xticks=[], yticks=[], title=f"{self.method} of task embeddings")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_embeddings(
        cls,
        embeddings: Any,
        *,
        tasks: Any,
        families: Any,
        method: str = "tsne",
        random_state: Any = 0,
        ax: Any = None,
    ) -> TaskMapDisplay:
        """Project embeddings to two dimensions and plot them.

        Parameters
        ----------
        embeddings : array-like (n, dim)
            At least 3 embeddings of one space; rows are scaled to unit length first.
        tasks : sequence of str of length n
            Task of each row, which determines the colour.  A pandas Series is matched
            with a table of embeddings by the index.
        families : sequence of str of length n
            Family of each row, which determines the marker; ``"data set"`` is drawn
            larger.
        method : {"tsne", "pca"}, default="tsne"
            Projection by t-SNE on cosine distances, or by principal components.
        random_state : int, RandomState instance or None, default=0
            Seed of t-SNE; None gives another plot at every call.
        ax : matplotlib Axes, optional
            Axes to draw on; by default those of a new figure.

        Returns
        -------
        display : TaskMapDisplay
            The display, already plotted.

        Raises
        ------
        ValueError
            If lengths differ, there are fewer than 3 embeddings or ``method`` is
            unknown.
        FingerprintMismatchError
            If a list holds embeddings of different spaces.
        ImportError
            If matplotlib is not installed.
        """
        space_of(embeddings)  # raises for a list of vectors of different spaces
        names = index_names(embeddings)
        tasks = aligned_column(tasks, names, "tasks")
        families = aligned_column(families, names, "families")
        rows = np.asarray(embeddings, dtype=np.float64)
        if not len(rows) == len(tasks) == len(families):
            raise ValueError(
                f"{len(rows)} embeddings, {len(tasks)} tasks and {len(families)} "
                "families; expected as many of each."
            )
        if method not in ("tsne", "pca"):
            raise ValueError(f"method={method!r}, expected 'tsne' or 'pca'.")
        if len(rows) < 3:
            raise ValueError(f"a map needs 3 embeddings or more, got {len(rows)}.")
        rows = normalize(rows)
        # Imported here, as they are slow to import, and most programs draw no map.
        if method == "pca":
            from sklearn.decomposition import PCA

            positions = PCA(2).fit_transform(rows)
        else:
            from sklearn.manifold import TSNE

            perplexity = min(15.0, max(1.0, (len(rows) - 1) / 3))
            positions = TSNE(
                perplexity=perplexity,
                init="random",
                metric="cosine",
                random_state=random_state,
            ).fit_transform(rows)
        name = {"pca": "PCA", "tsne": "t-SNE"}[method]
        return cls(positions, list(tasks), list(families), method=name).plot(ax)
