"""Answers of the models to labelled rows of the target, asked for or given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import check_random_state

from .._utils._columns import has, is_missing
from .._utils._table_attribute import TableAttribute
from ..embedders._student import Predictions
from ..exceptions import LabelMismatchError
from ..models._answer_reading import ABSTAINED
from ..models._mte_wrapper import MTEWrapper
from ..tasks._label_spaces import answered_names, answers_as_labels
from ..tasks._task import Task
from ..tasks._validation import label_name
from ._confidence import Evidence, LabelledGroup
from ._scorer_proxies import LEAST_PROBABILITY
from ._target_scorer import LinearLoss, TargetScorer

if TYPE_CHECKING:
    import pandas as pd


@dataclass(eq=False)
class LabelledRows(TableAttribute):
    """Models' answers to labelled rows of a target.

    Parameters
    ----------
    names : sequence of str of length n_models
        Names of the models.
    answers : dict of int to (ndarray of int, Predictions)
        By model, the rows of the target that it answered, and its answers.
    labels : dict of int to dict of int to object
        By model, the most probable label of each row.
    silent : dict of int to set of int
        By model, the rows to which it had no answer.
    reason : str
        The first error message of a model that failed; empty without one.
    """

    names: Sequence[str]
    answers: dict[int, tuple[np.ndarray, Predictions]] = field(default_factory=dict)
    labels: dict[int, dict[int, Any]] = field(default_factory=dict)
    silent: dict[int, set[int]] = field(default_factory=dict)
    reason: str = ""

    def copy(self) -> LabelledRows:
        """Return rows to which more can be added."""
        labels = {model: dict(found) for model, found in self.labels.items()}
        silent = {model: set(rows) for model, rows in self.silent.items()}
        return LabelledRows(self.names, dict(self.answers), labels, silent)

    def asked(self, model: int) -> set[int]:
        """Rows that a model was asked about, with an answer or without."""
        return set(self.labels.get(model, ())) | self.silent.get(model, set())

    def frame(self) -> pd.DataFrame:
        """Table of the models' most probable labels, by rows."""
        import pandas as pd

        rows = sorted({row for found in self.labels.values() for row in found})
        out = pd.DataFrame(index=rows, columns=[*self.names], dtype=object)
        for model, found in self.labels.items():
            out[self.names[model]] = pd.Series(found, dtype=object).reindex(rows)
        return out

    @property
    def count(self) -> int:
        """Number of rows that any model answered."""
        return len({int(i) for rows, _ in self.answers.values() for i in rows})

    def take(self, model: int, rows: np.ndarray, answers: Task) -> None:
        """Add a model's answers to some rows; see `checked_answers`."""
        targets = answers.targets
        best = targets.classes[targets.proba.argmax(1)].tolist()
        known = self.labels.setdefault(model, {})
        known.update(zip(rows.tolist(), best, strict=True))
        log_proba = np.log(np.clip(targets.proba, LEAST_PROBABILITY, 1))
        self.answers[model] = rows, Predictions("label", targets.names, log_proba)

    def extend(self, model: int, rows: np.ndarray, answers: Task) -> None:
        """Add a model's answers to further rows."""
        before = self.answers.get(model)
        self.take(model, rows, answers)
        if before is None:
            return
        both = [before, self.answers[model]]
        names = tuple(dict.fromkeys(n for _, one in both for n in one.names))
        shape = sum(len(r) for r, _ in both), len(names)
        values = np.full(shape, np.log(LEAST_PROBABILITY))
        start = 0
        for some, one in both:
            part = slice(start, start + len(some))
            values[part, [names.index(n) for n in one.names]] = one.values
            start += len(some)
        everything = np.concatenate([some for some, _ in both])
        order = np.argsort(everything, kind="stable")
        found = Predictions("label", names, values[order])
        self.answers[model] = everything[order], found

    def scores(self, target: Task, scoring: Any) -> np.ndarray:
        """Scores of the models (n_models,), each on the rows that it answered."""
        out = np.full(len(self.names), np.nan)
        for model, (rows, found) in self.answers.items():
            try:
                scorer = TargetScorer(target.take(rows), scoring, expected=False)
                out[model] = scorer.score(found)
            except Exception as error:  # a scorer may be anybody's
                self.reason = self.reason or f"{self.names[model]!r}: {error}"
        return out

    def groups(self, evidence: Evidence) -> list[LabelledGroup]:
        """Put rows together that the same models answered, and compare with students.

        Groups on which a scorer is not defined, as for lack of a class, are left out.
        """
        by_row: dict[int, list[int]] = {}
        for model, (rows, _) in self.answers.items():
            if not np.isnan(evidence.expected[model]):
                for row in rows.tolist():
                    by_row.setdefault(row, []).append(model)
        alike: dict[tuple[int, ...], list[int]] = {}
        for row in sorted(by_row):
            alike.setdefault(tuple(by_row[row]), []).append(row)
        out = []
        for models, some in alike.items():
            gaps = self._gaps(models, np.array(some), evidence)
            fine = ~np.isnan(gaps)
            if fine.any():
                seen = np.array(models)[fine]
                out.append(LabelledGroup(seen, len(some), gaps[fine]))
        return out

    def _gaps(
        self, models: Sequence[int], some: np.ndarray, evidence: Evidence
    ) -> np.ndarray:
        scorer = evidence.scorer
        linear = scorer.linear_loss()
        if linear is not None and np.ptp(linear.losses) == 0:
            return self._linear_gaps(models, some, evidence, linear)
        part, scoring = scorer.task.take(some), scorer.scoring
        seen = TargetScorer(part, scoring, expected=False)
        expected = TargetScorer(part, scoring)
        out = np.full(len(models), np.nan)
        for i, model in enumerate(models):
            rows, found = self.answers[model]
            student = evidence.predictions[model]
            place = np.searchsorted(rows, some)
            try:
                out[i] = seen.score(_of_rows(found, place)) - expected.score(
                    _of_rows(student, some)
                )
            except Exception:  # as above, or for lack of a class in the group
                continue
        return out

    def _linear_gaps(
        self,
        models: Sequence[int],
        some: np.ndarray,
        evidence: Evidence,
        linear: LinearLoss,
    ) -> np.ndarray:
        """Gaps of a score to which all rows contribute alike."""
        scorer = evidence.scorer
        out = np.empty(len(models))
        for i, model in enumerate(models):
            rows, found = self.answers[model]
            place = np.searchsorted(rows, some)
            seen = scorer.right(_likeliest(_of_rows(found, place)), some)
            expected = scorer.right(_of_rows(evidence.predictions[model], some), some)
            out[i] = (seen - expected).mean() * linear.losses.sum()
        return out


