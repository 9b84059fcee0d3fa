"""How a model's answers become a task's targets: labels, their names, abstentions."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .._utils._columns import Coded, scalar
from .._utils._stack_level import find_stack_level
from ..exceptions import ModelLabelError, ModelLabelWarning
from ..tasks._validation import check_label_names, first_seen, label_name
from ._labeller import short
from ._model_answers import (
    ModelAnswers,
    Renaming,
    in_classes_order,
    probabilities,
    with_columns,
)
from .adapters._adapted import AdaptedModel

ABSTAINED = "(abstained)"


@dataclass(frozen=True)
class AnswerReading:
    """What is known of a model's labels; the fields are `MTEWrapper`'s parameters."""

    response_method: str
    classes: Any
    label_names: Mapping[Any, Any] | Sequence[Any] | None
    kind: str | None
    parser: Any
    abstentions: str | None
    abstention_label: Any
    on_error: str

    @property
    def more_classes(self) -> list[Any]:
        """The classes that were given, as plain Python objects."""
        if self.classes is None:
            return []
        check_label_names(self.classes)
        return [scalar(label) for label in self.classes]

    def renaming(self, own: Sequence[Any]) -> Renaming:
        """Return the renaming of labels, given in the order of the model's or not."""
        names = self.label_names
        if names is None or isinstance(names, Mapping):
            return Renaming(names)
        own = list(own or self.more_classes or range(len(names)))
        if len(own) != len(names):
            raise ValueError(
                f"label_names has {len(names)} labels for the {len(own)} classes of "
                f"the model, {own}; give one for each in their order, or a dict."
            )
        return Renaming(dict(zip(own, names, strict=True)))

    def _answered(self, labels: Sequence[Any]) -> list[Any]:
        """Leave out the label by which the model says that it does not know."""
        if self.abstention_label is None:
            return list(labels)
        none = label_name(self.abstention_label)
        return [label for label in labels if label_name(label) != none]

    def known_labels(self, classes: Sequence[Any] | None) -> list[Any] | None:
        """Return the labels of a model with some classes, None where not known."""
        own = classes
        if own is None and self.response_method != "predict":
            own = self.classes  # the labels of the score columns
        if own is None or self.kind in ("number", "text") or self.parser is not None:
            return None
        renaming = self.renaming(own)
        labels = [renaming.of(scalar(label)) for label in self._answered(own)]
        return list({label_name(label): label for label in labels}.values())

    def without_abstentions(
        self, rows: Sequence[int], answers: ModelAnswers, name: str
    ) -> tuple[Sequence[int], ModelAnswers]:
        """Raise for abstentions or leave them out, unless they are kept."""
        choice = self.abstentions or self.on_error
        lost = [rows[i] for i in np.flatnonzero(answers.abstained).tolist()]
        if not lost or choice == "keep":
            return rows, answers
        what = f"{len(lost)} of {len(rows)} texts (rows {short(lost)})"
        if choice == "raise" or len(lost) == len(rows):
            raise ModelLabelError(
                f"the model {name!r} gave no answer to {what}: None, NaN, nothing, or "
                "abstention_label. Its other answers are kept. Remedy: abstentions="
                "'drop' leaves these texts out, 'keep' makes a class of them."
            )
        warnings.warn(
            f"the model {name!r} gave no answer to {what}; they are dropped",
            ModelLabelWarning,
            stacklevel=find_stack_level(),
        )
        there = ~answers.abstained
        left = [i for i, stays in zip(rows, there, strict=True) if stays]
        return left, replace(
            answers, values=answers.values[there], abstained=answers.abstained[there]
        )

    def targets(
        self, model: AdaptedModel, answers: ModelAnswers
    ) -> tuple[Any, list[Any] | None]:
        """Return targets, and all classes that the model can predict if known."""
        own = [] if model.classes is None or self.parser else model.classes
        more = self.more_classes
        renaming = self.renaming(own)
        values, method = answers.values, self.response_method
        if method != "predict":
            n_classes = len(own or more or answers.names)
            values = with_columns(values, method, n_classes)
        if values.ndim == 2:
            answers = replace(answers, values=values)
            return _soft_targets(answers, method, own, more, renaming)
        gone = answers.abstained
        column = Coded.of(values[~gone] if gone.any() else values)
        seen = first_seen(column.levels)
        if own:
            renaming.check([*own, *more, *seen])
        elif renaming.names and not set(map(label_name, seen)) & set(renaming.names):
            raise ValueError(
                f"label_names names {sorted(renaming.names)}, but the model answers "
                f"{sorted(set(map(label_name, seen)))[:5]}."
            )
        levels = [renaming.of(label) for label in column.levels]
        y = Coded(levels, column.places)
        if gone.any():
            places = np.full(len(gone), len(levels))
            places[~gone] = column.places
            y = Coded([*levels, ABSTAINED], places)
        named = [renaming.of(label) for label in self._answered(own + more)]
        named += renaming.names.values()
        if not named or self.kind in ("number", "text"):
            return y, None
        named += [renaming.of(label) for label in seen]
        named += [ABSTAINED] if gone.any() else []
        return y, list({label_name(label): label for label in named}.values())


def _soft_targets(
    answers: ModelAnswers,
    method: str,
    own: list[Any],
    more: list[Any],
    renaming: Renaming,
) -> tuple[Any, list[Any]]:
    """Return probabilities and their classes; abstentions get a column."""
    table, classes = in_classes_order(answers, own, more)
    renaming.check([*classes, *more])
    table, classes = renaming.of_columns(probabilities(table, method), classes)
    known = {label_name(label) for label in classes}
    extra = [c for c in map(renaming.of, more) if label_name(c) not in known]
    if answers.abstained.any():
        table = np.where(answers.abstained[:, None], 0.0, table)
        extra = [*extra, ABSTAINED]
    columns = np.zeros((len(table), len(extra)))
    if answers.abstained.any():
        columns[:, -1] = answers.abstained
    return np.hstack([table, columns]), [*classes, *extra]
