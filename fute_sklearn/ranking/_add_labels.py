"""Combine a ranking with the models' answers to labelled rows of the target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import rankdata

from ._confidence import Evidence, LabelledGroup, drawn_together, verdict
from ._labelled_rows import LabelledRows, given_rows
from ._model_scores import or_nan
from ._score_posterior import ScorePosterior

if TYPE_CHECKING:
    import pandas as pd


ROUNDING = 1e-6  # scores that differ by less are the same
NO_INDEX = (
    "the index of ranking holds none of its models; expected the table as rank_models "
    "returned it, rows in any order."
)


def add_labels(ranking: pd.DataFrame, labelled: pd.DataFrame) -> pd.DataFrame:
    """Combine a ranking with the models' answers to labelled rows.

    What the models score on the rows is compared with what their students were expected
    to score on the same rows; the difference corrects the expected scores, the more,
    the more rows there are.  No model is called, and no student fitted.

    Parameters
    ----------
    ranking : DataFrame
        What `rank_models` returned.
    labelled : DataFrame
        All answers that there are, in the target's labels: a column for each model,
        indexed by the positions of the rows in X.  Models may be missing, and answers
        too (NaN or None), so that some models may have answered more rows than others;
        that they answered the same ones is best.

    Returns
    -------
    ranking : DataFrame
        The table with new ``score``, ``rank``, ``low``, ``high`` and ``p_best``, and
        ``labelled_score`` and ``labelled_rank`` by the rows alone; ``attrs`` likewise.
        Answers that the ranking had before count only if they are given again.

    Raises
    ------
    TypeError
        If ``ranking`` was not made by `rank_models`, or ``labelled`` is no DataFrame.
    ValueError
        If the index holds no positions of rows, a column is no model, or there is no
        answer; or if the ranking's own index is gone.
    LabelMismatchError
        If a model's answers are no labels of the target.

    See Also
    --------
    plan_labels : Which answers to get next.

    Examples
    --------
    >>> import pandas as pd
    >>> from fute_sklearn import TuPaTEEmbedder, add_labels, rank_models
    >>> texts = ["a fine film", "a dull film", "fine food", "dull and grey"]
    >>> first = {text: "good" if "fine" in text else "bad" for text in texts}
    >>> second = {text: "good" for text in texts[:3]} | {texts[3]: "bad"}
    >>> table = rank_models(
    ...     {"first": first, "second": second},
    ...     ["fine wine", "a dull day"], ["good", "bad"], texts=texts,
    ...     embedder=TuPaTEEmbedder("fute-tiny-random", max_epochs=1))
    >>> answers = pd.DataFrame({"first": ["good", "bad"], "second": ["good", "good"]})
    >>> add_labels(table, answers)["labelled_score"].to_dict()
    {'first': 1.0, 'second': 0.5}
    """
    evidence = evidence_of(ranking)
    if not set(evidence.names) & set(ranking.index):
        raise ValueError(NO_INDEX)
    target = evidence.scorer.task
    rows = given_rows(evidence.names, labelled, target, evidence.labelled)
    return with_rows(ranking, rows, complete=False)


def evidence_of(ranking: Any) -> Evidence:
    """Return what a ranking was made of."""
    found = getattr(ranking, "attrs", {}).get("evidence")
    if not isinstance(found, Evidence):
        raise TypeError(
            f"ranking is a {type(ranking).__name__} without the attrs of a ranking; "
            "expected the DataFrame that rank_models returned."
        )
    return found


def with_rows(
    ranking: pd.DataFrame, rows: LabelledRows, complete: bool
) -> pd.DataFrame:
    """Combine a ranking with labelled rows; warn of lacking models if ``complete``."""
    evidence = evidence_of(ranking)
    names = list(evidence.names)
    scorer = evidence.scorer
    alone = rows.scores(scorer.task, scorer.scoring)
    groups = rows.groups(evidence)
    posterior = evidence.posterior(groups)
    if complete or rows.reason:  # else models may be left out
        alone = or_nan(lambda: (alone, rows.reason), "labelled", len(names))
    out = ranking.copy()
    columns = {"labelled_score": alone, "labelled_rank": ranks(alone)}
    for name, values in {**score_columns(posterior), **columns}.items():
        known = dict(zip(names, values, strict=True))
        out[name] = [known.get(model, np.nan) for model in out.index]
    out.attrs["answered"] = rows
    tell(out, posterior, evidence, rows.count, groups)
    return out.sort_values("rank", kind="stable")


def ranks(scores: np.ndarray) -> np.ndarray:
    """Ranks by descending scores; NaN stays."""
    return rankdata(-scores, nan_policy="omit")


def score_columns(posterior: ScorePosterior) -> dict[str, np.ndarray]:
    """Columns of the table that follow from the posterior."""
    low, high = posterior.interval()
    return {
        "score": np.clip(posterior.mean, *posterior.bounds),
        "rank": ranks(posterior.mean),
        "low": low,
        "high": high,
        "p_best": posterior.p_best,
    }


def tell(
    table: pd.DataFrame,
    posterior: ScorePosterior,
    evidence: Evidence,
    n_labelled: int,
    labelled: Sequence[LabelledGroup] = (),
) -> None:
    """Set the attrs that follow from the posterior."""
    attrs = table.attrs
    rises = evidence.rises(labelled)
    best = np.nanmax([*(drawn_together(posterior) + rises), -np.inf])
    major, prior = attrs["majority_score"], attrs["prior_score"]
    attrs["n_labelled"] = n_labelled
    attrs["posterior"] = posterior
    attrs["shortlist"] = posterior.shortlist()
    attrs["worth_taking"] = bool(best > np.nanmax([major, prior, -np.inf]))
    over, than = "majority_score", "the majority class"
    if np.isnan(major) or prior > major + ROUNDING:  # as by losses and macro F1
        over, than = "prior_score", "guesses by the classes' shares"
    leads = evidence.lead_deviations(posterior, over)
    attrs["verdict"] = verdict(posterior, attrs[over], rises, leads, than)