def _likeliest(found: Predictions) -> Predictions:
    """Return the likeliest labels for sure, as a score takes them."""
    best = found.values.argmax(1)[:, None] == np.arange(len(found.names))
    values = np.where(best, 0.0, np.log(LEAST_PROBABILITY))
    return Predictions(found.kind, found.names, values)


def _of_rows(found: Predictions, rows: np.ndarray) -> Predictions:
    return Predictions("label", found.names, found.values[rows])


def checked_answers(
    name: str, answers: Task, target: Task, used: Iterable[str]
) -> Task:
    """Return answers to labelled rows in the target's labels.

    What neither the target knows nor the model, as the names that it ``used`` tell, is
    an error.
    """
    found = answers_as_labels(answers, target.targets)
    known = {*target.targets.names, ABSTAINED, *used}
    if strange := [one for one in answered_names(found) if one not in known]:
        raise LabelMismatchError(
            f"the model {name!r} answers {strange} to labelled rows, but the target's "
            f"labels are {[*target.targets.names]}. Give its answers in these, or "
            "models that do: MTEWrapper(model, label_names={...})."
        )
    return found


def ask_rows(
    wrapped: Mapping[str, MTEWrapper],
    target: Task,
    used: Sequence[Task],
    n_labelled: int,
    random_state: Any,
) -> LabelledRows:
    """Have the models label some rows that are drawn from the target."""
    rng = check_random_state(random_state)
    count = min(n_labelled, target.n_samples)
    rows = np.sort(rng.choice(target.n_samples, count, replace=False))
    texts = target.take(rows).texts
    out = LabelledRows(list(wrapped))
    for i, (name, wrapper) in enumerate(wrapped.items()):
        try:
            found = wrapper.label(texts)
            found = checked_answers(name, found, target, used[i].targets.names)
            out.take(i, rows[places(found.texts, texts)], found)
        except Exception as error:  # a model may be anybody's
            out.reason = out.reason or f"{name!r}: {error}"
    return out


