"""Rank fitted models for a labelled task in one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state

from ..embedders._base_embedder import seed_of
from ..embedders._surrogate_embedder import SurrogateEmbedder
from ..embedders._tupate_embedder import TuPaTEEmbedder
from ..tasks._task import Task
from ..tasks._validation import CheckedTexts, check_texts
from ._add_labels import ranks, score_columns, tell, with_rows
from ._labelled_rows import ask_rows, check_row_labels, given_rows
from ._labelling import ABSTENTIONS, Labelled, label_texts, wrap_models
from ._model_scores import Ranking, closed_form_of, make_plan
from ._score_posterior import ScorePosterior
from ._student_errors import check_scorer, checked_past
from ._target_scorer import is_balanced, scorer_of
from ._text_sufficiency import warn_if_unstable
from ._without_labels import checked_training_texts, table_without_labels

if TYPE_CHECKING:
    import pandas as pd

STUDENTS = ("auto", "both", "closed", "tuned")
BASELINES = ("closed", "tuned", "moment", "cosine", "prior", "random")


def rank_models(
    models: Any,
    X: Any,
    y: Any = None,
    *,
    texts: Any,
    kind: str | None = None,
    classes: Any = None,
    label_names: Mapping[str, Any] | str | None = None,
    embedder: SurrogateEmbedder | None = None,
    scoring: Any = "accuracy",
    students: str = "auto",
    quick: bool = False,
    max_seconds: float = 60.0,
    class_weight: str | None = "auto",
    baselines: Any = (),
    n_labelled: int = 0,
    labelled: Any = None,
    past: Any = (),
    training_texts: Mapping[str, Any] | None = None,
    abstentions: str = "wrong",
    on_error: str = "nan",
    n_jobs: int | None = None,
    callbacks: Sequence[Any] = (),
    random_state: Any = 0,
) -> pd.DataFrame:
    """Rank fitted models for a labelled task without running them on it.

    Every model labels the same unlabelled ``texts``.  Two students are fitted to each
    model's labels, a ridge regression in closed form and a surrogate tuned with
    low-rank products; a model's score is its expected score on the target, where it
    answers with the mean of its students' probabilities.

    Parameters
    ----------
    models : dict of str to model, or sequence of models or of (name, model) pairs
        Fitted models of any kind that `MTEWrapper` knows, answers that exist already,
        or `MTEWrapper` objects; they are called on ``texts`` only.
    X : sequence of str of length n_samples, or Task
        Texts of the target task, or the task itself.
    y : sequence of length n_samples, optional
        Labels of the target task; None where X is a `Task`.  Without any labels the
        table has no scores and ranks, but ``agreement``: how far a model's student
        tells the target's texts apart as the other models' do, which says little;
        ``attrs["verdict"]`` tells how little.
    texts : sequence of str
        Unlabelled texts, the same for all models: thousands, varied, and similar to
        the models' training texts, since random labels tell nothing about a model.  A
        Series where answers that exist already are joined by its index.
    kind : {"label"}, optional
        Pass ``"label"`` if y would be taken for numbers or free texts; see `Task`.
    classes : sequence, optional
        All labels that could occur in the target; by default those seen, or the
        categories of a categorical column.
    label_names : dict of str to dict, sequence or "match"; or "match", optional
        The target's labels by the model's labels, for each model's name, as
        ``{"svm": {"LABEL_0": "negative", "LABEL_1": "positive"}}``; see `MTEWrapper`.
        ``"match"``, for one model or for all, finds out by behaviour, see
        `match_labels`; a model for which it is less sure than .9 counts as failed.  For
        all, it leaves models alone that answer in the target's words.
    embedder : embedder, optional
        Makes the tuned students; ``TuPaTEEmbedder()`` by default.  The closed form
        uses the same surrogate.  With a `MomentEmbedder` there is the closed form only.
    scoring : str or callable, default="accuracy"
        Scorer by which the models are ranked; see `StudentRanker`.
    students : {"auto", "both", "closed", "tuned"}, default="auto"
        Which students to fit.  ``"auto"`` fits both where the tuned ones are forecast
        to be ready in ``max_seconds``, and else the closed form alone, which costs
        milliseconds a model beyond the encoder's pass over the texts.
    quick : bool, default=False
        With ``students="auto"``: never tune.
    max_seconds : float, default=60.0
        Forecast time limit of the tuned students, for ``students="auto"``.  The
        forecast depends on the numbers of models, texts, epochs and weights, not on a
        measured time, so that the same call fits the same students everywhere.
    class_weight : {"auto", "balanced"} or None, default="auto"
        Weights of the target's rows in the moment embedding and in the choice of the
        ridge penalty: ``"balanced"`` gives all classes the same weight; ``"auto"`` does
        so where the scorer does, which is found by asking it.
    baselines : sequence of str, or "all", default=()
        Other rankings to add: ``"closed"`` and ``"tuned"`` (either student alone),
        ``"moment"`` (dot product of moment embeddings), ``"cosine"`` (of the embeddings
        by ``embedder``), ``"prior"`` (minus the distance between the model's and the
        task's label shares, which looks at no text) and ``"random"`` (the expected
        rank).
    n_labelled : int, default=0
        Number of labelled rows, drawn at random, to which every model is asked for its
        answers; all rows if there are fewer.  Their scores, ``labelled_score``, are
        combined with the expected ones.
    labelled : DataFrame, optional
        Answers to labelled rows that exist already, in the target's labels: a column
        for each model, indexed by the positions of the rows in X; see `add_labels`,
        which adds them to a ranking later.  Takes the place of ``n_labelled``.
    past : sequence of (Task, dict or Series), default=()
        Past tasks of the target's labels, each with the true scores of models on it, by
        name and by the same scorer, on hundreds of rows.  They tell how wrong the
        students are, where else the intervals rest on what was measured on other
        models.  Expected scores and their order stay; what is said of them changes, and
        the weight of labelled rows.
    training_texts : dict of str to sequence of str, optional
        Texts that models were trained on, by the models' names, as far as they are
        known.  Only without labels: the table then has ``training_distance``, between
        the target's texts and the model's, which says little as well.
    abstentions : {"wrong", "drop"}, default="wrong"
        What becomes of texts that a model does not answer: ``"wrong"`` makes a class of
        them that is never right, ``"drop"`` leaves them out, so that the model is
        scored as if it always answered.
    on_error : {"nan", "raise"}, default="nan"
        What to do where a model fails on the texts: give it the score NaN and tell the
        reason, or raise.
    n_jobs : int or None, default=None
        Number of models that label at the same time, in threads: for models behind a
        server, or that leave cores idle.  None means 1.
    callbacks : sequence of callbacks, default=()
        Callbacks of scikit-learn that report the models that have labelled the texts,
        the encoder's pass and the fits of the students, such as
        ``sklearn.callback.ProgressBar()``.
    random_state : int, RandomState instance or None, default=0
        Seed for drawing the ``n_labelled`` rows.

    Returns
    -------
    table : DataFrame (n_models, ...)
        Indexed by model, best first, with ``score`` (the expected score on X, y, in
        the scorer's unit), ``rank``, ``low`` and ``high`` (the ends of its 90 %
        interval) and ``p_best`` (the probability to have the highest true score); for
        each baseline ``<name>_score`` and ``<name>_rank``; where there are any,
        ``abstained`` (the share of texts without an answer) and ``error`` (why a model
        failed).  ``table.attrs`` holds the settings and

        - ``verdict``: in words, which model to take or how many cannot be told apart,
          and whether the best is better than answers that ignore the texts, with the
          probability: than the majority class, or, where these score more, as by
          losses, than guesses by the classes' shares;
        - ``shortlist``: the smallest set of models that holds the best with 90 %;
        - ``posterior``: the `ScorePosterior` behind these, for other levels and the
          probability of one model to be better than another;
        - ``students``: those that were taken, and ``forecast_seconds`` of the tuned;
        - ``student_errors``: the errors of students that intervals rest on;
        - ``majority_score``, ``prior_score``: what always answering the most common
          class, or answering by the classes' shares, would reach;
        - ``worth_taking``: whether the best model is expected to beat both.  Students
          are less sure than their models, so that expected scores lie below true ones;
          here and in the verdict that is made up for.  Where the scores of four or more
          models spread no more than their errors alone would make them, the best of
          them may be so by chance, and the lead of all counts;
        - ``learning_curve``: by number of unlabelled texts, the rank correlation
          between the closed-form rankings by two halves of them (of more than 200
          models, 200 that are drawn, but for all texts);
        - ``stability``: the correlation expected between this ranking and one by as
          many other unlabelled texts;
        - ``constant``: models whose students answer nearly the same to all texts of the
          target, as nothing was learnt from their labels;
        - ``matches``: by model, the `LabelMatch` of labels that were matched;
        - ``text_distance``: mean leverage of the target's texts over that of the
          unlabelled ones; 1 where they are alike, NaN with too few of these.

    Raises
    ------
    ModelLabelError
        If all models fail on the texts, or one with ``on_error="raise"``; what was
        labelled before is kept.
    LabelMismatchError
        If a model shares no label with the target, has a label that differs from the
        target's in case, spaces or Unicode form only, or answers with numbers or
        sentences.  Models whose labels are known are compared before any is called.
        Where answers exist, the message proposes ``label_names`` by behaviour.
    ValueError
        If the task has other targets than classes, or there are no models, or
        ``labelled`` does not fit to models and rows, or ``past`` to the target.
    TypeError
        If a single model or table is given instead of several, or ``past`` holds
        something else than pairs of a Task and scores by name.
    AttributeError
        If a model lacks the response method by which its wrapper is to ask it.

    Warns
    -----
    LabelMismatchWarning
        If a model has labels that the target does not know, or lacks some of its; a
        second one proposes ``label_names`` where behaviour tells which are the same.
    ModelLabelWarning
        If some models fail, or leave texts out.
    UnlabelledTextsWarning
        If the unlabelled texts are too few to settle the order, or unlike the target's,
        or students learn nothing from them.
    UnknownTokensWarning
        If the surrogate cannot read some of the texts; ``table.attrs`` has the shares.
    UserWarning
        If a column cannot be computed for these models; it then holds NaN.

    Notes
    -----
    Intervals and probabilities count errors of the target's rows, which models share,
    of the unlabelled texts (by halves of them) and of the students.  The students'
    errors were measured where the truth was known (``benchmarks/confidence.py``, which
    prints how often intervals and shortlists hold): beyond a straight line, 7 % of the
    range from the label prior's score to a perfect one; 8.5 % for the line's height,
    and 0.1 for its slope.  With ``past`` they are the root mean squares of these, which
    count as two tasks, and those of the past tasks.

    Examples
    --------
    >>> from fute_sklearn import TuPaTEEmbedder, rank_models
    >>> class Rule:
    ...     def __init__(self, word): self.word = word
    ...     def predict(self, X):
    ...         return ["good" if self.word in x else "bad" for x in X]
    >>> texts = ["a fine film", "a dull film", "fine food", "dull and grey"]
    >>> table = rank_models(
    ...     {"fine": Rule("fine"), "dull": Rule("dull")},
    ...     ["fine wine", "a dull day"], ["good", "bad"], texts=texts,
    ...     embedder=TuPaTEEmbedder("fute-tiny-random", max_epochs=1))
    >>> sorted(table.index)
    ['dull', 'fine']
    """
    wanted = _checked_baselines(baselines)
    check_settings(students, max_seconds, class_weight, n_labelled, scoring)
    check_random_state(random_state)
    _check_choice("abstentions", abstentions, ABSTENTIONS)
    _check_choice("on_error", on_error, ("nan", "raise"))
    free = y is None and not isinstance(X, Task)
    target = None if free else checked_target(X, y, kind, classes)
    wrapped, to_match = wrap_models(models, label_names, abstentions)
    texts = check_texts(given := texts, "texts")
    if not hasattr(given, "iloc"):
        given = CheckedTexts(texts)
    embedder = checked_embedder(embedder)
    if target is None:
        has_past = not isinstance(past, Sequence) or len(past) > 0
        if to_match or wanted or n_labelled or labelled is not None or has_past:
            raise ValueError(
                "y is None: labels are needed to match labels, for baselines, labelled "
                "rows and past tasks; give y, or leave these out."
            )
        return table_without_labels(
            wrapped,
            given,
            check_texts(X),
            closed_form_of(embedder),
            checked_training_texts(training_texts, list(wrapped)),
            on_error=on_error,
            n_jobs=n_jobs,
            callbacks=callbacks,
        )
    if training_texts is not None:
        raise ValueError(
            "training_texts are of use without labels only: with y, scores tell which "
            "model is better; leave them out."
        )
    check_scorer(target, scoring)
    past = checked_past(past, target, list(wrapped), scoring)
    if labelled is not None:
        check_row_labels(labelled, wrapped, target)
    if hasattr(embedder, "random_state"):
        # One space for models and target, also where every fit would draw a new one.
        embedder.random_state = seed_of(embedder.random_state)
    plan = make_plan(embedder, len(wrapped), len(texts), students, quick, max_seconds)
    answered = label_texts(
        wrapped,
        to_match,
        given,
        target,
        plan.closed,
        on_error=on_error,
        n_jobs=n_jobs,
        callbacks=callbacks,
    )
    answered.tell_proposals(target, plan.closed)
    balanced = is_balanced(class_weight, scoring, target)
    names = list(answered.wrapped)
    work = Ranking(names, answered.tasks, target, scoring, plan, balanced, callbacks)
    settings = {
        "scoring": str(scoring),
        "students": plan.taken,
        "forecast_seconds": plan.seconds,
        "class_weight": "balanced" if balanced else None,
        "abstentions": abstentions,
        **_facts_of_texts(embedder, texts, target),
    }
    table = _ranked(work, answered, wanted, past, list(wrapped), settings)
    if labelled is not None:
        rows = given_rows(names, labelled, target, answered.tasks, answered.errors)
        return with_rows(table, rows, complete=False)
    if n_labelled:
        rows = ask_rows(
            answered.wrapped, target, answered.tasks, n_labelled, random_state
        )
        return with_rows(table, rows, complete=True)
    return table


def _facts_of_texts(
    embedder: SurrogateEmbedder, texts: Sequence[str], target: Task
) -> dict[str, Any]:
    return {
        "surrogate": str(embedder.surrogate),
        "embedder": repr(embedder),
        "n_texts": len(texts),
        "n_samples": target.n_samples,
        "unreadable_texts": embedder.unreadable_share(texts),
        "unreadable_samples": embedder.unreadable_share(target.texts),
    }


def _ranked(
    work: Ranking,
    answered: Labelled,
    wanted: Sequence[str],
    past: Sequence[tuple[Task, Mapping[str, float]]],
    names: list[str],
    settings: dict[str, Any],
) -> pd.DataFrame:
    """Make the table of a ranking without labelled rows."""
    scores = {"": work.scores(work.plan.taken)}
    scores |= {name: work.baseline(name) for name in wanted if name != "random"}
    facts = work.facts()
    evidence = work.evidence(
        scores[""],
        facts["prior_score"],
        {name: wrapper.label_names for name, wrapper in answered.wrapped.items()},
        work.errors(past),
    )
    posterior = evidence.posterior()
    table = _table(scores, posterior, answered, names, "random" in wanted)
    table.attrs = {
        **settings,
        "matches": answered.matches,
        "evidence": evidence,
        "student_errors": asdict(evidence.errors),
        **facts,
    }
    tell(table, posterior, evidence, 0)
    warn_if_unstable(table.attrs["stability"], settings["n_texts"])
    return table


def _checked_baselines(baselines: Any) -> tuple[str, ...]:
    wanted = BASELINES if baselines == "all" else baselines
    wanted = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    if strange := [name for name in wanted if name not in BASELINES]:
        raise ValueError(
            f"baselines holds {strange}, expected some of {BASELINES} or 'all'."
        )
    return wanted


def checked_target(X: Any, y: Any, kind: str | None, classes: Any) -> Task:
    """Return the target task, which has labels of two classes at least."""
    if isinstance(X, Task):
        if y is not None or kind is not None or classes is not None:
            raise ValueError(
                "X is a Task, which has its own targets, kind and classes; give no y, "
                "kind and classes beside it."
            )
        target = X
    else:
        target = Task(X, y, name="target", kind=kind, classes=classes)
    if target.targets.kind != "label":
        told = "as kind says" if kind is not None else "as far as can be told"
        raise ValueError(
            f"y holds targets of kind {target.targets.kind!r}, {told}; rank_models "
            "ranks classifiers. If these are labels, say kind='label'; for numbers use "
            f"StudentRanker with a regression scorer.{_if_swapped(target)}"
        )
    if len(target.targets.names) < 2:
        raise ValueError(
            f"y holds 1 class, {list(target.targets.names)}: all models that answer it "
            "would be perfect. Give rows of other classes too, or name them: "
            "classes=[...]."
        )
    return target


def _if_swapped(target: Task) -> str:
    distinct = len(set(target.texts))
    if target.targets.kind != "text" or distinct * 2 > len(set(target.targets.texts)):
        return ""
    return (
        f" X and y look swapped: X holds {distinct} different values, y "
        f"{len(set(target.targets.texts))}."
    )


def checked_embedder(embedder: Any) -> SurrogateEmbedder:
    """Return a copy of an embedder over a surrogate, `TuPaTEEmbedder` if it is None."""
    if embedder is None:
        return TuPaTEEmbedder()
    if not isinstance(embedder, SurrogateEmbedder):
        shown = embedder.__name__ if isinstance(embedder, type) else repr(embedder)
        raise TypeError(
            f"embedder={shown}, expected an embedder over a surrogate, as "
            "MomentEmbedder() or TuPaTEEmbedder('google-t5/t5-base')."
        )
    return clone(embedder)


def _check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}={value!r}, expected one of {tuple(choices)}.")


def check_settings(
    students: str,
    max_seconds: Any,
    class_weight: str | None,
    n_labelled: Any,
    scoring: Any,
) -> None:
    _check_choice("students", students, STUDENTS)
    if class_weight not in ("auto", "balanced", None):
        raise ValueError(
            f"class_weight={class_weight!r}, expected 'auto', 'balanced' or None."
        )
    number = isinstance(max_seconds, Real) and not isinstance(max_seconds, bool)
    if not number or not max_seconds >= 0:
        raise ValueError(f"max_seconds={max_seconds!r}, expected 0 or more.")
    whole = isinstance(n_labelled, Integral) and not isinstance(n_labelled, bool)
    if not whole or n_labelled < 0:
        raise ValueError(f"n_labelled={n_labelled!r}, expected 0 or a positive int.")
    scorer_of(scoring)  # a wrong name is refused before the work


def _table(
    scores: dict[str, np.ndarray],
    posterior: ScorePosterior,
    labelled: Labelled,
    names: list[str],
    random: bool,
) -> pd.DataFrame:
    import pandas as pd

    columns: dict[str, Any] = {**score_columns(posterior)}
    for key, values in scores.items():
        if key:
            columns[f"{key}_score"] = values
            columns[f"{key}_rank"] = ranks(values)
    ranked = list(labelled.wrapped)
    if random:
        columns["random_rank"] = (len(ranked) + 1) / 2
    table = pd.DataFrame(columns, index=pd.Index(ranked, name="model"))
    table = table.reindex(pd.Index(names, name="model"))
    if labelled.abstained:
        shares = pd.Series(labelled.abstained).reindex(ranked, fill_value=0.0)
        table["abstained"] = shares.reindex(names)
    if labelled.errors:
        table["error"] = pd.Series(labelled.errors, dtype=object).reindex(names)
    return table.sort_values("rank", kind="stable")
