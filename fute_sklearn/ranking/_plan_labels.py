"""Which models to ask about which labelled rows next, and a loop that does."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from itertools import combinations
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import check_random_state

from .._utils._stack_level import find_stack_level
from .._utils._table_attribute import FrameAttribute
from ..embedders._base_embedder import seed_of
from ..exceptions import ModelLabelWarning
from ..models._mte_wrapper import MTEWrapper
from ._add_labels import NO_INDEX, evidence_of, with_rows
from ._confidence import Evidence
from ._labelled_rows import LabelledRows, checked_answers, places
from ._labelling import wrap_models
from ._score_posterior import ScorePosterior

if TYPE_CHECKING:
    import pandas as pd

# Nodes of the quadrature over what a model's answers may turn out to be.
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(31)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
ROUNDING = 1e-9  # share of a budget that sums of costs may be off by
WORTH = 0.25  # least gain per cost, relative to the best one, for a model to be asked


def plan_labels(
    ranking: pd.DataFrame,
    budget: float,
    *,
    costs: Mapping[str, float] | None = None,
    n_rows: int = 8,
    level: float = 0.9,
    random_state: Any = 0,
) -> pd.DataFrame:
    """Say which models to ask about which labelled rows next.

    A model is worth asking by how much its answers are expected to raise the score of
    the model that is then taken (the knowledge gradient), divided by what it costs.
    All that are asked answer the same rows, drawn at random, as is the best model, so
    that their differences do not depend on the rows.

    Parameters
    ----------
    ranking : DataFrame
        What `rank_models` or `add_labels` returned.  Rows that a model has answered
        there are not asked again.
    budget : float
        Most that the answers may cost: their number, or in the unit of ``costs``.
    costs : dict of str to float, optional
        What an answer of each model costs; 1 for models that are not in it.
    n_rows : int, default=8
        Number of rows to label before planning again.  Fewer spend the budget better.
    level : float, default=0.9
        Probability with which the shortlist holds the best model.
    random_state : int, RandomState instance or None, default=0
        Seed of the order of the rows; give the same one to all plans of a target.

    Returns
    -------
    plan : DataFrame
        The answers to get, with ``model``, ``row`` (the position in X), ``text`` and
        ``cost``.  Empty where nothing is left to ask, or a single model is on the
        shortlist, or the budget does not suffice for two models and a row.

    Raises
    ------
    TypeError
        If ``ranking`` was not made by `rank_models`, or ``costs`` are no dict.
    ValueError
        If ``costs`` name strange models, or a number is out of its range.

    See Also
    --------
    settle_ranking : Asks, adds and plans again, until the budget is spent.

    Examples
    --------
    >>> from fute_sklearn import TuPaTEEmbedder, plan_labels, rank_models
    >>> texts = ["a fine film", "a dull film", "fine food", "dull and grey"]
    >>> first = {text: "good" if "fine" in text else "bad" for text in texts}
    >>> second = {text: "good" for text in texts[:3]} | {texts[3]: "bad"}
    >>> table = rank_models(
    ...     {"first": first, "second": second},
    ...     ["fine wine", "a dull day"], ["good", "bad"], texts=texts,
    ...     embedder=TuPaTEEmbedder("fute-tiny-random", max_epochs=1))
    >>> len(plan_labels(table, budget=4, level=0.99))
    4
    """
    return _plan(ranking, budget, costs, n_rows, level, random_state, set())


def _plan(
    ranking: pd.DataFrame,
    budget: float,
    costs: Mapping[str, float] | None,
    n_rows: int,
    level: float,
    random_state: Any,
    without: set[str],
) -> pd.DataFrame:
    """Plan, but for models that are not to be asked."""
    import pandas as pd

    evidence = evidence_of(ranking)
    cost = _checked_costs(evidence, costs)
    whole = isinstance(n_rows, Integral) and not isinstance(n_rows, bool)
    if not whole or n_rows < 1:
        raise ValueError(f"n_rows={n_rows!r}, expected a positive int.")
    _check_budget(budget)
    posterior = ranking.attrs["posterior"]
    answered = ranking.attrs.get("answered") or LabelledRows(evidence.names)
    count = evidence.scorer.task.n_samples
    fit = np.array([name not in without for name in evidence.names])
    fit &= ~np.isnan(posterior.mean) & (cost <= budget * (1 + ROUNDING))
    left = fit & [len(answered.asked(i)) < count for i in range(len(fit))]
    pairs: list[tuple[int, int]] = []
    if len(posterior.shortlist(level)) > 1:
        chosen = _worth_asking(posterior, evidence, cost, fit, left, int(n_rows))
        pairs = _pairs(
            _affordable(chosen, cost, float(budget)),
            answered,
            evidence,
            cost,
            float(budget),
            int(n_rows),
            random_state,
        )
    task = evidence.scorer.task
    return pd.DataFrame(
        {
            "model": [evidence.names[model] for model, _ in pairs],
            "row": [row for _, row in pairs],
            "text": [task.texts[row] for _, row in pairs],
            "cost": [cost[model] for model, _ in pairs],
        }
    )


def _check_budget(budget: Any) -> None:
    if not _is_number(budget) or not budget > 0:
        raise ValueError(f"budget={budget!r}, expected a positive number.")


def _is_number(given: Any) -> bool:
    return isinstance(given, Real) and not isinstance(given, bool)


def _checked_costs(evidence: Evidence, costs: Mapping[str, float] | None) -> np.ndarray:
    if costs is None:
        return np.ones(len(evidence.names))
    if not callable(getattr(costs, "items", None)):
        raise TypeError(
            f"costs is a {type(costs).__name__}; expected a dict of the models' names "
            "to what an answer of each costs, as {'large': 10.0, 'small': 0.5}."
        )
    known = {str(name): cost for name, cost in costs.items()}
    if strange := sorted(known.keys() - set(evidence.names)):
        raise ValueError(
            f"costs names {strange}, but the models are {[*evidence.names]}."
        )
    for name, cost in known.items():
        if not _is_number(cost) or not 0 < cost < np.inf:
            raise ValueError(
                f"costs[{name!r}] is {cost!r}; expected a finite number above 0."
            )
    return np.array([float(known.get(name, 1.0)) for name in evidence.names])


def knowledge_gradient(
    posterior: ScorePosterior, noise: np.ndarray, count: int
) -> np.ndarray:
    """Expected rise of the best mean by asking each model about some rows (n_models,).

    ``noise`` (n_models,) is the variance of what a row tells.
    """
    mean = np.where(np.isnan(posterior.mean), -np.inf, posterior.mean)
    variance = np.diag(posterior.covariance) + noise / count
    moves = posterior.covariance / np.sqrt(np.maximum(variance, 1e-300))[:, None]
    out = np.zeros(len(mean))
    for node, weight in zip(NODES, WEIGHTS, strict=True):
        out += weight * (mean + node * moves).max(1)
    out -= mean.max()
    return np.where(np.isinf(mean), 0.0, np.maximum(out, 0.0))


def _worth_asking(
    posterior: ScorePosterior,
    evidence: Evidence,
    cost: np.ndarray,
    fit: np.ndarray,
    left: np.ndarray,
    n_rows: int,
) -> tuple[list[int], list[int]]:
    """Return the models to be asked, with the best one, and all that could be.

    The most useful ones come first.  ``fit`` are the models that are compared, ``left``
    those of them that have not answered all rows.
    """
    if fit.sum() < 2 or not left.any():
        return [], []
    noise = np.diag(evidence.row_covariance)
    gain = np.where(left, knowledge_gradient(posterior, noise, n_rows) / cost, -1.0)
    best = int(np.argmax(np.where(fit, posterior.mean, -np.inf)))
    order = [int(i) for i in np.argsort(-gain, kind="stable") if left[i]]
    chosen = [i for i in order if gain[i] >= WORTH * gain.max() and gain[i] > 0]
    chosen = chosen or order[:2]
    if left[best] and best not in chosen:
        chosen.insert(1, best)
    if len(chosen) < 2:
        chosen += [i for i in order if i not in chosen][:1]
    return chosen, order


def _affordable(
    found: tuple[list[int], list[int]], cost: np.ndarray, budget: float
) -> list[int]:
    """Return as many models as one row can be paid for, two of them at least."""
    chosen, order = found
    while len(chosen) > 2 and cost[chosen].sum() > budget * (1 + ROUNDING):
        dearest = max(chosen, key=lambda i: cost[i])
        chosen = [i for i in chosen if i != dearest]
    if cost[chosen].sum() <= budget * (1 + ROUNDING):
        return chosen
    for pair in combinations(order, 2):
        if cost[[*pair]].sum() <= budget * (1 + ROUNDING):
            return [*pair]
    return []


def _pairs(
    chosen: list[int],
    answered: LabelledRows,
    evidence: Evidence,
    cost: np.ndarray,
    budget: float,
    n_rows: int,
    random_state: Any,
) -> list[tuple[int, int]]:
    """Models and rows to ask within the budget, the same rows for all models."""
    count = evidence.scorer.task.n_samples
    order = check_random_state(random_state).permutation(count).tolist()
    seen = {i: answered.asked(i) for i in chosen}
    pairs: list[tuple[int, int]] = []
    used, spent = 0, 0.0
    for row in order:
        asked = [i for i in chosen if row not in seen.get(i, ())]
        price = float(cost[asked].sum())
        if not asked:
            continue
        if spent + price > budget * (1 + ROUNDING) or used == n_rows:
            break
        spent += price
        used += 1
        pairs += [(i, row) for i in asked]
    return pairs


def settle_ranking(
    ranking: pd.DataFrame,
    models: Any,
    budget: float,
    *,
    costs: Mapping[str, float] | None = None,
    n_rows: int = 8,
    level: float = 0.9,
    random_state: Any = 0,
) -> pd.DataFrame:
    """Ask models about labelled rows until one is left, or the budget is spent.

    `plan_labels` says whom to ask, the models label the rows, and the answers are
    combined with the ranking as `add_labels` does, in turn.

    Parameters
    ----------
    ranking : DataFrame
        What `rank_models` or `add_labels` returned.
    models : dict of str to model
        The models, as `rank_models` had them; its ``label_names`` hold here too.
    budget : float
        Most that the answers may cost: their number, or in the unit of ``costs``.
        What a model was asked is counted if it fails, too.
    costs : dict of str to float, optional
        What an answer of each model costs; 1 for models that are not in it.
    n_rows : int, default=8
        Number of rows between two plans.
    level : float, default=0.9
        Probability with which the shortlist holds the best model.
    random_state : int, RandomState instance or None, default=0
        Seed of the order of the rows.

    Returns
    -------
    ranking : DataFrame
        The combined table; ``attrs`` has in addition ``spent``, and ``answers``, whose
        ``frame`` is a DataFrame of all answers of the models by rows, those from before
        too, with which `add_labels` and ``rank_models(labelled=...)`` can go on.

    Raises
    ------
    TypeError, ValueError
        As `plan_labels` does; also if ``models`` lacks one that is ranked.
    AttributeError
        If a model cannot be asked as its wrapper says.

    Warns
    -----
    ModelLabelWarning
        If a model fails; it is not asked again, and what it answered is kept.

    Examples
    --------
    >>> from fute_sklearn import TuPaTEEmbedder, rank_models, settle_ranking
    >>> texts = ["a fine film", "a dull film", "fine food", "dull and grey"]
    >>> models = {"first": lambda text: "good" if "fine" in text else "bad",
    ...           "second": lambda text: "bad" if "grey" in text else "good"}
    >>> table = rank_models(
    ...     models, ["fine wine", "a dull day"], ["good", "bad"], texts=texts,
    ...     embedder=TuPaTEEmbedder("fute-tiny-random", max_epochs=1))
    >>> settle_ranking(table, models, budget=4, level=0.99).attrs["spent"]
    4.0
    """
    evidence = evidence_of(ranking)
    _check_budget(budget)
    if not set(evidence.names) & set(ranking.index):
        raise ValueError(NO_INDEX)
    abstentions = ranking.attrs.get("abstentions", "wrong")
    wrapped = _ready(models, evidence, abstentions)
    target = evidence.scorer.task
    seed = seed_of(random_state)
    before = ranking.attrs.get("answered") or LabelledRows(evidence.names)
    rows = before.copy()
    table, spent = ranking, 0.0
    failed: set[str] = set()
    while len(table.attrs["posterior"].shortlist(level)) > 1:
        left = budget * (1 + ROUNDING) - spent
        if left <= 0:
            break
        plan = _plan(table, left, costs, n_rows, level, seed, failed)
        if plan.empty:
            break
        for name, part in plan.groupby("model", sort=False):
            model = evidence.names.index(str(name))
            some = np.sort(part["row"].to_numpy())
            texts = target.take(some).texts
            spent += float(part["cost"].sum())  # also of a model that fails
            try:
                found = wrapped[str(name)].label(texts)
                used = evidence.labelled[model].targets.names
                found = checked_answers(str(name), found, target, used)
            except Exception as error:  # a model may be anybody's
                failed.add(str(name))
                warnings.warn(
                    f"the model {name!r} is not asked again: {error}",
                    ModelLabelWarning,
                    stacklevel=find_stack_level(),
                )
                continue
            kept = some[places(found.texts, texts)]
            rows.silent.setdefault(model, set()).update(
                set(some.tolist()) - set(kept.tolist())
            )
            rows.extend(model, kept, found)
        if rows.answers:
            table = with_rows(ranking, rows.copy(), complete=False)
    table = table.copy()
    table.attrs |= {"spent": spent, "answers": FrameAttribute(rows.frame())}
    return table


def _ready(models: Any, evidence: Evidence, abstentions: str) -> dict[str, MTEWrapper]:
    """Wrap models as they were ranked; raise for those that cannot be asked."""
    wrapped, _ = wrap_models(models, None, abstentions)
    if missing := sorted(set(evidence.names) - set(wrapped)):
        raise ValueError(f"models lacks {missing}, which are ranked.")
    for name in evidence.names:
        renaming = evidence.label_names.get(name)
        if renaming is not None and wrapped[name].label_names is None:
            wrapped[name].set_params(label_names=renaming)
        wrapped[name].known_labels()
    return wrapped