def check_row_labels(
    answers: Any, wrapped: Mapping[str, MTEWrapper], target: Task
) -> None:
    """Refuse a table that `given_rows` would refuse, before any model is asked.

    Labels are checked for the models that tell theirs.

    Raises
    ------
    TypeError, ValueError, LabelMismatchError
        As `given_rows`.
    """
    for name, _, found in _given(answers, list(wrapped), target):
        if (labels := wrapped[name].known_labels()) is not None:
            checked_answers(name, found, target, map(label_name, labels))


def check_rows(
    answers: Any, names: Sequence[str], n_samples: int
) -> tuple[dict[str, Any], list[int]]:
    """Check a table of answers by rows and models; return its columns and its index.

    Raises
    ------
    TypeError
        If ``answers`` is no table.
    ValueError
        If its index holds no positions of the target's rows, a column is no model, or
        there is no answer.
    """
    if not (has(answers, "columns") and has(answers, "index")):
        raise TypeError(
            f"labelled is a {type(answers).__name__}; expected a DataFrame of the "
            "models' answers, with a column for each model, indexed by the positions "
            "of the rows in X."
        )
    columns = {str(name): name for name in answers.columns}
    if len(columns) < len(answers.columns):
        raise ValueError("labelled has a model in two columns.")
    if strange := [c for c in columns if c not in names]:
        raise ValueError(
            f"labelled has the columns {strange}, but the models are {list(names)}."
        )
    index = list(answers.index)
    whole = all(
        isinstance(i, (int, np.integer)) and not isinstance(i, bool) for i in index
    )
    if not whole or not all(0 <= i < n_samples for i in index):
        raise ValueError(
            "the index of labelled holds no positions of rows in X; expected whole "
            f"numbers from 0 to {n_samples - 1}, found {index[:3]}."
        )
    if len(set(index)) < len(index):
        raise ValueError("the index of labelled names a row of X twice.")
    if answers.isna().to_numpy().all():
        raise ValueError("labelled holds no answer of a model.")
    return columns, index


def given_rows(
    names: Sequence[str],
    answers: Any,
    target: Task,
    used: Sequence[Task],
    others: Iterable[str] = (),
) -> LabelledRows:
    """Take answers that exist already, as a table of rows by models.

    ``used`` are the unlabelled texts as the models labelled them; columns of ``others``
    are passed over.

    Raises
    ------
    TypeError, ValueError
        As `check_rows`, or if no model that is ranked has an answer.
    LabelMismatchError
        If a model's answers are no labels of the target.
    """
    out = LabelledRows(names)
    for name, rows, found in _given(answers, [*names, *others], target):
        if name in names:
            model = list(names).index(name)
            labels = used[model].targets.names
            out.take(model, rows, checked_answers(name, found, target, labels))
    if not out.answers:
        raise ValueError("labelled holds no answer of a model.")
    return out


def _given(
    answers: Any, names: Sequence[str], target: Task
) -> Iterator[tuple[str, np.ndarray, Task]]:
    """By model, the rows of a table that it answered, and its answers."""
    columns, index = check_rows(answers, names, target.n_samples)
    order = sorted(range(len(index)), key=lambda i: index[i])
    for name in names:
        if name not in columns:
            continue
        values = answers[columns[name]].tolist()
        there = [i for i in order if not is_missing(values[i])]
        if there:
            rows = np.array([index[i] for i in there])
            y = [values[i] for i in there]
            part = target.take(rows)
            yield name, rows, Task(part.texts, y, name=name, kind="label")


def places(kept: tuple[str, ...], texts: tuple[str, ...]) -> np.ndarray:
    """Return the positions in ``texts`` of the subsequence ``kept``."""
    if len(kept) == len(texts):
        return np.arange(len(texts))
    rows, start = [], 0
    for text in kept:
        start = texts.index(text, start) + 1
        rows.append(start - 1)
    return np.array(rows, dtype=np.intp)
